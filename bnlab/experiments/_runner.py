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
from bnlab.experiments._workers import Job, Stopped, default_jobs, work
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
    experiment = find(name)
    config = experiment.configure(changes or {})
    out = _target(out)
    _check_device(device)
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 1:
        raise ValueError(
            f"jobs is {jobs}; expected at least 1. Leave it out to use every processor."
        )
    tasks = experiment.plan(config)
    plan = _plan(name, experiment, config, device)
    if out.exists() and not force:
        return _finished(out, plan, resume)
    job = Job(name, config, tasks, device, out, plan, save_every)
    parts = job.parts()
    with _signals() as came:
        with parts.held():
            parts.open(resume=resume, force=force)
            _work(job, parts, jobs, show, came)
            _store(job, parts, experiment)
        parts.remove()
    return out


def _work(
    job: Job, parts: Parts, jobs: int, show: Callable[[Progress], None], came: list[int]
) -> None:
    meter = Meter(job, parts, show)
    pending = [task for task in range(len(job.tasks)) if meter.at[task] < 1]
    left = iter(pending)
    try:
        work(
            job,
            lambda: next(left, None),
            jobs=min(jobs, max(len(pending), 1)),
            tell=meter.tell,
            stopping=lambda: bool(came),
        )
    except Stopped:
        pass
    finally:
        meter.note()
    if came and len(parts.done()) < len(job.tasks):
        raise Interrupted(
            f"stopped by {signal.Signals(came[0]).name} with {len(parts.done())} of {len(job.tasks)} tasks done",
            came[0],
        )


class Meter:
    """Keeps the time of a run and shows how far it is."""

    def __init__(self, job: Job, parts: Parts, show: Callable[[Progress], None]) -> None:
        self._parts, self._show = parts, show
        stored = [  # read here, so that what is damaged is refused before the work and not after
            parts.load(task, state=False) or parts.load(task, state=True)
            for task in range(len(job.tasks))
        ]
        self.at = [part.fraction if part else 0.0 for part in stored]
        self._start, self._before = time.monotonic(), parts.seconds
        self._at_start = self._fraction
        self._noted = self._start
        self._save_every = job.save_every
        self.tell(0, self.at[0])

    @property
    def _fraction(self) -> float:
        return sum(self.at) / len(self.at)

    def tell(self, task: int, fraction: float) -> None:
        """Take in how far a task is, and show how far all are."""
        self.at[task] = fraction
        now = time.monotonic()
        gained = self._fraction - self._at_start
        left = (now - self._start) * (1 - self._fraction) / gained if gained > 0 else None
        self._show(Progress(sum(at == 1 for at in self.at), len(self.at), self._fraction, left))
        if now - self._noted >= self._save_every:
            self.note()

    def note(self) -> None:
        """Store how long the run has taken, with all that came before."""
        self._noted = time.monotonic()
        self._parts.seconds = self._before + self._noted - self._start


def _store(job: Job, parts: Parts, experiment: LongExperiment) -> None:
    loaded = [parts.load(task, state=False) for task in range(len(job.tasks))]
    result = experiment.merge(job.config, job.tasks, tuple(part.content for part in loaded))
    origin = results.Provenance.now(
        seeds=seeds_of(job.config),
        config=job.config,
        duration=parts.seconds,
        machine="; ".join(sorted({machine for part in loaded for machine in part.machines})),
        experiment=job.name,
        data=job.plan["data"],
    )
    results.save(result, job.out, provenance=origin)


def _finished(out: Path, plan: dict[str, Any], resume: bool) -> Path:
    """Return `out` if it is the finished result of this very run and that is asked for."""
    if not resume:
        raise FileExistsError(
            f"{out} exists; nothing was run. Use --force to run again and replace it, or another --out."
        )
    _, origin = results.load(out)
    there = {"experiment": origin.experiment, "config": origin.config, "data": origin.data}
    found = differences(there, {name: plan[name] for name in there})
    if found:
        raise FileExistsError(
            f"{out} is the result of another run: {'; '.join(found)}. Choose another --out, or use "
            f"--force to replace it."
        )
    Parts(out, plan).remove()  # there are some if the run was killed between its last two steps
    return out


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
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second SIGINT is a KeyboardInterrupt."""
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if number == signal.SIGINT and signal.SIGINT in came:
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
