"""Chapter 7: how batch statistics scatter around the population's, and how running averages follow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from bnlab import data
from bnlab.chapters.inference_statistics.results import (
    BatchMoments,
    PixelDependence,
    RunningAverage,
    SampleDependence,
)

__all__ = [
    "KURTOSIS",
    "batch_moments",
    "pixel_dependence",
    "root_ratio",
    "running_average",
    "sample_dependence",
    "variance_of_variance",
]

# Excess kurtosis of each source; all have mean 0 and variance 1.
KURTOSIS = {"bell": 0.0, "skewed": 6.0, "two groups": -1.3122}


def batch_moments(
    *,
    source: str = "bell",
    batch_sizes: Sequence[int] = (2, 3, 5, 10, 30, 100),
    draws: int = 20_000,
    seed: int = 0,
) -> BatchMoments:
    r"""Draw many mini-batches from a population with mean 0 and variance 1.

    Parameters
    ----------
    source : {"bell", "skewed", "two groups"}
        A Gaussian; an exponential less its mean; a Gaussian of variance 0.19 around ±0.9.
    batch_sizes : sequence of int
        Each at least 2.
    draws : int
        Batches of each size.
    seed : int

    Returns
    -------
    BatchMoments

    Raises
    ------
    ValueError
        If `source` is unknown or a batch has fewer than 2 values.

    Examples
    --------
    >>> moments = batch_moments(batch_sizes=(2, 10), draws=2000)
    >>> moments.biased.mean(axis=0).round(1).tolist()  # (m - 1) / m
    [0.5, 0.9]
    """
    if source not in KURTOSIS:
        raise ValueError(f"source is {source!r}; expected one of {', '.join(KURTOSIS)}.")
    if min(batch_sizes) < 2:
        raise ValueError(
            f"batch_sizes is {tuple(batch_sizes)}; expected each to be at least 2, because one value "
            f"has no variance."
        )
    rng = np.random.default_rng(seed)
    batches = [_sample(rng, source, (draws, m)) for m in batch_sizes]
    return BatchMoments(
        source=source,
        kurtosis=KURTOSIS[source],
        batch_sizes=np.array(batch_sizes),
        mean=np.stack([x.mean(axis=1) for x in batches], axis=1),
        biased=np.stack([x.var(axis=1) for x in batches], axis=1),
    )


def _sample(rng: np.random.Generator, source: str, shape: tuple[int, ...]) -> np.ndarray:
    if source == "skewed":
        return rng.exponential(size=shape) - 1
    z = rng.standard_normal(shape)
    if source == "bell":
        return z
    return math.sqrt(0.19) * z + np.where(rng.random(shape) < 0.5, -0.9, 0.9)


def variance_of_variance(m: np.ndarray, kurtosis: float = 0.0) -> np.ndarray:
    r"""Return the variance of the unbiased variance of m independent values, in units of
    :math:`\sigma^4`.

    .. math:: \frac{\operatorname{Var}[s^2]}{\sigma^4} = \frac{2}{m - 1} + \frac{\kappa}{m}

    Examples
    --------
    >>> variance_of_variance(np.array([2, 11])).tolist()
    [2.0, 0.2]
    """
    m = np.asarray(m, dtype=float)
    return 2 / (m - 1) + kurtosis / m


def root_ratio(m: np.ndarray) -> np.ndarray:
    r"""Return :math:`c_4`, the mean of the root of the unbiased variance of m Gaussian values.

    .. math:: c_4(m) = \frac{\mathrm{E}[s]}{\sigma}
              = \sqrt{\frac{2}{m - 1}} \, \frac{\Gamma(m / 2)}{\Gamma((m - 1) / 2)} < 1

    Examples
    --------
    >>> root_ratio(np.array([2, 10])).round(4).tolist()
    [0.7979, 0.9727]
    """
    return np.array(
        [
            math.sqrt(2 / (k - 1)) * math.exp(math.lgamma(k / 2) - math.lgamma((k - 1) / 2))
            for k in m
        ]
    )


def pixel_dependence(
    *,
    images: int = 2,
    pools: Sequence[int] = (1, 2, 4, 7, 14, 28),
    draws: int = 20_000,
    seed: int = 0,
) -> PixelDependence:
    r"""Measure what :math:`m / (m - 1)` leaves of the bias when a batch is a few whole images.

    One channel, the gray values of real digits averaged over squares, as a layer deeper in a
    convolutional network would see it. The m values of a batch are all positions of all its images.
    With :math:`\rho` the variance of the images' means, as a share of the whole variance :math:`\sigma^2`,

    .. math:: \mathrm{E}[\sigma_B^2] = \sigma^2 - \operatorname{Var}[\mu_B]
              = \sigma^2 \Big(1 - \frac{\rho}{N}\Big),

    so the right factor is :math:`1 / (1 - \rho / N)` and not :math:`m / (m - 1)`.

    Parameters
    ----------
    images : int
        N, drawn independently.
    pools : sequence of int
        Sides of the squares; divisors of 28.
    draws, seed : int
        Batches, and the seed that draws them.

    Returns
    -------
    PixelDependence

    Examples
    --------
    >>> result = pixel_dependence(draws=200)
    >>> result.positions.tolist()
    [784, 196, 49, 16, 4, 1]
    """
    digits = data.mnist_5k().x.reshape(-1, 28, 28).astype(np.float64)
    rows = np.random.default_rng(seed).integers(len(digits), size=(draws, images))
    positions, shares, corrected, predicted = [], [], [], []
    for side in pools:
        x = digits.reshape(-1, 28 // side, side, 28 // side, side).mean(axis=(2, 4))
        x = x.reshape(len(digits), -1)
        mean, square = x.mean(axis=1), np.square(x).mean(axis=1)
        population = x.var()
        biased = square[rows].mean(axis=1) - mean[rows].mean(axis=1) ** 2
        m = images * x.shape[1]
        rho = mean.var() / population
        positions.append(x.shape[1])
        shares.append(rho)
        corrected.append(m / (m - 1) * biased / population)
        predicted.append(m / (m - 1) * (1 - rho / images))
    return PixelDependence(
        images=images,
        pool=np.array(pools),
        positions=np.array(positions),
        rho=np.array(shares),
        corrected=np.stack(corrected, axis=1),
        predicted=np.array(predicted),
    )


def sample_dependence(
    *,
    batch_sizes: Sequence[int] = (4, 16, 64),
    features: int = 100,
    draws: int = 2000,
    seed: int = 0,
) -> SampleDependence:
    r"""Measure what :math:`m / (m - 1)` leaves of the bias when examples come in groups.

    The features are random linear units on real digits. Batches are drawn independently; as pairs of
    the same example; or from one class at a time, each class as often as it occurs.

    Parameters
    ----------
    batch_sizes : sequence of int
        Even numbers.
    features, draws, seed : int
        Units, batches of each kind, and the seed of both.

    Returns
    -------
    SampleDependence

    Examples
    --------
    >>> result = sample_dependence(draws=20)
    >>> result.schemes
    ('shuffled', 'every example twice', 'one class')
    """
    digits = data.mnist_5k()
    rng = np.random.default_rng(seed)
    x = digits.x @ rng.standard_normal((digits.x.shape[1], features))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    classes = [np.flatnonzero(digits.y == c) for c in np.unique(digits.y)]  # of one size
    between = np.stack([x[rows].mean(axis=0) for rows in classes]).var(axis=0).mean()
    corrected = np.empty((draws, 3, len(batch_sizes)))
    for j, m in enumerate(batch_sizes):
        for i in range(draws):
            half = rng.integers(len(x), size=m // 2)
            for k, rows in enumerate(
                (
                    rng.integers(len(x), size=m),
                    np.concatenate([half, half]),
                    rng.choice(classes[rng.integers(len(classes))], size=m),
                )
            ):
                corrected[i, k, j] = x[rows].var(axis=0, ddof=1).mean()
    m = np.array(batch_sizes)
    return SampleDependence(
        schemes=("shuffled", "every example twice", "one class"),
        batch_sizes=m,
        corrected=corrected,
        predicted=np.stack([np.ones(len(m)), (m - 2) / (m - 1), np.full(len(m), 1 - between)]),
        between=float(between),
    )


def running_average(
    *,
    momenta: Sequence[float] = (0.3, 0.1, 0.03, 0.01),
    mean: float = 0.0,
    std: float = 1.0,
    speed: float = 0.0,
    batch_size: int = 32,
    steps: int = 200,
    runs: int = 400,
    seed: int = 0,
) -> RunningAverage:
    r"""Feed ``torch.nn.BatchNorm1d`` a population whose mean moves, and read its running statistics.

    Each feature of the layer is one independent run. From the layer's start at mean 0,

    .. math::

       \mathrm{E}[\hat\mu_t] = \sum_{i=1}^{t} \alpha (1 - \alpha)^{t-i} \, \mu_i, \qquad
       \operatorname{Var}[\hat\mu_t] = \frac{\alpha}{2 - \alpha} \big(1 - (1 - \alpha)^{2t}\big)
       \frac{\sigma^2}{m}

    Parameters
    ----------
    momenta : sequence of float
        Weights of the new batch, torch's convention.
    mean, std : float
        Mean of the population at the first batch, and its standard deviation.
    speed : float
        Change of the mean from one batch to the next.
    batch_size, steps, runs, seed : int

    Returns
    -------
    RunningAverage

    Examples
    --------
    >>> result = running_average(momenta=(0.1,), mean=5.0, steps=3, runs=50)
    >>> result.expected.round(3).tolist()  # 5 * (1 - 0.9**t)
    [[0.5, 0.95, 1.355]]
    """
    layers = [
        torch.nn.BatchNorm1d(runs, affine=False, momentum=a, dtype=torch.float64) for a in momenta
    ]
    truth = mean + speed * np.arange(steps)
    rng = np.random.default_rng(seed)
    seen = np.empty((2, runs, len(layers), steps))
    for t in range(steps):
        batch = torch.from_numpy(truth[t] + std * rng.standard_normal((batch_size, runs)))
        for k, layer in enumerate(layers):
            layer(batch)
            seen[:, :, k, t] = layer.running_mean.numpy(), layer.running_var.numpy()
    alpha, t = np.array(momenta)[:, None], np.arange(1, steps + 1)
    age = t[:, None] - t  # of batch i at time t
    weights = np.where(age >= 0, alpha[..., None] * (1 - alpha[..., None]) ** np.maximum(age, 0), 0)
    variance = alpha / (2 - alpha) * (1 - (1 - alpha) ** (2 * t)) * std**2 / batch_size
    return RunningAverage(
        momenta=tuple(momenta),
        batch_size=batch_size,
        std=std,
        speed=speed,
        truth=truth,
        mean=seen[0],
        var=seen[1],
        expected=weights @ truth,
        spread=np.sqrt(variance),
    )
