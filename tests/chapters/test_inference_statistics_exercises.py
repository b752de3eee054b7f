"""Each checker of Chapter 7 accepts right answers and rejects every named wrong one."""

import numpy as np
import pytest

from bnlab.chapters.inference_statistics import exercises


def running(values, momentum, average=0.0):
    for value in values:
        average = (1 - momentum) * average + momentum * value
    return average


def weighted(values, momentum):
    weights = momentum * (1 - momentum) ** np.arange(len(values))[::-1]
    return (weights * values).sum() / weights.sum()


def pooled_mean(mu, m):
    return (m * mu).sum() / m.sum()


def fold(W, b, gamma, beta, mean, var, eps):
    s = gamma / np.sqrt(var + eps)
    return W * s, (b - mean) * s + beta


def training_gradient(dy, x, gamma, mean, var, eps):
    x_hat = (x - mean) / np.sqrt(var + eps)
    inner = dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0)
    return gamma / np.sqrt(var + eps) * inner


RIGHT = {
    "pooled_statistics": [
        lambda mu, var, m: (pooled_mean(mu, m), (m * var).sum() / (m - 1).sum()),
        lambda mu, var, m: np.array(
            [np.average(mu, weights=m), np.average(m / (m - 1) * var, weights=m - 1)]
        ),
    ],
    "factor_for_images": [
        lambda images, positions, rho: 1 / (1 - rho / images),
        lambda images, positions, rho: images / (images - rho),
    ],
    "debiased_average": [
        lambda values, a: running(values, a) / (1 - (1 - a) ** len(values)),
        weighted,
    ],
    "keras_momentum": [lambda n: 0.5 ** (1 / n), lambda n: np.exp(-np.log(2) / n)],
    "fold_pair": [fold],
    "frozen_gradient": [
        lambda dy, x, gamma, mean, var, eps: dy * gamma / np.sqrt(var + eps),
    ],
}

WRONG = {
    "pooled_statistics": {
        "means alike": lambda mu, var, m: (mu.mean(), (m * var).sum() / (m - 1).sum()),
        "biased": lambda mu, var, m: (pooled_mean(mu, m), (m * var).sum() / m.sum()),
        "unweighted": lambda mu, var, m: (pooled_mean(mu, m), (m / (m - 1) * var).mean()),
        "average m": lambda mu, var, m: (
            pooled_mean(mu, m),
            m.mean() / (m.mean() - 1) * var.mean(),
        ),
        "all together": lambda mu, var, m: (
            pooled_mean(mu, m),
            (m * (var + (mu - pooled_mean(mu, m)) ** 2)).sum() / (m.sum() - 1),
        ),
        "swapped": lambda mu, var, m: ((m * var).sum() / (m - 1).sum(), pooled_mean(mu, m)),
        "only the mean": lambda mu, var, m: pooled_mean(mu, m),
        "nothing": lambda mu, var, m: None,
        "NaN": lambda mu, var, m: (np.nan, np.nan),
    },
    "factor_for_images": {
        "m over m - 1": lambda n, p, rho: n * p / (n * p - 1),
        "n over n - 1": lambda n, p, rho: n / (n - 1),
        "the bias": lambda n, p, rho: 1 - rho / n,
        "rho over m": lambda n, p, rho: 1 / (1 - rho / (n * p)),
        "an array": lambda n, p, rho: np.ones(3),
        "text": lambda n, p, rho: "1 / (1 - rho / n)",
    },
    "debiased_average": {
        "not corrected": running,
        "momentum of the old": lambda v, a: running(v, 1 - a),
        "corrected, momentum of the old": lambda v, a: running(v, 1 - a) / (1 - a ** len(v)),
        "one step short": lambda v, a: running(v, a) / (1 - (1 - a) ** (len(v) - 1)),
        "plain mean": lambda v, a: v.mean(),
        "started at the first": lambda v, a: running(v[1:], a, v[0]),
        "the last": lambda v, a: v[-1],
        "fixed for four": lambda v, a: running(v, a) / (1 - (1 - a) ** 4),
        "infinite": lambda v, a: np.inf,
    },
    "keras_momentum": {
        "torch": lambda n: 1 - 0.5 ** (1 / n),
        "one over e": lambda n: np.exp(-1 / n),
        "rule of thumb": lambda n: 1 - 1 / n,
        "better rule of thumb": lambda n: 1 - np.log(2) / n,
        "the default": lambda n: 0.99,
        "raises": lambda n: 1 / 0,
    },
    "fold_pair": {
        "eps outside": lambda W, b, g, be, mu, v, e: fold(
            W, b, g, be, mu, (np.sqrt(v) + e) ** 2, 0.0
        ),
        "no root": lambda W, b, g, be, mu, v, e: (W * g / (v + e), (b - mu) * g / (v + e) + be),
        "no gamma": lambda W, b, g, be, mu, v, e: fold(W, b, 1.0, be, mu, v, e),
        "rows": lambda W, b, g, be, mu, v, e: (
            W * np.resize(g / np.sqrt(v + e), 4)[:, None],
            fold(W, b, g, be, mu, v, e)[1],
        ),
        "no mean": lambda W, b, g, be, mu, v, e: fold(W, b, g, be, 0.0, v, e),
        "bias not scaled": lambda W, b, g, be, mu, v, e: (
            fold(W, b, g, be, mu, v, e)[0],
            b - mu * g / np.sqrt(v + e) + be,
        ),
        "no beta": lambda W, b, g, be, mu, v, e: fold(W, b, g, 0.0, mu, v, e),
        "beta scaled": lambda W, b, g, be, mu, v, e: fold(W, b + be, g, 0.0, mu, v, e),
        "mean added": lambda W, b, g, be, mu, v, e: fold(W, b, g, be, -mu, v, e),
        "bias of nothing": lambda W, b, g, be, mu, v, e: (fold(W, b, g, be, mu, v, e)[0], b),
        "unchanged": lambda W, b, g, be, mu, v, e: (W, b),
        "weights only": lambda W, b, g, be, mu, v, e: fold(W, b, g, be, mu, v, e)[0],
        "wrong shape": lambda W, b, g, be, mu, v, e: (W.T, b),
    },
    "frozen_gradient": {
        "training mode": training_gradient,
        "no gamma": lambda dy, x, g, mu, v, e: dy / np.sqrt(v + e),
        "no root": lambda dy, x, g, mu, v, e: dy * g / (v + e),
        "eps outside": lambda dy, x, g, mu, v, e: dy * g / (np.sqrt(v) + e),
        "centered": lambda dy, x, g, mu, v, e: (dy - dy.mean(axis=0)) * g / np.sqrt(v + e),
        "the output": lambda dy, x, g, mu, v, e: (x - mu) * g / np.sqrt(v + e),
        "unchanged": lambda dy, x, g, mu, v, e: dy,
        "a number": lambda dy, x, g, mu, v, e: 1.0,
    },
}


@pytest.mark.parametrize(("name", "i"), [(n, i) for n in RIGHT for i in range(len(RIGHT[n]))])
def test_right_answers_pass(name, i):
    verdict = getattr(exercises, name)(RIGHT[name][i])
    assert verdict, verdict
    assert repr(verdict).startswith("Correct: ")


@pytest.mark.parametrize(("name", "mistake"), [(n, k) for n, wrong in WRONG.items() for k in wrong])
def test_wrong_answers_fail_with_a_hint(name, mistake):
    verdict = getattr(exercises, name)(WRONG[name][mistake])
    assert not verdict
    assert repr(verdict).startswith("Not yet: ")
    assert len(verdict.message) > 20


@pytest.mark.parametrize("name", WRONG)
def test_named_mistakes_get_hints_of_their_own(name):
    messages = [getattr(exercises, name)(wrong).message for wrong in WRONG[name].values()]
    assert len(set(messages)) >= min(5, len(messages))


@pytest.mark.parametrize("name", RIGHT)
def test_a_stub_is_told_so(name):
    def stub(*_):
        raise NotImplementedError

    assert "still a stub" in getattr(exercises, name)(stub).message


def test_the_readers_arrays_are_copies():
    def greedy(W, b, *rest):
        W[:] = 0
        return W, b

    assert not exercises.fold_pair(greedy)
    assert exercises.fold_pair(fold)


def test_every_checker_of_the_chapter_is_tested():
    from bnlab.chapters.inference_statistics import exercises as inference_statistics

    assert set(RIGHT) == set(WRONG) == set(inference_statistics.__all__)
