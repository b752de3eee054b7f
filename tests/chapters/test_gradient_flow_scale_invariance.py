"""What scale invariance does: identities that must hold, and where weights settle."""

import numpy as np
import pytest

from bnlab.chapters.gradient_flow import scale_invariance
from bnlab.experiments import Provenance, load, save

close = np.testing.assert_allclose


def test_without_eps_scale_changes_nothing_but_the_weight_gradient():
    result = scale_invariance.compare_scales([1e-3, 0.5, 1.0, 7.0, 1e4])
    for values in (result.output, result.du, result.dw, result.radial):
        assert values.max() < 1e-11
    close(result.radial_theory, 0)


def test_with_eps_small_weights_break_the_invariance_and_large_ones_do_not():
    result = scale_invariance.compare_scales([1e-3, 1.0, 1e3], eps=1e-5)
    assert result.output[0] > 0.5
    assert result.output[1] == 0
    assert result.output[2] < 1e-4
    # at the largest scale terms of up to 4 cancel down to 3e-10: allow for their rounding
    close(result.radial, result.radial_theory, rtol=1e-6, atol=1e-13)
    assert (np.diff(result.radial) < 0).all()


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_squared_lengths_follow_pythagoras(decay):
    run = scale_invariance.neuron_run(lr=0.3, weight_decay=decay, steps=40, seeds=3)
    expected = (1 - 0.3 * decay) ** 2 * run.norm2[:, :-1] + 0.3**2 * run.grad2
    close(run.norm2[:, 1:], expected, rtol=1e-12)
    assert np.abs(run.radial).max() < 1e-13


def test_eps_breaks_the_right_angle():
    run = scale_invariance.neuron_run(lr=0.1, eps=1.0, steps=20, seeds=3)
    assert np.abs(run.radial).max() > 1e-3
    close(run.norm2[:, 1:], run.norm2[:, :-1] - 0.2 * run.radial + 0.01 * run.grad2, rtol=1e-12)


def test_the_length_settles_where_theory_says():
    run = scale_invariance.neuron_run(lr=0.4, weight_decay=0.01, steps=1500, seeds=10)
    late = slice(750, 1500)
    theory = run.equilibrium_norm4.mean()
    assert (run.norm2[:, late] ** 2).mean() == pytest.approx(theory, rel=0.01)
    assert np.sqrt((run.rotation[:, late] ** 2).mean()) == pytest.approx(
        np.sqrt(2 * 0.4 * 0.01), rel=0.01
    )


def test_the_theory_of_the_length_reads_the_second_half_alone():
    run = scale_invariance.neuron_run(lr=0.4, weight_decay=0.01, steps=20, seeds=2)
    unit = (run.norm2[:, 10:20] * run.grad2[:, 10:]).mean(axis=1)
    close(run.equilibrium_norm4, 0.4 * unit / (0.01 * (2 - 0.004)))


def test_where_the_weights_start_is_forgotten():
    short, long = (
        scale_invariance.neuron_run(lr=0.4, weight_decay=0.02, start=s, steps=800, seeds=4)
        for s in (0.3, 10)
    )
    close(short.norm2[:, -200:].mean(), long.norm2[:, -200:].mean(), rtol=0.02)


def test_runs_repeat_and_seeds_differ():
    first, again = (scale_invariance.neuron_run(lr=0.1, steps=5, seeds=3) for _ in range(2))
    close(first.norm2, again.norm2, rtol=0)
    assert len(np.unique(first.norm2[:, -1])) == 3


def test_results_can_be_stored(tmp_path):
    made = (
        scale_invariance.compare_scales([0.5]),
        scale_invariance.neuron_run(lr=0.1, steps=3, seeds=2),
    )
    origin = Provenance.now(seeds=(0,), config={}, duration=0.0)
    for result in made:
        loaded, _ = load(save(result, tmp_path / "result.npz", provenance=origin))
        for name, value in vars(result).items():
            np.testing.assert_array_equal(getattr(loaded, name), value)
