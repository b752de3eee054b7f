"""The work of a run: one task after another, here or in several processes of one thread each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from bnlab.experiments._long import Config, LongExperiment, Task
from bnlab.experiments._parts import Part, Parts
from bnlab.experiments._registry import find
from bnlab.experiments.store import machine

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

Tell = Callable[
    [int, float], None
]  # (task, the share of it that is done; 1 once its outcome is stored)
Claim = Callable[[], int | None]  # the next task, None when there is none left


class Stopped(BaseException):
    """Raised out of a task's report, when its snapshot is stored and it is to stop."""


class TaskFailed(RuntimeError):
    """A task raised an error, or its process died."""


@dataclass(frozen=True)
class Job:
    """What a process needs to know to work on any task of a run."""

    name: str
    config: Config
    tasks: tuple[Task, ...]
    device: str
    out: Path
    plan: dict[str, Any]
    save_every: float

    def parts(self) -> Parts:
        """Return the store of the run's parts."""
        return Parts(self.out, self.plan)


def default_jobs() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def work(job: Job, claim: Claim, *, jobs: int, tell: Tell, stopping: Callable[[], bool]) -> None:
    """Do the tasks that `claim` gives, until there are none or `stopping` says so; then raise Stopped."""

    def next_task() -> int | None:
        return None if stopping() else claim()

    if jobs == 1 and os.environ.get("OMP_NUM_THREADS") == "1":
        _work_here(job, next_task, tell, stopping)
    else:
        _work_in_processes(job, next_task, jobs, tell, stopping)
    if stopping():
        raise Stopped


def _work_here(job: Job, claim: Claim, tell: Tell, stopping: Callable[[], bool]) -> None:
    experiment, parts = find(job.name), job.parts()
    with _one_torch_thread():
        while (task := claim()) is not None:
            try:
                _perform(experiment, job, parts, task, tell, stopping)
            except Exception as error:
                raise _failure(job, task, error) from error


def _perform(
    experiment: LongExperiment,
    job: Job,
    parts: Parts,
    task: int,
    tell: Tell,
    stopping: Callable[[], bool],
) -> None:
    """Do one task from its last snapshot on, and store its outcome."""
    before = parts.load(task, state=True)
    machines = tuple(sorted({*(before.machines if before else ()), machine()}))
    saved = told = time.monotonic()

    def report(done: int, total: int, snapshot: Callable[[], dict[str, Any]]) -> None:
        nonlocal saved, told
        now, stop, fraction = time.monotonic(), stopping(), min(done / total, 1.0)
        if stop or now - saved >= job.save_every:
            parts.save(task, Part(snapshot(), fraction, machines), state=True)
            saved = time.monotonic()
        if stop or now - told >= 0.2:
            tell(task, min(fraction, 0.999))
            told = now
        if stop:
            raise Stopped

    outcome = experiment.run(
        job.config,
        job.tasks[task],
        state=before and before.content,
        report=report,
        device=job.device,
    )
    parts.save(task, Part(outcome, 1.0, machines), state=False)
    tell(task, 1.0)


def _work_in_processes(
    job: Job, claim: Claim, jobs: int, tell: Tell, stopping: Callable[[], bool]
) -> None:
    workers: dict[Any, tuple[multiprocessing.process.BaseProcess, int]] = {}
    failure: TaskFailed | None = None
    told_to_stop = False
    try:
        while len(workers) < jobs and (task := claim()) is not None:
            pipe, process = _start(job)
            pipe.send(task)
            workers[pipe] = process, task
        while workers:
            for pipe in connection.wait(list(workers), timeout=0.2):
                process, task = workers[pipe]
                try:
                    kind, value = pipe.recv()
                except (EOFError, ConnectionError):
                    process.join()
                    if not _was_stopped(process.exitcode, stopping):
                        failure = failure or _death(job, task, process.exitcode)
                    del workers[pipe]
                    continue
                if kind == "at":
                    tell(task, value)
                    if value < 1:
                        continue
                    ending = told_to_stop or failure is not None
                    following = None if ending else claim()
                    _say(pipe, following)
                    if following is not None:
                        workers[pipe] = process, following
                        continue
                elif kind == "failed":
                    failure = failure or value
                del workers[pipe]  # it has no more to do, was stopped, or has failed
                process.join()
            if not told_to_stop and (failure is not None or stopping()):
                told_to_stop = True
                for pipe in workers:
                    _say(pipe, None)
    finally:
        for process, _ in workers.values():
            process.kill()
    if failure is not None:
        raise failure


def _start(job: Job) -> tuple[connection.Connection, multiprocessing.process.BaseProcess]:
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of torch
    ours, theirs = context.Pipe()
    process = context.Process(target=_worker, args=(theirs, job), daemon=True)
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read when the libraries load
    try:
        process.start()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    theirs.close()
    return ours, process


def _worker(pipe: connection.Connection, job: Job) -> None:
    """Do what the pipe says, task by task; whatever comes while a task is at work means: stop."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the process that started this one decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    experiment, parts = find(job.name), job.parts()
    with _one_torch_thread():
        while (task := pipe.recv()) is not None:
            try:
                _perform(
                    experiment, job, parts, task, lambda _, at: pipe.send(("at", at)), pipe.poll
                )
            except Stopped:
                return pipe.send(("stopped", None))
            except Exception as error:
                return pipe.send(("failed", _failure(job, task, error)))


def _leave_with_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _say(pipe: connection.Connection, message: Any) -> None:
    with contextlib.suppress(OSError):  # it is gone already
        pipe.send(message)


def _failure(job: Job, task: int, error: Exception) -> TaskFailed:
    """Store the traceback, and say in one line what failed."""
    file = job.parts().folder / f"task-{task:04d}.error.txt"
    file.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    text = " ".join(str(error).split()).rstrip(".")
    return TaskFailed(
        f"task {task} of {len(job.tasks)} ({job.tasks[task]}) failed: {type(error).__name__}: {text}. "
        f"The traceback is in {file}."
    )


def _was_stopped(code: int | None, stopping: Callable[[], bool]) -> bool:
    """Tell whether a signal to all processes met this one before it learned to leave signals alone."""
    if code not in (-signal.SIGINT, -signal.SIGTERM):
        return False
    latest = time.monotonic() + 1
    while not stopping() and time.monotonic() < latest:
        time.sleep(0.02)
    return stopping()


def _death(job: Job, task: int, code: int | None) -> TaskFailed:
    how = f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"
    hint = " It may have run out of memory: try fewer --jobs." if code == -9 else ""
    return TaskFailed(
        f"the process at task {task} of {len(job.tasks)} ({job.tasks[task]}) died by {how}.{hint}"
    )


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Let torch, if a task uses it, work with one thread, on which the last digits depend."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
