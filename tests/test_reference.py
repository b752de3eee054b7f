import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from bnlab.gradcheck import check_gradient
from bnlab.reference import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    population_statistics,
    update_running_statistics,
)

SHAPES = {"NC": (12, 5), "NCL": (4, 5, 7), "NCHW": (3, 5, 4, 6), "NCDHW": (2, 5, 3, 4, 2)}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
FLOAT32_U = 1.2e-7


def axes(x):
    return (0, *range(2, x.ndim))


def along(v, x):
    return v.reshape(1, -1, *(1,) * (x.ndim - 2))


def make(shape, dtype=np.float64, seed=0, mean=1.5, std=2.0):
    rng = np.random.default_rng(seed)
    x = (mean + std * rng.standard_normal(shape)).astype(dtype)
    gamma = rng.uniform(0.5, 2, shape[1]).astype(dtype)
    beta = rng.standard_normal(shape[1]).astype(dtype)
    return x, gamma, beta, rng.standard_normal(shape).astype(dtype)


def torch_batch_norm(x, gamma, beta, dy, eps, momentum):
    """Outputs, gradients and running statistics of torch, from zeros and ones."""
    tx, tg, tb = (torch.tensor(a, requires_grad=True) for a in (x, gamma, beta))
    mean, var = torch.zeros_like(tg.detach()), torch.ones_like(tg.detach())
    y = torch.nn.functional.batch_norm(tx, mean, var, tg, tb, True, momentum, eps)
    y.backward(torch.tensor(dy))
    return [t.detach().numpy() for t in (y, tx.grad, tg.grad, tb.grad, mean, var)]


# Against torch


@every_shape
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize(("eps", "momentum"), [(1e-5, 0.1), (0.5, 0.75)])
def test_agrees_with_torch(shape, dtype, tolerance, eps, momentum):
    x, gamma, beta, dy = make(shape, dtype)
    y, cache = batch_norm_forward(x, gamma, beta, eps=eps)
    gradients = batch_norm_backward(dy, cache)
    running = update_running_statistics(
        np.zeros(5, dtype), np.ones(5, dtype), cache, momentum=momentum
    )
    expected = torch_batch_norm(x, gamma, beta, dy, eps, momentum)
    names = ("y", "dx", "dgamma", "dbeta", "mean", "var")
    for name, ours, theirs in zip(names, (y, *gradients, *running), expected, strict=True):
        assert ours.dtype == dtype, name
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=name)


@every_shape
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_inference_agrees_with_torch(shape, dtype, tolerance, eps):
    x, gamma, beta, _ = make(shape, dtype)
    mean, var = beta[::-1].copy(), gamma[::-1] ** 2
    y = batch_norm_inference(x, gamma, beta, mean, var, eps=eps)
    tensors = (torch.tensor(a) for a in (x, mean, var, gamma, beta))
    theirs = torch.nn.functional.batch_norm(*tensors, False, 0.1, eps).numpy()
    assert y.dtype == dtype
    np.testing.assert_allclose(y, theirs, rtol=tolerance, atol=tolerance)


# Against the paper


@every_shape
def test_forward_is_algorithm_1(shape):
    x, gamma, beta, _ = make(shape)
    y, cache = batch_norm_forward(x, gamma, beta, eps=0.1)
    mu_B, var_B = x.mean(axes(x)), x.var(axes(x))
    x_hat = (x - along(mu_B, x)) / np.sqrt(along(var_B, x) + 0.1)
    np.testing.assert_allclose(cache.mu_B, mu_B, rtol=1e-13)
    np.testing.assert_allclose(cache.var_B, var_B, rtol=1e-13)
    np.testing.assert_allclose(cache.inv_std, (var_B + 0.1) ** -0.5, rtol=1e-13)
    np.testing.assert_allclose(cache.x_hat, x_hat, atol=1e-13)
    np.testing.assert_allclose(y, along(gamma, x) * x_hat + along(beta, x), atol=1e-13)
    assert cache.m == x.size // 5
    assert (cache.eps, cache.dtype) == (0.1, x.dtype)
    np.testing.assert_array_equal(cache.gamma, gamma)


@every_shape
def test_backward_is_the_six_formulas(shape):
    x, gamma, beta, dy = make(shape)
    eps = 0.1
    _, cache = batch_norm_forward(x, gamma, beta, eps=eps)
    m, c, s = cache.m, x - along(cache.mu_B, x), np.sqrt(cache.var_B + eps)
    dx_hat = dy * along(gamma, x)
    dvar_B = (dx_hat * c).sum(axes(x)) * -0.5 * s**-3
    dmu_B = -dx_hat.sum(axes(x)) / s + dvar_B * (-2 * c).sum(axes(x)) / m
    dx = dx_hat / along(s, x) + along(dvar_B, x) * 2 * c / m + along(dmu_B, x) / m
    dgamma = (dy * cache.x_hat).sum(axes(x))
    for ours, paper in zip(
        batch_norm_backward(dy, cache), (dx, dgamma, dy.sum(axes(x))), strict=True
    ):
        np.testing.assert_allclose(ours, paper, rtol=1e-11, atol=1e-12)


@every_shape
@pytest.mark.parametrize("eps", [0.0, 1e-5, 1.0])
def test_gradients_match_finite_differences(shape, eps):
    def backward(dy, x, gamma, beta):
        return batch_norm_backward(dy, batch_norm_forward(x, gamma, beta, eps=eps)[1])

    x, gamma, beta, _ = make(shape)
    check_gradient(
        lambda *inputs: batch_norm_forward(*inputs, eps=eps)[0], backward, x, gamma, beta
    )


def test_inference_with_batch_statistics_is_the_forward_pass():
    x, gamma, beta, _ = make((6, 5, 3))
    y, cache = batch_norm_forward(x, gamma, beta)
    again = batch_norm_inference(x, gamma, beta, cache.mu_B, cache.var_B)
    np.testing.assert_allclose(again, y, atol=1e-14)


def test_inference_of_one_value():
    y = batch_norm_inference(
        np.array([[7.0]]), np.ones(1), np.zeros(1), np.ones(1), np.full(1, 9.0)
    )
    assert y[0, 0] == pytest.approx(2, rel=1e-5)


# Properties

batches = st.builds(
    lambda shape, seed: make(shape, seed=seed),
    array_shapes(min_dims=2, max_dims=4, min_side=2, max_side=6),
    st.integers(0, 2**32 - 1),
)
signs = st.sampled_from([-1.0, 1.0])


@given(batch=batches, a=st.floats(1e-3, 1e3), sign=signs, b=st.floats(-1e3, 1e3))
def test_x_hat_ignores_shift_and_positive_scale(batch, a, sign, b):
    x, gamma, beta, _ = batch
    x_hat = batch_norm_forward(x, gamma, beta, eps=0)[1].x_hat
    moved = batch_norm_forward(sign * a * x + b, gamma, beta, eps=0)[1].x_hat
    np.testing.assert_allclose(moved, sign * x_hat, atol=1e-8)


@given(batch=batches)
def test_y_has_mean_beta_and_variance_gamma_squared(batch):
    x, gamma, beta, _ = batch
    y, _ = batch_norm_forward(x, gamma, beta, eps=0)
    np.testing.assert_allclose(y.mean(axes(x)), beta, atol=1e-12)
    np.testing.assert_allclose(y.var(axes(x)), gamma**2, rtol=1e-12)


@given(batch=batches, eps=st.sampled_from([1e-5, 1.0]))
def test_eps_shrinks_the_variance(batch, eps):
    x, gamma, beta, _ = batch
    _, cache = batch_norm_forward(x, gamma, beta, eps=eps)
    shrunk = cache.var_B / (cache.var_B + eps)
    np.testing.assert_allclose(cache.x_hat.var(axes(x)), shrunk, rtol=1e-11)


@given(batch=batches, outlier=st.floats(1, 1e6))
def test_x_hat_is_bounded(batch, outlier):
    x, gamma, beta, _ = batch
    x[0] += outlier  # the bound is reached when one value stands alone
    _, cache = batch_norm_forward(x, gamma, beta, eps=0)
    assert np.abs(cache.x_hat).max() <= np.sqrt(cache.m - 1) * (1 + 1e-12)


def test_the_bound_is_reached():
    _, cache = batch_norm_forward(np.eye(10)[:, :1], np.ones(1), np.zeros(1), eps=0)
    assert cache.x_hat.max() == pytest.approx(3, rel=1e-14)


@given(batch=batches, eps=st.sampled_from([0.0, 1e-5, 1.0]))
def test_dx_sums_to_zero(batch, eps):
    x, gamma, beta, dy = batch
    dx, _, _ = batch_norm_backward(dy, batch_norm_forward(x, gamma, beta, eps=eps)[1])
    np.testing.assert_allclose(dx.sum(axes(x)), 0, atol=1e-10 * max(1, np.abs(dx).max()))


@given(batch=batches)
def test_dx_is_orthogonal_to_x_hat(batch):
    x, gamma, beta, dy = batch
    _, cache = batch_norm_forward(x, gamma, beta, eps=0)
    dx, _, _ = batch_norm_backward(dy, cache)
    overlap = (dx * cache.x_hat).sum(axes(x))
    np.testing.assert_allclose(overlap, 0, atol=1e-10 * max(1, np.abs(dx).max()))


def test_with_eps_dx_is_not_orthogonal_to_x_hat():
    x, gamma, beta, dy = make((6, 1))
    _, cache = batch_norm_forward(x, gamma, beta, eps=1.0)
    dx, _, _ = batch_norm_backward(dy, cache)
    assert abs((dx * cache.x_hat).sum()) > 1e-3


def test_two_values_become_plus_and_minus_one_and_pass_no_gradient():
    x, gamma, beta, dy = make((2, 4))
    _, cache = batch_norm_forward(x, gamma, beta, eps=0)
    np.testing.assert_allclose(np.abs(cache.x_hat), 1, rtol=1e-14)
    np.testing.assert_allclose(batch_norm_backward(dy, cache)[0], 0, atol=1e-14)


@given(batch=batches)
def test_spatial_positions_count_as_samples(batch):
    x, gamma, beta, dy = batch
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    y, cache = batch_norm_forward(x, gamma, beta)
    y_rows, cache_rows = batch_norm_forward(rows, gamma, beta)
    np.testing.assert_allclose(np.moveaxis(y, 1, -1).reshape(rows.shape), y_rows, atol=1e-12)
    dx = batch_norm_backward(dy, cache)[0]
    dx_rows = batch_norm_backward(np.moveaxis(dy, 1, -1).reshape(rows.shape), cache_rows)[0]
    np.testing.assert_allclose(np.moveaxis(dx, 1, -1).reshape(rows.shape), dx_rows, atol=1e-11)


# Inputs are left alone


@every_shape
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_inputs_may_be_read_only_and_are_never_written(shape, dtype):
    x, gamma, beta, dy = make(shape, dtype)
    copies = [a.copy() for a in (x, gamma, beta, dy)]
    for a in (x, gamma, beta, dy):
        a.flags.writeable = False
    y, cache = batch_norm_forward(x, gamma, beta)
    fields = [a.copy() for a in cache[:5]]
    results = [y, *batch_norm_backward(dy, cache)]
    mean, var = np.zeros(5, dtype), np.ones(5, dtype)
    results += [
        *update_running_statistics(mean, var, cache),
        batch_norm_inference(x, gamma, beta, mean, var),
    ]
    results += [
        *update_running_statistics(mean, var, cache, momentum=0),
        *population_statistics([x]),
    ]
    for a, copy in zip((x, gamma, beta, dy), copies, strict=True):
        np.testing.assert_array_equal(a, copy)
    for a, copy in zip(cache[:5], fields, strict=True):
        np.testing.assert_array_equal(a, copy)
    np.testing.assert_array_equal(mean, np.zeros(5))
    np.testing.assert_array_equal(var, np.ones(5))
    for result in results:
        assert not any(
            np.shares_memory(result, a) for a in (x, gamma, beta, dy, mean, var, *cache[:5])
        )


def test_gamma_may_change_between_forward_and_backward():
    x, gamma, beta, dy = make((6, 5))
    _, cache = batch_norm_forward(x, gamma, beta)
    before = batch_norm_backward(dy, cache)[0]
    gamma *= 2  # an optimizer that updates in place
    np.testing.assert_array_equal(batch_norm_backward(dy, cache)[0], before)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[::-1][::-1],
        lambda a: np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1),
        lambda a: a.astype(a.dtype.newbyteorder()),
    ],
    ids=["fortran", "every other row", "reversed twice", "channels last", "other byte order"],
)
def test_memory_layout_does_not_matter(view):
    x, gamma, beta, dy = make((4, 5, 3))
    y, cache = batch_norm_forward(x, gamma, beta)
    y_view, cache_view = batch_norm_forward(view(x), gamma, beta)
    np.testing.assert_allclose(y_view, y, atol=1e-14)
    for ours, theirs in zip(
        batch_norm_backward(view(dy), cache_view), batch_norm_backward(dy, cache), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-13)
    mean, var = np.full(5, 0.5), np.full(5, 2.0)
    ours = batch_norm_inference(view(x), gamma, beta, mean, var)
    np.testing.assert_allclose(ours, batch_norm_inference(x, gamma, beta, mean, var), atol=1e-14)


# Precision


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_dtypes(dtype):
    x, gamma, beta, dy = make((4, 5, 3), dtype)
    y, cache = batch_norm_forward(x, gamma.astype(np.float64), beta)
    dx, dgamma, dbeta = batch_norm_backward(dy.astype(np.float64), cache)
    inferred = batch_norm_inference(x, gamma, beta, np.zeros(5), np.ones(5))
    assert y.dtype == dx.dtype == inferred.dtype == dtype
    assert dgamma.dtype == dbeta.dtype == np.float64
    wide = np.result_type(dtype, np.float64)
    assert cache.mu_B.dtype == cache.var_B.dtype == cache.inv_std.dtype == wide
    work = np.result_type(dtype, np.float32)
    assert cache.x_hat.dtype == work
    assert {a.dtype for a in population_statistics([x, x])} == {np.dtype(work)}
    running = update_running_statistics(np.zeros(5, np.float32), np.ones(5, np.float16), cache)
    assert [a.dtype for a in running] == [np.float32, np.float16]


@pytest.mark.parametrize("mean", [0, 1e3, -1e6])
@pytest.mark.parametrize("order", ["random", "sorted"])
@pytest.mark.parametrize("m", [10, 1_000_000])
def test_float32_is_accurate_at_large_means(m, mean, order):
    x = (mean + np.random.default_rng(0).standard_normal((m, 3))).astype(np.float32)
    if order == "sorted":  # the partial sums grow larger than in random order
        x.sort(axis=0)
    exact = x.astype(np.float64) - mean
    exact = (exact - exact.mean(0)) / exact.std(0)
    _, cache = batch_norm_forward(x, np.ones(3, np.float32), np.zeros(3, np.float32), eps=0)
    error = np.abs(cache.x_hat - exact).max(0)
    assert (error <= 8 * FLOAT32_U * np.abs(exact).max(0)).all()


def test_float32_backward_is_accurate_when_dy_has_a_large_mean():
    x, gamma, beta, dy = make((1000, 2))
    dy += 1e4
    x, gamma, beta, dy = (a.astype(np.float32) for a in (x, gamma, beta, dy))
    wide = [a.astype(np.float64) for a in (x, gamma, beta, dy)]
    ours = batch_norm_backward(dy, batch_norm_forward(x, gamma, beta)[1])
    exact = batch_norm_backward(wide[3], batch_norm_forward(*wide[:3])[1])
    for a, b in zip(ours, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6 * np.abs(b).max())


def test_float64_backward_is_accurate_when_dy_has_a_large_mean():
    x, gamma, beta, dy = make((1000, 2))
    large = 1e9 + dy
    _, cache = batch_norm_forward(x, gamma, beta)
    ours = batch_norm_backward(large, cache)
    exact = batch_norm_backward(large - 1e9, cache)  # this difference has no rounding error
    for a, b in zip(ours[:2], exact[:2], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max())


def test_float64_is_accurate_at_large_means():
    x = 1e9 + np.random.default_rng(0).standard_normal((1000, 1))
    exact = (x - 1e9).astype(np.longdouble)  # this difference is exact
    exact = (exact - exact.mean()) / exact.std()
    _, cache = batch_norm_forward(x, np.ones(1), np.zeros(1), eps=0)
    assert np.abs(cache.x_hat - exact).max() < 1e-14


def test_float16_accumulates_in_a_wider_dtype():
    # 70,000 values of about 60: their sum and their squares lie far beyond float16.
    x, _, _, _ = make((70_000, 1), np.float16, mean=60, std=20)
    y, cache = batch_norm_forward(x, np.ones(1, np.float16), np.zeros(1, np.float16))
    exact = x.astype(np.float64)
    assert cache.mu_B[0] == pytest.approx(exact.mean(), rel=1e-12)
    assert cache.var_B[0] == pytest.approx(exact.var(), rel=1e-6)
    np.testing.assert_allclose(y, (exact - exact.mean()) / exact.std(), atol=2e-3)


def test_inference_keeps_the_digits_of_a_large_mean():
    x = (1e6 + np.random.default_rng(0).standard_normal((100, 1))).astype(np.float32)
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    y, cache = batch_norm_forward(x, one, zero)
    again = batch_norm_inference(x, one, zero, cache.mu_B, cache.var_B)
    np.testing.assert_allclose(again, y, atol=1e-6)


def test_statistics_of_a_narrow_dtype_do_not_narrow_the_arithmetic():
    x, gamma, beta, _ = make((6, 5))
    narrow = np.linspace(-1, 1, 5).astype(np.float16), np.array([0, 1e-3, 0.1, 1, 2], np.float16)
    wide = [a.astype(np.float64) for a in narrow]
    np.testing.assert_array_equal(
        batch_norm_inference(x, gamma, beta, *narrow), batch_norm_inference(x, gamma, beta, *wide)
    )


# Statistics of the population


@every_shape
def test_equal_batches_give_the_formula_of_the_paper(shape):
    batches = [make(shape, seed=s)[0] for s in range(4)]
    m = batches[0].size // 5
    mean, var = population_statistics(batches)
    np.testing.assert_allclose(mean, np.mean([b.mean(axes(b)) for b in batches], 0), rtol=1e-12)
    expected = m / (m - 1) * np.mean([b.var(axes(b)) for b in batches], 0)
    np.testing.assert_allclose(var, expected, rtol=1e-12)


def test_uneven_batches_are_pooled_and_read_once():
    sizes = (2, 30, 7)
    batches = [make((n, 5), seed=n)[0] for n in sizes]
    mean, var = population_statistics(b for b in batches)
    np.testing.assert_allclose(mean, np.concatenate(batches).mean(0), rtol=1e-12)
    pooled = sum((n - 1) * b.var(0, ddof=1) for n, b in zip(sizes, batches, strict=True))
    np.testing.assert_allclose(var, pooled / (sum(sizes) - 3), rtol=1e-12)


@pytest.mark.parametrize("sizes", [(4, 4), (2, 3, 8)])
def test_population_statistics_are_unbiased(sizes):
    # 20,000 features are 20,000 repetitions; true mean 3, variance 4. Biased variance would be at
    # most 3.4 here, fifty standard errors away.
    rng = np.random.default_rng(0)
    mean, var = population_statistics(3 + 2 * rng.standard_normal((n, 20_000)) for n in sizes)
    for estimate, truth in ((mean, 3), (var, 4)):
        standard_error = estimate.std() / np.sqrt(estimate.size)
        assert abs(estimate.mean() - truth) < 4 * standard_error


def test_running_statistics_store_the_unbiased_variance():
    x = np.array([[1.0], [3.0]])
    _, cache = batch_norm_forward(x, np.ones(1), np.zeros(1))
    mean, var = update_running_statistics(np.zeros(1), np.ones(1), cache, momentum=1)
    assert (mean[0], var[0]) == (2, 2)


def test_momentum_weights_the_new_batch():
    x = np.array([[1.0], [3.0]])
    _, cache = batch_norm_forward(x, np.ones(1), np.zeros(1))
    mean, _ = update_running_statistics(np.full(1, 10.0), np.ones(1), cache, momentum=0.25)
    assert mean[0] == 8


def test_running_statistics_follow_torch_over_many_batches():
    layer = torch.nn.BatchNorm1d(3, momentum=0.3).double()
    mean, var = np.zeros(3), np.ones(3)
    for seed in range(10):
        x, gamma, beta, _ = make((5, 3), seed=seed)
        layer(torch.tensor(x))
        _, cache = batch_norm_forward(x, gamma, beta)
        mean, var = update_running_statistics(mean, var, cache, momentum=0.3)
    np.testing.assert_allclose(mean, layer.running_mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(var, layer.running_var.numpy(), rtol=1e-12)


# Errors

X = np.array([[1.0, 5.0, 2.0], [2.0, 4.0, 8.0], [4.0, 3.0, 1.0]])
G, B = np.ones(3), np.zeros(3)


def spoiled(value):
    x = X.copy()
    x[1, 2] = value
    return x


BAD_X = [
    (X.tolist(), TypeError, r"x is a list; .*np.asarray\(x"),
    (X.astype(int), TypeError, r"x has dtype int64; .*x.astype\(float\)"),
    (X.astype(complex), TypeError, "x has dtype complex128"),
    (X > 2, TypeError, "x has dtype bool"),
    (torch.tensor(X), TypeError, r"x is a Tensor; .*detach\(\)\.numpy\(\)"),
    (np.ma.masked_greater(X, 2), TypeError, r"x is a masked array.*filled"),
    (np.float64(3), TypeError, "x is a float64"),
    (X[0], ValueError, r"x has shape \(3,\); expected \(N, C\).*reshape\(-1, 1\)"),
    (np.array(1.0), ValueError, r"x has shape \(\); expected \(N, C\)"),
    (np.empty((0, 3)), ValueError, r"x has shape \(0, 3\), which holds no values"),
    (np.empty((2, 0)), ValueError, r"x has shape \(2, 0\), which holds no values"),
    (np.empty((2, 3, 0)), ValueError, r"x has shape \(2, 3, 0\), which holds no values"),
    (spoiled(np.nan), ValueError, r"x contains 1 NaN or Inf value.*index \(1, 2\)"),
    (spoiled(-np.inf), ValueError, r"x contains 1 NaN or Inf value.*index \(1, 2\)"),
]
BAD_PARAMETERS = [
    ([1.0, 1.0, 1.0], TypeError, "{} is a list"),
    (np.ones(3, int), TypeError, "{} has dtype int64"),
    (np.ones(2), ValueError, r"{} has shape \(2,\); expected \(3,\).*moveaxis"),
    (np.ones((1, 3)), ValueError, r"{} has shape \(1, 3\); expected \(3,\)"),
    (np.array(1.0), ValueError, r"{} has shape \(\); expected \(3,\)"),
    (np.array([1, np.nan, 1]), ValueError, r"{} contains 1 NaN or Inf value.*\(1,\)"),
]
BAD_EPS = [
    (-1e-5, ValueError, "eps is -1e-05; expected a finite number of at least 0"),
    (np.nan, ValueError, "eps is nan; expected"),
    (np.inf, ValueError, "eps is inf; expected"),
    (True, TypeError, "eps is True, a bool"),
    (np.True_, TypeError, "eps is np.True_, a bool"),
    (None, TypeError, "eps is None"),
    ("1e-5", TypeError, "eps is '1e-5', a str"),
    (np.ones(1), TypeError, "eps is array"),
]


def infer(x, gamma, beta, **options):
    return batch_norm_inference(x, gamma, beta, B, G, **options)


both_passes = pytest.mark.parametrize("function", [batch_norm_forward, infer])


@both_passes
@pytest.mark.parametrize(("x", "error", "match"), BAD_X)
def test_bad_x(function, x, error, match):
    with pytest.raises(error, match=match):
        function(x, G, B)


@pytest.mark.parametrize(("x", "error", "match"), BAD_X)
def test_bad_batch_is_named(x, error, match):
    match = match.replace("x ", r"batches\[1\] ", 1).replace("x.", r"batches\[1\].")
    with pytest.raises(error, match=match.replace(r"\(x", r"\(batches\[1\]")):
        population_statistics([X, x])


@both_passes
@pytest.mark.parametrize(("value", "error", "match"), BAD_PARAMETERS)
@pytest.mark.parametrize("name", ["gamma", "beta"])
def test_bad_gamma_and_beta(function, name, value, error, match):
    with pytest.raises(error, match=match.format(name)):
        function(X, **{"gamma": G, "beta": B, name: value})


@both_passes
@pytest.mark.parametrize(("eps", "error", "match"), BAD_EPS)
def test_bad_eps(function, eps, error, match):
    with pytest.raises(error, match=match):
        function(X, G, B, eps=eps)


@pytest.mark.parametrize("eps", [1, np.float32(1), np.int64(1)])
def test_any_real_number_may_be_eps(eps):
    np.testing.assert_array_equal(
        batch_norm_forward(X, G, B, eps=eps)[0], batch_norm_forward(X, G, B, eps=1.0)[0]
    )


def test_eps_is_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        batch_norm_forward(X, G, B, 1e-5)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1), (1, 3, 1, 1)])
def test_one_value_per_feature(shape):
    x = np.ones(shape)
    with pytest.raises(
        ValueError, match=r"x has shape \(1, 3.*one value per feature; .*at least 2"
    ):
        batch_norm_forward(x, G, B)
    with pytest.raises(ValueError, match=r"batches\[1\] has shape .*one value per feature"):
        population_statistics([X.reshape(3, *shape[1:]), x])


def test_one_sample_of_many_positions_is_enough():
    y, _ = batch_norm_forward(np.arange(6.0).reshape(1, 3, 2), G, B, eps=0)
    np.testing.assert_allclose(y, [[[-1, 1]] * 3])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 + 0.1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("m", [7, 99_999])
def test_constant_features_with_eps_0_are_named(constant, dtype, m):
    x = np.random.default_rng(0).standard_normal((m, 4)).astype(dtype)
    x[:, [1, 3]] = min(constant, float(np.finfo(dtype).max))
    with pytest.raises(ValueError, match=r"feature\(s\) \[1, 3\] \(constant\) and eps=0.*eps=1e-5"):
        batch_norm_forward(x, np.ones(4), np.zeros(4), eps=0)


def test_constant_features_with_eps_become_beta():
    x = np.full((7, 3), 0.1)
    beta = np.array([1.0, 2.0, 3.0])
    y, cache = batch_norm_forward(x, G, beta)
    np.testing.assert_allclose(y, np.tile(beta, (7, 1)), atol=1e-12)
    dx, _, _ = batch_norm_backward(X[[0, 1, 2, 0, 1, 2, 0]], cache)
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("name", ["mean", "var"])
@pytest.mark.parametrize(("value", "error", "match"), BAD_PARAMETERS)
def test_bad_inference_statistics(name, value, error, match):
    with pytest.raises(error, match=match.format(name)):
        batch_norm_inference(X, G, B, **{"mean": B, "var": G, name: value})
    cache = batch_norm_forward(X, G, B)[1]
    with pytest.raises(error, match=match.format(f"running_{name}")):
        update_running_statistics(
            **{"running_mean": B, "running_var": G, f"running_{name}": value}, cache=cache
        )


def test_negative_variance():
    var = np.array([1.0, -0.5, -2.0])
    with pytest.raises(ValueError, match=r"var is negative for feature\(s\) \[1, 2\]"):
        batch_norm_inference(X, G, B, B, var)
    with pytest.raises(ValueError, match=r"running_var is negative for feature\(s\) \[1, 2\]"):
        update_running_statistics(B, var, batch_norm_forward(X, G, B)[1])


def test_zero_variance_and_zero_eps_at_inference():
    var = np.array([1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match=r"var is 0 for feature\(s\) \[1\] .*eps=0"):
        batch_norm_inference(X, G, B, B, var, eps=0)
    assert np.isfinite(batch_norm_inference(X, G, B, B, var)).all()


@pytest.mark.parametrize(
    ("dy", "error", "match"),
    [
        (X.tolist(), TypeError, "dy is a list"),
        (X.astype(int), TypeError, "dy has dtype int64"),
        (X[:2], ValueError, r"dy has shape \(2, 3\); expected \(3, 3\), the shape of x"),
        (X.T[:1], ValueError, r"dy has shape \(1, 3\); expected \(3, 3\)"),
        (spoiled(np.nan), ValueError, r"dy contains 1 NaN or Inf value.*index \(1, 2\)"),
        (spoiled(np.inf), ValueError, r"dy contains 1 NaN or Inf value.*index \(1, 2\)"),
    ],
)
def test_bad_dy(dy, error, match):
    _, cache = batch_norm_forward(X, G, B)
    with pytest.raises(error, match=match):
        batch_norm_backward(dy, cache)


@pytest.mark.parametrize("cache", [None, (1, 2), batch_norm_forward(X, G, B)])
def test_bad_cache(cache):
    for call in (
        lambda: batch_norm_backward(X, cache),
        lambda: update_running_statistics(B, G, cache),
    ):
        with pytest.raises(
            TypeError, match=r"cache is a \w+; expected the BatchNormCache .*second"
        ):
            call()


@pytest.mark.parametrize(
    ("momentum", "error", "match"),
    [
        (-0.1, ValueError, "momentum is -0.1; expected a number between 0 and 1"),
        (1.1, ValueError, "momentum is 1.1; expected a number between 0 and 1"),
        (np.nan, ValueError, "momentum is nan"),
        (None, TypeError, "momentum is None"),
        (False, TypeError, "momentum is False, a bool"),
    ],
)
def test_bad_momentum(momentum, error, match):
    _, cache = batch_norm_forward(X, G, B)
    with pytest.raises(error, match=match):
        update_running_statistics(B, G, cache, momentum=momentum)


@pytest.mark.parametrize(
    ("batches", "error", "match"),
    [
        ([], ValueError, "batches holds no batch; .*generator that was read once"),
        (iter(()), ValueError, "batches holds no batch"),
        (X, TypeError, r"batches is a ndarray; .*\[x\]"),
        (3, TypeError, "batches is a int; expected an iterable"),
        ([X, X[:, :2]], ValueError, r"batches\[1\] has shape \(3, 2\); expected 3 features"),
    ],
)
def test_bad_batches(batches, error, match):
    with pytest.raises(error, match=match):
        population_statistics(batches)


def test_overflow_is_refused():
    big = np.array([[-1e200], [1e200]])
    one, zero = np.ones(1), np.zeros(1)
    for x in (big, np.full((2, 1), 1.7e308), np.array([[-1.7e308], [1.7e308]])):
        with pytest.raises(
            ValueError, match=r"x is so large that sums or squares .* float64 .*\[0\]"
        ):
            batch_norm_forward(x, one, zero)
    with pytest.raises(ValueError, match=r"x is so large .*\[0\]"):
        population_statistics([big])
    x = np.array([[-1.0], [1.0]], np.float16)
    with pytest.raises(
        ValueError, match=r"y reaches 1e\+05, but float16 ends at 6.55e\+04; .*wider"
    ):
        batch_norm_forward(x, np.full(1, 1e5), zero)
    with pytest.raises(ValueError, match=r"y reaches 1e\+05, but float16"):
        batch_norm_inference(x, np.full(1, 1e5), zero, zero, one, eps=0)
    wide = np.array([[-3e38], [2e38]], np.float32)
    with pytest.raises(ValueError, match=r"var reaches .* but float32 ends"):
        population_statistics([wide / 1e10, wide / 1e10])
    _, cache = batch_norm_forward(1e3 * X[:, :1], one, zero)
    with pytest.raises(ValueError, match=r"running_var reaches .* but float16 ends"):
        update_running_statistics(zero, np.ones(1, np.float16), cache)


@pytest.mark.parametrize(("gamma", "beta"), [(3e38, 0.0), (1e300, 0.0), (0.0, 1e300), (-3e38, 0.0)])
def test_a_result_that_overflows_is_refused_whichever_step_overflowed(gamma, beta):
    x = np.array([[1.0], [2.0], [9.0]], dtype=np.float32)
    gamma, beta, one = np.array([gamma]), np.array([beta]), np.ones(1)
    with pytest.raises(ValueError, match=r"y reaches \S+, but float32 ends at 3.4e\+38"):
        batch_norm_forward(x, gamma, beta)
    with pytest.raises(ValueError, match=r"y reaches \S+, but float32 ends at 3.4e\+38"):
        batch_norm_inference(x, gamma, beta, 0 * one, 0.01 * one)


def test_a_gradient_that_overflows_is_refused():
    x = np.array([[1e-20], [2e-20], [9e-20]], dtype=np.float32)
    _, cache = batch_norm_forward(x, np.array([3e30]), np.zeros(1), eps=0)
    with pytest.raises(ValueError, match=r"dx reaches \S+, but float32 ends"):
        batch_norm_backward(np.array([[1.0], [0.0], [0.0]], dtype=np.float32), cache)


@pytest.mark.parametrize("x", [[-3e38, 3e38, 3e38], [-1e30, 1e30, 1e30], [1e-42, 2e-42, 2e-42]])
def test_numbers_near_the_limits_of_float32_are_normalized(x):
    x = np.array(x, np.float32).reshape(3, 1)
    exact = x.astype(np.float64) / np.abs(x).max()
    exact = (exact - exact.mean()) / exact.std()
    y, cache = batch_norm_forward(x, np.ones(1, np.float32), np.zeros(1, np.float32), eps=0)
    np.testing.assert_allclose(y, exact, rtol=1e-6)
    assert cache.var_B[0] == pytest.approx(np.var(x.astype(np.float64)), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_numbers_near_the_limits_of_float64_are_normalized(scale):
    x, gamma, beta, dy = make((6, 2))
    y, cache = batch_norm_forward(x, gamma, beta, eps=0)
    y_scaled, scaled = batch_norm_forward(scale * x, gamma, beta, eps=0)
    np.testing.assert_allclose(y_scaled, y, rtol=1e-10)
    dx, dgamma, _ = batch_norm_backward(dy, cache)
    dx_scaled, dgamma_scaled, _ = batch_norm_backward(dy, scaled)
    np.testing.assert_allclose(scale * dx_scaled, dx, rtol=1e-8)
    np.testing.assert_allclose(dgamma_scaled, dgamma, rtol=1e-10)


# Precision of sums


@pytest.mark.parametrize(
    "kind", ["two values", "sorted", "one outlier", "lognormal", "first apart"]
)
@pytest.mark.parametrize("shape", [(64, 3), (4096, 3), (300_000, 1), (4, 3, 30_000)])
@pytest.mark.parametrize("mean", [0, 1e6])
def test_float32_sums_are_accurate_whatever_the_values(kind, shape, mean):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    if kind == "two values":  # each square rounds alike, so that errors add up in one direction
        x = np.where(x > 0, 0.7, -0.7)
    elif kind == "sorted":
        x.sort(axis=0)
    elif kind == "one outlier":
        x[-1] = 1e3
    elif kind == "lognormal":
        x = np.exp(2 * x)
    elif kind == "first apart":
        x[: len(x) // 8] += 100
    x = (mean + x).astype(np.float32)
    zero = np.zeros(shape[1], np.float32)
    _, cache = batch_norm_forward(x, zero + 1, zero, eps=1e-12)
    wide = x.astype(np.float64)
    exact = (wide - along(wide.mean(axes(x)), x)) / np.sqrt(along(wide.var(axes(x)), x) + 1e-12)
    error = np.abs(cache.x_hat - exact).max(axes(x))
    assert (error <= 8 * FLOAT32_U * np.abs(exact).max(axes(x))).all()


def test_squares_that_vanish_in_float32_are_summed_in_float64():
    x = np.array([[1e-25], [3e-25]], np.float32)
    y, _ = batch_norm_forward(x, np.ones(1, np.float32), np.zeros(1, np.float32), eps=0)
    np.testing.assert_allclose(y, [[-1], [1]], rtol=1e-6)
    assert population_statistics([1e3 * x])[1][0] == pytest.approx(2e-44, rel=0.1)
