"""Figures of Chapter 6: gradients through the graph, lengths of weights, depth and learning rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from bnlab.chapters import style
from bnlab.chapters.covariate_shift.results import DepthProfile
from bnlab.chapters.gradient_flow.results import ExplosionRates, NeuronRun, RateSweep
from bnlab.stats import t_interval

__all__ = [
    "computation_graph",
    "explosion_rates",
    "gradient_depth",
    "rate_sweeps",
    "weight_length",
]

LABELS = {
    "x": "$x$",
    "gamma": r"$\gamma$",
    "beta": r"$\beta$",
    "mu_B": r"$\mu_B$",
    "centered": r"$x - \mu_B$",
    "squared": r"$(x - \mu_B)^2$",
    "var_B": r"$\sigma_B^2$",
    "inv_std": r"$1 / \sqrt{\sigma_B^2 + \epsilon}$",
    "x_hat": r"$\hat{x}$",
    "y": "$y$",
}
COLORS = {
    "relu": style.NORMALIZED,
    "sigmoid": style.GREEN,
    "tanh": style.ROSE,
    "linear": style.OLIVE,
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
                FancyBboxPatch((column - wide, -row - 0.29), 2 * wide, 0.58, boxstyle="round,pad=0,rounding_size=0.08",
                               fc="white", ec="0.7", lw=1)
            )  # fmt: skip
            value = f"{LABELS.get(node.name, node.name)}  =  {_numbers(node.value)}"
            ax.text(column, -row + 0.13, value, ha="center", va="center")
            ax.text(
                column,
                -row - 0.15,
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
        for i, run in enumerate(runs):
            steps = np.arange(run.norm2.shape[1])
            length = np.sqrt(run.norm2)
            label = rf"$\eta$ = {run.lr:g}, $\lambda$ = {run.weight_decay:g}"
            ax.plot(steps, length.mean(axis=0), color=style.CYCLE[i], label=label)
            ax.fill_between(
                steps,
                *np.percentile(length, (5, 95), axis=0),
                color=style.CYCLE[i],
                alpha=0.2,
                lw=0,
            )
            if run.weight_decay:
                settled = run.equilibrium_norm4.mean()
                ax.axhline(settled**0.25, color=style.THEORY, ls=":", lw=1.5)
            else:
                unit = run.late_unit_grad2.mean()
                growth = run.norm2[:, 0].mean() ** 2 + 2 * run.lr**2 * unit * steps
                ax.plot(steps, growth**0.25, color=style.THEORY, ls=":", lw=1.5)
        ax.plot([], [], color=style.THEORY, ls=":", label="theory")
        ax.set(xlabel="step", ylabel=r"length of $w$", ylim=(0, None))
        ax.legend(ncols=2, loc="lower right")
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
                layers, 10**logs.mean, color=color, marker=MARKERS[profile.activation],
                markevery=7, label=profile.activation,
            )  # fmt: skip
            panel.fill_between(layers, 10**logs.low, 10**logs.high, color=color, alpha=0.25, lw=0)
            if not profile.normalized:
                panel.plot(layers, profile.gradient_theory, color=style.THEORY, ls=":", lw=1.5)
        for panel, title in zip(ax, ("without Batch Normalization", "with it"), strict=True):
            panel.axhline(1, color="0.6", lw=1)
            panel.set(yscale="log", title=title, ylabel="gradient, relative")
        ax[0].plot([], [], color=style.THEORY, ls=":", label="theory")
        ax[0].legend(loc="lower right")
        ax[1].legend(loc="upper right")
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
            ax.plot(result.batch_sizes, result.theory, color=style.THEORY, ls=":", lw=1.5)
            ax.axhline(result.limit, color=color, lw=1, alpha=0.6)
            ax.errorbar(
                result.batch_sizes, rate.mean, rate.bars, color=color, fmt=MARKERS[result.activation],
                capsize=4, label=f"{result.activation}, measured",
            )  # fmt: skip
        ax.plot([], [], color=style.THEORY, ls=":", label="theory for wide layers")
        ax.set_xscale("log", base=2)
        ax.set_xticks(results[0].batch_sizes, [str(b) for b in results[0].batch_sizes])
        ax.set(xlabel="batch size B", ylabel="growth per layer")
        ax.legend()
    return ax


@RateSweep.figure_of_several
def rate_sweeps(sweeps: Sequence[RateSweep], *, ax=None):
    """Draw accuracy after a short training against the learning rate; crosses were not stable.

    Parameters
    ----------
    sweeps : sequence of RateSweep
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    colors = (style.PLAIN, style.NORMALIZED, *style.CYCLE[2:])
    with style.axes(ax, size=(6.4, 4.6)) as ax:
        for i, (sweep, color) in enumerate(zip(sweeps, colors, strict=False)):
            ax.plot(
                sweep.lr,
                sweep.mean_accuracy,
                color=color,
                marker="os^Dv"[i],
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
