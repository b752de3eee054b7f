"""The naive layer: closed forms, the right gradient, float32 and the errors."""

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from bnlab.chapters.naive_failure import naive

ALL = tuple(naive.VARIANTS)


def sample(*, n=40, target_mean=1.0, covariance=0.5, seed=0):
    """Return centered, unit-variance u and t with exactly this mean and covariance with u."""
    rng = np.random.default_rng(seed)
    u, noise = rng.normal(size=(2, n))
    u = (u - u.mean()) / u.std()
    noise = noise - noise.mean() - u * (u * noise).mean()
    return u, target_mean + covariance * u + 0.3 * noise


seeds = st.integers(0, 10_000)
means = st.floats(-3, 3)


# Centering: the paper's example


@given(seeds, means, st.floats(0.01, 2), st.floats(-5, 5))
def test_centered_bias_rises_by_the_same_amount_every_step(seed, target_mean, lr, b0):
    u, t = sample(seed=seed, target_mean=target_mean)
    run = naive.train(u, t, lr=lr, steps=20, b0=b0)
    np.testing.assert_allclose(np.diff(run.b), 2 * lr * t.mean(), atol=1e-13)
    np.testing.assert_allclose(run.b, naive.predicted_bias(t, lr=lr, steps=20, b0=b0), atol=1e-12)


@given(seeds, means)
def test_centered_output_and_loss_do_not_move(seed, target_mean):
    u, t = sample(seed=seed, target_mean=target_mean)
    run = naive.train(u, t, steps=50)
    assert run.output_change.max() < 1e-13
    np.testing.assert_allclose(run.loss, run.loss[0], rtol=1e-12)


def test_the_loss_is_the_variance_of_what_the_bias_cannot_reach_plus_the_squared_target_mean():
    u, t = sample(target_mean=0.7)
    expected = np.var(u - t) + t.mean() ** 2
    assert naive.gradients(u, t).loss == pytest.approx(expected)


# Centering with a learned beta


@given(seeds, means, st.floats(0.01, 0.99))
def test_with_beta_the_bias_copies_beta_and_converges(seed, target_mean, lr):
    u, t = sample(seed=seed, target_mean=target_mean)
    run = naive.train(u, t, variant="center_beta", lr=lr, steps=60, b0=2.0)
    np.testing.assert_allclose(run.b - 2.0, run.beta, atol=1e-12)
    predicted = naive.predicted_bias(t, variant="center_beta", lr=lr, steps=60, b0=2.0)
    np.testing.assert_allclose(run.b, predicted, atol=1e-12)
    final = naive.train(u, t, variant="center_beta", lr=0.3, steps=80, b0=2.0).b[-1]
    assert final == pytest.approx(2.0 + t.mean())


@pytest.mark.parametrize(
    ("lr", "converges"), [(0.5, True), (0.99, True), (1.0, False), (1.1, False)]
)
def test_with_beta_convergence_needs_a_learning_rate_below_one(lr, converges):
    u, t = sample()
    run = naive.train(u, t, variant="center_beta", lr=lr, steps=2001 if lr < 1 else 101)
    assert bool(abs(run.b[-1] - t.mean()) < 1e-6) is converges


# Scaling


@given(seeds, st.floats(-3, 3), st.floats(0.2, 5), st.booleans())
def test_scale_gradient_is_a_constant_over_a(seed, covariance, size, negative):
    u, t = sample(seed=seed, covariance=covariance)
    a = -size if negative else size
    push = naive.scale_push(-u if negative else u, t)
    assert naive.gradients(u, t, variant="scale", a=a).a == pytest.approx(push / a, abs=1e-12)
    assert naive.scale_push(u, t) == pytest.approx(2 * (1 - covariance), abs=1e-12)


@given(seeds, st.floats(-3, 3))
def test_scale_push_also_holds_when_u_is_not_centered(seed, shift):
    u, t = sample(seed=seed)
    push = naive.scale_push(u + shift, t)
    assert naive.gradients(u + shift, t, variant="scale", a=2.0).a == pytest.approx(push / 2)


def test_growing_scale_follows_the_square_root_from_above():
    u, t = sample(covariance=3.0)
    run = naive.train(u, t, variant="scale", lr=0.05, steps=2000)
    predicted = naive.predicted_scale(u, t, lr=0.05, steps=2000)
    assert (run.a >= predicted - 1e-12).all()
    assert run.a[-1] == pytest.approx(predicted[-1], rel=2e-3)
    assert run.output_change.max() < 1e-12
    np.testing.assert_allclose(run.loss, run.loss[0], rtol=1e-12)


@pytest.mark.parametrize("lr", [0.01, 0.001])
def test_shrinking_scale_runs_out_when_predicted(lr):
    u, t = sample(covariance=0.5)
    steps = round(1 / (2 * lr * naive.scale_push(u, t)))
    run = naive.train(u, t, variant="scale", lr=lr, steps=2 * steps)
    flip = int(np.argmax(run.a < 0))
    assert flip == pytest.approx(steps, rel=0.1)
    assert np.isnan(naive.predicted_scale(u, t, lr=lr, steps=2 * steps)[-1])


def test_when_the_sign_flips_the_loss_jumps_to_its_second_level():
    u, t = sample(covariance=0.5)
    run = naive.train(u, t, variant="scale", lr=0.1, steps=300)
    power = (t**2).mean()
    levels = np.where(run.a > 0, 1 - 2 * 0.5 + power, 1 + 2 * 0.5 + power)
    assert (run.a < 0).any()
    np.testing.assert_allclose(run.loss, levels, rtol=1e-10)


def test_zero_covariance_is_booles_map():
    u, t = sample(covariance=0.0)
    run = naive.train(u, t, variant="scale", lr=0.5, steps=6, a0=1.7)
    np.testing.assert_allclose(run.a[1:], run.a[:-1] - 1 / run.a[:-1], rtol=1e-9)


def test_center_scale_divides_the_push_on_b_by_a():
    u, t = sample(covariance=3.0)
    run = naive.train(u, t, variant="center_scale", steps=50)
    np.testing.assert_allclose(np.diff(run.b), 0.2 * t.mean() / np.abs(run.a[:-1]), rtol=1e-9)


@pytest.mark.parametrize("covariance", [0.5, 2.0])
def test_affine_makes_a_and_b_copy_gamma_and_beta(covariance):
    u, t = sample(covariance=covariance)
    run = naive.train(u, t, variant="center_scale_affine", lr=0.1, steps=200)
    np.testing.assert_allclose(run.a, run.gamma, atol=1e-12)
    np.testing.assert_allclose(run.b, run.beta, atol=1e-12)
    assert run.gamma[-1] == pytest.approx(covariance)
    assert run.loss[-1] == pytest.approx(np.var(t - covariance * u))


def test_small_affine_steps_conserve_the_difference_of_squares():
    u, t = sample(covariance=2.0)
    run = naive.train(u, t, variant="center_scale_affine", lr=4e-4, steps=10_000, a0=1.7)
    np.testing.assert_allclose(run.a**2 - run.gamma**2, 1.7**2 - 1, atol=5e-4)
    assert run.gamma[-1] == pytest.approx(2.0, abs=1e-2)


# The right gradient


@given(seeds, st.sampled_from(ALL), st.floats(0.3, 3), st.floats(-3, 3))
def test_through_statistics_equals_finite_differences(seed, variant, a, b):
    u, t = sample(seed=seed)
    at = {"a": a, "b": b, "gamma": 1.3, "beta": -0.4}
    right = naive.gradients(u + 0.5, t, variant=variant, through_statistics=True, **at)
    for name, value in at.items():
        up, down = (
            naive.gradients(u + 0.5, t, variant=variant, **{**at, name: value + h}).loss
            for h in (1e-6, -1e-6)
        )
        assert getattr(right, name) == pytest.approx((up - down) / 2e-6, abs=1e-6, rel=1e-5)


@pytest.mark.parametrize("variant", ALL)
def test_through_statistics_leaves_undone_parameters_where_they_are(variant):
    u, t = sample()
    b0 = 1.0 if "center" in variant else 0.0  # without centering, a bias is not undone
    run = naive.train(u, t, variant=variant, steps=300, b0=b0, a0=2.0, through_statistics=True)
    assert np.abs(run.b - b0).max() < 1e-12
    assert np.abs(run.a - 2).max() < 1e-12


def test_symbolic_gradients_agree():
    """With exact algebra: 0 through the statistics, -2 mean(t) and G/a when they are constants."""
    a, b, m, s = sympy.symbols("a b m s", positive=True)
    u = [sympy.Integer(k) for k in (-1, 0, 1)]
    t = [sympy.Rational(*q) for q in ((1, 2), (2, 3), (3, 1))]
    x = [a * value + b for value in u]
    mean = sum(x) / 3
    std = sympy.sqrt(sum((v - mean) ** 2 for v in x) / 3)
    right = sum(((v - mean) / std - w) ** 2 for v, w in zip(x, t, strict=True)) / 3
    naive_loss = sum(((v - m) / s - w) ** 2 for v, w in zip(x, t, strict=True)) / 3
    assert sympy.simplify(sympy.diff(right, b)) == 0
    assert sympy.simplify(sympy.diff(right, a)) == 0
    held = {m: mean, s: std}
    arrays = np.array([-1.0, 0, 1]), np.array([0.5, 2 / 3, 3])
    at = {a: sympy.Rational(3, 2), b: 2}
    measured = naive.gradients(*arrays, variant="center_scale", a=1.5, b=2.0)
    for symbol, value in ((a, measured.a), (b, measured.b)):
        exact = sympy.diff(naive_loss, symbol).subs(held).subs(at)
        assert value == pytest.approx(float(exact))


# Arithmetic, inputs and errors


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("variant", ALL)
def test_all_arithmetic_stays_in_the_dtype(dtype, variant):
    u, t = sample()
    run = naive.train(u, t, variant=variant, steps=3, dtype=dtype)
    assert run.dtype == np.dtype(dtype).name
    for name in ("a", "b", "gamma", "beta", "loss", "output_change", "grad_a", "grad_b"):
        assert getattr(run, name).dtype == dtype
        assert getattr(run, name).shape == (4,)


def test_float32_bias_stops_where_the_step_is_below_half_a_spacing():
    u, t = (v.astype(np.float32) for v in sample())
    run = naive.train(u, t, steps=5, b0=2.0**24, dtype=np.float32)
    assert (run.b == 2.0**24).all()
    assert naive.train(u, t, steps=5, b0=2.0**18, dtype=np.float32).b[-1] > 2.0**18


def test_data_given_in_float64_are_rounded_to_the_dtype_first():
    u, t = sample()
    low = u.astype(np.float32), t.astype(np.float32)
    for name in ("b", "loss"):
        mine, same = (
            getattr(naive.train(*data, steps=40, dtype=np.float32), name) for data in ((u, t), low)
        )
        np.testing.assert_array_equal(mine, same)


def test_output_change_is_the_largest_over_samples_against_the_start():
    u, t = sample(covariance=0.5)
    run = naive.train(u, t, variant="scale", lr=0.1, steps=300)
    expected = np.where(run.a > 0, 0, 2 * np.abs(u).max())
    np.testing.assert_allclose(run.output_change, expected, atol=1e-12)


def test_inputs_are_not_modified():
    u, t = sample()
    before = u.copy(), t.copy()
    naive.train(u, t, variant="center_scale_affine", steps=3)
    np.testing.assert_array_equal(u, before[0])
    np.testing.assert_array_equal(t, before[1])


def test_zero_steps_give_the_start():
    u, t = sample()
    assert naive.train(u, t, steps=0, b0=3.0).b.tolist() == [3.0]


U, T = sample()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"u": U.tolist()}, TypeError, "NumPy array"),
        ({"u": np.arange(40)}, TypeError, "dtype int64"),
        ({"u": U[:, None]}, ValueError, r"shape \(40, 1\)"),
        ({"u": U[:1], "t": T[:1]}, ValueError, "n >= 2"),
        ({"u": U[:0], "t": T[:0]}, ValueError, "n >= 2"),
        ({"t": T[:-1]}, ValueError, "one target for each input"),
        ({"t": np.where(T > 1, np.nan, T)}, ValueError, "NaN or Inf"),
        ({"variant": "centre"}, ValueError, "expected one of 'center'"),
        ({"lr": 0.0}, ValueError, "lr is 0.0"),
        ({"lr": -0.1}, ValueError, "above 0"),
        ({"lr": np.nan}, ValueError, "lr is nan"),
        ({"lr": "0.1"}, TypeError, "expected a real number"),
        ({"steps": -1}, ValueError, "at least 0"),
        ({"steps": 2.5}, TypeError, "expected an integer"),
        ({"steps": True}, TypeError, "expected an integer"),
        ({"b0": np.inf}, ValueError, "b0 is inf"),
        ({"a0": np.nan}, ValueError, "a0 is nan"),
        ({"dtype": np.int64}, TypeError, "expected a floating dtype"),
        ({"u": np.full(3, 0.1), "t": np.ones(3), "variant": "scale"}, ValueError, "is constant"),
        ({"a0": 0.0, "variant": "scale"}, ValueError, "at step 0"),
    ],
)
def test_train_says_what_was_given_expected_and_how_to_fix_it(change, error, says):
    with pytest.raises(error, match=says):
        naive.train(**{"u": U, "t": T, **change})


def test_train_rounds_data_of_any_dtype_to_the_one_asked_for():
    u, t = sample()
    mixed = naive.train(u.astype(np.float32), t, steps=3, dtype=np.float32)
    np.testing.assert_array_equal(mixed.b, naive.train(u, t, steps=3, dtype=np.float32).b)
    with pytest.raises(TypeError, match=r"u has dtype float32 and t has float64; .*astype"):
        naive.gradients(u.astype(np.float32), t)


def test_an_unknown_dtype_is_named():
    with pytest.raises(TypeError, match=r"dtype is 'float99'.*Use np\.float64"):
        naive.stalling_bias(1.0, dtype="float99")


def test_a_step_that_overflows_before_it_stalls_is_refused():
    largest = 2.0**4  # 11 digits below 2**15, the largest power of two of float16
    assert naive.stalling_bias(largest, dtype=np.float16) == 2.0**15
    with pytest.raises(ValueError, match=r"overflow float16 before it stalls; .* at most 16\."):
        naive.stalling_bias(1.1 * largest, dtype=np.float16)


def test_a_scale_that_lands_on_zero_is_reported_with_its_step():
    u = np.array([-1.0, 1.0])
    with pytest.raises(ValueError, match="at step 1 is constant"):
        naive.train(u, 0 * u, variant="scale", lr=0.5, steps=3)


def test_a_spread_too_small_for_the_dtype_is_reported_not_divided_by():
    u = np.array([1e-4, 2e-4, 3e-4], dtype=np.float16)  # the variance rounds to 0
    for call in (lambda: naive.gradients(u, u, variant="scale"), lambda: naive.scale_push(u, u)):
        with pytest.raises(ValueError, match="or nearly"):
            call()


def test_constant_input_is_fine_when_only_centering():
    assert naive.train(np.ones(4), np.ones(4), steps=2).output_change.max() < 1e-15


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: naive.gradients(U, T, a=np.nan), "a is nan"),
        (lambda: naive.gradients(U, T, variant="none"), "expected one of"),
        (lambda: naive.predicted_bias(T, variant="scale"), "closed form for b exists"),
        (lambda: naive.predicted_bias(T, lr=-1), "lr is -1"),
        (lambda: naive.predicted_scale(U, T, a0=0), "expected above 0"),
        (lambda: naive.predicted_scale(U, T, steps=-2), "steps is -2"),
        (lambda: naive.scale_push(np.full(3, 0.1), np.ones(3)), "the input u is constant"),
    ],
)
def test_the_other_functions_refuse_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
