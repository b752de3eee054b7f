"""Each checker of Chapter 4 accepts right answers and rejects every named wrong one."""

import numpy as np
import pytest

from bnlab import whitening
from bnlab.chapters.full_whitening import exercises


def divided(a, b):
    return -1 / (np.sqrt(a * b) * (np.sqrt(a) + np.sqrt(b)))


def quotient(a, b):
    return (a**-0.5 - b**-0.5) / (a - b)


def with_tolerance(a, b):
    return -0.5 * a**-1.5 if abs(a - b) < 1e-6 else quotient(a, b)


def gradient(weigh, center=True, basis=True):
    def backward(x, g):
        c = x - x.mean(axis=0)
        values, v = np.linalg.eigh(c.T @ c / len(x))
        s = np.sqrt(values)
        if not basis:
            v, w = np.eye(len(s)), (v / s) @ v.T
            z = c @ w
        else:
            w = np.diag(1 / s)
            z = c @ v / s
        g = (g - g.mean(axis=0) * center) @ v
        a = z.T @ g / len(x)
        return (g - z @ weigh(a, s[:, None], s)) @ w @ v.T

    return backward


def weights(a, sk, sl):
    return (sk * a + (sk * a).T) / (sk + sl)


def through_package(x, g):
    return whitening.whitening_backward(g, whitening.whitening_forward(x, eps=0)[1])


def through_gaps(x, g):
    """Right in general, but it divides by the differences of eigenvalues."""
    c = x - x.mean(axis=0)
    values, v = np.linalg.eigh(c.T @ c / len(x))
    with np.errstate(all="ignore"):
        k = (values[:, None] ** -0.5 - values**-0.5) / (values[:, None] - values)
    np.fill_diagonal(k, -0.5 * values**-1.5)
    m = v.T @ (c.T @ g) @ v
    dc = g @ (v / np.sqrt(values)) @ v.T + c @ (v @ (k * (m + m.T)) @ v.T) / len(x)
    return dc - dc.mean(axis=0)


def q_of(kappa):
    return (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)


RIGHT = {
    "divided_difference": [
        divided,
        lambda a, b: -0.5 * a**-1.5 if a == b else divided(a, b),
        lambda a, b: -1 / (a * np.sqrt(b) + b * np.sqrt(a)),
    ],
    "whitening_gradient": [gradient(weights), through_package],
    "directions_left": [
        lambda m, d: m * d - d - d * (d + 1) // 2,
        lambda m, d: (m - 1) * d - d * (d + 1) / 2,
        lambda m, d: np.linalg.matrix_rank(
            np.array(
                [
                    through_package(
                        np.random.default_rng(0).normal(size=(m, d)), e.reshape(m, d)
                    ).ravel()
                    for e in np.eye(m * d)
                ]
            ),
            tol=1e-9,
        ),
    ],
    "smallest_batch": [
        lambda d, kappa: int(np.ceil(d / q_of(kappa) ** 2)),
        lambda d, kappa: next(
            m
            for m in range(d + 1, 10**6)
            if (1 + np.sqrt(d / m)) ** 2 <= kappa * (1 - np.sqrt(d / m)) ** 2 * (1 + 1e-12)
        ),
    ],
    "whitened_distance": [lambda m: np.sqrt(2 * m), lambda m: (2 * m) ** 0.5],
}

WRONG = {
    "divided_difference": {
        "the quotient": lambda a, b: quotient(a, b) if a != b else -0.5 * a**-1.5,
        "the quotient alone": lambda a, b: (
            float(np.divide(a**-0.5 - b**-0.5, a - b)) if a != b else np.nan
        ),
        "a tolerance": with_tolerance,
        "the derivative": lambda a, b: -0.5 * a**-1.5,
        "the sign": lambda a, b: -divided(a, b),
        "twice": lambda a, b: 2 * divided(a, b),
        "zero where equal": lambda a, b: divided(a, b) if a != b else 0.0,
        "nothing": lambda a, b: None,
        "stub": lambda a, b: (_ for _ in ()).throw(NotImplementedError),
    },
    "whitening_gradient": {
        "all constant": gradient(lambda a, sk, sl: 0 * a, center=False),
        "the covariance constant": gradient(lambda a, sk, sl: 0 * a),
        "the mean constant": gradient(weights, center=False),
        "equal eigenvalues": gradient(lambda a, sk, sl: (a + a.T) / 2),
        "no symmetric part": gradient(lambda a, sk, sl: a),
        "the diagonal": gradient(lambda a, sk, sl: np.diag(np.diag(a))),
        "weights swapped": gradient(lambda a, sk, sl: (sl * a + (sl * a).T) / (sk + sl)),
        "features as eigenvectors": gradient(weights, basis=False),
        "the gaps": through_gaps,
        "transposed": lambda x, g: gradient(weights)(x, g).T,
        "each feature": lambda x, g: (lambda h: (g - g.mean(0) - h * (g * h).mean(0)) / x.std(0))(
            (x - x.mean(0)) / x.std(0)
        ),
        "nothing": lambda x, g: None,
    },
    "directions_left": {
        "everything": lambda m, d: m * d,
        "batch norm": lambda m, d: m * d - 2 * d,
        "a full covariance": lambda m, d: m * d - d - d * d,
        "no mean": lambda m, d: m * d - d * (d + 1) // 2,
        "what is lost": lambda m, d: d + d * (d + 1) // 2,
        "one": lambda m, d: 1,
    },
    "smallest_batch": {
        "d plus one": lambda d, kappa: d + 1,
        "not squared": lambda d, kappa: int(np.ceil(d / q_of(kappa))),
        "kappa not rooted": lambda d, kappa: int(np.ceil(d * ((kappa + 1) / (kappa - 1)) ** 2)),
        "not rounded": lambda d, kappa: d / q_of(kappa) ** 2,
        "rounded down": lambda d, kappa: int(d / q_of(kappa) ** 2),
        "one edge": lambda d, kappa: int(np.ceil(d / (1 - kappa**-0.5) ** 2)),
    },
    "whitened_distance": {
        "squared": lambda m: 2 * m,
        "columns of length one": lambda m: np.sqrt(2),
        "length of a row": lambda m: np.sqrt(m - 1),
        "one less": lambda m: np.sqrt(2 * (m - 1)),
        "an array": lambda m: np.full(m, np.sqrt(2 * m)),
    },
}


@pytest.mark.parametrize(("name", "k"), [(n, k) for n in RIGHT for k in range(len(RIGHT[n]))])
def test_accepts_right_answers(name, k):
    verdict = getattr(exercises, name)(RIGHT[name][k])
    assert verdict.passed, verdict


@pytest.mark.parametrize(("name", "mistake"), [(n, m) for n in WRONG for m in WRONG[n]])
def test_rejects_wrong_answers(name, mistake):
    verdict = getattr(exercises, name)(WRONG[name][mistake])
    assert not verdict.passed, verdict
    assert repr(verdict).startswith("Not yet: ")


@pytest.mark.parametrize(
    ("name", "mistake", "says"),
    [
        ("divided_difference", "the quotient", "few digits"),
        ("divided_difference", "a tolerance", "only where a = b"),
        ("divided_difference", "the derivative", "only where a = b"),
        ("divided_difference", "the sign", "sign is not"),
        ("divided_difference", "zero where equal", "the limit is"),
        ("whitening_gradient", "all constant", "every x also moves both"),
        ("whitening_gradient", "the covariance constant", "the mean is done"),
        ("whitening_gradient", "the mean constant", "sums to"),
        ("whitening_gradient", "equal eigenvalues", "equal weights"),
        ("whitening_gradient", "no symmetric part", "A itself"),
        ("whitening_gradient", "weights swapped", "finite differences disagree"),
        ("whitening_gradient", "the gaps", "equal eigenvalues"),
        ("directions_left", "batch norm", "on its own"),
        ("directions_left", "a full covariance", "symmetric"),
        ("directions_left", "no mean", "both fixed"),
        ("directions_left", "what is lost", "directions lost"),
        ("smallest_batch", "d plus one", "close to 0"),
        ("smallest_batch", "not squared", "square it"),
        ("smallest_batch", "kappa not rooted", "square root of kappa"),
        ("smallest_batch", "not rounded", "Round up"),
        ("smallest_batch", "rounded down", "Round up"),
        ("whitened_distance", "squared", "square of the distance"),
        ("whitened_distance", "columns of length one", "sqrt(m)"),
        ("whitened_distance", "length of a row", "length of each row"),
    ],
)
def test_hints_name_the_mistake(name, mistake, says):
    assert says in getattr(exercises, name)(WRONG[name][mistake]).message
