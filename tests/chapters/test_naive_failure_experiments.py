"""Chapter 3's measurements: rounding meets its predictions, and the detached layer drifts."""

import numpy as np
import pytest
from _book import book_result
from numpy.testing import assert_allclose, assert_array_equal

from bnlab.chapters.naive_failure import experiments as naive_failure
from bnlab.chapters.naive_failure import naive


def test_sample_is_what_was_asked_for():
    u, t = naive_failure.sample(n=50_000, target_mean=2.0, slope=-1.5, noise=0.5, seed=3)
    assert_allclose([u.mean(), u.std()], [0, 1], atol=1e-12)
    assert_allclose([t.mean(), (u * t).mean(), (t - 2 + 1.5 * u).std()], [2, -1.5, 0.5], atol=0.01)
    assert_array_equal(u, naive_failure.sample(n=50_000, seed=3)[0])


@pytest.fixture(scope="module")
def sweep():
    return naive_failure.rounding_sweep(*naive_failure.sample())


def test_output_error_is_the_rounding_error(sweep):
    middle = (sweep.b > 100) & (sweep.b < 3e7)
    assert_allclose(sweep.output_error[middle], sweep.predicted_error[middle], rtol=0.1)
    assert_allclose(sweep.output_error[-2:], 1, rtol=1e-6)  # all of u is lost


def test_loss_moves_only_when_the_spacing_is_large(sweep):
    off = np.abs(sweep.loss - sweep.exact_loss) / sweep.exact_loss
    assert off[sweep.spacing < 0.01].max() < 0.001
    assert off.max() > 0.1


def test_bias_moves_by_whole_spacings_and_then_not_at_all(sweep):
    coarse = sweep.spacing > 2e-3  # finer ones are blurred by the error of the step itself
    clear = coarse & (np.abs(sweep.exact_move / sweep.spacing % 1 - 0.5) > 0.1)  # not near a tie
    assert clear.sum() > 10
    assert (np.abs(sweep.move - sweep.predicted_move) <= 1.01 * sweep.spacing).all()
    assert_allclose(sweep.move[clear], sweep.predicted_move[clear], rtol=1e-4)
    stop = naive.stalling_bias(sweep.exact_move)
    assert_array_equal(sweep.move > 0, sweep.b < stop)


def test_accumulation_stops_where_predicted():
    result = naive_failure.accumulate(0.195, steps=2**25, every=2**18)
    assert result.b[-1] == result.predicted_b == 2.0**22
    assert 2**23 < result.stalled_after < 2**25
    state = np.searchsorted(result.count, result.stalled_after)
    assert result.b[state] == result.b[-1] > result.b[state - 1]
    assert_allclose(result.b[1], 0.195 * 2**18, rtol=0.01)


@pytest.mark.parametrize("step", [1.001, 1.25, 1.55, 2.0])
def test_a_float32_number_lives_for_2_to_the_24_constant_steps_or_half_again(step):
    result = naive_failure.accumulate(step, steps=2**25, every=2**20)
    assert result.b[-1] == result.predicted_b
    assert 1 - 1e-6 < result.stalled_after / 2**24 < 1.5 + 1e-6


def test_accumulation_that_is_not_over_says_so():
    assert naive_failure.accumulate(0.195, steps=2**12, every=2**10).stalled_after == -1


def test_accumulation_equals_one_addition_at_a_time():
    result = naive_failure.accumulate(0.3, steps=3000, every=1000)
    b = np.float32(0)
    for _ in range(3000):
        b = b + np.float32(0.3)
    assert result.b[-1] == b


def test_a_whole_run_in_float16_stops_where_predicted():
    u, t = naive_failure.sample()
    run = naive.train(u, t, steps=3000, dtype=np.float16)
    assert run.b[-1] == run.b[-2] == naive.stalling_bias(0.2 * t.mean(), dtype=np.float16)


@pytest.fixture(scope="module")
def digits():
    return naive_failure.detached_on_digits(
        arms=tuple(naive_failure.ARMS), lrs=(0.1, 1.0), steps=60, seeds=(0, 1)
    )


def arm(result, name):
    return result.arms.index(name)


def test_shapes(digits):
    assert digits.loss.shape == (2, 5, 2, 60)
    assert digits.bias_shift.shape == digits.weight_growth.shape == (2, 5, 2, 61)
    assert digits.accuracy.shape == digits.bias_gradient.shape == (2, 5, 2)
    assert_array_equal(digits.bias_shift[..., 0], 0)
    assert_array_equal(digits.weight_growth[..., 0], 1)


def test_right_gradient_leaves_the_bias_alone_and_the_detached_one_does_not(digits):
    right, detached = arm(digits, "batch norm"), arm(digits, "detached")
    assert digits.bias_gradient[:, right].max() < 1e-14
    assert digits.bias_shift[:, right].max() < 1e-13
    assert digits.bias_gradient[:, detached].min() > 0.01
    assert digits.bias_shift[:, detached, :, -1].min() > 0.5


def test_dropping_the_bias_changes_no_training_loss(digits):
    with_bias, without = arm(digits, "detached"), arm(digits, "detached, no Linear bias")
    assert_allclose(digits.loss[:, without], digits.loss[:, with_bias], rtol=1e-9)
    assert_array_equal(digits.bias_shift[:, without], 0)


def test_detached_learns_less_and_grows_more(digits):
    right, detached = arm(digits, "batch norm"), arm(digits, "detached")
    late = digits.loss[..., -20:].mean(axis=-1)
    assert (late[:, detached] > late[:, right]).all()
    growth = digits.weight_growth[..., -1]
    assert (growth[:, detached] > growth[:, right]).all()


def test_every_arm_starts_from_the_same_weights_and_batches(digits):
    first = digits.loss[:, :, :, 0]
    assert_allclose(first[:, 1:], first[:, 1:2].repeat(4, axis=1), rtol=1e-12)  # same outputs
    assert not np.allclose(digits.loss[0], digits.loss[1])


def test_runs_repeat_bit_for_bit():
    settings = {"arms": ("detached",), "lrs": (0.1,), "steps": 5, "seeds": (0,)}
    runs = [naive_failure.detached_on_digits(**settings) for _ in range(2)]
    assert_array_equal(runs[0].loss, runs[1].loss)


def test_the_stored_run_says_what_the_chapter_says():
    stored, _ = book_result("naive_failure_digits")
    plain, right, detached, bare = range(4)
    late = stored.loss[..., -50:].mean(axis=-1).mean(axis=0)
    assert (late[detached] > late[right]).all()
    assert (late[detached] > late[plain])[:2].all()
    assert late[bare, -1] > 2 * np.log(10), "it blows up"
    assert max(late[detached].max(), late[bare, :-1].max()) < 0.5 * np.log(10)
    pair, _ = book_result("naive_failure_no_bias")
    assert_allclose(pair.loss[:, 1], pair.loss[:, 0], rtol=0, atol=1e-9)


def test_gradient_agreement_is_a_cosine_and_leaves_training_alone():
    short = naive_failure.gradient_agreement(at=(0, 20), seeds=(0, 1))
    assert short.cosine.shape == short.size_ratio.shape == (2, 2)
    assert (np.abs(short.cosine) < 1).all()
    assert (short.cosine[:, 0] > 0).all()
    denser = naive_failure.gradient_agreement(at=(0, 5, 10, 20), seeds=(0, 1))
    assert_allclose(denser.cosine[:, [0, -1]], short.cosine, rtol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_only_the_detached_layer_claims_what_is_not_real(seed):
    result = naive_failure.claimed_and_real(seed=seed)
    batch, fixed, detached = range(3)
    assert abs(result.claimed[batch]) < 1e-12
    assert abs(result.real[[batch, detached]]).max() < 1e-7
    assert abs(result.claimed[fixed]) > 1e-3
    assert_allclose(result.claimed[fixed], result.real[fixed], rtol=1e-5)
    assert abs(result.claimed[detached]) > 1e-2
