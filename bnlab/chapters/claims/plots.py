"""The figure of the ledger."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from bnlab.chapters import style
from bnlab.stats import Interval

__all__ = ["intervals", "verdicts"]

COLORS = {
    "holds": style.GREEN,
    "partly": style.NORMALIZED,
    "false": style.PLAIN,
    "open": style.GRAY,
}


def verdicts(
    counts: Mapping[str, Mapping[str, int]], words: Mapping[str, str], *, ax: Axes | None = None
) -> Axes:
    """Draw how many claims of each source have each verdict.

    Parameters
    ----------
    counts : mapping of str to mapping of str to int
        For each source, how many of its claims have each kind of verdict.
    words : mapping of str to str
        Kind to words, in the order of the bars.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
    """
    with style.axes(ax, size=(6.4, 0.6 * len(counts) + 1.0)) as axes:
        places = np.arange(len(counts))[::-1]
        left = np.zeros(len(counts))
        for kind, text in words.items():
            width = np.array([found[kind] for found in counts.values()], float)
            axes.barh(places, width, left=left, color=COLORS[kind], height=0.6, label=text)
            for place, start, size in zip(places, left, width, strict=True):
                if size:
                    axes.text(
                        start + size / 2,
                        place,
                        f"{size:.0f}",
                        ha="center",
                        va="center",
                        color="white",
                    )
            left += width
        axes.legend(
            ncols=4,
            loc="lower center",
            bbox_to_anchor=(0.42, 1),
            fontsize="small",
            columnspacing=1.0,
            handlelength=1.0,
        )
        axes.set_yticks(places, list(counts))
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("claims")
    return axes


def intervals(found: Interval, *, truth: float = 0.0, ax: Axes | None = None) -> Axes:
    """Draw many intervals side by side, those that miss the truth in the color of alarm.

    Parameters
    ----------
    found : Interval
        Of one axis: an interval for each experiment.
    truth : float
        What they are intervals for.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
    """
    missed = (found.low > truth) | (found.high < truth)
    with style.axes(ax, size=(6.4, 2.9)) as axes:
        for miss, color in ((False, style.GRAY), (True, style.PLAIN)):
            at = np.flatnonzero(missed == miss)
            axes.vlines(at, found.low[at], found.high[at], color=color, linewidth=1.4)
        axes.text(len(missed) + 1, truth, "truth", va="center", color=style.THEORY)
        axes.axhline(truth, xmax=0.9, color=style.THEORY, linestyle="--", linewidth=1)
        axes.set_xlim(-2, len(missed) * 1.12)
        axes.set_xlabel("experiment")
        axes.set_ylabel("difference")
    return axes
