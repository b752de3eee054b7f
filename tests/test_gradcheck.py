import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnlab import reference
from bnlab.gradcheck import check_gradient, directional_error


def bn_inputs(seed=0, shape=(8, 3), mean=0.5, std=2.0):
    rng = np.random.default_rng(seed)
    x = mean + std * rng.standard_normal(shape)
    return x, rng.uniform(0.5, 2, shape[1]), rng.standard_normal(shape[1])


def forward(x, gamma, beta):
    return reference.batch_norm_forward(x, gamma, beta, eps=1e-3)[0]


def backward(dy, x, gamma, beta):
    _, cache = reference.batch_norm_forward(x, gamma, beta, eps=1e-3)
    return reference.batch_norm_backward(dy, cache)


def parts(dy, x, gamma):
    m, inv_std = len(x), 1 / np.sqrt(x.var(0) + 1e-3)
    x_hat = (x - x.mean(0)) * inv_std
    return m, inv_std, x_hat, (dy * x_hat).sum(0), dy.sum(0)


def mean_as_constant(dy, x, gamma, beta):
    m, inv_std, x_hat, dgamma, dbeta = parts(dy, x, gamma)
    return gamma * inv_std * (dy - x_hat * dgamma / m), dgamma, dbeta


def variance_as_constant(dy, x, gamma, beta):
    m, inv_std, _, dgamma, dbeta = parts(dy, x, gamma)
    return gamma * inv_std * (dy - dbeta / m), dgamma, dbeta


def both_as_constant(dy, x, gamma, beta):
    _, inv_std, _, dgamma, dbeta = parts(dy, x, gamma)
    return gamma * inv_std * dy, dgamma, dbeta


def wrong_sign(dy, x, gamma, beta):
    m, inv_std, x_hat, dgamma, dbeta = parts(dy, x, gamma)
    return gamma * inv_std * (dy - dbeta / m + x_hat * dgamma / m), dgamma, dbeta


def missing_one_over_m(dy, x, gamma, beta):
    m, inv_std, x_hat, dgamma, dbeta = parts(dy, x, gamma)
    return gamma * inv_std * (dy - dbeta / m - x_hat * dgamma), dgamma, dbeta


def unbiased_one_over_m(dy, x, gamma, beta):
    m, inv_std, x_hat, dgamma, dbeta = parts(dy, x, gamma)
    return gamma * inv_std * (dy - dbeta / m - x_hat * dgamma / (m - 1)), dgamma, dbeta


def gamma_forgotten(dy, x, gamma, beta):
    dx, dgamma, dbeta = backward(dy, x, gamma, beta)
    return dx / gamma, dgamma, dbeta


def zero_dx(dy, x, gamma, beta):
    _, dgamma, dbeta = backward(dy, x, gamma, beta)
    return np.zeros_like(x), dgamma, dbeta


def nan_dx(dy, x, gamma, beta):
    _, dgamma, dbeta = backward(dy, x, gamma, beta)
    return np.full_like(x, np.nan), dgamma, dbeta


def dgamma_of_x(dy, x, gamma, beta):
    dx, _, dbeta = backward(dy, x, gamma, beta)
    return dx, (dy * x).sum(0), dbeta


def dgamma_mean(dy, x, gamma, beta):
    dx, dgamma, dbeta = backward(dy, x, gamma, beta)
    return dx, dgamma / len(x), dbeta


def dbeta_mean(dy, x, gamma, beta):
    dx, dgamma, dbeta = backward(dy, x, gamma, beta)
    return dx, dgamma, dbeta / len(x)


WRONG_DX = [
    mean_as_constant,
    variance_as_constant,
    both_as_constant,
    wrong_sign,
    missing_one_over_m,
    unbiased_one_over_m,
    gamma_forgotten,
    zero_dx,
    nan_dx,
]
NAMES = ("x", "gamma", "beta")


@pytest.mark.parametrize("shape", [(2, 1), (8, 3), (4, 3, 5), (3, 2, 4, 5), (2, 3, 2, 3, 2)])
def test_the_right_backward_passes(shape):
    inputs = bn_inputs(shape=shape)
    check_gradient(forward, backward, *inputs, names=NAMES)
    assert max(directional_error(forward, backward, *inputs)) < 1e-7


@given(
    seed=st.integers(0, 2**32 - 1),
    m=st.integers(3, 40),
    mean=st.floats(-300, 300),
    exponent=st.floats(-1, 3),
)
def test_the_right_backward_passes_anywhere(seed, m, mean, exponent):
    inputs = bn_inputs(seed, (m, 2), mean, std=10.0**exponent)
    # Another seed: with the same one, dy would be the batch itself, and its gradient almost 0.
    check_gradient(forward, backward, *inputs, seeds=(seed + 1,))


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        *((w, "x") for w in WRONG_DX),
        (dgamma_of_x, "gamma"),
        (dgamma_mean, "gamma"),
        (dbeta_mean, "beta"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_backward_fails_by_name(wrong, name, seed):
    with pytest.raises(AssertionError, match=f"the gradient of {name} is wrong: .*seed {seed}"):
        check_gradient(forward, wrong, *bn_inputs(), seeds=(seed,), names=NAMES)


@pytest.mark.parametrize("wrong", [mean_as_constant, zero_dx])
def test_a_sum_loss_would_not_notice(wrong):
    # The reason for the random cotangent. With dy = 1, even no gradient at all looks right.
    x, gamma, beta = bn_inputs()
    right, guess = (b(np.ones_like(x), x, gamma, beta)[0] for b in (backward, zero_dx))
    np.testing.assert_allclose(guess, right, atol=1e-12)
    assert directional_error(forward, wrong, x, gamma, beta)[0] > 0.01


def test_message_holds_both_numbers():
    def twice(dy, x, gamma, beta):
        return tuple(2 * g for g in backward(dy, x, gamma, beta))

    with pytest.raises(
        AssertionError, match=r"input 0 .* gives (\S+), finite differences give (\S+);"
    ) as e:
        check_gradient(forward, twice, *bn_inputs(), seeds=(7,))
    words = str(e.value).split()
    analytic, numeric = (float(words[words.index(w) + 1].strip(",;")) for w in ("gives", "give"))
    assert analytic == pytest.approx(2 * numeric, rel=1e-5)


def test_zero_gradients_are_right_when_the_function_is_constant():
    # Two values per feature normalize to -1 and 1 whatever they are: no gradient reaches x.
    def two(x):
        return reference.batch_norm_forward(x, np.ones(3), np.zeros(3), eps=0)[0]

    def nothing(dy, x):
        return (np.zeros_like(x),)

    check_gradient(two, nothing, np.random.default_rng(0).standard_normal((2, 3)))


def test_a_zero_gradient_by_chance_does_not_alarm():
    # The input is zero and one value: the spread gives no scale for the step.
    check_gradient(np.sin, lambda dy, x: (dy * np.cos(x),), np.zeros((1,)))


def test_step_is_used():
    x = np.linspace(1, 2, 5)
    backward_cube = lambda dy, x: (3 * x**2 * dy,)  # noqa: E731
    small, large = (
        directional_error(lambda x: x**3, backward_cube, x, step=h)[0] for h in (1e-5, 0.1)
    )
    assert small < 1e-8 < 1e-4 < large


def test_inputs_stay_even_if_the_functions_write_theirs():
    def rude_forward(x):
        x *= 2
        return x

    def rude_backward(dy, x):
        dy *= 2
        x[:] = 0
        return [dy]

    x = np.arange(4.0)
    check_gradient(rude_forward, rude_backward, x)
    np.testing.assert_array_equal(x, np.arange(4.0))


def test_a_loss_may_be_a_scalar():
    check_gradient(lambda x: (x**2).sum(), lambda dy, x: (2 * x * dy,), X)
    check_gradient(np.exp, lambda dy, x: (np.exp(x) * dy,), np.array(2.0))
    with pytest.raises(AssertionError, match="gradient of input 0 is wrong"):
        check_gradient(lambda x: (x**2).sum(), lambda dy, x: (x * dy,), X)


def test_a_forward_that_is_not_finite_is_not_blamed_on_the_backward():
    with pytest.raises(ValueError, match="the result of forward contains NaN or Inf"):
        check_gradient(lambda x: x * np.nan, d_square, X)


def test_same_seed_same_errors():
    inputs = bn_inputs()
    assert directional_error(forward, wrong_sign, *inputs, seed=3) == directional_error(
        forward, wrong_sign, *inputs, seed=3
    )
    assert directional_error(forward, wrong_sign, *inputs, seed=3) != directional_error(
        forward, wrong_sign, *inputs, seed=4
    )


def square(x):
    return x**2


def d_square(dy, x):
    return (2 * x * dy,)


X = np.linspace(1, 2, 5)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        (
            (square, d_square, X.astype(np.float32)),
            {},
            TypeError,
            r"input 0 has dtype float32; .*astype",
        ),
        ((square, d_square, [1.0]), {}, TypeError, "input 0 is a list"),
        ((square, d_square, np.arange(3)), {}, TypeError, "input 0 has dtype int64"),
        (
            (square, d_square, np.array([1, np.nan])),
            {},
            ValueError,
            "input 0 contains 1 NaN or Inf",
        ),
        (
            (square, d_square, np.empty((0, 2))),
            {},
            ValueError,
            r"input 0 has shape \(0, 2\), .*no values",
        ),
        ((square, d_square), {}, ValueError, "no input was given"),
        (
            (square, lambda dy, x: 2 * x * dy, X),
            {},
            ValueError,
            r"returned a ndarray; .* return \(dx,\)",
        ),
        ((square, lambda dy, x: (dy, dy), X), {}, ValueError, "returned 2 gradient.* a tuple of 1"),
        (
            (square, lambda dy, x: (dy[:1],), X),
            {},
            ValueError,
            r"gradient 0 has shape \(1,\); .*\(5,\)",
        ),
        ((square, lambda dy, x: (None,), X), {}, TypeError, "gradient 0 is a NoneType"),
        ((lambda x: (x, x), d_square, X), {}, TypeError, "the result of forward is a tuple"),
        ((square, d_square, X), {"step": 0}, ValueError, "step is 0.0; expected a positive"),
        ((square, d_square, X), {"step": np.nan}, ValueError, "step is nan; expected a finite"),
        ((square, d_square, X), {"step": "small"}, TypeError, "step is 'small', a str"),
        (
            (square, d_square, X),
            {"tolerance": -1},
            ValueError,
            "tolerance is -1.0; expected a positive",
        ),
        ((square, d_square, X), {"seeds": ()}, ValueError, "seeds is empty"),
        ((square, d_square, X), {"seeds": 3}, TypeError, r"seeds is 3; .*seeds=\(3,\)"),
        (
            (square, d_square, X),
            {"names": ("x", "y")},
            ValueError,
            "names has 2 entries for 1 inputs",
        ),
    ],
)
def test_bad_input_is_explained(arguments, options, error, match):
    with pytest.raises(error, match=match):
        check_gradient(*arguments, **options)
