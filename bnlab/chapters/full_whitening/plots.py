"""Figures of Chapter 4: whitened clouds, Jacobians, costs, runaway statistics and small batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from bnlab.chapters.full_whitening.results import (
    BatchNeed,
    Clouds,
    EigenvalueCrossing,
    EigenvalueGap,
    Jacobians,
    NaiveWhitening,
    Spectrum,
    WhiteningCost,
)
from bnlab.chapters.style import GREEN, NORMALIZED, PLAIN, ROSE, THEORY, axes, ellipse
from bnlab.stats import t_interval

__all__ = [
    "batch_need",
    "eigenvalue_crossing",
    "eigenvalue_gap",
    "jacobians",
    "naive_whitening",
    "spectrum",
    "whitened_clouds",
    "whitening_cost",
]

WHITENED = (
    GREEN  # what normalizes each feature on its own is blue, as Batch Normalization is everywhere
)


@Clouds.figure
def whitened_clouds(result: Clouds, *, ax: np.ndarray | None = None) -> np.ndarray:
    """Draw a cloud under each scaling, with the ellipse at two standard deviations.

    Parameters
    ----------
    result : Clouds
        What was drawn and scaled.
    ax : 2 by 2 Axes, optional
        Where to draw.
    """
    with axes(ax, rows=2, columns=2, size=(6.4, 6.4), sharex=True, sharey=True) as ax:
        marked = int(np.argmax(result.rows[0, :, 0]))
        for panel, name, rows, covariance in zip(
            np.ravel(ax), result.names, result.rows, result.covariance, strict=True
        ):
            color = {"raw": PLAIN, "standardized": NORMALIZED}.get(name, WHITENED)
            panel.plot(*rows.T, ".", color=color, markersize=4, alpha=0.5)
            panel.plot(*rows[marked], "o", color=THEORY, markersize=7)
            panel.add_patch(ellipse(rows.mean(axis=0), covariance, color=THEORY))
            panel.set(title=name, aspect="equal", xlim=(-6, 6), ylim=(-6, 6))
        return ax


@Jacobians.figure
def jacobians(result: Jacobians, *, ax: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw each Jacobian as a picture, one block for each pair of examples.

    Parameters
    ----------
    result : Jacobians
        What was computed.
    ax : three Axes, optional
        Where to draw.
    """
    count, m, d = result.jacobians.shape[:3]
    with axes(ax, columns=count, size=(6.4, 3.0)) as ax:
        titles = ("held constant", "each feature", "full whitening")
        for panel, title, jacobian in zip(ax, titles, result.jacobians, strict=True):
            matrix = jacobian.reshape(m * d, m * d)
            limit = 0.6 * np.abs(matrix).max()
            panel.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
            for edge in range(d, m * d, d):
                panel.axhline(edge - 0.5, color="0.75", linewidth=0.5)
                panel.axvline(edge - 0.5, color="0.75", linewidth=0.5)
            middle = np.arange(m) * d + (d - 1) / 2
            panel.set_xticks(middle, range(1, m + 1))
            panel.set_yticks(middle, range(1, m + 1))
            panel.tick_params(length=0)
            panel.set_title(title)
            panel.grid(False)
            panel.set_xlabel("input of example")
        ax[0].set_ylabel("output of example")
        return ax


@EigenvalueCrossing.figure
def eigenvalue_crossing(
    result: EigenvalueCrossing, *, ax: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Draw both outputs of one row against the ratio of the two variances, for ZCA and for PCA.

    Parameters
    ----------
    result : EigenvalueCrossing
        What was computed.
    ax : two Axes, optional
        Where to draw.
    """
    with axes(ax, columns=2, size=(6.4, 3.6), sharey=True) as ax:
        for panel, title, rows in zip(ax, ("ZCA", "PCA"), (result.zca, result.pca), strict=True):
            for k, (color, line) in enumerate(((WHITENED, "-"), (ROSE, "--"))):
                panel.plot(result.ratio, rows[:, k], line, color=color, label=f"output {k + 1}")
            panel.axvline(1, color="0.7", linewidth=1, zorder=0)
            panel.set(title=title, xlabel="ratio of the variances")
        ax[0].set_ylabel("whitened value of one row")
        for k, color in enumerate((WHITENED, ROSE)):
            at = (result.ratio[0], result.zca[0, k])
            shift = (4, 5 if result.zca[0, k] < result.zca[0, 1 - k] else -14)
            ax[0].annotate(f"output {k + 1}", at, shift, textcoords="offset points", color=color)
        return ax


@EigenvalueGap.figure
def eigenvalue_gap(result: EigenvalueGap, *, ax: Axes | None = None) -> Axes:
    """Draw the error of both gradients as two eigenvalues come together: median over seeds.

    Parameters
    ----------
    result : EigenvalueGap
        What was measured; the gap 0 has no place on the axis.
    ax : Axes, optional
        Where to draw.
    """
    with axes(ax, size=(6.4, 4.8)) as ax:
        for i, (dtype, line) in enumerate(zip(result.dtypes, ("--", "-"), strict=False)):
            for error, name, color in (
                (result.eigh_error, "through eigh", PLAIN),
                (result.closed_error, "closed form", NORMALIZED),
            ):
                median = np.median(error[i], axis=0)
                shown = (result.gaps > 0) & np.isfinite(median)
                _name_curve(ax, f"{name}, {dtype}", result.gaps[shown], median[shown], color)
                ax.loglog(
                    result.gaps[shown], median[shown], line, color=color, label=f"{name}, {dtype}"
                )
                if not shown[result.gaps > 0].all():
                    end = result.gaps[shown][-1], median[shown][-1]
                    ax.plot(*end, "x", color=color)
                    ax.annotate("then NaN", end, (4, 6), textcoords="offset points", color=color)
        ax.set(xlabel="relative gap of two eigenvalues", ylabel="relative error of dx")
        ax.set(xlim=(1e-17, 2), ylim=(1e-17, 1e2), xticks=[1e-16, 1e-12, 1e-8, 1e-4, 1])
        return ax


@WhiteningCost.figure
def whitening_cost(result: WhiteningCost, *, ax: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw the median seconds of both passes over each sweep, with the range of the repeats.

    Parameters
    ----------
    result : WhiteningCost
        What was measured.
    ax : three Axes, optional
        Where to draw, one a sweep.
    """
    titles = {"rows": "n grows", "features": "d grows", "both": "both, n = 2d"}
    with axes(ax, columns=3, size=(6.4, 3.6), sharey=True) as ax:
        for panel, (sweep, title) in zip(ax, titles.items(), strict=True):
            here = np.array(result.sweeps) == sweep
            at = (result.rows if sweep == "rows" else result.features)[here]
            for seconds, name, color, line in (
                (result.full, "full whitening", WHITENED, "o-"),
                (result.per_feature, "each feature", NORMALIZED, "s--"),
            ):
                values = 1e3 * seconds[:, here]
                panel.loglog(at, np.median(values, axis=0), line, color=color, label=name)
                panel.fill_between(
                    at, values.min(axis=0), values.max(axis=0), color=color, alpha=0.2, linewidth=0
                )
            panel.set(title=title, xlabel="n" if sweep == "rows" else "d")
            panel.xaxis.set_major_locator(FixedLocator([at[0], at[-1]]))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xticks([at[0], at[-1]], [f"{at[0]}", f"{at[-1]}"])
        ax[0].set_ylabel("milliseconds")
        ax[1].text(0.05, 0.85, "full\nwhitening", color=WHITENED, transform=ax[1].transAxes)
        ax[1].text(0.35, 0.05, "each\nfeature", color=NORMALIZED, transform=ax[1].transAxes)
        return ax


def naive_whitening(
    naive: NaiveWhitening, right: NaiveWhitening, *, ax: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Draw what runs away, and the loss: mean over seeds with a 95% t-interval.

    Parameters
    ----------
    naive, right : NaiveWhitening
        The run with constant statistics, and the same with their gradients.
    ax : two Axes, optional
        Where to draw the parameter (or the eigenvalues of the covariance) and the loss.
    """
    with axes(ax, columns=2, size=(6.4, 3.6)) as (what, loss):
        if naive.trains == "bias":
            _bands(what, naive.bias, right.bias)
            every = np.arange(0, naive.bias.shape[1], naive.bias.shape[1] // 8)
            what.plot(every, naive.predicted_bias.mean() * every, "o", color=THEORY, markersize=5)
            what.set_title("length of b")
        else:
            for k in range(naive.variances.shape[2]):
                _bands(what, naive.variances[..., k], right.variances[..., k])
            what.set_title("eigenvalues of the covariance")
        _bands(loss, naive.loss, right.loss)
        what.text(0.05, 0.88, "held constant", color=PLAIN, transform=what.transAxes)
        what.text(0.42, 0.1, "differentiated", color=NORMALIZED, transform=what.transAxes)
        loss.text(0.45, 0.62, "both", color=THEORY, transform=loss.transAxes)
        loss.set(title="loss", ylim=(0, 1.35 * naive.loss.mean(axis=0).max()))
        for panel in (what, loss):
            panel.set_xlabel("step")
        return what, loss


@BatchNeed.figure
def batch_need(result: BatchNeed, *, ax: Axes | None = None) -> Axes:
    """Draw the error that the statistics of one batch bring, against its size, with the theory.

    Parameters
    ----------
    result : BatchNeed
        What was measured.
    ax : Axes, optional
        Where to draw.
    """
    with axes(ax, size=(6.4, 3.9)) as ax:
        ratio = result.sizes / result.features
        for error, theory, name, color, marker in (
            (result.full_error, result.full_theory, "full whitening", WHITENED, "o"),
            (result.per_feature_error, result.per_feature_theory, "each feature", NORMALIZED, "s"),
        ):
            band = t_interval(error)
            ax.loglog(ratio, theory, ":", color=THEORY, linewidth=2)
            ax.errorbar(ratio, band.mean, band.bars,
                        fmt=marker, color=color, label=name)  # fmt: skip
            at = len(ratio) // 2
            ax.annotate(
                name, (ratio[at], band.mean[at]), (6, 8), textcoords="offset points", color=color
            )
        ax.set(xlabel="rows per feature, m / d", ylabel="error of a value")
        ax.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
        ax.xaxis.set_minor_locator(NullLocator())
        return ax


@Spectrum.figure
def spectrum(result: Spectrum, *, ax: Axes | None = None) -> Axes:
    """Draw the eigenvalues of batch covariances of white data, with their density in theory.

    Parameters
    ----------
    result : Spectrum
        What was measured.
    ax : Axes, optional
        Where to draw.
    """
    with axes(ax, size=(6.4, 3.9)) as ax:
        ax.hist(
            result.eigenvalues.ravel(),
            bins=30,
            density=True,
            color=WHITENED,
            alpha=0.4,
            label="measured",
        )
        ax.plot(result.grid, result.density, color=THEORY, label="theory")
        ax.axvline(1, color=THEORY, linestyle="--", linewidth=1.5)
        top = result.density.max()
        ax.annotate("the truth: all at 1", (1, 0.9 * top), (5, 0), textcoords="offset points")
        ax.annotate("theory", (0.5, 0.72 * top), (4, 0), textcoords="offset points", color=THEORY)
        ax.set(xlabel="variance along a direction, in one batch", ylabel="density")
        return ax


def _name_curve(ax: Axes, name: str, x: np.ndarray, y: np.ndarray, color: str) -> None:
    """Write a name above the left end of a flat curve, or on the free side of a falling one."""
    at, shift, side = int(np.argmin(x)), (0, 5), "left"
    if y.max() > 10 * y.min():  # falling
        at, shift, side = len(x) // 2, (-14, -12), "right"
        if y.min() < 1e-12:
            at, shift, side = int(np.argmin(np.abs(np.log10(x) + 7))), (4, 0), "left"
    ax.annotate(
        name,
        (x[at], y[at]),
        shift,
        textcoords="offset points",
        color=color,
        horizontalalignment=side,
    )


def _bands(ax: Axes, naive: np.ndarray, right: np.ndarray) -> None:
    for values, color, line in ((naive, PLAIN, "-"), (right, NORMALIZED, "--")):
        band, at = t_interval(values), np.arange(values.shape[1])
        ax.plot(at, band.mean, line, color=color, label="_" if ax.lines[2:] else line)
        ax.fill_between(at, band.low, band.high, color=color, alpha=0.2, linewidth=0)
