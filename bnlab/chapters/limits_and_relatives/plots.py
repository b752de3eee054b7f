"""Figures of Chapter 12: accuracy against the batch size, company, and which values share a mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from bnlab.chapters import style
from bnlab.chapters.limits_and_relatives.results import ArmScores, Leftovers, Reach, arm_name
from bnlab.stats import t_interval

__all__ = ["cliff", "company", "leftovers", "reach", "small_statistics"]

SIZES = (2, 4, 8, 16, 64)
LOOKS = {  # label, color and marker of each normalization
    "none": ("plain", style.PLAIN, "D"),
    "layer": ("layer norm", style.ROSE, "^"),
    "group": ("group norm", style.GREEN, "s"),
    "batch": ("batch norm", style.NORMALIZED, "o"),
    "renorm": ("batch renorm", style.OLIVE, "v"),
}


def cliff(
    result: ArmScores,
    norms: Sequence[str] = ("none", "layer", "group", "batch"),
    *,
    places: dict[str, tuple[float, float]] | None = None,
    ylim: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw held-out accuracy against the batch size, a curve a normalization; `places` of labels in the data."""
    with style.axes(ax) as ax:
        for i, norm in enumerate(norms):
            label, color, marker = LOOKS[norm]
            sizes = [m for m in SIZES if arm_name(norm, m) in result.arms]
            values = t_interval(np.array([result.of(arm_name(norm, m)) for m in sizes]).T)
            x = np.array(sizes) * 1.03 ** (i - (len(norms) - 1) / 2)
            _points(ax, x, values, color=color, marker=marker, ls="-")
            ax.annotate(label, (places or {}).get(norm, (x[-1], values.mean[-1])), color=color)
        _sizes(ax, SIZES, "examples in a batch")
        ax.set(ylabel="accuracy on new digits", ylim=ylim)
    return ax


def small_statistics(result: ArmScores, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against the number of examples that share a mean: whole batches, and parts of batches of 64."""
    with style.axes(ax) as ax:
        whole = [arm_name("batch", m) for m in SIZES]
        parts = [f"ghost {m} in 64" for m in SIZES[:-1]]
        for arms, color, marker, label, shift, height in (
            (whole, style.NORMALIZED, "o", "batches of that size", 0.97, 0.55),
            (parts, style.SKY, "s", "ghost batches in batches of 64", 1.03, 0.42),
        ):
            values = t_interval(np.array([result.of(arm) for arm in arms]).T)
            x = shift * np.array(SIZES[: len(arms)])
            _points(ax, x, values, color=color, marker=marker, ls="-")
            ax.annotate(label, (0.3, height), color=color, xycoords="axes fraction")
        _sizes(ax, SIZES, "examples that share a mean")
        ax.set(ylabel="accuracy on new digits")
    return ax


def company(
    result: ArmScores,
    norms: Sequence[str] = ("layer", "batch"),
    *,
    m: int = 20,
    near: int = 16,
    ax: Axes | None = None,
) -> Axes:
    """Draw accuracy alone and in company of the same makeup, for networks trained in batches of each makeup."""
    makeups = {
        "shuffled": "within_shuffled",
        "two classes": "within_two",
        "one class": "within_one",
    }
    with style.axes(ax) as ax:
        for i, norm in enumerate(norms):
            label, color, marker = LOOKS[norm]
            arms = [arm_name(norm, near if k == "shuffled" else m, k) for k in makeups]
            place = np.arange(len(arms)) + 0.16 * (i - (len(norms) - 1) / 2)
            alone = t_interval(np.array([result.of(arm) for arm in arms]).T)
            _points(ax, place, alone, color=color, marker=marker)
            _beside(ax, f"{label}, alone", place[1], alone.mean[1], color=color, up=norm != "batch")
            if norm == "batch":
                pairs = zip(arms, makeups.values(), strict=True)
                within = t_interval(np.array([result.of(arm, what) for arm, what in pairs]).T)
                _points(ax, place + 0.1, within, color=color, marker=marker, mfc="none")
                _beside(ax, f"{label}, in company", place[1] + 0.1, within.mean[1], color=color)
        ax.set_xticks(range(len(makeups)), [*makeups])
        ax.set(
            xlabel="training batches",
            ylabel="accuracy on new digits",
            ylim=(0, 1),
            xlim=(-0.4, 2.95),
        )
    return ax


@Leftovers.figure
def leftovers(result: Leftovers, *, ax: Axes | None = None) -> Axes:
    """Draw what becomes of a value on average, with the spread over its company, for each batch size."""
    with style.axes(ax) as ax:
        colors = (style.NORMALIZED, style.GREEN, style.ROSE, style.OLIVE)
        ax.plot(result.x, result.x, color=style.THEORY, ls=":", lw=1.5)
        ax.annotate("population statistics", (-1.6, -2.6), color=style.THEORY)
        for m, mean, std, color in zip(result.sizes, result.mean, result.std, colors, strict=False):
            ax.plot(result.x, mean, color=color)
            ax.fill_between(result.x, mean - std, mean + std, color=color, alpha=0.12, lw=0)
            ax.annotate(f"m = {m}", (result.x[-1], mean[-1]), color=color, xytext=(6, 0),
                        textcoords="offset points", va="center")  # fmt: skip
        ax.plot(result.x, result.rank, color=style.THEORY, ls="--", lw=1.5)
        ax.set(xlabel="value, in standard deviations", ylabel="normalized, on average")
        ax.set(xlim=(-3.1, 3.9), ylim=(-3.1, 3.3))
    return ax


@Reach.figure
def reach(result: Reach, *, columns: int = 3, ax: np.ndarray | None = None) -> np.ndarray:
    """Draw for each layer a grid of examples by channels and positions; filled are those that one output depends on."""
    rows = -(-len(result.layers) // columns)
    size = (6.4, 1.35 * rows)
    with style.axes(ax, rows=rows, columns=columns, size=size, squeeze=False) as panels:
        for panel, name, shares in zip(panels.flat, result.layers, result.shares, strict=False):
            examples, channels, positions = shares.shape
            stride = positions + 0.7
            for n, c, p in np.ndindex(*shares.shape):
                color = style.NORMALIZED if shares[n, c, p] else "0.85"
                panel.add_patch(_square((c * stride + p, -n), color))
            panel.add_patch(_square((stride + 1, -1), "none", edge=style.PLAIN))
            panel.set(title=name, aspect="equal", xticks=[], yticks=[])
            panel.set(xlim=(-0.9, channels * stride), ylim=(-examples + 0.3, 0.8))
            panel.grid(False)
            panel.spines[:].set_visible(False)
        for panel in panels[:, 0]:
            panel.set_ylabel("examples")
        for panel in panels[-1]:
            panel.set_xlabel("channels")
        for panel in panels.flat[len(result.layers) :]:
            panel.set_visible(False)
    return panels


def _square(at: tuple[float, float], color: str, edge: str = "none") -> Rectangle:
    x, y = at
    return Rectangle((x - 0.42, y - 0.42), 0.84, 0.84, facecolor=color, edgecolor=edge, linewidth=2)


def _beside(ax: Axes, text: str, x: float, y: float, *, color: str, up: bool = False) -> None:
    ax.annotate(
        text, (x, y), color=color, xytext=(-8, 8) if up else (8, -18), textcoords="offset points",
        ha="center" if up else "left",
    )  # fmt: skip


def _points(ax: Axes, x, interval, *, ls: str = "none", **kwargs) -> None:
    ax.errorbar(x, interval.mean, yerr=interval.bars, ls=ls, ms=6, lw=1.5, capsize=2, **kwargs)


def _sizes(ax: Axes, sizes: Sequence[int], label: str) -> None:
    ax.set_xscale("log")
    ax.set_xticks(list(sizes), [f"{m}" for m in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(label)
