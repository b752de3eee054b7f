"""Figures of Chapter 13: accuracies before and after each repair, and how gradients of parts differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from bnlab.chapters import style
from bnlab.chapters.troubleshooting.results import Accumulation, CaseStudy, Faults
from bnlab.stats import t_interval

__all__ = ["accumulation", "case_study", "faults"]


@Faults.figure
def faults(result: Faults, *, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of each fault, before its repair and after it, over a line of what batches give."""
    with style.axes(ax, size=(6.4, 5.2)) as ax:
        place = _rows(ax, result.causes)
        before, after = t_interval(result.before), t_interval(result.after)
        ax.hlines(place, before.mean, after.mean, color=style.GRAY, lw=1.5, alpha=0.6)
        ax.plot(result.by_batch.mean(axis=0), place, "|", ms=16, mew=2, color=style.THEORY)
        for interval, color, marker in (
            (before, style.ROSE, "o"),
            (after, style.NORMALIZED, "s"),
        ):
            ax.errorbar(
                interval.mean, place, xerr=interval.bars, color=color, marker=marker, ls="", ms=7
            )
        ax.annotate(
            "in evaluation", (before.mean[-1], -0.2), color=style.ROSE, ha="center", va="top"
        )
        ax.annotate("after the repair", (1.0, -0.2), color=style.NORMALIZED, ha="right", va="top")
    return ax


def _rows(ax: Axes, names: Sequence[str]) -> np.ndarray:
    """Give each name a row, the first on top, with the name above it; return their heights."""
    place = np.arange(len(names))[::-1]
    for y, name in zip(place, names, strict=True):
        ax.annotate(name, (0.0, y + 0.3), va="bottom", fontsize="small", color="0.25")
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set(xlabel="accuracy on new images", xlim=(0, 1.02), ylim=(-0.8, len(names)))
    return place


@Accumulation.figure
def accumulation(result: Accumulation, *, ax: Axes | None = None) -> Axes:
    """Draw how far the gradient of several parts is from the whole batch's."""
    with style.axes(ax) as ax:
        place = np.arange(len(result.parts))
        for values, color, name in (
            (result.distance, style.NORMALIZED, "with Batch Normalization"),
            (result.without, style.PLAIN, "without"),
        ):
            interval = t_interval(values)
            ax.errorbar(place, interval.mean, yerr=interval.bars, color=color, marker="o")
            ax.annotate(
                name, (place[-1], interval.mean[-1]), xytext=(-8, 10), textcoords="offset points",
                color=color, ha="right",
            )  # fmt: skip
        ax.set_xticks(place, [f"{n} × {result.batch_size // n}" for n in result.parts])
        ax.set(xlabel="micro-batches of a step", ylabel="distance of the gradients")
    return ax


@CaseStudy.figure
def case_study(result: CaseStudy, *, ax: Axes | None = None) -> Axes:
    """Draw the accuracy at each stage, one thin line a seed."""
    with style.axes(ax) as ax:
        place = _rows(ax, result.stages)
        interval = t_interval(result.accuracy)
        for row in result.accuracy:
            ax.plot(row, place, "o", color=style.GRAY, ms=3, alpha=0.5)
        ax.errorbar(
            interval.mean,
            place,
            xerr=interval.bars,
            color=style.NORMALIZED,
            marker="s",
            ls="",
            ms=7,
        )
    return ax
