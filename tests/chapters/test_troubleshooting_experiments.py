"""The experiments of Chapter 13: faults are planted and mended, recipes are what they say, the case is read."""

import numpy as np
import pytest
import torch
from _book import book_result
from torch import nn

from bnlab import data, inference, training
from bnlab.chapters.troubleshooting import case, experiments, faults, recipes
from bnlab.models import mlp


class TestFaults:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        return faults.evaluation_faults(steps=60, seeds=(50, 51))

    def of(self, result, field, cause):
        return getattr(result, field)[:, result.causes.index(cause)]

    @pytest.mark.parametrize(
        ("cause", "lost"),
        [
            ("momentum 0.001: late", 0.05),
            ("one batch with Inf", 0.5),
            ("one layer left in training mode", 0.2),
            ("other camera", 0.2),
        ],
    )
    def test_a_fault_hurts_and_its_repair_mends(self, result, cause, lost):
        before, after = (self.of(result, field, cause) for field in ("before", "after"))
        assert (after - before > lost).all()
        assert (abs(after - result.healthy) < 0.1).all()

    def test_the_repair_of_statistics_alone_is_that_of_the_same_weights(self, result):
        same = [
            k for k, name in enumerate(result.causes) if name.startswith(("momentum", "one batch"))
        ]
        assert (result.after[:, same] == result.after[:, same[:1]]).all()

    def test_each_fault_that_hurts_is_named(self, result):
        for cause, name in zip(faults.CAUSES, faults.IDS, strict=True):
            if cause not in ("Dropout before the layer", "averaged weights"):
                k = faults.CAUSES.index(cause)
                assert result.found[:, k, faults.IDS.index(name)].all(), cause

    def test_scoring_leaves_the_statistics(self):
        layer = nn.BatchNorm1d(3)
        faults.hits(layer, torch.eye(3), torch.arange(3))
        assert layer.num_batches_tracked == 0

    def test_the_first_seed_is_repeated(self):
        found = faults.repeat(*book_result("troubleshooting_faults"))
        assert found["before"] < 0.02


class TestRecipes:
    def test_after_the_relu_means_after(self):
        model = mlp(recipes.SIZES, activation="relu", norm=nn.BatchNorm1d)
        order = [name for name, _ in recipes._swapped(model).named_children()]
        assert order[:3] == ["linear1", "act1", "norm1"]
        assert order[-1] == "linear4"
        assert len(order) == len(list(model.children()))

    @pytest.mark.parametrize(
        ("recipe", "decays"),
        [
            ("before the ReLU", {0.0}),
            ("decay 0.005 of all", {0.005}),
            ("decay 0.005, not of gamma and beta", {0.005, 0.0}),
        ],
    )
    def test_the_groups_decay_what_the_recipe_says(self, recipe, decays):
        model = mlp((4, 3, 2), norm=nn.BatchNorm1d)
        by_parameter = {
            id(p): group["weight_decay"]
            for group in recipes._groups(model, recipe)
            for p in group["params"]
        }
        assert len(by_parameter) == len(list(model.parameters()))
        assert set(by_parameter.values()) == decays
        if len(decays) == 2:
            assert by_parameter[id(model.norm1.weight)] == 0.0
            assert by_parameter[id(model.linear1.weight)] == 0.005

    def test_each_recipe_ran_at_the_best_rate_of_the_search_inside_its_grid(self):
        search, _ = book_result("troubleshooting_rates")
        trial, _ = book_result("troubleshooting_recipes")
        assert tuple(search.rates[k] for k in search.best) == recipes.BEST == trial.rates
        assert all(0 < k < len(search.rates) - 1 for k in search.best)
        assert len(trial.seeds) >= 16
        assert not set(trial.seeds) & set(search.seeds)

    def test_the_images_of_the_search_are_not_those_of_the_trial(self):
        train, test = data.mnist_5k().split(test=1000, seed=0)
        learned, chosen = train.split(test=1000, seed=1)
        rows = {x.tobytes() for x in test.x}
        assert not any(x.tobytes() in rows for part in (learned, chosen) for x in part.x)


class TestCase:
    def test_a_checkpoint_is_read_as_it_was_written(self):
        model = case.network(3, seed=4).eval()
        x = training.tensors(data.mnist_5k())[0][:5]
        twin = case.read(case.write(model), 3)
        assert torch.equal(twin(x), model(x))
        assert {m.momentum for m in case._norms(twin)} == {0.99}

    @pytest.mark.parametrize("freeze", [True, False])
    def test_fine_tuning_moves_the_last_layer_and_statistics_only_if_awake(self, freeze):
        model = case.network(3)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        case.fine_tune(model, freeze=freeze, seed=0, steps=2)
        moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
        parameters = {k for k in moved if "running" not in k and "num_" not in k}
        assert parameters == {"2.12.weight", "2.12.bias"}
        assert (moved == parameters) == freeze

    def test_the_stored_checkpoint_can_be_mended_and_folded(self):
        stored, _ = book_result("troubleshooting_case")
        model, (few, _) = case.read(stored.checkpoint, stored.width), case.few_images()
        assert len(inference.recalibrate(model, [few])) == 13
        result = inference.fold(model.eval(), few)
        assert (len(result.folded), len(result.left)) == (10, 3)


def test_accumulation_is_exact_without_the_layer_and_not_with_it():
    result = experiments.accumulation(parts=(1, 3), seeds=(7, 8))
    assert (result.without < 1e-12).all()
    assert (result.distance[:, 0] == 0).all()
    assert (result.distance[:, 1] > 0.1).all()
    assert result.updates.tolist() == [1, 3]


class TestOverValid:
    x = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    valid = torch.arange(6) < torch.tensor([[6], [3], [1]])

    def layer(self):
        return nn.BatchNorm1d(4).double()

    def test_what_stands_in_the_padding_does_not_matter(self):
        other = torch.where(self.valid[:, None], self.x, torch.inf)
        one, two = self.layer(), self.layer()
        a, b = (
            experiments.over_valid(one, self.x, self.valid),
            experiments.over_valid(two, other, self.valid),
        )
        assert torch.equal(a, b)
        assert torch.equal(one.running_var, two.running_var)
        assert (a.movedim(1, -1)[~self.valid] == 0).all()

    def test_it_is_the_layer_itself_where_all_is_valid(self):
        everything = torch.ones(3, 6, dtype=torch.bool)
        y = experiments.over_valid(self.layer(), self.x, everything)
        torch.testing.assert_close(y, self.layer()(self.x))

    def test_the_gradient_reaches_valid_positions_only(self):
        x = self.x.clone().requires_grad_()
        experiments.over_valid(self.layer(), x, self.valid).pow(3).sum().backward()
        reached = x.grad.movedim(1, -1) != 0
        assert not reached[~self.valid].any()
        assert reached[self.valid].all()


def test_slips_are_as_large_as_theory_says():
    slips = experiments.handwritten(batch_size=8)
    assert slips["none"] < 1e-12
    largest = 7**0.5  # the largest normalized value of eight
    assert 0.05 < slips["unbiased variance"] <= largest * (1 - (7 / 8) ** 0.5) + 1e-6
    assert slips["momentum reversed"] == pytest.approx(0.8 * 1.858, abs=0.01)
    assert np.isfinite(list(slips.values())).all()
