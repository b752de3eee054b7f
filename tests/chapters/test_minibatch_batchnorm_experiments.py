"""The experiments of Chapter 5 meet their theory, and repeat themselves bit for bit."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from _book import book_result

from bnlab import reference
from bnlab.chapters.minibatch_batchnorm import experiments as experiments
from bnlab.experiments import load


def within(samples, expected, errors=4.0):
    """Whether the mean over the first axis is within so many standard errors of the theory."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    return np.all(np.abs(samples.mean(axis=0) - expected) <= errors * error + 1e-12)


def test_one_batch_is_learned_at_the_rate_of_theory():
    run = experiments.learn_identity(fresh=False, steps=60)
    np.testing.assert_allclose(run.loss[:, 1:30] / run.loss[:, :29], 0.64, rtol=1e-3)
    assert np.abs(run.gamma[:, -1] - run.batch_std).max() < 1e-5
    assert np.abs(run.beta[:, -1] - run.batch_mean).max() < 1e-5
    assert run.loss[:, -1].max() < 1e-9
    assert run.expected_loss == 0
    assert run.gamma.shape == (20, 61)


@pytest.mark.parametrize("m", [2, 8, 64])
def test_fresh_batches_leave_the_loss_of_theory(m):
    run = experiments.learn_identity(fresh=True, m=m, steps=600)
    assert within(run.loss[:, 100:].mean(axis=1), run.expected_loss)
    assert within(run.gamma[:, 100:].mean(axis=1), run.expected_gamma)
    assert within(run.beta[:, 100:].mean(axis=1), 3.0)
    other = experiments.learn_identity(fresh=True, m=m, steps=600, lr=0.4)
    assert within(other.loss[:, 100:].mean(axis=1), other.expected_loss)
    assert other.expected_loss == pytest.approx(run.expected_loss * 0.9 / 0.6)


def test_mean_std_is_that_of_normal_batches():
    for m in (2, 3, 10):
        std = np.random.default_rng(0).normal(size=(20_000, m)).std(axis=1)
        assert within(std, experiments._mean_std(m))
    assert experiments._mean_std(2) == pytest.approx(1 / np.sqrt(np.pi))


def test_no_value_passes_the_bound_and_an_outlier_attains_it():
    found = experiments.largest_values(draws=50)
    bound = np.sqrt(found.m - 1)
    assert (found.largest <= bound * (1 + 1e-12)).all()
    np.testing.assert_allclose(found.largest[:, found.kinds.index("one outlier")], [bound] * 50)
    normal = found.largest[:, found.kinds.index("normal"), -1]
    assert 2.8 < normal.mean() < 3.7


def test_eps_takes_the_variance_and_caps_the_gain_of_theory():
    sweep = experiments.eps_sweep()
    root = np.sqrt(sweep.std**2 + sweep.eps[:, None])
    np.testing.assert_allclose(sweep.output_std, sweep.std / root, rtol=1e-9)
    np.testing.assert_allclose(sweep.gain, 1 / root, rtol=1e-9)


def test_normalized_values_have_the_shape_of_theory():
    found = experiments.normalized_shape(draws=1500)
    assert within(found.kurtosis, 3 * (found.m - 1) / (found.m + 1))
    assert within(found.passed, (found.m - 2) / found.m)
    width = np.diff(found.edges)
    np.testing.assert_allclose(found.density @ width, 1)
    uniform = found.density[list(found.m).index(4)]
    assert np.abs(uniform - 0.5).max() < 5 * np.sqrt(0.05 / 15_000) / width[0]


def test_company_moves_a_value_as_theory_says_once_batches_are_large():
    found = experiments.company_spread(sizes=(4, 400), seeds=5)
    ratio = found.spread.mean(axis=0) / found.theory
    np.testing.assert_allclose(ratio[:, 1], 1, atol=0.06)
    assert ratio[2, 0] < 0.2  # far out in a batch of 4, a value is pinned to the bound instead


@pytest.fixture(scope="module")
def makeup():
    return experiments.batch_makeup(sizes=(2, 18, 90), repeats=4, steps=150, seeds=range(2))


def test_batches_of_one_class_ruin_a_classifier(makeup):
    assert makeup.evaluation.min() > 0.85
    assert makeup.by_class.max() < 0.3
    assert (makeup.shuffled[:, -1] > makeup.shuffled[:, 0] + 0.2).all()
    assert (np.diff(makeup.fickle, axis=1) < 0).all()


def test_the_check_of_the_stored_makeup_tells_seeds_apart():
    makeup, _ = book_result("minibatch_makeup")
    for name in ("shuffled", "by_class", "fickle"):
        shares = getattr(makeup, name)
        assert np.abs(shares[1:] - shares[0]).max(axis=1).min() > 0.004


def test_the_stored_makeup_says_what_the_chapter_says():
    makeup, _ = book_result("minibatch_makeup")
    assert makeup.evaluation.min() > 0.9
    assert makeup.by_class.max() < 0.2
    assert (np.diff(makeup.shuffled.mean(axis=0)) > 0).all()
    assert (np.diff(makeup.fickle.mean(axis=0)) < 0).all()


def test_a_batch_that_would_be_smaller_than_it_says_is_refused():
    with pytest.raises(ValueError, match=r"sizes holds \[20\]; expected divisors of 90"):
        experiments.batch_makeup(sizes=(18, 20))


def test_looking_does_not_change_the_running_statistics():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
    x = torch.arange(12.0).reshape(6, 2)
    batches = torch.arange(6).split(4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    classes = experiments._classify(model, x, batches)
    assert (classes >= 0).all()
    for name in ("0.running_mean", "0.running_var"):
        assert torch.equal(before[name], model.state_dict()[name])
    assert experiments._classify(model, x, torch.arange(6).split(5)).tolist()[-1] == -1


def test_single_class_batches_hold_one_class():
    y = torch.tensor([0, 1, 0, 1, 0])
    batches = list(experiments._single_class_batches(y, 2))
    assert [b.tolist() for b in batches] == [[0, 2], [4], [1, 3]]


@pytest.mark.parametrize(
    "run",
    [
        lambda: experiments.learn_identity(fresh=True, steps=5, seeds=2),
        lambda: experiments.largest_values(draws=3),
        experiments.eps_sweep,
        lambda: experiments.normalized_shape(draws=5, seeds=2),
        lambda: experiments.company_spread(draws=5, seeds=2),
        lambda: experiments.batch_makeup(sizes=(9,), repeats=2, steps=3, seeds=range(1)),
    ],
)
def test_runs_repeat_bit_for_bit_and_can_be_stored(run, tmp_path):
    from bnlab.experiments import Provenance, save

    first, second = run(), run()
    path = save(
        first, tmp_path / "x.npz", provenance=Provenance.now(seeds=(), config={}, duration=0)
    )
    for other in (second, load(path)[0]):
        for field in fields(first):
            np.testing.assert_array_equal(getattr(first, field.name), getattr(other, field.name))


def test_reference_agrees_with_torch_on_the_batches_of_the_chapter():
    rng = np.random.default_rng(0)
    x, dy = rng.normal(3, 2, size=(2, 16, 5))
    gamma, beta = rng.normal(size=(2, 5))
    y, cache = reference.batch_norm_forward(x, gamma, beta)
    dx, _, _ = reference.batch_norm_backward(dy, cache)
    t = torch.tensor(x, requires_grad=True)
    out = torch.nn.functional.batch_norm(
        t, None, None, torch.tensor(gamma), torch.tensor(beta), training=True
    )
    out.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, out.detach().numpy(), atol=1e-13)
    np.testing.assert_allclose(dx, t.grad.numpy(), atol=1e-13)
