"""Chapter 9: the runs, their stop and resume, what is measured on them, and the stored results."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from bnlab import data, inference, training
from bnlab.experiments import figure_one, figure_one_measures, figure_one_rates
from bnlab.results import FigureOne, RateSearch

ROOT = Path(__file__).parents[1]
STORED = ROOT / "book" / "results"


def configured(experiment=figure_one.EXPERIMENT, **changes):
    small = {"data": "mnist-5k", "steps": 120, "seeds": [3, 5]}
    return experiment.configure(small | changes)


def merged(config, experiment=figure_one.EXPERIMENT):
    plan = experiment.plan(config)
    return experiment.merge(config, plan, [experiment.run(config, task) for task in plan])


@pytest.fixture(scope="module")
def short():
    return merged(configured(rates={"without": [1.0, 0.3], "with": [0.3]}))


# ---- data, network, schedule -----------------------------------------------------------------------


def test_pixels_are_binary_or_gray_and_the_test_digits_are_the_same():
    train, test = figure_one.images("mnist-5k")
    assert set(np.unique(train.x)) == set(np.unique(test.x)) == {0.0, 1.0}
    gray, gray_test = figure_one.images("mnist-5k", pixels="gray")
    np.testing.assert_array_equal(train.x, gray.x > 0.5)
    np.testing.assert_array_equal(test.x, gray_test.x > 0.5)
    with pytest.raises(ValueError, match="pixels"):
        figure_one.images("mnist-5k", pixels="colored")


def test_held_out_images_come_from_the_training_images_and_are_not_deformed():
    train, _ = figure_one.images("mnist-5k")
    part, held_out = figure_one.images("mnist-5k", held_out=800)
    assert (len(part), len(held_out)) == (3200, 800)
    rows = {x.tobytes() for x in np.concatenate([part.x, held_out.x])}
    assert rows == {x.tobytes() for x in train.x}
    more, same = figure_one.images("mnist-5k", held_out=800, copies=2)
    assert len(more) == 3 * 3200
    np.testing.assert_array_equal(same.x, held_out.x)
    np.testing.assert_array_equal(more.x[:3200], part.x)


def test_both_arms_start_with_the_same_small_gaussian_weights():
    without, with_ = (figure_one.network(arm, seed=2, sigma=0.05) for arm in figure_one.ARMS)
    for k in range(1, 5):
        a, b = (getattr(net, f"linear{k}").weight for net in (without, with_))
        assert torch.equal(a, b)
    assert without.linear1.weight.std().item() == pytest.approx(0.05, rel=0.02)
    assert [m.out_features for m in with_ if isinstance(m, torch.nn.Linear)] == [100, 100, 100, 10]
    assert sum(isinstance(m, torch.nn.Sigmoid) for m in with_) == 3


@pytest.mark.parametrize("steps", [1, 50, 120, 2000, 50_000])
def test_the_schedule_rises_from_zero_to_the_last_step(steps):
    looks = figure_one.schedule(steps)
    assert looks[0] == 0
    assert looks[-1] == steps
    assert (np.diff(looks) > 0).all()


# ---- the runs --------------------------------------------------------------------------------------


def test_tasks_are_an_arm_and_at_most_eight_networks():
    config = configured(seeds=6, rates={"without": [1.0, 0.3], "with": [0.3]})
    plan = figure_one.EXPERIMENT.plan(config)
    assert [(t["arm"], len(t["members"])) for t in plan] == [
        ("without", 8), ("without", 4), ("with", 6),
    ]  # fmt: skip
    assert plan[1]["members"][0] == [0.3, 2]


def test_unless_given_the_rates_are_the_best_of_both_arms_own_first():
    config = configured(rates=None)
    best = figure_one.RATES["mnist-5k", 0]
    expected = {
        "without": [best["without"], best["with"]],
        "with": [best["with"], best["without"]],
    }
    assert figure_one.rates_of(config) == expected
    elsewhere = figure_one.rates_of(config | {"data": "mnist"})
    assert elsewhere["with"][0] == figure_one.RATES["fashion-mnist", 0]["with"]


def test_a_run_is_that_of_one_network_alone(short):
    """Accuracy, loss and percentiles agree with plain training, one network at a time."""
    train, test = figure_one.images("mnist-5k")
    x, y = training.tensors(test)
    for arm, rate, row in (("without", 0.3, 1), ("with", 0.3, 2)):
        net = figure_one.network(arm, seed=5)
        training.train(net, train, lr=rate, steps=120, batch_size=60, seed=5)
        seen = {}
        hook = net.act3.register_forward_pre_hook(lambda _, a, seen=seen: seen.update(x=a[0]))
        running = {name: value.clone() for name, value in net.state_dict().items()}
        with torch.no_grad():
            net.train()(x)
            net.load_state_dict(running)
            hook.remove()
            logits = net.eval()(x)
        loss = torch.nn.functional.cross_entropy(logits, y).item()
        assert short.loss[row, 1, -1] == pytest.approx(loss, rel=1e-3)
        accuracy = (logits.argmax(1) == y).float().mean().item()
        assert short.accuracy[row, 1, -1] == pytest.approx(accuracy, abs=0.005)
        q = np.percentile(seen["x"].numpy(), (15, 50, 85), axis=0)
        np.testing.assert_allclose(short.percentiles[row, 1, -1], q, rtol=5e-3, atol=5e-3)
        if arm == "with":
            inference.recalibrate(net, list(training.tensors(train)[0].split(500)))
            with torch.no_grad():
                accuracy = (net(x).argmax(1) == y).float().mean().item()
            assert short.recalibrated[row, 1, -1] == pytest.approx(accuracy, abs=0.005)


def test_every_part_of_a_result_has_its_place(short):
    assert short.arms == ("without", "without", "with")
    assert short.rates == (1.0, 0.3, 0.3)
    assert short.seeds == (3, 5)
    assert short.steps.tolist() == [0, 50, 100, 120]
    assert short.watched.tolist() == [0, 100, 120]
    assert short.accuracy.shape == (3, 2, 4)
    assert short.percentiles.shape == (3, 2, 3, 3, 100)
    assert short.histogram.shape == (3, 3, 100, 40)
    assert (short.histogram.sum(axis=-1) == 1000).all()
    assert np.isnan(short.recalibrated[:2]).all()
    assert np.isfinite(short.recalibrated[2]).all()
    assert (np.diff(short.percentiles.astype(float), axis=3) >= 0).all()


def test_the_histogram_is_of_the_first_seed_and_agrees_with_its_percentiles(short):
    below = short.histogram[2, -1].cumsum(axis=-1) / 1000
    for k, q in enumerate((0.15, 0.5, 0.85)):
        value = short.percentiles[2, 0, -1, k].astype(float)
        at = np.clip(np.searchsorted(short.edges, value) - 1, 0, 39)
        units = np.arange(100)
        assert (below[units, at] >= q - 0.02).all()
        before = np.where(at > 0, below[units, at - 1], 0)
        assert (before <= q + 0.02).all()


@pytest.mark.parametrize("arm", figure_one.ARMS)
def test_a_run_goes_on_from_any_snapshot_to_the_same_bits(arm):
    config = configured(steps=320, seeds=1, rates={"without": [1.0], "with": [1.0]})
    (task,) = (t for t in figure_one.EXPERIMENT.plan(config) if t["arm"] == arm)
    kept = []
    whole = figure_one.run(
        config, task, report=lambda done, total, snapshot: kept.append((done, total, snapshot()))
    )
    assert {total for _, total, _ in kept} == {320}
    assert 250 in [done for done, _, _ in kept]
    assert kept[-1][0] == 320
    for _, _, state in kept[:: len(kept) // 3]:
        again = figure_one.run(config, task, state=state)
        assert again.keys() == whole.keys()
        for name, values in whole.items():
            np.testing.assert_array_equal(again[name], values)


def test_a_diverging_rate_spoils_no_other_and_is_recorded():
    config = configured(steps=50, seeds=1, rates={"without": [1e30, 1.0], "with": [1.0]})
    result = merged(config)
    assert result.accuracy[0, 0, -1] == pytest.approx(0.1, abs=0.05)
    alone = merged(config | {"rates": {"without": [1.0], "with": [1.0]}})
    np.testing.assert_allclose(result.loss[1, 0], alone.loss[0, 0], rtol=1e-4)


# ---- the search for rates --------------------------------------------------------------------------


def test_the_search_never_sees_a_test_image(monkeypatch):
    asked = []
    original = data.load

    def spy(name, *, split="train", path=None):
        part = original(name, split=split, path=path)
        asked.append(split)
        return part if split == "train" else part.take(np.arange(0))

    monkeypatch.setattr(data, "load", spy)
    config = configured(
        figure_one_rates.EXPERIMENT, held_out=800, rates=[0.3, 1.0], seeds=1, steps=50
    )
    search = merged(config, figure_one_rates.EXPERIMENT)
    assert "test" in asked  # it was handed over empty, and nothing came of that
    assert search.accuracy.shape == (2, 2, 1, 2)
    assert search.held_out == 800


def search_of(accuracy, steps=(0, 10, 100)):
    accuracy = np.asarray(accuracy, dtype=float)
    return RateSearch(
        data="d", pixels="binary", copies=0, held_out=1, arms=("without", "with"),
        rates=(0.1, 1.0), seeds=tuple(range(accuracy.shape[2])), steps=np.array(steps), accuracy=accuracy,
    )  # fmt: skip


def test_a_rate_is_scored_by_its_mean_over_steps_and_not_over_looks():
    found = figure_one_rates.score(search_of(np.tile([0.0, 1.0, 0.5], (2, 2, 1, 1))))
    np.testing.assert_allclose(found, 0.1 * 0.5 + 0.9 * 0.75)


def test_the_best_rate_is_best_on_average_over_the_seeds():
    flat = np.empty((2, 2, 2, 3))
    flat[:, :, :, :] = np.array([[0.9, 0.1], [0.6, 0.6]])[None, :, :, None]
    assert figure_one_rates.best_rates(search_of(flat)) == {"without": 1.0, "with": 1.0}


# ---- what is read off ------------------------------------------------------------------------------


def made(accuracy=None, percentiles=None, steps=(0, 50, 80, 100)):
    looks = np.array(steps)
    accuracy = np.zeros((2, 1, len(looks))) if accuracy is None else np.asarray(accuracy)
    q = np.zeros((2, 1, len(looks), 3, 1)) if percentiles is None else percentiles
    return FigureOne(
        data="d", pixels="binary", copies=0, sigma=0.1, batch_size=60, arms=("without", "with"),
        rates=(1.0, 0.5), seeds=(0,), steps=looks, accuracy=accuracy, loss=accuracy,
        train_accuracy=accuracy, recalibrated_steps=looks[:0], recalibrated=accuracy[..., :0],
        watched=looks, percentiles=q, edges=np.array([-1.0, 0.0, 1.0]),
        histogram=np.ones((2, len(looks), 1, 2)),
    )  # fmt: skip


def test_steps_to_an_accuracy_are_those_of_the_first_look_at_it_or_infinite():
    result = made([[[0.1, 0.6, 0.5, 0.7]], [[0.1, 0.2, 0.3, 0.4]]])
    steps_to = figure_one_measures.steps_to
    assert steps_to(result, 0.6, setting=0).tolist() == [50]
    assert steps_to(result, 0.65, setting=0).tolist() == [100]
    assert steps_to(result, 0.1, setting=0).tolist() == [0]
    assert steps_to(result, 0.6, setting=1).tolist() == [np.inf]


def test_the_end_is_the_last_fifth_and_the_gap_is_with_less_without():
    result = made([[[0.1, 0.6, 0.5, 0.7]], [[0.1, 0.2, 0.3, 0.5]]])
    np.testing.assert_allclose(
        figure_one_measures.at_the_end(result, result.accuracy), [[0.6], [0.4]]
    )
    np.testing.assert_allclose(figure_one_measures.gap(result), [[0, -0.4, -0.2, -0.2]])


def test_stability_is_that_of_a_distribution_whose_moves_are_known():
    q = np.zeros((2, 1, 4, 3, 1))
    q[0, 0, :, :, 0] = [[-1, 0, 1], [3, 4, 5], [-2, 1, 4], [-1, 0, 1]]
    q[1, 0, :, :, 0] = [-1, 0, 1]
    found = figure_one_measures.stability(made(percentiles=q))
    assert found.distance.ravel().tolist() == [4, 0]
    np.testing.assert_allclose(found.wander.ravel(), [4 / 3, 0])
    np.testing.assert_allclose(found.stretch.ravel(), [3, 1])
    later = figure_one_measures.stability(made(percentiles=q), first=80)
    assert later.distance.ravel().tolist() == [1, 0]


def test_a_repeat_agrees_with_itself_and_notices_a_change(short):
    found = figure_one_measures.repeats(short, steps=100, seed=5)
    assert set(found) == {"accuracy", "loss", "percentiles"}
    assert max(found.values()) < 1e-4  # batches of other sizes are rounded otherwise
    short.loss[2, 1, 2] += 0.01
    try:
        assert figure_one_measures.repeats(short, steps=100, seed=5)["loss"] > 0.005
    finally:
        short.loss[2, 1, 2] -= 0.01


def test_example_images_are_one_of_each_digit():
    rows = figure_one_measures.example_images()
    assert rows.labels == ("gray", "binary", "deformed", "deformed")
    np.testing.assert_array_equal(rows.images[1], rows.images[0] > 0.5)
    assert set(np.unique(rows.images[1:])) == {0.0, 1.0}


def decoded(text, shape):
    letters = {letter: i for i, letter in enumerate(figure_one_measures.LETTERS)}
    return np.array([letters[c] for c in text]).reshape(shape)


def test_the_live_data_hold_every_percentile_and_bar(short):
    text = figure_one_measures.live_data(short)
    content = json.loads(re.search(r"= (\{.*\});", text, flags=re.S).group(1))
    assert content["steps"] == short.watched.tolist()
    for arm, setting in (("without", 0), ("with", 2)):
        found = content["arms"][arm]
        assert found["rate"] == short.rates[setting]
        high, low = np.moveaxis(decoded(found["percentiles"], (3, 3, 100, 2)), -1, 0)
        np.testing.assert_allclose(
            (64 * high + low - 2048) / 100, short.percentiles[setting, 0], atol=0.0051
        )
        bars = decoded(found["bars"], (3, 100, 40))
        counts = short.histogram[setting]
        np.testing.assert_allclose(
            bars / 63, counts / counts.max(axis=-1, keepdims=True), atol=0.5 / 63 + 1e-9
        )


def test_live_data_refuse_what_does_not_fit():
    q = np.full((2, 1, 4, 3, 1), 30.0)
    with pytest.raises(ValueError, match="percentile"):
        figure_one_measures.live_data(made(percentiles=q))
