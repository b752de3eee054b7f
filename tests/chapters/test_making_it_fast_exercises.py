import numpy as np
import pytest

from bnlab.chapters.making_it_fast import exercises


def refuses(verdict, words):
    assert not verdict
    assert words in verdict.message, verdict


def floor(count):
    return lambda shape, bandwidth, itemsize: count * np.prod(shape) * itemsize / bandwidth


def test_fastest_time():
    assert exercises.fastest_time(floor(5))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (floor(2), "forward pass: x is read"),
        (floor(3), "backward pass"),
        (floor(4), "one array is missing"),
        (floor(6), "one array too many"),
        (floor(1), "one array. Count"),
        (lambda s, b, i: 5 * np.prod(s) / b, "numbers are not bytes"),
        (lambda s, b, i: 5 * np.prod(s) * i * b, "bytes divided by bandwidth"),
        (lambda s, b, i: 20 * np.prod(s) / b, "expected"),  # right for float32 alone
        (lambda s, b, i: 1.0, "expected"),
    ],
)
def test_fastest_time_names_the_mistake(wrong, words):
    refuses(exercises.fastest_time(wrong), words)


def test_attainable_speed():
    assert exercises.attainable_speed(lambda f, m, p, b: min(p, b * f / m))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda f, m, p, b: p, "that is the peak"),
        (lambda f, m, p, b: b * f / m, "faster than the peak"),
        (lambda f, m, p, b: min(p, b * m / f), "not bytes per flop"),
        (lambda f, m, p, b: max(p, b * f / m), "that is the peak"),
        (lambda f, m, p, b: b, "expected"),
    ],
)
def test_attainable_speed_names_the_mistake(wrong, words):
    refuses(exercises.attainable_speed(wrong), words)


def merged(part_mean, part_var):
    def function(n_a, mean_a, var_a, n_b, mean_b, var_b):
        n = n_a + n_b
        mean = (n_a * mean_a + n_b * mean_b) / n
        within = (n_a * var_a + n_b * var_b) / n
        between = n_a * n_b / n**2 * (mean_a - mean_b) ** 2
        plain = (mean_a + mean_b) / 2, (var_a + var_b) / 2
        return part_mean(mean, plain[0]), part_var(within, between, plain[1], n)

    return function


def true_mean(mean, plain):
    return mean


def true_var(within, between, plain, n):
    return within + between


def test_merge_moments():
    assert exercises.merge_moments(merged(true_mean, true_var))


@pytest.mark.parametrize(
    ("mean", "var", "words"),
    [
        (lambda mean, plain: plain, true_var, "weigh each mean"),
        (lambda mean, plain: mean + 1, true_var, "the mean is off: add n times"),
        (true_mean, lambda w, b, p, n: w, "variance within"),
        (true_mean, lambda w, b, p, n: (w + b) * n / (n - 1), "unbiased"),
        (true_mean, lambda w, b, p, n: p, "weigh each variance"),
        (true_mean, lambda w, b, p, n: b, "expected"),
    ],
)
def test_merge_moments_names_the_mistake(mean, var, words):
    refuses(exercises.merge_moments(merged(mean, var)), words)


def test_merge_moments_wants_two_arrays():
    refuses(exercises.merge_moments(lambda *a: a[1]), "return two arrays")
    refuses(exercises.merge_moments(lambda *a: a[:3]), "return two arrays")
    refuses(exercises.merge_moments(lambda *a: (1.0, 2.0)), "shape ()")


def right(dy, x_hat, scale, out):
    np.multiply(x_hat, -(dy * x_hat).mean(0), out=out)
    out += dy
    out -= dy.mean(0)
    out *= scale
    return out


def test_gradient_in_place():
    assert exercises.gradient_in_place(right)


def into(formula):
    def function(dy, x_hat, scale, out):
        out[:] = formula(dy, x_hat, scale)
        return out

    return function


def spoils(name):
    def function(dy, x_hat, scale, out):
        right(dy, x_hat, scale, out)
        {"dy": dy, "x_hat": x_hat}[name][0] += 1
        return out

    return function


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (spoils("dy"), "dy has changed"),
        (spoils("x_hat"), "x_hat has changed"),
        (lambda dy, x_hat, scale, out: dy * scale, "out is untouched"),
        (lambda *a: (right(*a), None)[1], "return it as well"),
        (lambda *a: right(*a).copy(), "return it as well"),
        (into(lambda g, h, s: g - g.mean(0) - h * (g * h).mean(0)), "factor gamma"),
        (into(lambda g, h, s: s * (g - g.mean(0))), "part along x_hat"),
        (into(lambda g, h, s: s * (g - h * (g * h).mean(0))), "mean of dy is missing"),
        (into(lambda g, h, s: s * (g - g.sum(0) - h * (g * h).sum(0))), "not sums"),
        (into(lambda g, h, s: s * g), "other numbers"),
        (lambda *a: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_gradient_in_place_names_the_mistake(wrong, words):
    refuses(exercises.gradient_in_place(wrong), words)


@pytest.mark.parametrize(
    "checker",
    [
        exercises.fastest_time,
        exercises.attainable_speed,
        exercises.merge_moments,
        exercises.gradient_in_place,
    ],
)
def test_a_stub_is_not_yet(checker):
    def stub(*args):
        raise NotImplementedError

    refuses(checker(stub), "still a stub")
