"""The layers against torch.nn over the whole product of options, and what users do to layers."""

import copy
import inspect
import io
import itertools
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from bnlab import inference, kernels, nn

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


@pytest.fixture(params=["eager", "kernels"])
def arithmetic(request):
    """Run a test with the kernels, too."""
    if request.param == "kernels" and not kernels.available():
        pytest.skip("the kernels need numba: pip install numba")
    with kernels.enable(request.param == "kernels"):
        yield


KINDS = {
    "1d": ("BatchNorm1d", (6, 3)),
    "1d of sequences": ("BatchNorm1d", (4, 3, 5)),
    "2d": ("BatchNorm2d", (3, 3, 4, 2)),
    "3d": ("BatchNorm3d", (2, 3, 2, 3, 2)),
}
TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
HAS_BIAS = "bias" in inspect.signature(torch.nn.BatchNorm1d).parameters  # not before torch 2.11
OPTIONS = [
    {"affine": affine, "track_running_stats": track, "momentum": momentum} | bias
    for affine, bias, track, momentum in itertools.product(
        (True, False),
        ({"bias": True}, {"bias": False}) if HAS_BIAS else ({},),
        (True, False),
        (0.1, 0.7, 0.0, 1.0, None),
    )
    if affine or bias.get("bias", True)
]


def name_of(options):
    flags = [k.split("_")[0] for k in ("affine", "bias", "track_running_stats") if options.get(k)]
    return " ".join([*flags, f"momentum={options['momentum']}"])


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(kind, *args, dtype=torch.float64, **options):
    """Return our layer and torch's, with the same non-trivial parameters."""
    mine, right = (getattr(m, kind)(*args, dtype=dtype, **options) for m in (nn, torch.nn))
    for i, (a, b) in enumerate(zip(mine.parameters(), right.parameters(), strict=True)):
        with torch.no_grad():
            a.copy_(normal(*a.shape, seed=50 + i))
            b.copy_(a)
    return mine, right


def buffers_equal(mine, right, **tolerance):
    a, b = mine.state_dict(), right.state_dict()
    assert list(a) == list(b)
    for key in a:
        assert a[key].dtype == b[key].dtype, key
        torch.testing.assert_close(a[key], b[key], **tolerance)


# ---- the product of options ---------------------------------------------------------------------


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize(("kind", "shape"), KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_training_then_evaluation_equal_torch_step_by_step(kind, shape, options, dtype):
    mine, right = pair(kind, 3, dtype=dtype, **options)
    assert repr(mine) == repr(right)
    close = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 2e-5}
    for step, training in enumerate((True, True, False, True, False)):
        grads = []
        for layer in (mine, right):
            layer.train(training).zero_grad()
            x = (1 + 2 * normal(*shape, seed=step)).to(dtype).requires_grad_()
            y = layer(x)
            y.backward(normal(*shape, seed=step + 90).to(dtype))
            grads.append([y, x.grad, *(p.grad for p in layer.parameters())])
        torch.testing.assert_close(*grads, **close)
        buffers_equal(mine, right, **close)


@pytest.mark.parametrize(("kind", "shape"), KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("parameters", ["half", "float32"])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision(kind, shape, dtype, parameters, training):
    mine, right = pair(kind, 3, dtype=dtype if parameters == "half" else torch.float32)
    results = []
    for layer in (mine.train(training), right.train(training)):
        x = normal(*shape).to(dtype).requires_grad_()
        y = layer(x)
        y.backward(normal(*shape, seed=1).to(dtype))
        results.append([y, x.grad, *(p.grad for p in layer.parameters())])
    tolerance = (
        {"rtol": 4e-2, "atol": 4e-2} if dtype == torch.bfloat16 else {"rtol": 1e-2, "atol": 1e-2}
    )
    torch.testing.assert_close(*results, **tolerance)
    buffers_equal(mine, right, **tolerance)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("shape", [(0, 3), (4, 3, 0)])
@pytest.mark.parametrize("options", OPTIONS[::5] + OPTIONS[4::5], ids=name_of)
@pytest.mark.parametrize("training", [True, False])
def test_empty_batches_give_zero_gradients_and_leave_the_statistics(shape, options, training):
    mine, right = pair("BatchNorm1d", 3, **options)
    results = []
    for layer in (mine.train(training), right.train(training)):
        x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        y = layer(x)
        y.sum().backward()
        results.append([y, x.grad, *(p.grad for p in layer.parameters())])
    torch.testing.assert_close(*results)
    for layer in (mine, right):  # torch counts it
        if layer.num_batches_tracked is not None:
            assert layer.num_batches_tracked == int(training and layer is right)
            layer.num_batches_tracked.zero_()
    buffers_equal(mine, right)


@pytest.mark.usefixtures("arithmetic")
def test_empty_batches_do_not_count_in_a_cumulative_average():
    layer = nn.BatchNorm1d(1, momentum=None)
    for batch in (torch.empty(0, 1), torch.tensor([[9.0], [11.0]]), torch.empty(0, 1)):
        layer(batch)
    assert layer.num_batches_tracked == 1
    assert layer.running_mean.item() == 10
    assert layer.running_var.item() == 2


@pytest.mark.parametrize("momentum", [-0.1, 1.5, float("nan")])
def test_a_momentum_that_makes_negative_variances_warns_once(momentum):
    with pytest.warns(UserWarning, match=r"momentum is .*; expected a number from 0 to 1") as seen:
        layer = nn.BatchNorm1d(3, momentum=momentum)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    layer(torch.randn(4, 3))
    copy.deepcopy(layer)


@pytest.mark.parametrize("momentum", [0, 1, 0.0, 0.1, 1.0, None])
def test_other_momenta_do_not_warn_and_the_constructor_shows_torchs_arguments(momentum):
    assert nn.BatchNorm2d(3, 1e-3, momentum).momentum == momentum
    assert inspect.signature(nn.BatchNorm2d) == inspect.signature(torch.nn.BatchNorm2d)


@pytest.mark.parametrize("device_type_dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("input_dtype", [torch.float32, torch.bfloat16])
def test_autocast(device_type_dtype, input_dtype):
    mine, right = pair("BatchNorm1d", 3, dtype=torch.float32)
    results = []
    for layer in (mine, right):
        x = normal(6, 3).to(input_dtype).requires_grad_()
        with torch.autocast("cpu", device_type_dtype):
            y = layer(x)
        y.float().pow(2).sum().backward()
        assert y.dtype == input_dtype
        results.append([y, layer.running_var])
    torch.testing.assert_close(*results, rtol=2e-2, atol=2e-2)


def test_autocast_around_a_network():
    results = []
    for module in (nn, torch.nn):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(5, 4), module.BatchNorm1d(4))
        with torch.autocast("cpu", torch.bfloat16):
            y = model(normal(8, 5, dtype=torch.float32))
        y.float().pow(3).sum().backward()
        assert y.dtype == torch.bfloat16
        results.append([y, model[0].weight.grad])
    torch.testing.assert_close(*results, rtol=5e-2, atol=5e-2)


# ---- being a torch layer ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"])
@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
def test_state_dicts_load_both_ways(kind, options):
    mine, right = pair(kind, 3, **options)
    assert isinstance(mine, _BatchNorm)
    assert isinstance(mine, getattr(torch.nn, kind))
    for source, target in ((mine, right), (right, mine)):
        changed = {k: v + 1 for k, v in source.state_dict().items()}
        assert target.load_state_dict(changed, strict=True) == ([], [])
        for key, value in changed.items():
            assert torch.equal(target.state_dict()[key], value)
    a, b = mine.state_dict()._metadata, right.state_dict()._metadata
    assert a == b == {"": {"version": 2}}
    assert mine.__dict__.keys() == right.__dict__.keys()


@pytest.mark.usefixtures("arithmetic")
def test_num_batches_tracked_is_counted_stored_and_used():
    layer = nn.BatchNorm1d(1, momentum=None)
    for value in (0.0, 2.0, 7.0):
        layer(torch.tensor([[value], [value + 2]]))
    assert layer.num_batches_tracked.item() == 3
    assert layer.running_mean.item() == 4.0  # the average of 1, 3 and 8
    assert list(layer.state_dict()) == [
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
    ]  # fmt: skip


def test_old_state_dicts_without_a_counter_load_strictly():
    for layer in pair("BatchNorm1d", 3):
        state = layer.state_dict()
        del state["num_batches_tracked"]
        state._metadata[""]["version"] = 1
        layer.num_batches_tracked.fill_(5)
        layer.load_state_dict(state, strict=True)
        assert layer.num_batches_tracked.item() == 5
        state["num_batches_tracked"] = torch.tensor(1)
        del state["num_batches_tracked"]
        state._metadata[""]["version"] = 2
        with pytest.raises(RuntimeError, match=r"Missing key\(s\).*num_batches_tracked"):
            layer.load_state_dict(state, strict=True)


def test_resets():
    for layer in pair("BatchNorm1d", 3):
        layer(normal(6, 3))
        layer.reset_running_stats()
        assert layer.running_mean.tolist() == [0, 0, 0]
        assert layer.running_var.tolist() == [1, 1, 1]
        assert layer.num_batches_tracked == 0
        assert layer.weight.tolist() != [1, 1, 1]
        layer(normal(6, 3))
        layer.reset_parameters()
        assert layer.weight.tolist() == [1, 1, 1]
        assert layer.bias.tolist() == [0, 0, 0]
        assert layer.running_var.tolist() == [1, 1, 1]


def saved(layer):
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "copy_of", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m)), saved],
    ids=["deepcopy", "copy", "pickle", "torch.save"],
)  # fmt: skip
def test_copies_behave_alike(copy_of):
    layer, _ = pair("BatchNorm1d", 3)
    layer(normal(6, 3))
    twin = copy_of(layer)
    assert type(twin) is type(layer)
    buffers_equal(twin, layer)
    x = normal(6, 3, seed=1)
    assert torch.equal(twin.eval()(x), layer.eval()(x))


@pytest.mark.usefixtures("arithmetic")
def test_hooks_see_inputs_outputs_and_gradients():
    layer, seen = nn.BatchNorm1d(3), []
    layer.register_forward_pre_hook(lambda m, args: seen.append("pre"))
    layer.register_forward_hook(lambda m, args, y: seen.append("forward") or 2 * y)
    layer.register_full_backward_hook(lambda m, dx, dy: seen.append(dx[0].shape))
    x = torch.randn(6, 3, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert seen == ["pre", "forward", (6, 3)]


@pytest.mark.usefixtures("arithmetic")
def test_parametrized_weights():
    layer = nn.BatchNorm1d(3).double()

    class Double(torch.nn.Module):
        def forward(self, w):
            return 2 * w

    x, before = normal(6, 3), layer(normal(6, 3)).detach()
    parametrize.register_parametrization(layer, "weight", Double())
    y = layer(x)
    torch.testing.assert_close(y, 2 * before)
    y.pow(2).sum().backward()
    assert layer.parametrizations.weight.original.grad is not None


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("kind", "channels", "x"),
    [
        ("BatchNorm1d", 3, normal(6, 3)),
        ("BatchNorm1d", 1, normal(6, 1, 4)),
        ("BatchNorm2d", 3, normal(6, 3, 4, 2).to(memory_format=torch.channels_last)),
        ("BatchNorm3d", 3, normal(6, 3, 4, 2, 2).to(memory_format=torch.channels_last_3d)),
    ],
    ids=["rows", "one feature", "channels last", "channels last 3d"],
)
def test_the_output_may_be_changed_in_place(kind, channels, x, training):
    results = []
    for layer in pair(kind, channels):
        x = x.detach().clone().requires_grad_()
        y = layer.train(training)(x).mul_(2).relu_()
        y.pow(2).sum().backward()
        results.append((y, x.grad, layer.weight.grad))
    torch.testing.assert_close(*results)


@pytest.mark.usefixtures("arithmetic")
def test_the_bias_may_change_before_the_backward_pass_as_in_torch():
    for training in (True, False):
        results = []
        for layer in pair("BatchNorm1d", 3):
            y = layer.train(training)(normal(6, 3))
            with torch.no_grad():
                layer.bias.add_(1)
            y.pow(2).sum().backward()
            results.append([p.grad for p in layer.parameters()])
        torch.testing.assert_close(*results)


@pytest.mark.usefixtures("arithmetic")
def test_statistics_are_detached_buffers_changed_in_place():
    layer = nn.BatchNorm1d(3)
    buffers = {name: b.data_ptr() for name, b in layer.named_buffers()}
    layer(torch.randn(6, 3, requires_grad=True))
    assert {name: b.data_ptr() for name, b in layer.named_buffers()} == buffers
    assert not any(b.requires_grad or b.grad_fn for b in layer.buffers())
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}


@pytest.mark.usefixtures("arithmetic")
def test_mode_comes_from_training_not_from_grad_mode():
    layer = nn.BatchNorm1d(3)
    with torch.no_grad():
        layer(torch.randn(6, 3))
    with torch.inference_mode():
        layer(torch.randn(6, 3))
    assert layer.num_batches_tracked == 2
    layer.eval()(torch.randn(6, 3, requires_grad=True))
    assert layer.num_batches_tracked == 2


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_meta_device_and_materialization(training, momentum):
    layer = nn.BatchNorm2d(3, device="meta", momentum=momentum).train(training)
    y = layer(torch.empty(2, 3, 4, 5, device="meta"))
    assert y.device.type == "meta"
    assert y.shape == (2, 3, 4, 5)
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(torch.randn(2, 3, 4, 5)).isfinite().all()


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("training", [True, False])
def test_replaced_and_missing_buffers_as_in_torch(training):
    x = normal(6, 3)
    for change in (
        {"num_batches_tracked": None},
        {"running_mean": None, "running_var": None},
        {"track_running_stats": False},
        {"num_batches_tracked": None, "momentum": None},
    ):
        results = []
        for layer in pair("BatchNorm1d", 3):
            layer.train(training)
            for name, value in change.items():
                setattr(layer, name, value)
            results.append((layer(x), layer.state_dict()))
        torch.testing.assert_close(*results)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing(training, reentrant):
    results = []
    for layer in pair("BatchNorm1d", 3):
        layer.train(training)
        block = torch.nn.Sequential(layer, torch.nn.Tanh())
        x = normal(6, 3).requires_grad_()
        y = checkpoint(block, x, use_reentrant=reentrant)
        y.pow(3).sum().backward()
        results.append((y, x.grad, layer.weight.grad, layer.state_dict()))
    torch.testing.assert_close(*results)


@pytest.mark.usefixtures("arithmetic")
def test_recomputing_a_last_layer_only_as_far_as_needed_moves_its_statistics_once():
    layer, _ = pair("BatchNorm1d", 3)
    once = copy.deepcopy(layer)
    once(normal(6, 3))
    x = normal(6, 3).requires_grad_()
    checkpoint(layer, x, use_reentrant=False).pow(3).sum().backward()
    buffers_equal(layer, once)  # torch's own layer counts this batch twice


# ---- torch's tools ------------------------------------------------------------------------------


def network(module=nn):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3), module.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(36, 5), module.BatchNorm1d(5),
    )  # fmt: skip


IMAGES = [normal(6, 2, 5, 5, seed=s, dtype=torch.float32) for s in range(3)]


def test_update_bn_finds_them():
    mine, right = network(), network(torch.nn)
    for model in (mine, right):
        torch.optim.swa_utils.update_bn(IMAGES, model)
    buffers_equal(mine, right)


def test_conversion_to_synchronized_layers_finds_them():
    model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network())
    assert [type(m).__name__ for m in model].count("SyncBatchNorm") == 2


def test_replacement_for_function_transforms_finds_them():
    model = torch.func.replace_all_batch_norm_modules_(network())
    assert [m.running_mean for m in (model[1], model[5])] == [None, None]
    parameters = dict(model.named_parameters())

    def loss(p, x):
        return torch.func.functional_call(model, p, (x,)).pow(3).sum()

    grads = torch.func.grad(loss)(parameters, IMAGES[0])
    loss(parameters, IMAGES[0]).backward()
    for name, p in parameters.items():
        torch.testing.assert_close(grads[name], p.grad, rtol=1e-4, atol=1e-4)
    each = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, torch.stack(IMAGES))
    torch.testing.assert_close(each["1.weight"][0], grads["1.weight"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_an_ensemble_in_one_batched_run_keeps_each_members_books(momentum):
    members = [pair("BatchNorm1d", 3, momentum=momentum)[0] for _ in range(4)]
    data = normal(4, 6, 3)
    parameters, buffers = torch.func.stack_module_state(members)
    base = copy.deepcopy(members[0])

    def call(p, b, x):
        return torch.func.functional_call(base, (p, b), (x,))

    y = torch.vmap(call)(parameters, buffers, data)
    for i, (member, x) in enumerate(zip(members, data, strict=True)):
        torch.testing.assert_close(y[i], member(x))
        for name, value in member.named_buffers():
            torch.testing.assert_close(buffers[name][i], value)
            assert not buffers[name].requires_grad


@pytest.mark.parametrize("strategy", [torch.func.jacrev, torch.func.jacfwd])
def test_jacobians_of_the_layer(strategy):
    mine, right = pair("BatchNorm1d", 2, track_running_stats=False)
    x = normal(4, 2)
    torch.testing.assert_close(strategy(mine)(x), strategy(right)(x))


@pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"), reason="torch 2.7 and newer say so"
)
@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_evaluation_graph_has_one_node_as_torchs_has(strict):
    graphs, x = [], normal(4, 3, 5, 5)
    for layer in pair("BatchNorm2d", 3):
        layer.eval()
        program = torch.export.export(layer, (x,), strict=strict)
        torch.testing.assert_close(program.module()(x), layer(x))
        graphs.append([str(n.target) for n in program.graph.nodes if n.op == "call_function"])
    assert graphs[0] == graphs[1] == ["aten.batch_norm.default"]


@pytest.mark.parametrize("training", [True, False])
def test_export_with_a_dynamic_batch(training):
    layer, _ = pair("BatchNorm2d", 3)
    layer.train(training)
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(
        copy.deepcopy(layer), (normal(4, 3, 5, 5),), dynamic_shapes={"input": {0: batch}}
    ).module()
    for n in (4, 7):
        x = normal(n, 3, 5, 5, seed=n)
        torch.testing.assert_close(exported(x), layer(x))
    if training:  # torch 2.4 leaves out a buffer that the graph does not use
        buffers_equal(exported, layer)


def compiled_equals_eager(layer, shape, backend):
    """Compare two training steps: outputs, gradients and buffers."""
    twin = copy.deepcopy(layer)
    torch._dynamo.reset()
    run = torch.compile(twin, fullgraph=True, backend=backend)
    for step in range(2):
        results = []
        for call, owner in ((layer, layer), (run, twin)):
            owner.zero_grad()
            x = normal(*shape, seed=step, dtype=torch.float32).requires_grad_()
            y = call(x)
            y.backward(normal(*shape, seed=9, dtype=torch.float32))
            results.append((y, x.grad, [p.grad for p in owner.parameters()]))
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
        buffers_equal(twin, layer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler about itself
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [True, False])
def test_traces_to_one_graph(momentum, training):
    layer = nn.BatchNorm1d(3, momentum=momentum).train(training)
    compiled_equals_eager(layer, (6, 3), "aot_eager")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))),
    reason="torch.compile needs a C++ compiler on the path: install g++ or clang++",
)
@pytest.mark.skipif(
    os.environ.get("ATEN_CPU_CAPABILITY") == "default",
    reason="with ATEN_CPU_CAPABILITY=default torch writes C++ that does not compile: unset it",
)
def test_compiles_to_one_graph():
    compiled_equals_eager(nn.BatchNorm2d(3), (4, 3, 5, 5), "inductor")


@pytest.mark.parametrize("training", [True, False])
def test_symbolic_traces_keep_them_as_one_node(training):
    model = network().train(training)
    traced = torch.fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == list("012345")
    twin = copy.deepcopy(traced)
    torch.testing.assert_close(twin(IMAGES[0]), model(IMAGES[0]))
    buffers_equal(twin, model)
    assert model[1].num_batches_tracked == training


def test_data_parallel():
    x = torch.randn(6, 3)
    layer = nn.BatchNorm1d(3)
    torch.testing.assert_close(torch.nn.DataParallel(layer)(x), nn.BatchNorm1d(3)(x))
    assert layer.num_batches_tracked == 1


def test_inference_tools_work_on_them():
    model, right = network(), network(torch.nn)
    assert inference.recalibrate(model, IMAGES) == ("1", "5")
    assert inference.recalibrate(right, IMAGES) == ("1", "5")
    buffers_equal(model, right)
    model.eval()
    y = model(IMAGES[0])
    folded = copy.deepcopy(model)
    folded[0], folded[1] = inference.fold_conv(model[0], model[1]), torch.nn.Identity()
    folded[4], folded[5] = inference.fold_linear(model[4], model[5]), torch.nn.Identity()
    torch.testing.assert_close(folded(IMAGES[0]), y, rtol=1e-4, atol=1e-5)
    assert inference.freeze(model) == ("1", "5")
    torch.testing.assert_close(model.train()(IMAGES[0]), y)
    assert repr(model[1]).startswith("FrozenBatchNorm2d(4")
    torch.testing.assert_close(copy.deepcopy(model)(IMAGES[0]), y)
    assert inference.unfreeze(model) == ("1", "5")
    model(IMAGES[0])
    assert model[1].num_batches_tracked == 1


@pytest.mark.usefixtures("arithmetic")
def test_training_a_network_follows_torch_step_by_step():
    losses = []
    for module in (nn, torch.nn):
        model = network(module)
        optimizer, curve = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), []
        for x in IMAGES * 5:
            optimizer.zero_grad()
            loss = (model(x) - x.mean((1, 2, 3))[:, None]).pow(2).mean()
            loss.backward()
            optimizer.step()
            curve.append(loss.detach())
        losses.append(torch.stack(curve))
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


# ---- refusals -----------------------------------------------------------------------------------

BAD = [
    (kind, options, shape, dtype, training)
    for kind in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")
    for options in ({}, {"affine": False}, {"track_running_stats": False})
    for shape, dtype in [
        ((), torch.float32),
        ((3,), torch.float32),
        ((1, 3), torch.float32),
        ((1, 3, 1), torch.float32),
        ((1, 3, 1, 1), torch.float32),
        ((1, 3, 1, 1, 1), torch.float32),
        ((4, 5), torch.float32),
        ((4, 5, 2), torch.float32),
        ((4, 5, 2, 2), torch.float32),
        ((4, 5, 2, 2, 2), torch.float32),
        ((4, 3, 2, 2, 2, 2), torch.float32),
        ((4, 3), torch.int64),
        ((4, 3, 2, 2), torch.bool),
        ((4, 3), torch.float64),
        ((4, 3, 2, 2, 2), torch.complex64),
    ]
    for training in (True, False)
]


@pytest.mark.skipif(TORCH < (2, 13), reason="older releases raise fewer errors, and of other types")
@pytest.mark.parametrize(("kind", "options", "shape", "dtype", "training"), BAD)
def test_what_torch_refuses_is_refused_by_the_same_type_and_key_phrase(
    kind, options, shape, dtype, training
):
    mine, right = pair(kind, 3, dtype=torch.float32, **options)
    x = torch.ones(shape, dtype=dtype)
    try:
        expected = right.train(training)(x)
    except Exception as error:
        with pytest.raises(type(error)) as caught:
            mine.train(training)(x)
        assert caught.type is type(error)  # noqa: PT017
        phrase = str(error).split(" for '")[0].split(" (CPU)")[0].removesuffix(" input)")
        assert phrase in str(caught.value)
    else:
        torch.testing.assert_close(mine.train(training)(x), expected)


@pytest.mark.parametrize(
    ("args", "options"), [((-1,), {}), ((2.5,), {}), (("a",), {}), ((), {}), ((3,), {"dtype": torch.int64})]
)  # fmt: skip
def test_bad_arguments_of_the_constructor_raise_what_torch_raises(args, options):
    errors = []
    for module in (torch.nn, nn):
        try:
            module.BatchNorm1d(*args, **options)
        except Exception as error:
            errors.append(type(error))
        else:
            errors.append(None)
    assert errors[0] is errors[1]


@pytest.mark.parametrize(
    ("layer", "input", "error", "message"),
    [
        (
            nn.BatchNorm1d(3),
            [[1.0, 2.0, 3.0]],
            TypeError,
            r"input is a list; expected a torch.Tensor",
        ),
        (nn.BatchNorm1d(0), torch.ones(4, 0), ValueError, r"\(4, 0\), no features on axis 1"),
        (
            nn.BatchNorm2d(3, affine=False, track_running_stats=False),
            torch.ones(2, 4, 4, 3),
            RuntimeError,
            r"4 features on axis 1; expected 3.*BatchNorm2d\(4\).*movedim",
        ),
    ],
)
@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("training", [True, False])
def test_where_torch_is_unclear_or_silent_we_are_not(layer, input, error, message, training):
    with pytest.raises(error, match=message):
        layer.train(training)(input)


@pytest.mark.parametrize(
    ("kind", "shape", "advice"),
    [
        ("BatchNorm2d", (3, 8, 8), r"input\.unsqueeze\(0\); for \(N, C, L\), use BatchNorm1d\."),
        (
            "BatchNorm1d",
            (3,),
            r"takes \(N, C\) or \(N, C, L\); for one example .*unsqueeze\(0\)\.$",
        ),
        ("BatchNorm1d", (2, 3, 4, 4), r"\(N, C, L\); for \(N, C, H, W\), use BatchNorm2d\.$"),
        ("BatchNorm2d", (2, 3), r"takes \(N, C, H, W\); for \(N, C\), use BatchNorm1d\.$"),
        ("BatchNorm3d", (2, 3, 4, 4), r"unsqueeze\(0\); for \(N, C, H, W\), use BatchNorm2d\.$"),
        ("BatchNorm2d", (), r"got 0D input of shape \(\)\): BatchNorm2d takes \(N, C, H, W\)\.$"),
    ],
)
def test_a_wrong_number_of_axes_says_what_to_do(kind, shape, advice):
    with pytest.raises(ValueError, match=advice):
        getattr(nn, kind)(3)(torch.zeros(shape))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_jit_script_is_refused_with_the_alternatives():
    model = network()
    with pytest.raises(NotImplementedError, match=r"BatchNorm2d .*torch\.export.*swap\(model, to="):
        torch.jit.script(model)
    assert type(model[1]) is nn.BatchNorm2d
    with pytest.raises(NotImplementedError, match=r"BatchNorm1d cannot be compiled"):
        torch.jit.script(nn.BatchNorm1d(3))


def test_without_torch_the_error_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; import bnlab.nn"
    found = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert "ImportError: bnlab.nn needs PyTorch" in found.stderr
    assert "pip install torch" in found.stderr


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_refused_batch_leaves_no_trace(momentum):
    layer = nn.BatchNorm1d(3, momentum=momentum)
    layer(torch.randn(6, 3))
    before = copy.deepcopy(layer.state_dict())
    for bad in (torch.ones(1, 3), torch.ones(4, 2), torch.ones(4, 3).double(), torch.ones(4)):
        with pytest.raises((ValueError, RuntimeError)):
            layer(bad)
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key])
