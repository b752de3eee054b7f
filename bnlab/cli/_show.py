"""What a stored result holds, as tables and as a picture."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from rich.table import Table

from bnlab.chapters import TOPICS
from bnlab.cli._progress import duration
from bnlab.experiments import Provenance, load


def tables(path: Path) -> Iterator[Table]:
    """Yield the origin of a result, then its fields."""
    result, origin = _load(path)
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
            "figures": ", ".join(result.figures()),
        },
    )
    yield _rows(
        "fields", {item.name: _value(getattr(result, item.name)) for item in fields(result)}
    )


def draw(path: Path, to: Path, name: str | None) -> Path:
    """Draw a result into a picture, by the figure of that name or else its main one."""
    if to.suffix not in (".png", ".svg"):
        raise ValueError(
            f"--to is {str(to)!r}; expected a name that ends in .png or .svg. Rename it."
        )
    result, _ = _load(path)
    axes = np.ravel(np.asarray(result.draw(name), dtype=object))
    to.parent.mkdir(parents=True, exist_ok=True)
    axes[0].figure.savefig(to)
    return to


def _load(path: Path) -> tuple[Any, Provenance]:
    """Load a result of any chapter, ready to be drawn into a file."""
    for topic in TOPICS:
        importlib.import_module(f"bnlab.chapters.{topic}.results")
    matplotlib.use("agg")  # no window
    return load(path)


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
