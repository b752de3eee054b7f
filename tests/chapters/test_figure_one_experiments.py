"""Chapter 9: the runs, what is measured on them, and the stored results."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from _book import RESULTS, book_result

from bnlab import data, inference, training
from bnlab.chapters.figure_one import experiments as figure_one
from bnlab.chapters.figure_one import fair_start, layers
from bnlab.chapters.figure_one import measures as figure_one_measures
from bnlab.chapters.figure_one import rates as figure_one_rates
from bnlab.chapters.figure_one.results import FigureOne, RateSearch
from bnlab.chapters.figure_one.stored import EXPERIMENTS
from bnlab.experiments import load, save
from bnlab.stats import t_interval

ROOT = Path(__file__).parents[2]


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


def test_tasks_are_an_arm_and_at_most_four_networks():
    config = configured(seeds=6, rates={"without": [1.0, 0.3], "with": [0.3]})
    plan = figure_one.EXPERIMENT.plan(config)
    assert [(t["arm"], len(t["members"])) for t in plan] == [
        ("without", 4), ("without", 4), ("without", 4), ("with", 4), ("with", 2),
    ]  # fmt: skip
    assert plan[1]["members"][2] == [0.3, 0]


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
    found = search_of(np.tile([0.0, 1.0, 0.5], (2, 2, 1, 1))).score()
    np.testing.assert_allclose(found, 0.1 * 0.5 + 0.9 * 0.75)


def test_the_best_rate_is_best_on_average_over_the_seeds():
    flat = np.empty((2, 2, 2, 3))
    flat[:, :, :, :] = np.array([[0.9, 0.1], [0.6, 0.6]])[None, :, :, None]
    assert search_of(flat).best() == {"without": 1.0, "with": 1.0}


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


def test_looks_in_a_row_at_a_level_count_from_the_first_of_them():
    result = made([[[0.1, 0.6, 0.5, 0.7]], [[0.1, 0.6, 0.7, 0.8]]])
    steps_to = figure_one_measures.steps_to
    assert steps_to(result, 0.6, setting=0, in_a_row=2).tolist() == [np.inf]
    assert steps_to(result, 0.5, setting=0, in_a_row=2).tolist() == [50]
    assert steps_to(result, 0.6, setting=1, in_a_row=3).tolist() == [50]
    assert steps_to(result, 0.7, setting=1, in_a_row=2).tolist() == [80]
    found = figure_one_measures.times_fewer(result, (0.5,), in_a_row=2)
    assert found.tolist() == [[1]]


def test_times_fewer_is_without_over_with_seed_by_seed():
    result = made([[[0.1, 0.2, 0.6, 0.7]], [[0.1, 0.6, 0.6, 0.8]]])
    found = figure_one_measures.times_fewer(result, (0.5, 0.7))
    assert found.tolist() == [[80 / 50, 100 / 100]]
    swapped = figure_one_measures.times_fewer(result, (0.5,), settings=(1, 0))
    assert swapped.tolist() == [[50 / 80]]


def test_a_search_that_is_cut_keeps_its_first_looks_and_refuses_another_step():
    search = search_of(np.tile([0.0, 1.0, 0.5], (2, 2, 1, 1)))
    cut = figure_one_measures.begun(search, 10)
    assert cut.steps.tolist() == [0, 10]
    np.testing.assert_allclose(cut.score(), 0.5)
    assert search.steps.tolist() == [0, 10, 100]
    assert figure_one_measures.steps_to(cut, 0.9, setting=(1, 0)).tolist() == [10]
    with pytest.raises(ValueError, match="steps is 50; expected one of the looks 0, 10, 100"):
        figure_one_measures.begun(search, 50)


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


# ---- the stored results ----------------------------------------------------------------------------

SETS = ("deformed", "digits", "fashion", "gray", "mnist")
RUNS = [f"figure_one_{name}" for name in SETS]
LOW_RATE = "figure_one_one_rate_mnist"
SEARCHES = [f"figure_one_rates_{name}" for name in ("deformed", "digits", "fashion", "mnist")]
SIGMAS = {f"figure_one_sigma_{sigma}": sigma for sigma in (0.01, 0.03, 0.3)}


def test_every_result_of_the_chapter_is_stored_and_no_other():
    found = {path.stem for path in RESULTS.glob("figure_one_*.npz")}
    fair = {"figure_one_fair_start", "figure_one_rates_fair_start"}
    assert found == {*RUNS, LOW_RATE, *SEARCHES, *SIGMAS, "figure_one_layers", *fair}


def test_the_layers_are_seen_as_each_network_trains_alone():
    small = {"data": "mnist-5k", "rates": [0.3, 3.0], "sigmas": [0.1], "steps": 20}
    config = layers.EXPERIMENT.configure(small)
    views = merged(config, layers.EXPERIMENT)
    assert views.steps.tolist() == [0, 10, 20]
    assert views.histogram.shape == (2, 1, 2, 3, 3, 32)
    assert (views.histogram.sum(axis=-1) == 1000 * 100).all()  # test digits and units
    train, test = figure_one.images("mnist-5k")
    for a, arm in enumerate(views.arms):
        net = figure_one.network(arm, seed=0)
        training.train(net, train, lr=3.0, steps=20, batch_size=60, seed=0)
        assert training.accuracy(net, test) == pytest.approx(views.accuracy[a, 0, 1, -1], abs=0.01)
    assert views.accuracy[1, 0, 1, -1] > views.accuracy[0, 0, 1, -1]


@pytest.mark.parametrize("name", RUNS)
def test_a_stored_run_is_of_full_length_and_of_all_its_seeds(name):
    result, origin = book_result(name)
    assert origin.config["steps"] == result.steps[-1]
    assert result.steps[-1] == (20_000 if "gray" in name else 50_000)
    assert origin.config["batch_size"] == 60
    assert origin.config["held_out"] == 0
    assert result.seeds == origin.seeds == tuple(range(16 if name == "figure_one_mnist" else 8))
    assert np.isfinite(result.accuracy).all()
    assert (RESULTS / f"{name}.npz").stat().st_size < 90_000 * len(result.seeds)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_rates_are_those_that_the_search_found_best(name):
    search, origin = book_result(name)
    assert origin.config["held_out"] == search.held_out > 0
    best = search.best()
    assert figure_one.RATES[search.data, search.copies] == best
    run, _ = book_result(name.replace("_rates", ""))
    assert {arm: run.rates[run.setting(arm)] for arm in figure_one.ARMS} == best
    for rate in best.values():
        assert search.rates[0] < rate < search.rates[-1], "a best rate at the edge of the search"


def test_gray_images_are_trained_on_with_the_rates_of_binary_ones():
    gray, binary = (book_result(f"figure_one_{n}")[0] for n in ("gray", "fashion"))
    assert (gray.pixels, gray.data) == ("gray", binary.data)
    for arm in figure_one.ARMS:
        assert gray.rates[gray.setting(arm)] == binary.rates[binary.setting(arm)]


def test_the_runs_at_a_low_rate_differ_from_the_others_in_nothing_else():
    result, origin = book_result(LOW_RATE)
    other, _ = book_result("figure_one_mnist")
    assert result.rates == (0.1, 0.1)
    assert origin.config["steps"] == result.steps[-1] == 50_000
    for field in ("data", "pixels", "copies", "sigma", "batch_size", "arms"):
        assert getattr(result, field) == getattr(other, field)
    assert set(result.seeds) <= set(other.seeds)


@pytest.mark.parametrize("name", SIGMAS)
def test_a_search_with_another_start_differs_in_nothing_else_and_is_no_edge(name):
    search, origin = book_result(name)
    other, main = book_result("figure_one_rates_mnist")
    assert origin.config == main.config | {"sigma": SIGMAS[name], "steps": 20_000}
    shorter = figure_one_measures.begun(other, 20_000)
    np.testing.assert_array_equal(search.steps, shorter.steps)
    assert (search.rates, search.seeds, search.arms) == (other.rates, other.seeds, other.arms)
    assert all(search.rates[0] < rate < search.rates[-1] for rate in search.best().values())


TOLERANCE = 0.01  # rounding errors grow in training
CALM = {"figure_one_digits": {"with": 10.0}}  # at 30 they are of order one within 50 steps


@pytest.mark.parametrize(("rate", "least", "most"), [(10.0, 0, TOLERANCE), (30.0, 0.1, np.inf)])
def test_at_rate_30_training_on_few_digits_is_chaotic(monkeypatch, rate, least, most):
    """A change of a millionth in the images is one of order one in the loss after 50 steps."""
    config = configured(rates={"without": [rate], "with": [rate]}, seeds=1, steps=50)
    (task,) = (t for t in figure_one.EXPERIMENT.plan(config) if t["arm"] == "with")
    exact = figure_one.run(config, task)["loss"]
    train, test = figure_one.images("mnist-5k")
    other = replace(train, x=train.x * np.float32(1 + 1e-6))
    monkeypatch.setattr(figure_one, "images", lambda *_, **__: (other, test))
    assert least <= np.abs(figure_one.run(config, task)["loss"] - exact).max() < most


def test_an_edit_of_a_search_is_noticed_by_repeating():
    search, origin = book_result("figure_one_rates_digits")
    (experiment,) = (e for e in EXPERIMENTS if e.name == "figure-one-rates-digits")
    search.accuracy[1, 0, 0, 1] += 0.02
    assert experiment.check(search, origin)["accuracy"] > experiment.tolerance


def test_a_number_edited_under_a_right_checksum_is_noticed_by_repeating(tmp_path):
    result, origin = book_result("figure_one_digits")
    result.loss[0, 0, 2] *= 1.05
    signed = save(result, tmp_path / "signed.npz", provenance=origin)
    again, _ = load(signed)
    calm = CALM["figure_one_digits"]
    assert figure_one_measures.repeats(again, steps=100, rates=calm)["loss"] > TOLERANCE


# ---- what the chapter says -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_the_normalized_network_is_faster_at_first_on_every_set(name):
    result, _ = book_result(f"figure_one_{name}")
    level = 0.5
    slow, fast = (
        figure_one_measures.steps_to(result, level, setting=result.setting(arm))
        for arm in figure_one.ARMS
    )
    assert t_interval(slow / fast, geometric=True).low > 1
    gap = figure_one_measures.gap(result)[:, list(result.steps).index(200)]
    assert t_interval(gap).low > 0.1


def end_gap(name):
    result, _ = book_result(f"figure_one_{name}")
    last = figure_one_measures.at_the_end(result, result.accuracy)
    return t_interval(last[result.setting("with")] - last[result.setting("without")])


def test_it_ends_higher_on_digits_and_not_on_clothes():
    assert end_gap("deformed").low > 0.002
    assert 0 < end_gap("mnist").low < end_gap("mnist").high < 0.005
    assert end_gap("digits").low > 0
    assert end_gap("fashion").high < 0


def test_the_order_at_the_end_is_that_at_the_rates_that_are_best_for_the_end():
    for name in SEARCHES:
        search, _ = book_result(name)
        late = figure_one_measures.at_the_end(search, search.accuracy).mean(axis=-1).max(axis=-1)
        assert (late[1] > late[0]) == ("fashion" not in name)


def test_deformed_copies_close_most_of_the_gap_to_the_full_set():
    few, more, full = (
        figure_one_measures.at_the_end(run, run.accuracy)[:2].mean(axis=1)
        for run in (
            book_result(f"figure_one_{name}")[0] for name in ("digits", "deformed", "mnist")
        )
    )
    assert ((more - few) / (full - few) > 0.7).all()
    assert (full > more).all()


def test_on_few_digits_the_best_rate_of_all_steps_is_slow_at_first():
    result, _ = book_result("figure_one_digits")
    first, late = (
        t_interval(
            figure_one_measures.steps_to(result, level, setting=0)
            / figure_one_measures.steps_to(result, level, setting=1),
            geometric=True,
        )
        for level in (0.5, 0.9)
    )
    assert first.low > 1 > late.high


def test_on_few_digits_a_third_of_that_rate_is_fast_at_first_and_no_better_at_the_end():
    result, _ = book_result("figure_one_digits")
    plain, calm = result.setting("without"), result.setting("with", 10.0)
    for level in (0.5, 0.8):
        slow, fast = (figure_one_measures.steps_to(result, level, setting=k) for k in (plain, calm))
        assert t_interval(slow / fast, geometric=True).low > 1
    end = figure_one_measures.at_the_end(result, result.accuracy)
    assert t_interval(end[calm] - end[plain]).low < 0


@pytest.mark.parametrize("name", ["digits", "deformed", "mnist"])
def test_both_arms_learn_digits_by_heart(name):
    result, _ = book_result(f"figure_one_{name}")
    assert (result.train_accuracy[:, :, -1] > 0.995).all()


def test_only_with_normalization_the_high_rates_train():
    for name in SEARCHES:
        search, _ = book_result(name)
        without, with_ = search.score().mean(axis=-1)
        ten, thirty = (search.rates.index(rate) for rate in (10, 30))
        assert with_[ten] - without[ten] > 0.1
        assert without[thirty] < 0.15
        assert with_[thirty] > 0.7


def test_on_mnist_both_arms_are_best_at_one_rate_and_the_normalized_one_hardly_cares():
    search, _ = book_result("figure_one_rates_mnist")
    best = search.best()
    assert best["with"] == best["without"]
    assert np.ptp(search.score().mean(axis=-1)[1, :5]) < 0.01


def test_only_the_plain_network_starts_late_with_small_weights():
    searches = {0.1: figure_one_measures.begun(book_result("figure_one_rates_mnist")[0], 20_000)}
    searches |= {sigma: book_result(name)[0] for name, sigma in SIGMAS.items()}
    start, score = {}, {}
    for sigma, search in searches.items():
        for k, (arm, rate) in enumerate(search.best().items()):
            at = (k, search.rates.index(rate))
            start[arm, sigma] = figure_one_measures.steps_to(search, 0.5, setting=at).mean()
            score[arm, sigma] = search.score()[at].mean()
    assert start["without", 0.01] > 10 * start["without", 0.3]
    assert start["with", 0.01] < 2 * start["with", 0.3]
    spread = {arm: np.ptp([score[arm, sigma] for sigma in searches]) for arm in figure_one.ARMS}
    assert spread["with"] < 0.01 < 0.04 < spread["without"]


def test_a_low_rate_multiplies_the_lead():
    low, _ = book_result(LOW_RATE)
    best, _ = book_result("figure_one_mnist")
    for step, factor in ((1000, 10), (50_000, 2)):
        leads = [
            figure_one_measures.gap(run)[:, list(run.steps).index(step)].mean()
            for run in (low, best)
        ]
        assert leads[0] > factor * leads[1]


def test_inputs_of_the_sigmoids_are_more_stable_with_normalization():
    for name, factors in (("mnist", (1.5, 1.1)), ("fashion", (3, 1.5))):
        result, _ = book_result(f"figure_one_{name}")
        rows = [result.setting(arm) for arm in figure_one.ARMS]
        for first, factor in zip((0, 1000), factors, strict=True):
            without, with_ = figure_one_measures.stability(result, first=first).wander[rows]
            ratio = np.median(without, axis=-1) / np.median(with_, axis=-1)
            assert t_interval(ratio).low > factor


def test_at_a_low_rate_the_normalized_network_is_the_stiller_one_by_every_measure():
    for first in (0, 1000):
        for what in ("wander", "stretch", "distance"):
            assert moved_farther("one_rate_mnist", what, first).low > 1.3


def test_later_the_width_changes_more_with_normalization():
    assert moved_farther("mnist", "stretch", 0).low > 5
    assert moved_farther("mnist", "stretch", 1000).high < 1


def test_the_highest_level_is_reached_sooner_without_normalization_on_fashion_mnist():
    result, _ = book_result("figure_one_fashion")
    plain, normalized = (
        figure_one_measures.steps_to(result, 0.82, setting=result.setting(arm))
        for arm in figure_one.ARMS
    )
    assert t_interval(plain / normalized, geometric=True).high < 1


def test_exact_statistics_gain_tenths_of_a_point_late_in_training():
    result, _ = book_result("figure_one_fashion")
    row = result.setting("with")
    running = result.accuracy[row][:, np.isin(result.steps, result.recalibrated_steps)]
    late = result.recalibrated_steps >= 9000
    difference = (result.recalibrated[row] - running)[:, late].mean(axis=1)
    found = t_interval(difference)
    assert found.low > 0
    assert found.high < 0.005


def moved_farther(name, what, first):
    """Return how many times as far the middle moved without normalization as with it."""
    result, _ = book_result(f"figure_one_{name}")
    rows = [result.setting(arm) for arm in figure_one.ARMS]
    found = getattr(figure_one_measures.stability(result, first=first), what)[rows]
    without, with_ = np.median(found, axis=-1)
    return t_interval(without / with_, geometric=True)


def test_at_its_higher_own_rate_the_normalized_network_moves_farther():
    for first in (0, 1000):
        assert moved_farther("digits", "wander", first).high < 1
        assert moved_farther("digits", "distance", first).high < 1
        assert moved_farther("deformed", "distance", first).high < 1


def test_in_gray_exact_statistics_decide_who_ends_ahead():
    result, _ = book_result("figure_one_gray")
    without, with_ = (result.setting(arm) for arm in figure_one.ARMS)
    late = result.recalibrated_steps >= 0.8 * result.steps[-1]
    looks = np.isin(result.steps, result.recalibrated_steps[late])
    plain, running = (result.accuracy[k][:, looks].mean(axis=1) for k in (without, with_))
    exact = result.recalibrated[with_][:, late].mean(axis=1)
    assert t_interval(exact - plain).low > 0
    assert t_interval(running - plain).low < 0


# ---- what a fair start buys ------------------------------------------------------------------------


def test_the_arms_of_the_fair_start_are_four_networks_on_raw_and_on_centered_inputs():
    assert len(fair_start.ARMS) == 8
    spread = {
        arm: fair_start.network(arm, seed=1).linear2.weight.std().item() for arm in fair_start.ARMS
    }
    for arm, found in spread.items():
        assert found == pytest.approx(0.4 if "0.4" in arm else 0.1, rel=0.02), arm
    kinds = {arm: type(fair_start.network(arm, seed=1).act1).__name__ for arm in fair_start.ARMS}
    assert {arm for arm, kind in kinds.items() if kind == "Tanh"} == {"tanh", "tanh, centered"}
    normalized = [
        arm for arm in fair_start.ARMS if hasattr(fair_start.network(arm, seed=1), "norm1")
    ]
    assert normalized == ["BN", "BN, centered"]


def test_the_plain_and_the_normalized_arm_are_those_of_figure_one():
    for arm, name in (("without", "sigmoid"), ("with", "BN")):
        for centered in ("", ", centered"):
            a, b = figure_one.network(arm, seed=2), fair_start.network(name + centered, seed=2)
            assert str(a) == str(b)
            for p, q in zip(a.parameters(), b.parameters(), strict=True):
                assert torch.equal(p, q)


def test_inputs_are_centered_by_the_training_images_alone():
    train, test = fair_start.inputs("tanh, centered", "mnist-5k", held_out=800)
    raw, raw_test = fair_start.inputs("tanh", "mnist-5k", held_out=800)
    np.testing.assert_allclose(train.x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(
        raw_test.x - test.x, np.tile(raw.x.mean(axis=0), (800, 1)), atol=1e-6
    )


def test_a_fair_start_is_that_of_one_network_alone():
    config = configured(
        fair_start.EXPERIMENT, steps=20, rates={"sigmoid": [0.3], "tanh, centered": [0.3]}
    )
    result = merged(config, fair_start.EXPERIMENT)
    assert result.accuracy.shape == (2, 2, 3)
    train, test = fair_start.inputs("tanh, centered", "mnist-5k")
    net = fair_start.network("tanh, centered", seed=5)
    training.train(net, train, lr=0.3, steps=20, batch_size=60, seed=5)
    assert result.accuracy[1, 1, -1] == pytest.approx(training.accuracy(net, test), abs=0.003)


def test_the_search_of_the_fair_start_has_every_rate_of_every_arm():
    config = configured(fair_start.SEARCH, steps=10, seeds=2)
    plan = fair_start.SEARCH.plan(config)
    assert [len(task["members"]) for task in plan] == [14] * len(fair_start.ARMS)
    few = config | {"rates": {"tanh": [0.3, 1e30], "BN": [0.3, 1e30]}}
    search = merged(few, fair_start.SEARCH)
    assert search.accuracy.shape == (2, 2, 2, 2)
    assert search.best() == {"tanh": 0.3, "BN": 0.3}


def test_the_stored_fair_start_says_what_the_chapter_says():
    search, fair = (
        book_result(f"figure_one_{name}")[0] for name in ("rates_fair_start", "fair_start")
    )
    assert search.best() == dict(zip(fair.arms, fair.rates, strict=True)) == fair_start.RATES
    assert all(search.rates[0] < rate < search.rates[-1] for rate in fair.rates)
    assert len(fair.seeds) >= 16
    assert not set(fair.seeds) & set(search.seeds)
    joint, bn = {"confidence": 1 - 0.05 / 28}, fair.arms.index("BN")
    end = 100 * figure_one_measures.at_the_end(fair, fair.accuracy)

    def faster(arm):
        k = fair.arms.index(arm)
        a, b = (figure_one_measures.steps_to(fair, 0.8, setting=j) for j in (bn, k))
        return t_interval(a / b, geometric=True, **joint), t_interval(end[k] - end[bn], **joint)

    for arm in ("tanh", "tanh, centered"):
        assert min(faster(arm)[0].low - 1, faster(arm)[1].low) > 0
    assert faster("sigmoid, std 0.4")[0].high < 1
    assert faster("sigmoid")[0].high < faster("sigmoid, std 0.4")[0].low
