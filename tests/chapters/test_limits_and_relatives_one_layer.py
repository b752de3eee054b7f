"""Chapter 12: what one layer shares, keeps and lets through, against what follows from its definition."""

import numpy as np
import pytest
from torch import nn

from bnlab import models
from bnlab import nn as layers
from bnlab.chapters.limits_and_relatives import experiments, one_layer


def test_reach_finds_the_axes_of_each_layer():
    shape = (4, 6, 2, 2)
    found = one_layer.reach(
        {
            "batch": nn.BatchNorm2d(6),
            "ghost": layers.GhostBatchNorm2d(6, 2),
            "layer": nn.LayerNorm((6, 2, 2)),
            "instance": nn.InstanceNorm2d(6),
            "group": nn.GroupNorm(3, 6),
        },
        shape=shape,
    )
    expected = np.zeros((5, 4, 6, 4), dtype=bool)
    expected[0, :, 1] = True
    expected[1, :2, 1] = True
    expected[2, 1] = True
    expected[3, 1, 1] = True
    expected[4, 1, :2] = True
    np.testing.assert_array_equal(found.shares, expected)


def test_two_leave_the_rank_of_a_value_and_many_leave_the_value():
    found = one_layer.leftovers((2, 64), company=4000)
    assert abs(found.mean[0] - found.rank).max() < 0.06
    middle = abs(found.x) < 1
    assert abs(found.mean[1] - found.x)[middle].max() < 0.1
    assert found.std[0].max() > 5 * found.std[1][middle].max()


def test_renormalization_lets_through_no_more_than_batch_norm_and_the_naive_bug_does():
    passed = {}
    for name, layer in (
        ("batch", nn.BatchNorm1d(1, eps=1e-12)),
        ("renorm", layers.BatchRenorm1d(1, eps=1e-12)),
        ("naive", layers.DetachedBatchNorm1d(1, eps=1e-12)),
    ):
        layer.running_mean += 0.3  # so that r and d are not 1 and 0
        layer.running_var *= 2
        passed[name] = np.abs(one_layer.gradient_left(layer))
    assert passed["batch"].max() < 1e-9
    assert passed["renorm"].max() < 1e-9
    assert passed["naive"].min() > 0.01


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(1), layers.BatchRenorm1d(1)])
def test_nothing_passes_a_batch_of_two(layer):
    layer.running_mean += 0.3
    assert one_layer.gradient_size(layer, m=2) < 1e-3
    assert one_layer.gradient_size(layer, m=3) > 0.1


@pytest.mark.parametrize(
    ("norm", "same"), [("none", True), ("layer", True), ("group", True), ("batch", False)]
)
def test_accumulated_parts_are_the_whole_batch_unless_it_shares_statistics(norm, same):
    off = one_layer.split_gradient(lambda seed: experiments.network(norm, seed))
    assert (off < 1e-12) == same
    assert same or off > 0.1


def test_accumulated_parts_are_ghost_batches():
    def ghost(seed):
        norm = lambda units: layers.GhostBatchNorm1d(units, 8)  # noqa: E731
        return models.mlp([196, 64, 64, 10], activation="relu", norm=norm, init_std="he", seed=seed)

    assert one_layer.split_gradient(ghost, parts=8) < 1e-9
    assert one_layer.split_gradient(ghost, parts=16) > 0.1


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.BatchNorm2d(4), (True, True, True)),
        (nn.BatchNorm2d(4).eval(), (False, True, True)),
        (nn.GroupNorm(2, 4), (False, False, False)),
        (nn.RMSNorm((4, 1, 3)), (False, False, True)),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)), (False, True, True)),
    ],
)
def test_a_layer_notices_what_its_statistics_keep(layer, expected):
    assert one_layer.notices(layer) == expected
