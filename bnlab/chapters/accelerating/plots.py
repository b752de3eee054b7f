"""Figures of Chapter 10: the paper's table, the seven changes, learning rates, and depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from bnlab.chapters import style
from bnlab.chapters.accelerating.results import DepthRates, PaperTable, RecipeRates, RecipeRuns
from bnlab.stats import t_interval

__all__ = [
    "distortions",
    "paper_table",
    "recipe_curves",
    "recipe_effects",
    "recipe_rates",
    "sigmoid_depth",
]

COLORS = {"plain": style.PLAIN, "BN": style.NORMALIZED}
NAMES = {"plain": "without BN", "BN": "with BN"}
MARKERS = {"plain": "o", "BN": "s"}


@PaperTable.figure
def paper_table(table: PaperTable, *, ax: Axes | None = None) -> Axes:
    """Draw the steps of each row of the paper's table, and the factor from one row to the next.

    Parameters
    ----------
    table : PaperTable
    ax : Axes, optional

    Returns
    -------
    Axes
        Rows whose steps are infinite are left out.
    """
    with style.axes(ax) as ax:
        rows = np.flatnonzero(np.isfinite(table.steps))
        y = -np.arange(len(rows), dtype=float)
        steps = table.steps[rows] / 1e6
        colors = [style.PLAIN if r == 0 else style.NORMALIZED for r in rows]
        ax.barh(y, steps, color=colors, height=0.55)
        for value, height, row in zip(steps, y, rows, strict=True):
            ax.text(
                value * 1.08, height, f"{value:.1f}   best {table.accuracy[row]:.1f}%", va="center"
            )
        ax.set_yticks(
            y, [f"{table.models[r]}\n{table.changes[r].removeprefix('BN, ')}" for r in rows]
        )
        ax.set_xscale("log")
        ax.set_xlim(1, 200)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("million steps to the best accuracy of Inception")
    return ax


def distortions(images: Mapping[float, np.ndarray], *, ax: Sequence[Axes] | None = None):
    """Draw one row of images for each strength of distortion.

    Parameters
    ----------
    images : mapping of float to array of shape (count, side, side)
        The same images, distorted with each strength.
    ax : sequence of Axes, optional
        One for each strength.

    Returns
    -------
    array of Axes
    """
    with style.axes(ax, rows=len(images), size=(6.4, 0.8 + 0.75 * len(images))) as ax:
        for one, (strength, row) in zip(np.atleast_1d(ax), images.items(), strict=True):
            gap = np.full((row.shape[1], 1), np.nan)
            strip = np.concatenate([p for image in row for p in (image, gap)][:-1], axis=1)
            one.imshow(strip, cmap="gray", vmin=-0.25, vmax=1.25, aspect="equal")
            one.set_ylabel(f"s = {strength:g}", rotation=0, ha="right", va="center")
            one.set(xticks=[], yticks=[])
            one.grid(visible=False)
            for spine in one.spines.values():
                spine.set_visible(False)
    return ax


@RecipeRates.figure
def recipe_rates(
    sweep: RecipeRates,
    *,
    arms: Mapping[str, str] = NAMES,
    ylim: tuple[float, float] = (0, 1),
    places: Mapping[str, tuple[float, float]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw validation accuracy against the learning rate; crosses mark rates at which a run ended in NaN.

    Parameters
    ----------
    sweep : RecipeRates
    arms : mapping of str to str
        From the names of arms to their labels.
    ylim : (low, high)
        Range of the accuracy axis.
    places : mapping of str to (rate, accuracy), optional
        Where the label of each arm begins; else they stand in a legend.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    with style.axes(ax) as ax:
        for arm, label in arms.items():
            row = sweep.arms.index(arm)
            accuracy, finite = sweep.accuracy[row], sweep.finite[row]
            net, mean = arm.split(" ")[0], sweep.mean_accuracy[row]
            color, changed = COLORS[net], arm != net
            ax.plot(
                sweep.lr,
                mean,
                color=color,
                ls=":" if "no LRN" in arm else "--" if changed else "-",
                marker=MARKERS[net],
                mfc="white" if changed else color,
                label=label,
            )
            ax.fill_between(
                sweep.lr, accuracy.min(axis=0), accuracy.max(axis=0), color=color, alpha=0.15, lw=0
            )
            broken = ~finite.all(axis=0)
            ax.plot(
                sweep.lr[broken], mean[broken], color="0.2", marker="x", ls="none", ms=9, mew=1.5
            )
        ax.set_xscale("log", base=2)
        ax.set_xticks(sweep.lr, [f"{v:g}" for v in sweep.lr])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(xlabel="learning rate at the start", ylabel="validation accuracy", ylim=ylim)
        if places is None:
            ax.legend(loc="lower left")
            return ax
        for arm, (x, y) in places.items():
            ax.text(x, y, arms[arm], color=COLORS[arm.split(" ")[0]], va="center", linespacing=1.05)
    return ax


def recipe_curves(
    runs: RecipeRuns,
    arms: Mapping[str, str],
    *,
    ylim: tuple[float, float] = (0.5, 0.85),
    ax: Axes | None = None,
) -> Axes:
    """Draw the accuracy of some arms over the steps, with the range of the seeds.

    Parameters
    ----------
    runs : RecipeRuns
    arms : mapping of str to str
        From the names of arms to their labels.
    ylim : (low, high)
        Range of the accuracy axis.
    ax : Axes, optional

    Returns
    -------
    Axes
        Steps on a logarithmic axis, arms in the legend in the order of their curves at the end; the dashed line is
        the baseline's best accuracy, mean over the seeds.
    """
    looks = iter([*zip(("--", "-.", ":"), "^Dv", strict=True)] * 3)
    with style.axes(ax) as ax:
        target = runs.best("plain").mean()
        ax.axhline(target, color=style.THEORY, ls="--", lw=1.2)
        for arm, label in arms.items():
            curves = runs.accuracy[runs.arms.index(arm)]
            net = arm.split(" ")[0]
            dash, marker = ("-", MARKERS[net]) if arm == net else next(looks)
            color = COLORS[net]
            ax.plot(
                runs.at, curves.mean(axis=0), color=color, ls=dash, marker=marker, ms=5, label=label
            )
            ax.fill_between(
                runs.at, curves.min(axis=0), curves.max(axis=0), color=color, alpha=0.12, lw=0
            )
        ax.set_xscale("log")
        ticks = runs.steps / 2.0 ** np.arange(6, -1, -1)
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(xlim=(ticks[0], ticks[-1]), ylim=ylim, xlabel="steps", ylabel="test accuracy")
        note = "the baseline's best"
        ax.annotate(
            note, (ticks[0], target), (6, 5), textcoords="offset points", color=style.THEORY
        )
        ends = [runs.accuracy[runs.arms.index(arm), :, -1].mean() for arm in arms]
        handles = np.array(ax.get_lines()[1:], dtype=object)[np.argsort(ends)[::-1]]
        ax.legend(handles=list(handles), loc="lower right", labelcolor="linecolor")
    return ax


def recipe_effects(
    sets: Mapping[str, RecipeRuns],
    changes: Mapping[str, str],
    *,
    limits: tuple[tuple[float, float], tuple[float, float]],
    count: int,
    of: str = "best",
    ax: np.ndarray | None = None,
) -> np.ndarray:
    """Draw what each change does to the accuracy, without and with normalization, and the interaction.

    Parameters
    ----------
    sets : mapping of str to RecipeRuns
        From labels to runs, a row of two panels each, from the top down.
    changes : mapping of str to str
        From the names of changes to their labels, from the top down.
    limits : pair of (low, high)
        Range of the left and the right axes in percentage points; a mean beyond it is written at the edge, with an
        arrow.
    count : int
        Number of intervals that are judged together: filled markers have an interval that excludes zero also at a
        level set for all of them (Bonferroni).
    of : {"best", "final"}
        Which accuracy.
    ax : array of Axes of shape (sets, 2), optional

    Returns
    -------
    array of Axes, shape (sets, 2)
        Means of paired differences over the seeds with 95% t-intervals: on the left the effect of each change on
        both nets, on the right the difference of the two.
    """
    height = len(sets) * (0.8 + 0.42 * len(changes)) + 0.5
    grid = {"rows": len(sets), "columns": 2, "size": (6.4, height), "squeeze": False}
    with style.axes(ax, **grid, sharex="col", sharey=True) as ax:
        for pair, (label, runs) in zip(ax, sets.items(), strict=True):
            for panel, ends in zip(pair, limits, strict=True):
                panel.set(xlim=ends, ylim=(0.6 - len(changes), 0.6))
                panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            for row, change in enumerate(changes):
                for net, shift in (("plain", 0.17), ("BN", -0.17)):
                    found, look = runs.effect(net, change, of=of), (COLORS[net], MARKERS[net])
                    _interval(pair[0], found, shift - row, *look, count=count)
                found = runs.interaction(change, of=of)
                _interval(pair[1], found, -row, style.GREEN, "D", count=count)
            for panel, title in zip(pair, (f"effect, {label}", "interaction"), strict=True):
                panel.axvline(0, color=style.THEORY, lw=1, zorder=0)
                panel.set_title(title)
                panel.grid(axis="y", visible=False)
            pair[0].set_yticks(-np.arange(len(changes)), changes.values())
        for panel in ax[-1]:
            panel.set_xlabel("percentage points")
        handles = [
            Line2D([], [], color=COLORS[net], marker=MARKERS[net], label=NAMES[net])
            for net in ("plain", "BN")
        ]
        ax[0, 0].figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return ax


def _interval(
    ax: Axes, samples: np.ndarray, y: float, color: str, marker: str, *, count: int
) -> None:
    """Draw a mean and its interval, in percentage points; beyond the axis, an arrow and the mean."""
    usual, strict = (t_interval(100 * samples, confidence=c) for c in (0.95, 1 - 0.05 / count))
    mean, (low, high) = float(usual.mean), ax.get_xlim()
    if low <= mean <= high:
        face = color if strict.low > 0 or strict.high < 0 else "white"
        bars = usual.bars[:, None]
        ax.errorbar(mean, y, xerr=bars, fmt=marker, capsize=3, color=color, mfc=face)
        return
    left, width = mean < low, high - low
    edge, inside = (low + k * width if left else high - k * width for k in (0.02, 0.07))
    ax.plot(edge, y, marker="<" if left else ">", ms=9, ls="none", color=color)
    ax.text(inside, y, f"{mean:+.0f}", color=color, va="center", ha="left" if left else "right")


@DepthRates.figure
def sigmoid_depth(result: DepthRates, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against depth, each net and depth at its best learning rate, with the range of the seeds.

    Parameters
    ----------
    result : DepthRates
    ax : Axes, optional

    Returns
    -------
    Axes
        The dashed line is guessing.
    """
    looks = {  # color, marker, label and where it stands
        "plain": (style.PLAIN, "o", "without BN", (7.3, 0.4)),
        "BN": (style.NORMALIZED, "s", "with BN", (9.5, 0.985)),
        "scaled": (style.GREEN, "^", "without BN,\nlarger weights", (8.7, 0.77)),
    }
    accuracy, _ = result.at_best_rate()
    with style.axes(ax) as ax:
        for net, curve in zip(result.nets, accuracy, strict=True):
            color, marker, label, place = looks[net]
            ax.plot(result.depths, curve.mean(axis=1), color=color, marker=marker)
            low, high = curve.min(axis=1), curve.max(axis=1)
            ax.fill_between(result.depths, low, high, color=color, alpha=0.2, lw=0)
            ax.text(*place, label, color=color, va="center", linespacing=1.05)
        ax.axhline(0.1, color=style.THEORY, ls="--", lw=1.2)
        ax.text(1, 0.05, "guessing", color=style.THEORY, va="center")
        ax.set_xticks(result.depths)
        ax.set(xlabel="hidden layers", ylabel="accuracy, test digits", ylim=(0, 1.05))
    return ax
