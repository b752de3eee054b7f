"""Chapter 6: what scale invariance does to the gradient and to the length of the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnlab.chapters.gradient_flow.results import NeuronRun, ScaleInvariance
from bnlab.reference import batch_norm_backward, batch_norm_forward

__all__ = ["compare_scales", "neuron_run"]


def compare_scales(
    a: Sequence[float],
    *,
    eps: float = 0.0,
    m: int = 32,
    inputs: int = 8,
    units: int = 5,
    seed: int = 0,
) -> ScaleInvariance:
    r"""Compare BN(aWu) with BN(Wu), forward and backward, for a random layer and loss.

    .. math::

       \mathrm{BN}((aW)u) = \mathrm{BN}(Wu), \qquad
       \frac{\partial \mathrm{BN}((aW)u)}{\partial u} = \frac{\partial \mathrm{BN}(Wu)}{\partial u},
       \qquad \frac{\partial \mathrm{BN}((aW)u)}{\partial (aW)}
       = \frac{1}{a} \frac{\partial \mathrm{BN}(Wu)}{\partial W}

    With :math:`\epsilon = 0` all three are exact. With :math:`\epsilon > 0` the loss still feels the
    length of each row :math:`w` of :math:`aW`:

    .. math:: w \cdot \frac{\partial \ell}{\partial w} = \frac{\epsilon}{\sigma_B^2 + \epsilon}
              \sum_i \frac{\partial \ell}{\partial \hat{x}_i} \hat{x}_i

    Parameters
    ----------
    a : sequence of float
        Scales, each above 0.
    eps : float
    m, inputs, units : int
        Batch size, number of inputs and of units.
    seed : int

    Returns
    -------
    ScaleInvariance

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 3.3.

    Examples
    --------
    >>> result = compare_scales([0.5, 2.0])
    >>> bool(max(result.output.max(), result.du.max(), result.dw.max()) < 1e-12)
    True
    """
    rng = np.random.default_rng(seed)
    u, w = rng.normal(size=(m, inputs)), rng.normal(size=(inputs, units)) / np.sqrt(inputs)
    dy = rng.normal(size=(m, units))

    def layer(scale: float):
        y, cache = batch_norm_forward(u @ (scale * w), np.ones(units), np.zeros(units), eps=eps)
        dz, dgamma, _ = batch_norm_backward(dy, cache)
        dw = u.T @ dz
        radial = np.sum(scale * w * dw, axis=0)
        return y, dz @ (scale * w).T, scale * dw, radial, eps / (cache.var_B + eps) * dgamma

    at_one, rows = layer(1.0), []
    for scale in a:
        *here, radial, theory = layer(scale)
        change = [np.abs(p - q).max() / np.abs(q).max() for p, q in zip(here, at_one, strict=False)]
        rows.append([*change, np.abs(radial).max(), np.abs(theory).max()])
    output, du, dw, radial, theory = np.array(rows).T
    return ScaleInvariance(np.array(a, dtype=float), eps, output, du, dw, radial, theory)


def neuron_run(
    *,
    lr: float,
    weight_decay: float = 0.0,
    eps: float = 0.0,
    start: float = 1.0,
    steps: int = 3000,
    seeds: int = 20,
    inputs: int = 20,
    batch_size: int = 16,
    noise: float = 1.0,
) -> NeuronRun:
    r"""Train one normalized neuron by SGD on a stream that never ends, and follow its weights.

    .. math::

       \ell = \frac{1}{2m} \sum_i (\mathrm{BN}(w \cdot u_i) - t_i)^2, \qquad
       t_i = u_{i1} + \text{noise}, \qquad
       w \leftarrow (1 - \eta \lambda) \, w - \eta \frac{\partial \ell}{\partial w}

    Every step draws a new batch of Gaussian inputs, so the gradient's noise never dies down and the
    run settles into a steady state. All seeds run side by side, each as one feature of one layer.

    Parameters
    ----------
    lr, weight_decay : float
        :math:`\eta` and :math:`\lambda`.
    eps : float
        Of the normalization.
    start : float
        Length of w at the start.
    steps, seeds, inputs, batch_size : int
    noise : float
        Standard deviation of the noise on the target.

    Returns
    -------
    NeuronRun

    Examples
    --------
    >>> run = neuron_run(lr=0.1, steps=50, seeds=2)
    >>> grown = run.norm2[:, 0] + 0.1**2 * run.grad2.sum(axis=1)
    >>> bool(np.allclose(run.norm2[:, -1], grown, rtol=1e-12))
    True
    """
    rng = np.random.default_rng(0)  # one stream for all: each row below is one seed
    w = rng.normal(size=(seeds, inputs))
    w *= start / np.linalg.norm(w, axis=1, keepdims=True)
    gamma, beta = np.ones(seeds), np.zeros(seeds)
    norm2, grad2, radial, cosine = (np.empty((seeds, steps + 1)) for _ in range(4))
    for t in range(steps):
        u = rng.normal(size=(seeds, batch_size, inputs))
        target = u[..., 0] + noise * rng.normal(size=(seeds, batch_size))
        y, cache = batch_norm_forward((u @ w[..., None])[..., 0].T, gamma, beta, eps=eps)
        dz, _, _ = batch_norm_backward((y - target.T) / batch_size, cache)
        gradient = (dz.T[:, None] @ u)[:, 0]
        moved = (1 - lr * weight_decay) * w - lr * gradient
        norm2[:, t], grad2[:, t] = _dot(w, w), _dot(gradient, gradient)
        radial[:, t] = _dot(w, gradient)
        cosine[:, t] = _dot(w, moved) / np.sqrt(norm2[:, t] * _dot(moved, moved))
        w = moved
    norm2[:, steps] = _dot(w, w)
    return NeuronRun(
        lr=lr,
        weight_decay=weight_decay,
        eps=eps,
        norm2=norm2,
        grad2=grad2[:, :steps],
        radial=radial[:, :steps],
        rotation=np.arccos(np.clip(cosine[:, :steps], -1, 1)),
    )


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("sd,sd->s", a, b)
