"""Sampling distributions and running averages agree with their closed forms, which fail if altered."""

import numpy as np
import pytest
import torch
from scipy import stats

from bnlab import data, reference
from bnlab.chapters.inference_statistics import sampling
from bnlab.stats import t_interval


def inside(interval, value, widen=2.0):
    """Whether value lies within the interval, widened because many are checked at once."""
    half = widen * (interval.high - interval.mean)
    return np.abs(interval.mean - value) <= half


class TestBatchMoments:
    @pytest.mark.parametrize("source", sampling.KURTOSIS)
    def test_population_has_mean_0_variance_1_and_the_stated_kurtosis(self, source):
        x = sampling._sample(np.random.default_rng(0), source, (400_000,))
        assert abs(x.mean()) < 0.01
        assert x.var() == pytest.approx(1, abs=0.02)
        assert stats.kurtosis(x) == pytest.approx(sampling.KURTOSIS[source], abs=0.4)

    @pytest.mark.parametrize("source", sampling.KURTOSIS)
    def test_moments_are_those_of_theory(self, source):
        result = sampling.batch_moments(source=source)
        m = result.batch_sizes
        assert inside(t_interval(result.mean), 0).all()
        assert inside(t_interval(result.biased), (m - 1) / m).all()
        assert inside(t_interval(result.biased * m / (m - 1)), 1).all()
        np.testing.assert_allclose(result.mean.var(axis=0) * m, 1, rtol=0.05)
        unbiased = (result.biased * m / (m - 1)).var(axis=0)
        np.testing.assert_allclose(
            unbiased, sampling.variance_of_variance(m, result.kurtosis), rtol=0.1
        )

    def test_the_divisor_m_would_be_noticed(self):
        result = sampling.batch_moments()
        assert not inside(t_interval(result.biased), 1).any()

    def test_root_ratio_is_scipys_mean_of_chi(self):
        m = np.array([2, 3, 5, 10, 30, 100])
        expected = [stats.chi.mean(k - 1) / np.sqrt(k - 1) for k in m]
        np.testing.assert_allclose(sampling.root_ratio(m), expected, rtol=1e-12)

    def test_the_root_is_biased_by_c4_for_the_bell_and_more_for_the_skewed(self):
        bell, skewed = (sampling.batch_moments(source=s) for s in ("bell", "skewed"))
        m = bell.batch_sizes
        roots = [np.sqrt(r.biased * m / (m - 1)) for r in (bell, skewed)]
        assert inside(t_interval(roots[0]), sampling.root_ratio(m)).all()
        assert (roots[1].mean(axis=0) < roots[0].mean(axis=0)).all()

    def test_seeds(self):
        one, same, other = (sampling.batch_moments(draws=10, seed=s) for s in (0, 0, 1))
        assert np.array_equal(one.mean, same.mean)
        assert not np.array_equal(one.mean, other.mean)

    @pytest.mark.parametrize(
        ("change", "message"),
        [({"source": "cauchy"}, "source is 'cauchy'"), ({"batch_sizes": (1, 4)}, "at least 2")],
    )
    def test_bad_input(self, change, message):
        with pytest.raises(ValueError, match=message):
            sampling.batch_moments(**change)


class TestPixelDependence:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        return sampling.pixel_dependence()

    def test_is_what_algorithm_2_would_compute(self):
        """A few draws by the reference, on the images themselves."""
        digits = data.mnist_5k().x.reshape(-1, 1, 28, 28).astype(float)
        small = sampling.pixel_dependence(pools=(1,), draws=5, seed=4)
        rows = np.random.default_rng(4).integers(5000, size=(5, 2))
        for i, pair in enumerate(rows):
            _, var = reference.population_statistics([digits[pair]])
            assert small.corrected[i, 0] == pytest.approx(var[0] / digits.var(), rel=1e-9)

    def test_the_prediction_holds_at_every_pooling(self, result):
        assert inside(t_interval(result.corrected), result.predicted).all()

    def test_m_over_m_minus_1_fails_where_positions_repeat_and_not_at_one_position(self, result):
        interval = t_interval(result.corrected)
        four, one = (list(result.positions).index(p) for p in (4, 1))
        assert interval.high[four] < 0.9
        assert inside(interval, 1)[one]

    def test_rho_grows_with_pooling_to_1(self, result):
        assert (np.diff(result.rho) > 0).all()
        assert result.rho[-1] == pytest.approx(1)


class TestSampleDependence:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        return sampling.sample_dependence(draws=500)

    def test_predictions_hold(self, result):
        assert inside(t_interval(result.corrected), result.predicted).all()

    def test_one_class_is_biased_at_every_batch_size(self, result):
        k = result.schemes.index("one class")
        assert (t_interval(result.corrected[:, k]).high < 0.85).all()

    def test_pairs_need_the_factor_of_half_the_batch(self, result):
        m, k = result.batch_sizes, result.schemes.index("every example twice")
        biased = result.corrected[:, k] * (m - 1) / m
        assert inside(t_interval(biased * (m / 2) / (m / 2 - 1)), 1).all()


class TestRunningAverage:
    def test_start_up_bias_is_the_weight_of_the_start(self):
        result = sampling.running_average(mean=5.0, std=3.0, steps=60)
        t = np.arange(1, 61)
        for k, momentum in enumerate(result.momenta):
            np.testing.assert_allclose(
                result.expected[k], 5 * (1 - (1 - momentum) ** t), rtol=1e-12
            )
        assert (np.abs(result.mean.mean(axis=0) - result.expected) < 5 * result.spread / 20).all()
        np.testing.assert_allclose(result.mean.std(axis=0), result.spread, rtol=0.2)

    def test_variance_starts_from_1_and_ends_unbiased(self):
        result = sampling.running_average(std=3.0, batch_size=4, steps=200, momenta=(0.1,))
        expected = 9 + (1 - 9) * 0.9 ** np.arange(1, 201)
        np.testing.assert_allclose(result.var[:, 0].mean(axis=0), expected, rtol=0.06)

    def test_lag_behind_a_moving_mean(self):
        result = sampling.running_average(speed=0.05, steps=400, momenta=(0.3, 0.1), batch_size=64)
        lag = result.truth[-1] - result.mean[:, :, -1].mean(axis=0)
        np.testing.assert_allclose(lag, [0.05 * 0.7 / 0.3, 0.05 * 0.9 / 0.1], rtol=0.05)

    def test_the_error_of_a_long_run_is_noise_and_lag(self):
        for speed in (0.0, 0.02):
            result = sampling.running_average(speed=speed, momenta=(0.3, 0.1), steps=200)
            theory = result.error_theory(np.array(result.momenta))
            np.testing.assert_allclose(result.final_error, theory, rtol=0.12)

    def test_one_run_is_torchs_layer(self):
        result = sampling.running_average(momenta=(0.2,), mean=1.0, steps=5, runs=3, batch_size=6)
        rng, layer = np.random.default_rng(0), torch.nn.BatchNorm1d(3, momentum=0.2).double()
        for t in range(5):
            layer(torch.from_numpy(1 + rng.standard_normal((6, 3))))
            np.testing.assert_allclose(result.mean[:, 0, t], layer.running_mean)
            np.testing.assert_allclose(result.var[:, 0, t], layer.running_var)
