"""Chapter 6: how gradients grow with depth in normalized networks, at random weights and while training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from bnlab import data, models, training
from bnlab.chapters.covariate_shift import signal_depth
from bnlab.chapters.gradient_flow.results import DepthRatios, ExplosionRates, UnitCloud, WidthRates
from bnlab.experiments import Provenance, difference
from bnlab.reference import batch_norm_forward

__all__ = [
    "depth_ratios",
    "explosion_limit",
    "explosion_rate",
    "explosion_rates",
    "repeat_explosion",
    "repeat_ratios",
    "repeat_widths",
    "unit_cloud",
    "width_rates",
]


def explosion_limit(activation: str) -> float:
    r"""Return the growth per layer of the squared gradient for wide layers and large batches.

    .. math:: \frac{\mathrm{E}[\varphi'(z)^2]}{\mathrm{Var}[\varphi(z)]}, \qquad z \sim \mathcal N(0, 1)

    Parameters
    ----------
    activation : {"linear", "tanh", "relu", "sigmoid"}
        The nonlinearity :math:`\varphi` after each normalization.

    Returns
    -------
    float
        At least 1, by the Gaussian Poincaré inequality; 1 only if it is a straight line.

    Examples
    --------
    >>> round(explosion_limit("relu"), 4), round(np.pi / (np.pi - 1), 4)
    (1.4669, 1.4669)
    """
    if activation == "relu":  # exact: the kink would spoil the quadrature
        return float(np.pi / (np.pi - 1))
    g, slope, _ = signal_depth.NONLINEARITIES[activation]
    z, weight = np.polynomial.hermite_e.hermegauss(80)
    weight = weight / weight.sum()
    return float(weight @ slope(z) ** 2 / (weight @ g(z) ** 2 - (weight @ g(z)) ** 2))


def explosion_rate(activation: str, batch_size: int) -> float:
    r"""Return the growth per layer of the squared gradient for wide layers and batches of m.

    .. math:: \text{linear:}\; \frac{m - 2}{m - 3}, \qquad
              \text{ReLU:}\; \frac{m}{(m - 3)\,(\tfrac12 - k)} \cdot \frac{\tau}{m - 1}

    with :math:`c = -1/(m-1)`, :math:`k = \frac{1}{2\pi} (\sqrt{1 - c^2} + c\,(\pi - \arccos c))` and
    :math:`\tau = \frac{m}{2} - 1 + \frac{1}{m^2} (\frac{m}{2} + m (m-1) (\frac14 + \frac{\arcsin c}
    {2\pi})) - \frac12 + \frac{1}{m} (\frac12 + (m-1) k)`.

    Parameters
    ----------
    activation : {"linear", "relu"}
    batch_size : int
        m, at least 4.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there is no closed form for the activation, or m is below 4, where the mean is infinite.

    Notes
    -----
    The limits are those of Yang et al. 2019; Chapter 6 derives both formulas.

    Examples
    --------
    >>> explosion_rate("linear", 8), round(explosion_rate("relu", 8), 4)
    (1.2, 1.7882)
    """
    b = batch_size
    if activation not in ("linear", "relu"):
        raise ValueError(
            f"activation is {activation!r}; expected 'linear' or 'relu', which have a closed form. "
            f"For large batches use explosion_limit({activation!r})."
        )
    if b < 4:
        raise ValueError(
            f"batch_size is {b}; expected at least 4: for smaller batches 1/var_B has no mean. "
            f"Choose a larger batch."
        )
    if activation == "linear":
        return (b - 2) / (b - 3)
    c = -1 / (b - 1)  # correlation of two entries of x_hat
    k = (np.sqrt(1 - c**2) + c * (np.pi - np.arccos(c))) / (2 * np.pi)  # E[relu relu']
    both = 1 / 4 + np.arcsin(c) / (2 * np.pi)  # P(both positive)
    trace = b / 2 - 1 + (b / 2 + b * (b - 1) * both) / b**2  # the part along 1 is removed
    along_x_hat = 1 / 2 - (1 / 2 + (b - 1) * k) / b
    return float(b / (b - 3) / (1 / 2 - k) * (trace - along_x_hat) / (b - 1))


def unit_cloud(*, width: int = 500, depth: int = 16, seed: int = 0) -> UnitCloud:
    """Send a batch of three through random normalized ReLU layers, and keep what each unit of the last one gets.

    Parameters
    ----------
    width, depth : int
        Units in each layer, and layers.
    seed : int
        Of inputs and weights.

    Returns
    -------
    UnitCloud

    Examples
    --------
    >>> unit_cloud(width=20, depth=2).z.shape
    (20, 3)
    """
    rng = np.random.default_rng(seed)
    h, one = rng.standard_normal((3, width)), np.ones(width)
    for _ in range(depth):
        z = h @ rng.normal(0, width**-0.5, (width, width))
        h = np.maximum(batch_norm_forward(z, one, 0 * one)[0], 0)
    return UnitCloud(z.T)


def explosion_rates(
    activation: str,
    *,
    batch_sizes: Sequence[int] = (8, 16, 32, 64),
    width: int = 512,
    depth: int = 16,
    skip: int = 3,
    seeds: Sequence[int] = tuple(range(10)),
) -> ExplosionRates:
    r"""Measure how much the squared gradient grows per layer in normalized random networks.

    .. math:: \Big( \frac{\lVert g_{s} \rVert^2}{\lVert g_{L-1-s} \rVert^2} \Big)^{1 / (L-1-2s)}

    Parameters
    ----------
    activation : {"linear", "tanh", "relu", "sigmoid"}
        Theory at finite m is filled in where there is a closed form, else NaN.
    batch_sizes : sequence of int
        The batch sizes m.
    width, depth : int
        Units in each layer and number L of layers.
    skip : int
        Layers s left out at each end, where inputs and loss still show.
    seeds : sequence of int
        One network each.

    Returns
    -------
    ExplosionRates

    Examples
    --------
    >>> result = explosion_rates("relu", batch_sizes=(16,), width=64, depth=10, seeds=range(3))
    >>> bool(1.3 < result.rate.mean() < 1.9)
    True
    """
    rates = np.empty((len(seeds), len(batch_sizes)))
    for j, batch_size in enumerate(batch_sizes):
        gradient = signal_depth.profile(
            activation=activation,
            weight_std=width**-0.5,
            norm=nn.BatchNorm1d,
            width=width,
            depth=depth,
            examples=batch_size,
            seeds=seeds,
        ).gradient
        first, last = skip, depth - 1 - skip
        rates[:, j] = (gradient[:, first] / gradient[:, last]) ** (2 / (last - first))
    closed = activation in ("linear", "relu")
    return ExplosionRates(
        activation=activation,
        width=width,
        depth=depth,
        batch_sizes=np.array(batch_sizes),
        rate=rates,
        theory=np.array([explosion_rate(activation, b) if closed else np.nan for b in batch_sizes]),
        limit=explosion_limit(activation),
    )


def width_rates(
    activation: str,
    *,
    batch_size: int,
    widths: Sequence[int] = (128, 256, 512),
    depth: int = 16,
    seeds: Sequence[int] = tuple(range(20)),
) -> WidthRates:
    r"""Measure the growth per layer of the squared gradient against the width; see `explosion_rates`.

    Parameters
    ----------
    activation : {"linear", "relu"}
    batch_size : int
    widths : sequence of int
    depth : int
    seeds : sequence of int
        One network of each width for each.

    Returns
    -------
    WidthRates

    Examples
    --------
    >>> width_rates("linear", batch_size=8, widths=(16, 32), seeds=range(3)).rate.shape
    (3, 2)
    """
    rates = [
        explosion_rates(
            activation, batch_sizes=(batch_size,), width=w, depth=depth, seeds=seeds
        ).rate[:, 0]
        for w in widths
    ]
    return WidthRates(
        activation=activation,
        batch_size=batch_size,
        widths=np.array(widths),
        rate=np.stack(rates, axis=1),
        theory=explosion_rate(activation, batch_size),
    )


def depth_ratios(
    *,
    lrs: Sequence[float] = (0.1, 0.01),
    checkpoints: Sequence[int] = (0, 1, 10, 100),
    width: int = 100,
    depth: int = 50,
    batch_size: int = 60,
    seeds: Sequence[int] = tuple(range(5)),
) -> DepthRatios:
    r"""Train deep normalized ReLU networks on digits and follow the gradient's growth over the depth.

    .. math:: \lVert \partial \ell / \partial z_1 \rVert \,/\, \lVert \partial \ell / \partial z_L \rVert

    with :math:`z_k` the inputs of the k-th of L nonlinearities, for one fixed batch. Computed in float64.
    A deep network multiplies rounding errors all the same: already after ten steps runs differ from one
    processor to another in the printed digits. So the chapter shows a stored run.

    Parameters
    ----------
    lrs : sequence of float
        The learning rates.
    checkpoints : sequence of int
        Numbers of steps after which to measure; 0 is the initialization.
    width, depth, batch_size : int
        Units in each layer, number L of hidden layers, and batch size.
    seeds : sequence of int
        Each sets the weights and the order of the batches.

    Returns
    -------
    DepthRatios

    Examples
    --------
    >>> bool(depth_ratios(lrs=(0.1,), checkpoints=(0,), depth=12, seeds=(0,)).ratio.item() > 3)
    True
    """
    digits, _ = data.mnist_5k().split(test=1000, seed=0)
    x, y = (t[:batch_size] for t in training.tensors(digits, dtype=torch.float64))
    ratio = np.empty((len(lrs), len(seeds), len(checkpoints)))
    for at in np.ndindex(ratio.shape[:2]):
        lr, seed = lrs[at[0]], seeds[at[1]]

        def measure(t: int, model: nn.Module, at=at) -> None:
            if t in checkpoints:
                ratio[at][list(checkpoints).index(t)] = _first_over_last(model, x, y)

        sizes = (digits.x.shape[1], *[width] * depth, 10)
        training.train(
            _drawn_in_float64(
                models.mlp(sizes, activation="relu", norm=nn.BatchNorm1d, seed=seed), seed
            ),
            digits,
            lr=lr,
            steps=max(checkpoints),
            batch_size=batch_size,
            seed=seed,
            on_step=measure,
        )
    return DepthRatios(tuple(lrs), tuple(checkpoints), ratio)


def _drawn_in_float64(model: nn.Module, seed: int) -> nn.Module:
    """Draw He's weights again in float64, where all processors draw the same.

    In float32 the last digit differs between some, and fifty layers turn it into percents.
    """
    generator = torch.Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(0, (2 / layer.in_features) ** 0.5, generator=generator)
    return model


def _first_over_last(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    inputs = []
    for name, layer in model.named_children():
        if name.startswith("act"):
            inputs.append(x)
        x = layer(x)
    loss = nn.functional.cross_entropy(x, y)
    first, last = torch.autograd.grad(loss, [inputs[0], inputs[-1]])
    return float(first.norm() / last.norm())


def repeat_explosion(rates: ExplosionRates, origin: Provenance) -> dict[str, float]:
    """Measure the first network at the first batch size again, and return the relative differences."""
    again = explosion_rates(
        rates.activation,
        batch_sizes=rates.batch_sizes[:1].tolist(),
        width=rates.width,
        depth=rates.depth,
        seeds=origin.seeds[:1],
    )
    return {
        "rate": difference(again.rate, rates.rate[:1, :1]),
        "theory": difference(again.theory, rates.theory[:1]),
    }


def repeat_widths(rates: WidthRates, origin: Provenance) -> dict[str, float]:
    """Measure the first two networks of the first width again, and return the relative differences."""
    few = {"widths": rates.widths[:1].tolist(), "seeds": origin.seeds[:2]}
    again = width_rates(
        rates.activation, batch_size=rates.batch_size, depth=origin.config["depth"], **few
    )
    return {
        "rate": difference(again.rate, rates.rate[:2, :1]),
        "theory": difference(again.theory, rates.theory),
    }


def repeat_ratios(ratios: DepthRatios, origin: Provenance) -> dict[str, float]:
    """Train the first seed for its first step again, and return the relative difference at each rate."""
    few = {"checkpoints": ratios.checkpoints[:2], "seeds": origin.seeds[:1]}
    again = depth_ratios(**origin.config | few)
    return {
        f"rate {lr}": difference(now, stored[:1, :2])
        for lr, now, stored in zip(ratios.lrs, again.ratio, ratios.ratio, strict=True)
    }
