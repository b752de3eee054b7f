"""Chapter 6: scale invariance, growing weights, gradients against depth, and stable learning rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bnlab import data, models, training
from bnlab.chapters.covariate_shift import signal_depth
from bnlab.chapters.gradient_flow.results import (
    DepthRatios,
    ExplosionRates,
    NeuronRun,
    RateSweep,
    ScaleInvariance,
    WidthRates,
)
from bnlab.experiments.store import run_and_save
from bnlab.reference import batch_norm_backward, batch_norm_forward

__all__ = [
    "equilibrium_norm4",
    "explosion_limit",
    "explosion_rate",
    "explosion_rates",
    "gradient_ratio",
    "largest_stable",
    "neuron_run",
    "rate_sweep",
    "scale_invariance",
    "store_explosion",
    "store_ratios",
    "store_sweeps",
    "sweep_arm",
    "width_rates",
]


# ---- scale invariance -----------------------------------------------------------------------------


def scale_invariance(
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
    >>> result = scale_invariance([0.5, 2.0])
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


def equilibrium_norm4(unit_grad2: float, *, lr: float, weight_decay: float) -> float:
    r"""Return the fourth power of the length at which decay shrinks w as fast as steps stretch it.

    .. math:: \lVert w \rVert^4 = \frac{\eta \, \mathrm{E} \lVert \tilde g \rVert^2}
              {\lambda \, (2 - \eta \lambda)}, \qquad \tilde g = \lVert w \rVert \, g

    Parameters
    ----------
    unit_grad2 : float
        Mean squared length of :math:`\tilde g`, the gradient at the weights scaled to length 1.
    lr, weight_decay : float
        :math:`\eta` and :math:`\lambda`, above 0.

    Returns
    -------
    float

    Notes
    -----
    From :math:`\lVert w \rVert^2 = (1 - \eta \lambda)^2 \lVert w \rVert^2 + \eta^2 \lVert g \rVert^2`,
    taking :math:`\lVert w \rVert` as constant; van Laarhoven 2017.

    Examples
    --------
    >>> round(equilibrium_norm4(2.0, lr=0.1, weight_decay=0.01), 4)
    10.005
    """
    return lr * unit_grad2 / (weight_decay * (2 - lr * weight_decay))


# ---- gradients against depth ----------------------------------------------------------------------


def explosion_limit(activation: str) -> float:
    r"""Return the growth per layer of the squared gradient for wide layers and large batches.

    .. math:: \frac{\mathrm{E}[g'(z)^2]}{\mathrm{Var}[g(z)]}, \qquad z \sim \mathcal N(0, 1)

    Parameters
    ----------
    activation : {"linear", "tanh", "relu", "sigmoid"}
        The nonlinearity g after each normalization.

    Returns
    -------
    float
        At least 1, by the Gaussian Poincaré inequality; 1 only if g is a straight line.

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
    r"""Return the growth per layer of the squared gradient for wide layers and batches of B.

    .. math:: \text{linear:}\; \frac{B - 2}{B - 3}, \qquad
              \text{ReLU:}\; \frac{B}{(B - 3)\,(\tfrac12 - k)} \cdot \frac{\tau}{B - 1}

    with :math:`c = -1/(B-1)`, :math:`k = \frac{1}{2\pi} (\sqrt{1 - c^2} + c\,(\pi - \arccos c))` and
    :math:`\tau = \frac{B}{2} - 1 + \frac{1}{B^2} (\frac{B}{2} + B (B-1) (\frac14 + \frac{\arcsin c}
    {2\pi})) - \frac12 + \frac{1}{B} (\frac12 + (B-1) k)`.

    Parameters
    ----------
    activation : {"linear", "relu"}
    batch_size : int
        B, at least 4.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there is no closed form for the activation, or B is below 4, where the mean is infinite.

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


def explosion_rates(
    activation: str,
    *,
    batch_sizes: Sequence[int] = (8, 16, 32, 64),
    width: int = 512,
    depth: int = 16,
    skip: int = 3,
    draws: int = 10,
    first_seed: int = 0,
) -> ExplosionRates:
    r"""Measure how much the squared gradient grows per layer in normalized random networks.

    .. math:: \Big( \frac{\lVert g_{s} \rVert^2}{\lVert g_{L-1-s} \rVert^2} \Big)^{1 / (L-1-2s)}

    Parameters
    ----------
    activation : {"linear", "tanh", "relu", "sigmoid"}
        Theory at finite B is filled in where there is a closed form, else NaN.
    batch_sizes : sequence of int
        The batch sizes B.
    width, depth : int
        Units in each layer and number L of layers.
    skip : int
        Layers s left out at each end, where inputs and loss still show.
    draws, first_seed : int
        Number of networks, and the seed of the first; the others take the numbers after it.

    Returns
    -------
    ExplosionRates

    Examples
    --------
    >>> result = explosion_rates("relu", batch_sizes=(16,), width=64, depth=10, draws=3)
    >>> bool(1.3 < result.rate.mean() < 1.9)
    True
    """
    rates = np.empty((draws, len(batch_sizes)))
    for j, batch_size in enumerate(batch_sizes):
        gradient = signal_depth.profile(
            activation=activation,
            weight_std=width**-0.5,
            norm=nn.BatchNorm1d,
            width=width,
            depth=depth,
            examples=batch_size,
            seeds=draws,
            first_seed=first_seed,
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
    draws: int = 20,
    first_seed: int = 0,
) -> WidthRates:
    r"""Measure the growth per layer of the squared gradient against the width; see `explosion_rates`.

    Parameters
    ----------
    activation : {"linear", "relu"}
    batch_size : int
    widths : sequence of int
    draws, first_seed : int
        Number of networks of each width, and the seed of the first.

    Returns
    -------
    WidthRates

    Examples
    --------
    >>> width_rates("linear", batch_size=8, widths=(16, 32), draws=3).rate.shape
    (3, 2)
    """
    rates = [
        explosion_rates(
            activation, batch_sizes=(batch_size,), width=w, draws=draws, first_seed=first_seed
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


def store_explosion(folder: str | Path, *, draws: int = 10, width: int = 1024) -> tuple[Path, ...]:
    r"""Measure on this machine the explosion that Chapter 6 shows, and save it with its provenance.

    Large networks take their time; the chapter measures a few of them again.

    Parameters
    ----------
    folder : str or Path
        Where to write ``gradient_flow_explosion_<activation>.npz``, over batch sizes, and
        ``gradient_flow_widths_<activation>.npz``, over widths.
    draws : int
        Networks for each batch size, with seeds from 100 on. Over widths, with seeds from 0 on: twice
        as many for ReLU, four times for the linear network.
    width : int
        Of the networks over batch sizes.

    Returns
    -------
    tuple of Path
        The files written.
    """
    paths = []
    for activation, batch_size, many in (("relu", 256, 2 * draws), ("linear", 8, 4 * draws)):
        paths += [
            run_and_save(
                Path(folder) / f"gradient_flow_explosion_{activation}.npz",
                lambda a=activation: explosion_rates(a, width=width, draws=draws, first_seed=100),
                lambda r: (range(100, 100 + draws), {"width": r.width, "depth": r.depth}),
            ),
            run_and_save(
                Path(folder) / f"gradient_flow_widths_{activation}.npz",
                lambda a=activation, b=batch_size, n=many: width_rates(a, batch_size=b, draws=n),
                lambda r, n=many: (range(n), {"widths": r.widths.tolist(), "depth": 16}),
            ),
        ]
    return tuple(paths)


def gradient_ratio(
    *,
    lr: float,
    checkpoints: Sequence[int] = (0, 1, 10, 100),
    width: int = 100,
    depth: int = 50,
    batch_size: int = 60,
    seeds: Sequence[int] = tuple(range(5)),
) -> np.ndarray:
    r"""Train deep normalized ReLU networks on digits and follow the gradient's growth over the depth.

    .. math:: \lVert \partial \ell / \partial z_1 \rVert \,/\, \lVert \partial \ell / \partial z_L \rVert

    with :math:`z_k` the inputs of the k-th of L nonlinearities, for one fixed batch. Computed in float64.

    Parameters
    ----------
    lr : float
        The learning rate.
    checkpoints : sequence of int
        Numbers of steps after which to measure; 0 is the initialization.
    width, depth, batch_size : int
        Units in each layer, number L of hidden layers, and batch size.
    seeds : sequence of int
        Each sets the weights and the order of the batches.

    Returns
    -------
    numpy.ndarray
        Shape (seeds, checkpoints).

    Examples
    --------
    >>> ratio = gradient_ratio(lr=0.1, checkpoints=(0,), depth=12, seeds=(0,))
    >>> bool(ratio[0, 0] > 3)
    True
    """
    digits, _ = data.mnist_5k().split(test=1000, seed=0)
    x, y = (t[:batch_size] for t in training.tensors(digits, dtype=torch.float64))
    ratio = np.empty((len(seeds), len(checkpoints)))
    for i, seed in enumerate(seeds):

        def measure(t: int, model: nn.Module, i=i) -> None:
            if t in checkpoints:
                ratio[i, list(checkpoints).index(t)] = _first_over_last(model, x, y)

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
    return ratio


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


def store_ratios(
    path: str | Path,
    *,
    lrs: Sequence[float] = (0.1, 0.01),
    checkpoints: Sequence[int] = (0, 1, 10, 100),
    seeds: Sequence[int] = tuple(range(10)),
    **config,
) -> Path:
    r"""Follow the gradient's growth at several learning rates and save it; see `gradient_ratio`.

    A deep network multiplies rounding errors: already after ten steps even runs in float64 differ from
    one processor to another in the printed digits. So the chapter shows a stored run.

    Parameters
    ----------
    path : str or Path
        Ends in ``.npz``.
    lrs : sequence of float
    checkpoints, seeds : sequence of int
        As for `gradient_ratio`.
    **config
        Further arguments of `gradient_ratio`.

    Returns
    -------
    Path
        The file written.
    """

    def run() -> DepthRatios:
        ratios = [
            gradient_ratio(lr=lr, checkpoints=checkpoints, seeds=seeds, **config) for lr in lrs
        ]
        return DepthRatios(tuple(lrs), tuple(checkpoints), np.stack(ratios))

    told = {"lrs": list(lrs), "checkpoints": list(checkpoints)} | config
    return run_and_save(path, run, lambda _: (seeds, told))


def _first_over_last(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    inputs = []
    for name, layer in model.named_children():
        if name.startswith("act"):
            inputs.append(x)
        x = layer(x)
    loss = nn.functional.cross_entropy(x, y)
    first, last = torch.autograd.grad(loss, [inputs[0], inputs[-1]])
    return float(first.norm() / last.norm())


# ---- learning rates -------------------------------------------------------------------------------

GUESSING = float(np.log(10))  # the loss of ten equal guesses


def rate_sweep(
    label: str,
    *,
    lrs: Sequence[float],
    norm: Callable[[int], nn.Module] | None = None,
    normalize_outputs: bool = False,
    fixed: Sequence[str] = (),
    sizes: Sequence[int] = (784, 100, 100, 10),
    steps: int = 100,
    batch_size: int = 60,
    last: int = 20,
    below: float = 0.5,
    seeds: Sequence[int] = tuple(range(5)),
) -> RateSweep:
    r"""Train a ReLU network on digits in float64 at each learning rate; say which runs were stable.

    A run is *stable* if every loss is finite and the mean of its last losses is below half of
    :math:`\ln 10`, the loss of guessing among ten digits. A run that blew up and came to rest with
    dead units is therefore not stable.

    Parameters
    ----------
    label : str
        Name in figures.
    lrs : sequence of float
        The learning rates.
    norm : callable, optional
        As for `bnlab.models.mlp`.
    normalize_outputs : bool
        Normalize the logits as well, without scale and shift, so that *every* parameter is followed
        by a normalization.
    fixed : sequence of str
        Names of layers that keep their initial parameters, e.g. ``linear3``, the last.
    sizes : sequence of int
        As for `bnlab.models.mlp`.
    steps, batch_size, last : int
        Steps of each run, batch size, and how many last losses count.
    below : float
        The limit of stability as a share of the loss of guessing.
    seeds : sequence of int
        Each sets the weights and the order of the batches.

    Returns
    -------
    RateSweep

    Examples
    --------
    >>> sweep = rate_sweep("plain", lrs=[0.1, 1000.0], steps=30, seeds=(0,))
    >>> sweep.stable.tolist()
    [[True, False]]
    """
    digits, held_out = data.mnist_5k().split(test=1000, seed=0)
    losses, stable, accuracy, growth = [], [], [], []
    for seed in seeds:
        for lr in lrs:
            model = models.mlp(sizes, activation="relu", norm=norm, init_std="he", seed=seed)
            if normalize_outputs:
                model.add_module("norm_out", nn.BatchNorm1d(sizes[-1], affine=False))
            model.double()
            for name in fixed:
                model.get_submodule(name).requires_grad_(False)
            before = float(model.linear1.weight.detach().norm())
            loss = training.train(
                model, digits, lr=lr, steps=steps, batch_size=batch_size, seed=seed
            ).loss
            end = loss[-last:].mean()
            losses.append(end)
            stable.append(bool(np.isfinite(loss).all() and end < below * GUESSING))
            accuracy.append(training.accuracy(model, held_out))
            growth.append(float(model.linear1.weight.detach().norm()) / before)
    shape = (len(seeds), len(lrs))
    return RateSweep(
        label=label,
        normalized=norm is not None,
        lr=np.array(lrs, dtype=float),
        loss=np.array(losses).reshape(shape),
        stable=np.array(stable).reshape(shape),
        limit=below * GUESSING,
        accuracy=np.array(accuracy).reshape(shape),
        growth=np.array(growth).reshape(shape),
    )


def _flat(units: int) -> nn.Module:
    return nn.BatchNorm1d(units, affine=False)


_FINE, _COARSE = 2.0 ** np.arange(-1.5, 5, 0.5), 2.0 ** np.arange(-1, 8, 2)

ARMS = {  # the arguments of `rate_sweep` for each arm that Chapter 6 compares
    "without": {"lrs": _FINE},
    "with": {"lrs": _FINE, "norm": nn.BatchNorm1d},
    "flat": {"lrs": _FINE[3:], "norm": _flat},
    "last fixed": {"lrs": _COARSE, "norm": nn.BatchNorm1d, "fixed": ("linear3",)},
    "outputs too": {"lrs": _COARSE, "norm": nn.BatchNorm1d, "normalize_outputs": True},
}


def sweep_arm(label: str, **config) -> RateSweep:
    r"""Sweep one of the arms that Chapter 6 compares; see `rate_sweep`.

    Parameters
    ----------
    label : {"without", "with", "flat", "last fixed", "outputs too"}
        The arm.
    **config
        Arguments of `rate_sweep` to use instead of the arm's own.

    Returns
    -------
    RateSweep

    Examples
    --------
    >>> sweep_arm("with", lrs=[0.5], steps=40, seeds=(0,)).stable.tolist()
    [[True]]
    """
    return rate_sweep(label, **(ARMS[label] | config))


def store_sweeps(folder: str | Path, *, seeds: Sequence[int] = tuple(range(10)), **config) -> tuple:
    r"""Sweep every arm on this machine and save each with its provenance; see `sweep_arm`.

    Close to where training breaks, rounding decides how a run goes on, and processors round
    differently. So the chapter shows stored sweeps.

    Parameters
    ----------
    folder : str or Path
        Where to write ``gradient_flow_rates_<arm>.npz``.
    seeds : sequence of int
        As for `rate_sweep`.
    **config
        Arguments of `rate_sweep` for every arm.

    Returns
    -------
    tuple of Path
        The files written.
    """
    paths = []
    norms = {nn.BatchNorm1d: "BatchNorm1d", _flat: "BatchNorm1d(affine=False)"}
    for label, arm in ARMS.items():
        told = {k: v for k, v in (arm | config).items() if k not in ("lrs", "norm")}
        told["norm"] = norms.get(arm.get("norm"))
        path = Path(folder) / f"gradient_flow_rates_{label.replace(' ', '_')}.npz"
        paths.append(
            run_and_save(
                path,
                lambda label=label: sweep_arm(label, seeds=seeds, **config),
                lambda sweep, told=told: (seeds, told | {"lrs": sweep.lr.tolist()}),
            )
        )
    return tuple(paths)


def largest_stable(sweep: RateSweep) -> np.ndarray:
    r"""Return, for each seed, the rate at which training stops being stable.

    Between the last rate before the first unstable one and that one, the logarithm of the rate is
    interpolated to where the loss crosses the limit.

    Parameters
    ----------
    sweep : RateSweep
        Its rates in increasing order.

    Returns
    -------
    numpy.ndarray
        Shape (seeds,); the largest rate of the sweep where all were stable, NaN where not even the
        smallest was.

    Examples
    --------
    >>> sweep = rate_sweep("plain", lrs=[0.2, 0.4, 100.0], steps=50, seeds=(0,))
    >>> bool(0.4 <= largest_stable(sweep)[0] < 100)
    True
    """
    edges = np.full(len(sweep.stable), np.nan)
    log_lr = np.log(sweep.lr)
    for i, (stable, loss) in enumerate(zip(sweep.stable, sweep.loss, strict=True)):
        good = int(np.cumprod(stable).sum()) - 1  # the last rate before the first failure
        if good == len(stable) - 1:
            edges[i] = sweep.lr[good]
        elif good >= 0:
            rise = loss[good + 1] - loss[good]
            share = (sweep.limit - loss[good]) / rise if np.isfinite(rise) else 0.0
            edges[i] = np.exp(log_lr[good] + np.clip(share, 0, 1) * np.diff(log_lr)[good])
    return edges
