"""Figures of Chapter 8: shifted images, what a batch is worth, two libraries, folded networks."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from bnlab.chapters import style
from bnlab.chapters.convolutional_batchnorm.results import (
    EffectiveBatch,
    FoldedNets,
    LibraryTwins,
    ShiftedDigits,
)
from bnlab.stats import t_interval

__all__ = ["effective_batch", "folded_nets", "library_twins", "shared_values", "shifted_digits"]

KINDS = {"none": style.PLAIN, "per map": style.NORMALIZED, "per activation": style.GREEN}
MARKERS = ("o", "s", "^")


def shared_values(
    *, images: int = 3, maps: int = 3, side: int = 4, chosen: int = 1, ax: Axes | None = None
) -> Axes:
    """Draw a batch of feature maps, images below each other, and fill the values that share a mean.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("agg")
    >>> ax = shared_values(images=2, maps=3, side=4)
    >>> sum(patch.get_facecolor()[0] == 0 for patch in ax.patches)  # N p q of N C p q
    32
    """
    step = side + 1.2
    with style.axes(ax, size=(6.4, 4.4)) as ax:
        for n in range(images):
            for c in range(maps):
                for i in range(side):
                    for j in range(side):
                        corner = (c * step + j, n * step + i)
                        color = style.NORMALIZED if c == chosen else "0.85"
                        ax.add_patch(Rectangle(corner, 0.9, 0.9, lw=0, color=color))
        for c in range(maps):
            ax.annotate(f"map {c + 1}", (c * step + side / 2, -0.4), ha="center", va="bottom")
        for n in range(images):
            ax.annotate(f"image {n + 1}", (-0.5, n * step + side / 2), ha="right", va="center")
        ax.annotate(
            "one mean, one variance,\none γ, one β", (chosen * step + side / 2, images * step - 0.9),
            color=style.NORMALIZED, ha="center", va="top",
        )  # fmt: skip
        ax.set(xlim=(-3.4, maps * step), ylim=(images * step + 1.9, -2), aspect="equal")
        ax.axis("off")
    return ax


@ShiftedDigits.figure
def shifted_digits(result: ShiftedDigits, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against the shift, each normalization at its own best learning rate."""
    with style.axes(ax) as ax:
        for j, name in enumerate(result.normalizations):
            interval = t_interval(result.best_accuracy[:, j])
            x = result.shifts + 0.03 * (j - 1)
            ax.errorbar(
                x, interval.mean, interval.bars, color=KINDS[name], marker=MARKERS[j], capsize=3
            )
            ax.annotate(
                {"none": "no normalization"}.get(name, f"one pair {name}"),
                (x[-1], interval.mean[-1]), color=KINDS[name],
                xytext=(12, {"none": -7, "per map": 7}.get(name, 0)), textcoords="offset points", va="center",
            )  # fmt: skip
        ax.set_xticks(result.shifts)
        ax.set(xlabel="test digits moved by, pixels", ylabel="accuracy", ylim=(0, 1))
        ax.set_xlim(-0.15, 1.75 * result.shifts[-1])
    return ax


@EffectiveBatch.figure
def effective_batch(result: EffectiveBatch, *, ax: Axes | None = None) -> Axes:
    """Draw how many independent values a batch mean is worth beside how many there are."""
    with style.axes(ax) as ax:
        place = np.arange(len(result.layers))
        ax.plot(place, result.values, "_", ms=34, mew=2.5, color=style.THEORY, label="values")
        ax.annotate(
            "values that share the mean, m′ = N p q", (place[0], result.values[0]),
            xytext=(-16, 8), textcoords="offset points", color=style.THEORY,
        )  # fmt: skip
        interval = t_interval(result.measured, geometric=True)
        ax.errorbar(
            place,
            interval.mean,
            interval.bars,
            color=style.NORMALIZED,
            marker="o",
            ls="",
            capsize=4,
        )
        ax.annotate(
            "worth, measured", (place[0], interval.mean[0]), color=style.NORMALIZED,
            xytext=(10, -22), textcoords="offset points",
        )  # fmt: skip
        ax.axhline(result.images, color=style.GRAY, ls="--")
        ax.annotate("images, N", (place[0], result.images * 1.15), color=style.GRAY)
        sides = [round(p**0.5) for p in result.positions]
        names = [f"{n}\n{s} × {s}" for n, s in zip(result.layers, sides, strict=True)]
        ax.set_xticks(place, names)
        ax.set(yscale="log", ylabel="values", xlim=(-0.5, len(place) - 0.5), ylim=(30, 3e5))
    return ax


@LibraryTwins.figure
def library_twins(result: LibraryTwins, *, ax: Axes | None = None) -> Axes:
    """Draw the relative distance of two runs' weights over the steps, one pair a precision."""
    with style.axes(ax) as ax:
        steps = np.arange(1, result.weight_gap.shape[-1] + 1)
        colors = {"float64": style.NORMALIZED, "float32": style.ROSE}
        for k, precision in enumerate(result.precisions):
            for j, _ in enumerate(result.twins):
                mean = t_interval(result.weight_gap[:, j, k], geometric=True).mean
                ax.plot(
                    steps, mean, color=colors[precision], ls="-" if j == 0 else ":", lw=2,
                    label=f"{precision}, {'libraries' if j == 0 else 'one bit'}",
                )  # fmt: skip
            middle = result.weight_gap[:, :, k, len(steps) // 2]
            ax.annotate(
                precision, (steps[len(steps) // 2], np.exp(np.log(middle).mean(axis=0)).max()),
                xytext=(0, 12), textcoords="offset points", color=colors[precision], ha="center",
            )  # fmt: skip
        ax.set(yscale="log", xlabel="step", ylabel="distance of the weights, relative")
        ax.set(xlim=(0, steps[-1]), ylim=(1e-17, 1e-3))
        names = ("two libraries", "one library, one bit moved")
        styles = [Line2D([], [], color=style.THEORY, ls=ls) for ls in ("-", ":")]
        ax.legend(styles, names, loc="center", bbox_to_anchor=(0.5, 0.5))
    return ax


@FoldedNets.figure
def folded_nets(result: FoldedNets, *, ax: Axes | None = None) -> Axes:
    """Draw how long a call takes after folding over before: geometric means with 95% intervals."""
    with style.axes(ax) as ax:
        interval = t_interval(result.time_ratio, geometric=True)
        width = 0.8 / len(result.batch_sizes)
        for k, size in enumerate(result.batch_sizes):
            place = (
                np.arange(len(result.networks)) + (k - (len(result.batch_sizes) - 1) / 2) * width
            )
            ax.bar(
                place, interval.mean[:, k], 0.9 * width, yerr=interval.bars[:, :, k], capsize=4,
                color=(style.NORMALIZED, style.SKY)[k % 2],
                label=f"{size} image{'s' if size > 1 else ''} a call",
            )  # fmt: skip
        ax.axhline(1, color=style.THEORY, ls=":", lw=1.5)
        ax.set_xticks(np.arange(len(result.networks)), result.networks)
        ax.set(ylabel="time, folded / unfolded", ylim=(0, 1.35))
        ax.legend(loc="upper right", ncols=2)
    return ax
