"""Run a long experiment into a file: over processes, with snapshots, and on from them after any end."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnlab import data, results
from bnlab.experiments._long import Config, LongExperiment, seeds_of
from bnlab.experiments._parts import Parts, differences
from bnlab.experiments._registry import find
from bnlab.experiments._team import Alone, Lost, join
from bnlab.experiments._workers import Job, Stopped, TaskFailed, work
from bnlab.results._store import versions

WITHOUT_NUMBERS = ("plots", "checks", "cli", "derivation", "__main__.py")
"""Parts of the package on which no result of an experiment can depend."""


class Interrupted(Exception):
    """The run was asked to stop, and can be resumed."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    done: int
    tasks: int
    fraction: float
    seconds_left: float | None


def run_long(
    name: str,
    out: str | Path,
    *,
    changes: Config | None = None,
    resume: bool = False,
    force: bool = False,
    jobs: int | None = None,
    device: str = "cpu",
    save_every: float = 20.0,
    show: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Run the experiment `name` with these changes to its defaults, and store its result in `out`.

    Unfinished work is kept in the folder ``<out>.parts``: with `resume` a run goes on from there, after
    Ctrl-C, a failure or a kill, to the result it would have had, bit for bit.

    Returns
    -------
    Path
        The file, with configuration, seeds, versions, data checksums, duration and machine.

    Raises
    ------
    FileExistsError
        If `out` or an unfinished run is there already and neither `resume` nor `force` is set.
    ValueError
        If a setting is wrong, or what is to be resumed was begun otherwise or is damaged.
    Interrupted
        If SIGINT or SIGTERM came; a second SIGINT ends at once, on the last snapshots.
    TaskFailed
        If a task raised an error; the others are resumable.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(
            f"jobs is {jobs}; expected at least 1. Leave it out for one per processor."
        )
    _check_device(device)
    team = join(device)
    try:
        with _signals(team.size > 1) as came:
            job = team.agree(
                lambda: _job(name, out, changes or {}, team.device(device), save_every, device)
            )
            return _run_job(
                job, team, jobs or team.jobs(), resume or team.restarted, force, show, came
            )
    finally:
        team.leave()


def _job(
    name: str, out: str | Path, changes: Config, own_device: str, save_every: float, device: str
) -> Job:
    """Settle everything that can be refused before the work."""
    experiment = find(name)
    config = experiment.configure(changes)
    plan = _plan(name, experiment, config, device)
    return Job(name, config, experiment.plan(config), own_device, _target(out), plan, save_every)


def _run_job(
    job: Job,
    team: Alone,
    jobs: int,
    resume: bool,
    force: bool,
    show: Callable[[Progress], None],
    came: list[int],
) -> Path:
    for rank, plan in enumerate(team.share(job.plan)):
        found = differences(plan, job.plan)
        if found:
            raise ValueError(
                f"process {team.rank} differs from process {rank}: {'; '.join(found)}. Install the same "
                f"version of everything on every machine, and give each the same command."
            )
    finished = team.agree(lambda: team.leads and not force and _finished(job, resume))
    if team.share(finished)[0]:
        return job.out
    parts = job.parts()
    with contextlib.ExitStack() as held:
        _open(parts, team, resume, force, held)
        _work(job, parts, team, jobs, show, came)
        team.gather(parts, len(job.tasks))
        team.agree(lambda: team.leads and _store(job, parts))
    if team.leads_machine:
        parts.remove()
    return job.out


def _open(parts: Parts, team: Alone, resume: bool, force: bool, held: contextlib.ExitStack) -> None:
    """Open the parts of a run once on each disk: first the leader, then whoever leads another machine."""

    def begin() -> None:
        held.enter_context(parts.held())
        parts.open(resume=resume, force=force)

    team.agree(lambda: team.leads and begin())
    token = team.share(parts.token() if team.leads else None)[0]
    own_disk = team.leads_machine and not team.leads and parts.token() != token
    team.agree(lambda: own_disk and begin())
    team.agree(lambda: parts.open(resume=True))


def _work(
    job: Job,
    parts: Parts,
    team: Alone,
    jobs: int,
    show: Callable[[Progress], None],
    came: list[int],
) -> None:
    meter = team.agree(lambda: Meter(job, parts, show if team.leads else None))
    claim = team.claims(parts, len(job.tasks))
    team.listen(meter.told, meter.hear)

    def stopping() -> bool:
        return bool(came) or team.trouble is not None

    failure: Exception | None = None
    try:
        work(job, claim, jobs=min(jobs, len(job.tasks)), tell=meter.tell, stopping=stopping)
    except TaskFailed as error:
        failure = error
    except Stopped:
        if came and len(parts.done()) < len(job.tasks):
            failure = Interrupted(_stopped(job, parts, team, came[0]), came[0])
        elif team.trouble is not None:
            failure = Lost(team.trouble)
    finally:
        meter.note()
    team.end(None if failure is None else str(failure), lambda: bool(came))
    if failure is not None:
        raise failure
    if came and team.size > 1:
        raise Interrupted(_stopped(job, parts, team, came[0]), came[0])
    meter.finish()


def _stopped(job: Job, parts: Parts, team: Alone, number: int) -> str:
    name = signal.Signals(number).name
    done = f"{len(parts.done())} of {len(job.tasks)} tasks are done here"
    if team.size == 1:
        return f"stopped by {name}; {done} and all work is kept"
    why = ", which torchrun sends when another process has died or it is itself told to end"
    return f"process {team.rank} of {team.size} stopped by {name}{why}; {done} and all work is kept"


class Meter:
    """Keeps the time of a run and shows how far it is."""

    def __init__(self, job: Job, parts: Parts, show: Callable[[Progress], None] | None) -> None:
        self._parts, self._show = parts, show
        stored = [  # read here, so that what is damaged is refused before the work and not after
            parts.load(task, state=False) or parts.load(task, state=True)
            for task in range(len(job.tasks))
        ]
        self._at = [part.fraction if part else 0.0 for part in stored]
        self.told: dict[int, float] = {}
        self._start, self._before = time.monotonic(), parts.seconds
        self._at_start = self._fraction
        self._noted = self._start
        self._save_every = job.save_every
        self.hear(0, self._at[0])

    @property
    def _fraction(self) -> float:
        return sum(self._at) / len(self._at)

    def tell(self, task: int, fraction: float) -> None:
        """Take in how far a task of this process is."""
        self.told = {**self.told, task: fraction}
        self.hear(task, fraction)
        if time.monotonic() - self._noted >= self._save_every:
            self.note()

    def hear(self, task: int, fraction: float) -> None:
        """Take in how far a task is, here or elsewhere, and show how far all are."""
        self._at[task] = max(self._at[task], fraction)
        if self._show is None:
            return
        gained = self._fraction - self._at_start
        spent = time.monotonic() - self._start
        left = spent * (1 - self._fraction) / gained if gained > 0 else None
        self._show(Progress(self._at.count(1.0), len(self._at), self._fraction, left))

    def finish(self) -> None:
        """Show that all is done, also what other processes had no time to say."""
        for task in range(len(self._at)):
            self.hear(task, 1.0)

    def note(self) -> None:
        """Store how long the run has taken, with all that came before."""
        self._noted = time.monotonic()
        if self._show is not None:
            self._parts.seconds = self._before + self._noted - self._start


def _store(job: Job, parts: Parts) -> None:
    loaded = [parts.load(task, state=False) for task in range(len(job.tasks))]
    result = find(job.name).merge(job.config, job.tasks, tuple(part.content for part in loaded))
    origin = results.Provenance.now(
        seeds=seeds_of(job.config),
        config=job.config,
        duration=parts.seconds,
        machine="; ".join(sorted({machine for part in loaded for machine in part.machines})),
        experiment=job.name,
        data=job.plan["data"],
    )
    results.save(result, job.out, provenance=origin)


def _finished(job: Job, resume: bool) -> bool:
    """Say whether the result of this very run is there already; refuse to replace it or any other."""
    if not job.out.exists():
        return False
    if not resume:
        raise FileExistsError(
            f"{job.out} exists; nothing was run. Use --force to run again and replace it, or another --out."
        )
    _, origin = results.load(job.out)
    there = {"experiment": origin.experiment, "config": origin.config, "data": origin.data}
    found = differences(there, {name: job.plan[name] for name in there})
    if found:
        raise FileExistsError(
            f"{job.out} is the result of another run: {'; '.join(found)}. Choose another --out, or use "
            f"--force to replace it."
        )
    job.parts().remove()  # there are some if the run was killed between its last two steps
    return True


def _target(out: str | Path) -> Path:
    out = Path(out)
    if out.suffix != ".npz":
        raise ValueError(
            f"out is {str(out)!r}; expected a name that ends in .npz. Rename the target."
        )
    return out


def _plan(name: str, experiment: LongExperiment, config: Config, device: str) -> dict[str, Any]:
    """Return what must be the same for a run to be resumed."""
    source = config.get("data")
    used = {}
    if source in data.names():
        data.verify(source)  # now, not after an hour
        used = data.checksums(source)
    return {
        "experiment": name,
        "config": config,
        "device": device,
        "data": used,
        "versions": versions(),
        "code": _code(experiment),
    }


def _code(experiment: LongExperiment) -> str:
    """Return a checksum of the source that the numbers depend on."""
    package = Path(__file__).parents[1]
    files = [
        path
        for path in sorted(package.rglob("*.py"))
        if path.relative_to(package).parts[0] not in WITHOUT_NUMBERS
    ]
    own = inspect.getsourcefile(experiment.run)
    if own is not None and not Path(own).is_relative_to(package):
        files.append(Path(own))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _check_device(device: str) -> None:
    """Refuse a device that is not here; nothing falls back to another one by itself."""
    if device == "cpu":
        return
    import torch

    kind, _, index = device.partition(":")
    count = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(kind)
    if count is None or (index and not index.isdigit()):
        raise ValueError(
            f"device is {device!r}; expected cpu, cuda, cuda:0 (or another number) or mps. Choose one."
        )
    if int(index or 0) >= count:
        raise ValueError(
            f"device {device!r} is not available: torch {torch.__version__} finds {count} {kind} device(s) on "
            f"this machine. Leave --device out to use the processor."
        )


@contextlib.contextmanager
def _signals(patient: bool) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second SIGINT is a KeyboardInterrupt.

    Not under torchrun, which passes on the SIGINT that the terminal has sent already.
    """
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if not patient and number == signal.SIGINT and signal.SIGINT in came:
            raise KeyboardInterrupt
        came.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    numbers = [signal.SIGINT, *([] if sys.platform == "win32" else [signal.SIGTERM])]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
