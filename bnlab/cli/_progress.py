"""Progress: a bar with the time left in a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

PLAIN_EVERY = 10.0
"""Seconds between two lines where there is no terminal."""


def duration(seconds: float) -> str:
    """Say how long something takes, to two units.

    Examples
    --------
    >>> duration(5), duration(75), duration(7300)
    ('5 s', '1 min 15 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextlib.contextmanager
def of_run(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show on stderr how many tasks of a run are done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_run(name, console)
        return
    text, left = TextColumn("{task.description}"), TextColumn("{task.fields[text]}")
    with Progress(text, BarColumn(), TimeElapsedColumn(), left, console=console) as progress:
        bar, clock = progress.add_task(name, text=""), Clock()

        def show(done: int, tasks: int) -> None:
            progress.update(bar, completed=done, total=tasks, text=clock.text(done, tasks))

        yield show


def _plain_run(name: str, console: Console) -> Callable[[int, int], None]:
    clock, said = Clock(), -PLAIN_EVERY

    def show(done: int, tasks: int) -> None:
        nonlocal said
        text, now = clock.text(done, tasks), time.monotonic()
        if now - said >= PLAIN_EVERY or done == tasks:
            said = now
            console.print(f"{name}: {text}", highlight=False, soft_wrap=True)

    return show


class Clock:
    """Estimates the time left from the tasks that were finished since it was first asked."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def text(self, done: int, tasks: int) -> str:
        """Say how many tasks are done, and how long the others will take if that is known."""
        now = time.monotonic()
        self._first = self._first or (done, now)
        gained, spent = done - self._first[0], now - self._first[1]
        left = (
            f", {duration(spent / gained * (tasks - done))} left"
            if gained > 0 and done < tasks
            else ""
        )
        return f"{done} of {tasks} tasks done{left}"


@contextlib.contextmanager
def of_download() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show on stderr how much of each file is here: as it comes, or at the end where there is no terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, TaskID] = {}

        def show(file: str, received: int, size: int | None) -> None:
            if file not in bars:
                bars[file] = progress.add_task(file)
            progress.update(bars[file], completed=received, total=size)

        yield show
