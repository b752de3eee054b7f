"""How far a run is, and how long it has taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bnlab.experiments._parts import Parts
from bnlab.experiments._workers import Job


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    done: int
    tasks: int
    fraction: float
    seconds_left: float | None


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
