"""Figures of Chapter 9: the paper's Figure 1 over many seeds, and what it depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from bnlab.chapters import style
from bnlab.chapters.figure_one.results import FigureOne, ImageRows, RateSearch, Stability
from bnlab.stats import t_interval

__all__ = [
    "accuracy_gap",
    "accuracy_in_training",
    "fair_starts",
    "image_rows",
    "input_percentiles",
    "rate_search",
    "start_sizes",
    "times_fewer",
    "unit_stability",
]

COLORS = {"without": style.PLAIN, "with": style.NORMALIZED}
DASHES = {"without": "--", "with": "-"}
SETS = ((style.GREEN, "-"), (style.ROSE, "--"), (style.OLIVE, "-."), (style.GRAY, ":"))  # of data
THOUSANDS = FuncFormatter(lambda step, _: f"{step:,.0f}")


@RateSearch.figure
def rate_search(result: RateSearch, *, ax: Axes | None = None) -> Axes:
    """Draw the score of each learning rate and seed, and circle each arm's best rate."""
    with style.axes(ax) as ax:
        for (arm, best), values, marker in zip(
            result.best().items(), result.score(), "so", strict=True
        ):
            mean, color = values.mean(axis=-1), COLORS[arm]
            ax.plot(result.rates, mean, ls=DASHES[arm], color=color, label=f"{arm} normalization")
            ax.plot(result.rates, values, marker, ms=5, color=color)
            ax.plot(
                best, mean[result.rates.index(best)], "o", ms=16, mfc="none", mew=2, color=color
            )
        ax.set(xscale="log", ylim=(0, 1.15), xlabel="learning rate")
        ax.set(ylabel="held-out accuracy,\nmean over training")
        ax.set_xticks(result.rates, [f"{rate:g}" for rate in result.rates])
        ax.set_yticks(np.linspace(0, 1, 6))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.text(result.rates[0], 1.06, "with normalization", color=COLORS["with"], va="center")
        low, high = result.score()[0].mean(axis=-1)[-2:]
        ax.annotate(
            "without", (np.sqrt(result.rates[-2] * result.rates[-1]), (low + high) / 2), xytext=(-8, 0),
            textcoords="offset points", ha="right", va="top", color=COLORS["without"],
        )  # fmt: skip
    return ax


def start_sizes(results: Mapping[float, RateSearch], *, ax: Axes | None = None) -> Axes:
    """Draw held-out accuracy in training for each standard deviation of the initial weights.

    Parameters
    ----------
    results : mapping of float to RateSearch
        By that standard deviation; each arm is drawn at its best rate, as the mean over the seeds.
    """
    with style.axes(ax, size=(6.4, 4.4)) as ax:
        later = None
        for (size, result), dash in zip(
            sorted(results.items()), (":", "-.", "--", "-"), strict=False
        ):
            seen = result.steps > 0
            for k, (arm, rate) in enumerate(result.best().items()):
                mean = result.accuracy[k, result.rates.index(rate)].mean(axis=0)
                ax.plot(
                    result.steps[seen], mean[seen], ls=dash, color=COLORS[arm],
                    label=f"{arm}, {size:g}",
                )  # fmt: skip
                if arm == "without":
                    later = _name_rise(ax, result.steps[seen], mean[seen], size, later)
        ax.set(xscale="log", ylim=(0, 1.15), xlabel="training steps", ylabel="held-out accuracy")
        ax.set_yticks(np.linspace(0, 1, 6))
        ax.xaxis.set_major_formatter(THOUSANDS)
        first = next(iter(results.values())).steps[1]
        ax.text(first, 1.06, "with normalization, all sizes", color=COLORS["with"], va="center")
    return ax


def _name_rise(
    ax: Axes, steps: np.ndarray, mean: np.ndarray, size: float, later: float | None
) -> float:
    """Write the size of the weights beside a curve as it rises, on the side where the next curve is far."""
    at = float(np.exp(np.interp(0.6, mean, np.log(steps))))
    near = later is not None and later < 2 * at
    height = 0.75 if near else 0.6
    ax.annotate(
        f"{size:g}" if later else f"{size:g}, without",
        (float(np.exp(np.interp(height, mean, np.log(steps)))), height),
        xytext=(-6 if near else 8, 0), textcoords="offset points", va="top",
        ha="right" if near else "left", color=COLORS["without"],
    )  # fmt: skip
    return at


@FigureOne.figure
def accuracy_in_training(
    result: FigureOne,
    *,
    settings: Sequence[int] | None = None,
    zoom: int = 2000,
    low: float = 0.6,
    ax: Sequence[Axes] | None = None,
) -> Sequence[Axes]:
    """Draw test accuracy over the first `zoom` steps and over all, mean and range of the seeds."""
    chosen = settings or [result.setting(arm) for arm in ("without", "with")]
    names = [
        f"{arm} normalization, rate {rate:g}"
        for arm, rate in zip(result.arms, result.rates, strict=True)
    ]
    with style.axes(ax, rows=2, size=(6.4, 6.0)) as (early, whole):
        for panel in (early, whole):
            for k in chosen:
                arm, values = result.arms[k], result.accuracy[k]
                label = names[k]
                faint = 1 if k == result.setting(arm) else 0.45
                panel.plot(
                    result.steps, values.mean(axis=0), ls=DASHES[arm], color=COLORS[arm],
                    label=label, alpha=faint,
                )  # fmt: skip
                panel.fill_between(
                    result.steps, values.min(axis=0), values.max(axis=0), color=COLORS[arm],
                    alpha=0.2 * faint, lw=0,
                )  # fmt: skip
            panel.set(ylabel="test accuracy")
        early.set(xlim=(0, zoom), ylim=(0, 1.15), yticks=np.linspace(0, 1, 6))
        for panel in (early, whole):
            panel.xaxis.set_major_locator(MaxNLocator(5))
            panel.xaxis.set_major_formatter(THOUSANDS)
        top = result.accuracy[chosen].max()
        whole.set(xlim=(0, result.steps[-1]), ylim=(low, top + 0.05 * (top - low)))
        whole.set(xlabel="training steps")
        without, with_ = (result.setting(arm) for arm in ("without", "with"))
        middle = result.accuracy[without].mean(axis=0)
        there = result.steps[np.argmax(middle >= 0.5)]
        early.text(0.2 * zoom, 1.05, names[with_], color=COLORS["with"], va="center")
        early.text(there + 0.05 * zoom, 0.4, names[without], color=COLORS["without"], va="center")
        early.set_title(f"the first {zoom:,} steps", loc="left")
        whole.set_title("all steps", loc="left")
    return early, whole


@FigureOne.figure
def input_percentiles(
    result: FigureOne, *, unit: int = 0, seed: int = 0, ax: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Draw the 15th, 50th and 85th percentile of a unit's input over training, without and with."""
    column = result.seeds.index(seed)
    with style.axes(ax, rows=2, size=(6.4, 5.6), sharex=True, sharey=True) as panels:
        for arm, panel in zip(("without", "with"), panels, strict=True):
            q = result.percentiles[result.setting(arm), column, :, :, unit].astype(float)
            panel.fill_between(
                result.watched, q[:, 0], q[:, 2], color=COLORS[arm], alpha=0.15, lw=0
            )
            for values, name, width in zip(
                q.T, ("15th", "50th", "85th"), (1.5, 2.5, 1.5), strict=True
            ):
                panel.plot(result.watched, values, color=COLORS[arm], lw=width)
                panel.annotate(
                    name, (result.watched[-1], values[-1]), xytext=(4, 0),
                    textcoords="offset points", va="center",
                )  # fmt: skip
            panel.set(ylabel="input")
            panel.set_title(f"{arm} normalization", loc="left", color=COLORS[arm])
        last = result.steps[-1]
        panel.set_xscale("function", functions=(lambda t: np.sqrt(np.maximum(t, 0)), np.square))
        panel.set(xlim=(0, last), xlabel="training steps (root scale)")
        panel.set_xticks([t for t in (0, 1000, 10_000, 25_000, 50_000) if t <= last])
        panel.xaxis.set_major_formatter(THOUSANDS)
    return panels


def unit_stability(
    results: Mapping[str, Stability], arms: Sequence[str], *, ax: Axes | None = None
) -> Axes:
    """Draw the share of all units whose median wanders less than a given number of spreads.

    Parameters
    ----------
    results : mapping of str to Stability
        By what to call them.
    arms : sequence of str
        The arm of each of their settings; the first setting of each arm is drawn.
    """
    with style.axes(ax, size=(6.4, 5.2)) as ax:
        for (name, result), width in zip(results.items(), (2.5, 1.2), strict=False):
            for arm in COLORS:
                values = np.sort(result.wander[list(arms).index(arm)].ravel())
                share = np.arange(1, len(values) + 1) / len(values)
                ax.plot(
                    values, share, ls=DASHES[arm], lw=width, color=COLORS[arm],
                    label=f"{arm} normalization, {name}",
                )  # fmt: skip
        ax.set(xscale="log", ylim=(0, 1), ylabel="share of units below")
        ax.set(xlabel="range of the median / mean spread")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0))
    return ax


def fair_starts(
    arms: Sequence[str],
    steps: Mapping[float, np.ndarray],
    ends: np.ndarray,
    *,
    confidence: float = 0.95,
    ax: Sequence[Axes] | None = None,
) -> Sequence[Axes]:
    """Draw for each arm the steps to each level, seeds and median, and the accuracy at the end with its interval.

    Parameters
    ----------
    arms : sequence of str
        Names; those that begin with "BN" are drawn as normalized.
    steps : mapping of float to array of shape (arms, seeds)
        By level of accuracy; infinite for a seed that never got there.
    ends : array of shape (arms, seeds)
        Accuracy in percent.
    confidence : float
        Of the intervals.
    """
    rows = np.arange(len(arms))[::-1]
    colors = [style.NORMALIZED if arm.startswith("BN") else style.PLAIN for arm in arms]
    medians = np.log([np.median(values, axis=1) for values in steps.values()])
    clear = int(
        np.nan_to_num(np.diff(medians, axis=0), posinf=0).min(axis=0).argmax()
    )  # room for the levels' names
    with style.axes(ax, columns=2, size=(6.4, 4.4), sharey=True) as panels:
        race, last = panels
        for (level, values), marker in zip(steps.items(), "o^sD", strict=False):
            for row, color, of_arm in zip(rows, colors, values, strict=True):
                race.plot(
                    of_arm, np.full(len(of_arm), row), marker, ms=4, color=color, alpha=0.2, mew=0
                )
                race.plot(np.median(of_arm), row, marker, ms=8, color=color)
            race.annotate(
                f"{level:g}", (np.median(values[clear]), rows[clear]), xytext=(0, 7),
                textcoords="offset points", ha="center",
            )  # fmt: skip
        found = t_interval(ends.T, confidence=confidence)
        for row, color, mean, bar in zip(rows, colors, found.mean, found.bars.T, strict=True):
            last.errorbar(mean, row, xerr=bar[:, None], fmt="o", ms=6, capsize=3, color=color)
        race.set(xscale="log", xlabel="training steps", ylim=(-0.6, len(arms) - 0.3))
        race.xaxis.set_major_formatter(THOUSANDS)
        race.set_yticks(rows, [arm.replace(" 0.4, ", " 0.4,\n") for arm in arms])
        last.set(xlabel="end accuracy, %")
    return panels


def accuracy_gap(
    gaps: Mapping[str, tuple[np.ndarray, np.ndarray]], *, ax: Axes | None = None
) -> Axes:
    """Draw accuracy with normalization less that without over training, 95% intervals over the seeds.

    Parameters
    ----------
    gaps : mapping of str to (steps, values)
        For each set of data its looks, shape (looks,), and the paired gaps, shape (seeds, looks).
    """
    with style.axes(ax, size=(6.4, 5.0)) as ax:
        ax.axhline(0, color=style.THEORY, ls=":", lw=1.5)
        for (name, (steps, values)), (color, dash) in zip(gaps.items(), SETS, strict=False):
            seen = steps > 0
            found = t_interval(100 * values[:, seen])
            ax.plot(steps[seen], found.mean, color=color, ls=dash, label=name)
            ax.fill_between(steps[seen], found.low, found.high, color=color, alpha=0.2, lw=0)
        ax.set(xscale="log", xlabel="training steps")
        ax.set(ylabel="accuracy with − without,\npercentage points")
        ax.set_yscale("symlog", linthresh=2)
        ax.set_yticks([-2, -1, 0, 1, 2, 10, 50], ["−2", "−1", "0", "1", "2", "10", "50"])
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_xticks([100, 1000, 10_000, 50_000], ["100", "1,000", "10,000", "50,000"])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0))
    return ax


def times_fewer(
    factors: Mapping[str, tuple[Sequence[float], np.ndarray]], *, ax: Axes | None = None
) -> Axes:
    """Draw how many times fewer steps normalization needs to each accuracy, geometric means with 95% intervals.

    Parameters
    ----------
    factors : mapping of str to (levels, values)
        For each set of data the levels, and steps without over steps with, shape (seeds, levels).
    """
    with style.axes(ax, size=(6.4, 5.0)) as ax:
        ax.axhline(1, color=style.THEORY, ls=":", lw=1.5)
        for (name, (levels, values)), (color, dash) in zip(factors.items(), SETS, strict=False):
            found = t_interval(values, geometric=True)
            ax.errorbar(
                _nines(levels), found.mean, found.bars, color=color, ls=dash, marker="o", ms=5,
                capsize=3, elinewidth=1.2, label=name,
            )  # fmt: skip
        levels = (0.5, 0.7, 0.8, 0.9, 0.95, 0.975)
        ax.set_xticks(_nines(levels), [f"{level:g}" for level in levels])
        ax.set(
            yscale="log",
            xlabel="test accuracy reached",
            ylabel="times fewer steps\nwith normalization",
        )
        ax.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
        ax.yaxis.set_minor_locator(NullLocator())
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0))
    return ax


def _nines(levels: Sequence[float]) -> np.ndarray:
    """Return where a level stands on an axis on which halving the errors is always the same way."""
    return -np.log2(1 - np.asarray(levels))


@ImageRows.figure
def image_rows(result: ImageRows, *, ax: Axes | None = None) -> Axes:
    """Draw the pictures as one sheet, a label beside each row."""
    rows, columns, height, width = result.images.shape
    padded = np.pad(result.images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    sheet = padded.swapaxes(1, 2).reshape(rows * (height + 4), columns * (width + 4))
    with style.axes(ax, size=(6.4, 6.4 * rows / columns + 0.2)) as ax:
        ax.imshow(sheet, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        ax.set_yticks((np.arange(rows) + 0.5) * (height + 4), result.labels)
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.grid(False)
    return ax
