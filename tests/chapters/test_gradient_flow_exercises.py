"""Each exercise of gradient flow: right answers pass, and every named wrong answer is told what is wrong."""

import re

import numpy as np
import pytest

from bnlab.chapters.gradient_flow import exercises


def stub(*arguments):
    raise NotImplementedError


def one_line(dy, x_hat, gamma, inv_std):
    return gamma * inv_std * (dy - dy.mean() - x_hat * (dy * x_hat).mean())


def projection(x_hat):
    m = x_hat.size
    return np.eye(m) - np.ones((m, m)) / m - np.outer(x_hat, x_hat) / m


def next_length(norm2, grad2, lr, weight_decay):
    return (1 - lr * weight_decay) ** 2 * norm2 + lr**2 * grad2


def settled(unit_grad2, lr, weight_decay):
    return (lr * unit_grad2 / (2 * weight_decay)) ** 0.25


def settled_exactly(unit_grad2, lr, weight_decay):
    return (lr * unit_grad2 / (weight_decay * (2 - lr * weight_decay))) ** 0.25


def growth(g, slope):
    z = np.random.default_rng(5).normal(size=100_000)
    return (slope(z) ** 2).mean() / g(z).var()


RIGHT = [
    (exercises.one_line_gradient, one_line),
    (exercises.projection_matrix, projection),
    (exercises.next_squared_length, next_length),
    (exercises.equilibrium_length, settled),
    (exercises.equilibrium_length, settled_exactly),
    (exercises.growth_per_layer, growth),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    verdict = check(answer)
    assert verdict, verdict
    assert repr(verdict).startswith("Correct: ")


@pytest.mark.parametrize(
    "check", list(dict.fromkeys(check for check, _ in RIGHT)), ids=lambda c: c.__name__
)
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (stub, "still a stub"),
        (lambda *a: None, "returned None"),
        (lambda *a: 1 / 0, "raised ZeroDivisionError"),
        (lambda *a: "dx", "return numbers"),
        (lambda *a: np.zeros((2, 7)), r"shape \(2, 7\)"),
        (lambda *a: np.nan, ""),
        (lambda *a: 12345.0, ""),
    ],
)
def test_no_answer_at_all(check, answer, says):
    verdict = check(answer)
    assert not verdict
    assert re.search(says, repr(verdict)), repr(verdict)


def mean_constant(dy, h, g, s):
    return g * s * (dy - h * (dy * h).mean())


def variance_constant(dy, h, g, s):
    return g * s * (dy - dy.mean())


def both_constant(dy, h, g, s):
    return g * s * dy


def wrong_sign(dy, h, g, s):
    return g * s * (dy - dy.mean() + h * (dy * h).mean())


def no_1_over_m(dy, h, g, s):
    return g * s * (dy - dy.sum() - h * (dy * h).sum())


def no_gamma(dy, h, g, s):
    return s * (dy - dy.mean() - h * (dy * h).mean())


def no_inv_std(dy, h, g, s):
    return g * (dy - dy.mean() - h * (dy * h).mean())


def std_upside_down(dy, h, g, s):
    return g / s * (dy - dy.mean() - h * (dy * h).mean())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (mean_constant, "the mean as a constant"),
        (variance_constant, "the variance as a constant"),
        (both_constant, "both the mean and the variance"),
        (wrong_sign, "wrong sign"),
        (no_1_over_m, "1/m is missing"),
        (no_gamma, "gamma is missing"),
        (no_inv_std, "multiply by inv_std"),
        (std_upside_down, "so multiply"),
        (lambda dy, h, g, s: -one_line(dy, h, g, s), r"your dx\["),
    ],
)
def test_one_line_gradient_names_the_slip(answer, says):
    assert_names(exercises.one_line_gradient(answer), says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda h: np.eye(h.size), "removes nothing"),
        (lambda h: np.eye(h.size) - 1 / h.size, "ones only"),
        (lambda h: np.eye(h.size) - np.outer(h, h) / h.size, "x_hat only"),
        (lambda h: np.eye(h.size) - 1 - np.outer(h, h), "1/m is missing"),
        (lambda h: np.eye(h.size) + 1 / h.size + np.outer(h, h) / h.size, "wrong signs"),
        (lambda h: np.eye(h.size) - projection(h), "what is removed"),
        (lambda h: np.eye(h.size) - 1 / h.size - np.outer(h, h) / h.size**0.5, "not its square"),
    ],
)
def test_projection_matrix_names_the_slip(answer, says):
    assert_names(exercises.projection_matrix(answer), says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda n, g, lr, d: n + lr * g, "squared"),
        (lambda n, g, lr, d: (1 - lr * d) ** 2 * n + lr * g, "squared"),
        (lambda n, g, lr, d: n + lr**2 * g, "forgets the weight decay"),
        (lambda n, g, lr, d: (1 - lr * d) * n + lr**2 * g, "its square acts"),
        (lambda n, g, lr, d: (1 - lr * d) ** 2 * n - lr**2 * g, "subtracts"),
        (lambda n, g, lr, d: ((1 - lr * d) * n**0.5 + lr * g**0.5) ** 2, "adds lengths"),
        (lambda n, g, lr, d: (1 - d) ** 2 * n + lr**2 * g, "with the learning rate"),
    ],
)
def test_next_squared_length_names_the_slip(answer, says):
    assert_names(exercises.next_squared_length(answer), says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda g, lr, d: lr * g / (2 * d), "take the fourth root"),
        (lambda g, lr, d: (lr * g / (2 * d)) ** 0.5, "the gradient as constant"),
        (lambda g, lr, d: (lr * g / d) ** 0.25, "factor of 2"),
        (lambda g, lr, d: (d * g / (2 * lr)) ** 0.25, "each other's place"),
        (lambda g, lr, d: (lr**2 * g / (2 * d)) ** 0.25, "lr enters once"),
    ],
)
def test_equilibrium_length_names_the_slip(answer, says):
    assert_names(exercises.equilibrium_length(answer), says)


def moments(g, slope):
    z = np.random.default_rng(7).normal(size=2_000_000)
    return g(z), slope(z)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda a, d: (d**2).mean() / (a**2).mean(), "subtracts the mean|expected about"),
        (lambda a, d: d.mean() ** 2 / a.var(), "squares the mean slope"),
        (lambda a, d: a.var() / (d**2).mean(), "upside down"),
        (lambda a, d: ((d**2).mean() / a.var()) ** 0.5, "the question is its square"),
        (lambda a, d: (d**2).mean() / a.std(), "standard deviation"),
    ],
)
def test_growth_per_layer_names_the_slip(answer, says):
    assert_names(exercises.growth_per_layer(lambda g, slope: answer(*moments(g, slope))), says)


def assert_names(verdict, says):
    assert not verdict
    assert re.search(says, repr(verdict)), repr(verdict)
