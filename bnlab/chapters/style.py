"""The book's look: `bnlab.mplstyle`, applied to our figures and to nothing else in the reader's session.

Figures are opaque white with dark text, so they read in any notebook; the site turns them dark for readers who
chose the dark theme (`book/assets/bnlab.css`).
On a phone a figure is as wide as the page: keep the width of 6.4 inches and the sizes of the style sheet, and its
letters are at least 11 pixels high there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse

Drawn = TypeVar("Drawn")  # Axes, or an array of them: what a figure is drawn on

STYLE = Path(__file__).with_name("bnlab.mplstyle")

# Meanings that hold in every figure: without Batch Normalization, with it, and theory beside a measurement.
# As hex and not as "C0": that is looked up when the figure is drawn, after our style is gone again.
PLAIN, NORMALIZED, THEORY = "#D55E00", "#0072B2", "0.25"
GREEN, ROSE, OLIVE, SKY, GRAY = "#009E73", "#B86FA0", "#8C7A00", "#4D9DC9", "#7A7A7A"
CYCLE = (NORMALIZED, PLAIN, GREEN, ROSE, OLIVE, SKY, GRAY)  # as in bnlab.mplstyle


@contextmanager
def axes(
    ax: Drawn | None = None,
    *,
    rows: int = 1,
    columns: int = 1,
    size: tuple[float, float] | None = None,
    **kwargs: Any,
) -> Iterator[Drawn]:
    """Give the caller's Axes, or new ones in the book's style.

    Parameters
    ----------
    ax : Axes or array of Axes, optional
        Where to draw; by default a new figure of `rows` by `columns` panels.
    size : (width, height), optional
        Inches for a new figure.
    **kwargs
        Passed on to `matplotlib.pyplot.subplots`, e.g. ``sharey=True``.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("agg")
    >>> with axes(columns=2) as (left, right):
    ...     _ = left.plot([0, 1], color=PLAIN)
    >>> left.spines["top"].get_visible()
    False
    >>> plt.close("all")
    """
    # Loads the backend now: a notebook's switches the display of figures on when it is first used, and
    # leaving the style would switch it off again, for every later figure.
    plt.draw_if_interactive()
    with plt.style.context(STYLE):
        if ax is None:
            ax = cast(Drawn, plt.subplots(rows, columns, figsize=size, **kwargs)[1])
        yield ax


def ellipse(center: Sequence[float], covariance: np.ndarray, *, color: str) -> Ellipse:
    """Return the ellipse at two standard deviations around the center of a cloud, to be added to Axes."""
    variances, directions = np.linalg.eigh(covariance)
    width, height = 4 * np.sqrt(variances[::-1])
    angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
    return Ellipse(center, width, height, angle=angle, fill=False, color=color, linewidth=2)
