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
    "recipe_sets",
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
        ax.legend(loc="lower left")
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
        Steps on a logarithmic axis; the dotted line is the baseline's best accuracy, mean over the seeds.
    """
    looks = iter([*zip(("--", "-.", ":"), "^Dv", strict=True)] * 3)
    with style.axes(ax) as ax:
        target = runs.best("plain").mean()
        ax.axhline(target, color=style.THEORY, ls=":", lw=1.5)
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
        ax.legend(loc="lower right")
    return ax


def recipe_effects(
    runs: RecipeRuns,
    changes: Sequence[str],
    *,
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what each change does to the best accuracy, without and with normalization, with 95% intervals.

    Parameters
    ----------
    runs : RecipeRuns
    changes : sequence of str
        Names of the changes, from the top down.
    limit : float, optional
        Half the range of the axis in percentage points; what lies beyond it is marked by an arrow at the edge.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    with style.axes(ax, size=(6.4, 0.9 + 0.42 * len(changes))) as ax:
        for row, change in enumerate(changes):
            _effect_pair(ax, runs, change, row=row, limit=limit)
        _effect_axis(ax, changes, limit)
        ax.set_xlabel("change of the best accuracy, percentage points")
        ax.legend(handles=_net_handles(), loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return ax


def recipe_sets(
    sets: Mapping[str, RecipeRuns],
    changes: Sequence[str],
    *,
    limit: float,
    ax: np.ndarray | None = None,
) -> np.ndarray:
    """Draw what each change does on several training sets, to the best accuracy and to that at the end.

    Parameters
    ----------
    sets : mapping of str to RecipeRuns
        From labels to runs, from the top down.
    changes : sequence of str
        Names of the changes, a row of two panels each.
    limit : float
        Half the range of the axes in percentage points; as in `recipe_effects`.
    ax : array of Axes of shape (changes, 2), optional

    Returns
    -------
    array of Axes, shape (changes, 2)
        On the left the best accuracy, on the right that at the end, with 95% intervals.
    """
    height = 1.3 + len(changes) * (0.45 + 0.36 * len(sets))
    grid = {"rows": len(changes), "columns": 2, "size": (6.4, height)}
    with style.axes(ax, **grid, sharex=True, sharey=True, squeeze=False) as ax:
        for pair, change in zip(ax, changes, strict=True):
            for panel, at_end in zip(pair, (False, True), strict=True):
                for row, runs in enumerate(sets.values()):
                    _effect_pair(panel, runs, change, row=row, limit=limit, at_end=at_end)
                _effect_axis(panel, list(sets), limit)
                panel.set_title(f"{change}, {'end' if at_end else 'best'}", loc="left")
        for panel in ax[-1]:
            panel.set_xlabel("percentage points")
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax[0, 0].figure.legend(handles=_net_handles(), loc="outside upper center", ncols=2)
    return ax


def _effect_pair(
    ax: Axes,
    runs: RecipeRuns,
    change: str,
    *,
    row: int,
    limit: float | None,
    at_end: bool = False,
) -> None:
    """Draw one change without and with normalization; beyond the limit, an arrow and the mean."""
    for shift, net in ((0.16, "plain"), (-0.16, "BN")):
        interval = t_interval(100 * runs.effect(net, change, of="final" if at_end else "best"))
        mean = float(interval.mean)
        y, color = shift - row, COLORS[net]
        if limit is None or abs(mean) <= limit:
            ax.errorbar(
                mean, y, xerr=interval.bars[:, None], fmt=MARKERS[net], capsize=3, color=color
            )
            continue
        left = mean < 0
        edge, inside = (0.97 * np.sign(mean) * limit, 0.9 * np.sign(mean) * limit)
        ax.plot(edge, y, marker="<" if left else ">", ms=9, ls="none", color=color)
        align = {"va": "center", "ha": "left" if left else "right"}
        ax.text(inside, y, f"{mean:+.0f}", color=color, **align)


def _effect_axis(ax: Axes, rows: Sequence[str], limit: float | None) -> None:
    ax.axvline(0, color=style.THEORY, lw=1, zorder=0)
    ax.set_yticks(-np.arange(len(rows)), rows)
    ax.set_ylim(0.6 - len(rows), 0.6)
    if limit is not None:
        ax.set_xlim(-limit, limit)
    ax.grid(axis="y", visible=False)


def _net_handles() -> list[Line2D]:
    return [
        Line2D([], [], color=COLORS[net], marker=MARKERS[net], label=NAMES[net])
        for net in ("plain", "BN")
    ]


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
        The dotted line is guessing.
    """
    looks = {
        "plain": (style.PLAIN, "o", "without BN"),
        "BN": (style.NORMALIZED, "s", "with BN"),
        "scaled": (style.GREEN, "^", "without BN, larger weights"),
    }
    accuracy, _ = result.at_best_rate()
    with style.axes(ax) as ax:
        for net, curve in zip(result.nets, accuracy, strict=True):
            color, marker, label = looks[net]
            ax.plot(result.depths, curve.mean(axis=1), color=color, marker=marker, label=label)
            low, high = curve.min(axis=1), curve.max(axis=1)
            ax.fill_between(result.depths, low, high, color=color, alpha=0.2, lw=0)
        ax.axhline(0.1, color=style.THEORY, ls=":", lw=1.5)
        ax.set_xticks(result.depths)
        ax.set(xlabel="hidden layers", ylabel="accuracy, test digits", ylim=(0, 1))
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return ax
