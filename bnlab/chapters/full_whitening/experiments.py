"""Chapter 4: full whitening, its gradient, its cost and its need for large batches."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from bnlab import data, models, probes, reference, scaling, training, whitening
from bnlab.chapters.full_whitening.results import (
    ActivationCorrelation,
    BatchNeed,
    Clouds,
    EigenvalueCrossing,
    EigenvalueGap,
    Jacobians,
    NaiveWhitening,
    Spectrum,
    WhiteningCost,
)

__all__ = [
    "activation_correlation",
    "batch_need",
    "clouds",
    "eigenvalue_crossing",
    "eigenvalue_gap",
    "gradient_by_eigh",
    "jacobians",
    "marchenko_pastur",
    "measure_cost",
    "multiplications",
    "naive_whitening",
    "spectrum",
]


# --- pictures ----------------------------------------------------------------------------------------


def clouds(*, n: int = 300, correlation: float = 0.9, seed: int = 0) -> Clouds:
    """Draw a correlated table of two features; standardize it, and whiten it in two ways.

    Examples
    --------
    >>> result = clouds()
    >>> result.names, (result.covariance[2].round(6) + 0).tolist()  # + 0 turns -0.0 into 0.0
    (('raw', 'standardized', 'ZCA', 'PCA'), [[1.0, 0.0], [0.0, 1.0]])
    """
    rng = np.random.default_rng(seed)
    root = np.array([[1.0, 0.0], [correlation, np.sqrt(1 - correlation**2)]])
    x = rng.normal(size=(n, 2)) @ root.T * np.array([1.6, 0.8]) + np.array([1.0, -0.5])
    rows = np.array(
        [
            x,
            scaling.standardize(x).values,
            whitening.whitening_forward(x, eps=0)[0],
            scaling.whiten(x, method="pca").values,
        ]
    )
    covariance = np.array([np.cov(z.T, bias=True) for z in rows])
    return Clouds(("raw", "standardized", "ZCA", "PCA"), rows, covariance)


def jacobians(*, m: int = 6, features: int = 3, seed: int = 0) -> Jacobians:
    """Fill in every derivative of three normalizations of one batch, one backward pass a row.

    Examples
    --------
    >>> jacobians().ranks
    array([18, 12,  9])
    """
    x = np.random.default_rng(seed).normal(size=(m, features))
    x = x @ (np.eye(features) + 0.5 * np.random.default_rng(seed + 1).normal(size=(features,) * 2))
    one, zero = np.ones(features), np.zeros(features)
    _, per_feature = reference.batch_norm_forward(x, one, zero, eps=0)
    _, full = whitening.whitening_forward(x, eps=0)
    backward = {
        "statistics held constant": lambda dz: dz * per_feature.inv_std,
        "each feature": lambda dz: reference.batch_norm_backward(dz, per_feature)[0],
        "full whitening": lambda dz: whitening.whitening_backward(dz, full),
    }
    units = np.eye(x.size).reshape(-1, m, features)
    found = np.array([[function(dz) for dz in units] for function in backward.values()])
    ranks = np.array([_rank(j.reshape(x.size, x.size)) for j in found])
    return Jacobians(tuple(backward), found.reshape(-1, m, features, m, features), ranks)


def _rank(a: np.ndarray) -> int:
    s = np.linalg.svd(a, compute_uv=False)
    return int((s > 1e-9 * s[0]).sum())


def eigenvalue_crossing(
    *, ratios: Sequence[float] = tuple(np.linspace(0.5, 1.5, 101)), seed: int = 0
) -> EigenvalueCrossing:
    """Stretch one axis of a cloud step by step, and watch its first row whitened by ZCA and by PCA.

    Examples
    --------
    >>> result = eigenvalue_crossing()
    >>> bool(np.abs(np.diff(result.zca, axis=0)).max() < 0.05)
    True
    """
    white = whitening.whitening_forward(np.random.default_rng(seed).normal(size=(50, 2)), eps=0)[0]
    tables = [white * np.sqrt([ratio, 1.0]) for ratio in ratios]
    zca = [whitening.whitening_forward(x, eps=0)[0][0] for x in tables]
    pca = [scaling.whiten(x, method="pca").values[0] for x in tables]
    return EigenvalueCrossing(np.array(ratios), np.array(zca), np.array(pca))


# --- the gradient where eigenvalues are equal ------------------------------------------------------------


def gradient_by_eigh(x: np.ndarray, dz: np.ndarray) -> np.ndarray:
    """Differentiate ZCA whitening with torch's autograd through ``torch.linalg.eigh``, at eps = 0.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # equal eigenvalues
    >>> bool(np.isfinite(gradient_by_eigh(x, x + 1)).all())
    False
    """
    rows = torch.tensor(x, requires_grad=True)
    c = rows - rows.mean(dim=0)
    values, v = torch.linalg.eigh(c.T @ c / len(x))
    z = c @ (v * values.rsqrt()) @ v.T
    z.backward(torch.tensor(dz))
    return rows.grad.numpy()


def eigenvalue_gap(
    *,
    gaps: Sequence[float] = (*10.0 ** -np.arange(0, 16.5, 0.5), 0.0),
    dtypes: Sequence[str] = ("float32", "float64"),
    seeds: Sequence[int] = tuple(range(10)),
) -> EigenvalueGap:
    """Bring two eigenvalues together and compare two gradients with one found without eigenvectors.

    The rows are plus and minus each axis, so that the covariance is diagonal to the last digit. The
    exact gradient solves S dS + dS S = dSigma as a linear system, in float64. An error is the
    largest difference over the largest entry of the exact gradient.
    """
    eigh, closed = np.empty((2, len(dtypes), len(seeds), len(gaps)))
    for at in np.ndindex(closed.shape):
        dtype, seed, gap = dtypes[at[0]], seeds[at[1]], gaps[at[2]]
        axes = np.diag(np.sqrt(3 * np.array([1.0, 1.0 + gap, 4.0])))
        x = np.concatenate([axes, -axes]).astype(dtype)
        dz = np.random.default_rng(seed).normal(size=x.shape).astype(dtype)
        exact = _gradient_by_sylvester(x.astype(float), dz.astype(float))
        _, cache = whitening.whitening_forward(x, eps=0)
        for errors, dx in (
            (closed, whitening.whitening_backward(dz, cache)),
            (eigh, gradient_by_eigh(x, dz)),
        ):
            errors[at] = np.abs(dx - exact).max() / np.abs(exact).max()
    return EigenvalueGap(np.array(gaps), tuple(dtypes), tuple(seeds), eigh, closed)


def _gradient_by_sylvester(x: np.ndarray, dz: np.ndarray) -> np.ndarray:
    """Differentiate W = S^-1 and S S = Sigma, so that no eigenvector is differentiated."""
    m, n = x.shape
    c = x - x.mean(axis=0)
    values, v = np.linalg.eigh(c.T @ c / m)
    root, w = (v * np.sqrt(values)) @ v.T, (v / np.sqrt(values)) @ v.T
    d_root = -w @ (c.T @ dz) @ w
    system = np.kron(root, np.eye(n)) + np.kron(np.eye(n), root)
    d_sigma = np.linalg.solve(system, d_root.ravel()).reshape(n, n)
    dc = dz @ w + c @ (d_sigma + d_sigma.T) / m
    return dc - dc.mean(axis=0)


# --- cost ------------------------------------------------------------------------------------------------


def multiplications(n: int, features: int) -> dict[str, int]:
    r"""Count the multiplications of one forward and one backward pass over n rows.

    Normalizing each feature multiplies five times a value: square, scale; product with x_hat, its
    share back, scale. Full whitening does the same with products of matrices: :math:`\Sigma` and
    z; A, B z and dx. Five more products of d by d matrices turn A and W to the eigenvectors and
    back. The eigendecomposition itself, a multiple of :math:`d^3`, is not counted.

    Examples
    --------
    >>> multiplications(60, 100)
    {'each feature': 30000, 'full whitening': 8000000}
    """
    return {
        "each feature": 5 * n * features,
        "full whitening": 5 * n * features**2 + 5 * features**3,
    }


SWEEPS = {
    "rows": tuple((2**k, 64) for k in range(9, 15)),
    "features": tuple((4096, 2**k) for k in range(4, 9)),
    "both": tuple((2 * 2**k, 2**k) for k in range(5, 10)),
}
"""The points (rows, features) of each sweep: one grows, or both at two rows a feature."""


def measure_cost(*, repeats: int = 15, seed: int = 0, sweeps=SWEEPS) -> WhiteningCost:
    """Time both normalizations over the same batches, one after the other, in a new order each repeat.

    Parameters
    ----------
    repeats : int
        Rounds over all points; a first round that warms up is thrown away.
    seed : int
        Seed of the batches and of the order.
    sweeps : dict of str to sequence of (rows, features)
        What to time.

    Returns
    -------
    WhiteningCost
        Seconds of processor time, which differ from machine to machine and from run to run.
    """
    rng = np.random.default_rng(seed)
    names, points = zip(*((name, p) for name, ps in sweeps.items() for p in ps), strict=True)
    full, per_feature = np.empty((2, repeats + 1, len(points)))
    for repeat in range(repeats + 1):
        for at in rng.permutation(len(points)):
            x, dz = rng.normal(size=(2, *points[at]))
            pair = [(full, _full_pass), (per_feature, _per_feature_pass)]
            for seconds, one_pass in pair if rng.random() < 0.5 else pair[::-1]:
                start = time.process_time()  # of this process: what else runs does not count
                one_pass(x, dz)
                seconds[repeat, at] = time.process_time() - start
    rows, features = np.array(points).T
    return WhiteningCost(features, rows, full[1:], per_feature[1:], names)


def _full_pass(x: np.ndarray, dz: np.ndarray) -> None:
    _, cache = whitening.whitening_forward(x)
    whitening.whitening_backward(dz, cache)


def _per_feature_pass(x: np.ndarray, dz: np.ndarray) -> None:
    one, zero = np.ones(x.shape[1]), np.zeros(x.shape[1])
    _, cache = reference.batch_norm_forward(x, one, zero)
    reference.batch_norm_backward(dz, cache)


# --- whitening outside the gradient step --------------------------------------------------------------------


def naive_whitening(
    *,
    trains: str = "bias",
    through_statistics: bool = False,
    strengths: Sequence[float] = (2.0, 1.6, 1.3),
    lr: float = 0.05,
    steps: int = 600,
    n: int = 128,
    noise: float = 0.3,
    seeds: Sequence[int] = tuple(range(10)),
) -> NaiveWhitening:
    r"""Train what stands before a whitening, with its statistics held constant or differentiated.

    .. math:: x = u A + b, \qquad z = (x - \mu)\,\Sigma^{-1/2}, \qquad
              \ell = \frac1n \sum_i \lVert z_i - t_i \rVert^2

    The inputs u are white, and the targets are :math:`t = 1 + u M + \text{noise}` with M symmetric.
    Held constant, the statistics let b grow by the same vector in every step, and once z has reached
    its optimum, each eigenvalue of the covariance by the same amount; see Chapter 4.

    Parameters
    ----------
    trains : {"bias", "weights"}
        Train b, with A the identity, or A, with b = 0 and A the identity plus a little noise.
    through_statistics : bool
        False holds mean and covariance constant (the naive way).
    strengths : sequence of float
        Eigenvalues of M, one a feature; above 1 the covariance grows, below 1 it shrinks.
    lr, steps : float, int
        Of plain gradient descent on the whole sample.
    n, noise : int, float
        Number of samples and standard deviation of the targets' noise.
    seeds : sequence of int
        Each draws u, M's directions, the noise and A.

    Returns
    -------
    NaiveWhitening
    """
    if trains not in ("bias", "weights"):
        raise ValueError(f'trains is {trains!r}; expected "bias" or "weights".')
    d = len(strengths)
    loss, bias = np.empty((2, len(seeds), steps + 1))
    variances = np.empty((len(seeds), steps + 1, d))
    best, push, rates = np.empty(len(seeds)), np.empty(len(seeds)), np.empty((len(seeds), d))
    for row, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        u = whitening.whitening_forward(rng.normal(size=(n, d)), eps=0)[0]
        turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
        t = 1 + u @ (turn * strengths) @ turn.T + noise * rng.normal(size=(n, d))
        a = np.eye(d) + 0.2 * rng.normal(size=(d, d)) * (trains == "weights")
        b = np.zeros(d)
        pull = np.linalg.svd(u.T @ (t - t.mean(axis=0)) / n, compute_uv=False)
        best[row] = (t**2).sum() / n + d - 2 * pull.sum()
        push[row] = 2 * lr * np.linalg.norm(t.mean(axis=0))
        rates[row] = 4 * lr * (pull - 1)
        for step in range(steps + 1):
            z, cache = whitening.whitening_forward(u @ a + b, eps=0)
            loss[row, step] = ((z - t) ** 2).sum() / n
            bias[row, step], variances[row, step] = np.linalg.norm(b), cache.variances
            dz = 2 * (z - t) / n
            dx = (
                whitening.whitening_backward(dz, cache) if through_statistics else dz @ cache.matrix
            )
            if trains == "bias":
                b = b - lr * dx.sum(axis=0)
            else:
                a = a - lr * u.T @ dx
    return NaiveWhitening(
        trains=trains,
        through_statistics=through_statistics,
        lr=lr,
        seeds=tuple(seeds),
        loss=loss,
        best_loss=best,
        bias=bias,
        variances=variances,
        predicted_bias=push,
        predicted_variances=rates,
    )


# --- how large a batch whitening needs ---------------------------------------------------------------------


def marchenko_pastur(ratio: float, function=np.ones_like, *, points: int = 4000) -> float:
    r"""Average a function of the eigenvalues of a sample covariance of white data, without end.

    .. math:: \int_a^b f(\lambda)\,\frac{\sqrt{(b-\lambda)(\lambda-a)}}{2\pi r \lambda}\,d\lambda,
              \qquad a, b = (1 \mp \sqrt r)^2

    Parameters
    ----------
    ratio : float
        :math:`r = d / m`, features over rows, between 0 and 1.
    function : callable
        From an array of eigenvalues to an array.
    points : int
        Of the quadrature.

    Examples
    --------
    >>> round(marchenko_pastur(0.5), 6), round(marchenko_pastur(0.5, lambda t: 1 / t), 6)
    (1.0, 2.0)
    """
    if not 0 < ratio < 1:
        raise ValueError(f"ratio is {ratio}; expected between 0 and 1: fewer features than rows.")
    angle = (np.arange(points) + 0.5) * np.pi / points
    center, half = 1 + ratio, 2 * np.sqrt(ratio)
    t = center + half * np.cos(angle)
    density = (half * np.sin(angle)) ** 2 / (2 * np.pi * ratio * t)
    return float((function(t) * density).sum() * np.pi / points)


def batch_need(
    *,
    features: int = 64,
    sizes: Sequence[int] = (72, 96, 128, 192, 256, 512, 1024, 2048),
    seeds: Sequence[int] = tuple(range(10)),
) -> BatchNeed:
    r"""Whiten white data with the statistics of one batch, and measure what that adds.

    The right answer is to change nothing. For new rows x, with the mean and matrix of the batch, the
    mean square error of a value is :math:`(\lVert W - I \rVert^2 + \lVert W \hat\mu \rVert^2) / d`.
    """
    lowest, highest, full, per_feature = np.empty((4, len(seeds), len(sizes)))
    for at in np.ndindex(full.shape):
        x = np.random.default_rng(seeds[at[0]]).normal(size=(sizes[at[1]], features))
        _, cache = whitening.whitening_forward(x, eps=0)
        lowest[at], highest[at] = cache.variances[-1], cache.variances[0]
        full[at] = _error(cache.matrix, cache.mean)
        per_feature[at] = _error(np.diag(1 / x.std(axis=0)), x.mean(axis=0))
    theory = np.array([_theory(features, m) for m in sizes])
    return BatchNeed(
        features=features,
        sizes=np.array(sizes),
        seeds=tuple(seeds),
        lowest=lowest,
        highest=highest,
        edges=np.array(_edges(features / np.array(sizes))),
        full_error=full,
        per_feature_error=per_feature,
        full_theory=theory[:, 0],
        per_feature_theory=theory[:, 1],
    )


def _edges(ratio):
    """Return the smallest and the largest eigenvalue of wide data, by Marchenko-Pastur."""
    return (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2


def _error(w: np.ndarray, mean: np.ndarray) -> float:
    d = len(mean)
    return float(np.sqrt((((w - np.eye(d)) ** 2).sum() + ((w @ mean) ** 2).sum()) / d))


def _theory(features: int, m: int) -> tuple[float, float]:
    """Return both errors, of d features by Marchenko-Pastur and of one feature to order 1 / m."""
    degrees, ratio = m - 1, features / (m - 1)
    root, inverse = (
        marchenko_pastur(ratio, lambda t, p=p: (t * degrees / m) ** -p) for p in (0.5, 1.0)
    )
    return np.sqrt(inverse - 2 * root + 1 + inverse / m), np.sqrt(1.5 / m)


def spectrum(
    *, features: int = 64, size: int = 128, seeds: Sequence[int] = tuple(range(10))
) -> Spectrum:
    """Return the eigenvalues of the covariance of white batches, and their density in theory."""
    eigenvalues = [
        whitening.whitening_forward(np.random.default_rng(seed).normal(size=(size, features)))[
            1
        ].variances
        for seed in seeds
    ]
    ratio = features / size
    low, high = _edges(ratio)
    grid = np.linspace(low, high, 200)
    density = np.sqrt(((high - grid) * (grid - low)).clip(0)) / (2 * np.pi * ratio * grid)
    return Spectrum(features, size, np.array(eigenvalues), grid, density)


# --- what per-feature normalization leaves ------------------------------------------------------------------


def activation_correlation(
    *,
    stages: Sequence[int] = (0, 200),
    lr: float = 0.3,
    width: int = 50,
    batch_size: int = 60,
    seeds: Sequence[int] = tuple(range(5)),
) -> ActivationCorrelation:
    """Train a network with Batch Normalization on digits, and measure what its layers still share.

    Two hidden layers of ReLU units. Statistics are those of 2,000 training digits in one batch, so
    that the sample is large compared with the width.

    Parameters
    ----------
    stages : sequence of int
        Steps after which to measure, increasing; the last ends the training.
    lr, batch_size : float, int
        Of plain gradient descent.
    width : int
        Units in each hidden layer.
    seeds : sequence of int
        Each sets the weights and the order of the batches.
    """
    digits, _ = data.mnist_5k().split(test=1000, seed=0)
    probe, _ = training.tensors(digits.take(np.arange(2000)), dtype=torch.float64)
    sites = ("norm1", "norm2")
    found = np.empty((5, len(seeds), len(stages), len(sites)))
    for row, seed in enumerate(seeds):
        model = (
            models.mlp(
                [digits.x.shape[1], width, width, 10],
                activation="relu",
                norm=torch.nn.BatchNorm1d,
                init_std="he",
                seed=seed,
            ).double()
        )  # rounding, which differs from machine to machine, stays out of the printed digits

        def watch(step: int, model: torch.nn.Module, row=row) -> None:
            if step in stages:
                seen = probes.observe(model, probe, sites)
                for column, site in enumerate(sites):
                    found[:, row, stages.index(step), column] = _shared(seen[site])

        training.train(
            model, digits, lr=lr, steps=stages[-1], batch_size=batch_size, seed=seed, on_step=watch
        )
    return ActivationCorrelation(sites, tuple(stages), tuple(seeds), *found)


def _shared(x: np.ndarray) -> tuple[float, ...]:
    """Return correlation, condition after and before, directions with 90% of the variance, variance."""
    x_hat, _ = reference.batch_norm_forward(x, np.ones(x.shape[1]), np.zeros(x.shape[1]))
    after, before = (np.linalg.eigvalsh(np.cov(v.T, bias=True))[::-1] for v in (x_hat, x))
    off = np.corrcoef(x.T)[~np.eye(x.shape[1], dtype=bool)]
    share = np.cumsum(after) / after.sum()
    return (
        float(np.sqrt(np.mean(off**2))),
        float(after[0] / after[-1]),
        float(before[0] / before[-1]),
        float(np.argmax(share >= 0.9) + 1),
        float(after.mean()),
    )
