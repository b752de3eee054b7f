"""Run a long experiment: joblib or Dask shares its tasks out, and each finished one is a file at once."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bnlab import data
from bnlab.experiments import _archive
from bnlab.experiments._long import Config, LongExperiment, Outcome, Task, as_json, seeds_of
from bnlab.experiments.store import Provenance, load, machine, save, versions

Plan = dict[str, Any]  # what must be the same for a run to be resumed
Calls = dict[int, tuple]  # the arguments of `_do`, by the number of the task
FORMAT = "bnlab-task-1"
ATTEMPTS = 3  # how often the tasks that are left are begun when a process has died


class TaskFailed(RuntimeError):
    """A task raised an error, or the processes that do the tasks died."""


def run(
    experiment: LongExperiment,
    out: str | Path,
    *,
    changes: Config | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    resume: bool = False,
    force: bool = False,
    show: Callable[[int, int], None] = lambda done, tasks: None,
) -> Path:
    """Run an experiment with these changes to its defaults, and store its result in `out`.

    Each finished task is kept in the folder ``<out>.parts`` until the result is there: with `resume`, a run that was
    stopped or killed goes on from those to the result it would have had, bit for bit.

    Parameters
    ----------
    experiment : LongExperiment
        What to run.
    out : str or Path
        Ends in ``.npz``.
    changes : dict, optional
        Settings in place of the defaults.
    jobs : int, optional
        Number of processes; one for each processor unless given.
    cluster : str, optional
        The address of a Dask scheduler, like ``tcp://10.0.0.1:8786``, or ``local`` for one on this machine.
    resume : bool
        Skip the tasks that are finished.
    force : bool
        Replace a result, and throw away an unfinished run.
    show : callable
        ``show(done, tasks)`` is called at the start and after each task.

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
    RuntimeError
        If a task raised an error, or processes died again and again; finished tasks are kept.
    """
    out = Path(out)
    if out.suffix != ".npz":
        raise ValueError(f"out is {str(out)!r}; expected a name that ends in .npz. Rename it.")
    if out.is_dir():
        raise ValueError(f"out is {str(out)!r}, a folder; expected a file. Choose another name.")
    if jobs is not None and (jobs < 1 or cluster not in (None, "local")):
        raise ValueError(
            f"jobs is {jobs}; expected at least 1, and none where a cluster ({cluster}) has workers of its own. "
            f"Leave it out for one per processor."
        )
    config = experiment.configure(changes or {})
    tasks = experiment.plan(config)
    plan = _plan(experiment, config)
    parts = _Parts(out, plan, tasks)
    if force:
        parts.remove()
    elif out.exists():
        _refuse_unless_its_own(out, plan, resume)
        parts.remove()  # there are some if the run was killed between its last two steps
        return out
    done = parts.read()
    if done and not resume:
        raise FileExistsError(
            f"{parts.folder} holds an unfinished run with {len(done)} of its tasks done. "
            f"Use --resume to go on with it, or --force to throw it away."
        )
    show(len(done), len(tasks))
    left = {i: (experiment.run, plan, task, i) for i, task in enumerate(tasks) if i not in done}
    work = _work(left, jobs, cluster)
    try:
        for part in work:
            if part.failure:  # a value until now, for what was finished before it to arrive
                raise part.failure
            parts.write(part)
            done[part.number] = part
            del left[part.number]
            show(len(done), len(tasks))
    except BaseException as error:
        work.throw(error)  # or joblib would warn that its tasks are cancelled
        raise
    in_order = [done[i] for i in range(len(tasks))]
    result = experiment.merge(config, tasks, tuple(part.outcome for part in in_order))
    origin = Provenance.now(
        seeds=seeds_of(config),
        config=config,
        duration=sum(part.seconds for part in in_order),
        machine="; ".join(sorted({part.machine for part in in_order})),
        experiment=experiment.name,
        data=plan["data"],
        versions=versions(experiment.packages),
    )
    save(result, out, provenance=origin)
    parts.remove()
    return out


# ---- what must be the same for a run to be resumed --------------------------------------------------


def _plan(experiment: LongExperiment, config: Config) -> Plan:
    source, used = str(config.get("data", "")), {}
    if {source, experiment.defaults.get("data")} & set(data.names()):
        data.verify(source)  # now, not after an hour; an unknown name is refused, too
        used = data.checksums(source)
    return {"experiment": experiment.name, "config": config, "data": used} | _code(experiment.run)


def _code(function: Callable[..., Any]) -> Plan:
    """Return the versions and a checksum of the source that the numbers depend on."""
    function = inspect.unwrap(getattr(function, "func", function))  # func: of a partial
    own = getattr(function, "__code__", None)
    files = {*Path(__file__).parents[1].rglob("*.py"), Path(own.co_filename if own else "")}
    parts = sorted(p.read_bytes() for p in files if p.is_file() and p.name != "plots.py")
    return {"versions": versions(), "code": hashlib.sha256(b"\0".join(parts)).hexdigest()}


def _differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Say where two plans differ, one phrase for each value."""
    if isinstance(there, dict) and isinstance(here, dict):
        names = ((key, f"{name}.{key}".lstrip(".")) for key in sorted(there | here))
        return [s for key, long in names for s in _differences(there.get(key), here.get(key), long)]
    was, now = (text[:60] + "…" * (len(text) > 60) for text in map(json.dumps, (there, here)))
    return [] if there == here else [f"{name} was {was} and is {now}"]


def _refuse_unless_its_own(out: Path, plan: Plan, resume: bool) -> None:
    """Refuse to run over a result, unless a resumed run finds its own there."""
    if not resume:
        raise FileExistsError(
            f"{out} exists; nothing was run. Use --force to run again and replace it, or another --out."
        )
    _, origin = load(out)
    there = {name: getattr(origin, name) for name in ("experiment", "config", "data")}
    differ = _differences(there, {name: plan[name] for name in there})
    if differ:
        raise FileExistsError(
            f"{out} is the result of another run: {'; '.join(differ)}. Choose another --out, or use --force to "
            f"replace it."
        )


# ---- finished tasks on disk -------------------------------------------------------------------------


class Part(NamedTuple):
    """What one task gave."""

    number: int
    outcome: Outcome
    seconds: float
    machine: str
    failure: TaskFailed | None = None


class _Parts:
    """The folder of the finished tasks of a run; each file names the plan and the task it belongs to."""

    def __init__(self, out: Path, plan: Plan, tasks: tuple[Task, ...]) -> None:
        self.folder, self.plan, self.tasks = out.with_name(f"{out.name}.parts"), plan, tasks

    def write(self, part: Part) -> None:
        head = {"format": FORMAT, "plan": self.plan, "task": self.tasks[part.number]}
        head |= {"seconds": part.seconds, "machine": part.machine}
        arrays = {f"outcome.{name}": value for name, value in part.outcome.items()}
        path = self.folder / f"task-{part.number:04d}.npz"
        _archive.write(path, head, arrays, compressed=False)

    def read(self) -> dict[int, Part]:
        """Return what is there, by the number of the task; refuse by name what is damaged or of another run."""
        found = [self._read(path) for path in sorted(self.folder.glob("task-*.npz"))]
        return {part.number: part for part in found}

    def _read(self, path: Path) -> Part:
        advice = "delete it, and its task starts anew."
        head, arrays = _archive.read(path, what="finished task", advice=advice)
        differ = _differences(head.get("plan"), self.plan)
        if head.get("format") == FORMAT and differ:
            raise ValueError(
                f"{self.folder} was begun otherwise: {'; '.join(differ)}. Resume it as it was begun, "
                f"or use --force to throw it away."
            )
        number = int(path.stem.removeprefix("task-"))
        if differ or self.tasks[number : number + 1] != (head["task"],):
            raise ValueError(f"{path} is not of this run, or of another task: {advice}")
        outcome = {name.removeprefix("outcome."): value for name, value in arrays.items()}
        return Part(number, outcome, head["seconds"], head["machine"])

    def remove(self) -> None:
        """Delete what a run wrote, and the folder if nothing else is in it."""
        for path in self.folder.glob("task-*"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


# ---- the work ---------------------------------------------------------------------------------------


def _work(calls: Calls, jobs: int | None, cluster: str | None) -> Generator[Part, None, None]:
    """Yield what each call of `_do` returns, as it comes; begin those again that are left when a process dies."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            yield from _in_cluster(calls, jobs, cluster) if cluster else _in_processes(calls, jobs)
            return
        except BrokenProcessPool as error:
            if attempt == ATTEMPTS:
                raise TaskFailed(
                    f"a process died in each of {ATTEMPTS} attempts. It may have run out of memory: try fewer --jobs"
                ) from error


def _in_processes(calls: Calls, jobs: int | None) -> Generator[Part, None, None]:
    from joblib import Parallel, cpu_count, delayed, parallel_config

    one_by_one: Any = {"batch_size": 1}  # joblib annotates it as text
    enough = max(2, len(calls))  # one process would be this one, and die with its task
    with parallel_config("loky", inner_max_num_threads=1, idle_worker_timeout=30):
        parallel: Any = Parallel(
            min(jobs or cpu_count(), enough),
            return_as="generator_unordered",
            **one_by_one,
            pre_dispatch="n_jobs",  # a task that waits in a process would be begun after a kill of this one
        )
        yield from parallel(delayed(_do)(*call) for call in list(calls.values()))


def _in_cluster(calls: Calls, jobs: int | None, cluster: str) -> Generator[Part, None, None]:
    """Use Dask without joblib, which does every task in this process while a cluster has one worker."""
    try:
        from dask.distributed import Client, KilledWorker, LocalCluster, as_completed
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "--cluster needs Dask, which is not installed; install it with `pip install 'bnlab[cluster]'`."
        ) from error
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what matters is raised
    with contextlib.ExitStack() as stack:
        address: Any = cluster
        if cluster == "local":
            address = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=":0")
            stack.enter_context(address)
        client = stack.enter_context(Client(address, set_as_default=False))
        futures = [client.submit(_do, *call, pure=False) for call in calls.values()]
        coming = as_completed(futures, loop=client.loop)
        del futures  # what somebody refers to is computed again if it was on a worker that died
        try:
            for future in coming:
                part = future.result()
                future.release()
                yield part
        except (CancelledError, KilledWorker) as error:
            raise TaskFailed(f"the cluster at {cluster} gave up: {error}") from error


_ONE_AT_A_TIME = threading.Lock()  # threads would share torch's random numbers


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy and torch work with one thread each: the last digits depend on their number."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 1
    try:
        if torch:  # beside the limit, which does not reach the MKL in torch
            torch.set_num_threads(1)
        with threadpool_limits(1):
            yield
    finally:
        if torch:
            torch.set_num_threads(threads)


def _do(function: Callable[..., Outcome], plan: Plan, task: Task, number: int) -> Part:
    """Do one task, in whatever process this is."""
    differ = _differences({name: plan[name] for name in ("versions", "code")}, _code(function))
    if differ:
        raise TaskFailed(
            f"a worker ({machine()}) differs from the process that started the run: {'; '.join(differ)}. "
            f"Install the same version of everything on every machine"
        )
    with _ONE_AT_A_TIME, one_thread():
        start = time.perf_counter()
        try:
            found = function(as_json(plan["config"], "config"), as_json(task, "task"))
            outcome = {name: np.asarray(value) for name, value in found.items()}
            odd = [name for name, value in outcome.items() if value.dtype.kind not in "biufcU"]
            if odd:
                raise TypeError(f"outcome {odd[0]!r} is {found[odd[0]]!r}; expected an array")
        except Exception as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
            failure = TaskFailed(f"task {number} ({task}) failed: {what}")
            failure.add_note(
                "".join(traceback.format_exception(error))
            )  # a pickle forgets the cause
            return Part(number, {}, 0.0, machine(), failure)
        return Part(number, outcome, time.perf_counter() - start, machine())
