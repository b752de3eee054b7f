"""Figures of Chapter 3: parameters that run away while the output stands still."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from bnlab.chapters.naive_failure.results import DetachedOnDigits, NaiveRun, RoundingSweep, Stall
from bnlab.chapters.style import GRAY, NORMALIZED, PLAIN, ROSE, THEORY, axes
from bnlab.stats import t_interval

__all__ = [
    "bias_by_learning_rate",
    "detached_on_digits",
    "naive_bias",
    "naive_scale",
    "rounding_sweep",
    "stall",
]

ARM_STYLES = ((GRAY, ":"), (NORMALIZED, "-"), (PLAIN, "-"), (ROSE, "--"))


def naive_bias(
    run: NaiveRun, *, predicted: np.ndarray, right: NaiveRun, ax: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Draw the bias and the loss of a naive run beside one that differentiates its statistics.

    Parameters
    ----------
    run, right : NaiveRun
        The naive run, and the same with ``through_statistics=True``.
    predicted : ndarray
        The naive bias in closed form, at every state.
    ax : two Axes, optional
        Where to draw the bias and the loss.
    """
    with axes(ax, columns=2, size=(6.4, 3.6)) as (bias, loss):
        _theory(bias, predicted)
        bias.plot(run.b, color=PLAIN, label="naive")
        bias.plot(right.b, color=NORMALIZED, linestyle="--", label="through E[x]")
        bias.set(xlabel="step", title="bias b")
        _say(bias, "naive,\nas predicted (dots)", (0.05, 0.78), PLAIN)
        _say(bias, "through E[x]", (0.45, 0.1), NORMALIZED)
        loss.plot(run.loss, color=PLAIN)
        loss.plot(right.loss, color=NORMALIZED, linestyle="--")
        loss.set(
            xlabel="step", title="loss", ylim=(0, 1.25 * max(run.loss.max(), right.loss.max()))
        )
        _say(loss, "both", (0.45, 0.68), "0.25")
        return bias, loss


def bias_by_learning_rate(
    runs: Sequence[NaiveRun],
    *,
    predicted: Sequence[np.ndarray],
    ax: Sequence[Axes] | None = None,
) -> Sequence[Axes]:
    """Draw the naive bias of several runs, a panel for each learning rate, with its closed form as dots.

    Parameters
    ----------
    runs : sequence of NaiveRun
        One run a learning rate.
    predicted : sequence of ndarray
        The closed form for each run.
    ax : sequence of Axes, optional
        Where to draw, one for each run.
    """
    count = len(runs)
    grid = {"rows": -(-count // 2), "columns": min(count, 2), "squeeze": False}
    with axes(ax, size=(6.4, 4.8), sharex=True, sharey=True, **grid) as ax:
        panels = np.ravel(np.asarray(ax))
        for panel, run, theory in zip(panels, runs, predicted, strict=True):
            _theory(panel, theory)
            panel.plot(run.b, color=PLAIN)
            panel.set_title(f"lr {run.lr:g}", loc="left")
            panel.margins(y=0.1)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        for panel in panels[-2:]:
            panel.set_xlabel("step")
        for panel in panels[::2]:
            panel.set_ylabel("bias b")
        return panels


def naive_scale(
    run: NaiveRun, *, predicted: np.ndarray, ax: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Draw the scale and the loss of a naive run, with the first-order prediction of the scale.

    Parameters
    ----------
    run : NaiveRun
        A run of a variant that scales.
    predicted : ndarray
        The scale by the square-root law, NaN where it has run out.
    ax : two Axes, optional
        Where to draw the scale and the loss.
    """
    with axes(ax, columns=2, size=(6.4, 3.6)) as (scale, loss):
        scale.axhline(0, color="0.7", linewidth=1)
        scale.plot(run.a, color=PLAIN, label="naive")
        scale.plot(predicted, color=THEORY, linestyle=":", linewidth=3, label="predicted")
        scale.set(xlabel="step", title="scale a (dotted: predicted)")
        loss.plot(run.loss, color=PLAIN)
        loss.set(xlabel="step", title="loss", ylim=(0, 1.25 * run.loss.max()))
        return scale, loss


@RoundingSweep.figure
def rounding_sweep(result: RoundingSweep, *, ax: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw how far output and loss are off in float32 as the bias grows, with the prediction.

    Parameters
    ----------
    result : RoundingSweep
        What was measured.
    ax : two Axes, optional
        Where to draw output error and loss.
    """
    with axes(ax, columns=2, size=(6.4, 3.6)) as (error, loss):
        error.loglog(
            result.b, result.predicted_error, color=THEORY, linestyle=":", label="predicted"
        )
        error.loglog(
            result.b, result.output_error, "o", color=PLAIN, markersize=4, label="measured"
        )
        error.set(xlabel="bias b", title="error of the output")
        _say(error, "measured", (0.08, 0.7), PLAIN)
        _say(error, "predicted\n(dotted)", (0.6, 0.3), THEORY)
        loss.axhline(result.exact_loss, color=THEORY, linestyle=":", label="exact")
        loss.semilogx(result.b, result.loss, "o-", color=PLAIN, markersize=4, label="float32")
        loss.set(xlabel="bias b", title="loss", ylim=(0, 1.1 * result.loss.max()))
        _say(loss, "float32", (0.08, 0.85), PLAIN)
        _say(loss, "exact (dotted)", (0.08, 0.62), THEORY)
        for panel in (error, loss):
            panel.set_xticks([1, 1e4, 1e8])
            panel.xaxis.set_minor_locator(NullLocator())
        return error, loss


@Stall.figure
def stall(result: Stall, *, ax: Axes | None = None) -> Axes:
    """Draw a number that grows by constant steps in low precision, beside exact arithmetic.

    Parameters
    ----------
    result : Stall
        What was measured.
    ax : Axes, optional
        Where to draw.
    """
    with axes(ax) as ax:
        millions = result.count / 1e6
        ax.plot(millions, result.count * result.step / 1e6, ":", color=THEORY, label="exact")
        ax.plot(millions, result.b / 1e6, color=PLAIN, label=result.dtype)
        ax.axhline(result.predicted_b / 1e6, color="0.6", linewidth=1)
        ax.annotate(
            "predicted end", (0, result.predicted_b / 1e6), (0, 4), textcoords="offset points"
        )
        _say(ax, "exact", (0.7, 0.9), THEORY)
        _say(ax, result.dtype, (0.8, 0.56), PLAIN)
        ax.set(xlabel="steps, in millions", ylabel="bias b, in millions")
        return ax


def detached_on_digits(
    result: DetachedOnDigits, *, lr: float, ax: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Draw loss, bias and weight norm of every arm at one learning rate: mean and 95% t-interval.

    Parameters
    ----------
    result : DetachedOnDigits
        What was measured.
    lr : float
        One of its learning rates.
    ax : three Axes, optional
        Where to draw the loss, the bias's way and the weights' growth.
    """
    column = result.lrs.index(lr)
    panels = {
        "training loss, mean of 20 steps": _smooth(result.loss, 20),
        "how far b of layer 1 has moved": result.bias_shift,
        "norm of W of layer 1, relative to its start": result.weight_growth,
    }
    with axes(ax, rows=3, size=(6.4, 8.4), sharex=True) as ax:
        for panel, (title, values) in zip(ax, panels.items(), strict=True):
            for row, (arm, (color, line)) in enumerate(zip(result.arms, ARM_STYLES, strict=False)):
                band = t_interval(values[:, row, column])
                at = np.arange(len(band.mean)) + result.loss.shape[-1] + 1 - len(band.mean)
                panel.plot(at, band.mean, color=color, linestyle=line, label=arm)
                panel.fill_between(at, band.low, band.high, color=color, alpha=0.2, linewidth=0)
            panel.set_title(title, loc="left")
        ax[0].set_ylim(0, None)
        ax[-1].set_xlabel("step")
        for panel in ax:
            _label_ends(panel)
        return ax


def _theory(ax: Axes, values: np.ndarray) -> None:
    every = max(1, len(values) // 12)
    at = np.arange(0, len(values), every)
    ax.plot(at, values[at], "o", color=THEORY, markersize=5, label="predicted")


def _say(ax: Axes, text: str, at: tuple[float, float], color: str) -> None:
    """Write beside a curve, in its color; `at` is in shares of the panel's width and height."""
    ax.text(*at, text, color=color, transform=ax.transAxes)


def _label_ends(ax: Axes) -> None:
    """Write each curve's label at its right end; labels that would cover each other move apart."""
    low, high = ax.get_ylim()
    apart, floor = 0.1 * (high - low), low
    for line in sorted(ax.lines, key=lambda line: line.get_ydata()[-1]):
        y = max(line.get_ydata()[-1], floor)
        floor = y + apart
        ax.annotate(
            line.get_label(),
            (1, y),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color=line.get_color(),
            va="center",
        )


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(values, width, axis=-1)
    return windows.mean(axis=-1)
