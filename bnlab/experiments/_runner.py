"""Run a long experiment into a file: over processes, with snapshots, and on from them after any end."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from bnlab.experiments import Provenance, load, save
from bnlab.experiments._long import Config, seeds_of
from bnlab.experiments._meter import Meter, Progress
from bnlab.experiments._parts import Parts, differences
from bnlab.experiments._plan import check_device, plan_of, target
from bnlab.experiments._registry import find
from bnlab.experiments._team import Alone, Lost, join
from bnlab.experiments._workers import Job, Stopped, TaskFailed, work


class Interrupted(Exception):
    """The run was asked to stop, and can be resumed."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


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
    check_device(device)
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
    plan = plan_of(name, experiment, config, device)
    return Job(name, config, experiment.plan(config), own_device, target(out), plan, save_every)


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


def _store(job: Job, parts: Parts) -> None:
    loaded = [parts.load(task, state=False) for task in range(len(job.tasks))]
    result = find(job.name).merge(job.config, job.tasks, tuple(part.content for part in loaded))
    origin = Provenance.now(
        seeds=seeds_of(job.config),
        config=job.config,
        duration=parts.seconds,
        machine="; ".join(sorted({machine for part in loaded for machine in part.machines})),
        experiment=job.name,
        data=job.plan["data"],
    )
    save(result, job.out, provenance=origin)


def _finished(job: Job, resume: bool) -> bool:
    """Say whether the result of this very run is there already; refuse to replace it or any other."""
    if not job.out.exists():
        return False
    if not resume:
        raise FileExistsError(
            f"{job.out} exists; nothing was run. Use --force to run again and replace it, or another --out."
        )
    _, origin = load(job.out)
    there = {"experiment": origin.experiment, "config": origin.config, "data": origin.data}
    found = differences(there, {name: job.plan[name] for name in there})
    if found:
        raise FileExistsError(
            f"{job.out} is the result of another run: {'; '.join(found)}. Choose another --out, or use "
            f"--force to replace it."
        )
    job.parts().remove()  # there are some if the run was killed between its last two steps
    return True


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
