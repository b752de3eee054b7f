"""Inference statistics: against reference, against torch's own tools, and against float64 by hand."""

import copy
import math
import os
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from _networks import COPIES, normal, norms, settled
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import fusion, parametrize
from torch.optim.swa_utils import update_bn

import bnlab.nn
from bnlab import inference, reference
from bnlab.nn import DetachedBatchNorm1d


def network(*, dropout=0.0, seed=0, dtype=torch.float32):
    """Two hidden layers whose gamma, beta and running statistics are all away from their defaults."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Sigmoid(), nn.Dropout(dropout),
            nn.Linear(7, 6), nn.BatchNorm1d(6), nn.ReLU(),
            nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3),
        ).to(dtype)  # fmt: skip
        for layer in norms(model):
            nn.init.normal_(layer.weight, 1.0, 0.3)
            nn.init.normal_(layer.bias, 0.0, 0.5)
    return model


def batches(sizes=(8, 8, 8), *, width=5, dtype=torch.float32):
    return [3 * normal(n, width, seed=i, dtype=dtype) + 1 for i, n in enumerate(sizes)]


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def inputs_of(model, layer, data):
    seen = []
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().double()))
    with torch.no_grad():
        for x in data:
            model(x)
    handle.remove()
    return seen


# ---- population_statistics ----------------------------------------------------------------------


class TestPopulationStatistics:
    @pytest.mark.parametrize("shape", [(), (4,), (3, 2), (2, 3, 2)])
    @pytest.mark.parametrize("sizes", [(6, 6, 6), (2, 9, 5)])
    def test_equals_the_reference(self, shape, sizes):
        data = [normal(n, 3, *shape, seed=i, dtype=torch.float64) for i, n in enumerate(sizes)]
        mean, var = inference.population_statistics(iter(data))
        expected = reference.population_statistics([x.numpy() for x in data])
        np.testing.assert_allclose(mean, expected[0], rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(var, expected[1], rtol=1e-13)

    def test_is_algorithm_2_for_equal_batches(self):
        data = batches((6, 6, 6), dtype=torch.float64)
        mean, var = inference.population_statistics(data)
        biased = torch.stack([x.var(dim=0, correction=0) for x in data]).mean(dim=0)
        torch.testing.assert_close(mean, torch.stack([x.mean(dim=0) for x in data]).mean(dim=0))
        torch.testing.assert_close(var, 6 / 5 * biased)

    def test_equals_the_cumulative_average_of_torch_for_equal_batches(self):
        data, layer = batches((6, 6, 6)), nn.BatchNorm1d(5, momentum=None)
        for x in data:
            layer(x)
        mean, var = inference.population_statistics(data)
        torch.testing.assert_close(mean.float(), layer.running_mean)
        torch.testing.assert_close(var.float(), layer.running_var)

    def test_weights_uneven_batches_where_torch_does_not(self):
        data = [torch.tensor([[0.0], [2.0]]), torch.full((6, 1), 10.0)]
        mean, var = inference.population_statistics(data)
        assert mean.tolist() == [7.75]  # (2 * 1 + 6 * 10) / 8
        assert var.tolist() == [pytest.approx(2 / 6)]  # (2 * 1 + 6 * 0) / (1 + 5)

    @pytest.mark.parametrize("shift", [1e4, 1e6])
    def test_a_large_mean_costs_no_digits(self, shift):
        noise = (100 * normal(4, 1000, 2, seed=1)).round()  # whole numbers: the shift loses nothing
        data = list(noise + shift)
        _, var = inference.population_statistics(data)
        _, expected = inference.population_statistics(list(noise))
        torch.testing.assert_close(var, expected, rtol=1e-12, atol=0)

    @given(st.lists(st.integers(2, 9), min_size=1, max_size=5), st.integers(0, 99))
    def test_the_order_of_batches_and_examples_does_not_matter(self, sizes, seed):
        data = [normal(n, 2, seed=seed + i, dtype=torch.float64) for i, n in enumerate(sizes)]
        turned = [x.flip(0) for x in reversed(data)]
        for a, b in zip(*map(inference.population_statistics, (data, turned)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)

    def test_leaves_batches_and_graph_alone(self):
        x = normal(4, 2).requires_grad_()
        before = x.detach().clone()
        mean, _ = inference.population_statistics([x])
        assert not mean.requires_grad
        assert torch.equal(x.detach(), before)

    @pytest.mark.parametrize(
        ("data", "error", "message"),
        [
            (normal(4, 2), TypeError, r"batches is a Tensor; expected an iterable"),
            (7, TypeError, r"batches is a int; expected an iterable"),
            ([], ValueError, "holds no batch"),
            (iter(()), ValueError, "holds no batch"),
            ([np.ones((3, 2))], TypeError, r"batches\[0\] is ndarray"),
            ([torch.ones(3, 2, dtype=torch.int64)], TypeError, r"batches\[0\] is torch.int64"),
            ([torch.ones(3)], ValueError, r"batches\[0\] has shape \(3,\)"),
            ([normal(3, 2), torch.ones(0, 2)], ValueError, r"batches\[1\] has shape \(0, 2\)"),
            ([normal(3, 2), normal(3, 4)], ValueError, r"batches\[1\].*expected 2 features"),
            ([normal(1, 2)], ValueError, r"\(1, 2\), one value a feature"),
            ([torch.tensor([[1.0], [math.nan]])], ValueError, r"batches\[0\] holds 1 NaN or Inf"),
            ([torch.tensor([[1.0], [math.inf]])], ValueError, r"batches\[0\] holds 1 NaN or Inf"),
        ],
    )
    def test_bad_input(self, data, error, message):
        with pytest.raises(error, match=message):
            inference.population_statistics(data)


# ---- recalibrate --------------------------------------------------------------------------------


class TestRecalibrate:
    @pytest.mark.parametrize("sizes", [(8, 8, 8), (3, 12, 5)])
    def test_every_layer_has_the_statistics_of_what_it_meets_at_inference(self, sizes):
        model, data = network(dtype=torch.float64), batches(sizes, dtype=torch.float64)
        assert inference.recalibrate(model, data) == ("1", "5", "8")
        model.eval()
        for layer in norms(model):
            mean, var = reference.population_statistics(
                [x.numpy() for x in inputs_of(model, layer, data)]
            )
            np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(layer.running_var, var, rtol=1e-12)

    def test_a_single_pass_collects_what_layers_meet_in_training(self):
        model, data = network(dtype=torch.float64), batches((3, 12, 5), dtype=torch.float64)
        twin = copy.deepcopy(model).train()
        expected = [
            inference.population_statistics(inputs_of(twin, layer, data)) for layer in norms(twin)
        ]
        assert inference.recalibrate(model, data, sequential=False) == ("1", "5", "8")
        for layer, (mean, var) in zip(norms(model), expected, strict=True):
            torch.testing.assert_close(layer.running_mean, mean, rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(layer.running_var, var, rtol=1e-12, atol=0)

    def test_a_single_pass_equals_update_bn_for_equal_batches_without_dropout(self):
        model, data = network(), batches()
        theirs = copy.deepcopy(model)
        update_bn(data, theirs)
        inference.recalibrate(model, data, sequential=False)
        for ours, layer in zip(norms(model), norms(theirs), strict=True):
            torch.testing.assert_close(ours.running_mean, layer.running_mean)
            torch.testing.assert_close(ours.running_var, layer.running_var)

    def test_the_two_ways_agree_on_the_first_layer_and_differ_after_it(self):
        one, two, data = network(), network(), batches()
        inference.recalibrate(one, data)
        inference.recalibrate(two, data, sequential=False)
        first, second, third = zip(norms(one), norms(two), strict=True)
        assert torch.equal(first[0].running_var, first[1].running_var)
        for a, b in (second, third):
            assert not torch.allclose(a.running_var, b.running_var, rtol=1e-3)

    def test_the_two_ways_agree_when_all_data_is_one_batch_up_to_bessels_factor(self):
        one, two = network(dtype=torch.float64), network(dtype=torch.float64)
        data = batches((4000,), dtype=torch.float64)
        inference.recalibrate(one, data)
        inference.recalibrate(two, data, sequential=False)
        for a, b in zip(norms(one), norms(two), strict=True):
            torch.testing.assert_close(a.running_var, b.running_var, rtol=1e-3, atol=0)

    def test_the_old_statistics_do_not_matter_even_if_they_are_poisoned(self):
        clean, poisoned, data = network(), network(), batches()
        for layer in norms(poisoned):
            layer.running_mean.fill_(math.nan)
            layer.running_var.fill_(math.inf)
        inference.recalibrate(clean, data)
        inference.recalibrate(poisoned, data)
        assert same(state(clean), state(poisoned))

    def test_twice_is_once(self):
        model, data = network(), batches()
        inference.recalibrate(model, data)
        once = state(model)
        inference.recalibrate(model, data)
        assert same(once, state(model))

    def test_dropout_is_off(self):
        plain, dropping, data = network(), network(dropout=0.5), batches()
        inference.recalibrate(plain, data)
        inference.recalibrate(dropping.train(), data)
        assert same(state(plain), state(dropping))

    @pytest.mark.parametrize("momentum", [0.1, 0.9, None])
    @pytest.mark.parametrize("sequential", [True, False])
    def test_leaves_modes_counters_momentum_parameters_and_random_state(self, momentum, sequential):
        model = network(dropout=0.5).train()
        model[0].eval()
        for layer in norms(model):
            layer.momentum = momentum
            layer.num_batches_tracked.fill_(17)
        modes, before = [m.training for m in model.modules()], state(model)
        model.requires_grad_(True)
        randomness = torch.get_rng_state()
        inference.recalibrate(model, batches(), sequential=sequential)
        after = state(model)
        assert [m.training for m in model.modules()] == modes
        assert [layer.momentum for layer in norms(model)] == [momentum] * 3
        changed = {k for k in before if not torch.equal(before[k], after[k])}
        assert {k.split(".")[-1] for k in changed} == {"running_mean", "running_var"}
        assert all(p.grad is None for p in model.parameters())
        assert not any(m._forward_pre_hooks for m in model.modules())
        assert torch.equal(torch.get_rng_state(), randomness)

    def test_runs_without_gradients_and_leaves_gradients_on(self):
        model, seen = network(), []
        model[0].register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
        inference.recalibrate(model, batches())
        assert set(seen) == {False}
        assert len(seen) == 9  # one pass a layer over three batches
        assert torch.is_grad_enabled()

    def test_takes_tuples_lists_and_data_loaders(self):
        data = batches()
        expected = network()
        inference.recalibrate(expected, data)
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(torch.cat(data), torch.zeros(24)), batch_size=8
        )
        for wrapped in ([(x, 0) for x in data], [[x] for x in data], tuple(data), loader):
            model = network()
            inference.recalibrate(model, wrapped)
            assert same(state(model), state(expected))

    @pytest.mark.parametrize(
        ("layer", "shape"),
        [
            (nn.BatchNorm1d(3), (6, 3)),
            (nn.BatchNorm1d(3), (6, 3, 5)),
            (nn.BatchNorm2d(3), (6, 3, 4, 5)),
            (nn.BatchNorm3d(3), (2, 3, 2, 4, 5)),
            (nn.BatchNorm1d(3, affine=False), (6, 3)),
            (DetachedBatchNorm1d(3), (6, 3)),
            (nn.SyncBatchNorm(3), (6, 3)),
        ],
    )
    def test_shapes_and_kinds_of_layers(self, layer, shape):
        data = [normal(*shape, seed=s) for s in range(3)]
        assert inference.recalibrate(layer, data) == ("",)
        mean, var = reference.population_statistics([x.numpy() for x in data])
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer.running_var, var, rtol=1e-5)

    def test_float64_sums_where_float32_would_lose_the_variance(self):
        layer = nn.BatchNorm1d(1)
        data = [torch.tensor([[0.0], [1.0], [2.0], [3.0]]) + 2**22 for _ in range(3)]
        inference.recalibrate(layer, data)
        assert layer.running_var.tolist() == [pytest.approx(5 / 3, rel=1e-6)]

    def test_order_is_that_of_execution_not_of_definition(self):
        class Backwards(nn.Module):
            def __init__(self):
                super().__init__()
                self.last, self.first = nn.BatchNorm1d(5), nn.BatchNorm1d(5)

            def forward(self, x):
                return self.last(torch.relu(self.first(x)))

        model, data = Backwards(), batches()
        assert inference.recalibrate(model, data) == ("first", "last")
        mean, _ = inference.population_statistics(inputs_of(model.eval(), model.last, data))
        torch.testing.assert_close(model.last.running_mean, mean.float())

    def test_a_layer_used_twice_pools_its_inputs(self):
        class Siamese(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = nn.BatchNorm1d(5)

            def forward(self, x):
                return self.norm(x) - self.norm(input=2 * x + 1)

        model, data = Siamese(), batches()
        inference.recalibrate(model, data)
        mean, var = inference.population_statistics([y for x in data for y in (x, 2 * x + 1)])
        torch.testing.assert_close(model.norm.running_mean, mean.float())
        torch.testing.assert_close(model.norm.running_var, var.float())

    def test_layers_that_are_never_reached_or_frozen_stay_and_are_not_listed(self):
        class Partial(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.spare = nn.BatchNorm1d(5), nn.BatchNorm1d(5)
                self.untracked = nn.BatchNorm1d(5, track_running_stats=False)
                self.still = nn.BatchNorm1d(5)

            def forward(self, x):
                return self.still(self.untracked(self.used(x)))

        model = Partial()
        inference.freeze(model.still)
        before = state(model)
        assert inference.recalibrate(model, batches()) == ("used",)
        after = state(model)
        assert {k for k in before if not torch.equal(before[k], after[k])} == {
            "used.running_mean",
            "used.running_var",
        }

    def test_a_generator_does_for_a_single_pass_only(self):
        model, expected = network(), network()
        inference.recalibrate(expected, batches(), sequential=False)
        inference.recalibrate(model, iter(batches()), sequential=False)
        assert same(state(model), state(expected))
        with pytest.raises(TypeError, match=r"read once.*list\(batches\)"):
            inference.recalibrate(model, (x for x in batches()))

    @pytest.mark.parametrize(
        ("data", "error", "message"),
        [
            (normal(4, 5), TypeError, r"batches is a Tensor"),
            ([], ValueError, "holds no batch"),
            ([{"x": normal(4, 5)}], TypeError, r"batches\[0\] is a dict without a tensor"),
            ([()], TypeError, r"batches\[0\] is a tuple without a tensor"),
            (
                [normal(4, 5), normal(1, 5)],
                ValueError,
                r"layer '1' at batches\[1\].*one value a feature",
            ),
            ([normal(0, 5)], ValueError, "or is every batch empty"),
            (
                [normal(4, 5), normal(4, 5) * math.nan],
                ValueError,
                r"layer '1' at batches\[1\] holds 28 NaN",
            ),
        ],
    )
    @pytest.mark.parametrize("sequential", [True, False])
    def test_bad_batches_leave_the_model_as_it_was(self, data, error, message, sequential):
        model = network().train()
        before = state(model)
        with pytest.raises(error, match=message):
            inference.recalibrate(model, data, sequential=sequential)
        assert same(before, state(model))
        assert all(m.training for m in model.modules())
        assert not any(m._forward_pre_hooks for m in model.modules())

    def test_an_error_in_a_late_pass_restores_the_early_layers_too(self):
        model, calls = network(), []

        def fail(*_):
            calls.append(1)
            if len(calls) == 5:  # in the second pass, after the first has stored its statistics
                raise RuntimeError("stop")

        model[0].register_forward_hook(fail)
        before = state(model)
        with pytest.raises(RuntimeError, match="stop"):
            inference.recalibrate(model, batches())
        assert same(before, state(model))

    def test_statistics_that_do_not_fit_are_refused(self):
        layer = nn.BatchNorm1d(1).half()
        with pytest.raises(ValueError, match=r"do not fit its torch.float16"):
            inference.recalibrate(layer, [torch.tensor([[-6e4], [6e4]], dtype=torch.float16)])
        assert layer.running_var.tolist() == [1.0]

    @pytest.mark.parametrize(
        "model",
        [nn.Linear(5, 2), nn.BatchNorm1d(5, track_running_stats=False)],
        ids=["none", "untracked"],
    )
    def test_a_model_without_running_statistics_is_refused(self, model):
        with pytest.raises(ValueError, match="was reached: the model has 0 that could be"):
            inference.recalibrate(model, batches())

    def test_not_a_model(self):
        with pytest.raises(TypeError, match=r"model is a list; expected a torch.nn.Module"):
            inference.recalibrate([nn.BatchNorm1d(2)], batches())


class TestRecalibrateOtherModels:
    class Two(nn.Module):
        """Two inputs, and a head for the rows that a mask selects."""

        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(5), nn.BatchNorm1d(5)

        def forward(self, x, mask=None, shift=0.0):
            y = self.norm(x + shift)
            return y if mask is None else self.head(y[mask])

    def two(self):
        return self.Two().double()

    @pytest.mark.parametrize("sequential", [True, False])
    def test_dicts_and_several_inputs_by_call(self, sequential):
        xs = batches((6, 6, 6), dtype=torch.float64)
        masks = [torch.tensor([1, 1, 1, 0, 1, 0], dtype=torch.bool) for _ in xs]
        dicts = [{"x": x, "mask": m, "shift": 2.0} for x, m in zip(xs, masks, strict=True)]
        tuples = [(x, m, 2.0, "label") for x, m in zip(xs, masks, strict=True)]
        models = self.two(), self.two()
        calls = (lambda m, batch: m(**batch)), (lambda m, batch: m(*batch[:3]))
        for model, data, call in zip(models, (dicts, tuples), calls, strict=True):
            found = inference.recalibrate(model, data, call=call, sequential=sequential)
            assert found == ("norm", "head")
        assert same(*map(state, models))
        mean, _ = inference.population_statistics([x + 2.0 for x in xs])
        torch.testing.assert_close(models[0].norm.running_mean, mean)

    @pytest.mark.parametrize("sequential", [True, False])
    def test_a_batch_in_which_a_head_gets_no_rows_does_not_count_for_it(self, sequential):
        xs = batches((6, 6, 6), dtype=torch.float64)
        masks = [torch.zeros(6, dtype=torch.bool), torch.ones(6, dtype=torch.bool)] * 2
        data = list(zip(xs, masks, strict=False))
        model, twin = self.two(), self.two()
        call = lambda m, batch: m(*batch)  # noqa: E731
        assert inference.recalibrate(model, data, call=call, sequential=sequential) == (
            "norm", "head"
        )  # fmt: skip
        inference.recalibrate(twin, xs, sequential=sequential)
        assert torch.equal(model.norm.running_var, twin.norm.running_var)
        head = twin.eval().norm if sequential else nn.BatchNorm1d(5).double()
        mean, var = inference.population_statistics([head(xs[1]).detach()])
        torch.testing.assert_close(model.head.running_mean, mean)
        torch.testing.assert_close(model.head.running_var, var)

    def test_a_head_that_never_gets_rows_stays(self):
        model = self.two()
        model.head.running_mean.fill_(3.0)
        data = [(x, torch.zeros(len(x), dtype=torch.bool)) for x in batches(dtype=torch.float64)]
        assert inference.recalibrate(model, data, call=lambda m, b: m(*b)) == ("norm",)
        assert model.head.running_mean.tolist() == [3.0] * 5
        assert model.head.running_var.tolist() == [1.0] * 5

    @pytest.mark.parametrize("before", ["nothing", "train", "eval", "mixed", "the same"])
    @pytest.mark.parametrize("sequential", [True, False])
    def test_a_compiled_model(self, before, sequential):
        data, expected = batches(), network()
        inference.recalibrate(expected, data, sequential=sequential)
        model = network()
        graphs = []

        def backend(graph, _):
            graphs.append(graph)
            return graph.forward

        compiled = torch.compile(model, backend=backend)
        if before != "nothing":
            compiled.train(before in ("train", "mixed"))
            for layer in norms(model)[1:] if before == "mixed" else norms(model):
                layer.training = before in ("train", "the same")  # the latter as recalibrate will
            with torch.no_grad():
                compiled(data[0])  # a graph is cached that knows nothing of the hooks to come
            model.load_state_dict(network().state_dict())
        known = len(graphs)
        names = inference.recalibrate(compiled, data, sequential=sequential)
        assert len(graphs) == known  # it ran as it was written
        assert names == ("_orig_mod.1", "_orig_mod.5", "_orig_mod.8")
        assert same(state(model), state(expected))
        torch.testing.assert_close(compiled.eval()(data[0]), expected.eval()(data[0]))

    def test_a_model_compiled_in_place_and_a_compiled_part(self):
        data, expected = batches(), network()
        inference.recalibrate(expected, data)
        whole, parted = network(), network()
        whole.compile(backend="eager")
        parted[5] = torch.compile(parted[5], backend="eager")
        for model in (whole, parted):
            with torch.no_grad():
                model.eval()(data[0])
            inference.recalibrate(model, data)
            values = [v for k, v in state(model).items()]
            assert all(map(torch.equal, values, state(expected).values()))

    def test_every_buffer_is_restored_after_an_error_and_the_others_also_without(self):
        class Counting(nn.Module):
            def __init__(self, stop):
                super().__init__()
                self.norm, self.stop = nn.BatchNorm1d(5), stop
                self.register_buffer("calls", torch.zeros(()))

            def forward(self, x):
                self.calls = self.calls + 1
                if self.calls == self.stop:
                    raise RuntimeError("stop")
                return self.norm(x)

        for stop in (2, 99):
            model = Counting(stop)
            held, before = model.calls, state(model)
            if stop == 2:
                with pytest.raises(RuntimeError, match="stop"):
                    inference.recalibrate(model, batches())
                assert same(before, state(model))
            else:
                inference.recalibrate(model, batches())
                assert model.norm.running_mean.abs().min() > 0
            assert model.calls is held
            assert model.calls == 0
            assert model.training

    def test_an_error_of_the_loader_restores_too(self):
        def loader():
            yield from batches()
            raise OSError("disk")

        model = network()
        before = state(model)
        with pytest.raises(OSError, match="disk"):
            inference.recalibrate(model, loader(), sequential=False)
        assert same(before, state(model))
        assert not any(m._forward_pre_hooks for m in model.modules())

    def test_a_wrapped_model(self):
        data, expected = batches(), network()
        inference.recalibrate(expected, data)
        model = nn.DataParallel(network())
        assert inference.recalibrate(model, data) == ("module.1", "module.5", "module.8")
        assert same(state(model.module), state(expected))


RANK = """
import sys
import torch
from torch import distributed, nn
from bnlab import inference
from test_inference import batches, network, state

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
for kind in ("plain", "sync", "ddp", "error"):
    model, data = network(dtype=torch.float64), batches((8, 3, 5, 7, 4), dtype=torch.float64)
    if kind == "sync":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if kind == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    if kind == "error" and rank == 1:
        data = [x * float("nan") for x in data]
    try:
        names = inference.recalibrate(model, data[:2] if rank == 0 else data[2:])
        torch.save((names, state(model)), f"{folder}/{kind}{rank}")
    except Exception as error:
        torch.save(repr(error), f"{folder}/{kind}{rank}")
distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Return a folder with what two ranks found, that have two and three of the batches."""
    folder = tmp_path_factory.mktemp("ranks")
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(folder)],
            env=os.environ | {"PYTHONPATH": paths},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=200) for process in started] == [0, 0]
    return folder


@pytest.mark.parametrize("kind", ["plain", "sync", "ddp"])
def test_ranks_pool_their_shares_of_the_batches(kind, ranks):
    one, two = (torch.load(ranks / f"{kind}{rank}") for rank in range(2))
    alone = network(dtype=torch.float64)
    names = inference.recalibrate(alone, batches((8, 3, 5, 7, 4), dtype=torch.float64))
    assert [name.removeprefix("module.") for name in one[0]] == list(names)
    assert same(one[1], two[1])
    for a, b in zip(one[1].values(), state(alone).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_an_error_on_one_rank_stops_all(ranks):
    one, two = (torch.load(ranks / f"error{rank}") for rank in range(2))
    assert one.startswith("RuntimeError(")
    assert "recalibrate failed on rank 1: ValueError(" in one
    assert two.startswith("ValueError(")


# ---- folding ------------------------------------------------------------------------------------


CONVOLUTIONS = [
    (nn.Conv1d, nn.BatchNorm1d, (2, 4, 9), {"padding": 1, "stride": 2}),
    (nn.Conv2d, nn.BatchNorm2d, (2, 4, 7, 8), {"padding": "same", "dilation": 2}),
    (
        nn.Conv2d,
        nn.BatchNorm2d,
        (2, 4, 7, 8),
        {"groups": 2, "padding_mode": "reflect", "padding": 1},
    ),
    (nn.Conv2d, nn.BatchNorm2d, (2, 4, 7, 8), {"groups": 4}),
    (nn.Conv3d, nn.BatchNorm3d, (2, 4, 5, 4, 6), {"padding": (0, 1, 2)}),
    (nn.ConvTranspose1d, nn.BatchNorm1d, (2, 4, 9), {"stride": 3, "output_padding": 1}),
    (nn.ConvTranspose2d, nn.BatchNorm2d, (2, 4, 5, 6), {"groups": 2, "stride": (2, 1)}),
    (nn.ConvTranspose3d, nn.BatchNorm3d, (2, 4, 3, 4, 3), {"groups": 4, "dilation": 2}),
]


class TestFold:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("affine", [True, False])
    def test_linear_by_hand_in_float64(self, bias, affine):
        linear, bn = nn.Linear(6, 4, bias=bias), settled(nn.BatchNorm1d(4, affine=affine))
        folded = inference.fold_linear(linear, bn)
        scale = 1 / np.sqrt(bn.running_var.double().numpy() + bn.eps)
        scale = scale * (bn.weight.detach().double().numpy() if affine else 1)
        weight = linear.weight.detach().double().numpy() * scale[:, None]
        b = linear.bias.detach().double().numpy() if bias else 0.0
        shift = (b - bn.running_mean.double().numpy()) * scale
        shift = shift + (bn.bias.detach().double().numpy() if affine else 0)
        np.testing.assert_array_equal(folded.weight.detach(), weight.astype(np.float32))
        np.testing.assert_allclose(folded.bias.detach(), shift, rtol=1e-7)

    @pytest.mark.parametrize("bias", [True, False])
    def test_linear_equals_the_pair_and_torchs_own_fusion(self, bias):
        linear, bn = nn.Linear(6, 4, bias=bias).eval(), settled(nn.BatchNorm1d(4))
        folded, x = inference.fold_linear(linear, bn), normal(20, 6)
        torch.testing.assert_close(folded(x), bn(linear(x)), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(folded(x), fusion.fuse_linear_bn_eval(linear, bn)(x))

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize(("conv", "norm", "shape", "options"), CONVOLUTIONS)
    def test_conv_equals_the_pair(self, conv, norm, shape, options, bias):
        layer = conv(4, 8, 3, bias=bias, **options).double()
        bn = settled(norm(8).double())
        folded, x = inference.fold_conv(layer, bn), normal(*shape, dtype=torch.float64)
        torch.testing.assert_close(folded(x), bn(layer(x)), rtol=1e-12, atol=1e-12)
        assert type(folded) is conv
        assert folded.bias is not None

    @pytest.mark.parametrize(
        ("conv", "norm", "shape", "options"),
        # Torch's fusion fails on a transposed convolution with groups.
        [c for c in CONVOLUTIONS if not (c[0].__name__.startswith("ConvT") and "groups" in c[3])],
    )
    def test_conv_equals_torchs_own_fusion(self, conv, norm, shape, options):
        layer, bn = conv(4, 8, 3, **options).eval(), settled(norm(8))
        theirs = fusion.fuse_conv_bn_eval(layer, bn, transpose=layer.transposed)
        ours = inference.fold_conv(layer, bn)
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-5, atol=1e-6)

    def test_a_norm_without_its_own_bias(self):
        bn = settled(nn.BatchNorm1d(4))
        bn.register_parameter("bias", None)
        linear, x = nn.Linear(6, 4), normal(9, 6)
        torch.testing.assert_close(
            inference.fold_linear(linear, bn)(x), bn(linear(x)), rtol=1e-5, atol=1e-5
        )

    def test_a_frozen_norm_folds_in_training_too(self):
        pair = nn.Sequential(nn.Linear(6, 4), settled(nn.BatchNorm1d(4)))
        inference.freeze(pair)
        folded, x = inference.fold_linear(*pair.train()), normal(9, 6)
        torch.testing.assert_close(folded(x), pair(x), rtol=1e-5, atol=1e-5)

    def test_inputs_are_untouched_and_nothing_is_shared(self):
        linear, bn = nn.Linear(6, 4), settled(nn.BatchNorm1d(4))
        before, randomness = (state(linear), state(bn)), torch.get_rng_state()
        folded = inference.fold_linear(linear, bn)
        with torch.no_grad():
            for p in folded.parameters():
                p.fill_(7)
        assert same(state(linear), before[0])
        assert same(state(bn), before[1])
        assert torch.equal(torch.get_rng_state(), randomness)

    def test_keeps_dtype_mode_and_what_is_trained(self):
        linear, bn = nn.Linear(6, 4).to(torch.bfloat16).eval(), settled(nn.BatchNorm1d(4))
        linear.weight.requires_grad_(False)
        folded = inference.fold_linear(linear, bn)
        assert folded.weight.dtype == folded.bias.dtype == torch.bfloat16
        assert not folded.training
        assert not folded.weight.requires_grad
        assert inference.fold_linear(nn.Linear(6, 4), bn).weight.is_leaf

    def test_rounds_once_where_float32_arithmetic_would_cancel(self):
        linear, bn = nn.Linear(1, 1), nn.BatchNorm1d(1, eps=0.0).eval()
        with torch.no_grad():
            linear.bias.fill_(16777216.0)
            bn.running_mean.fill_(16777214.0)
            bn.bias.fill_(0.25)
            bn.weight.fill_(1 / 3)
        exact = 2 * float(torch.tensor(1 / 3)) + 0.25
        assert inference.fold_linear(linear, bn).bias.item() == pytest.approx(exact, rel=1e-7)

    @pytest.mark.parametrize("fold", ["fold_linear", "fold_conv"])
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda bn: bn.train(), ValueError, "bn is in training mode.*model.eval"),
            (
                lambda bn: type(bn)(4, track_running_stats=False).eval(),
                ValueError,
                "no running statistics",
            ),
            (lambda bn: type(bn)(5).eval(), ValueError, "bn has 5 features; expected 4"),
            (lambda bn: nn.LayerNorm(4), TypeError, "bn is a LayerNorm"),
            (lambda bn: bn.running_var.fill_(math.nan), ValueError, "NaN or Inf"),
            (lambda bn: bn.running_var.fill_(-1), ValueError, "NaN or Inf"),
        ],
    )
    def test_bad_norms(self, fold, change, error, message):
        layer, kind = {
            "fold_linear": (nn.Linear(3, 4), nn.BatchNorm1d),
            "fold_conv": (nn.Conv2d(3, 4, 3), nn.BatchNorm2d),
        }[fold]
        bn = settled(kind(4))
        changed = change(bn)
        bn = changed if isinstance(changed, nn.Module) else bn
        with pytest.raises(error, match=message):
            getattr(inference, fold)(layer, bn)

    @pytest.mark.parametrize(
        ("fold", "layer", "bn"),
        [
            ("fold_linear", nn.Linear(3, 4), nn.BatchNorm2d(4)),
            ("fold_conv", nn.Conv2d(3, 4, 3), nn.BatchNorm1d(4)),
            ("fold_conv", nn.Conv1d(3, 4, 3), nn.BatchNorm2d(4)),
            ("fold_conv", nn.ConvTranspose3d(3, 4, 3), nn.BatchNorm2d(4)),
        ],
    )
    def test_a_norm_that_could_not_follow_is_refused(self, fold, layer, bn):
        with pytest.raises(
            TypeError, match=r"expected a BatchNorm\dd, because that is what can follow"
        ):
            getattr(inference, fold)(layer, bn.eval())

    def test_a_synchronized_norm_follows_layers_of_any_rank(self):
        for layer in (nn.Conv1d(3, 4, 3), nn.Conv2d(3, 4, 3)):
            assert inference.fold_conv(layer, settled(nn.SyncBatchNorm(4))).bias is not None

    def test_a_variance_of_zero_without_eps_is_refused(self):
        bn = nn.BatchNorm1d(4, eps=0.0).eval()
        bn.running_var.zero_()
        with pytest.raises(ValueError, match="running_var of 0"):
            inference.fold_linear(nn.Linear(3, 4), bn)

    def test_other_layers_are_refused(self):
        class PaddedConv(nn.Conv2d):
            def forward(self, x):
                return super().forward(nn.functional.pad(x, (1, 1, 1, 1), value=1.0))

        bn = settled(nn.BatchNorm2d(4))
        with pytest.raises(TypeError, match=r"linear is a Conv2d; expected Linear.*fold_conv"):
            inference.fold_linear(nn.Conv2d(3, 4, 3), bn)
        with pytest.raises(TypeError, match=r"conv is a Linear.*fold_linear"):
            inference.fold_conv(nn.Linear(3, 4), bn)
        with pytest.raises(TypeError, match=r"PaddedConv.*its own forward pass"):
            inference.fold_conv(PaddedConv(3, 4, 3), bn)


# ---- freezing -----------------------------------------------------------------------------------


class TestFreeze:
    def frozen(self):
        model = network()
        for layer in norms(model):
            settled(layer)
        assert inference.freeze(model) == ("1", "5", "8")
        return model

    def test_training_mode_does_not_wake_it(self):
        model, x = self.frozen(), batches()[0]
        expected, before = model.eval()(x), state(model)
        model.train()
        for _ in range(3):
            assert torch.equal(model(x), expected)
        assert same(before, state(model))
        assert not any(layer.training for layer in norms(model))
        assert model[0].training

    @pytest.mark.parametrize("way", COPIES)
    def test_survives_copies(self, way):
        model, x = self.frozen(), batches()[0]
        twin = COPIES[way](model)
        assert torch.equal(twin.train()(x), model.train()(x))
        assert [type(layer).__name__ for layer in norms(twin)] == ["FrozenBatchNorm1d"] * 3
        twin[1].running_mean.add_(1)
        assert not torch.equal(twin(x), model(x))

    def test_state_dicts_load_both_ways(self):
        model, plain, x = self.frozen(), network(seed=9), batches()[0]
        plain.load_state_dict(model.state_dict())
        assert torch.equal(plain.eval()(x), model(x))
        model.load_state_dict(network(seed=5).state_dict())
        assert not torch.equal(plain(x), model(x))

    def test_parameters_stay_the_same_objects_and_keep_learning(self):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        inference.freeze(model)
        before = model[1].weight.detach().clone()
        model.train()(batches()[0]).square().mean().backward()
        optimizer.step()
        assert not torch.equal(model[1].weight, before)

    def test_affine_stops_gamma_and_beta_only(self):
        model = network()
        inference.freeze(model, affine=True)
        assert [p.requires_grad for p in model[1].parameters()] == [False, False]
        assert model[0].weight.requires_grad
        inference.unfreeze(model, affine=True)
        assert all(p.requires_grad for p in model.parameters())

    def test_the_gradient_is_that_of_an_affine_map(self):
        layer = settled(nn.BatchNorm1d(3).double())
        inference.freeze(layer)
        x = normal(6, 3, dtype=torch.float64).requires_grad_()
        dy = normal(6, 3, seed=1, dtype=torch.float64)
        layer.train()(x).backward(dy)
        scale = layer.weight.detach() / (layer.running_var + layer.eps).sqrt()
        torch.testing.assert_close(x.grad, dy * scale)

    def test_unfreeze_restores_class_and_mode(self):
        model, x = self.frozen(), batches()[0]
        model.train()
        assert inference.unfreeze(model) == ("1", "5", "8")
        assert all(type(layer) is nn.BatchNorm1d and layer.training for layer in norms(model))
        before = model[1].running_mean.clone()
        model(x)
        assert not torch.equal(model[1].running_mean, before)
        assert inference.unfreeze(model) == ()

    def test_twice_is_once(self):
        model = self.frozen()
        kind = type(model[1])
        inference.freeze(model)
        assert type(model[1]) is kind
        inference.unfreeze(model)
        assert type(model[1]) is nn.BatchNorm1d

    @pytest.mark.parametrize(
        "layer", [nn.BatchNorm2d(3), nn.SyncBatchNorm(3), DetachedBatchNorm1d(3)]
    )
    def test_a_layer_alone_and_of_any_kind(self, layer):
        kind = type(layer)
        assert inference.freeze(layer) == ("",)
        assert isinstance(layer, kind)
        assert not layer.train().training
        assert type(pickle.loads(pickle.dumps(layer))) is type(layer)

    def test_torch_fx_takes_a_frozen_layer_for_one_of_torchs(self):
        traced = torch.fx.symbolic_trace(self.frozen())
        assert {n.target for n in traced.graph.nodes if n.op == "call_module"} >= {"1", "5", "8"}

    @pytest.mark.parametrize(
        ("model", "error", "message"),
        [
            (nn.Linear(2, 2), ValueError, "no Batch Normalization layer"),
            (
                nn.BatchNorm1d(2, track_running_stats=False),
                ValueError,
                "layer '' has no running statistics",
            ),
            ("model", TypeError, "model is a str"),
        ],
    )
    def test_bad_models(self, model, error, message):
        with pytest.raises(error, match=message):
            inference.freeze(model)

    def test_a_refused_model_is_left_alone(self):
        model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False))
        with pytest.raises(ValueError, match="layer '1'"):
            inference.freeze(model)
        assert type(model[0]) is nn.BatchNorm1d


class TestFreezeOddities:
    def test_a_lazy_layer_is_refused_until_it_has_run(self):
        model = nn.Sequential(nn.Linear(5, 3), nn.LazyBatchNorm1d())
        with pytest.raises(
            ValueError, match=r"layer '1' is a LazyBatchNorm1d that has not run yet"
        ):
            inference.freeze(model)
        model(normal(4, 5))
        assert inference.freeze(model) == ("1",)
        assert type(model[1]).__name__ == "FrozenBatchNorm1d"

    def test_conversion_to_synchronized_layers_is_refused_and_not_dropped(self):
        model = network()
        inference.freeze(model[1])
        with pytest.raises(ValueError, match=r"frozen layers.*before bnlab\.inference\.freeze"):
            nn.SyncBatchNorm.convert_sync_batchnorm(model)
        assert type(model[1]).__name__ == "FrozenBatchNorm1d"
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(network())
        assert inference.freeze(converted) == ("1", "5", "8")
        assert inference.check_frozen(converted) == ()

    def test_quantization_can_still_set_its_qconfig(self):
        layer = nn.BatchNorm2d(3)
        inference.freeze(layer)
        assert not hasattr(layer, "qconfig")
        layer.qconfig = "mine"
        assert layer.qconfig == copy.deepcopy(layer).qconfig == "mine"

    @pytest.mark.parametrize("first", ["freeze", "parametrize"])
    def test_a_parametrized_layer_can_be_frozen_unfrozen_and_relieved(self, first):
        class Double(nn.Module):
            def forward(self, w):
                return 2 * w

        layer, x = settled(nn.BatchNorm1d(5)), normal(4, 5)
        steps = {
            "freeze": lambda: inference.freeze(layer),
            "parametrize": lambda: parametrize.register_parametrization(layer, "weight", Double()),
        }
        for name in (first, *(steps.keys() - {first})):
            steps[name]()
        expected = layer.eval()(x)
        assert torch.equal(layer.train()(x), expected)
        assert torch.equal(copy.deepcopy(layer).train()(x), expected)
        assert inference.check_frozen(layer) == ()
        assert inference.unfreeze(layer) == ("",)
        assert layer.train().training
        assert type(layer).__name__ == "ParametrizedBatchNorm1d"
        inference.freeze(layer)
        parametrize.remove_parametrizations(layer, "weight")
        assert type(layer).__name__ == "FrozenBatchNorm1d"
        assert torch.equal(layer.train()(x), expected)
        inference.unfreeze(layer)
        assert type(layer) is nn.BatchNorm1d


class TestCheckFrozen:
    def test_layers_that_are_only_in_evaluation_mode_would_wake(self):
        model = network().eval()
        inference.freeze(model[1])
        before = [m.training for m in model.modules()]
        assert inference.check_frozen(model) == ("5", "8")
        assert [m.training for m in model.modules()] == before
        inference.freeze(model)
        assert inference.check_frozen(model) == ()
        inference.unfreeze(model[5])
        assert inference.check_frozen(model) == ("5",)

    def test_a_class_that_overrides_train_is_asked(self):
        class Backbone(nn.Sequential):
            def train(self, mode=True):
                super().train(mode)
                self[0].eval()
                return self

        model = Backbone(nn.BatchNorm1d(5), nn.BatchNorm1d(5))
        assert inference.check_frozen(model) == ("1",)

    def test_a_layer_without_running_statistics_is_never_fixed(self):
        assert inference.check_frozen(nn.BatchNorm1d(5, track_running_stats=False)) == ("",)
        assert inference.check_frozen(nn.Linear(2, 2)) == ()
        with pytest.raises(TypeError, match="model is a int"):
            inference.check_frozen(3)


class TestSwap:
    KINDS = (
        (nn.BatchNorm1d, bnlab.nn.BatchNorm1d),
        (nn.BatchNorm2d, bnlab.nn.BatchNorm2d),
        (nn.BatchNorm3d, bnlab.nn.BatchNorm3d),
        (nn.SyncBatchNorm, bnlab.nn.SyncBatchNorm),
    )

    @pytest.mark.parametrize(("theirs", "ours"), KINDS)
    def test_there_and_back(self, theirs, ours):
        model = nn.Sequential(theirs(3), nn.Identity())
        settled(model)
        weight, before = model[0].weight, state(model)
        assert inference.swap(model, to="bnlab") == ("0",)
        assert type(model[0]) is ours
        assert inference.swap(model, to="bnlab") == ()
        assert inference.swap(model, to="torch") == ("0",)
        assert type(model[0]) is theirs
        assert model[0].weight is weight
        assert same(before, state(model))
        assert not model[0].training

    def test_others_stay_frozen_ones_stay_frozen_and_parametrized_ones_parametrized(self):
        model = nn.Sequential(
            DetachedBatchNorm1d(3), nn.GroupNorm(1, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        )
        inference.freeze(model[2])
        parametrize.register_parametrization(model[3], "weight", nn.Identity())
        assert inference.swap(model, to="bnlab") == ("2", "3")
        assert type(model[0]) is DetachedBatchNorm1d
        assert isinstance(model[2], bnlab.nn.BatchNorm1d)
        assert not model.train()[2].training
        parametrize.remove_parametrizations(model[3], "weight")
        inference.unfreeze(model)
        assert type(model[2]) is type(model[3]) is bnlab.nn.BatchNorm1d

    def pair(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), bnlab.nn.BatchNorm2d(4), nn.ReLU())
        return settled(model), normal(2, 3, 6, 6)

    @pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
    def test_torch_fx_fuses_it_afterwards(self):
        from torch.fx.experimental import optimization

        model, x = self.pair()
        expected = model(x)
        assert len(norms(optimization.fuse(model))) == 1  # it asks for exact types
        inference.swap(model, to="torch")
        fused = optimization.fuse(model)
        assert norms(fused) == []
        torch.testing.assert_close(fused(x), expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_torchs_quantization_fuses_it_afterwards(self):
        model, x = self.pair()
        expected, names = model(x), [["0", "1", "2"]]
        with pytest.raises(AssertionError, match="did not find fuser method"):
            torch.ao.quantization.fuse_modules(model, names)
        inference.swap(model, to="torch")
        fused = torch.ao.quantization.fuse_modules(model, names)
        assert norms(fused) == []
        torch.testing.assert_close(fused(x), expected, rtol=1e-5, atol=1e-5)

    def test_bad_input_changes_nothing(self):
        model = nn.Sequential(nn.BatchNorm1d(3), nn.LazyBatchNorm1d())
        with pytest.raises(ValueError, match=r"to is 'keras'; expected 'torch' or 'bnlab'"):
            inference.swap(model, to="keras")
        with pytest.raises(ValueError, match=r"layer '1' is a LazyBatchNorm1d"):
            inference.swap(model, to="bnlab")
        assert type(model[0]) is nn.BatchNorm1d


# ---- other frameworks -----------------------------------------------------------------------------


ARRAYS = {
    "keras": ("gamma", "beta", "moving_mean", "moving_variance"),
    "tensorflow": ("bn/gamma:0", "bn/beta:0", "bn/moving_mean:0", "bn/moving_variance:0"),
    "flax": ("scale", "bias", "mean", "var"),
    "paddle": ("bn1.weight", "bn1.bias", "bn1._mean", "bn1._variance"),
    "mxnet": ("net_gamma", "net_beta", "net_running_mean", "net_running_var"),
    "onnx": ("scale", "B", "input_mean", "input_var"),
    "torch": ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"),
}
DEFAULTS = {
    "keras": (1e-3, 0.01), "tensorflow": (1e-3, 0.01), "flax": (1e-5, 0.01), "paddle": (1e-5, 0.1),
    "mxnet": (1e-5, 0.1), "onnx": (1e-5, 0.1), "torch": (1e-5, 0.1),
}  # fmt: skip


class TestConvert:
    def arrays(self, source):
        values = [[2.0, 3.0], [0.5, -1.0], [4.0, -2.0], [0.25, 9.0]]
        return {k: np.array(v) for k, v in zip(ARRAYS[source], values, strict=True)}

    @pytest.mark.parametrize("source", ARRAYS)
    def test_names_and_defaults_of_each_framework(self, source):
        layer = inference.convert(self.arrays(source), source=source, kind=nn.BatchNorm1d)
        assert type(layer) is nn.BatchNorm1d
        assert not layer.training
        assert (layer.eps, layer.momentum) == DEFAULTS[source]
        assert layer.weight.tolist() == [2.0, 3.0]
        assert layer.bias.tolist() == [0.5, -1.0]
        assert layer.running_mean.tolist() == [4.0, -2.0]
        assert layer.running_var.tolist() == [0.25, 9.0]
        assert layer.weight.dtype == torch.float32

    def test_settings_in_the_convention_of_the_framework(self):
        layer = inference.convert(
            self.arrays("keras"), source="keras", eps=0.5, momentum=np.float32(0.9)
        )
        assert (layer.eps, layer.momentum, type(layer)) == (0.5, 0.1, nn.BatchNorm2d)

    def test_gamma_and_beta_may_be_missing_and_other_entries_present(self):
        arrays = self.arrays("paddle")
        del arrays["bn1.weight"], arrays["bn1.bias"]
        arrays["bn1.num_batches_tracked"] = np.array(7)
        layer = inference.convert(arrays, source="paddle")
        assert layer.weight.tolist() == [1.0, 1.0]
        assert layer.bias.tolist() == [0.0, 0.0]

    def test_tensors_are_arrays_too(self):
        arrays = {k: torch.tensor(v, requires_grad=True) for k, v in self.arrays("torch").items()}
        layer = inference.convert(arrays, source="torch", kind=bnlab.nn.BatchNorm3d)
        assert layer.running_var.tolist() == [0.25, 9.0]
        assert layer.weight.is_leaf

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"source": "kears"}, ValueError, r"source is 'kears'.*Did you mean 'keras'"),
            (
                {"moving_mean": None},
                KeyError,
                "no running_mean for keras, there called moving_mean",
            ),
            ({"b/moving_mean": np.ones(2)}, ValueError, "as moving_mean and as b/moving_mean"),
            ({"gamma": np.ones(3)}, ValueError, r"weight has shape \(3,\); expected \(2,\)"),
            ({"moving_variance": np.array([1.0, -1.0])}, ValueError, "running_var is negative"),
            ({"beta": np.array([1.0, np.nan])}, ValueError, "bias contains 1 NaN"),
            ({"eps": -1}, ValueError, "eps is -1"),
            ({"momentum": 1.5}, ValueError, "value is 1.5"),
        ],
    )
    def test_bad_input(self, change, error, message):
        options = {"source": "keras"} | {
            k: v for k, v in change.items() if k in ("source", "eps", "momentum")
        }
        arrays = self.arrays("keras") | {k: v for k, v in change.items() if k not in options}
        arrays = {k: v for k, v in arrays.items() if v is not None}
        with pytest.raises(error, match=message):
            inference.convert(arrays, **options)


# ---- momentum -----------------------------------------------------------------------------------


class TestMomentum:
    @pytest.mark.parametrize("other", ["keras", "tensorflow", "flax", "paddle", "mxnet", "onnx"])
    def test_the_others_weight_the_old_average(self, other):
        assert inference.convert_momentum(0.1, source="torch", to=other) == 0.9
        assert inference.convert_momentum(0.99, source=other, to="torch") == 0.01
        assert inference.convert_momentum(0.99, source=other, to="keras") == 0.99

    @pytest.mark.parametrize("kind", [float, np.float64, np.float32, np.float16])
    def test_a_number_of_numpy_means_what_it_shows(self, kind):
        assert inference.convert_momentum(kind(0.99), source="keras", to="torch") == 0.01
        assert inference.convert_momentum(kind(0.99), source="keras", to="flax") == 0.99

    @pytest.mark.parametrize("value", [Fraction(1, 4), 1, np.int64(0)])
    def test_other_real_numbers(self, value):
        given = inference.convert_momentum(value, source="keras", to="torch")
        assert given == 1 - value
        assert type(given) is float

    def test_reproduces_the_formula_of_the_onnx_operator_with_torchs_layer(self):
        x, momentum = normal(6, 3), 0.7
        layer = nn.BatchNorm1d(
            3, momentum=inference.convert_momentum(momentum, source="onnx", to="torch")
        )
        layer(x)
        torch.testing.assert_close(
            layer.running_mean, momentum * 0 + (1 - momentum) * x.mean(dim=0)
        )

    @given(st.floats(0, 1), *[st.sampled_from(["torch", "keras", "flax", "onnx"])] * 2)
    def test_back_and_forth_is_the_identity(self, value, source, to):
        there = inference.convert_momentum(value, source=source, to=to)
        assert inference.convert_momentum(there, source=to, to=source) == pytest.approx(
            value, abs=1e-16
        )

    def test_the_cumulative_average_is_torchs_alone(self):
        assert inference.convert_momentum(None, source="torch", to="torch") is None
        for source, to in (("torch", "keras"), ("keras", "torch"), ("flax", "flax")):
            with pytest.raises(ValueError, match="value is None"):
                inference.convert_momentum(None, source=source, to=to)

    @pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
    def test_range(self, value):
        with pytest.raises(ValueError, match=r"value is .* between 0 and 1"):
            inference.convert_momentum(value, source="torch", to="keras")
        with pytest.raises(ValueError, match=r"momentum is .* between 0 and 1"):
            inference.half_life(value)

    @pytest.mark.parametrize("value", ["0.1", True, [0.1]])
    def test_type(self, value):
        with pytest.raises(TypeError, match="expected a real number"):
            inference.convert_momentum(value, source="torch", to="keras")
        with pytest.raises(TypeError, match="expected a real number"):
            inference.half_life(value)

    def test_unknown_conventions(self):
        with pytest.raises(ValueError, match="source is 'pytorch'; expected one of torch, keras"):
            inference.convert_momentum(0.1, source="pytorch", to="keras")
        with pytest.raises(ValueError, match="to is 'jax'"):
            inference.convert_momentum(0.1, source="torch", to="jax")

    @given(st.floats(1e-6, 1 - 1e-6))
    def test_half_the_past_is_left_after_a_half_life(self, momentum):
        assert (1 - momentum) ** inference.half_life(momentum) == pytest.approx(0.5, rel=1e-6)

    def test_half_life_is_seen_in_torchs_running_average(self):
        layer = nn.BatchNorm1d(1, momentum=1 - 0.5 ** (1 / 4))
        layer.running_mean.fill_(8.0)
        for _ in range(4):
            layer(torch.tensor([[-1.0], [1.0]]))
        assert layer.running_mean.item() == pytest.approx(4.0, rel=1e-6)
        assert inference.half_life(layer.momentum) == pytest.approx(4)

    def test_ends_of_the_range(self):
        assert inference.half_life(0) == math.inf
        assert inference.half_life(1) == 0.0


class OnApplesDevice(torch.Tensor):
    """A tensor that says it is on such a device, and refuses float64 as that does."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func == torch.Tensor.device.__get__:
            return torch.device("mps")
        result = super().__torch_function__(func, types, args, kwargs or {})
        if func == torch.Tensor.cpu:
            return result.as_subclass(torch.Tensor)
        if isinstance(result, torch.Tensor) and result.dtype is torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return result


def test_statistics_of_inputs_on_a_device_without_float64_are_as_exact():
    x = (normal(60, 3) + 1e4).float()
    with pytest.raises(TypeError, match="float64"):
        x.as_subclass(OnApplesDevice).double()
    layer = nn.BatchNorm1d(3)
    inference.recalibrate(layer, [x[:20].as_subclass(OnApplesDevice), x[20:]])
    torch.testing.assert_close(layer.running_mean, x.double().mean(0).float(), rtol=2e-7, atol=0)
    parts = (20 * x[:20].double().var(0, correction=0), 40 * x[20:].double().var(0, correction=0))
    torch.testing.assert_close(layer.running_var, (sum(parts) / 58).float(), rtol=1e-6, atol=0)
