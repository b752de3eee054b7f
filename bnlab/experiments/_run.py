"""Run a long experiment: joblib or Dask shares its tasks out, and each finished one is a file at once."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from bnlab import data
from bnlab.experiments import _archive
from bnlab.experiments._long import Config, LongExperiment, Outcome, Task, as_json, seeds_of
from bnlab.experiments.store import Provenance, load, machine, save, versions

FORMAT = "bnlab-task-1"
ATTEMPTS = 3
"""How often the tasks that are left are started when a process has died."""
WAIT = 300.0
"""Seconds to wait for the first worker of a cluster."""


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

    Each finished task is kept in the folder ``<out>.parts`` until the result is there: with `resume` a run that
    was stopped or killed goes on from those, to the result it would have had, bit for bit.

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
        ``show(done, tasks)`` is told how many tasks are finished, at the start and after each.

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
    TaskFailed
        If a task raised an error, or processes died again and again; finished tasks are kept.
    """
    out = Path(out)
    if out.suffix != ".npz":
        raise ValueError(
            f"out is {str(out)!r}; expected a name that ends in .npz. Rename the target."
        )
    if jobs is not None and jobs < 1:
        raise ValueError(
            f"jobs is {jobs}; expected at least 1. Leave it out for one per processor."
        )
    config = experiment.configure(changes or {})
    tasks = experiment.plan(config)
    plan = _plan(experiment, config)
    parts = _Parts(out, plan, tasks)
    if out.exists() and not force:
        _refuse_unless_resumed(out, plan, resume)
        parts.remove()  # there are some if the run was killed between its last two steps
        return out
    if force:
        parts.remove()
    done = parts.read()
    if done and not resume:
        raise FileExistsError(
            f"{parts.folder} holds an unfinished run with {len(done)} of its tasks done. "
            f"Use --resume to go on with it, or --force to throw it away."
        )
    show(len(done), len(tasks))
    for number, part in _work(experiment, config, tasks, plan, set(done), jobs, cluster):
        parts.write(number, part)
        done[number] = part
        show(len(done), len(tasks))
    result = experiment.merge(config, tasks, tuple(done[i]["outcome"] for i in range(len(tasks))))
    origin = Provenance.now(
        seeds=seeds_of(config),
        config=config,
        duration=sum(part["seconds"] for part in done.values()),
        machine="; ".join(sorted({part["machine"] for part in done.values()})),
        experiment=experiment.name,
        data=plan["data"],
    )
    save(result, out, provenance=origin)
    parts.remove()
    return out


# ---- what must be the same for a run to be resumed --------------------------------------------------


def _plan(experiment: LongExperiment, config: Config) -> dict[str, Any]:
    source, used = str(config.get("data")), {}
    if {source, str(experiment.defaults.get("data"))} & set(data.names()):
        data.verify(source)  # now, not after an hour; an unknown name is refused, too
        used = data.checksums(source)
    return {"experiment": experiment.name, "config": config, "data": used} | _code(experiment.run)


def _code(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the versions and a checksum of the source that the numbers depend on."""
    package = Path(__file__).parents[1]
    files = [
        path for path in sorted(package.rglob("*.py"))
        if not {"cli", "plots.py", "exercises.py"} & set(path.parts)
    ]  # fmt: skip
    own = inspect.getsourcefile(function)
    if own is not None and not Path(own).is_relative_to(package):
        files.append(Path(own))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return {"versions": versions(), "code": digest.hexdigest()}


def _differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Say where two plans differ, one phrase for each value."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            phrase
            for key in sorted(there | here)
            for phrase in _differences(there.get(key), here.get(key), f"{name}.{key}".lstrip("."))
        ]
    short = [
        text if len(text) <= 60 else f"{text[:12]}…" for text in map(json.dumps, (there, here))
    ]
    return [] if there == here else [f"{name} was {short[0]} and is {short[1]}"]


def _refuse_unless_resumed(out: Path, plan: dict[str, Any], resume: bool) -> None:
    """Refuse to run over a result, unless a resumed run finds its own there."""
    if not resume:
        raise FileExistsError(
            f"{out} exists; nothing was run. Use --force to run again and replace it, or another --out."
        )
    _, origin = load(out)
    there = {"experiment": origin.experiment, "config": origin.config, "data": origin.data}
    found = _differences(there, {name: plan[name] for name in there})
    if found:
        raise FileExistsError(
            f"{out} is the result of another run: {'; '.join(found)}. Choose another --out, or use --force to "
            f"replace it."
        )


# ---- finished tasks on disk -------------------------------------------------------------------------


class _Parts:
    """The folder of the finished tasks of a run; each file names the plan and the task it belongs to."""

    def __init__(self, out: Path, plan: dict[str, Any], tasks: tuple[Task, ...]) -> None:
        self.folder, self.plan, self.tasks = out.with_name(f"{out.name}.parts"), plan, tasks

    def write(self, number: int, part: dict[str, Any]) -> None:
        head = {"format": FORMAT, "plan": self.plan, "task": self.tasks[number]}
        head |= {"seconds": part["seconds"], "machine": part["machine"]}
        arrays = {f"outcome.{name}": value for name, value in part["outcome"].items()}
        _archive.write(self.folder / f"task-{number:04d}.npz", head, arrays, compressed=False)

    def read(self) -> dict[int, dict[str, Any]]:
        """Return what is there, by the number of the task; refuse by name what is damaged or of another run."""
        return {int(path.stem[5:]): self._read(path) for path in self._files("task-*.npz")}

    def _read(self, path: Path) -> dict[str, Any]:
        advice = "delete it, and its task starts anew."
        head, arrays = _archive.read(path, what="finished task", advice=advice)
        if head.get("format") != FORMAT:
            raise ValueError(f"{path} is no finished task of a run: {advice}")
        found = _differences(head["plan"], self.plan)
        if found:
            raise ValueError(
                f"{self.folder} was begun otherwise: {'; '.join(found)}. Resume it as it was begun, "
                f"or use --force to throw it away."
            )
        if head["task"] not in self.tasks[int(path.stem[5:]) :][:1]:
            raise ValueError(f"{path} belongs to another task of this run: {advice}")
        outcome = {name.removeprefix("outcome."): value for name, value in arrays.items()}
        return {"outcome": outcome, "seconds": head["seconds"], "machine": head["machine"]}

    def remove(self) -> None:
        """Delete what a run wrote, and the folder if nothing else is in it."""
        for path in [*self._files("task-*.npz"), *self._files("task-*.tmp")]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _files(self, pattern: str) -> list[Path]:
        return sorted(self.folder.glob(pattern))


# ---- the work ---------------------------------------------------------------------------------------


def _work(
    experiment: LongExperiment,
    config: Config,
    tasks: tuple[Task, ...],
    plan: dict[str, Any],
    done: set[int],
    jobs: int | None,
    cluster: str | None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the part of each task that is not done, in the order in which they finish."""
    left = set(range(len(tasks))) - done
    for attempt in range(ATTEMPTS):
        calls = [(_do, (experiment.run, config, plan, tasks[i], i), {}) for i in sorted(left)]
        try:
            with _parallel(jobs, cluster, len(calls)) as parallel:
                for number, part in parallel(calls):
                    yield number, part
                    left.discard(number)
            return
        except (BrokenProcessPool, CancelledError) as error:
            if attempt + 1 == ATTEMPTS:
                raise TaskFailed(
                    f"a process that does the tasks died {ATTEMPTS} times ({type(error).__name__}). It may "
                    f"have run out of memory: try fewer --jobs"
                ) from error


@contextlib.contextmanager
def _parallel(jobs: int | None, cluster: str | None, tasks: int) -> Iterator[Any]:
    """Return what calls functions in other processes and yields their results as they come."""
    from joblib import Parallel, cpu_count, parallel_config

    with contextlib.ExitStack() as stack:
        if cluster is None:
            options = {"inner_max_num_threads": 1, "initializer": _leave_signals_alone}
            stack.enter_context(parallel_config("loky", **options))
            jobs = min(jobs or cpu_count(), tasks)
        else:
            client = stack.enter_context(_client(cluster, jobs or cpu_count()))
            options = {"client": client, "wait_for_workers_timeout": WAIT}
            stack.enter_context(parallel_config("dask", **options))
            jobs = -1
        options = {"return_as": "generator_unordered", "batch_size": 1, "pre_dispatch": "all"}
        yield Parallel(jobs, **options)


@contextlib.contextmanager
def _client(cluster: str, jobs: int) -> Iterator[Any]:
    try:
        from dask.distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "--cluster needs Dask, which is not installed; install it with `pip install 'bnlab[cluster]'`."
        ) from error
    with contextlib.ExitStack() as stack:
        address: Any = cluster
        if cluster == "local":
            own: Any = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=":0")
            address = stack.enter_context(own)
        yield stack.enter_context(Client(address, set_as_default=False))


def _leave_signals_alone() -> None:
    """Leave it to the process that started this one what a Ctrl-C means."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


_ONE_AT_A_TIME = threading.Lock()
"""The threads of a Dask worker would share torch's random numbers and number of threads."""


def _do(
    function: Callable[[Config, Task], Outcome],
    config: Config,
    plan: dict[str, Any],
    task: Task,
    number: int,
) -> tuple[int, dict[str, Any]]:
    """Do one task, in whatever process this is."""
    differ = _differences({name: plan[name] for name in ("versions", "code")}, _code(function))
    if differ:
        raise TaskFailed(
            f"a worker on another machine ({machine()}) is not like the process that started the run: "
            f"{'; '.join(differ)}. Install the same version of everything on every machine"
        )
    with _ONE_AT_A_TIME, _one_thread():
        start = time.perf_counter()
        try:
            outcome = function(as_json(config, "config"), as_json(task, "task"))
            outcome = {name: _array(name, value) for name, value in outcome.items()}
        except Exception as error:
            text = " ".join(str(error).split()).rstrip(".")
            raise TaskFailed(
                f"task {number} ({task}) failed: {type(error).__name__}: {text}"
            ) from error
        seconds = time.perf_counter() - start
    return number, {"outcome": outcome, "seconds": seconds, "machine": machine()}


def _array(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biufcU":
        raise TypeError(
            f"outcome {name!r} is a {type(value).__name__}; expected an array of numbers or text"
        )
    return array


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let NumPy and torch work with one thread each, on whose number the last digits depend."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    with threadpool_limits(1):
        try:
            if torch:
                torch.set_num_threads(1)
            yield
        finally:
            if torch:
                torch.set_num_threads(before)
