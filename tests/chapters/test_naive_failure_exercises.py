"""Each checker of Chapter 3 accepts right answers and rejects every named wrong one."""

import numpy as np
import pytest

from bnlab.chapters.naive_failure import exercises, naive


def hat(x):
    return (x - x.mean()) / x.std()


def right_statistics(x, g):
    return (g - g.mean() - hat(x) * (g * hat(x)).mean()) / x.std()


def run_with_beta(t, lr, k, b0):
    beta, b = 0.0, b0
    for _ in range(k):
        push = 2 * (beta - t.mean())
        beta, b = beta - lr * push, b - lr * push
    return b


RIGHT = {
    "bias_growth": [
        lambda t, lr: 2 * lr * t.mean(),
        lambda t, lr: naive.predicted_bias(t, lr=lr, steps=1)[1],
        lambda t, lr: float(np.diff(naive.train(t * 0 + 1, t, lr=lr, steps=1).b)[0]),
    ],
    "bias_with_beta": [
        lambda t, lr, k, b0: b0 + t.mean() * (1 - (1 - 2 * lr) ** k),
        run_with_beta,
    ],
    "gradient_through_mean": [lambda g: g - g.mean(), lambda g: (np.eye(4) - 1 / 4) @ g],
    "gradient_through_statistics": [right_statistics],
    "stall_point": [
        lambda step, digits: 2.0 ** (digits + np.ceil(np.log2(step))),
        lambda step, digits: next(2**k for k in range(60) if 2.0 ** (k - digits) >= step),
    ],
}

WRONG = {
    "bias_growth": {
        "with the gradient": lambda t, lr: -2 * lr * t.mean(),
        "no factor 2": lambda t, lr: lr * t.mean(),
        "the sum": lambda t, lr: 2 * lr * t.sum(),
        "no learning rate": lambda t, lr: 2 * t.mean(),
        "zero": lambda t, lr: 0.0,
        "an array": lambda t, lr: 2 * lr * t,
        "NaN": lambda t, lr: np.nan,
        "nothing": lambda t, lr: None,
        "text": lambda t, lr: "2 lr mean(t)",
    },
    "bias_with_beta": {
        "beta": lambda t, lr, k, b0: t.mean() * (1 - (1 - 2 * lr) ** k),
        "without beta": lambda t, lr, k, b0: b0 + 2 * lr * t.mean() * k,
        "what is left": lambda t, lr, k, b0: b0 + t.mean() * (1 - 2 * lr) ** k,
        "the limit": lambda t, lr, k, b0: b0 + t.mean(),
        "no factor 2": lambda t, lr, k, b0: b0 + t.mean() * (1 - (1 - lr) ** k),
        "exponential": lambda t, lr, k, b0: b0 + t.mean() * (1 - np.exp(-2 * lr * k)),
        "one step short": lambda t, lr, k, b0: b0 + t.mean() * (1 - (1 - 2 * lr) ** (k - 1)),
        "towards mean(t), from b0": lambda t, lr, k, b0: (
            t.mean() + (b0 - t.mean()) * (1 - 2 * lr) ** k
        ),
        "only the case asked first": lambda t, lr, k, b0: 5.0 + 1.3 * (1 - 0.6**3),
    },
    "gradient_through_mean": {
        "naive": lambda g: g,
        "minus the sum": lambda g: g - g.sum(),
        "plus the mean": lambda g: g + g.mean(),
        "standardized": lambda g: (g - g.mean()) / g.std(),
        "the mean alone": lambda g: np.full_like(g, g.mean()),
        "zero": lambda g: 0 * g,
        "a number": lambda g: 0.0,
        "minus the median": lambda g: g - np.median(g),
    },
    "gradient_through_statistics": {
        "naive": lambda x, g: g / x.std(),
        "the mean only": lambda x, g: (g - g.mean()) / x.std(),
        "the scale only": lambda x, g: (g - hat(x) * (g * hat(x)).mean()) / x.std(),
        "no division": lambda x, g: right_statistics(x, g) * x.std(),
        "divided twice": lambda x, g: right_statistics(x, g) / x.std(),
        "unbiased std": lambda x, g: right_statistics(x, g) * x.std() / x.std(ddof=1),
        "x for x_hat": lambda x, g: (g - g.mean() - x * (g * x).mean()) / x.std(),
        "plus": lambda x, g: (g - g.mean() + hat(x) * (g * hat(x)).mean()) / x.std(),
        "sum along x_hat": lambda x, g: (g - g.mean() - hat(x) * (g * hat(x)).sum()) / x.std(),
        "zero": lambda x, g: 0 * g,
    },
    "stall_point": {
        "a whole spacing": lambda step, digits: 2.0 ** (digits + 1 + np.ceil(np.log2(step))),
        "floor": lambda step, digits: 2.0 ** (digits + np.floor(np.log2(step))),
        "stored digits": lambda step, digits: 2.0 ** (digits - 1 + np.ceil(np.log2(step))),
        "not a power of two": lambda step, digits: step * 2.0**digits,
        "no step": lambda step, digits: 2.0**digits,
        "float32 only": lambda step, digits: 2.0 ** (24 + np.ceil(np.log2(step))),
        "strictly more": lambda step, digits: 2.0 ** (digits + 1 + np.floor(np.log2(step))),
        "the exponent": lambda step, digits: digits + np.ceil(np.log2(step)),
    },
}


@pytest.mark.parametrize(("name", "answer"), [(n, a) for n, group in RIGHT.items() for a in group])
def test_right_answers_pass(name, answer):
    verdict = getattr(exercises, name)(answer)
    assert verdict, verdict
    assert str(verdict).startswith("Correct: ")


@pytest.mark.parametrize(
    ("name", "mistake"), [(n, m) for n, group in WRONG.items() for m in group], ids=str
)
def test_named_wrong_answers_fail(name, mistake):
    verdict = getattr(exercises, name)(WRONG[name][mistake])
    assert not verdict
    assert str(verdict).startswith("Not yet: ")


@pytest.mark.parametrize("name", WRONG)
def test_a_stub_is_not_an_answer(name):
    def stub(*_):
        raise NotImplementedError

    assert "stub" in getattr(exercises, name)(stub).message


@pytest.mark.parametrize(
    ("name", "mistake", "says"),
    [
        ("bias_growth", "with the gradient", "sign"),
        ("bias_growth", "the sum", "mean"),
        ("bias_with_beta", "beta", "starts from b0"),
        ("bias_with_beta", "without beta", "without beta"),
        ("bias_with_beta", "what is left", "left to go"),
        ("bias_with_beta", "only the case asked first", "10,000"),
        ("gradient_through_mean", "naive", "naive"),
        ("gradient_through_mean", "minus the sum", "not its sum"),
        ("gradient_through_mean", "standardized", "the sum is 0"),
        ("gradient_through_statistics", "naive", "naive"),
        ("gradient_through_statistics", "the mean only", "standard deviation also"),
        ("gradient_through_statistics", "no division", "factor std"),
        ("gradient_through_statistics", "plus", "both must be 0"),
        ("stall_point", "a whole spacing", "too far"),
        ("stall_point", "strictly more", "too far"),
        ("stall_point", "stored digits", "too early"),
        ("stall_point", "not a power of two", "first k"),
    ],
)
def test_hints_name_the_mistake(name, mistake, says):
    assert says in getattr(exercises, name)(WRONG[name][mistake]).message
