"""Chapter 10: the seven changes, runs that stop and go on, and the stored results."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from _book import book_result
from torch import nn

from bnlab import data
from bnlab.chapters.accelerating import experiments as accelerating
from bnlab.chapters.accelerating import rates as accelerating_rates
from bnlab.chapters.accelerating import recipes
from bnlab.chapters.accelerating.results import RecipeRuns
from bnlab.stats import t_interval

ROOT = Path(__file__).resolve().parents[2]
DIGITS = accelerating.EXPERIMENT.defaults | {"data": "mnist-5k", "steps": 36}


# ---- the list -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field", "before", "after"),
    [
        ("rate x 5", "lr", 0.1, 0.5),
        ("no Dropout", "dropout", 0.4, 0.0),
        ("L2 / 5", "l2", 5e-4, 1e-4),
        ("decay x 6", "halvings", 1.0, 6.0),
        ("no LRN", "lrn", True, False),
        ("shuffled", "shuffled", False, True),
        ("distortion / 5", "distortion", 0.5, 0.1),
    ],
)
@pytest.mark.parametrize("net", ["plain", "BN"])
def test_each_change_changes_one_thing(net, change, field, before, after):
    base = dataclasses.asdict(accelerating.recipe(net, lr=0.1))
    changed = dataclasses.asdict(accelerating.recipe(f"{net} + {change}", lr=0.1))
    assert base[field] == before
    assert changed[field] == pytest.approx(after)
    assert base == changed | {field: before}
    assert base["normalized"] == (net == "BN")


def test_all_is_all_seven_and_the_factor_is_the_papers():
    everything = accelerating.recipe("BN + all", lr=0.1)
    for change in recipes.CHANGES:
        one = accelerating.recipe(f"BN + {change}", lr=0.1)
        (field,) = (
            f.name
            for f in dataclasses.fields(one)
            if getattr(one, f.name) != getattr(accelerating.recipe("BN", lr=0.1), f.name)
        )
        assert getattr(everything, field) == getattr(one, field)
    assert len(recipes.CHANGES) == 7
    slow = accelerating.recipe("BN + all, rate x 1", lr=0.1)
    assert dataclasses.replace(slow, lr=0.5) == everything
    fast = accelerating.recipe("BN + all, rate x 30", lr=0.1)
    assert dataclasses.replace(fast, lr=0.5) == everything
    assert fast.lr == pytest.approx(3.0)


def test_an_unknown_arm_is_refused_by_name():
    with pytest.raises(ValueError, match="'BM'"):
        accelerating.recipe("BM", lr=0.1)


@pytest.mark.parametrize("shuffled", [False, True])
def test_batches_hold_each_example_once_and_come_from_one_shard(shuffled):
    settings = {"n": 100, "batch_size": 8, "shard": 32, "shuffled": shuffled, "seed": 3}
    epochs = [recipes.batch_order(**settings, epoch=e) for e in range(4)]
    for order in epochs:
        assert order.shape == (12, 8)
        assert len(np.unique(order)) == 96
    companies = [{frozenset(b.tolist()) for b in order} for order in epochs]
    assert all((c == companies[0]) != shuffled for c in companies[1:])
    assert not np.array_equal(epochs[0], epochs[1])
    shards = [
        set(s) for s in np.split(np.random.default_rng([3, 0]).permutation(100)[:96], [32, 64])
    ]
    assert all(any(set(b) <= s for s in shards) for order in epochs for b in order.tolist())


def test_distortion_is_the_formula():
    rng = np.random.default_rng(0)
    x, u, v = rng.uniform(size=(3, 4, 4)), rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3)
    got = recipes.distort(*(torch.tensor(a) for a in (x, u, v)), strength=0.5).numpy()
    mean = x.mean(axis=(1, 2))[:, None, None]
    wanted = mean + np.exp(0.5 * u)[:, None, None] * (x - mean) + 0.25 * v[:, None, None]
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_response_norm_is_torchs_with_its_gradient():
    x = (
        torch.randn(3, 9, 4, 4, generator=torch.Generator().manual_seed(0))
        .mul_(20)
        .requires_grad_()
    )
    theirs = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    ours = recipes.ResponseNorm(9)
    torch.testing.assert_close(ours(x), theirs(x))
    seen = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    got, wanted = (torch.autograd.grad(f(x), x, seen)[0] for f in (ours, theirs))
    torch.testing.assert_close(got, wanted)


def test_test_images_are_standardized_like_the_training_images():
    train, test = accelerating.images("mnist-5k", 14, 5000)
    assert float(train.standardized(train.x).std()) == pytest.approx(1, abs=1e-4)
    assert (test.mean, test.std) == (train.mean, train.std)
    digits = data.load("mnist-5k").x[0].reshape(14, 2, 14, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(train.x[0].numpy(), digits, rtol=1e-6)


def test_the_first_images_are_trained_on_and_all_if_there_are_fewer():
    every, test = accelerating.images("mnist-5k", 14, 300)
    few, same = accelerating.images("mnist-5k", 14, 300, trained=200)
    assert (len(every.y), len(few.y), len(test.y)) == (4000, 200, 300)
    assert torch.equal(few.x, every.x[:200])
    assert torch.equal(same.y, test.y)
    assert len(accelerating.images("mnist-5k", 14, 300, trained=10**6)[0].y) == 4000
    assert len(accelerating.begin(DIGITS | {"trained": 320}, "BN", 0).train.y) == 320


def test_two_recipes_of_one_seed_start_from_the_same_convolutions():
    plain, bn = (accelerating.begin(DIGITS, arm, 7) for arm in ("plain", "BN + all"))
    assert torch.equal(plain.model.conv2.weight, bn.model.conv2.weight)
    assert torch.equal(plain.model.linear.weight, bn.model.linear.weight)
    assert not hasattr(bn.model, "lrn1")
    assert isinstance(plain.model.lrn3, recipes.ResponseNorm)
    assert isinstance(bn.model.norm1, nn.BatchNorm2d)


def test_the_rate_decays_as_the_recipe_says():
    run = accelerating.begin(DIGITS, "BN + decay x 6", 0)
    run.advance(19)  # the rate of step 18 of 36: half way
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(DIGITS["lr"] / 8)
    assert run.optimizer.param_groups[0]["weight_decay"] == 5e-4
    assert run.optimizer.param_groups[1].get("weight_decay") == 0


# ---- runs -----------------------------------------------------------------------------------------


def test_a_run_keeps_out_of_the_global_random_state():
    torch.manual_seed(5)
    first = torch.rand(1)
    torch.manual_seed(5)
    one, two = (accelerating.begin(DIGITS, "plain", 0) for _ in range(2))
    one.advance(2)
    assert torch.rand(1) == first
    two.advance(2)  # from another global state
    assert torch.equal(one.model.linear.weight, two.model.linear.weight)
    assert one.total == two.total


def test_a_run_that_blows_up_says_so_and_stops():
    run = accelerating.begin(DIGITS | {"lr": 1e12}, "plain", 0)
    run.advance(36)
    assert not run.outcome()["finite"]
    assert np.isfinite(run.accuracy).all()
    assert run.accuracy[-1] < 0.2
    assert np.isnan(run.loss[-1])


def test_tasks_and_merge_keep_arms_and_seeds_apart():
    config = DIGITS | {"seeds": 2, "arms": ["plain", "BN"], "steps": 36}
    tasks = accelerating.EXPERIMENT.tasks(config)
    outcomes = tuple(
        {k: np.full(10, 10.0 * t["seed"] + (t["arm"] == "BN")) for k in ("accuracy", "loss")}
        for t in tasks
    )
    runs = accelerating.EXPERIMENT.merge(config, tasks, outcomes)
    assert runs.accuracy[:, :, 0].tolist() == [[0, 10], [1, 11]]
    assert runs.arms == ("plain", "BN")
    assert runs.seeds == (0, 1)


def test_rates_are_chosen_without_the_test_images():
    train, chosen = accelerating_rates._images("mnist-5k", 14, 3000, 500, "cpu")
    test = accelerating.images("mnist-5k", 14, 5000)[1]
    assert (len(train.y), len(chosen.y)) == (3000, 500)
    seen = {x.numpy().tobytes() for x in torch.cat([train.x, chosen.x])}
    assert sum(x.numpy().tobytes() in seen for x in test.x) <= 5  # a few digits occur twice


def test_rates_task_and_merge_keep_the_axes_apart():
    config = accelerating_rates.EXPERIMENT.defaults | {
        "seeds": 2, "rates": [1.0, 2.0, 3.0], "arms": ["plain", "BN"],
    }  # fmt: skip
    tasks = accelerating_rates.EXPERIMENT.tasks(config)
    outcomes = [
        {
            "accuracy": np.array([0.0, t["lr"] + 10 * t["seed"] + 100 * (t["arm"] == "BN")]),
            "finite": np.array(t["lr"] < 3),
        }
        for t in tasks
    ]
    sweep = accelerating_rates.EXPERIMENT.merge(config, tasks, outcomes)
    assert sweep.accuracy[0].tolist() == [[1, 2, 3], [11, 12, 13]]
    assert sweep.accuracy[1, 1].tolist() == [111, 112, 113]
    assert sweep.finite[0, 0].tolist() == [True, True, False]


# ---- reading the runs -----------------------------------------------------------------------------


def made(curves):
    """Return runs of two seeds from a dict of arms."""
    curves = {arm: np.array(found) for arm, found in curves.items()}
    both = np.array(list(curves.values()))
    return RecipeRuns("", 30, 1, tuple(curves), (0, 1), np.array([10, 20, 30]), both, both)


CURVES = {
    "plain": [[0.25, 0.75, 0.5], [0.25, 0.5, 0.5]],
    "plain + no LRN": [[0.5, 0.5, 0.25], [0.5, 0.75, 0.75]],
    "BN": [[0.5, 0.75, 0.75], [0.25, 0.25, 0.5]],
    "BN + no LRN": [[0.75, 1.0, 0.5], [0.5, 0.5, 0.5]],
}


def test_best_and_final_accuracy_are_told_apart():
    curves = {arm: [[0.0, *curve, 0.5] for curve in found] for arm, found in CURVES.items()}
    runs = made(curves)
    assert runs.best("plain").tolist() == [0.75, 0.5]
    mean = [np.mean([*curve, 0.5]) for curve in CURVES["plain"]]
    np.testing.assert_allclose(runs.final("plain"), mean)
    final = {"of": "final"}
    changed = [np.mean([*curve, 0.5]) for curve in CURVES["plain + no LRN"]]
    np.testing.assert_allclose(runs.effect("plain", "no LRN", **final), np.subtract(changed, mean))
    bn = [
        np.mean([*new, 0.5]) - np.mean([*old, 0.5])
        for new, old in zip(CURVES["BN + no LRN"], CURVES["BN"], strict=True)
    ]
    np.testing.assert_allclose(runs.interaction("no LRN", **final), bn - np.subtract(changed, mean))


def test_steps_to_the_best_of_the_same_seed_and_short_of_it():
    runs = made(CURVES)
    assert runs.steps_to_best("plain").tolist() == [20, 20]
    assert runs.steps_to_best("BN").tolist() == [20, 30]
    assert runs.steps_to_best("plain + no LRN").tolist() == [np.inf, 10]
    assert runs.steps_to_best("plain + no LRN", short=0.25).tolist() == [10, 10]
    assert runs.steps_to_best("plain", target="BN + no LRN").tolist() == [np.inf, 20]


# ---- what is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fewest"),
    [
        ("accelerating", 8),
        ("accelerating_few", 8),
        ("accelerating_digits", 1),
        ("accelerating_rates", 4),
    ],
)
def test_the_stored_results_are_of_several_seeds(name, fewest):
    assert len(book_result(name)[0].seeds) >= fewest


@pytest.mark.parametrize("name", ["accelerating", "accelerating_few", "accelerating_digits"])
def test_the_stored_runs_are_those_that_their_configuration_says(name):
    runs, origin = book_result(name)
    assert runs.arms == tuple(origin.config["arms"])
    assert runs.at.tolist() == recipes.checkpoints(runs.steps).tolist()
    assert runs.steps * runs.batch_size >= 20 * origin.config["trained"]  # passes


def test_another_run_would_be_noticed():
    runs, origin = book_result("accelerating_digits")
    other = origin.config | {"lr": 2 * origin.config["lr"]}
    assert accelerating.same_start(runs, other, "BN", points=1) > 0.02


def test_the_baselines_rate_is_the_best_of_the_stored_sweep():
    sweep, origin = book_result("accelerating_rates")
    mean = sweep.accuracy[sweep.arms.index("plain")].mean(axis=0)
    assert sweep.lr[mean.argmax()] == accelerating.EXPERIMENT.defaults["lr"]
    assert 0 < mean.argmax() < len(mean) - 1
    shared = set(origin.config) & set(accelerating.EXPERIMENT.defaults) - {"seeds", "arms"}
    defaults = accelerating.EXPERIMENT.defaults
    assert {k: origin.config[k] for k in shared} == {k: defaults[k] for k in shared}
    assert not set(origin.seeds) & set(book_result("accelerating")[0].seeds)


def test_without_lrn_the_plain_network_needs_a_smaller_rate_rather_than_lrn():
    sweep, _ = book_result("accelerating_rates")
    plain, changed = (
        sweep.accuracy[sweep.arms.index(arm)].mean(axis=0) for arm in ("plain", "plain + no LRN")
    )
    assert changed.argmax() < plain.argmax()
    assert abs(plain.max() - changed.max()) < 0.02  # each at its own rate
    above = 4 * sweep.lr[plain.argmax()]  # there the baseline still learns
    assert (plain - changed)[sweep.lr == above] > 0.1


def test_with_the_list_and_bn_the_best_rate_is_higher_and_the_range_wider():
    sweep, _ = book_result("accelerating_rates")
    best = dict(zip(sweep.arms, sweep.accuracy.mean(axis=1), strict=True))
    plain, bn, both = best["plain"], best["BN"], best["BN + all, rate x 1"]
    assert sweep.lr[both.argmax()] >= 4 * sweep.lr[plain.argmax()]
    width = [np.ptp(np.log2(sweep.lr[found >= found.max() - 0.02])) for found in (plain, bn, both)]
    assert width[0] < width[1] < width[2]


# ---- what the chapter says about them -------------------------------------------------------------


def points(samples, *, among=1):
    """Return the interval of samples in percentage points; `among` shares the risk of one in twenty."""
    return t_interval(100 * samples, confidence=1 - 0.05 / among)


def fewer(runs, before, after, short=0.0):
    """Return how many times fewer steps, seed by seed; NaN where one of the two does not arrive."""
    a, b = (runs.steps_to_best(arm, short=short) for arm in (before, after))
    return np.where(np.isfinite(a + b), a / b, np.nan)


def test_times_fewer_says_how_many_arrive():
    runs, _ = book_result("accelerating")
    found = accelerating.times_fewer(runs, "plain", "BN")
    assert found == t_interval(fewer(runs, "plain", "BN"), geometric=True)
    assert accelerating.times_fewer(runs, "plain", "plain + all, rate x 1") == "2.00 (7 of 8)"
    assert accelerating.times_fewer(runs, "plain", "BN + all, rate x 30") == "(2 of 8 arrive)"


def test_effects_mark_what_is_sure_for_all_together():
    runs, _ = book_result("accelerating")
    assert accelerating.effects(runs, "no Dropout", count=27) == [
        "1.2 [0.8, 1.7]*",
        "0.8 [0.5, 1.1]*",
        "-0.4 [-1, 0.1]",
    ]
    for change in ("rate x 5", "no LRN"):
        for text, net in zip(
            accelerating.effects(runs, change, count=27), ("plain", "BN"), strict=False
        ):
            among = points(runs.effect(net, change), among=27)
            assert text.endswith("*") == (among.low > 0 or among.high < 0)


def test_the_race_has_a_row_for_each_network():
    runs, _ = book_result("accelerating")
    lines = repr(accelerating.race(runs, {"old": "plain", "new": "BN"}, base="plain")).splitlines()
    assert lines[1].split() == ["old", "6200", "83.7", "[83.2,", "84.2]"]
    assert lines[2].startswith("new      3600   1.61 [1.28, 2.02]")


def test_bn_alone_is_the_smaller_part_of_the_factor():
    runs, _ = book_result("accelerating")
    bn, both = (fewer(runs, "plain", arm) for arm in ("BN", "BN + all"))
    assert t_interval(bn, geometric=True).low > 1
    assert t_interval(both / bn**2, geometric=True).mean > 1  # the rest is more than BN
    assert t_interval(both, geometric=True).low > 2
    assert points(runs.best("BN") - runs.best("plain")).low > 0
    thirty = runs.steps_to_best("BN + all, rate x 30")
    assert np.isfinite(thirty).sum() < len(thirty) / 2


def test_the_list_needs_bn_for_its_higher_rate_and_else_does_the_same_without():
    runs, _ = book_result("accelerating")
    slow = points(runs.interaction("all, rate x 1"))
    assert -1 < slow.low < 0 < slow.high < 1
    assert points(runs.effect("plain", "all, rate x 1")).low > 0
    assert points(runs.effect("BN", "all, rate x 1"), among=27).low > 0
    assert points(runs.interaction("all")).low > 1
    assert points(runs.effect("plain", "all")).high < 0
    assert points(runs.effect("BN", "all"), among=27).low > 0


@pytest.mark.parametrize("change", ["rate x 5", "decay x 6"])
def test_bn_takes_most_of_the_cost_of_a_higher_rate_and_of_a_faster_decay(change):
    runs, _ = book_result("accelerating")
    assert points(runs.effect("plain", change), among=27).high < -1
    assert points(runs.interaction(change), among=27).low > 0
    cost = points(runs.effect("BN", change))
    assert -1 < cost.low < cost.high < 0  # stands, and does not gain


def test_a_faster_decay_reaches_no_target_sooner_that_we_could_tell():
    runs, _ = book_result("accelerating")
    for short in (0.04, 0.02):
        found = t_interval(fewer(runs, "BN", "BN + decay x 6", short), geometric=True)
        assert found.low < 1 < found.high
    assert np.isnan(fewer(runs, "plain", "plain + decay x 6")).all()
    early = fewer(runs, "plain", "plain + decay x 6", 0.04)
    assert t_interval(early, geometric=True).high < 1


def test_a_faster_decay_costs_bn_nothing_at_the_end_that_we_could_tell():
    runs, _ = book_result("accelerating")
    with_bn = points(runs.effect("BN", "decay x 6", of="final"))
    assert -0.5 < with_bn.low < 0 < with_bn.high < 0.5
    assert points(runs.effect("plain", "decay x 6", of="final"), among=27).high < -1


def test_the_share_of_bn_depends_on_the_order_by_less_than_we_could_tell():
    runs, _ = book_result("accelerating")
    names = ("plain", "plain + all, rate x 1", "BN", "BN + all, rate x 1")
    plain, listed, bn, both = (runs.steps_to_best(name) for name in names)
    assert [s for s, t in zip(runs.seeds, listed, strict=True) if np.isinf(t)] == [6]
    ok = np.isfinite(listed)
    whole = np.log(plain / both)[ok]
    first, last = np.log(plain / bn)[ok], np.log(listed / both)[ok]
    assert 0.25 < first.mean() / whole.mean() < 0.35
    assert 0.35 < last.mean() / whole.mean() < 0.5
    apart = t_interval((last - first) / whole)
    assert apart.low < 0 < apart.high


def test_without_dropout_both_nets_are_better_and_bn_by_less_at_the_end():
    runs, _ = book_result("accelerating")
    end = {"of": "final"}
    for net in ("plain", "BN"):
        assert points(runs.effect(net, "no Dropout"), among=27).low > 0
        assert points(runs.effect(net, "no Dropout", **end)).low > 0
    assert points(runs.interaction("no Dropout", **end)).high < 0


@pytest.mark.parametrize(("change", "bound"), [("no LRN", 0.6), ("shuffled", 0.5), ("L2 / 5", 0.5)])
def test_with_bn_three_changes_do_nothing_that_we_can_measure(change, bound):
    runs, _ = book_result("accelerating")
    found = points(runs.effect("BN", change))
    assert -bound < found.low < 0 < found.high < bound


def test_where_images_are_learned_by_heart_dropout_pays_and_bn_does_not_replace_it():
    runs, _ = book_result("accelerating")
    few, _ = book_result("accelerating_few")
    loss = {arm: few.loss[few.arms.index(arm), :, -1] for arm in few.arms}
    end = {"of": "final"}
    for net in ("plain", "BN"):
        assert loss[f"{net} + no Dropout"].max() < 0.1 < 0.15 < loss[net].min()
        assert points(few.effect(net, "no Dropout", **end)).high < 0
    assert points(few.effect("plain", "no Dropout")).high < 0.5  # gains nothing
    assert points(few.effect("BN", "no Dropout")).high < 0
    for found in (runs, few):
        assert found.interaction("no Dropout").mean() < 0
    sides = [
        points(r.interaction("no Dropout", of=of)) for r in (runs, few) for of in ("best", "final")
    ]
    assert [i.high < 0 for i in sides] == [False, True, True, False]  # of the others, each holds 0
    assert all(i.low < 0 for i in sides)


def test_where_images_are_learned_by_heart_only_the_plain_net_needs_its_l2():
    few, _ = book_result("accelerating_few")
    end = {"of": "final"}
    assert points(few.effect("plain", "L2 / 5", **end)).high < 0
    with_bn = points(few.effect("BN", "L2 / 5", **end))
    assert with_bn.low < 0 < with_bn.high
    assert points(few.interaction("L2 / 5", **end)).low > 0


@pytest.mark.parametrize("net", ["plain", "BN"])
def test_the_list_that_helps_with_many_images_harms_with_few(net):
    runs, _ = book_result("accelerating")
    few, _ = book_result("accelerating_few")
    assert points(runs.effect(net, "all, rate x 1")).low > 0
    assert points(few.effect(net, "all, rate x 1")).high < 0


def test_sigmoids_learn_with_bn_and_hardly_without():
    runs, _ = book_result("accelerating")
    assert (runs.best("plain + sigmoid") < 0.5).all()
    relu, sigmoid = (runs.best("BN + all" + end) for end in ("", ", sigmoid"))
    assert points(sigmoid - relu).low > -0.5
    assert t_interval(fewer(runs, "plain", "BN + all, sigmoid"), geometric=True).low > 1


def test_the_papers_table_is_the_papers():
    table = accelerating.paper_table()
    assert (table.steps[:4] / 1e6).tolist() == [31.0, 13.3, 2.1, 2.7]
    assert table.accuracy.tolist() == [72.2, 72.7, 73.0, 74.8, 69.8]
    assert np.isinf(table.steps[4])
