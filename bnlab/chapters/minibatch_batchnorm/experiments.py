"""Experiments of Chapter 5: one mini-batch, its scale and shift, and the company a value keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from bnlab import data, models, training
from bnlab.chapters.minibatch_batchnorm.results import (
    BatchMakeup,
    CompanySpread,
    EpsSweep,
    IdentityRun,
    LargestValues,
    NormalizedShape,
)
from bnlab.experiments import Provenance
from bnlab.reference import batch_norm_backward, batch_norm_forward

MEAN, STD, EPS = 3.0, 2.0, 1e-5


def learn_identity(
    *, fresh: bool, m: int = 16, lr: float = 0.1, steps: int = 200, seeds: int = 20
) -> IdentityRun:
    r"""Let gradient descent find the scale and shift that give the input back.

    .. math:: \ell = \frac{1}{m} \sum_i (y_i - x_i)^2

    On one batch the answer is :math:`\gamma = \sqrt{\sigma_B^2 + \epsilon}`,
    :math:`\beta = \mu_B`. On fresh batches, one step is
    :math:`\gamma \leftarrow (1 - 2\eta)\gamma + 2\eta\,\sigma_B` and the same for :math:`\beta`
    and :math:`\mu_B`: two running averages, whose late loss for normal data is

    .. math:: \mathrm{E}[\ell] = \frac{\sigma^2 (1 - c_m^2)}{1 - \eta}, \qquad
              c_m = \sqrt{\frac{2}{m}} \frac{\Gamma(m/2)}{\Gamma((m-1)/2)}

    Parameters
    ----------
    fresh : bool
        Whether each step draws a new batch.
    m, lr, steps, seeds
        Batch size, learning rate, steps of gradient descent, and runs, seeded 0, 1, ...

    Returns
    -------
    IdentityRun

    Examples
    --------
    >>> run = learn_identity(fresh=False, seeds=2)
    >>> bool(run.loss[:, -1].max() < 1e-12)
    True
    """
    rngs = [np.random.default_rng(seed) for seed in range(seeds)]

    def draw() -> np.ndarray:  # each seed is a feature of its own
        return np.stack([rng.normal(MEAN, STD, m) for rng in rngs], axis=1)

    x, gamma, beta = draw(), np.ones(seeds), np.zeros(seeds)
    path, losses = [(gamma, beta)], []
    for _ in range(steps):
        x = draw() if fresh else x
        y, cache = batch_norm_forward(x, gamma, beta, eps=EPS)
        _, dgamma, dbeta = batch_norm_backward(2 * (y - x) / m, cache)
        gamma, beta = gamma - lr * dgamma, beta - lr * dbeta
        path.append((gamma, beta))
        losses.append(((y - x) ** 2).mean(axis=0))
    return IdentityRun(
        fresh=fresh,
        m=m,
        lr=lr,
        gamma=np.stack([g for g, _ in path], axis=1),
        beta=np.stack([b for _, b in path], axis=1),
        loss=np.stack(losses, axis=1),
        batch_std=1 / cache.inv_std,
        batch_mean=cache.mu_B,
        expected_gamma=STD * _mean_std(m),
        expected_loss=STD**2 * (1 - _mean_std(m) ** 2) / (1 - lr) if fresh else 0.0,
    )


def _mean_std(m: int) -> float:
    """Return the mean of the biased standard deviation of m standard normal values."""
    return math.sqrt(2 / m) * math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2))


KINDS = {
    "one outlier": lambda rng, shape: np.eye(shape[0])[0][:, None] * np.ones(shape[1]),
    "Cauchy": lambda rng, shape: rng.standard_cauchy(shape),
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.uniform(size=shape),
}


def largest_values(
    *, sizes: Sequence[int] = (2, 4, 8, 16, 32, 64, 128, 256, 512), draws: int = 400, seed: int = 0
) -> LargestValues:
    r"""Measure the largest :math:`|\widehat{x}_i|` of a batch against its bound :math:`\sqrt{m-1}`.

    Parameters
    ----------
    sizes : sequence of int
        Batch sizes m.
    draws, seed : int
        Batches of each kind and size, and the seed of all.

    Returns
    -------
    LargestValues

    Examples
    --------
    >>> found = largest_values(sizes=(5,), draws=10)
    >>> print(found.largest.max(axis=0).ravel()[0].round(6))
    2.0
    """
    rng = np.random.default_rng(seed)
    largest = [
        [np.abs(_normalized(make(rng, (m, draws)))).max(axis=0) for m in sizes]
        for make in KINDS.values()
    ]
    return LargestValues(tuple(KINDS), np.array(sizes), np.moveaxis(largest, -1, 0))


def _normalized(x: np.ndarray, eps: float = 0.0) -> np.ndarray:
    ones = np.ones(x.shape[1])
    return batch_norm_forward(x, ones, 0 * ones, eps=eps)[0]


def eps_sweep(*, eps: Sequence[float] = (1e-5, 1e-3), m: int = 32, seed: int = 0) -> EpsSweep:
    r"""Shrink one batch step by step: spread of the output, and gain of the gradient.

    .. math:: \mathrm{std}(y) = \frac{\gamma\,\sigma_B}{\sqrt{\sigma_B^2 + \epsilon}}, \qquad
              \text{gain} = \frac{\gamma}{\sqrt{\sigma_B^2 + \epsilon}}

    Parameters
    ----------
    eps : sequence of float
        The constants to compare.
    m, seed : int
        Size and seed of the batch.

    Returns
    -------
    EpsSweep

    Examples
    --------
    >>> sweep = eps_sweep(eps=(1e-4,))
    >>> print(float(sweep.gain.max().round(2)))  # 1 / sqrt(eps)
    100.0
    """
    rng = np.random.default_rng(seed)
    z, dy = _normalized(rng.standard_normal((m, 1))), rng.standard_normal((m, 1))
    dy -= dy.mean() + z * (dy * z).mean()
    std = np.logspace(-6, 1, 57)
    x, dy = z * std, np.repeat(dy, std.size, axis=1)
    ones = np.ones(std.size)
    spread, gain = [], []
    for value in eps:
        y, cache = batch_norm_forward(x, ones, 0 * ones, eps=value)
        dx, _, _ = batch_norm_backward(dy, cache)
        spread.append(y.std(axis=0))
        gain.append(np.linalg.norm(dx, axis=0) / np.linalg.norm(dy, axis=0))
    return EpsSweep(np.array(eps, dtype=float), std, np.array(spread), np.array(gain))


def normalized_shape(
    *,
    sizes: Sequence[int] = (2, 3, 4, 5, 8, 16, 64),
    draws: int = 4000,
    bins: int = 20,
    seeds: int = 10,
) -> NormalizedShape:
    r"""Normalize batches of normal values, and send random gradients back.

    For normal data, :math:`t = \widehat{x}_i / \sqrt{m-1}` has a density proportional to
    :math:`(1 - t^2)^{(m-4)/2}` on (-1, 1), so that

    .. math:: \mathrm{E}[\widehat{x}_i^4] = \frac{3(m-1)}{m+1}, \qquad
              \text{share of the gradient that passes} = \frac{m-2}{m}

    Parameters
    ----------
    sizes : sequence of int
        Batch sizes m.
    draws, bins, seeds : int
        Batches for each seed, bins of the histogram, and seeds 0, 1, ...

    Returns
    -------
    NormalizedShape

    Notes
    -----
    The density is that of Thompson 1935.

    Examples
    --------
    >>> shape = normalized_shape(sizes=(2,), draws=50, seeds=2)
    >>> print(shape.kurtosis.round(6).tolist(), shape.passed.max() < 1e-12)
    [[1.0], [1.0]] True
    """
    edges = np.linspace(-1, 1, bins + 1)
    kurtosis, passed = np.empty((2, seeds, len(sizes)))
    counts = np.zeros((len(sizes), bins))
    ones = np.ones(draws)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        for a, m in enumerate(sizes):
            x, dy = rng.standard_normal((2, m, draws))
            x_hat, cache = batch_norm_forward(x, ones, 0 * ones, eps=0.0)
            dx, _, _ = batch_norm_backward(dy, cache)
            kurtosis[seed, a] = (x_hat**4).mean()
            passed[seed, a] = ((dx / cache.inv_std) ** 2).sum() / (dy**2).sum()
            t = np.clip(
                x_hat[0] / LargestValues.bound(m), -1, 1
            )  # one value of each batch: independent
            counts[a] += np.histogram(t, edges)[0]
    return NormalizedShape(
        m=np.array(sizes),
        edges=edges,
        density=counts / (seeds * draws) / np.diff(edges),
        kurtosis=kurtosis,
        passed=passed,
    )


def company_spread(
    *,
    values: Sequence[float] = (0.0, 1.0, 3.0),
    sizes: Sequence[int] = (4, 8, 16, 32, 64, 128, 256),
    draws: int = 1000,
    seeds: int = 10,
) -> CompanySpread:
    r"""Put the same value into many batches of otherwise normal values.

    To first order in :math:`1/\sqrt m`, the normalized value of v moves by

    .. math:: \mathrm{std}(\widehat{x}) \approx \sqrt{\frac{1 + v^2/2}{m}}

    where 1 is the share of the batch's mean and :math:`v^2/2` that of its standard deviation.

    Parameters
    ----------
    values : sequence of float
        The values v, in standard deviations from the population's mean.
    sizes : sequence of int
        Batch sizes m, the value itself included.
    draws, seeds : int
        Batches for each seed, and seeds 0, 1, ...

    Returns
    -------
    CompanySpread

    Examples
    --------
    >>> found = company_spread(values=(1.0,), sizes=(100,), seeds=2)
    >>> print(found.theory.round(4))
    [[0.1225]]
    """
    spread = np.empty((seeds, len(values), len(sizes)))
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        for b, m in enumerate(sizes):
            x = rng.standard_normal((m, draws))
            for a, value in enumerate(values):
                x[0] = value
                spread[seed, a, b] = _normalized(x, eps=EPS)[0].std()
    v, m = np.array(values, dtype=float), np.array(sizes)
    return CompanySpread(v, m, spread, np.sqrt((1 + v[:, None] ** 2 / 2) / m))


def batch_makeup(
    *,
    sizes: Sequence[int] = (2, 5, 10, 18, 45, 90),
    repeats: int = 10,
    steps: int = 400,
    seeds: Sequence[int] = tuple(range(5)),
) -> BatchMakeup:
    r"""Train on shuffled batches of digits, then classify test digits in differently made batches.

    A 784-100-100-10 network with Batch Normalization and ReLU, batches of 60, learning rate 0.5, in float64. Then
    900 test digits, 90 of each class, with the running statistics and with those of the batch.

    Parameters
    ----------
    sizes : sequence of int
        Test batch sizes. Each divides 90, so that all batches, of one class or shuffled, are full.
    repeats : int
        Random companies of each digit; a digit is *fickle* if they do not all give it one class.
    steps : int
        Of training.
    seeds : sequence of int
        Each sets the weights, the order of the batches and the companies.

    Returns
    -------
    BatchMakeup

    Raises
    ------
    ValueError
        If a size does not divide 90.
    """
    if uneven := [m for m in sizes if m < 1 or 90 % m]:
        raise ValueError(
            f"sizes holds {uneven}; expected divisors of 90, the digits of each class, so that no "
            "batch is smaller than it says. Use 2, 5, 10, 18, 45 or 90."
        )
    digits, held_out = data.mnist_5k().split(test=1000, seed=0)
    x, y = training.tensors(held_out, dtype=torch.float64)
    rows = torch.cat([torch.where(y == c)[0][:90] for c in range(10)])
    x, y = x[rows], y[rows]
    evaluation, shuffled, by_class, fickle = [], [], [], []
    for seed in seeds:
        model = models.mlp(
            [784, 100, 100, 10],
            activation="relu",
            norm=torch.nn.BatchNorm1d,
            init_std="he",
            seed=seed,
        ).double()
        training.train(model, digits, lr=0.5, steps=steps, batch_size=60, seed=seed)
        with torch.no_grad():
            evaluation.append(float((model.eval()(x).argmax(1) == y).float().mean()))
        generator = torch.Generator().manual_seed(seed)
        shares = [_makeup(model, x, y, m, repeats, generator) for m in sizes]
        for store, values in zip(
            (shuffled, by_class, fickle), zip(*shares, strict=True), strict=True
        ):
            store.append(values)
    return BatchMakeup(
        m=np.array(sizes),
        evaluation=np.array(evaluation),
        shuffled=np.array(shuffled),
        by_class=np.array(by_class),
        fickle=np.array(fickle),
    )


def repeat(makeup: BatchMakeup, origin: Provenance) -> dict[str, float]:
    """Train the first seed again, and return the largest difference of each share of the test digits.

    Training multiplies rounding errors, and processors round differently, so single decisions may differ.
    """
    again = batch_makeup(**origin.config | {"seeds": origin.seeds[:1]})
    shares = ("evaluation", "shuffled", "by_class", "fickle")
    return {
        name: float(np.abs(getattr(again, name)[0] - getattr(makeup, name)[0]).max())
        for name in shares
    }


def _makeup(model, x, y, m, repeats, generator) -> tuple[float, float, float]:
    orders = [torch.randperm(len(x), generator=generator) for _ in range(repeats)]
    classes = torch.stack([_classify(model, x, order.split(m)) for order in orders])
    known = classes >= 0
    right = ((classes == y) & known).sum() / known.sum()
    fickle = (classes != classes[0]).any(dim=0).float().mean()
    alone = _classify(model, x, _single_class_batches(y, m))
    pure = (alone == y)[alone >= 0].float().mean()
    return float(right), float(pure), float(fickle)


def _single_class_batches(y: torch.Tensor, m: int) -> Iterator[torch.Tensor]:
    for c in y.unique():
        yield from torch.where(y == c)[0].split(m)


@torch.no_grad()
def _classify(model, x, batches) -> torch.Tensor:
    """Return each row's class by the statistics of its own batch, which are not remembered."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.momentum = 0.0
    model.train()
    classes = torch.full((len(x),), -1)
    for rows in batches:
        if len(rows) > 1:
            classes[rows] = model(x[rows]).argmax(dim=1)
    return classes
