"""Figures of Chapter 14: where the time goes, memory traffic, the roofline, rounding errors, ratios and growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from bnlab.chapters import style
from bnlab.chapters.making_it_fast.results import (
    BOTH,
    EPSILON,
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
    "time_parts",
]

MARKERS = ("v", "^", "s", "D", "o", "P", "X")

# Where the name of a program stands beside its point on the roofline: points to the right and up, side of the text.
BESIDE = {
    "NumPy fewer passes": (12, -4, "left"),
    "NumPy in place": (12, 9, "left"),
    "NumPy in blocks": (10, -14, "left"),
    "torch native": (10, -14, "left"),
    "bnlab.nn, kernels": (10, 4, "left"),
}
DIGITS = (  # the methods whose curves lie on each other share a name: where it stands, by mean and digits
    (("E[x²] − E[x]²",), 1.3, 1.6),
    (("Welford",), 4e5, 1.9),
    (("two passes", "torch"), 1.5e2, 4.6),
    (("NumPy in blocks", "bnlab.nn"), 1.5e3, 6.15),
)


@ErrorSweep.figure
def sum_errors(result: ErrorSweep, *, ax: Axes | None = None) -> Axes:
    """Draw how many digits of x_hat are right, in the worst seed, against the mean of the data."""
    right = np.maximum(-np.log10(result.worst * EPSILON), 0)
    with style.axes(ax, size=(6.4, 4.6)) as ax:
        for i, (method, digits) in enumerate(zip(result.methods, right, strict=True)):
            ax.plot(
                result.means, digits, marker=MARKERS[i], color=style.CYCLE[i], label=method,
                ls="-" if method.startswith(("bnlab", "E[")) else "--",
            )  # fmt: skip
        for names, mean, digits in DIGITS:
            known = [name for name in names if name in result.methods]
            if known:
                color = style.CYCLE[result.methods.index(known[-1])]
                ax.annotate(" and ".join(known), (mean, digits), color=color)
        ax.axhline(-np.log10(EPSILON), color=style.THEORY, ls="--", lw=1.5)
        ax.annotate("all that float32 has", (1, 7.25), color=style.THEORY)
        ax.set(xscale="log", xlabel="mean of the data (standard deviation 1)")
        ax.set(ylabel="digits that are right", ylim=(-0.25, 7.8), yticks=range(8))
    return ax


@Traffic.figure_of_several
def memory_traffic(results: Sequence[Traffic], *, ax: Axes | None = None) -> Axes:
    """Draw what each form moves to and from memory, in arrays of the size of x, and the floor of 5."""
    with style.axes(ax, size=(6.4, 3.4)) as ax:
        names = [r.form for r in results]
        touched, moved = ([r.transfers(key) for r in results] for key in ("touched", "moved"))
        ax.barh(names, touched, height=0.75, color="0.8")
        ax.barh(names, moved, height=0.4, color=style.NORMALIZED)
        ax.axvline(5, color=style.THEORY, ls="--", lw=1.5)
        ax.invert_yaxis()
        ax.annotate("the floor: 5", (5.8, -0.55), color=style.THEORY)
        ax.annotate("to and from memory", (7, 0), color="white", va="center")
        if touched[-1] > moved[-1]:
            ax.annotate("found in the cache", (touched[-1] + 1, len(names) - 1), va="center")
        ax.set(xlabel="transfers: arrays of the size of x", ylim=(len(names) - 0.4, -0.95))
    return ax


def time_parts(
    table: SpeedTable,
    parts: Mapping[str, tuple[float, float]],
    *,
    shape: tuple[int, ...] = (65536, 256),
    threads: int = 1,
    ax: Axes | None = None,
) -> Axes:
    """Draw the time that programs took, and in it what their data and their arithmetic would take alone.

    Parameters
    ----------
    table : SpeedTable
    parts : mapping of str to (float, float)
        For each contestant to draw, the bytes that it moves and the flop that it does for each value of x.
    shape, threads
        What to take from the table.
    """
    t, s = table.threads.index(threads), table.shapes.index(shape)
    values = int(np.prod(shape))
    names = list(parts)
    took = np.array([table.of(table.milliseconds, name, BOTH, threads)[s] for name in names])
    moved, flops = np.array(list(parts.values())).T * values * 1e3
    with style.axes(ax, size=(6.4, 4.2)) as ax:
        places = np.arange(len(names))
        ax.barh(places, took, height=0.8, color="0.85")
        ax.barh(places - 0.12, moved / table.bandwidth[t, s], height=0.36, color=style.NORMALIZED)
        ax.barh(places + 0.24, flops / table.peak[t], height=0.2, color=style.ROSE)
        for place, ms in zip(places, took, strict=True):
            ax.annotate(
                f"{ms:.0f} ms", (ms, place), (4, 0), textcoords="offset points", va="center"
            )
        ax.annotate("moving its data", (took[0] * 0.03, -0.12), color="white", va="center")
        ax.annotate(
            "its arithmetic", (flops[0] / table.peak[t], 0.24), (5, 0), textcoords="offset points", va="center"
        )  # fmt: skip
        ax.set_yticks(places, names)
        ax.set(xlabel="milliseconds, forward and backward", xlim=(0, 1.17 * took.max()))
        ax.invert_yaxis()
        ax.grid(visible=False, axis="y")
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
        ax.plot([work / 20] * 2, [8, 1.5 * peak / 1e9], color=style.THEORY, ls=":", lw=1.2)
        for i, (name, moves) in enumerate(moved.items()):
            both = table.of(table.milliseconds, name, BOTH, threads)[s]
            gflops = work * values / both / 1e6
            if np.isfinite(gflops):
                at = (work / moves, gflops)
                ax.plot(*at, MARKERS[i], color=style.CYCLE[i], ms=9, label=name)
                right, up, side = BESIDE.get(name, (10, -5, "left"))
                ax.annotate(
                    name, at, (right, up), textcoords="offset points", ha=side, color=style.CYCLE[i]
                )
        ax.set(xscale="log", yscale="log", xlim=(0.03, 100))
        ax.set(xlabel="useful flop per byte moved", ylabel="useful Gflop/s")
        ax.annotate(
            "memory is the limit", (0.19, 0.19 * speed / 1e9 * 1.3), rotation=42, ha="center"
        )
        ax.annotate("arithmetic is", (25, peak / 1e9 * 1.15), ha="center")
        ax.annotate("the floor", (work / 20, 1.55 * peak / 1e9), ha="center")
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
            up = {"torch native": 2, "bnlab.nn, kernels": -13}.get(name, -5)
            ax.annotate(
                name,
                (sizes[-1], times[i, -1]),
                (9, up),
                textcoords="offset points",
                color=style.CYCLE[i],
            )
        slope = times[0, -1] * sizes / sizes[-1]
        ax.plot(sizes, slope, color=style.THEORY, ls="--", lw=1.5)
        ax.annotate(
            "proportional",
            (sizes[0], slope[0]),
            (14, -3),
            textcoords="offset points",
            color=style.THEORY,
        )
        ax.set_xlim(sizes[0] / 1.5, sizes[-1] * (sizes[-1] / sizes[0]) ** 0.5)
        ax.set(xscale="log", yscale="log", ylabel="milliseconds")
        ax.set(xlabel=f"{'N, rows' if rows else 'C, features'} ({fixed})")
        ax.set_xticks(sizes, [f"{int(v):,}" for v in sizes])
        ax.xaxis.set_minor_formatter(NullFormatter())
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
            end, up = speed.cost[i, -1, 1], (16, -20)[i]
            ax.annotate(
                arm,
                (speed.members[-1], end),
                (0, up),
                textcoords="offset points",
                ha="right",
                color=color,
            )
        ax.axhline(1, color=style.THEORY, ls="--", lw=1.5)
        ax.annotate("one at a time", (speed.members[0], 1), (0, 5), textcoords="offset points")
        if len(speed.vmap_members):
            ax.annotate(
                "dotted: by torch.func.vmap", (speed.vmap_members[-1], speed.vmap_cost[:, -1, 1].min()),
                (0, -20), textcoords="offset points", ha="right",
            )  # fmt: skip
        ax.set(xscale="log", ylim=(0, 1.12), xlabel="networks in one batched run")
        ax.set(ylabel="time / one at a time")
        ax.set_xticks(speed.members, [str(n) for n in speed.members])
        ax.xaxis.set_minor_formatter(NullFormatter())
    return ax
