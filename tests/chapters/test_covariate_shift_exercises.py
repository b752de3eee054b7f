"""Each checker of Chapter 2 accepts right answers and rejects every named wrong one."""

import numpy as np
import pytest

from bnlab.chapters.covariate_shift import exercises


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def slope(z):
    return sigmoid(z) * (1 - sigmoid(z))


def normal(x, mean, std):
    return np.exp(-(((x - mean) / std) ** 2) / 2) / std


def pairs_by_sorting(before, after):
    return np.abs(np.sort(after) - np.sort(before)).mean()


def right_size(layer, width, weight_std, activation):
    factor = width * weight_std**2
    half = 0.5 if activation == "relu" else 1.0
    return np.sqrt(factor * (factor * half) ** (layer - 1))


RIGHT = {
    "standard_format": [
        lambda h: (h - h.mean(axis=0)) / h.std(axis=0),
        lambda h: (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + 1e-5),  # an eps is welcome
    ],
    "importance_weights": [
        lambda x, m, s, m2, s2: normal(x, m2, s2) / normal(x, m, s),
        lambda x, m, s, m2, s2: (
            s / s2 * np.exp((x - m) ** 2 / s**2 / 2 - (x - m2) ** 2 / s2**2 / 2)
        ),
    ],
    "relative_wasserstein": [lambda b, a: pairs_by_sorting(b, a) / b.std()],
    "saturated_share": [
        lambda z, f: np.mean(slope(z) < f / 4),
        lambda z, f: float((np.abs(z) > np.log((1 + np.sqrt(1 - f)) ** 2 / f)).mean()),
    ],
    "size_at_depth": [right_size],
}

WRONG = {
    "standard_format": {
        "each message instead of each column": lambda h: (
            (h - h.mean(axis=1, keepdims=True)) / h.std(axis=1, keepdims=True)
        ),
        "all columns together": lambda h: (h - h.mean()) / h.std(),
        "center only": lambda h: h - h.mean(axis=0),
        "scale only": lambda h: h / h.std(axis=0),
        "divide by the variance": lambda h: (h - h.mean(axis=0)) / h.var(axis=0),
        "unbiased": lambda h: (h - h.mean(axis=0)) / h.std(axis=0, ddof=1),
        "median": lambda h: (h - np.median(h, axis=0)) / h.std(axis=0),
        "flipped": lambda h: -(h - h.mean(axis=0)) / h.std(axis=0),
        "sorted": lambda h: np.sort((h - h.mean(axis=0)) / h.std(axis=0), axis=0),
        "one column": lambda h: h[:, 0],
    },
    "importance_weights": {
        "upside down": lambda x, m, s, m2, s2: normal(x, m, s) / normal(x, m2, s2),
        "no 1/std": lambda x, m, s, m2, s2: (
            np.exp(-(((x - m2) / s2) ** 2) / 2) / np.exp(-(((x - m) / s) ** 2) / 2)
        ),
        "only the new density": lambda x, m, s, m2, s2: normal(x, m2, s2),
        "std taken for variance": lambda x, m, s, m2, s2: (
            normal(x, m2, s2**0.5) / normal(x, m, s**0.5)
        ),
        "difference": lambda x, m, s, m2, s2: normal(x, m2, s2) - normal(x, m, s),
        "ones": lambda x, *_: np.ones_like(x),
        "zeros": lambda x, *_: np.zeros_like(x),
        "no half": lambda x, m, s, m2, s2: (
            s / s2 * np.exp(((x - m) / s) ** 2 - ((x - m2) / s2) ** 2)
        ),
    },
    "relative_wasserstein": {
        "example by example": lambda b, a: np.abs(a - b).mean() / b.std(),
        "not divided": pairs_by_sorting,
        "std after": lambda b, a: pairs_by_sorting(b, a) / a.std(),
        "variance": lambda b, a: pairs_by_sorting(b, a) / b.var(),
        "mean only": lambda b, a: abs(a.mean() - b.mean()) / b.std(),
        "squared": lambda b, a: np.sqrt(((np.sort(a) - np.sort(b)) ** 2).mean()) / b.std(),
        "one of each": lambda b, a: np.abs(np.sort(a) - np.sort(b)) / b.std(),
        "signed": lambda b, a: (np.sort(a) - np.sort(b)).mean() / b.std(),
    },
    "saturated_share": {
        "a count": lambda z, f: np.sum(slope(z) < f / 4),
        "the others": lambda z, f: np.mean(slope(z) >= f / 4),
        "not of the steepest": lambda z, f: np.mean(slope(z) < f),
        "the sigmoid itself": lambda z, f: np.mean(sigmoid(z) < f / 4),
        "one tail": lambda z, f: np.mean((slope(z) < f / 4) & (z > 0)),
        "tenth fixed": lambda z, f: np.mean(slope(z) < 0.025),
        "none": lambda z, f: 0.0,
    },
    "size_at_depth": {
        "no root": lambda *a: right_size(*a) ** 2,
        "no half": lambda k, n, s, g: np.sqrt((n * s**2) ** k),
        "half at the first layer": lambda k, n, s, g: np.sqrt(
            (n * s**2 * (0.5 if g == "relu" else 1)) ** k
        ),
        "std not squared": lambda k, n, s, g: np.sqrt((n * s) ** k),
        "one layer short": lambda k, n, s, g: right_size(k - 1, n, s, g),
        "no depth": lambda k, n, s, g: np.sqrt(n * s**2),
        "a quarter": lambda k, n, s, g: (
            np.sqrt(n * s**2 * (n * s**2 / 4) ** (k - 1)) if g == "relu" else right_size(k, n, s, g)
        ),
    },
}


def stub(*_):
    raise NotImplementedError


OFTEN_WRONG = {
    "stub": stub,
    "nothing": lambda *_: None,
    "text": lambda *_: "0",
    "nan": lambda *_: np.nan,
}


@pytest.mark.parametrize(
    ("checker", "answer"), [(name, answer) for name, right in RIGHT.items() for answer in right]
)
def test_the_right_answer_passes(checker, answer):
    verdict = getattr(exercises, checker)(answer)
    assert verdict, verdict
    assert repr(verdict).startswith("Correct: ")


@pytest.mark.parametrize(
    ("checker", "mistake"),
    [(name, mistake) for name, wrong in WRONG.items() for mistake in [*wrong, *OFTEN_WRONG]],
)
def test_a_wrong_answer_is_refused(checker, mistake):
    verdict = getattr(exercises, checker)({**OFTEN_WRONG, **WRONG[checker]}[mistake])
    assert not verdict
    assert repr(verdict).startswith("Not yet: ")


@pytest.mark.parametrize(
    ("checker", "mistake", "hint"),
    [
        ("standard_format", "unbiased", "ddof"),
        ("standard_format", "each message instead of each column", "axis 0"),
        ("importance_weights", "upside down", "upside down"),
        ("importance_weights", "no 1/std", "constant factor"),
        ("relative_wasserstein", "example by example", "Sort both"),
        ("relative_wasserstein", "not divided", "Divide by the std before"),
        ("relative_wasserstein", "std after", "std after"),
        ("relative_wasserstein", "mean only", "widens"),
        ("saturated_share", "a count", "how many there are"),
        ("saturated_share", "one tail", "left tail"),
        ("saturated_share", "not of the steepest", "fraction / 4"),
        ("saturated_share", "tenth fixed", "argument"),
        ("size_at_depth", "no root", "root"),
        ("size_at_depth", "no half", "half"),
        ("size_at_depth", "half at the first layer", "first"),
    ],
)
def test_the_hint_names_the_mistake(checker, mistake, hint):
    assert hint in getattr(exercises, checker)(WRONG[checker][mistake]).message


def test_every_checker_of_the_chapter_is_tested():
    from bnlab.chapters.covariate_shift import exercises as covariate_shift

    assert set(covariate_shift.__all__) == set(RIGHT) == set(WRONG)
