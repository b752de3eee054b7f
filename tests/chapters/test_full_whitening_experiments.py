"""Chapter 4's experiments: closed forms, limits that theory knows, and the stored measurement."""

import numpy as np
import pytest
from _book import book_result

from bnlab import whitening
from bnlab.chapters.full_whitening import experiments as full_whitening
from bnlab.chapters.full_whitening.results import WhiteningCost


def test_clouds_are_what_their_names_say():
    result = full_whitening.clouds(n=100, seed=1)
    raw, standardized, zca, pca = result.covariance
    assert raw[0, 1] > 0.5
    np.testing.assert_allclose(np.diag(standardized), 1)
    assert standardized[0, 1] > 0.8
    for cov in (zca, pca):
        np.testing.assert_allclose(cov, np.eye(2), atol=1e-12)
    assert np.abs(result.rows[2] - result.rows[3]).max() > 0.1


def test_jacobians_are_those_of_the_forward_passes():
    """Entry [i, k, j, l] by finite differences of the layer itself."""
    result = full_whitening.jacobians(m=5, features=2, seed=3)
    x = np.random.default_rng(3).normal(size=(5, 2))
    x = x @ (np.eye(2) + 0.5 * np.random.default_rng(4).normal(size=(2, 2)))
    for j, q in np.ndindex(5, 2):
        step = np.zeros_like(x)
        step[j, q] = 1e-6
        for which, forward in (
            (1, lambda x: (x - x.mean(axis=0)) / x.std(axis=0)),
            (2, lambda x: whitening.whitening_forward(x, eps=0)[0]),
        ):
            numeric = (forward(x + step) - forward(x - step)) / 2e-6
            np.testing.assert_allclose(result.jacobians[which][:, :, j, q], numeric, atol=1e-6)
    np.testing.assert_array_equal(result.ranks, [10, 10 - 4, 10 - 2 - 3])
    i, k, j, q = np.nonzero(result.jacobians[0])
    assert (i == j).all()
    assert (k == q).all()


def test_crossing_eigenvalues_make_only_pca_jump():
    result = full_whitening.eigenvalue_crossing(seed=2)
    assert np.abs(np.diff(result.zca, axis=0)).max() < 1e-12
    jumps = np.abs(np.diff(result.pca, axis=0)).max(axis=1) > 0.01
    assert np.flatnonzero(jumps).size == 1
    assert abs(result.ratio[np.flatnonzero(jumps)[0]] - 1) < 0.02


class TestEigenvalueGap:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        return full_whitening.eigenvalue_gap(gaps=(1.0, 1e-3, 1e-6, 0.0), seeds=(0, 1, 2))

    def test_closed_form_stays_at_rounding(self, result):
        assert result.closed_error[0].max() < 1e-6
        assert result.closed_error[1].max() < 1e-13

    def test_eigh_loses_digits_with_the_gap_and_ends_in_nan(self, result):
        median = np.median(result.eigh_error, axis=1)
        assert (median[:, 2] > 100 * median[:, 0]).all()
        assert np.isnan(result.eigh_error[..., -1]).all()

    def test_the_exact_gradient_is_one(self):
        x = np.random.default_rng(0).normal(size=(8, 3))
        dz = np.random.default_rng(1).normal(size=(8, 3))
        _, cache = whitening.whitening_forward(x, eps=0)
        np.testing.assert_allclose(
            full_whitening._gradient_by_sylvester(x, dz),
            whitening.whitening_backward(dz, cache),
            atol=1e-10,
        )


class Counting(np.ndarray):
    """An array that counts the multiplications of every product of matrices it takes part in."""

    total = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        plain = [np.asarray(i) if isinstance(i, np.ndarray) else i for i in inputs]
        if "out" in kwargs:
            kwargs["out"] = tuple(np.asarray(o) for o in kwargs["out"])
        if ufunc is np.matmul:
            a, b = plain
            Counting.total += a.shape[0] * a.shape[1] * (b.shape[1] if b.ndim == 2 else 1)
        out = getattr(ufunc, method)(*plain, **kwargs)
        return out.view(Counting) if isinstance(out, np.ndarray) else out


@pytest.mark.parametrize(("n", "d"), [(30, 4), (50, 7)])
def test_multiplications_are_those_of_the_code(n, d):
    x, dz = (np.random.default_rng(s).normal(size=(n, d)).view(Counting) for s in (0, 1))
    _, cache = whitening.whitening_forward(x)
    cache = cache._replace(eigenvectors=np.asarray(cache.eigenvectors).view(Counting))
    Counting.total = 0
    whitening.whitening_backward(dz, cache)
    backward = Counting.total  # A, B z and dx; four products that turn, and W once more
    assert backward == 3 * n * d**2 + 5 * d**3
    forward = 2 * n * d**2  # Sigma and z; W is made there or here
    assert full_whitening.multiplications(n, d) == {
        "each feature": 5 * n * d,
        "full whitening": forward + backward,
    }


class TestCost:
    @pytest.fixture(scope="class")
    @classmethod
    def tiny(cls):
        return full_whitening.measure_cost(repeats=2, sweeps={"rows": ((8, 2), (16, 2), (32, 2))})

    def test_every_point_is_timed(self, tiny):
        assert tiny.full.shape == tiny.per_feature.shape == (2, 3)
        assert (tiny.full > 0).all()
        assert tiny.sweeps == ("rows",) * 3
        np.testing.assert_array_equal(tiny.rows, [8, 16, 32])

    def test_exponents_are_found(self):
        d = np.array([4, 8, 16, 32])
        seconds = np.array([[1.0], [2.0], [5.0]]) * d**2.5
        cost = WhiteningCost(d, 7 * d, seconds, 3 * seconds**0.5, ("both",) * 4)
        for of, p in (("full", 2.5), ("per_feature", 1.25)):
            fit = cost.exponent(sweep="both", of=of)
            np.testing.assert_allclose([fit.mean, fit.low, fit.high], p)

    def test_only_the_largest_points_count(self):
        d = np.array([1, 2, 4, 8, 16])
        seconds = np.tile([99.0, 99.0, 4.0, 8.0, 16.0], (2, 1))
        cost = WhiteningCost(np.full(5, 3), d, seconds, seconds, ("rows",) * 5)
        assert float(cost.exponent(sweep="rows", of="full").mean) == (pytest.approx(1))

    def test_the_stored_measurement_is_of_todays_sweeps(self):
        cost, origin = book_result("full_whitening_cost")
        points = [(n, d) for sweep in full_whitening.SWEEPS.values() for n, d in sweep]
        np.testing.assert_array_equal(np.array([cost.rows, cost.features]).T, points)
        assert len(cost.full) == origin.config["repeats"] >= 9

    def test_the_stored_measurement_says_what_the_chapter_says(self):
        cost, _ = book_result("full_whitening_cost")
        ratio = np.median(cost.full / cost.per_feature, axis=0)
        assert (ratio > 1).all(), "full whitening is slower at every size"
        assert (ratio < cost.features).all(), "but by less than the factor d"
        for sweep in ("features", "both"):
            full, each = (cost.exponent(sweep=sweep, of=of) for of in ("full", "per_feature"))
            assert full.low > each.high, "it grows faster with d"


class TestNaive:
    def test_the_bias_runs_away_at_the_predicted_pace_and_the_loss_stands_still(self):
        run = full_whitening.naive_whitening(trains="bias", steps=50, seeds=(0, 1))
        expected = run.predicted_bias[:, None] * np.arange(51)
        np.testing.assert_allclose(run.bias, expected, rtol=1e-9, atol=1e-12)
        assert np.ptp(run.loss, axis=1).max() < 1e-12

    def test_the_eigenvalues_run_away_at_the_predicted_pace(self):
        run = full_whitening.naive_whitening(trains="weights", steps=400, seeds=(0, 1))
        slope = (run.variances[:, -1] - run.variances[:, 200]) / 200
        np.testing.assert_allclose(slope, run.predicted_variances, rtol=0.01)
        np.testing.assert_allclose(run.loss[:, -1], run.best_loss, atol=1e-3)

    @pytest.mark.parametrize("trains", ["bias", "weights"])
    def test_the_right_gradient_does_not_run(self, trains):
        run = full_whitening.naive_whitening(
            trains=trains, through_statistics=True, steps=200, seeds=(0, 1)
        )
        assert run.bias.max() < 1e-12
        assert np.abs(run.variances[:, -1] - run.variances[:, 0]).max() < 0.1
        np.testing.assert_allclose(run.loss[:, -1], run.best_loss, atol=0.01)

    def test_no_rotation_does_better_than_the_best_loss(self):
        run = full_whitening.naive_whitening(trains="weights", steps=100, seeds=(0, 1, 2))
        assert (run.loss >= run.best_loss[:, None] - 1e-9).all()

    def test_what_is_trained_is_checked(self):
        with pytest.raises(ValueError, match='"bias" or "weights"'):
            full_whitening.naive_whitening(trains="both")


class TestBatchNeed:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        return full_whitening.batch_need(features=32, sizes=(64, 512), seeds=tuple(range(5)))

    def test_meets_theory(self, result):
        for measured, theory in (
            (result.full_error, result.full_theory),
            (result.per_feature_error, result.per_feature_theory),
        ):
            np.testing.assert_allclose(measured.mean(axis=0), theory, rtol=0.1)

    def test_spectrum_reaches_the_edges(self, result):
        np.testing.assert_allclose(result.lowest.mean(axis=0), result.edges[0], atol=0.05)
        np.testing.assert_allclose(result.highest.mean(axis=0), result.edges[1], atol=0.25)

    def test_error_is_that_of_new_rows(self, result):
        x = np.random.default_rng(0).normal(size=(64, 32))
        _, cache = whitening.whitening_forward(x, eps=0)
        fresh = np.random.default_rng(1).normal(size=(20_000, 32))
        z = whitening.whitening_inference(fresh, cache.mean, cache.covariance, eps=0)
        measured = np.sqrt(np.mean((z - fresh) ** 2))
        assert measured == pytest.approx(result.full_error[0, 0], rel=0.02)


@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.9])
def test_marchenko_pastur_has_its_known_moments(ratio):
    average = full_whitening.marchenko_pastur
    assert average(ratio) == pytest.approx(1, rel=1e-6)
    assert average(ratio, lambda t: t) == pytest.approx(1, rel=1e-6)
    assert average(ratio, lambda t: t**2) == pytest.approx(1 + ratio, rel=1e-6)
    assert average(ratio, lambda t: 1 / t) == pytest.approx(1 / (1 - ratio), rel=1e-6)


@pytest.mark.parametrize("ratio", [0, 1, 1.5])
def test_marchenko_pastur_needs_more_rows_than_features(ratio):
    with pytest.raises(ValueError, match="fewer features than rows"):
        full_whitening.marchenko_pastur(ratio)


def test_spectrum_density_is_one():
    result = full_whitening.spectrum(features=20, size=50, seeds=(0, 1))
    assert np.trapezoid(result.density, result.grid) == pytest.approx(1, abs=0.02)
    assert result.eigenvalues.shape == (2, 20)
    assert result.eigenvalues.mean() == pytest.approx(1, abs=0.1)


def test_activation_correlation_is_that_of_the_layer():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 3)) * [1.0, 10.0, 0.1]
    correlation, after, before, directions, variance = full_whitening._shared(x)
    assert correlation < 0.05
    assert after < 1.2
    assert before == pytest.approx(1e4, rel=0.2)
    assert directions == 3
    assert variance == pytest.approx(1, abs=1e-2)
    x[:, 1] = x[:, 0] + 1e-3 * x[:, 1]
    correlation, after, _, directions, _ = full_whitening._shared(x)
    assert correlation == pytest.approx(np.sqrt(1 / 3), abs=0.02)
    assert after > 1e3
    assert directions == 2


def test_training_leaves_correlations():
    result = full_whitening.activation_correlation(stages=(0, 20), width=12, seeds=(0,))
    assert result.correlation.shape == (1, 2, 2)
    assert (result.correlation > 0.1).all()
    np.testing.assert_allclose(result.variance, 1, atol=0.01)
