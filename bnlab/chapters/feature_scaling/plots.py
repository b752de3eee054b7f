"""Figures of Chapter 1: distances, neighbors, gradient descent, rounding and whitening."""

from __future__ import annotations

import numpy as np

from bnlab.chapters import style
from bnlab.chapters.feature_scaling.results import (
    DescentRates,
    DistanceShares,
    NearestNeighbors,
    NeighborAccuracy,
    OutlierEffect,
    RoundingError,
    TableDescent,
    WhiteningSteps,
)
from bnlab.stats import t_interval

__all__ = [
    "distance_shares",
    "nearest_neighbors",
    "neighbor_accuracy",
    "one_feature_scaled",
    "outlier_effect",
    "rounding_error",
    "steps_and_condition",
    "table_descent",
    "whitening_steps",
]

LOOKS = {  # of each scaling, in every figure of the chapter
    "none": (style.PLAIN, "-"),
    "min-max [0, 1]": (style.SKY, "--"),
    "min-max [-1, 1]": (style.ROSE, "-."),
    "standardize": (style.NORMALIZED, "-"),
    "whiten": (style.GREEN, ":"),
}


@DistanceShares.figure
def distance_shares(result: DistanceShares, *, ax=None):
    """Draw one bar of length 1 a scaling, cut by feature, with the share in each part wide enough for it."""
    with style.axes(ax, size=(6.4, 2.9)) as ax:
        left = np.zeros(len(result.scalings))
        for j, feature in enumerate(result.features):
            width = result.shares[:, j]
            bars = ax.barh(
                result.scalings,
                width,
                left=left,
                color=(style.GREEN, style.ROSE)[j % 2],
                height=0.6,
            )
            ax.annotate(
                feature,
                (j, 1),
                (0, 4),
                xycoords="axes fraction",
                textcoords="offset points",
                ha=("left", "right")[j % 2],
                va="bottom",
                color=(style.GREEN, style.ROSE)[j % 2],
                weight="bold",
            )
            labels = [f"{share:.0%}" if share > 0.08 else "" for share in width]
            ax.bar_label(bars, labels, label_type="center", color="white")
            left += width
        ax.invert_yaxis()
        ax.grid(visible=False)
        ax.set(xlim=(0, 1), xlabel="share of the squared distance")
        ax.xaxis.set_major_formatter("{x:.0%}")
    return ax


@NearestNeighbors.figure
def nearest_neighbors(result: NearestNeighbors, *, ax=None):
    """Draw the table as given and join one row to the row that each scaling calls nearest."""
    with style.axes(ax, size=(6.4, 3.2)) as ax:
        offset = np.random.default_rng(0).uniform(
            -0.12, 0.12, len(result.x)
        )  # so that points do not hide others
        y, x = result.x[:, 0] + offset, result.x[:, 1]
        ax.scatter(x, y, s=14, color=style.GRAY, alpha=0.6)
        drawn = {}
        for name, other in zip(result.scalings, result.nearest.tolist(), strict=True):
            drawn.setdefault(other, []).append(name)
        for j, (other, names) in enumerate(drawn.items()):
            color = style.PLAIN if j == 0 else style.NORMALIZED
            ax.plot(x[[result.query, other]], y[[result.query, other]], color=color)
            ax.scatter(
                x[other],
                y[other],
                color=color,
                s=60,
                marker="s^D"[j],
                zorder=3,
                label=", ".join(names),
            )
        ax.scatter(
            x[result.query],
            y[result.query],
            color="0.25",
            s=110,
            marker="*",
            zorder=4,
            label="this household",
        )
        ax.set(xscale="log", xlabel="car_value (dollars, logarithmic axis)", ylim=(-0.35, 1.35))
        ax.set_yticks([0, 1], ["no kids", "kids"])
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, title="nearest neighbor:")
    return ax


@NeighborAccuracy.figure
def neighbor_accuracy(*results: NeighborAccuracy, ax=None):
    """Draw mean accuracy and its 95% t-interval over seeds, a group of bars a data set."""
    with style.axes(ax) as ax:
        names = max((result.scalings for result in results), key=len)
        width = 0.8 / len(names)
        for j, name in enumerate(names):
            chosen = [(i, r) for i, r in enumerate(results) if name in r.scalings]
            at = [i + (j - (len(names) - 1) / 2) * width for i, _ in chosen]
            found = [t_interval(r.accuracy[:, r.scalings.index(name)]) for _, r in chosen]
            ax.bar(
                at,
                [interval.mean for interval in found],
                width * 0.9,
                yerr=np.stack([interval.bars for interval in found], axis=1),
                color=LOOKS[name][0],
                ecolor="0.25",
                capsize=3,
                label=name,
            )
        ax.set_xticks(range(len(results)), [result.dataset for result in results])
        ax.grid(visible=False, axis="x")
        ax.set(ylim=(0, 1), ylabel="test accuracy")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return ax


def one_feature_scaled(**columns: np.ndarray):
    """Draw one feature once for each scaling, each on its own axis; returns the Axes from top to bottom."""
    with style.axes(rows=len(columns), size=(6.4, 1.15 * len(columns))) as panels:
        for j, (ax, (name, values)) in enumerate(zip(panels, columns.items(), strict=True)):
            ax.plot(
                values,
                np.zeros_like(values),
                "|",
                color=style.PLAIN if j == 0 else style.NORMALIZED,
                markersize=16,
            )
            ax.plot(values.mean(), 0, "^", color="0.25", markersize=8)
            ax.set(yticks=[], ylim=(-1, 1))
            ax.set_title(name, loc="left")
            ax.spines["left"].set_visible(False)
    return panels


@OutlierEffect.figure
def outlier_effect(result: OutlierEffect, *, ax=None):
    """Draw the same values fitted without and with the typo, a pair of rows a scaling."""
    with style.axes(ax, size=(6.4, 3.7)) as ax:
        for j in range(len(result.scalings)):
            for values, below, color in (
                (result.clean, 0, style.NORMALIZED),
                (result.spoiled, 0.35, style.PLAIN),
            ):
                ax.plot(
                    values[j], np.full(values.shape[1], j + below), "|", color=color, markersize=14
                )
        ax.plot([], [], "|", color=style.NORMALIZED, markersize=14, label="fitted without the typo")
        ax.plot([], [], "|", color=style.PLAIN, markersize=14, label="fitted with it")
        ax.set_yticks(np.arange(len(result.scalings)) + 0.175, result.scalings)
        ax.invert_yaxis()
        ax.set_xlabel("scaled value of the honest rows")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return ax


@DescentRates.figure
def steps_and_condition(result: DescentRates, *, ax=None):
    """Draw steps to the tolerance against the condition number, measured and promised."""
    with style.axes(ax) as ax:
        for steps, bound, color, marker, name, place in (
            (result.steps_safe, result.bound_safe, style.PLAIN, "s", "cautious step", (-6, 6)),
            (result.steps, result.bound, style.NORMALIZED, "o", "best step", (10, -18)),
        ):
            middle = np.median(steps, axis=0)
            spread = np.abs([steps.min(axis=0), steps.max(axis=0)] - middle)
            ax.errorbar(result.condition, middle, yerr=spread, fmt=marker, color=color, capsize=3)
            ax.plot(result.condition, bound, color=style.THEORY, linestyle="--", linewidth=1.2)
            at = len(result.condition) // 2
            ax.annotate(
                name,
                (result.condition[at], middle[at]),
                place,
                textcoords="offset points",
                ha="right" if place[0] < 0 else "left",
                color=color,
            )
        ax.set(xscale="log", yscale="log", xlabel="condition number κ of the Hessian")
        ax.set_ylabel("steps (dashed: at most, by theory)")
    return ax


@TableDescent.figure
def table_descent(result: TableDescent, *, ax=None):
    """Draw the excess loss against steps, one line a scaling."""
    with style.axes(ax) as ax:
        for j, name in enumerate(result.scalings):
            color, dash = LOOKS[name]
            ax.plot(result.at + 1, result.excess[j], color=color, linestyle=dash, label=name)
        ax.axhline(result.tolerance, color=style.THEORY, linewidth=1)
        ax.set(xscale="log", yscale="log", ylim=(result.tolerance / 100, 3))
        ax.set(xlabel="gradient steps + 1 (logarithmic axis)", ylabel="excess loss / first")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return ax


@RoundingError.figure
def rounding_error(result: RoundingError, *, ax=None):
    """Draw the median error of two float32 methods against the condition number, with what theory says."""
    with style.axes(ax) as ax:
        for errors, color, marker, name, place, side in (
            (result.normal, style.PLAIN, "s", "normal equations", (-12, 8), "right"),
            (result.orthogonal, style.NORMALIZED, "o", "orthogonalization", (0, -22), "center"),
        ):
            shown = np.where(np.isnan(errors), np.inf, errors)
            low, middle, high = np.quantile(shown, [0, 0.5, 1], axis=0, method="lower")
            keep = np.isfinite(high)
            ax.fill_between(
                result.condition[keep], low[keep], high[keep], color=color, alpha=0.2, linewidth=0
            )
            ax.plot(result.condition[keep], middle[keep], marker=marker, color=color)
            at = len(result.condition) // 2
            ax.annotate(
                name,
                (result.condition[at], middle[at]),
                place,
                textcoords="offset points",
                ha=side,
                color=color,
            )
        for theory, dash, name in (
            (result.normal_theory, "--", "$2^{-24}$ κ²"),
            (result.orthogonal_theory, ":", "$2^{-24}$ κ"),
        ):
            ax.plot(result.condition, theory, color=style.THEORY, linestyle=dash, linewidth=1.2)
            ax.annotate(
                name,
                (result.condition[-1], theory[-1]),
                (6, 0),
                textcoords="offset points",
                va="center",
                color=style.THEORY,
                annotation_clip=False,
            )
        ax.set(xscale="log", yscale="log", ylabel="relative error")
        ax.set_xlabel("condition number κ of the matrix")
    return ax


@WhiteningSteps.figure
def whitening_steps(result: WhiteningSteps):
    """Draw each version with its covariance ellipse (two standard deviations); returns the 2 by 2 Axes."""
    with style.axes(rows=2, columns=2, size=(6.4, 6.8)) as panels:
        for ax, name, points, covariance in zip(
            panels.flat, result.names, result.points, result.covariance, strict=True
        ):
            ax.scatter(*points.T, s=10, alpha=0.5, color=style.NORMALIZED, linewidth=0)
            ax.add_patch(style.ellipse((0, 0), covariance, color=style.PLAIN))
            ax.set(title=name, xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
        for ax in (panels[0, 0], panels[0, 1]):
            ax.set(xlabel=result.features[0], ylabel=result.features[1])
    return panels
