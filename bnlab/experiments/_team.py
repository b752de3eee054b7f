"""The processes of one run: this one alone, or those that torchrun started on one or more machines."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np

from bnlab.experiments._parts import Parts
from bnlab.experiments._workers import Claim, default_jobs

T = TypeVar("T")

BEAT = 0.5
"""Seconds between two signs of life of a process."""

PATIENCE = 60.0
"""Seconds without one after which a process counts as dead."""


class Lost(RuntimeError):
    """Another process of the run failed, died, or cannot be reached."""


def join(device: str) -> Alone | Ranks:
    """Return this process's place: among others if torchrun started it."""
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
        return Ranks(device)
    return Alone()


class Elsewhere(Lost):
    """Another process has failed, and says so itself."""


class Alone:
    """The one process of a run."""

    rank, size = 0, 1
    leads = leads_machine = True
    restarted = False
    trouble: str | None = None

    def jobs(self) -> int:
        """Return how many processes to work with if nobody says."""
        return default_jobs()

    def device(self, device: str) -> str:
        """Return the device that this process uses."""
        return device

    def agree(self, action: Callable[[], T]) -> T:
        """Do something that must succeed in every process, and return what it gave here."""
        return action()

    def share(self, value: T) -> list[T]:
        """Return the value of every process, by rank."""
        return [value]

    def claims(self, parts: Parts, tasks: int) -> Claim:
        """Return a function that gives the next task to do, each to one process."""
        done = parts.done()
        left = iter([task for task in range(tasks) if task not in done])
        return lambda: next(left, None)

    def listen(self, told: dict[int, float], hear: Callable[[int, float], None]) -> None:
        """Begin to tell the others how far the tasks are, and to hear it of them."""

    def end(self, failure: str | None, stopping: Callable[[], bool]) -> None:
        """Wait until every process has ended its work; raise Lost if one cannot."""

    def gather(self, parts: Parts, tasks: int) -> None:
        """Bring every outcome to the process that leads."""

    def leave(self) -> None:
        """Part."""


class Ranks(Alone):
    """One of the processes that torchrun started: they talk over gloo, and share the tasks out as they go."""

    def __init__(self, device: str) -> None:
        import torch.distributed as dist

        self._dist = dist
        store, self.rank, self.size = next(dist.rendezvous("env://"))
        attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
        store = dist.PrefixStore(f"attempt {attempt}", store)  # the store may outlive a restart
        gpus = device.partition(":")[0] == "cuda" and dist.is_nccl_available()
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            store=dist.PrefixStore("group", store),
            rank=self.rank,
            world_size=self.size,
            timeout=timedelta(minutes=10),
        )
        self._store = dist.PrefixStore("bnlab", store)
        self._local = int(os.environ.get("LOCAL_RANK", 0))
        self.leads, self.leads_machine = self.rank == 0, self._local == 0
        self.restarted = attempt > 0
        self._left = threading.Event()
        self._trouble: str | None = None
        self._last_beat: float | None = None

    @property
    def trouble(self) -> str | None:
        if self._trouble is None and self._cut_off() > PATIENCE:
            self._trouble = f"process {self.rank} of {self.size} cannot reach the others"
        return self._trouble

    def _cut_off(self) -> float:
        """Return for how many seconds a sign of life has not come through."""
        return 0.0 if self._last_beat is None else time.monotonic() - self._last_beat

    def jobs(self) -> int:
        return max(default_jobs() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)

    def device(self, device: str) -> str:
        if device != "cuda":
            return device
        import torch

        return f"cuda:{self._local % torch.cuda.device_count()}"

    def agree(self, action: Callable[[], T]) -> T:
        value, error = None, None
        try:
            value = action()
        except Exception as caught:
            error = caught
        said = self.share(None if error is None else str(error))
        for rank, text in enumerate(said):
            if text is not None:
                if rank == self.rank:
                    raise error
                raise Elsewhere(f"process {rank} of {self.size}: {text}")
        return value

    def share(self, value: T) -> list[T]:
        values = [None] * self.size
        with self._in_touch():
            self._dist.all_gather_object(values, value)
        return values

    def claims(self, parts: Parts, tasks: int) -> Claim:
        here = self.share((parts.done(), parts.begun()))
        done = set().union(*(finished for finished, _ in here))
        mine = [task for task, rank in _holders(here, done).items() if rank == self.rank]
        begun = set().union(*(states for _, states in here))
        fresh = [task for task in range(tasks) if task not in done | begun]

        def claim() -> int | None:
            if mine:
                return mine.pop(0)
            with self._in_touch():
                place = self._store.add("next", 1) - 1
            return fresh[place] if place < len(fresh) else None

        return claim

    def listen(self, told: dict[int, float], hear: Callable[[int, float], None]) -> None:
        self._last_beat = time.monotonic()
        threading.Thread(target=self._beat, args=(told, hear), daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """End this process if it waits for the others in vain, in a call that nothing else can end."""
        while not self._left.wait(1.0):
            if self._cut_off() > 2 * PATIENCE:
                again = "What is stored is kept; go on with the same command and --resume"
                print(f"bnlab: {self.trouble}. {again}", file=sys.stderr, flush=True)
                os._exit(1)

    def _beat(self, told: dict[int, float], hear: Callable[[int, float], None]) -> None:
        """Show signs of life, and watch for those of the others."""
        heard = dict.fromkeys(set(range(self.size)) - {self.rank}, ("", time.monotonic()))
        count = 0
        while not self._left.wait(BEAT):
            count += 1
            try:
                self._store.set(f"life {self.rank}", json.dumps([count, list(told.items())]))
                for rank, (text, since) in heard.items():
                    now = time.monotonic()
                    if self._store.check([f"end {rank}"]):
                        self._note_end(rank)
                    elif now - since > PATIENCE:
                        self._trouble = f"process {rank} of {self.size} gave no sign of life for {PATIENCE:.0f} s"
                    if self._store.check([f"life {rank}"]):
                        new = self._store.get(f"life {rank}").decode()
                        if new != text:
                            heard[rank] = new, now
                            for task, fraction in json.loads(new)[1]:
                                hear(task, fraction)
                self._last_beat = time.monotonic()
            except Exception as error:  # whatever the store raises, it is out of reach
                if not self._left.is_set():
                    self._trouble = (
                        f"the processes cannot reach each other any more ({_line(error)})"
                    )
                return

    def _note_end(self, rank: int) -> None:
        failure = self._store.get(f"end {rank}").decode()
        if failure:
            self._trouble = f"process {rank} of {self.size}: {failure}"

    def end(self, failure: str | None, stopping: Callable[[], bool]) -> None:
        if self._cut_off() < PATIENCE:
            with contextlib.suppress(Exception):  # if the store is gone, the loop below finds out
                self._store.set(f"end {self.rank}", failure or "")
        if failure is not None:
            return
        keys = [f"end {rank}" for rank in range(self.size)]
        while (
            not stopping()
        ):  # not in a collective: that would neither hear a signal nor see a death
            with self._in_touch():
                if self._store.check(keys):
                    for rank in range(self.size):
                        self._note_end(rank)
                    if self.trouble is None:
                        return
            if self.trouble is not None:
                raise Lost(self.trouble)
            time.sleep(0.1)

    def gather(self, parts: Parts, tasks: int) -> None:
        import torch

        here = self.share(parts.done())
        for task in sorted(set(range(tasks)) - here[0]):
            holder = next((rank for rank in range(self.size) if task in here[rank]), None)
            if holder is None:
                raise Lost(f"no process has the outcome of task {task}")
            with self._in_touch():
                if self.rank == holder:
                    content = np.fromfile(parts.file(task), dtype=np.uint8)
                    self._dist.send(torch.tensor([len(content)]), 0)
                    self._dist.send(torch.from_numpy(content), 0)
                elif self.leads:
                    length = torch.zeros(1, dtype=torch.int64)
                    self._dist.recv(length, holder)
                    received = torch.zeros(int(length), dtype=torch.uint8)
                    self._dist.recv(received, holder)
                    parts.accept(task, received.numpy().tobytes())

    def leave(self) -> None:
        self._left.set()
        if self._trouble is not None:  # then a farewell might wait for ever
            return
        with contextlib.suppress(Exception):  # the others may be gone: what counts is stored
            self._dist.destroy_process_group()

    @contextlib.contextmanager
    def _in_touch(self):
        """Turn what torch raises when another process is gone into a Lost that says so."""
        try:
            yield
        except RuntimeError as error:
            raise Lost(f"another process of the run is gone ({_line(error)})") from error


def _holders(here: list[tuple[set[int], set[int]]], done: set[int]) -> dict[int, int]:
    """Give each task that is begun to one of the processes that see its snapshot, evenly."""
    given: dict[int, int] = {}
    for task in sorted(set().union(*(begun for _, begun in here)) - done):
        seen_by = [rank for rank, (_, begun) in enumerate(here) if task in begun]
        given[task] = min(seen_by, key=lambda rank: (list(given.values()).count(rank), rank))
    return given


def _line(error: Any) -> str:
    return str(error).strip().partition("\n")[0][:200]
