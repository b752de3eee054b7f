"""The commands, their options and what they print."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from bnlab import __version__, data
from bnlab.cli import _diagnose, _progress, _registry
from bnlab.data import _files
from bnlab.data.images import IMAGE_SETS
from bnlab.experiments import load
from bnlab.experiments import run as run_experiment
from bnlab.experiments._run import TaskFailed, one_thread

app = typer.Typer(
    name="bnlab",
    help="Run the long experiments of the book, get their data, and look at stored results.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(
    help="Find, check and download data sets.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")
app.command("diagnose")(_diagnose.diagnose)


def run_app() -> int:
    """Run the command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows "?" for "…"
    try:
        app(prog_name="bnlab")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _clearly(command: Callable[..., None]) -> Callable[..., None]:
    """Turn each foreseen error of a command into one line on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as error:
            name = str(error) or "SIGINT"
            number = signal.Signals[name]
            _end(
                f"stopped by {name}; finished tasks are kept. Go on with: {_again()}", 128 + number
            )
        except (TaskFailed, ValueError, TypeError, OSError, ImportError) as error:
            if os.environ.get("BNLAB_TRACEBACK"):
                raise
            advice = f"Finished tasks are kept; when the cause is gone, go on with: {_again()}"
            if isinstance(error, TaskFailed):
                _end(f"{str(error).rstrip('.')}. {advice}", 1)
            _end(_of_the_disk(error) or str(error), 1)

    return run


def _of_the_disk(error: Exception) -> str:
    """Say what to do when the system refuses a file, "" if `error` is no such refusal."""
    if not isinstance(error, OSError) or error.strerror is None or error.filename is None:
        return ""
    return (
        f"{error.filename} cannot be read or written ({error.strerror}); expected a place where this user may. "
        f"Choose another folder, or change its permissions."
    )


def _end(text: str, code: int) -> NoReturn:
    print(f"bnlab: {' '.join(text.split())}", file=sys.stderr)
    raise typer.Exit(code)


def _again() -> str:
    """Return this command with --resume and without --force."""
    words = [word for word in sys.argv[1:] if word not in ("--resume", "--force")]
    return shlex.join(["bnlab", *words, "--resume"])


@app.callback(invoke_without_command=True)
def _bnlab(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        print(f"bnlab {__version__}")
        raise typer.Exit


def _complete_name(incomplete: str) -> list[str]:
    return [name for name in _registry.known() if name.startswith(incomplete)]


def _list() -> None:
    table = _table("name", "chapter", "seconds", "bytes", "what it does")
    for name, experiment in _registry.known().items():
        path = _registry.RESULTS / experiment.file
        stored = ["not stored here", ""]
        if path.is_file():
            stored = [f"{load(path)[1].duration:.0f}", f"{path.stat().st_size:,}"]
        table.add_row(name, str(experiment.chapter), *stored, experiment.summary)
    _print(table)


def _check(name: str, file: Path | None) -> None:
    """Run the beginning of a stored result again, and print how far off it is."""
    experiment = _registry.find(name)
    if experiment.check is None:
        raise ValueError(f"{name} cannot be compared with a run of today: {experiment.summary}")
    result, origin = load(file or _registry.RESULTS / experiment.file)
    with one_thread():  # as the tasks had
        found = experiment.check(result, origin)
    table = _table("quantity", "largest difference", "allowed")
    bad = False
    for quantity, difference in found.items():
        bad |= not difference <= experiment.tolerance  # so is NaN
        table.add_row(quantity, f"{difference:.3g}", f"{experiment.tolerance:g}")
    _print(table)
    if bad:
        raise typer.Exit(1)


@contextlib.contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, as batch systems send it, end a run in the way of Ctrl-C."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@app.command("run")
@_clearly
def _run(
    name: Annotated[
        str | None,
        typer.Argument(help="One of --list, or module:OBJECT.", autocompletion=_complete_name),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The result, NAME.npz by default.")] = None,
    source: Annotated[
        str | None,
        typer.Option("--data", help="The data set.", autocompletion=lambda: list(data.names())),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="How many, or which: 8, or 0,3,5.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Length of each training run.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, as KEY=VALUE.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip the tasks of this run that are finished, if any.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a result, throw away an unfinished run.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; one for each processor by default.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT, or local for one here."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the book's experiments.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Repeat the beginning of the stored result, or of --out."),
    ] = False,
) -> None:
    """Run an experiment and store its result; Ctrl-C, and even a kill, leave what --resume goes on with."""
    if list_:
        return _list()
    if name is None:
        raise typer.BadParameter("there is no NAME; expected one. `bnlab run --list` shows them.")
    if check:
        return _check(name, out)
    options = {"data": source, "seeds": _seeds(seeds), "steps": steps, "device": device}
    changes = {key: value for key, value in options.items() if value is not None}
    for key, value in map(_setting, settings or ()):
        if key in changes:
            raise typer.BadParameter(f"{key} is set twice; expected once. Leave one of them out.")
        changes[key] = value
    target = out or Path(f"{name.rpartition(':')[2]}.npz")
    experiment = _registry.find(name)
    with _sigterm_like_ctrl_c(), _progress.of_run(name) as show:
        path = run_experiment(
            experiment,
            target,
            changes=changes,
            jobs=jobs,
            cluster=cluster,
            resume=resume,
            force=force,
            show=show,
        )
    print(f"The result is in {path}: look at it with `bnlab show {shlex.quote(str(path))}`.")


def _seeds(text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    if not re.fullmatch(r"\s*[0-9]{1,18}\s*(,\s*[0-9]{1,18}\s*)*", text) or text.strip("0 ") == "":
        raise typer.BadParameter(
            f"--seeds is {text!r}; expected a count, 8, or a list, 0,3,5, of whole numbers of at most 18 digits."
        )
    return [int(word) for word in text.split(",")] if "," in text else int(text)


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(
            f"--set is {text!r}; expected KEY=VALUE, for example --set lr=0.1."
        )
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


@app.command("show")
@_clearly
def _show(
    result: Annotated[Path, typer.Argument(help="A file that `bnlab run` wrote.")],
    to: Annotated[Path | None, typer.Option(help="Draw it into this .png or .svg.")] = None,
    plot: Annotated[str | None, typer.Option(help="Which figure, if there are several.")] = None,
) -> None:
    """Print what a result holds and where it comes from, or draw it."""
    from bnlab.cli import _show

    if plot is not None and to is None:
        raise typer.BadParameter(
            f"--plot is {plot!r} but there is no --to; expected both. Add --to FILE.svg."
        )
    if to is None:
        for table in _show.tables(result):
            _print(table)
    else:
        print(f"The figure is in {_show.draw(result, to, plot)}.")


@data_app.command("list")
@_clearly
def _data_list() -> None:
    """List the data sets, and where each lies."""
    table = _table("name", "where", "terms")
    for name in data.names():
        terms = IMAGE_SETS["mnist" if name == "mnist-5k" else name].license
        table.add_row(name, _where(name), terms)
    _print(table)


def _where(name: str) -> str:
    """Say where a data set lies or how to get it, also if BNLAB_DATA is wrong."""
    try:
        bundled = _files.find("mnist_5k.npz", None)
    except FileNotFoundError as error:
        return str(error)
    if name == "mnist-5k":
        return "in the package" if bundled.parent == _files.BUNDLED else str(bundled)
    images = IMAGE_SETS[name]
    try:
        return str(images.folder(images.every_file(), None))
    except FileNotFoundError:
        return f"not here. {images.how}"


def _complete_data(incomplete: str) -> list[str]:
    return [name for name in data.names() if name.startswith(incomplete)]


@data_app.command("verify")
@_clearly
def _data_verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Which; all that are here by default.", autocompletion=_complete_data),
    ] = None,
    path: Annotated[Path | None, typer.Option(help="Look here and nowhere else.")] = None,
) -> None:
    """Check every file of a data set by its SHA-256."""
    good = damaged = 0
    for name in names or data.names():
        try:
            print(f"{name}: good, in {data.verify(name, path=path)}")
            good += 1
        except FileNotFoundError as error:
            if names:
                raise
            print(f"{name}: not here ({error})")
        except ValueError as error:
            if names and len(names) == 1:
                raise
            damaged += 1
            print(f"{name}: DAMAGED: {error}")
    if damaged or (path is not None and not good):
        raise typer.Exit(1)


@data_app.command("fetch")
@_clearly
def _data_fetch(
    name: Annotated[
        str, typer.Argument(help="mnist or fashion-mnist.", autocompletion=_complete_data)
    ],
    to: Annotated[Path | None, typer.Option(help="A folder instead of the user's cache.")] = None,
    mirror: Annotated[
        list[str] | None, typer.Option(help="URL of a folder with the files; may be repeated.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 30.0,
) -> None:
    """Download a data set, check it, and keep it for every later run."""
    with _progress.of_download() as show:
        folder = data.fetch(name, to=to, mirrors=mirror, timeout=timeout, show=show)
    print(f"{name} is in {folder}, every file checked.")
    if to is not None and os.environ.get("BNLAB_DATA") != str(to):
        print(f"To use it from there, set BNLAB_DATA={shlex.quote(str(to.absolute()))}.")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    """Print a table as wide as the terminal, and as wide as it must be where there is none."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=200)
    console.print(table)
