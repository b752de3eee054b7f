"""Chapter 12: networks side by side are the networks one at a time, and batches hold what they say."""

from itertools import islice

import numpy as np
import pytest
import torch
from _book import book_result

from bnlab import training
from bnlab.chapters.limits_and_relatives import experiments, stored
from bnlab.chapters.limits_and_relatives.many import batches, train_many
from bnlab.chapters.limits_and_relatives.results import ArmRates, ArmScores, arm_name

DIGITS = experiments.images()[0]


@pytest.mark.parametrize("norm", [norm for norm in experiments.NORMS if "ghost" not in norm])
def test_networks_side_by_side_are_those_of_plain_training(norm):
    fixed = experiments.FIXED.get(norm, ())
    many, loss = train_many(
        lambda seed: experiments.network(norm, seed).double(), DIGITS, lrs=[0.125, 0.5], seeds=[3, 4],
        m=8, steps=6, windows=6, fixed=fixed,
    )  # fmt: skip
    alone = experiments.network(norm, 3).double()
    for name in fixed:
        alone.get_submodule(name).requires_grad_(False)
    history = training.train(alone, DIGITS, lr=0.5, steps=6, batch_size=8, seed=3)
    np.testing.assert_allclose(loss[2], history.loss, rtol=1e-6)
    for name, value in many[2].state_dict().items():
        torch.testing.assert_close(value, alone.state_dict()[name], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("makeup", "classes"), [("two classes", 2), ("one class", 1)])
def test_a_batch_holds_its_classes_in_equal_parts(makeup, classes):
    y = np.arange(200) % 10
    for rows in islice(batches(y, m=10, makeup=makeup, seed=0), 20):
        counts = np.bincount(y[rows], minlength=10)
        assert sorted(counts)[-classes:] == [10 // classes] * classes
        assert len(set(rows.tolist())) == 10


def test_shuffled_batches_are_those_of_training():
    ours = islice(batches(np.zeros(50), m=7, makeup="shuffled", seed=2), 9)
    theirs = training.shuffled_batches(50, batch_size=7, seed=2)
    assert all(torch.equal(a, next(theirs)) for a in ours)


def test_the_network_has_the_layer_it_is_named_after():
    ghost = experiments.network("ghost 4 in", seed=0).norm1
    assert (ghost.ghost_size, ghost.num_features) == (4, 64)
    assert not hasattr(experiments.network("none", seed=0), "norm1")


def test_images_kept_aside_are_not_the_held_out_ones():
    (train, test), (less, aside) = experiments.images(), experiments.images(aside=800)
    rows = [{x.tobytes() for x in part.x} for part in (train, test, less, aside)]
    assert rows[2] | rows[3] <= rows[0]
    assert not rows[2] & rows[3]
    assert not rows[3] & rows[1]


def test_limits_of_renormalization_follow_the_schedule():
    model = experiments.network("renorm", seed=0)
    seen = []
    for t in (0, 50, 100):
        experiments._set_limits(100, t, model)
        seen.append((model.norm1.r_max, model.norm2.d_max))
    assert seen[0] == (1, 0)
    assert seen[0] < seen[1] < seen[2] == (3, 5)


def test_a_run_measures_what_its_names_say():
    found = experiments.arms_run(
        [["layer", 40, "shuffled"], ["batch", 40, "one class"]],
        [0.1, 0.1],
        examples=1600,
        seeds=[1, 2],
    )
    assert found.arms == ("layer 40", "batch 40, one class")
    assert np.isnan(found.of("layer 40", "recalibrated")).all()
    assert np.isfinite(found.of("batch 40, one class", "recalibrated")).all()
    # 1,000 digits in batches of 40 are all of them: a layer that looks at one example alone scores the same
    np.testing.assert_allclose(
        found.of("layer 40", "within_shuffled"), found.of("layer 40"), atol=1e-6
    )
    assert found.loss.shape == (2, 2, 20)
    assert found.loss[0, :, -1].mean() < found.loss[0, :, 0].mean()


def test_fixed_layers_do_not_move():
    arms = [["batch, hidden layers fixed", 4, "shuffled"], ["batch", 4, "shuffled"]]
    moved = experiments.arms_run(arms, [0.1, 0.1], examples=80, seeds=[0]).moved
    assert moved[0, 0] == 0
    assert moved[1, 0] > 0


def test_a_best_rate_at_the_edge_is_refused():
    accuracy = np.array([[[0.9], [0.8], [0.7]]])
    search = ArmRates(("none 2",), np.array([[0.1, 0.2, 0.4]]), accuracy, accuracy)
    with pytest.raises(ValueError, match=r"0\.1, is at the edge of its grid"):
        search.best("none 2")


def test_results_of_other_seeds_are_not_joined():
    def part(arm, seeds):
        one = np.zeros((1, len(seeds)))
        return ArmScores((arm,), np.ones(1), seeds, *[one] * 10, loss=np.zeros((1, len(seeds), 2)))

    both = ArmScores.joined([part("none 2", (0, 1)), part("layer 2", (0, 1))])
    assert both.arms == ("none 2", "layer 2")
    assert both.accuracy.shape == (2, 2)
    with pytest.raises(ValueError, match="expected the same ones"):
        ArmScores.joined([part("none 2", (0, 1)), part("layer 2", (0, 2))])


# ---- what is stored --------------------------------------------------------------------------------


def test_every_arm_has_the_best_rate_of_its_search():
    found = {}
    for name, arms in (stored.ARMS | stored.LOWER).items():
        search, _ = book_result(f"limits_rates_{name.replace('-', '_')}")
        for arm in arms:
            try:
                found[arm_name(*arm)] = search.best(arm_name(*arm))
            except ValueError:
                assert arm in stored.LOWER["one-class"], "extend this grid"
    assert found == pytest.approx(stored.RATES)


def test_seeds_that_judge_are_not_those_that_searched():
    for name in stored.ARMS:
        (_, searched), (_, judged) = (
            book_result(f"limits_{kind}{name}") for kind in ("rates_", "")
        )
        assert not set(searched.seeds) & set(judged.seeds)
        assert len(judged.seeds) >= 16
