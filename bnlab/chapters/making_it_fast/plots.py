"""Figures of Chapter 14: rounding errors, memory traffic, the roofline, ratios and growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from bnlab.chapters import style
from bnlab.chapters.making_it_fast.results import (
    BOTH,
    EnsembleSpeed,
    ErrorSweep,
    SpeedTable,
    Traffic,
)

__all__ = [
    "ensemble_cost",
    "memory_traffic",
    "roofline",
    "speed_growth",
    "speed_ratios",
    "sum_errors",
]

MARKERS = ("v", "^", "s", "D", "o", "P", "X")


@ErrorSweep.figure
def sum_errors(result: ErrorSweep, *, ax: Axes | None = None) -> Axes:
    """Draw the largest error of x_hat over the seeds against the mean, in units of float32's epsilon."""
    with style.axes(ax, size=(6.4, 4.8)) as ax:
        for i, (method, worst) in enumerate(zip(result.methods, result.worst, strict=True)):
            ours = method.startswith("bnlab")
            ax.plot(
                result.means, worst, marker=MARKERS[i], color=style.CYCLE[i], label=method,
                ls="-" if ours else "--", lw=2 if ours else 1.3,
            )  # fmt: skip
        ax.axhline(8, color=style.THEORY, ls=":", lw=1.5)
        ax.set(xscale="log", yscale="log", xlabel="mean of the data (standard deviation 1)")
        ax.set(ylabel="error / float32 epsilon")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


@Traffic.figure_of_several
def memory_traffic(results: Sequence[Traffic], *, ax: Axes | None = None) -> Axes:
    """Draw what each form moves to and from memory, in arrays of the size of x, and the floor of 5."""
    with style.axes(ax, size=(6.4, 4.0)) as ax:
        names = [r.form for r in results]
        for key, color, label in (
            ("touched", "0.8", "read and written"),
            ("moved", style.NORMALIZED, "of these, missing the cache"),
        ):
            sizes = [r.transfers(key) for r in results]
            thin = key == "moved"
            ax.barh(names, sizes, height=0.4 if thin else 0.75, color=color, label=label)
        ax.axvline(5, color=style.THEORY, ls="--", lw=1.5, label="the floor: 5")
        ax.invert_yaxis()
        ax.set(xlabel="arrays of the size of x")
        ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=1)
    return ax


def roofline(
    table: SpeedTable,
    moved: Mapping[str, float],
    *,
    work: float,
    shape: tuple[int, ...] = (65536, 256),
    threads: int = 1,
    ax: Axes | None = None,
) -> Axes:
    """Draw the roof of the machine, and measured speeds below it.

    Parameters
    ----------
    table : SpeedTable
    moved : mapping of str to float
        For each contestant to draw, the bytes that it moves a value of x.
    work : float
        Useful flop a value of x.
    shape, threads
        What to take from the table.
    """
    t, s = table.threads.index(threads), table.shapes.index(shape)
    speed, peak = table.bandwidth[t, s], table.peak[t]
    values = int(np.prod(shape))
    with style.axes(ax, size=(6.4, 5.2)) as ax:
        x = np.geomspace(0.03, 100, 200)
        ax.plot(x, np.minimum(peak, speed * x) / 1e9, color=style.THEORY, lw=2)
        ax.axvline(work / 20, color=style.THEORY, ls=":", lw=1.2)
        for i, (name, moves) in enumerate(moved.items()):
            both = table.of(table.milliseconds, name, BOTH, threads)[s]
            gflops = work * values / both / 1e6
            if np.isfinite(gflops):
                ax.plot(work / moves, gflops, MARKERS[i], color=style.CYCLE[i], ms=9, label=name)
        ax.set(xscale="log", yscale="log", xlim=(0.03, 100))
        ax.set(xlabel="useful flop per byte moved", ylabel="useful Gflop/s")
        ax.annotate("memory", (0.35, 0.35 * speed / 1e9 * 1.25), rotation=38, ha="center")
        ax.annotate("arithmetic", (30, peak / 1e9 * 0.6), ha="center")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            axis.set_minor_formatter(NullFormatter())
    return ax


def speed_ratios(
    table: SpeedTable, names: Sequence[str], *, threads: int = 1, ax: Axes | None = None
) -> Axes:
    """Draw the time over the baseline's for each shape, forward and backward, with quartiles."""
    with style.axes(ax, size=(6.4, 4.8)) as ax:
        place = np.arange(len(table.shapes))
        for i, name in enumerate(names):
            middle, low, high = (
                table.of(a, name, BOTH, threads) for a in (table.ratio, table.low, table.high)
            )
            ax.errorbar(
                place + 0.12 * (i - (len(names) - 1) / 2), middle,
                yerr=[middle - low, high - middle], marker=MARKERS[i], ls="none",
                color=style.CYCLE[i], label=name, capsize=2,
            )  # fmt: skip
        ax.axhline(1, color=style.THEORY, ls="--", lw=1.5)
        ax.set(yscale="log", ylabel=f"time / {table.baseline}")
        ax.set_xticks(place, ["×\n".join(map(str, shape)) for shape in table.shapes])
        ax.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


@SpeedTable.figure
def speed_growth(table: SpeedTable, *, rows: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the time of forward and backward while N (or C) grows."""
    sizes = table.growth_rows if rows else table.growth_features
    times = table.rows_milliseconds if rows else table.features_milliseconds
    fixed = f"C = {table.growth_fixed[0]}" if rows else f"N = {table.growth_fixed[1]}"
    with style.axes(ax, size=(6.4, 4.6)) as ax:
        for i, name in enumerate(table.growth_contestants):
            ax.plot(sizes, times[i], marker=MARKERS[i], color=style.CYCLE[i], label=name)
        slope = times[0, -1] * sizes / sizes[-1]
        ax.plot(sizes, slope, color=style.THEORY, ls=":", lw=1.5, label="proportional")
        ax.set(xscale="log", yscale="log", ylabel="milliseconds")
        ax.set(xlabel=f"{'N, rows' if rows else 'C, features'} ({fixed})")
        ax.set_xticks(sizes, [f"{int(v):,}" for v in sizes])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


@EnsembleSpeed.figure
def ensemble_cost(speed: EnsembleSpeed, *, ax: Axes | None = None) -> Axes:
    """Draw the time of a seed and step over that alone against the networks trained together."""
    with style.axes(ax, size=(6.4, 4.4)) as ax:
        colors = (style.PLAIN, style.NORMALIZED)
        for i, (arm, color) in enumerate(zip(speed.arms, colors, strict=True)):
            for sizes, cost, line, name in (
                (speed.members, speed.cost[i], "-", "together"),
                (speed.vmap_members, speed.vmap_cost[i], ":", "by vmap"),
            ):
                if len(sizes):
                    ax.fill_between(sizes, cost[:, 0], cost[:, 2], color=color, alpha=0.2, lw=0)
                    ax.plot(
                        sizes, cost[:, 1], ls=line, marker=MARKERS[4 - i], color=color,
                        label=f"{name}, {arm}",
                    )  # fmt: skip
        ax.axhline(1, color=style.THEORY, ls="--", lw=1.5)
        ax.set(xscale="log", ylim=(0, None), xlabel="networks in one batched run")
        ax.set(ylabel="time / one at a time")
        ax.set_xticks(speed.members, [str(n) for n in speed.members])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax
