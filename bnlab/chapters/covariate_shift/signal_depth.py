"""Chapter 2: what depth does to signals and gradients in random networks, and saturation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from bnlab import models
from bnlab.chapters.covariate_shift.results import DepthProfile

__all__ = ["profile", "saturated_share"]

# Each nonlinearity with its slope and its steepest slope.
NONLINEARITIES = {
    "linear": (lambda z: z, np.ones_like, 1.0),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float), 1.0),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2, 1.0),
    "sigmoid": (
        lambda z: 0.5 + 0.5 * np.tanh(z / 2),  # the logistic function, without overflow
        lambda z: 0.25 - 0.25 * np.tanh(z / 2) ** 2,
        0.25,
    ),
}


def saturated_share(z: np.ndarray, *, activation: str = "sigmoid", fraction: float = 0.1) -> float:
    r"""Return the share of inputs at which a nonlinearity is nearly flat.

    .. math:: \phi'(z) < \text{fraction} \cdot \max \phi', \qquad
              \max s' = s'(0) = \tfrac14 \text{ for the sigmoid}

    Parameters
    ----------
    z : array of any shape
    activation : {"linear", "tanh", "relu", "sigmoid"}
    fraction : float
        Of the steepest slope. With a tenth, a sigmoid counts as saturated from about \|z\| = 3.64.

    Returns
    -------
    float

    Examples
    --------
    >>> saturated_share(np.array([0.0, 3.0, -4.0, 10.0]))
    0.5
    """
    _, slope, steepest = NONLINEARITIES[activation]
    return float(np.mean(slope(np.asarray(z, dtype=float)) < fraction * steepest))


def profile(
    *,
    activation: str,
    weight_std: float,
    norm: Callable[[int], nn.Module] | None = None,
    width: int = 256,
    depth: int = 20,
    examples: int = 256,
    seeds: Sequence[int] = tuple(range(5)),
) -> DepthProfile:
    r"""Send independent Gaussian inputs through random networks and measure each layer.

    The theory is the mean-field recursion for wide networks, with
    :math:`q = \mathrm{E}[z^2]` and :math:`p = \mathrm{E}[z z']` for two different examples:

    .. math:: q \leftarrow n\sigma_w^2\,\mathrm{E}[\phi(z)^2], \qquad
              p \leftarrow n\sigma_w^2\,\mathrm{E}[\phi(z) \phi(z')], \qquad
              \mathrm{E}[\delta^2] \leftarrow n\sigma_w^2\,\mathrm{E}[\phi'(z)^2]\,\mathrm{E}[\delta^2]

    The size of a signal is :math:`\sqrt q`, its spread over examples :math:`\sqrt{q - p}`, and
    :math:`\delta` the gradient, from the last layer down.

    Parameters
    ----------
    activation : {"linear", "tanh", "relu", "sigmoid"}
    weight_std : float
        Standard deviation :math:`\sigma_w` of the Gaussian weights; biases are zero.
    norm : callable, optional
        As for `bnlab.models.mlp`.
    width, depth, examples : int
        Units n in each layer and inputs, number of layers, size of the batch.
    seeds : sequence of int
        One network each.

    Returns
    -------
    DepthProfile

    Notes
    -----
    The recursion is that of Poole et al. 2016 and Schoenholz et al. 2017.
    """
    measured = []
    for seed in seeds:
        model = models.mlp(
            [width] * (depth + 2), activation=activation, norm=norm, init_std=weight_std, seed=seed
        ).double()  # float32 cannot hold a spread of 1e-8 beside a mean of 0.5
        generator = torch.Generator().manual_seed(1000 + seed)
        x, cotangent = torch.randn(2, examples, width, generator=generator).double()
        measured.append(_profile(model, activation, x, cotangent))
    keys = ("size", "spread", "mean", "gradient", "saturated")
    theory = np.full((3, depth), np.nan)
    if norm is None:
        theory = _mean_field(activation, width * weight_std**2, depth)
    return DepthProfile(
        activation=activation,
        weight_std=float(weight_std),
        width=width,
        normalized=norm is not None,
        **{k: np.array([m[i] for m in measured]) for i, k in enumerate(keys)},
        size_theory=theory[0],
        spread_theory=theory[1],
        gradient_theory=theory[2],
    )


def _profile(
    model: nn.Module, activation: str, x: torch.Tensor, cotangent: torch.Tensor
) -> np.ndarray:
    inputs, means = [], []
    for name, layer in model.named_children():
        if name.startswith("act"):
            inputs.append(x)
        x = layer(x)
        if name.startswith("act"):
            means.append(float(x.detach().mean()))
    gradients = torch.autograd.grad(x, inputs, cotangent)
    rms = np.array([float(g.square().mean().sqrt()) for g in gradients])
    z = [x.detach().numpy() for x in inputs]
    size = [np.sqrt(np.mean(layer**2)) for layer in z]
    spread = [np.sqrt(layer.var(axis=0).mean()) for layer in z]
    flat = [saturated_share(layer, activation=activation) for layer in z]
    return np.array([size, spread, means, rms / rms[-1], flat])


def _mean_field(activation: str, scale: float, depth: int) -> np.ndarray:
    """Return size, spread and relative gradient at each layer; `scale` is n times sigma squared."""
    g, slope, _ = NONLINEARITIES[activation]
    z = np.linspace(-8, 8, 400)  # an even number: no point on the kink of ReLU
    density = np.exp(-(z**2) / 2)
    density /= density.sum()
    joint = density[:, None] * density
    q, difference, states = scale, scale, []  # inputs are independent N(0, 1)
    for _ in range(depth):
        states.append((q, difference, scale * density @ slope(np.sqrt(q) * z) ** 2))
        # Two examples as sum and difference: q - p, when small, would be lost to rounding.
        shared = np.sqrt(max(q - difference / 2, 0)) * z[:, None]
        apart = np.sqrt(difference / 2) * z
        difference = scale * np.sum(joint * (g(shared + apart) - g(shared - apart)) ** 2) / 2
        q = scale * density @ g(np.sqrt(q) * z) ** 2
    q, spread, factor = np.array(states).T
    below = np.append(np.cumprod(factor[:-1][::-1])[::-1], 1.0)
    return np.sqrt(np.stack([q, spread, below]))
