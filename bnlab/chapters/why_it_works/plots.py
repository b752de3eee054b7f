"""Figures of Chapter 11: what each explanation predicts, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from bnlab.chapters import style
from bnlab.chapters.why_it_works.results import Arms, Decay, Depth
from bnlab.stats import Interval, t_interval

__all__ = [
    "deep_losses",
    "drift_and_loss",
    "held_out_by_group",
    "loss_by_rate",
    "names",
    "ratios",
    "rows_and_decay",
    "shares",
    "signal",
]

COLORS = {
    "plain": style.PLAIN,
    "BN": style.NORMALIZED,
    "frozen": style.GREEN,
    "running": style.ROSE,
    "detached": style.OLIVE,
}
PLACES = {  # where the names stand on raw pixels
    "plain": (1.5, 0.8),
    "frozen": (0.06, 0.35),
    "running": (0.24, 0.8),
    "detached": (1.4, 0.27),
    "BN": (0.7, 0.08),
}
MARKERS = {"plain": "o", "BN": "s", "frozen": "^", "running": "D", "detached": "v"}


def shares(
    rows: Mapping[str, tuple[Interval | None, Interval | None]],
    *,
    titles: Sequence[str] = ("largest stable rate", "training loss"),
    ax: np.ndarray | None = None,
) -> np.ndarray:
    """Draw which share of the advantage of Batch Normalization a net has that keeps one thing only.

    Parameters
    ----------
    rows : mapping of str to pair of Interval or None
        Name of the net, and its share in each of the two panels.
    titles : sequence of str
        Of the panels.
    ax : array of two Axes, optional

    Returns
    -------
    array of two Axes
    """
    height = 1.3 + 0.36 * len(rows)
    with style.axes(ax, columns=2, size=(6.4, height), sharey=True, sharex=True) as ax:
        for k, (panel, title) in enumerate(zip(ax, titles, strict=True)):
            panel.axvline(0, color=style.PLAIN, lw=1.5)
            panel.axvline(1, color=style.NORMALIZED, lw=1.5)
            panel.axvspan(0.5, 1, color=style.NORMALIZED, alpha=0.08, lw=0)
            for y, pair in enumerate(rows.values()):
                if pair[k] is not None:
                    _interval(panel, pair[k], y, color="0.15")
            panel.set(xlim=(-1.1, 1.6), title=title)
            panel.set_xticks([-0.5, 0, 0.5, 1], ["−½", "0", "½", "1"])
            panel.tick_params(axis="y", length=0)
            panel.grid(False)
            for x, name, color in ((0, "plain", style.PLAIN), (1, "BN", style.NORMALIZED)):
                panel.text(x + 0.04, -0.62, name, color=color, va="center")
        ax[0].set_yticks(range(len(rows)), list(rows))
        ax[0].set_ylim(len(rows) - 0.5, -1)
        ax[0].figure.supxlabel("share of BN's advantage", x=0.65, fontsize="medium")
    return ax


def _interval(ax: Axes, value: Interval, y: float, *, color: str, marker: str = "o") -> None:
    """Draw one interval; what leaves the picture ends in an arrow."""
    left, right = -1.07, 1.57
    low, high, mean = (float(v) for v in (value.low, value.high, value.mean))
    ax.plot([max(low, left), min(high, right)], [y, y], color=color, lw=2, solid_capstyle="butt")
    for end, at, shape in ((low < left, left, "<"), (high > right, right, ">")):
        if end:
            ax.plot([at], [y], shape, color=color, ms=6)
    if left < mean < right:
        ax.plot([mean], [y], marker, color=color, ms=6)


def loss_by_rate(
    runs: Arms,
    *,
    arms: Sequence[str] | None = None,
    inputs: Sequence[str] = ("", ", centred"),
    ax: np.ndarray | None = None,
) -> np.ndarray:
    """Draw the loss at the end against the learning rate, raw inputs on the left and centred ones on the right."""
    names = arms if arms is not None else [a for a in runs.arms if not a.endswith(", centred")]
    with style.axes(ax, columns=len(inputs), size=(6.4, 3.7), sharey=True, squeeze=False) as ax:
        ax = np.atleast_2d(ax)[0]
        for panel, suffix in zip(ax, inputs, strict=True):
            for name in names:
                i = runs.arms.index(name + suffix)
                loss = np.minimum(runs.loss[:, i], 9.0)
                mean = np.exp(np.log(loss).mean(axis=0))
                shown = np.append(
                    True, mean[:-1] < runs.limit
                )  # and the first point beyond the limit
                color = COLORS[name]
                panel.plot(runs.lr[i][shown], mean[shown], color=color, marker=MARKERS[name], ms=5)
                panel.fill_between(
                    runs.lr[i][shown],
                    loss.min(axis=0)[shown],
                    loss.max(axis=0)[shown],
                    color=color,
                    alpha=0.18,
                    lw=0,
                )
            panel.axhline(runs.limit, color=style.THEORY, ls="--", lw=1.2)
            panel.set_xscale("log", base=2)
            ticks = [1 / 32, 1 / 8, 1 / 2, 2, 8]
            panel.set_xticks(ticks, ["1/32", "1/8", "1/2", "2", "8"])
            panel.set(yscale="log", ylim=(0.04, 3), xlim=(1 / 40, 11), xlabel="learning rate")
            panel.set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2], ["0.05", "0.1", "0.2", "0.5", "1", "2"])
            panel.minorticks_off()
            panel.set_title(f"{'centred' if suffix else 'raw'} pixels")
        ax[0].set_ylabel("training loss after 100 steps")
    return ax


def names(ax: Axes, places: Mapping[str, tuple[float, float]]) -> Axes:
    """Write the names of arms, each in its colour."""
    for name, (x, y) in places.items():
        ax.text(x, y, name, color=COLORS.get(name, style.THEORY), ha="center", va="center")
    return ax


def drift_and_loss(runs: Arms, *, ax: Axes | None = None) -> Axes:
    """Draw each run's loss against how far the inputs of its nonlinearities move in a step."""
    looks = {"plain": (style.PLAIN, "o"), "noisy plain": (style.PLAIN, "x"),
             "BN": (style.NORMALIZED, "s"), "noisy BN": (style.NORMALIZED, "x")}  # fmt: skip
    with style.axes(ax, size=(6.4, 3.8)) as ax:
        for name, (color, marker) in looks.items():
            drift, loss = runs.of(name, "drift"), runs.of(name)
            ax.plot(
                drift, loss, marker, color=color, ms=6, alpha=0.75, mew=1.5 if marker == "x" else 0
            )
            center = np.exp(np.log(drift).mean()), loss.min()
            ax.annotate(
                name,
                center,
                (0, -9),
                textcoords="offset points",
                ha="center",
                va="top",
                color=color,
            )
        ax.set(xscale="log", yscale="log", ylabel="training loss")
        ax.set_xlabel("how far a unit's inputs move in one step (standard deviations)")
        low, high = ax.get_ylim()
        ax.set_ylim(low / 1.5, high * 1.1)
        ax.set_xticks([0.03, 0.1, 0.3, 1], ["0.03", "0.1", "0.3", "1"])
        ax.set_yticks([0.1, 0.2, 0.4], ["0.1", "0.2", "0.4"])
        ax.minorticks_off()
    return ax


def rows_and_decay(
    parts: Arms, held: Arms, found: Decay, *, ax: np.ndarray | None = None
) -> np.ndarray:
    """Draw the largest stable rate with free and with held rows; and how far a growing rate is from weight decay."""
    arms = {
        "plain": (parts, "plain", style.PLAIN), "BN": (parts, "BN", style.NORMALIZED),
        "BN, held": (held, "BN, rows held", style.SKY),
        "plain ": (held, "plain, last fixed", style.PLAIN), "BN ": (held, "BN, last fixed", style.NORMALIZED),
        "BN, held ": (held, "BN, last fixed, rows held", style.SKY),
    }  # fmt: skip
    with style.axes(ax, columns=2, size=(6.4, 3.6)) as ax:
        for y, (runs, name, color) in enumerate(arms.values()):
            rates = runs.largest_stable(name)
            place = y + (y > 2) * 0.8
            ax[0].plot(
                rates,
                place + np.linspace(-0.2, 0.2, len(rates)),
                "o",
                color=color,
                ms=4,
                alpha=0.7,
                mew=0,
            )
        ax[0].set_yticks([0, 1, 2, 3.8, 4.8, 5.8], [name.strip() for name in arms])
        for y, title in ((-0.75, "all layers trained"), (3.05, "last layer fixed")):
            ax[0].text(
                0.97,
                y,
                title,
                color="0.3",
                va="center",
                ha="right",
                transform=ax[0].get_yaxis_transform(),
            )
        ax[0].set(xscale="log", ylim=(6.4, -1.3), xlabel="largest stable rate")
        steps = np.arange(found.loss.shape[-1])
        for j, (eps, label) in enumerate(((0, r"$\epsilon = 0$"), (1, r"$\epsilon = 10^{-5}$"))):
            gap = np.median(found.gap("growing rate")[:, eps], axis=0)
            color = (style.GRAY, style.NORMALIZED)[j]
            ax[1].plot(steps[1:], np.maximum(gap, 1e-17)[1:], color=color, lw=1.2)
            ax[1].text(steps[-1], (3e-12, 3e-4)[j], label, color=color, ha="right")
        gap = np.median(found.gap("neither")[:, 1], axis=0)
        ax[1].plot(steps[1:], gap[1:], color=style.PLAIN, lw=1.2)
        ax[1].text(steps[-1], 30, "no decay, same rate", color=style.PLAIN, ha="right", va="bottom")
        ax[1].set(yscale="log", ylim=(1e-17, 1e4), xlabel="step", ylabel="gap to decay's loss")
    return ax


def ratios(rows: Mapping[str, Interval], *, gray: str = " ", ax: Axes | None = None) -> Axes:
    """Draw ratios with their intervals on a logarithmic axis, the line at 1; names that begin with `gray` in gray."""
    with style.axes(ax, size=(6.4, 1.2 + 0.3 * len(rows))) as ax:
        ax.axvline(1, color=style.THEORY, ls="--", lw=1.2)
        for y, (name, value) in enumerate(rows.items()):
            color = style.GRAY if name.startswith(gray) else style.NORMALIZED
            ax.plot([value.low, value.high], [y, y], color=color, lw=2)
            ax.plot([value.mean], [y], "o", color=color, ms=6)
        ax.set_yticks(range(len(rows)), list(rows))
        ax.set(xscale="log", ylim=(len(rows) - 0.5, -0.5))
        ticks = [
            t for t in (0.25, 0.5, 1, 2, 4, 8, 16, 32) if ax.get_xlim()[0] <= t <= ax.get_xlim()[1]
        ]
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        ax.set_xlabel("plain / with BN  (above 1: BN is smoother)")
    return ax


def held_out_by_group(runs: Arms, *, confidence: float = 0.95, ax: Axes | None = None) -> Axes:
    """Draw the held-out loss against the size of the groups that are normalized apart, and with their noise alone."""
    with style.axes(ax, size=(6.4, 3.6)) as ax:
        looks = {
            "ghost": (style.NORMALIZED, "s", "groups of the batch"),
            "noise": (style.GREEN, "^", "whole batch and noise"),
        }
        for kind, (color, marker, label) in looks.items():
            sizes = [int(a.split()[1]) for a in runs.arms if a.startswith(kind)]
            losses = np.stack([runs.of(f"{kind} {n}", "held_out") for n in sizes], axis=1)
            values = t_interval(losses, confidence=confidence, geometric=True)
            shift = 1.06 if kind == "noise" else 1.0
            ax.errorbar(
                np.array(sizes) * shift,
                values.mean,
                values.bars,
                color=color,
                marker=marker,
                capsize=2,
            )
            up = kind == "ghost"
            ax.annotate(
                label, (sizes[1] * shift, values.mean[1]), (6, 8 if up else -10),
                textcoords="offset points", color=color, va="bottom" if up else "top",
            )  # fmt: skip
        plain = t_interval(runs.of("plain", "held_out"), geometric=True).mean
        ax.axhline(plain, color=style.PLAIN, lw=1.5)
        ax.text(64, plain, "plain net", color=style.PLAIN, ha="right", va="bottom")
        ax.set_xscale("log", base=2)
        ticks = [2, 4, 8, 16, 32, 64]
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.set(xlabel="examples that share their statistics", ylabel="loss on held-out digits")
    return ax


@Depth.figure
def signal(found: Depth, *, ax: np.ndarray | None = None) -> np.ndarray:
    """Draw the effective rank over the layers of plain stacks, and the size of the signal with shortcuts."""
    layers = np.arange(1, found.rank.shape[2] + 1)
    with style.axes(ax, columns=2, size=(6.4, 3.4)) as ax:
        for arm, color in (("plain", style.PLAIN), ("BN", style.NORMALIZED)):
            rank = found.rank[:, found.arms.index(arm)]
            ax[0].plot(layers, rank.mean(axis=0), color=color)
            ax[0].fill_between(
                layers, rank.min(axis=0), rank.max(axis=0), color=color, alpha=0.2, lw=0
            )
            square = found.square[:, found.arms.index(f"residual {arm}")]
            ax[1].plot(layers, square.mean(axis=0), color=color)
            ax[0].text(30, rank.mean(axis=0)[30] + 0.6, arm, color=color, ha="center")
        first = found.square[:, found.arms.index("residual BN"), 0].mean()
        ax[1].plot(layers, first + layers - 1, color=style.THEORY, ls="--", lw=1.2)
        ax[1].plot(layers, first * 2.0 ** (layers - 1), color=style.THEORY, ls="--", lw=1.2)
        ax[1].text(2, 1e14, "plain: doubles", color=style.PLAIN, ha="left")
        ax[1].text(38, 200, "BN: adds 1", color=style.NORMALIZED, ha="center")
        ax[0].set(
            xlabel="layer",
            ylabel="effective rank of 64 examples",
            title="no shortcuts",
            ylim=(0, None),
        )
        ax[1].set(
            xlabel="layer", ylabel="mean square of the signal", yscale="log", title="shortcuts"
        )
    return ax


def deep_losses(runs: Arms, *, ax: Axes | None = None) -> Axes:
    """Draw each seed's loss at the end for the deep networks."""
    colors = {"plain": style.PLAIN, "BN": style.NORMALIZED}
    with style.axes(ax, size=(6.4, 3.2)) as ax:
        for y, arm in enumerate(runs.arms):
            loss = np.minimum(runs.of(arm), np.log(10))
            color = colors.get(arm.split()[-1], style.GREEN)
            ax.plot(
                loss,
                y + np.linspace(-0.22, 0.22, len(loss)),
                "o",
                color=color,
                ms=5,
                alpha=0.7,
                mew=0,
            )
        ax.axvline(np.log(10), color=style.THEORY, ls="--", lw=1.2)
        ax.text(np.log(10) * 0.97, len(runs.arms) - 0.6, "guessing", color=style.THEORY, ha="right")
        ax.set_yticks(range(len(runs.arms)), list(runs.arms))
        ax.set(
            xscale="log", ylim=(len(runs.arms) - 0.5, -0.5), xlabel="training loss after 100 steps"
        )
        ticks = [0.1, 0.2, 0.5, 1, 2]
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
    return ax
