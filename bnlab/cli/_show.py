"""What a stored result holds, as tables and as a picture."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from bnlab.chapters import TOPICS
from bnlab.cli._progress import duration
from bnlab.experiments import load


def tables(path: Path) -> Iterator[Table]:
    """Yield the origin of a result, then its fields."""
    _know_the_books_results()
    result, origin = load(path)
    figures = ", ".join(_plots_of(result)) or "none"
    yield _rows(
        f"{type(result).__name__}, from {path}",
        {
            "experiment": origin.experiment or "run outside `bnlab run`",
            "seeds": ", ".join(map(str, origin.seeds)),
            "config": ", ".join(f"{k}={json.dumps(v)}" for k, v in origin.config.items()),
            "data": ", ".join(f"{file} {digest[:12]}…" for file, digest in origin.data.items()),
            "took": duration(origin.duration),
            "versions": ", ".join(f"{k} {v}" for k, v in origin.versions.items()),
            "commit": origin.commit,
            "machine": origin.machine,
            "figures": figures,
        },
    )
    yield _rows(
        "fields", {item.name: _value(getattr(result, item.name)) for item in fields(result)}
    )


def draw(path: Path, to: Path, plot: str | None) -> Path:
    """Draw a result into a picture, by the figure that is made for its type."""
    if to.suffix not in (".png", ".svg"):
        raise ValueError(
            f"--to is {str(to)!r}; expected a name that ends in .png or .svg. Rename it."
        )
    _know_the_books_results()
    result, _ = load(path)
    figures = _plots_of(result)
    if not figures or (plot is not None and plot not in figures):
        raise ValueError(
            f"no figure {plot + ' ' if plot else ''}draws a {type(result).__name__} alone; expected "
            f"{'one of ' + ', '.join(figures) if figures else 'a result that has one'}. Draw it from Python "
            f"with the plots of its chapter, as the chapter does."
        )
    drawn = figures[plot or next(iter(figures))](result)
    first = np.ravel(np.asarray(drawn, dtype=object))[0]
    to.parent.mkdir(parents=True, exist_ok=True)
    first.figure.savefig(to)
    return to


def _know_the_books_results() -> None:
    for topic in TOPICS:
        importlib.import_module(f"bnlab.chapters.{topic}.results")


def _plots_of(result: Any) -> dict[str, Callable[[Any], Any]]:
    """Return the figures that need nothing but a result of this type, by name."""
    import matplotlib

    matplotlib.use("agg")  # into a file: no window

    kind, found = type(result).__name__, {}
    plots = importlib.import_module(type(result).__module__.rpartition(".")[0] + ".plots")
    for name, function in inspect.getmembers(plots, inspect.isfunction):
        if function.__module__ != plots.__name__ or name.startswith("_"):
            continue
        first, *others = inspect.signature(function).parameters.values()
        if any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in others):
            continue
        if first.annotation == f"Sequence[{kind}]":
            found[name] = lambda value, function=function: function([value])
        elif first.annotation == kind and first.kind is not first.VAR_KEYWORD:
            found[name] = function
    return found


def _rows(title: str, rows: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, text or "none")
    return table


def _value(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        text = str(value)
        return text if len(text) <= 300 else f"{text[:297]}…"
    head = f"{value.dtype} {value.shape}"
    if value.ndim < 2 and (value.size <= 8 or value.dtype.kind not in "iuf"):
        return f"{head}: {np.array2string(value, precision=4, threshold=8, separator=', ')}"
    if value.dtype.kind not in "iuf":
        return head
    finite = value[np.isfinite(value)]
    span = f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "nothing finite"
    lost = f", {value.size - finite.size} not finite" if finite.size < value.size else ""
    return f"{head}: {span}{lost}"
