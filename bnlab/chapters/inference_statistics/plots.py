"""Figures of Chapter 7: statistics of batches, running averages, and networks after training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from bnlab.chapters import style
from bnlab.chapters.inference_statistics.results import (
    BatchMoments,
    Companions,
    FoldOffsets,
    ModeGradients,
    PixelDependence,
    RunningAverage,
    StatisticsRace,
)
from bnlab.stats import t_interval

__all__ = [
    "batch_variances",
    "bessel_factor",
    "companions",
    "fold_offsets",
    "mode_gradients",
    "pixel_dependence",
    "root_of_variance",
    "running_averages",
    "statistics_race",
    "tracking_error",
]

# No curve here is a network without normalization, so none is orange.
COLORS = (style.NORMALIZED, style.GREEN, style.ROSE, style.OLIVE, style.SKY, style.GRAY)
MARKERS = ("o", "s", "^", "D", "v", "P")
LABELS = {3: (2.3, 0.25), 10: (1.5, 0.6), 100: (1.22, 2.0)}  # where the histogram of m leaves room


@BatchMoments.figure
def batch_variances(
    result: BatchMoments, *, sizes: Sequence[int] = (3, 10, 100), ax: Axes | None = None
) -> Axes:
    """Draw how the unbiased variance of a batch scatters, with the chi-square law of a bell."""
    with style.axes(ax) as ax:
        for m, color in zip(sizes, COLORS, strict=False):
            j = list(result.batch_sizes).index(m)
            ax.hist(
                result.unbiased[:, j], bins=np.linspace(0, 4, 81), density=True, histtype="stepfilled",
                color=color, alpha=0.3,
            )  # fmt: skip
            ax.annotate(f"m = {m}", LABELS.get(m, (1.5, 1.0)), color=color)
            if result.kurtosis == 0:
                v = np.linspace(0.01, 4, 400)
                k = (m - 1) / 2  # (m - 1) s^2 is chi-square with m - 1 degrees of freedom
                log = k * math.log(k) + (k - 1) * np.log(v) - k * v - math.lgamma(k)
                ax.plot(v, np.exp(log), color=color, lw=1.5)
        ax.axvline(1, color=style.THEORY, ls=":", lw=1.5)
        ax.set(xlabel="variance of the batch / variance of the population", ylabel="density")
        ax.set(xlim=(0, 4))
    return ax


@BatchMoments.figure_of_several
def bessel_factor(results: Sequence[BatchMoments], *, ax: Axes | None = None) -> Axes:
    """Draw the average batch variance against m, divided by m and by m - 1, with 95% intervals."""
    with style.axes(ax) as ax:
        m = results[0].batch_sizes
        fine = np.geomspace(m[0], m[-1], 100)
        ax.plot(fine, (fine - 1) / fine, color=style.THEORY, ls="--", lw=1.5)
        ax.axhline(1, color=style.THEORY, ls=":", lw=1.5)
        for i, result in enumerate(results):
            shift = 1.06 ** (i - (len(results) - 1) / 2)
            for values, color, fill in (
                (result.biased, style.ROSE, "none"),
                (result.unbiased, style.NORMALIZED, None),
            ):
                _points(
                    ax, m * shift, t_interval(values), color=color, marker=MARKERS[i],
                    mfc=fill, label=result.source if fill is None else None,
                )  # fmt: skip
        ax.annotate("divided by m,\nand (m − 1)/m", (fine[30], 0.7), color=style.ROSE, va="center")
        ax.annotate("divided by m − 1", (fine[50], 1.04), color=style.NORMALIZED)
        ax.set(xlabel="values in a batch, m", ylabel="average variance", ylim=(0.4, 1.15))
        _log_ticks(ax, m)
        ax.legend(loc="lower right")
    return ax


def root_of_variance(
    results: Sequence[BatchMoments], c4: np.ndarray, *, ax: Axes | None = None
) -> Axes:
    """Draw the average root of the unbiased variance against m, beside the Gaussian law `c4`."""
    with style.axes(ax) as ax:
        m = results[0].batch_sizes
        ax.plot(m, c4, "_", ms=22, mew=2, color=style.THEORY, label="theory for the bell")
        ax.axhline(1, color=style.THEORY, ls=":", lw=1.5)
        for result, color, marker in zip(results, COLORS, MARKERS, strict=False):
            root = t_interval(np.sqrt(result.unbiased))
            _points(ax, m, root, color=color, marker=marker, label=result.source)
        ax.set(xlabel="values in a batch, m", ylabel="average std", ylim=(0.65, 1.05))
        _log_ticks(ax, m)
        ax.legend(loc="lower right")
    return ax


@PixelDependence.figure
def pixel_dependence(result: PixelDependence, *, ax: Axes | None = None) -> Axes:
    """Draw the average variance of a batch of whole images before and after the factor m/(m - 1)."""
    with style.axes(ax) as ax:
        m = result.batch_sizes
        place = np.arange(len(m))
        before, after = (t_interval(result.corrected * f) for f in ((m - 1) / m, 1.0))
        ax.plot(place, result.predicted, "_", ms=22, mew=2, color=style.THEORY, label="theory")
        _points(ax, place, before, color=style.ROSE, marker="o", mfc="none")
        _points(ax, place, after, color=style.NORMALIZED, marker="s")
        ax.annotate(
            "divided by m", (place[-1], before.mean[-1]), color=style.ROSE,
            xytext=(-10, 0), textcoords="offset points", ha="right", va="center",
        )  # fmt: skip
        ax.annotate(
            "divided by m − 1", (place[-1], after.mean[-1]), color=style.NORMALIZED,
            xytext=(10, 14), textcoords="offset points", ha="right",
        )  # fmt: skip
        ax.axhline(1, color=style.THEORY, ls=":", lw=1.5)
        ax.set_xticks(place, [f"{p}" for p in result.positions])
        ax.set(xlabel="positions in an image", ylabel="average / true variance", ylim=(0.45, 1.08))
        ax.legend(loc="lower left")
    return ax


@RunningAverage.figure
def running_averages(
    result: RunningAverage,
    *,
    statistic: str = "mean",
    last: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the running mean (or variance) over batches, averaged over runs, with the expectation."""
    with style.axes(ax) as ax:
        steps = np.arange(1, len(result.truth) + 1)[:last]
        values = getattr(result, statistic)
        truth = result.truth if statistic == "mean" else np.full(len(result.truth), result.std**2)
        ax.plot(steps, truth[: len(steps)], color=style.THEORY, ls=":")
        ax.annotate(
            "population", (steps[-1], truth[len(steps) - 1]), color=style.THEORY,
            xytext=(0, 8), textcoords="offset points", ha="right" if statistic == "var" else "center",
        )  # fmt: skip
        for k, momentum in enumerate(result.momenta):
            curves = values[:, k, : len(steps)]
            mean = curves.mean(axis=0)
            ax.plot(steps, mean, color=COLORS[k])
            at = min(len(steps) - 1, (6, 16, 40, 90)[k]) if statistic == "var" else len(steps) - 1
            ax.annotate(
                f"{momentum:g}", (steps[at], mean[at]), color=COLORS[k], weight="bold",
                xytext=(6, -9), textcoords="offset points", va="center",
            )  # fmt: skip
            low, high = np.percentile(curves, (2.5, 97.5), axis=0)
            ax.fill_between(steps, low, high, color=COLORS[k], alpha=0.18, lw=0)
            if statistic == "mean":
                ax.plot(steps, result.expected[k, : len(steps)], color=style.THEORY, ls="--", lw=1)
        ax.set(
            xlabel="batches seen",
            ylabel="running mean" if statistic == "mean" else "running variance",
        )
    return ax


@RunningAverage.figure_of_several
def tracking_error(results: Sequence[RunningAverage], *, ax: Axes | None = None) -> Axes:
    """Draw the root mean square error of the running mean at the end against the momentum."""
    with style.axes(ax) as ax:
        for result, color, marker in zip(results, COLORS, MARKERS, strict=False):
            alpha = np.array(result.momenta)
            fine = np.geomspace(alpha.min(), alpha.max(), 200)
            ax.plot(fine, result.error_theory(fine), color=color, ls="--", lw=1.2)
            ax.plot(alpha, result.final_error, marker, color=color)
            slowest = alpha.argmin()
            ax.annotate(
                f"moves by {result.speed:g}" if result.speed else "stands still",
                (alpha[slowest], result.final_error[slowest]), color=color,
                xytext=(14, 4 if result.speed else -14), textcoords="offset points",
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="momentum (weight of the new batch)")
        ax.set(ylabel="error of the running mean")
        _log_ticks(ax, (0.01, 0.03, 0.1, 0.3, 1), "{:g}")
        ax.yaxis.set_major_locator(FixedLocator([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(0.006, 4)
    return ax


@StatisticsRace.figure
def statistics_race(
    result: StatisticsRace, *, methods: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw held-out accuracy against training steps for each kind of statistics, 95% intervals."""
    with style.axes(ax, size=(6.4, 4.6)) as ax:
        chosen = methods or result.methods
        for i, method in enumerate(chosen):
            values = t_interval(result.accuracy[:, :, result.methods.index(method)])
            x = np.array(result.checkpoints) * 1.05 ** (i - (len(chosen) - 1) / 2)
            yardstick = method == result.methods[-1]
            color = style.NORMALIZED if yardstick else COLORS[1 + i]
            _points(ax, x, values, color=color, marker=MARKERS[i], ls="-")
            if yardstick:
                place, shift, side = (x[-1], values.mean[-1]), (0, 10), "right"
            else:  # beside its steepest rise, where there is room
                k = int(np.diff(values.mean).argmax())
                place = (np.sqrt(x[k] * x[k + 1]), values.mean[k : k + 2].mean())
                shift, side = ((16, -16), "left") if 2 * k < len(x) - 2 else ((-8, -4), "right")
            ax.annotate(
                method.replace(", ", ",\n"), place, color=color,
                xytext=shift, textcoords="offset points", ha=side,
            )  # fmt: skip
        ax.set(xlabel="training steps", ylabel="accuracy on new digits", ylim=(0, 1))
        _log_ticks(ax, result.checkpoints)
    return ax


@Companions.figure
def companions(result: Companions, *, ax: Axes | None = None) -> Axes:
    """Draw held-out accuracy in training mode against the batch size, beside evaluation mode."""
    with style.axes(ax) as ax:
        m = np.array(result.batch_sizes)
        mean = float(result.evaluation.mean())
        ax.axhline(mean, color=style.THEORY, ls="--", lw=1.5)
        ax.annotate("evaluation mode: fixed statistics", (m[0], mean + 0.04), color=style.THEORY)
        for values, color, marker, label in (
            (result.shuffled, style.NORMALIZED, "o", "training mode, shuffled"),
            (result.sorted, style.GREEN, "s", "training mode, one class a batch"),
        ):
            interval = t_interval(values)
            _points(ax, m, interval, color=color, marker=marker, ls="-")
            ax.annotate(
                label, (m[-1], interval.mean[-1]), color=color,
                xytext=(0, -34 if marker == "o" else 12), textcoords="offset points", ha="right",
            )  # fmt: skip
        ax.set(xlabel="digits in a batch", ylabel="accuracy on new digits", ylim=(0, 1))
        _log_ticks(ax, m)
    return ax


@FoldOffsets.figure
def fold_offsets(result: FoldOffsets, *, ax: Axes | None = None) -> Axes:
    """Draw the largest error of one layer, folded and not, against the offset of its outputs."""
    with style.axes(ax) as ax:
        for values, color, marker, label in (
            (result.unfolded_error, style.ROSE, "s", "two layers"),
            (result.folded_error, style.NORMALIZED, "o", "folded into one"),
        ):
            interval = t_interval(values, geometric=True)
            _points(ax, result.offsets, interval, color=color, marker=marker, ls="-")
            ax.annotate(
                label, (result.offsets[-1], interval.mean[-1]), color=color,
                xytext=(-24, 10 if marker == "o" else 0), textcoords="offset points", ha="right",
                va="bottom",
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="bias / standard deviation of the outputs")
        ax.set(ylabel="largest error in float32")
    return ax


@ModeGradients.figure
def mode_gradients(result: ModeGradients, *, ax: Axes | None = None) -> Axes:
    """Draw the share of the squared gradient that training mode keeps against the batch size."""
    with style.axes(ax) as ax:
        m = result.batch_sizes
        fine = np.geomspace(m[0], m[-1], 100)
        ax.plot(fine, result.kept_theory(fine), color=style.THEORY, ls="--", lw=1.5)
        ax.annotate("(m − 2)/m", (fine[50], result.kept_theory(fine[50]) - 0.1), color=style.THEORY)
        _points(ax, m, t_interval(result.kept), color=style.NORMALIZED, marker="o")
        ax.set(xlabel="values in a batch, m", ylabel="squared length kept", ylim=(-0.03, 1.03))
        _log_ticks(ax, m)
    return ax


def _points(ax: Axes, x, interval, *, ls: str = "none", **kwargs) -> None:
    ax.errorbar(x, interval.mean, yerr=interval.bars, ls=ls, ms=6, lw=1.5, capsize=2, **kwargs)


def _log_ticks(ax: Axes, ticks, text: str = "{:d}") -> None:
    ax.set_xscale("log")
    ax.set_xticks(list(ticks), [text.format(t) for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
