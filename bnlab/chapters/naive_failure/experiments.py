"""Chapter 3: the naive step in float32, and the same bug in a network that learns digits."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnlab import data, training
from bnlab.chapters.naive_failure import naive
from bnlab.chapters.naive_failure.results import (
    ClaimedAndReal,
    DetachedOnDigits,
    GradientAgreement,
    RoundingSweep,
    Stall,
)
from bnlab.experiments import Provenance, difference
from bnlab.nn import DetachedBatchNorm1d

__all__ = [
    "accumulate",
    "claimed_and_real",
    "detached_on_digits",
    "gradient_agreement",
    "repeat",
    "rounding_sweep",
    "sample",
]

ARMS = {
    "no normalization": (None, True),
    "batch norm": (nn.BatchNorm1d, True),
    "detached": (DetachedBatchNorm1d, True),
    "detached, no γ and β": (lambda width: DetachedBatchNorm1d(width, affine=False), True),
    "detached, no Linear bias": (DetachedBatchNorm1d, False),
}
"""Each arm's normalization, and whether the Linear layers before it have a bias."""

SIDE, HIDDEN, CLASSES, BATCH_SIZE = 14, (64, 64), 10, 60


def sample(
    *,
    n: int = 256,
    target_mean: float = 1.0,
    slope: float = 0.5,
    noise: float = 0.5,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Draw inputs and targets for the scalar layer of `bnlab.chapters.naive_failure.naive`.

    .. math:: u \sim \mathcal N(0, 1) \text{, then standardized}, \qquad
              t = \bar\tau + s u + \nu \varepsilon, \quad \varepsilon \sim \mathcal N(0, 1).

    Parameters
    ----------
    n : int
        Number of samples.
    target_mean, slope, noise : float
        :math:`\bar\tau`, :math:`s` and :math:`\nu`; the drawn mean and slope differ a little.
    seed : int
        Seed of the draw.

    Returns
    -------
    u, t : ndarray, shape (n,)
        `u` has mean 0 and standard deviation 1 to rounding.

    Examples
    --------
    >>> u, t = sample()
    >>> round(float(t.mean()), 4)
    0.975
    """
    rng = np.random.default_rng(seed)
    u, epsilon = rng.normal(size=(2, n))
    u = (u - u.mean()) / u.std()
    return u, target_mean + slope * u + noise * epsilon


def rounding_sweep(
    u: np.ndarray,
    t: np.ndarray,
    *,
    lr: float = 0.1,
    steps: int = 100,
    powers: Sequence[int] = tuple(range(28)),
) -> RoundingSweep:
    r"""Measure the centered layer in float32 with its bias started at :math:`1.5 \cdot 2^p`.

    The factor 1.5 keeps b away from the powers of two, where the spacing changes. If the error of
    rounding :math:`u + b` is uniform over one spacing, its root mean square is the spacing over
    :math:`\sqrt{12}`; once the spacing is far above the spread of u, all of u is lost.

    Parameters
    ----------
    u, t : ndarray, shape (n,)
        Inputs and targets, rounded to float32 first.
    lr : float
        Learning rate.
    steps : int
        Real naive steps taken from each bias.
    powers : sequence of int
        The powers p.

    Returns
    -------
    RoundingSweep
    """
    u, t = u.astype(np.float32), t.astype(np.float32)
    exact = naive.gradients(u.astype(np.float64), t.astype(np.float64))
    b = 1.5 * 2.0 ** np.array(powers)
    spacing = np.spacing(b.astype(np.float32)).astype(np.float64)
    exact_move = -lr * float(exact.b)
    errors, losses, moves = np.empty((3, len(b)))
    for i, start in enumerate(b):
        now = naive.gradients(u, t, b=start)
        errors[i] = np.sqrt(np.mean((now.x_hat - exact.x_hat) ** 2))
        losses[i] = now.loss
        moved = naive.train(u, t, lr=lr, steps=steps, b0=start, dtype=np.float32).b
        moves[i] = (float(moved[-1]) - float(moved[0])) / steps
    return RoundingSweep(
        lr=lr,
        steps=steps,
        b=b,
        spacing=spacing,
        output_error=errors,
        predicted_error=np.minimum(spacing / np.sqrt(12), float(u.std())),
        loss=losses,
        exact_loss=float(exact.loss),
        move=moves,
        exact_move=exact_move,
        predicted_move=np.round(exact_move / spacing) * spacing,
    )


def accumulate(step: float, *, steps: int = 2**25, every: int = 2**15) -> Stall:
    r"""Add one constant step to a float32 number, again and again, from zero.

    .. math:: b \leftarrow \mathrm{fl}(b + \mathrm{step})

    This is the naive bias with its gradient held at the exact constant, which makes tens of
    millions of steps affordable; `rounding_sweep` checks it against the real loop.

    Parameters
    ----------
    step : float
        Above 0; rounded to float32.
    steps : int
        Number of additions, a multiple of `every`.
    every : int
        Steps between two recorded states.

    Returns
    -------
    Stall
    """
    b, states, stalled = np.float32(0), [0.0], -1
    for chunk in range(steps // every):
        terms = np.full(every + 1, step, dtype=np.float32)
        terms[0] = b
        path = np.cumsum(terms)  # one rounded float32 addition after another
        if stalled < 0 and path[-1] == path[-2]:
            stalled = chunk * every + int(np.argmax(path == path[-1]))
        b = path[-1]
        states.append(float(b))
    return Stall(
        dtype="float32",
        step=float(step),
        count=every * np.arange(len(states)),
        b=np.array(states),
        stalled_after=stalled,
        predicted_b=naive.stalling_bias(step, dtype=np.float32),
    )


def detached_on_digits(
    *,
    arms: Sequence[str] = tuple(ARMS)[:4],
    lrs: Sequence[float] = (0.1, 0.3, 1.0, 3.0),
    steps: int = 300,
    seeds: Sequence[int] = tuple(range(5)),
) -> DetachedOnDigits:
    """Train every arm at every learning rate on the bundled digits, and watch its first Linear layer.

    The network has two hidden layers of 64 ReLU units, each normalized before its nonlinearity; the
    digits are averaged to 14 by 14 pixels, 1,000 of them held out. Computed in float64; even so, at
    the largest learning rate a run multiplies its rounding errors, which differ from machine to
    machine, until they show in the printed digits. The chapter therefore prints a stored run.

    Parameters
    ----------
    arms : sequence of str
        Names in `ARMS`.
    lrs : sequence of float
        Learning rates of plain gradient descent on mini-batches of 60.
    steps : int
        Length of each run.
    seeds : sequence of int
        Each sets the weights and the order of the batches.

    Returns
    -------
    DetachedOnDigits
    """
    shape = (len(seeds), len(arms), len(lrs))
    loss, accuracy = np.empty((*shape, steps)), np.empty(shape)
    shift, growth = np.empty((2, *shape, steps + 1))
    gradient = np.zeros(shape)
    train, test = _digits()
    for at in np.ndindex(shape):
        seed, arm, lr = (axis[i] for axis, i in zip((seeds, arms, lrs), at, strict=True))
        model = _network(arm, seed)
        start = copy.deepcopy(model.linear1)

        def watch(step: int, model: nn.Module, at=at, start=start) -> None:
            layer = model.linear1
            growth[at][step] = _norm(layer.weight) / _norm(start.weight)
            shift[at][step] = _norm(layer.bias - start.bias) if layer.bias is not None else 0.0
            if step > 0 and layer.bias is not None:
                gradient[at] = max(gradient[at], float(layer.bias.grad.abs().max()))

        history = training.train(
            model, train, lr=lr, steps=steps, batch_size=BATCH_SIZE, seed=seed, on_step=watch
        )
        loss[at], accuracy[at] = history.loss, training.accuracy(model, test)
    return DetachedOnDigits(
        arms=tuple(arms),
        lrs=tuple(lrs),
        seeds=tuple(seeds),
        loss=loss,
        accuracy=accuracy,
        bias_shift=shift,
        weight_growth=growth,
        bias_gradient=gradient,
    )


def repeat(result: DetachedOnDigits, origin: Provenance, *, steps: int = 20) -> dict[str, float]:
    """Train the first seed for a few steps at the second rate again, and return the relative differences."""
    lr = result.lrs[:2][-1]
    again = detached_on_digits(arms=result.arms, lrs=(lr,), steps=steps, seeds=result.seeds[:1])
    found = {}
    for name in ("loss", "bias_shift", "weight_growth"):
        now, stored = (
            getattr(again, name)[0, :, 0],
            getattr(result, name)[0, :, result.lrs.index(lr)],
        )
        found[name] = difference(now, stored[:, : now.shape[1]], floor=1e-6)
    return found


def gradient_agreement(
    *,
    lr: float = 0.1,
    at: Sequence[int] = (0, 1, 10, 100, 300),
    seeds: Sequence[int] = tuple(range(5)),
) -> GradientAgreement:
    """Train with detached statistics; on the way, compare with the gradient that is right there.

    Both gradients are of the first layer's weights, at the same weights, on the same 600 digits.

    Parameters
    ----------
    lr : float
        Learning rate.
    at : sequence of int
        Steps at which to compare, increasing; the last ends the run.
    seeds : sequence of int
        Each sets the weights and the order of the batches.

    Returns
    -------
    GradientAgreement
    """
    train, _ = _digits()
    x, y = training.tensors(train.take(np.arange(600)))
    cosine, ratio = np.empty((2, len(seeds), len(at)))
    for row, seed in enumerate(seeds):
        right = _network("batch norm", seed)

        def compare(step: int, model: nn.Module, row=row, right=right) -> None:
            if step not in at:
                return
            probe = copy.deepcopy(model)
            right.load_state_dict(model.state_dict())
            naive_grad, true_grad = (_weight_gradient(twin, x, y) for twin in (probe, right))
            column = list(at).index(step)
            ratio[row, column] = _norm(naive_grad) / _norm(true_grad)
            cosine[row, column] = float((naive_grad * true_grad).sum()) / (
                _norm(naive_grad) * _norm(true_grad)
            )

        training.train(
            _network("detached", seed),
            train,
            lr=lr,
            steps=at[-1],
            batch_size=BATCH_SIZE,
            seed=seed,
            on_step=compare,
        )
    return GradientAgreement(lr=lr, at=np.array(at), cosine=cosine, size_ratio=ratio)


def claimed_and_real(*, seed: int = 0, step: float = 1e-7) -> ClaimedAndReal:
    r"""Compare the gradient along a bias with what moving the bias does, for three normalizations.

    .. math::

        \underbrace{v^T \frac{\partial \ell}{\partial b}}_{\text{claimed}}
        \qquad\text{and}\qquad
        \underbrace{\frac{\ell(b + hv) - \ell(b - hv)}{2h}}_{\text{real}}

    Parameters
    ----------
    seed : int
        Seed of the network, the direction v and the batch.
    step : float
        The half-width h; small, so that hardly a ReLU switches within it.

    Returns
    -------
    ClaimedAndReal
        For batch statistics, fixed statistics (evaluation mode) and detached batch statistics.
    """
    train, _ = _digits()
    x, y = training.tensors(train.take(np.arange(seed * 60, seed * 60 + 60)))
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(HIDDEN[0], generator=generator, dtype=torch.float64)
    cases = {"batch statistics": "batch norm", "fixed statistics": "batch norm"}
    cases["detached batch statistics"] = "detached"
    claimed, real = np.empty((2, len(cases)))
    for i, (case, arm) in enumerate(cases.items()):
        model = _network(arm, seed).train(case != "fixed statistics")
        functional.cross_entropy(model(x), y).backward()
        bias = model.linear1.bias
        claimed[i] = float(bias.grad @ direction)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                bias += sign * step * direction
                ends.append(float(functional.cross_entropy(model(x), y)))
                bias -= sign * step * direction
        real[i] = (ends[0] - ends[1]) / (2 * step)
    return ClaimedAndReal(layers=tuple(cases), claimed=claimed, real=real)


class _Double(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.double()


def _network(arm: str, seed: int) -> nn.Sequential:
    """Build one arm's network: unlike `bnlab.models.mlp`, it keeps the bias before a normalization."""
    norm, bias = ARMS[arm]
    generator = torch.Generator().manual_seed(seed)
    layers: OrderedDict[str, nn.Module] = OrderedDict(cast=_Double())
    width = SIDE**2
    for k, size in enumerate(HIDDEN, start=1):
        layers[f"linear{k}"] = _linear(width, size, bias, generator)
        if norm is not None:
            layers[f"norm{k}"] = norm(size)
        layers[f"act{k}"] = nn.ReLU()
        width = size
    layers["out"] = _linear(width, CLASSES, True, generator)
    return nn.Sequential(layers).double()


def _linear(width: int, size: int, bias: bool, generator: torch.Generator) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, width, size, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.normal_(0.0, (2 / width) ** 0.5, generator=generator)
        if bias:
            layer.bias.zero_()
    return layer


def _digits() -> tuple[data.Dataset, data.Dataset]:
    """Return 4,000 digits to train on and 1,000 to test on, each averaged to 14 by 14 pixels."""
    digits = data.mnist_5k()
    small = digits.x.reshape(-1, SIDE, 2, SIDE, 2).mean(axis=(2, 4)).reshape(-1, SIDE**2)
    names = tuple(f"block {i}" for i in range(SIDE**2))
    return replace(digits, x=small, feature_names=names).split(test=1000, seed=0)


def _weight_gradient(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    model.train()
    model.zero_grad()
    functional.cross_entropy(model(x), y).backward()
    return model.linear1.weight.grad


def _norm(value: torch.Tensor) -> float:
    return float(value.detach().norm())
