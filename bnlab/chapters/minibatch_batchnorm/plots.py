"""Figures of Chapter 5: one mini-batch, its scale and shift, and the company a value keeps."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from bnlab.chapters import style
from bnlab.chapters.minibatch_batchnorm.results import (
    BatchMakeup,
    CompanySpread,
    EpsSweep,
    IdentityRun,
    LargestValues,
    NormalizedShape,
)
from bnlab.stats import t_interval

__all__ = [
    "batch_makeup",
    "company_spread",
    "eps_sweep",
    "identity_learned",
    "largest_values",
    "normalized_shape",
]


def identity_learned(
    one: IdentityRun, fresh: IdentityRun, *, ax: np.ndarray | None = None
) -> np.ndarray:
    """Draw the loss on one batch (left) and the scale on fresh batches (right), a line a seed, up to 20."""
    with style.axes(ax, columns=2) as ax:
        left, right = ax
        steps = np.arange(one.loss.shape[1])
        left.semilogy(
            steps, np.maximum(one.loss[:20], 1e-30).T, color=style.NORMALIZED, lw=1, alpha=0.5
        )
        theory = one.loss[:, 0].mean() * (1 - 2 * one.lr) ** (2 * steps)
        left.semilogy(steps, np.maximum(theory, 1e-30), color=style.THEORY, ls="--")
        left.text(0.42, 0.75, "20 seeds\non theory", transform=left.transAxes)
        left.set(title="one batch", xlabel="step", ylabel="loss", yticks=[1, 1e-10, 1e-20, 1e-30])
        right.plot(fresh.gamma[:20].T, color=style.NORMALIZED, lw=1, alpha=0.3)
        right.axhline(fresh.expected_gamma, color=style.THEORY, ls="--")
        right.annotate(
            "theory", (0.7 * steps[-1], fresh.expected_gamma), (0.5, 0.15),
            textcoords="axes fraction", arrowprops={"arrowstyle": "-", "color": style.THEORY}, color=style.THEORY,
        )  # fmt: skip
        right.set(title="fresh batches", xlabel="step", ylabel=r"$\gamma$", ylim=(0.9, 2.6))
    return ax


@LargestValues.figure
def largest_values(result: LargestValues, *, ax: Axes | None = None) -> Axes:
    """Draw the mean over batches of the largest normalized value, beside the bound."""
    looks = {
        "one outlier": (style.ROSE, "o"),
        "Cauchy": (style.GREEN, "s"),
        "normal": (style.NORMALIZED, "^"),
        "uniform": (style.OLIVE, "v"),
    }
    with style.axes(ax) as ax:
        m = np.geomspace(result.m[0], result.m[-1], 200)
        ax.loglog(m, result.bound(m), color=style.THEORY, ls="--", lw=3, zorder=0)
        for kind, values in zip(result.kinds, result.largest.mean(axis=0), strict=True):
            color, marker = looks[kind]
            ax.loglog(result.m, values, color=color, marker=marker, lw=1.5, ms=5)
            name = kind + r", on the bound $\sqrt{m-1}$" * (kind == "one outlier")
            above = kind in ("one outlier", "normal")
            at, ha = (-2, "right") if above else (-min(3, len(values)), "left")
            _beside(ax, result.m[at], values[at], name, color, above=above, ha=ha)
        ax.set(xlabel="batch size $m$", ylabel=r"largest $|\widehat{x}_i|$", yticks=[1, 3, 10])
        _plain(ax, result.m[::2])
    return ax


@EpsSweep.figure
def eps_sweep(result: EpsSweep, *, ax: np.ndarray | None = None) -> np.ndarray:
    """Draw the spread of the output and the gain of the gradient against the spread of the input."""
    with style.axes(ax, columns=2) as ax:
        rows = (result.output_std, "std of the output"), (result.gain, "gain of the gradient")
        for panel, (values, label) in zip(ax, rows, strict=True):
            for eps, curve, color, dash in zip(
                result.eps,
                values,
                (style.NORMALIZED, style.GREEN, style.ROSE),
                ("-", "--", ":"),
                strict=False,
            ):
                name = rf"$\epsilon = 10^{{{math.log10(eps):.0f}}}$"
                panel.loglog(result.std, curve, color=color, ls=dash)
                if panel is ax[0]:
                    _beside(panel, math.sqrt(eps), 3e-5, name, color, rotation=90)
                panel.axvline(math.sqrt(eps), color=color, lw=1, ls=":")
            panel.set(xlabel="std of the input", ylabel=label, xticks=[1e-6, 1e-4, 1e-2, 1])
    return ax


@NormalizedShape.figure
def normalized_shape(
    result: NormalizedShape,
    *,
    sizes: tuple[int, ...] = (2, 3, 4, 5, 8, 16),
    ax: np.ndarray | None = None,
) -> np.ndarray:
    """Draw histograms of normalized values over their range, with the exact density beside them."""
    with style.axes(ax, rows=2, columns=3, size=(6.4, 4.4), sharex=True) as ax:
        t = np.linspace(-0.999, 0.999, 401)
        middles = (result.edges[1:] + result.edges[:-1]) / 2
        for panel, m in zip(np.ravel(ax), sizes, strict=True):
            row = result.density[list(result.m).index(m)]
            panel.bar(middles, row, width=np.diff(result.edges), color=style.NORMALIZED, alpha=0.6)
            if m > 2:
                area = math.exp(math.lgamma((m - 2) / 2) - math.lgamma((m - 1) / 2))
                density = (1 - t**2) ** ((m - 4) / 2) / (area * math.sqrt(math.pi))
                panel.plot(t, np.minimum(density, 1.7), color=style.THEORY, lw=1.5)
            panel.set(title=f"$m = {m}$", ylim=(0, 1.7 if m > 2 else 5.5), xticks=[-1, 0, 1])
        for panel in np.reshape(ax, (2, 3))[-1]:
            panel.set_xlabel(r"$\widehat{x} / \sqrt{m-1}$")
    return ax


@CompanySpread.figure
def company_spread(result: CompanySpread, *, ax: Axes | None = None) -> Axes:
    """Draw how far a normalized value moves with its company, beside first-order theory."""
    with style.axes(ax) as ax:
        for value, spread, theory, color, marker, place in zip(
            result.values, np.moveaxis(result.spread, 1, 0), result.theory,
            (style.NORMALIZED, style.GREEN, style.ROSE), ("o", "s", "^"), ("top", "bottom", "center"), strict=False,
        ):  # fmt: skip
            found = t_interval(spread)
            ax.errorbar(
                result.m, found.mean, found.bars, color=color, marker=marker, ms=5, ls="none",
            )  # fmt: skip
            ax.plot(result.m, theory, color=style.THEORY, ls="--", lw=1.5)
            _beside(ax, result.m[-1], found.mean[-1], f"  {value:g} std out", color, va=place)
        ax.set(xscale="log", yscale="log", xlabel="batch size $m$")
        ax.set(ylabel=r"std of $\widehat{x}$ over batches", yticks=[0.03, 0.1, 0.3, 1])
        ax.set_xlim(right=2.6 * result.m[-1])
        ax.text(0.3, 0.85, "dashed: first-order theory", transform=ax.transAxes, color=style.THEORY)
        _plain(ax, result.m)
    return ax


@BatchMakeup.figure
def batch_makeup(result: BatchMakeup, *, ax: Axes | None = None) -> Axes:
    """Draw test accuracy and fickle digits against the test batch size, with 95% intervals."""
    rows = {
        "batch statistics, shuffled": (result.shuffled, style.NORMALIZED, "o", (1, -1)),
        "batch statistics, one class a batch": (result.by_class, style.ROSE, "s", (0, -1)),
        "digits that change class\nwith their company": (result.fickle, style.GREEN, "^", (2, 1)),
    }
    with style.axes(ax) as ax:
        known = t_interval(result.evaluation)
        ax.axhline(known.mean, color=style.THEORY, ls="--")
        _beside(ax, result.m[0], known.mean, "accuracy with running statistics", style.THEORY)
        for label, (values, color, marker, (at, side)) in rows.items():
            found = t_interval(values)
            ax.fill_between(result.m, found.low, found.high, color=color, alpha=0.25, lw=0)
            ax.plot(result.m, found.mean, color=color, marker=marker, ms=5)
            at = min(at, len(result.m) - 1)
            _beside(ax, result.m[at], found.mean[at], label, color, above=side > 0)
        ax.set(xscale="log", xlabel="test batch size $m$", ylabel="share of the test digits")
        ax.set(ylim=(0, 1.08), yticks=[0, 0.25, 0.5, 0.75, 1])
        _plain(ax, result.m)
    return ax


def _beside(ax: Axes, x: float, y: float, name: str, color: str, *, above=True, **kwargs) -> None:
    """Name a curve beside one of its points, in its colour."""
    look = {"ha": "left", "va": "bottom" if above else "top", "color": color} | kwargs
    shift = {"bottom": 5, "center": 0, "top": -5}[look["va"]]
    ax.annotate(
        name, (x, y), (5 if look["ha"] == "left" else -5, shift), textcoords="offset points", **look
    )


def _plain(ax: Axes, m: np.ndarray) -> None:
    """Label logarithmic axes with plain numbers."""
    ax.set_xticks(m, [f"{value:g}" for value in m])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
