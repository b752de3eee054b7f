"""The table as text."""

from __future__ import annotations

import numpy as np

from bnlab.chapters.making_it_fast.results import SpeedTable
from bnlab.stats import growth_exponent

WIDTH = 22


def report(table: SpeedTable) -> str:
    """Write the ratios, the floor, the growth and the folding of a result as one text."""
    parts = [
        _ratios(table, t, p) for t in range(len(table.threads)) for p in range(len(table.passes))
    ]
    return "\n\n".join([*parts, _floor(table), _growth(table), _folding(table)])


def _ratios(table: SpeedTable, t: int, p: int) -> str:
    shapes = ["x".join(map(str, shape)) for shape in table.shapes]
    head = f"{table.passes[p]}, {table.threads[t]} thread(s): time over {table.baseline}, "
    lines = [head + f"median of {table.rounds} or more paired ratios [quartiles]"]
    lines.append(" " * 24 + "".join(f"{s:>{WIDTH}s}" for s in shapes))
    for i, name in enumerate(table.contestants):
        if np.isnan(table.ratio[t, p, :, i]).all():
            continue
        numbers = zip(*(a[t, p, :, i] for a in (table.ratio, table.low, table.high)), strict=True)
        cells = [f"{m:.2f} [{low:.2f}, {high:.2f}]" for m, low, high in numbers]
        lines.append(f"{name:24s}" + "".join(f"{c:>{WIDTH}s}" for c in cells))
    base = table.milliseconds[t, p, :, table.contestants.index(table.baseline)]
    lines.append(f"{'  baseline, ms':24s}" + "".join(f"{v:{WIDTH}.3f}" for v in base))
    return "\n".join(lines)


def _floor(table: SpeedTable) -> str:
    lines = [
        "memory floor: five array transfers at the bandwidth of a copy, over the baseline's time"
    ]
    for t, threads in enumerate(table.threads):
        ratio = table.floor_share(table.baseline, threads=threads)
        lines.append(f"{threads} thread(s)".ljust(24) + "".join(f"{v:{WIDTH}.2f}" for v in ratio))
        speeds = "".join(f"{v / 1e9:{WIDTH - 5}.1f} GB/s" for v in table.bandwidth[t])
        lines.append("  bandwidth".ljust(24) + speeds)
        lines.append(f"  peak {table.peak[t] / 1e9:.0f} Gflop/s")
    return "\n".join(lines)


def _growth(table: SpeedTable) -> str:
    if not table.growth_rows.size:
        return "growth: measured with 1 thread only"
    lines = [
        "growth of forward + backward, 1 thread: time ~ N^p and C^p, and from the second size on"
    ]
    for i, name in enumerate(table.growth_contestants):
        cells = []
        for sizes, times in (
            (table.growth_rows, table.rows_milliseconds[i]),
            (table.growth_features, table.features_milliseconds[i]),
        ):
            if not np.isnan(times).any():
                cells += [growth_exponent(sizes, times), growth_exponent(sizes[1:], times[1:])]
        lines.append(f"{name:24s}" + "".join(f"{v:8.2f}" for v in cells))
    return "\n".join(lines)


def _folding(table: SpeedTable) -> str:
    lines = ["folding: time of the folded layer over that of layer and normalization, with ReLU"]
    for j, name in enumerate(table.folding_pairs):
        cells = [
            f"{m:.2f} [{low:.2f}, {high:.2f}]" for low, m, high in table.folding_ratio[:, j, :]
        ]
        lines.append(f"{name:36s}" + "".join(f"{c:>{WIDTH}s}" for c in cells))
    return "\n".join(lines)
