"""Full whitening: what it promises, its gradient by four other ways, and its errors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnlab import reference, scaling, whitening
from bnlab.gradcheck import check_gradient, directional_error
from bnlab.whitening import (
    population_covariance,
    whitening_backward,
    whitening_forward,
    whitening_inference,
)


def batch(m=40, features=4, seed=0, spread=3.0):
    """Correlated features of different means and units."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(features, features)) + np.eye(features)
    return rng.normal(size=(m, features)) @ mix * spread + rng.normal(size=features) * 10


def repeated(eigenvalues, copies=1):
    """Rows whose covariance is exactly diagonal, with these eigenvalues: plus and minus each axis."""
    axes = np.diag(np.sqrt(len(eigenvalues) * np.array(eigenvalues, dtype=float)))
    return np.tile(np.concatenate([axes, -axes]), (copies, 1))


CASES = {
    "generic": batch(),
    "two equal eigenvalues": repeated([4, 4, 1]),
    "all equal": repeated([1, 1, 1, 1]),
    "mild": repeated([3, 2, 1]) @ np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]]),
    "nearly equal": repeated([1, 1 + 1e-13, 1 - 1e-13, 9]),
    "one feature": batch(features=1),
    "smallest batch": batch(m=5, features=4, seed=3),
    "uneven units": batch(seed=2) * np.array([1, 0.1, 1, 10]),
}


def covariance(x):
    c = x - x.mean(axis=0)
    return c.T @ c / len(x)


def sylvester(x, dz, eps=0.0):
    """The gradient without eigenvectors: S dS + dS S = dSigma, solved as one linear system."""
    m, n = x.shape
    c = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(covariance(x) + eps * np.eye(n))
    root = (vectors * np.sqrt(values)) @ vectors.T
    w = np.linalg.inv(root)
    d_root = -w @ (c.T @ dz) @ w  # of W = S^-1: dW = -W dS W
    system = np.kron(root, np.eye(n)) + np.kron(np.eye(n), root)
    d_sigma = np.linalg.solve(system, d_root.ravel()).reshape(n, n)
    dc = dz @ w + c @ (d_sigma + d_sigma.T) / m
    return dc - dc.mean(axis=0)


def by_torch(x, dz, eps=0.0):
    """The gradient by torch's autograd through torch.linalg.eigh."""
    t = torch.tensor(x, requires_grad=True)
    c = t - t.mean(dim=0)
    sigma = c.T @ c / len(x) + eps * torch.eye(x.shape[1], dtype=t.dtype)
    values, v = torch.linalg.eigh(sigma)
    z = c @ (v * values.rsqrt()) @ v.T
    z.backward(torch.tensor(dz))
    return z.detach().numpy(), t.grad.numpy()


def by_newton(x, dz, iterations=20):
    """The gradient by autograd through Newton-Schulz iterations: products only, no eigenvectors."""
    t = torch.tensor(x, requires_grad=True)
    c = t - t.mean(dim=0)
    sigma = c.T @ c / len(x)
    trace, p = sigma.trace(), torch.eye(x.shape[1], dtype=t.dtype)
    for _ in range(iterations):
        p = 1.5 * p - 0.5 * p @ p @ p @ (sigma / trace)
    (c @ p / trace.sqrt()).backward(torch.tensor(dz))
    return t.grad.numpy()


class TestForward:
    @pytest.mark.parametrize("name", CASES)
    def test_whitens(self, name):
        x = CASES[name]
        z, _ = whitening_forward(x, eps=0)
        np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(z.T @ z / len(x), np.eye(x.shape[1]), atol=1e-9)

    def test_is_the_fitted_zca_of_scaling(self):
        np.testing.assert_allclose(
            whitening_forward(batch(), eps=0.1)[0], scaling.whiten(batch(), eps=0.1).values
        )

    @pytest.mark.parametrize("eps", [1e-5, 0.5])
    def test_eps_shrinks_the_covariance_by_the_formula(self, eps):
        x = batch()
        z, cache = whitening_forward(x, eps=eps)
        sigma = covariance(x) + eps * np.eye(4)
        expected = np.eye(4) - eps * np.linalg.inv(sigma)
        np.testing.assert_allclose(z.T @ z / len(x), expected, atol=1e-12)
        np.testing.assert_allclose(cache.matrix @ sigma @ cache.matrix, np.eye(4), atol=1e-10)
        np.testing.assert_allclose(cache.covariance, covariance(x))
        np.testing.assert_allclose(z, (x - x.mean(axis=0)) @ cache.matrix)

    def test_fewer_rows_than_features_work_with_eps(self):
        x = batch(m=3, features=5)
        z, _ = whitening_forward(x, eps=1e-3)
        assert np.linalg.matrix_rank(z, tol=1e-6) == 2

    def test_of_one_feature_is_batch_norm(self):
        x, one, zero = batch(features=1), np.ones(1), np.zeros(1)
        np.testing.assert_allclose(
            whitening_forward(x)[0], reference.batch_norm_forward(x, one, zero)[0], rtol=1e-12
        )

    def test_of_uncorrelated_features_is_batch_norm(self):
        x = repeated([9, 4, 1])
        y, _ = reference.batch_norm_forward(x, np.ones(3), np.zeros(3))
        np.testing.assert_allclose(whitening_forward(x)[0], y, atol=1e-12)

    def test_a_batch_of_one_more_than_features_becomes_a_regular_simplex(self):
        z, _ = whitening_forward(batch(m=5, features=4), eps=0)
        gram = z @ z.T
        np.testing.assert_allclose(gram, 5 * np.eye(5) - 1, atol=1e-9)

    def test_rows_are_at_most_the_root_of_m_minus_one_long(self):
        x = np.zeros((12, 3))
        x[:3], x[3:6] = np.eye(3), -np.eye(3)
        x[-1] = 1e4  # further out, rounding decides which side of the bound the row is on
        lengths = np.linalg.norm(whitening_forward(x, eps=0)[0], axis=1)
        assert lengths.max() <= np.sqrt(11) * (1 + 1e-12)
        assert lengths.max() == pytest.approx(np.sqrt(11), rel=1e-3)

    def test_spatial_positions_are_more_rows(self):
        x = np.random.default_rng(0).normal(size=(6, 3, 4, 5)).cumsum(axis=1)
        z, cache = whitening_forward(x)
        rows, _ = whitening_forward(x.transpose(0, 2, 3, 1).reshape(-1, 3))
        np.testing.assert_array_equal(z, rows.reshape(6, 4, 5, 3).transpose(0, 3, 1, 2))
        dz = np.random.default_rng(1).normal(size=x.shape)
        assert whitening_backward(dz, cache).shape == x.shape
        check_gradient(
            lambda x: whitening_forward(x)[0],
            lambda dz, x: (whitening_backward(dz, whitening_forward(x)[1]),),
            x,
        )

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_keeps_dtype_and_leaves_the_input_alone(self, dtype):
        x = batch().astype(dtype)
        before = x.copy()
        z, cache = whitening_forward(x)
        dx = whitening_backward(np.ones_like(z), cache)
        assert z.dtype == dx.dtype == dtype
        np.testing.assert_array_equal(x, before)

    def test_a_large_mean_costs_only_the_digits_that_the_input_lost(self):
        x = batch(spread=1.0)
        shifted = x + 2.0**30
        z, _ = whitening_forward(shifted - 2.0**30, eps=0)
        np.testing.assert_allclose(whitening_forward(shifted, eps=0)[0], z, atol=1e-12)

    def test_an_ill_conditioned_covariance_keeps_its_digits(self):
        x = batch(m=200) * np.array([1, 1e-4, 1e-6, 1e3])
        z, _ = whitening_forward(x, eps=0)
        np.testing.assert_allclose(z.T @ z / 200, np.eye(4), atol=1e-7)
        with np.errstate(all="ignore"):
            values, v = np.linalg.eigh(covariance(x))
            textbook = (x - x.mean(axis=0)) @ (v / np.sqrt(np.abs(values))) @ v.T
        assert np.abs(textbook.T @ textbook / 200 - np.eye(4)).max() > 1e-6

    def test_units_do_not_decide_what_is_singular(self):
        """In float32 a ratio of scales of 1e-5 is far above what rounding explains."""
        x = (batch(m=200) * np.array([1, 1, 1, 1e-6])).astype(np.float32)
        z, _ = whitening_forward(x, eps=0)
        np.testing.assert_allclose(z.T @ z / 200, np.eye(4), atol=1e-4)

    def test_the_mean_is_exact_far_from_zero(self):
        """One sum of so many large numbers is off by more than the last digit of their mean."""
        x = np.tile([[0.0, 1.0], [0.1, 5.0], [0.2, 3.0]], (50_000, 1)) + 1e9
        exact = 1e9 + np.mean(x - 1e9, axis=0)
        assert np.abs(whitening_forward(x)[1].mean - exact).max() <= np.spacing(1e9)


class TestBackward:
    @pytest.mark.parametrize("eps", [0.0, 1e-5, 1.0])
    @pytest.mark.parametrize("name", CASES)
    def test_passes_the_gradient_check(self, name, eps):
        check_gradient(
            lambda x: whitening_forward(x, eps=eps)[0],
            lambda dz, x: (whitening_backward(dz, whitening_forward(x, eps=eps)[1]),),
            CASES[name],
            names=["x"],
            tolerance=1e-5,  # of finite differences, at features of uneven units
        )

    @pytest.mark.parametrize("eps", [0.0, 1e-5, 1.0])
    @pytest.mark.parametrize("name", CASES)
    def test_agrees_with_a_derivation_without_eigenvectors(self, name, eps):
        x = CASES[name]
        dz = np.random.default_rng(7).normal(size=x.shape)
        dx = whitening_backward(dz, whitening_forward(x, eps=eps)[1])
        np.testing.assert_allclose(dx, sylvester(x, dz, eps), rtol=1e-6, atol=1e-6 * abs(dx).max())

    @pytest.mark.parametrize("eps", [0.0, 1.0])
    def test_agrees_with_torch_through_eigh(self, eps):
        x = batch()
        dz = np.random.default_rng(7).normal(size=x.shape)
        z, cache = whitening_forward(x, eps=eps)
        expected_z, expected_dx = by_torch(x, dz, eps)
        np.testing.assert_allclose(z, expected_z, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(
            whitening_backward(dz, cache), expected_dx, rtol=1e-8, atol=1e-11
        )

    @pytest.mark.parametrize("name", ["two equal eigenvalues", "all equal", "mild"])
    def test_agrees_with_torch_through_newton_iterations(self, name):
        x = CASES[name]
        dz = np.random.default_rng(7).normal(size=x.shape)
        dx = whitening_backward(dz, whitening_forward(x, eps=0)[1])
        np.testing.assert_allclose(dx, by_newton(x, dz), rtol=1e-6, atol=1e-8)

    def test_torch_through_eigh_breaks_where_eigenvalues_are_equal(self):
        x = repeated([1, 1, 1])
        dz = np.random.default_rng(7).normal(size=x.shape)
        assert not np.isfinite(by_torch(x, dz)[1]).all()
        assert np.isfinite(whitening_backward(dz, whitening_forward(x, eps=0)[1])).all()

    @pytest.mark.parametrize("eps", [0.0, 0.3])
    def test_of_one_feature_is_batch_norms(self, eps):
        x, one, zero = batch(features=1), np.ones(1), np.zeros(1)
        dz = np.random.default_rng(7).normal(size=x.shape)
        _, cache = reference.batch_norm_forward(x, one, zero, eps=eps)
        expected = reference.batch_norm_backward(dz, cache)[0]
        dx = whitening_backward(dz, whitening_forward(x, eps=eps)[1])
        np.testing.assert_allclose(dx, expected, rtol=1e-9, atol=1e-14)

    def test_refuses_every_push_that_cannot_move_the_output(self):
        """No shift of x and no x -> x Sigma^(-1/2) T, T symmetric positive, changes z."""
        x = batch()
        z, cache = whitening_forward(x, eps=0)
        t = covariance(batch(seed=5))
        moved = (x - x.mean(axis=0)) @ cache.matrix @ t + 7.0
        np.testing.assert_allclose(whitening_forward(moved, eps=0)[0], z, atol=1e-9)
        dx = whitening_backward(np.random.default_rng(7).normal(size=x.shape), cache)
        np.testing.assert_allclose(dx.sum(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(z.T @ dx, -(dx.T @ z), atol=1e-12)
        assert abs(z.T @ dx).max() > 0.1
        np.testing.assert_allclose(cache.mean, x.mean(axis=0))

    def test_the_jacobian_has_the_rank_that_is_left(self):
        x = batch(m=7, features=3)
        _, cache = whitening_forward(x, eps=0)
        rows = [whitening_backward(e.reshape(x.shape), cache).ravel() for e in np.eye(x.size)]
        assert np.linalg.matrix_rank(np.array(rows), tol=1e-10) == 21 - 3 - 3 * 4 // 2

    def test_a_batch_of_one_more_than_features_can_only_be_turned(self):
        x = batch(m=4, features=3)
        _, cache = whitening_forward(x, eps=0)
        rows = [whitening_backward(e.reshape(x.shape), cache).ravel() for e in np.eye(12)]
        assert np.linalg.matrix_rank(np.array(rows), tol=1e-10) == 3  # the rotations of space

    def test_is_linear_in_the_incoming_gradient(self):
        x = batch()
        _, cache = whitening_forward(x)
        a, b = np.random.default_rng(7).normal(size=(2, *x.shape))
        together = whitening_backward(2 * a - b, cache)
        apart = 2 * whitening_backward(a, cache) - whitening_backward(b, cache)
        np.testing.assert_allclose(together, apart, atol=1e-12)


def wrong_backward(kind):
    """Return a backward pass with one mistake of those that people make."""

    def backward(dz, x):
        _, cache = whitening_forward(x, eps=0)
        v, s = cache.eigenvectors, np.sqrt(cache.variances)
        g = dz @ v if kind == "the mean held constant" else (dz - dz.mean(axis=0)) @ v
        z = cache.rows @ v
        a = z.T @ g / len(g)
        b = {
            "the covariance held constant": 0 * a,
            "the variances alone": np.diag(np.diag(a)),
            "no symmetric part": a,
            "equal eigenvalues assumed": (a + a.T) / 2,
            "weights swapped": (s * a + (s * a).T) / (s[:, None] + s),
            "half": (s[:, None] * a + (s[:, None] * a).T) / (s[:, None] + s) / 2,
        }.get(kind, (s[:, None] * a + (s[:, None] * a).T) / (s[:, None] + s))
        if kind == "not turned back":
            return ((g - z @ b) / s,)
        return ((g - z @ b) / s @ v.T,)

    return backward


WRONG = [
    "the mean held constant",
    "the covariance held constant",
    "the variances alone",
    "no symmetric part",
    "equal eigenvalues assumed",
    "weights swapped",
    "half",
    "not turned back",
]


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_backward_passes_fail_the_check(kind):
    (error,) = directional_error(
        lambda x: whitening_forward(x, eps=0)[0], wrong_backward(kind), batch()
    )
    assert error > 1e-3


def test_the_mistakes_are_not_in_the_harness():
    (error,) = directional_error(
        lambda x: whitening_forward(x, eps=0)[0], wrong_backward("none"), batch()
    )
    assert error < 1e-7


class TestProperties:
    @given(st.integers(1, 6), st.integers(0, 30), st.integers(0, 10_000), st.floats(1e-3, 1e3))
    def test_whitens_whatever_comes(self, features, extra, seed, scale):
        x = scale * batch(m=features + 2 + extra, features=features, seed=seed)
        z, cache = whitening_forward(x, eps=0)
        np.testing.assert_allclose(z.T @ z / len(x), np.eye(features), atol=1e-7)
        dz = np.random.default_rng(seed).normal(size=x.shape)
        dx = whitening_backward(dz, cache)
        size = np.abs(dx).max() * len(x) + 1e-300
        assert np.abs(dx.sum(axis=0)).max() / size < 1e-9
        assert np.abs(z.T @ dx + dx.T @ z).max() / size < 1e-7

    @given(st.integers(0, 10_000), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
    def test_neither_a_shift_nor_a_common_scale_moves_the_output(self, seed, shift, scale):
        x = batch(seed=seed)
        z, _ = whitening_forward(x, eps=0)
        np.testing.assert_allclose(whitening_forward(scale * x + shift, eps=0)[0], z, atol=1e-6)

    @given(st.integers(0, 10_000))
    def test_a_rotation_of_the_input_rotates_the_output(self, seed):
        q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
        x = batch(seed=seed)
        z, _ = whitening_forward(x, eps=0)
        np.testing.assert_allclose(whitening_forward(x @ q, eps=0)[0], z @ q, atol=1e-7)

    @given(st.permutations(range(4)), st.integers(0, 100))
    def test_the_order_of_features_and_rows_does_not_matter(self, order, seed):
        x = batch(m=20, seed=seed)
        rows = np.random.default_rng(seed).permutation(20)
        z, _ = whitening_forward(x)
        np.testing.assert_allclose(
            whitening_forward(x[rows][:, order])[0], z[rows][:, order], atol=1e-9
        )


class TestInference:
    def test_with_the_statistics_of_the_batch_equals_training(self):
        x = batch()
        z, cache = whitening_forward(x, eps=0.1)
        got = whitening_inference(x, cache.mean, cache.covariance, eps=0.1)
        np.testing.assert_allclose(got, z, atol=1e-10)

    def test_each_output_depends_on_its_own_input_alone(self):
        x = batch()
        mean, cov = population_covariance([x])
        together = whitening_inference(x, mean, cov)
        alone = whitening_inference(x[3:4], mean, cov)
        np.testing.assert_allclose(alone, together[3:4], atol=1e-12)

    def test_one_feature_is_batch_norms(self):
        x, mean, var = batch(features=1), np.array([2.0]), np.array([5.0])
        expected = reference.batch_norm_inference(x, np.ones(1), np.zeros(1), mean, var)
        np.testing.assert_allclose(whitening_inference(x, mean, var[:, None]), expected)

    def test_population_covariance_is_algorithm_two(self):
        batches = [batch(m=8, seed=s) for s in range(5)]
        mean, cov = population_covariance(iter(batches))
        np.testing.assert_allclose(mean, np.mean([b.mean(axis=0) for b in batches], axis=0))
        np.testing.assert_allclose(cov, 8 / 7 * np.mean([covariance(b) for b in batches], axis=0))
        expected = reference.population_statistics(batches)
        np.testing.assert_allclose((mean, np.diag(cov)), expected)

    def test_population_covariance_of_uneven_batches(self):
        batches = [batch(m=m, seed=m) for m in (3, 20, 7)]
        mean, cov = population_covariance(batches)
        np.testing.assert_allclose(mean, np.concatenate(batches).mean(axis=0))
        pooled = sum(len(b) * covariance(b) for b in batches) / 27
        np.testing.assert_allclose(cov, pooled)
        np.testing.assert_allclose(np.diag(cov), reference.population_statistics(batches)[1])

    def test_population_covariance_of_images(self):
        x = np.random.default_rng(0).normal(size=(6, 3, 4, 5))
        rows = x.transpose(0, 2, 3, 1).reshape(-1, 3)
        np.testing.assert_allclose(population_covariance([x])[1], np.cov(rows.T))


def singular():
    x = batch()
    x[:, 2] = x[:, 0] + x[:, 1]
    return x


def constant():
    x = batch()
    x[:, 1] = 0.1
    return x


NAN = np.where(np.arange(160).reshape(40, 4) == 5, np.nan, batch())


class TestErrors:
    @pytest.mark.parametrize(
        ("x", "eps", "error", "says"),
        [
            ([[1.0, 2.0]], 0.1, TypeError, "expected a NumPy array"),
            (np.ones((3, 2), dtype=int), 0.1, TypeError, "floating dtype"),
            (np.ones(3), 0.1, ValueError, r"expected \(N, C\)"),
            (np.ones((0, 2)), 0.1, ValueError, "holds no values"),
            (np.ones((1, 2)), 0.1, ValueError, "at least 2"),
            (NAN, 0.1, ValueError, "NaN or Inf"),
            (batch(), -1.0, ValueError, "eps is -1.0"),
            (batch(), np.nan, ValueError, "eps is nan"),
            (batch(), "small", TypeError, "eps is 'small'"),
            (batch(m=4, features=4), 0, ValueError, "4 values per feature, for 4 features"),
            (singular(), 0, ValueError, "determine others"),
            (singular().astype(np.float32), 0, ValueError, "determine others"),
            (constant(), 0, ValueError, r"feature\(s\) \[1\] are constant"),
            (batch() * np.array([1, 1, 1, 1e-30]), 0, ValueError, "differ in scale"),
            (batch() * 1e200, 0.1, ValueError, "squares overflow"),
            (np.full((2, 1), 1.5e308) * [[1], [-1]], 0.1, ValueError, "overflow"),
        ],
    )
    def test_forward(self, x, eps, error, says):
        with pytest.raises(error, match=says):
            whitening_forward(x, eps=eps)

    def test_a_singular_covariance_is_fine_with_eps(self):
        for x in (singular(), constant(), batch(m=4, features=4)):
            z, cache = whitening_forward(x)
            assert np.isfinite(z).all()
            assert np.isfinite(whitening_backward(z, cache)).all()

    @pytest.mark.parametrize(
        ("dz", "error", "says"),
        [
            ([1.0], TypeError, "expected a NumPy array"),
            (np.ones((40, 4), dtype=int), TypeError, "floating dtype"),
            (np.ones((40, 3)), ValueError, r"expected \(40, 4\)"),
            (np.ones((160, 1)), ValueError, r"expected \(40, 4\)"),
            (NAN, ValueError, "NaN or Inf"),
        ],
    )
    def test_backward(self, dz, error, says):
        _, cache = whitening_forward(batch())
        with pytest.raises(error, match=says):
            whitening_backward(dz, cache)

    def test_backward_without_its_cache(self):
        with pytest.raises(TypeError, match="z, cache = whitening_forward"):
            whitening_backward(batch(), None)

    def test_backward_never_rounds_to_inf(self):
        x = batch().astype(np.float16) * np.float16(1e-3)
        _, cache = whitening_forward(x, eps=0)
        dz = np.full(x.shape, 6e4, dtype=np.float16) * np.sign(batch(seed=9)).astype(np.float16)
        with pytest.raises(ValueError, match=r"dx reaches .* but float16 ends"):
            whitening_backward(dz, cache)

    @pytest.mark.parametrize(
        ("change", "error", "says"),
        [
            ({"x": np.ones(4)}, ValueError, r"expected \(N, C\)"),
            ({"x": NAN}, ValueError, "NaN or Inf"),
            ({"mean": np.zeros(3)}, ValueError, "one value per feature"),
            ({"mean": np.full(4, np.inf)}, ValueError, "mean contains"),
            ({"covariance": np.ones(4)}, ValueError, r"np.diag\(var\)"),
            ({"covariance": np.eye(3)}, ValueError, r"expected \(4, 4\)"),
            ({"covariance": np.eye(4, dtype=int)}, TypeError, "floating dtype"),
            ({"covariance": np.full((4, 4), np.nan)}, ValueError, "covariance contains"),
            ({"covariance": np.triu(np.ones((4, 4)))}, ValueError, "not symmetric"),
            ({"covariance": np.diag([1.0, 1, 1, -1])}, ValueError, "eigenvalue -1"),
            ({"covariance": np.ones((4, 4)), "eps": 0}, ValueError, "singular and eps=0"),
            ({"eps": -1}, ValueError, "eps is -1"),
        ],
    )
    def test_inference(self, change, error, says):
        arguments = {"x": batch(), "mean": np.zeros(4), "covariance": np.eye(4)} | change
        with pytest.raises(error, match=says):
            whitening_inference(**arguments)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_inference_of_a_singular_covariance_is_fine_with_eps(self, dtype):
        """Rounding leaves eigenvalues a little below 0, which eps may be smaller than."""
        c = covariance(singular()).astype(dtype)
        z = whitening_inference(batch(), np.zeros(4), c, eps=1e-30)
        assert np.isfinite(z).all()
        with pytest.raises(ValueError, match="singular and eps=0"):
            whitening_inference(batch(), np.zeros(4), c, eps=0)

    @pytest.mark.parametrize(
        ("batches", "error", "says"),
        [
            (batch(), TypeError, r"\[x\]"),
            (3, TypeError, "iterable"),
            ([], ValueError, "no batch"),
            (
                [batch(), batch(features=3)],
                ValueError,
                r"batches\[1\] has shape .* expected \d features",
            ),
            ([batch(), NAN], ValueError, r"batches\[1\] contains"),
            ([np.ones((1, 2))], ValueError, r"batches\[0\] has shape .* one value"),
            ([[[1.0, 2.0]]], TypeError, r"batches\[0\]"),
        ],
    )
    def test_population_covariance(self, batches, error, says):
        with pytest.raises(error, match=says):
            population_covariance(batches)


def test_public_names():
    assert set(whitening.__all__) <= set(dir(whitening))
