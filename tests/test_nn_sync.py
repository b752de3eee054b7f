"""Synchronized Batch Normalization: on real processes, whose cases are in _ranks.py, and on one."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import _ranks
import pytest
import torch

from bnlab import inference, nn


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Run all cases on three processes; return the folder with what each said to each case."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-W", "ignore", _ranks.__file__]
    ranks = range(_ranks.WORLD)
    processes = [
        subprocess.Popen([*command, str(rank), str(folder)], stderr=subprocess.PIPE, text=True)
        for rank in ranks
    ]
    try:
        errors = [process.communicate(timeout=100)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * _ranks.WORLD, errors
    return folder


@pytest.mark.parametrize("case", [case.__name__ for case in _ranks.CASES])
def test_on_three_processes(said, case):
    for rank in range(_ranks.WORLD):
        if (case, rank) != ("one_that_dies", 2):
            assert (Path(said) / f"{case}.{rank}").read_text() == "passed"


# ---- one process ----------------------------------------------------------------------------------


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 2), torch.nn.BatchNorm2d(3), torch.nn.Flatten(), nn.BatchNorm1d(48),
        torch.nn.Sequential(nn.SyncBatchNorm(48), nn.GhostBatchNorm1d(48, 2)),
    )  # fmt: skip


IMAGES = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0))


def test_a_single_process_is_plain_batch_normalization():
    for shape in ((6, 3), (4, 3, 5), (4, 3, 2, 2), (2, 3, 2, 2, 2), (2, 3, 1, 2, 1, 2)):
        x = torch.randn(shape)
        expected = torch.nn.functional.batch_norm(x, None, None, training=True)
        torch.testing.assert_close(nn.SyncBatchNorm(3)(x), expected)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.SyncBatchNorm(3)(torch.randn(1, 3))
    with pytest.raises(ValueError, match=r"got 1D input.*reshape\(-1, 1\)"):
        nn.SyncBatchNorm(3)(torch.randn(3))


def test_conversion_keeps_every_object_and_goes_back():
    model = network()
    parts = {name: id(t) for name, t in model.state_dict(keep_vars=True).items()}
    classes = [type(layer) for layer in model.modules()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = copy.deepcopy(model)(IMAGES)
    assert inference.synchronize(model) == ("1", "3")
    assert [type(model[i]) for i in (1, 3)] == [nn.SyncBatchNorm] * 2
    assert type(model[4][1]) is nn.GhostBatchNorm1d
    assert {name: id(t) for name, t in model.state_dict(keep_vars=True).items()} == parts
    torch.testing.assert_close(copy.deepcopy(model)(IMAGES), expected)
    model(IMAGES).pow(3).sum().backward()
    optimizer.step()
    twin = pickle.loads(pickle.dumps(model))
    for it in (model, twin):
        assert inference.desynchronize(it) == ("1", "3")
        assert [type(layer) for layer in it.modules()] == classes
    assert inference.desynchronize(model) == ()
    torch.testing.assert_close(model(IMAGES), twin(IMAGES))


@pytest.mark.parametrize("which", ["layer", "frozen layer"])
def test_a_model_that_is_a_layer_is_converted(which):
    layer = torch.nn.BatchNorm1d(3)
    if which == "frozen layer":
        inference.freeze(layer)
    before = type(layer)
    assert inference.synchronize(layer) == ("",)
    assert isinstance(layer, nn.SyncBatchNorm)
    inference.desynchronize(layer)
    assert type(layer) is before


def test_frozen_layers_stay_frozen_both_ways():
    model = network()
    model(IMAGES)
    expected = copy.deepcopy(model).eval()[:4](IMAGES)
    inference.freeze(model[:4])
    for change in (inference.synchronize, inference.desynchronize):
        assert change(model) == ("1", "3")
        twin = pickle.loads(pickle.dumps(model))
        for it in (model, twin):
            it.train()
            assert [it[1].training, it[3].training, it[4][1].training] == [False, False, True]
            torch.testing.assert_close(it[:4](IMAGES), expected)
    inference.synchronize(model)
    assert inference.unfreeze(model) == ("1", "3")
    assert [type(model[i]) for i in (1, 3)] == [nn.SyncBatchNorm] * 2
    inference.desynchronize(model)
    assert [type(model[i]) for i in (1, 3)] == [torch.nn.BatchNorm2d, nn.BatchNorm1d]


def test_torchs_own_conversion_would_wake_frozen_layers():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    inference.freeze(model)
    with pytest.raises(ValueError, match="would replace frozen layers"):  # so says Frozen
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)


def test_a_layer_that_was_built_synchronized_stays_so():
    model = torch.nn.Sequential(nn.SyncBatchNorm(3))
    assert inference.synchronize(model) == inference.desynchronize(model) == ()
    assert type(model[0]) is nn.SyncBatchNorm


def test_the_tools_of_inference_take_them():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    inference.synchronize(model)
    batches = [torch.randn(6, 2) for _ in range(2)]
    assert inference.recalibrate(model, batches) == ("1",)
    folded = inference.fold(model.eval(), batches[0])
    assert folded.folded == (("0", "1"),)


def test_a_symbolic_trace_keeps_the_layer_as_one_node():
    traced = torch.fx.symbolic_trace(torch.nn.Sequential(nn.SyncBatchNorm(3)))
    assert [n.op for n in traced.graph.nodes].count("call_module") == 1
