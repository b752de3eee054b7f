"""The networks of Chapter 7: what the prose claims, on fewer seeds and steps."""

import numpy as np
import pytest
import torch
from _book import book_result
from torch import nn

from bnlab import training
from bnlab.chapters.inference_statistics import experiments as experiments
from bnlab.experiments import Provenance, load, save
from bnlab.stats import t_interval

RACES = experiments.RACES


@pytest.fixture(scope="module")
def networks():
    return experiments.train_networks(steps=120, seeds=(0, 1, 2))


def test_training_repeats_bit_for_bit(networks):
    again = experiments.train_networks(steps=120, seeds=(1,))[0]
    for a, b in zip(again.state_dict().values(), networks[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)


class TestRace:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        return experiments.statistics_race(checkpoints=(10, 60), seeds=(0, 1, 2), examples=1000)

    def column(self, result, start):
        return max(k for k, m in enumerate(result.methods) if m.startswith(start))

    def test_torchs_own_running_average_is_the_watcher_of_momentum_01(self, result):
        model = experiments.train_networks(steps=60, seeds=(0,))[0]
        accuracy = training.accuracy(model, experiments._digits()[1])
        assert (
            result.accuracy[0, 1, self.column(result, "running average, momentum 0.1")] == accuracy
        )

    def test_exact_statistics_win_early(self, result):
        exact = result.accuracy[:, 0, self.column(result, "layer by layer")]
        for momentum in ("0.1", "0.01"):
            running = result.accuracy[
                :, 0, self.column(result, f"running average, momentum {momentum}")
            ]
            assert (exact > running + 0.2).all()

    def test_a_small_momentum_is_still_asleep_when_a_large_one_is_awake(self, result):
        large, small = (
            result.accuracy[:, 1, self.column(result, f"running average, momentum {a}")].mean()
            for a in ("0.1", "0.01")
        )
        assert large > small + 0.3

    def test_all_methods_are_on_the_same_weights(self, result):
        one, layers = (
            result.loss[..., self.column(result, m)]
            for m in ("single pass, batches of 500", "layer")
        )
        np.testing.assert_allclose(one, layers, rtol=0.01)
        assert not np.array_equal(one, layers)

    def test_layer_by_layer_small_batches_serve_as_well_as_large_ones(self):
        small = experiments.statistics_race(
            batch_size=4, lr=0.1, checkpoints=(60,), seeds=(0, 1, 2), examples=1000
        )
        single, layers = (
            small.loss[:, 0, small.methods.index(f"{way}, batches of 4")] - small.loss[:, 0, -1]
            for way in ("single pass", "layer by layer")
        )
        assert small.methods[-1] == "layer by layer"
        assert (np.abs(layers) < single / 5).all()

    def test_training_is_not_disturbed_by_the_tests_in_between(self, result):
        late = experiments.statistics_race(checkpoints=(60,), seeds=(0,), examples=1000)
        np.testing.assert_array_equal(late.accuracy[0, 0], result.accuracy[0, 1])

    def test_the_activation_is_the_one_asked_for(self, result):
        relu = experiments.statistics_race(
            activation="relu", checkpoints=(10,), seeds=(0, 1, 2), examples=1000
        )
        gap = [
            r.accuracy[:, 0, self.column(result, "layer")]
            - r.accuracy[:, 0, self.column(result, "running average, momentum 0.1")]
            for r in (relu, result)
        ]
        assert gap[0].mean() < gap[1].mean() - 0.2

    def test_can_be_stored(self, result, tmp_path):
        path = save(result, tmp_path / "race.npz", provenance=Provenance((0,), {}, 1.0))
        assert np.array_equal(load(path)[0].loss, result.loss)


def test_stored_races_say_what_the_chapter_says():
    sigmoid, relu, small = (book_result(f"inference_race_{k}")[0] for k in RACES)
    early = [t_interval(r.accuracy[:, 0, 0] - r.accuracy[:, 0, -1]) for r in (sigmoid, relu)]
    assert early[0].high < early[1].low, "ReLU suffers less from late statistics"
    assert early[1].high < 0
    assert len(sigmoid.seeds) >= 48
    assert not set(sigmoid.seeds) & set(range(16)), "these are the seeds of the page's networks"
    late = t_interval(sigmoid.lead()[:, -1, :2], confidence=1 - 0.05 / 8)
    assert (late.high < 0).all(), "both running averages are behind after 300 steps"
    assert late.low[0] > -0.01, "momentum 0.1 by less than a point"
    single = t_interval(small.loss[:, -1, 2] - small.loss[:, -1, 0])
    assert single.low > 0, "a single pass in batches of 4 is worse than the running average"
    layers = t_interval(small.loss[:, -1, 4] - small.loss[:, -1, 0])
    assert layers.high < 0, "layer by layer is better"


class TestCompanions:
    def test_training_mode_depends_on_the_company(self, networks):
        result = experiments.companions(networks, batch_sizes=(2, 50))
        assert (result.changed[:, 0] > 0.3).all()
        assert (result.changed[:, 1] < 0.2).all()
        assert (result.sorted < 0.4).all()
        assert (result.shuffled[:, 1] > result.shuffled[:, 0] + 0.1).all()

    def test_evaluation_mode_is_the_models_accuracy(self, networks):
        result = experiments.companions(networks, batch_sizes=(100,))
        test = experiments._digits()[1]
        assert result.evaluation.tolist() == [training.accuracy(n, test) for n in networks]

    def test_networks_stay_as_they_were(self, networks):
        before = [{k: v.clone() for k, v in n.state_dict().items()} for n in networks]
        experiments.companions(networks, batch_sizes=(50,))
        experiments.folding(networks)
        experiments.network_gradients(networks)
        for n, state in zip(networks, before, strict=True):
            assert n.training
            assert all(torch.equal(v, state[k]) for k, v in n.state_dict().items())


class TestFolding:
    def test_outputs_are_the_same_to_rounding(self, networks):
        result = experiments.folding(networks)
        assert result.layers == (10, 7)
        assert (result.difference > 0).all()
        assert (result.difference < 1e-5 * result.size).all()
        assert (result.folded_error < 1e-5 * result.size).all()
        assert (result.changed == 0).all()

    def test_a_folded_network_has_no_normalization(self, networks):
        folded = experiments.fold_network(networks[0].eval())
        networks[0].train()
        assert not any(isinstance(m, nn.BatchNorm1d) for m in folded.modules())

    def test_folding_is_more_accurate_where_the_offset_is_large(self):
        result = experiments.fold_offsets(offsets=(1.0, 1e4), seeds=(0, 1, 2))
        assert (result.folded_error < 1e-5).all()
        assert (result.unfolded_error[:, 1] > 100 * result.folded_error[:, 1]).all()
        assert (result.unfolded_error[:, 0] < 1e-5).all()


class TestGradients:
    def test_one_layer_keeps_m_minus_2_of_m_directions(self):
        result = experiments.mode_gradients()
        m = result.batch_sizes
        assert result.output_gap < 1e-11
        interval = t_interval(result.kept)
        half = 2 * (interval.high - interval.mean) + 1e-9
        assert (np.abs(interval.mean - result.kept_theory(m)) < half).all()
        assert result.inside.max() < 1e-5
        assert (result.kept <= 1 + 1e-9).all()

    def test_networks_give_other_gradients_at_the_same_outputs(self, networks):
        result = experiments.network_gradients(networks)
        assert result.layers == ("linear1", "linear2", "linear3", "linear4")
        assert (result.output_gap < 1e-12).all()
        assert (result.difference[:, :3] > 0.3).all()
        assert (result.ratio[:, 1:3] > 1.3).all()
        np.testing.assert_allclose(  # law of cosines
            result.difference**2, 1 + result.ratio**2 - 2 * result.ratio * result.cosine, atol=1e-9
        )
        assert (result.difference[:, 3] < 1e-9).all()  # nothing is normalized after the last layer

    def test_training_mode_has_no_gradient_along_a_units_weights_and_evaluation_mode_has(
        self, networks
    ):
        radial = experiments.network_gradients(networks).radial[:, :3]
        assert (radial[..., 0] < 1e-3).all()
        assert (radial[..., 1] > 1e-2).all()
