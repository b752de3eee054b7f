"""Figures of Chapter 2: shift between data sets, along a chain of cups, and inside a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from bnlab.chapters import style
from bnlab.chapters.covariate_shift.results import CupGame, DepthProfile, DriftRun, ShiftedFit
from bnlab.stats import t_interval

__all__ = [
    "activation_percentiles",
    "cup_correlation",
    "cup_error",
    "depth_profile",
    "drift_since_start",
    "one_step_drift",
    "saturated_share",
    "shifted_fit",
]

PLACES = {
    "linear2": "layer 2",
    "act1": "sigmoid 1",
    "act2": "sigmoid 2",
    "act3": "sigmoid 3",
}
LISTENERS = {
    "nobody": ("nobody", style.PLAIN, "-"),
    "listener": ("only the listener", style.GREEN, "--"),
    "everyone": ("everyone", style.NORMALIZED, "-"),
}


@ShiftedFit.figure
def shifted_fit(result: ShiftedFit, *, ax: Axes | None = None) -> Axes:
    """Draw the points of the first seed, the truth, and the lines fitted to them."""
    with style.axes(ax) as ax:
        ax.plot(result.x_train, result.y_train, "o", color=style.PLAIN, alpha=0.35, ms=4)
        ax.plot(result.x_new, result.y_new, "s", color=style.NORMALIZED, alpha=0.35, ms=4)
        ax.plot(result.grid, result.truth, color=style.THEORY, label="truth")
        for name, color, dash in (
            ("line", style.PLAIN, "-"),
            ("weighted line", style.GREEN, "--"),
            ("line for new inputs", style.NORMALIZED, ":"),
        ):
            curve = result.curves[result.fits.index(name)]
            ax.plot(result.grid, curve, color=color, ls=dash, lw=2.5, label=name)
        ax.set(xlabel="x (circles: training, squares: new)", ylabel="y", ylim=(-2, 3))
        ax.legend(loc="upper left")
    return ax


@CupGame.figure_of_several
def cup_correlation(games: Sequence[CupGame], *, ax: Axes | None = None) -> Axes:
    """Draw the share of the message that survives against the number of cups, with 95% intervals."""
    with style.axes(ax) as ax:
        for game in games:
            label, color, dash = LISTENERS[game.standard]
            _band(ax, _cups(game), game.correlation, color, label, dash)
        ax.set(xlabel="cups", ylabel="squared correlation", ylim=(0, 1.02))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _name_lines(ax)
    return ax


@CupGame.figure_of_several
def cup_error(games: Sequence[CupGame], *, ax: Axes | None = None) -> Axes:
    """Draw the old decoder's error after the players changed; geometric means with 95% intervals."""
    with style.axes(ax) as ax:
        for game in games:
            label, color, dash = LISTENERS[game.standard]
            _band(ax, _cups(game), game.stale_error, color, label, dash, geometric=True)
        ax.axhline(1, color=style.THEORY, lw=1, ls=":")
        ax.annotate("knowing nothing", (1, 1), xytext=(0, 4), textcoords="offset points")
        ax.set(xlabel="cups", ylabel="error of the old decoder", yscale="log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain_numbers(ax)
        _name_lines(ax)
    return ax


@DriftRun.figure_of_several
def activation_percentiles(
    runs: Sequence[DriftRun], *, of: str = "unit", ax: np.ndarray | None = None
) -> np.ndarray:
    """Draw the 15th, 50th and 85th percentile of sigmoid 3's input: thin lines seeds, thick their mean.

    `of` is ``"unit"`` for the layer's first unit or ``"pooled"`` for all its units together.
    """
    with style.axes(ax, columns=len(runs), sharey=True) as ax:
        for panel, run in zip(np.atleast_1d(ax), runs, strict=True):
            color = _color(run)
            values = getattr(run, of)
            for i, (dash, width) in enumerate((("--", 1.5), ("-", 2.5), ("--", 1.5))):
                panel.plot(run.steps, values[:, :, i].T, color=color, alpha=0.25, lw=0.8)
                panel.plot(run.steps, values[:, :, i].mean(axis=0), dash, color=color, lw=width)
            panel.set(title=run.label, xlabel="step")
        np.atleast_1d(ax)[0].set_ylabel("input of sigmoid 3")
    return ax


@DriftRun.figure_of_several
def drift_since_start(
    runs: Sequence[DriftRun],
    *,
    layer: str = "linear2",
    measure: str = "wasserstein",
    ax: Axes | None = None,
) -> Axes:
    """Draw how far a layer's input has moved since step 0, mean over seeds with 95% intervals."""
    with style.axes(ax) as ax:
        for run, dash in zip(runs, ("-", "-", "--"), strict=False):
            values = getattr(run, measure)[:, 1:, run.layers.index(layer)]
            _band(ax, run.steps[1:], values, _color(run), run.label, dash)
        unit = "std at the start = 1" if measure == "wasserstein" else "in the input's units"
        ax.set(xlabel="step", ylabel=f"drift ({unit})", yscale="log")
        _plain_numbers(ax)
        ax.set_title(f"input of {PLACES[layer]}")
        _name_lines(ax)
    return ax


@DriftRun.figure_of_several
def one_step_drift(
    runs: Sequence[DriftRun], *, time: int = 0, ax: np.ndarray | None = None
) -> np.ndarray:
    """Draw, layer by layer, the drift by one step of layer 1 alone and of all layers."""
    with style.axes(ax, columns=len(runs), sharey=True) as ax:
        for panel, run in zip(np.atleast_1d(ax), runs, strict=True):
            at = int(np.flatnonzero(run.one_step_times == time)[0])
            x = np.arange(len(run.layers))
            for values, marker, side, label in (
                (run.one_step_first, "o", -0.1, "layer 1 alone"),
                (run.one_step_all, "s", 0.1, "all layers"),
            ):
                mid = t_interval(values[:, at])
                filled = _color(run) if marker == "s" else "white"
                panel.errorbar(
                    x + side, mid.mean, mid.bars, fmt=marker, ms=7, color=_color(run), mfc=filled, label=label
                )  # fmt: skip
            panel.set(title=run.label, yscale="log")
            panel.margins(x=0.12)
            panel.set_xticks(x, [PLACES[name] for name in run.layers], rotation=35, ha="right")
            _plain_numbers(panel)
        np.atleast_1d(ax)[0].set_ylabel("drift in one step (std = 1)")
        np.atleast_1d(ax)[0].legend(title="step of", loc="upper left")
    return ax


@DepthProfile.figure_of_several
def depth_profile(
    profiles: Sequence[DepthProfile], *, quantity: str = "spread", ax: Axes | None = None
) -> Axes:
    """Draw a quantity against depth: points geometric means (95% intervals), lines mean-field theory."""
    names = {
        "size": "size",
        "spread": "spread over examples",
        "gradient": "gradient (last layer = 1)",
    }
    with style.axes(ax) as ax:
        kinds, ends = {profile.activation for profile in profiles}, []
        at = 0 if quantity == "gradient" else -1  # where the curves are apart
        plain = iter(zip((style.PLAIN, style.GREEN, style.ROSE, style.OLIVE), "os^v", strict=True))
        for profile in profiles:
            color, marker = (style.NORMALIZED, "D") if profile.normalized else next(plain)
            values = getattr(profile, quantity)
            layers = np.arange(1, values.shape[1] + 1)
            mid = t_interval(values, geometric=True)
            name = profile.activation if len(kinds) > 1 else f"std {profile.weight_std:.3g}"
            name += " with BN" if profile.normalized else ""
            theory = getattr(profile, f"{quantity}_theory")
            ax.plot(layers, theory, color=style.THEORY, ls="--", lw=1.2)
            ax.errorbar(layers, mid.mean, mid.bars, fmt=marker, ms=5, color=color, label=name)
            ends.append((name, color, layers[at], mid.mean[at]))
        ax.set(xlabel="layer", ylabel=names[quantity], yscale="log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _name(ax, ends, left=at == 0)
    return ax


@DriftRun.figure_of_several
def saturated_share(
    runs: Sequence[DriftRun], *, layer: str = "act1", ax: Axes | None = None
) -> Axes:
    """Draw the share of saturated sigmoid inputs during training, with 95% intervals."""
    with style.axes(ax) as ax:
        for run, dash in zip(runs, ("-", "-", "--"), strict=False):
            values = 100 * run.saturated[:, :, run.layers.index(layer)]
            _band(ax, run.steps, values, _color(run), run.label, dash)
        ax.set(xlabel="step", ylabel="saturated (%)", title=f"inputs of {PLACES[layer]}")
        ax.set_ylim(bottom=0)
        _name_lines(ax)
    return ax


def _name_lines(ax: Axes) -> None:
    """Write each labelled line's name at its right end."""
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
    _name(ax, [(n.get_label(), n.get_color(), n.get_xdata()[-1], n.get_ydata()[-1]) for n in lines])


def _name(ax: Axes, ends: list[tuple], *, left: bool = False) -> None:
    """Write names beside the ends of curves, no two closer than a line of text; make room for them."""
    low, high = ax.get_xlim()
    ax.set_xticks([tick for tick in ax.get_xticks() if low <= tick <= high])
    room = (0.45 if left else 0.36) * (high - low)
    ax.set_xlim((low - room, high) if left else (low, high + room))
    pixel = 72 / ax.figure.dpi  # in points
    at = -np.inf
    for name, color, x, y in sorted(ends, key=lambda end: end[3]):
        height = ax.transData.transform((x, y))[1] * pixel
        at = max(height, at + 15)
        ax.annotate(
            name,
            (x, y),
            (-8 if left else 8, at - height),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            color=color,
        )


def _plain_numbers(ax: Axes) -> None:
    """Write 0.1 and not a power of ten; on less than two decades of a logarithmic axis also 0.2 and 0.5."""
    low, high = ax.get_ylim()
    if high / low < 100:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _color(run: DriftRun) -> str:
    return style.NORMALIZED if run.normalized else style.PLAIN


def _cups(game: CupGame) -> np.ndarray:
    return np.arange(1, game.correlation.shape[1] + 1)


def _band(ax, x, values, color, label, dash="-", *, geometric=False) -> None:
    mid = t_interval(values, geometric=geometric)
    ax.plot(x, mid.mean, dash, color=color, label=label)
    ax.fill_between(x, mid.low, mid.high, color=color, alpha=0.2, lw=0)
