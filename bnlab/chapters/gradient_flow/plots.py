"""Figures of Chapter 6: gradients through the graph, lengths of weights, depth and learning rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Arc, Circle, FancyArrowPatch, FancyBboxPatch

from bnlab.chapters import style
from bnlab.chapters.covariate_shift.results import DepthProfile
from bnlab.chapters.gradient_flow.results import (
    ExplosionRates,
    NeuronRun,
    RateSweep,
    UnitCloud,
)
from bnlab.stats import t_interval

__all__ = [
    "computation_graph",
    "explosion_rates",
    "gradient_depth",
    "rate_sweeps",
    "right_angle",
    "unit_cloud",
    "weight_length",
]

LABELS = {
    "x": "$x$",
    "gamma": r"$\gamma$",
    "beta": r"$\beta$",
    "mu_B": r"$\mu_\mathcal{B}$",
    "centered": r"$x - \mu_\mathcal{B}$",
    "squared": r"$(x - \mu_\mathcal{B})^2$",
    "var_B": r"$\sigma^2_\mathcal{B}$",
    "inv_std": r"$(\sigma^2_\mathcal{B} + \epsilon)^{-1/2}$",
    "x_hat": r"$\widehat{x}$",
    "y": "$y$",
}
COLORS = {
    "relu": style.ROSE,
    "sigmoid": style.GREEN,
    "tanh": style.OLIVE,
    "linear": style.GRAY,
}
MARKERS = {"sigmoid": "s", "tanh": "^", "relu": "o", "linear": "D"}


def computation_graph(graph, *, ax=None):
    """Draw a `bnlab.graph.Graph`: each node with its value and, below it, its gradient.

    A node's row is the longest path that leads to it; vectors are on the left, numbers on the right.
    Nothing about Batch Normalization is known here but the nodes' labels.

    Parameters
    ----------
    graph : bnlab.graph.Graph
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    places = _places(graph.nodes)
    deepest = max(row for row, _ in places.values())
    with style.axes(ax, size=(6.4, 0.95 * (deepest + 1))) as ax:
        boxes = {}
        for node in graph.nodes:
            row, column = places[node.name]
            wide = 0.6 if node.value.ndim else 0.44
            boxes[node.name] = ax.add_patch(
                FancyBboxPatch((column - wide, -row - 0.33), 2 * wide, 0.66, boxstyle="round,pad=0,rounding_size=0.08",
                               fc="white", ec="0.7", lw=1)
            )  # fmt: skip
            value = f"{LABELS.get(node.name, node.name)}  =  {_numbers(node.value)}"
            ax.text(column, -row + 0.15, value, ha="center", va="center")
            ax.text(
                column,
                -row - 0.17,
                _numbers(node.gradient),
                ha="center",
                va="center",
                color=style.PLAIN,
            )
        for node in graph.nodes:
            for source in node.inputs:
                _arrow(ax, places, boxes, source, node.name)
        ax.set(xlim=(-0.85, 1.65), ylim=(-deepest - 0.4, 0.4))
        ax.set_axis_off()
    return ax


def _places(nodes) -> dict[str, tuple[int, float]]:
    """Return (row, column) of each node: rows by longest path, leaves just above their first use."""
    rows: dict[str, int] = {}
    for node in nodes:
        rows[node.name] = 1 + max((rows[i] for i in node.inputs), default=-1)
    places: dict[str, tuple[int, float]] = {}
    for node in sorted(
        nodes, key=lambda n: not n.inputs
    ):  # leaves last: they go where there is room
        column = 1.15 * (node.value.ndim == 0)
        row = rows[node.name]
        if not node.inputs:
            row = min(rows[n.name] for n in nodes if node.name in n.inputs) - 1
            while (row, column) in places.values():
                row += 1
        places[node.name] = (row, column)
    return places


def _numbers(value: np.ndarray) -> str:
    return ", ".join(f"{v:.2f}".replace("-0.00", "0.00") for v in np.atleast_1d(value))


def _arrow(ax, places, boxes, source: str, target: str) -> None:
    (row, column), (row_end, column_end) = places[source], places[target]
    jump = column == column_end and row_end - row > 2  # go around what lies between
    left = column - 0.45 * jump
    ax.add_patch(
        FancyArrowPatch(
            (left, -row), (left, -row_end) if jump else (column_end, -row_end),
            patchA=boxes[source], patchB=boxes[target], arrowstyle="-|>", mutation_scale=12, color="0.5", lw=1.2,
            connectionstyle=f"arc3,rad={0.3 if jump else 0}", shrinkA=0, shrinkB=0, zorder=0.5,
        )
    )  # fmt: skip


@NeuronRun.figure_of_several
def weight_length(runs: Sequence[NeuronRun], *, ax=None):
    r"""Draw the length of the weights against steps, and where theory says it settles.

    Parameters
    ----------
    runs : sequence of NeuronRun
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    with style.axes(ax) as ax:
        for run, color in zip(runs, (style.NORMALIZED, style.GREEN, style.ROSE), strict=False):
            steps = np.arange(run.norm2.shape[1])
            length = np.sqrt(run.norm2)
            label = (
                rf"$\eta$ = {run.lr:g}, $\lambda$ = {run.weight_decay:g}"
                if run.weight_decay
                else "no decay"
            )
            ax.plot(steps, length.mean(axis=0), color=color)
            at = -1 if run.weight_decay else len(steps) // 2
            _name(ax, steps[at], length[:, at].mean(), label, color)
            ax.fill_between(
                steps,
                *np.percentile(length, (5, 95), axis=0),
                color=color,
                alpha=0.2,
                lw=0,
            )
            if run.weight_decay:
                settled = run.equilibrium_norm4.mean()
                ax.axhline(settled**0.25, color=style.THEORY, ls="--", lw=1.5)
            else:
                unit = run.late_unit_grad2.mean()
                growth = run.norm2[:, 0].mean() ** 2 + 2 * run.lr**2 * unit * steps
                ax.plot(steps, growth**0.25, color=style.THEORY, ls="--", lw=1.5)
        ax.text(0.5, 0.06, "dashed: theory", transform=ax.transAxes, color=style.THEORY)
        ax.set(xlabel="step", ylabel=r"length of $w$", ylim=(0, None))
    return ax


def gradient_depth(profiles: Sequence[DepthProfile], *, ax=None):
    """Draw the gradient's size in each layer, relative to the last, without and with normalization.

    Parameters
    ----------
    profiles : sequence of DepthProfile
    ax : array of two Axes, optional

    Returns
    -------
    array of Axes
    """
    with style.axes(ax, rows=2, size=(6.4, 6.4), sharex=True) as ax:
        for profile in profiles:
            panel = ax[int(profile.normalized)]
            layers = np.arange(1, profile.gradient.shape[1] + 1)
            logs = t_interval(np.log10(profile.gradient))
            color = COLORS[profile.activation]
            panel.plot(
                layers, 10**logs.mean, color=color, marker=MARKERS[profile.activation], markevery=7,
            )  # fmt: skip
            at = len(layers) // 3
            below = profile.activation != "relu" and not profile.normalized
            va = "top" if below else "bottom"
            _name(
                panel, layers[at], 10 ** logs.mean[at], profile.activation, color, ha="left", va=va
            )
            panel.fill_between(layers, 10**logs.low, 10**logs.high, color=color, alpha=0.25, lw=0)
            if not profile.normalized:
                panel.plot(layers, profile.gradient_theory, color=style.THEORY, ls="--", lw=1.5)
        for panel, title in zip(ax, ("without Batch Normalization", "with it"), strict=True):
            panel.axhline(1, color="0.6", lw=1)
            panel.set(yscale="log", title=title, ylabel="gradient, relative")
        ax[0].text(
            0.97, 0.1, "dashed: theory", transform=ax[0].transAxes, ha="right", color=style.THEORY
        )
        ax[0].set_ylim(top=1e3 * ax[0].get_ylim()[1])  # room for the names above level curves
        ax[1].set_xlabel("layer (the last is nearest the loss)")
    return ax


@ExplosionRates.figure_of_several
def explosion_rates(results: Sequence[ExplosionRates], *, confidence: float = 0.95, ax=None):
    """Draw measured growth of the squared gradient per layer against batch size, on its theory.

    Parameters
    ----------
    results : sequence of ExplosionRates
    confidence : float
        Of each interval.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    with style.axes(ax) as ax:
        for result in results:
            color = COLORS[result.activation]
            rate = t_interval(result.rate, confidence=confidence)
            ax.plot(result.batch_sizes, result.theory, color=style.THEORY, ls="--", lw=1.5)
            ax.axhline(result.limit, color=color, lw=1, alpha=0.6)
            ax.errorbar(
                result.batch_sizes, rate.mean, rate.bars, color=color, fmt=MARKERS[result.activation],
                capsize=4,
            )  # fmt: skip
            _name(ax, result.batch_sizes[1], rate.mean[1], result.activation, color, ha="left")
            _name(
                ax,
                result.batch_sizes[0],
                result.limit,
                "limit for large batches",
                color,
                ha="left",
                va="top",
            )
        ax.text(
            0.97,
            0.92,
            "dashed: theory for wide layers",
            transform=ax.transAxes,
            ha="right",
            color=style.THEORY,
        )
        ax.set_xscale("log", base=2)
        ax.set_xticks(results[0].batch_sizes, [str(b) for b in results[0].batch_sizes])
        ax.set(xlabel="batch size $m$", ylabel="growth per layer", ylim=(0.93, None))
    return ax


@RateSweep.figure_of_several
def rate_sweeps(sweeps: Sequence[RateSweep], *, ax=None):
    """Draw accuracy after a short training against the learning rate; crosses were not stable.

    An arm "x centered" has the color of the arm "x" and a dashed line.

    Parameters
    ----------
    sweeps : sequence of RateSweep
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    bases = [sweep.label.removesuffix(" centered") for sweep in sweeps]
    colors = (style.PLAIN, style.NORMALIZED, *style.CYCLE[2:])
    color_of = dict(zip(dict.fromkeys(bases), colors, strict=False))
    with style.axes(ax, size=(6.4, 4.6)) as ax:
        for i, (sweep, base) in enumerate(zip(sweeps, bases, strict=True)):
            color = color_of[base]
            ax.plot(
                sweep.lr,
                sweep.mean_accuracy,
                color=color,
                ls="-" if sweep.label == base else "--",
                marker="os^Dv"[list(color_of).index(base)],
                label=sweep.label,
            )
            ax.fill_between(
                sweep.lr,
                sweep.accuracy.min(axis=0),
                sweep.accuracy.max(axis=0),
                color=color,
                alpha=0.2,
                lw=0,
            )
            broken = ~sweep.stable.all(axis=0)
            ax.plot(
                sweep.lr[broken], sweep.mean_accuracy[broken], color="0.2", marker="x",
                ls="none", ms=9, mew=1.5, zorder=3, label="not stable for some seed" if i == 0 else None,
            )  # fmt: skip
        ax.set_xscale("log", base=2)
        low, high = np.round(np.log2(ax.get_xlim()))
        ticks = 2.0 ** np.arange(low, high + 1)
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.set(xlabel="learning rate", ylabel="accuracy, held-out digits", ylim=(0, 1))
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def right_angle(*, ax: Axes | None = None) -> Axes:
    """Sketch one step of gradient descent on normalized weights: at a right angle to them, so it makes them longer."""
    length, turn = 3.0, np.radians(25)
    tip = length * np.array([np.cos(turn), np.sin(turn)])
    step = 1.5 * np.array([-np.sin(turn), np.cos(turn)])
    end = tip + step
    with style.axes(ax, size=(6.4, 3.0)) as ax:
        ax.plot(
            *zip(0.6 * tip, 1.35 * tip, strict=True), color=style.THEORY, ls="--", lw=1.5, zorder=0
        )
        ax.add_patch(
            Arc(
                (0, 0),
                2 * length,
                2 * length,
                theta1=5,
                theta2=62,
                color=style.GRAY,
                lw=1.2,
                ls=":",
            )
        )
        for start, stop, color in (
            ((0, 0), tip, style.NORMALIZED), (tip, end, style.PLAIN), ((0, 0), end, style.GREEN),
        ):  # fmt: skip
            look = {
                "arrowstyle": "-|>",
                "lw": 2.2,
                "shrinkA": 0,
                "shrinkB": 0,
                "mutation_scale": 16,
            }
            ax.annotate("", stop, start, arrowprops=look | {"color": color})
        corner = 0.18 * np.array([tip / length, step / 1.5])
        ax.plot(
            *np.transpose([tip - corner[0], tip - corner[0] + corner[1], tip + corner[1]]),
            color="0.4",
            lw=1.2,
        )
        ax.text(*(0.62 * tip + (0.05, -0.14)), "$w_t$", color=style.NORMALIZED, va="top")
        ax.text(
            *(tip + 0.75 * step + (0.12, 0.02)),
            r"the step $-\eta\, g_t$",
            color=style.PLAIN,
            va="center",
        )
        ax.text(
            *(0.55 * end + (-0.12, 0.1)),
            "$w_{t+1}$, longer",
            color=style.GREEN,
            ha="right",
            va="bottom",
        )
        ax.text(
            *(1.35 * tip + (0.08, -0.1)),
            "same loss all\nalong this line",
            color=style.THEORY,
            va="center",
        )
        ax.text(
            length * np.cos(0.1) + 0.08,
            length * np.sin(0.1) - 0.05,
            "same length",
            color=style.GRAY,
            va="center",
        )
        ax.set(xlim=(-0.9, 5.6), ylim=(-0.1, 3.15), aspect="equal")
        ax.set_axis_off()
    return ax


@UnitCloud.figure
def unit_cloud(result: UnitCloud, *, ax: np.ndarray | None = None) -> np.ndarray:
    """Draw each unit as a point of the plane in which its centered values lie, before and after normalization."""
    before = result.plane
    radius = np.sqrt(3)
    after = radius * before / np.linalg.norm(before, axis=1, keepdims=True)
    before = (
        before * radius / np.sqrt((before**2).sum(axis=1).mean())
    )  # in units of the usual length
    with style.axes(ax, columns=2, size=(6.4, 3.5)) as ax:
        for panel, points, title in zip(ax, (before, after), ("before", "after"), strict=True):
            panel.plot(*points.T, "o", color=style.NORMALIZED, ms=3, alpha=0.45, mew=0)
            panel.add_patch(Circle((0, 0), radius, fill=False, color=style.THEORY, ls="--", lw=1.2))
            for k, angle in enumerate(np.radians([-30, 210, 90]), start=1):
                way = 3.2 * np.array([np.cos(angle), np.sin(angle)])
                panel.annotate(
                    "", way, (0, 0), arrowprops={"arrowstyle": "->", "color": "0.4", "shrinkA": 0}
                )
                panel.text(*way, f"example {k}", ha="center", va="bottom" if way[1] > 0 else "top")
            panel.set_title(title, pad=10)
            panel.set(xlim=(-4.3, 4.3), ylim=(-2.6, 3.9), aspect="equal")
            panel.set_axis_off()
    return ax


def _name(
    ax: Axes, x: float, y: float, name: str, color: str, *, ha: str = "right", va: str = "bottom"
) -> None:
    """Name a curve beside one of its points, in its colour."""
    shift = (5 if ha == "left" else -5, 5 if va == "bottom" else -5)
    ax.annotate(name, (x, y), shift, textcoords="offset points", ha=ha, va=va, color=color)
