"""Figures of Chapter 8: shifted images, what a batch is worth, two libraries, folded networks."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from bnlab.chapters import style
from bnlab.chapters.convolutional_batchnorm.results import (
    EffectiveBatch,
    FoldedNets,
    LibraryTwins,
    ShiftedDigits,
)
from bnlab.stats import t_interval

__all__ = ["effective_batch", "folded_nets", "library_twins", "shifted_digits"]

KINDS = {"none": style.PLAIN, "per map": style.NORMALIZED, "per activation": style.GREEN}
MARKERS = ("o", "s", "^")


@ShiftedDigits.figure
def shifted_digits(result: ShiftedDigits, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against the shift, each normalization at its own best learning rate."""
    with style.axes(ax) as ax:
        for j, name in enumerate(result.normalizations):
            interval = t_interval(result.best_accuracy[:, j])
            x = result.shifts + 0.03 * (j - 1)
            ax.errorbar(
                x, interval.mean, interval.bars, color=KINDS[name], marker=MARKERS[j], capsize=3,
                label={"none": "no normalization"}.get(name, f"one pair {name}"),
            )  # fmt: skip
        ax.set_xticks(result.shifts)
        ax.set(xlabel="test digits moved by, pixels", ylabel="accuracy", ylim=(0, 1))
        ax.legend(loc="lower left")
    return ax


@EffectiveBatch.figure
def effective_batch(result: EffectiveBatch, *, ax: Axes | None = None) -> Axes:
    """Draw how many independent values a batch mean is worth beside how many there are."""
    with style.axes(ax) as ax:
        place = np.arange(len(result.layers))
        ax.plot(
            place, result.values, "_", ms=34, mew=2.5, color=style.THEORY,
            label="values that share the mean, m′ = N p q",
        )  # fmt: skip
        interval = t_interval(result.measured, geometric=True)
        ax.errorbar(
            place, interval.mean, interval.bars, color=style.NORMALIZED, marker="o", ls="", capsize=4,
            label="worth, measured",
        )  # fmt: skip
        ax.axhline(result.images, color=style.PLAIN, ls="--", label="images, N")
        sides = [round(p**0.5) for p in result.positions]
        names = [f"{n}\n{s} × {s}" for n, s in zip(result.layers, sides, strict=True)]
        ax.set_xticks(place, names)
        ax.set(yscale="log", ylabel="values", xlim=(-0.5, len(place) - 0.5), ylim=(30, 3e5))
        ax.legend(loc="upper right")
    return ax


@LibraryTwins.figure
def library_twins(result: LibraryTwins, *, ax: Axes | None = None) -> Axes:
    """Draw the relative distance of two runs' weights over the steps, one pair a precision."""
    with style.axes(ax) as ax:
        steps = np.arange(1, result.weight_gap.shape[-1] + 1)
        colors = {"float64": style.NORMALIZED, "float32": style.PLAIN}
        for k, precision in enumerate(result.precisions):
            for j, _ in enumerate(result.twins):
                mean = t_interval(result.weight_gap[:, j, k], geometric=True).mean
                ax.plot(
                    steps, mean, color=colors[precision], ls="-" if j == 0 else ":", lw=2,
                    label=f"{precision}, {'libraries' if j == 0 else 'one bit'}",
                )  # fmt: skip
        ax.set(yscale="log", xlabel="step", ylabel="distance of the weights, relative")
        ax.set(xlim=(0, steps[-1]), ylim=(1e-17, 1e-3))
        ax.legend(loc="center", bbox_to_anchor=(0.5, 0.52), ncols=2)
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
                place, interval.mean[:, k], 0.9 * width, yerr=interval.bars[:, :, k], capsize=4, color=style.CYCLE[k],
                label=f"{size} image{'s' if size > 1 else ''} a call",
            )  # fmt: skip
        ax.axhline(1, color=style.THEORY, ls=":", lw=1.5)
        ax.set_xticks(np.arange(len(result.networks)), result.networks)
        ax.set(ylabel="time, folded / unfolded", ylim=(0, 1.35))
        ax.legend(loc="upper right", ncols=2)
    return ax
