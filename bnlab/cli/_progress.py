"""Progress: a bar with the time left in a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from bnlab.experiments._meter import Progress as RunProgress

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
def of_run(name: str) -> Iterator[Callable[[RunProgress], None]]:
    """Show how far a run is, on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_run(name, console)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}")
    with Progress(*columns, console=console, transient=False) as progress:
        bar = progress.add_task(name, total=1.0, text="")

        def show(at: RunProgress) -> None:
            progress.update(bar, completed=at.fraction, text=_text(at))

        yield show


def _plain_run(name: str, console: Console) -> Callable[[RunProgress], None]:
    said = -PLAIN_EVERY
    done = 0

    def show(at: RunProgress) -> None:
        nonlocal said, done
        now = time.monotonic()
        if now - said >= PLAIN_EVERY or (at.done == at.tasks != done):
            said, done = now, at.done
            console.print(f"{name}: {_text(at)}", highlight=False, soft_wrap=True)

    return show


def _text(at: RunProgress) -> str:
    known = at.seconds_left is not None and at.done < at.tasks
    left = f", {duration(at.seconds_left)} left" if known else ""
    return f"{int(100 * at.fraction)}%, {at.done} of {at.tasks} tasks done{left}"


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
