"""What every relative of Batch Normalization shares: torch's tools, function transforms, copies, errors."""

import copy
import pickle

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from bnlab import inference, kernels, nn

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]

LAYERS = {
    "ghost": (lambda **o: nn.GhostBatchNorm1d(3, 3, **o), (7, 3)),
    "ghost 2d": (lambda **o: nn.GhostBatchNorm2d(3, 2, **o), (4, 3, 2, 2)),
    "renorm": (lambda **o: nn.BatchRenorm1d(3, r_max=1.5, d_max=0.3, **o), (6, 3)),
    "renorm 2d": (lambda **o: nn.BatchRenorm2d(3, r_max=1.5, d_max=0.3, **o), (4, 3, 2, 2)),
    "decorrelated": (lambda **o: nn.DecorrelatedBatchNorm1d(3, **o), (6, 3)),
}
NORMS = {name: case for name, case in LAYERS.items() if name != "decorrelated"}
CASES = pytest.mark.parametrize(("build", "shape"), LAYERS.values(), ids=LAYERS.keys())
# Those that are a BatchNorm1d or 2d to the tools of inference.
OF_TORCH = pytest.mark.parametrize(("build", "shape"), NORMS.values(), ids=NORMS.keys())
MOMENTA = pytest.mark.parametrize("momentum", [0.1, None])


@pytest.fixture(params=["eager", "kernels"])
def arithmetic(request):
    """Run a test with the kernels, too."""
    if request.param == "kernels" and not kernels.available():
        pytest.skip("the kernels need numba: pip install numba")
    with kernels.enable(request.param == "kernels"):
        yield


def normal(*shape, seed=0, dtype=torch.float64):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1 + 2 * drawn).to(dtype)


def made(build, dtype=torch.float64, **options):
    layer = build(dtype=dtype, **options)
    with torch.no_grad():
        for i, p in enumerate(layer.parameters()):
            p.copy_(normal(*p.shape, seed=50 + i))
    return layer


def step(layer, x, dy, call=None):
    """Return all that a training step makes."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = (layer if call is None else call)(x)
    y.backward(dy)
    return [y, x.grad, [p.grad for p in layer.parameters()], layer.state_dict()]


# ---- copies and state ---------------------------------------------------------------------------


@CASES
@pytest.mark.parametrize(
    "copy_of", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_copies_behave_alike(build, shape, copy_of):
    layer = made(build)
    layer(normal(*shape))
    twin = copy_of(layer)
    results = [step(it, normal(*shape, seed=1), normal(*shape, seed=2)) for it in (layer, twin)]
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert repr(twin) == repr(layer)


@CASES
def test_a_state_dict_restores_a_layer(build, shape):
    layer, fresh = made(build), build(dtype=torch.float64)
    layer(normal(*shape))
    assert fresh.load_state_dict(layer.state_dict(), strict=True) == ([], [])
    results = [step(it, normal(*shape, seed=1), normal(*shape, seed=2)) for it in (layer, fresh)]
    torch.testing.assert_close(*results, rtol=0, atol=0)


@CASES
def test_buffers_are_detached_and_stay_the_same_objects(build, shape):
    layer = made(build)
    before = {name: b.data_ptr() for name, b in layer.named_buffers()}
    layer(normal(*shape).requires_grad_())
    assert {name: b.data_ptr() for name, b in layer.named_buffers()} == before
    assert not any(b.requires_grad or b.grad_fn for b in layer.buffers())


@CASES
def test_resets(build, shape):
    layer, fresh = made(build), build(dtype=torch.float64)
    layer(normal(*shape))
    layer.reset_parameters()
    torch.testing.assert_close(layer.state_dict(), fresh.state_dict())


@CASES
@MOMENTA
def test_meta_device_and_materialization(build, shape, momentum):
    layer = build(device="meta", momentum=momentum)
    assert layer(torch.empty(shape, device="meta")).shape == shape
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(normal(*shape, dtype=torch.float32)).isfinite().all()


# ---- what else may come in ------------------------------------------------------------------------


@pytest.mark.usefixtures("arithmetic")
@CASES
def test_memory_layouts_and_the_kernels_give_the_same(build, shape):
    layer, plain = made(build), made(build)
    x, dy = normal(*shape), normal(*shape, seed=1)
    strided = torch.stack((x, x), -1)[..., 0]
    if x.dim() == 4:
        strided = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(step(layer, strided, dy), step(plain, x, dy))


@CASES
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_with_float32_parameters(build, shape, training):
    layer, right = made(build, torch.float32).train(training), made(build).train(training)
    x, dy = normal(*shape).bfloat16(), normal(*shape, seed=1).bfloat16()
    mine, expected = step(layer, x, dy), step(right, x.double(), dy.double())
    assert mine[0].dtype == mine[1].dtype == torch.bfloat16
    for a, b in zip(mine[:3], expected[:3], strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2, check_dtype=False)
    torch.testing.assert_close(mine[3], expected[3], rtol=1e-5, atol=1e-5, check_dtype=False)


@CASES
@MOMENTA
@pytest.mark.parametrize("training", [True, False])
def test_empty_batches_give_zero_gradients_and_leave_the_statistics(
    build, shape, momentum, training
):
    layer = made(build, momentum=momentum).train(training)
    before = {k: v.clone() for k, v in layer.state_dict().items() if "running" in k}
    x = torch.zeros((0, *shape[1:]), dtype=torch.float64)
    y, dx, dp, state = step(layer, x, x)
    assert y.shape == dx.shape == x.shape
    assert all((g == 0).all() for g in dp)
    torch.testing.assert_close({k: state[k] for k in before}, before, rtol=0, atol=0)


@CASES
@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda x: x[:1, ..., :1, :1] if x.dim() == 4 else x[:1], ValueError, "more than 1 value"),
        (lambda x: x[:, :2], RuntimeError, "(should contain|mixed|expected) .*3"),
        (lambda x: x.float(), RuntimeError, "mixed dtype|dtype"),
        (lambda x: x.numpy(), TypeError, "expected a torch.Tensor"),
        (lambda x: x[0, 0], ValueError, "expected"),
    ],
    ids=["one value", "features", "dtype", "array", "axes"],
)
def test_an_input_that_does_not_fit_is_refused_and_leaves_no_trace(
    build, shape, change, error, says
):
    layer = made(build)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(error, match=says):
        layer(change(normal(*shape)))
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


@CASES
@pytest.mark.parametrize(("affine", "bias"), [(True, True), (True, False), (False, True)])
def test_without_parameters_they_are_ones_and_zeros(build, shape, affine, bias):
    layer, full = build(dtype=torch.float64, affine=affine, bias=bias), build(dtype=torch.float64)
    x = normal(*shape)
    torch.testing.assert_close(layer(x), full(x))
    assert [layer.weight is None, layer.bias is None] == [not affine, not (affine and bias)]


# ---- derivatives ----------------------------------------------------------------------------------


def as_function(build, shape):
    """Return the layer as a function of x and its parameters that keeps its state, and a point.

    Of Batch Renormalization only what is at its limits: elsewhere r and d are no true constants.
    """
    layer = made(build, momentum=0.0)
    if hasattr(layer, "r_max"):
        layer.running_mean.fill_(30.0)
        layer.running_var.fill_(1e-3)
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *parameters):
        state = dict(zip(names, parameters, strict=True))
        state |= {name: b.clone() for name, b in layer.named_buffers()}
        return torch.func.functional_call(layer, state, (x,))

    leaves = (normal(*shape), *(p.detach() for p in layer.parameters()))
    return call, tuple(t.clone().requires_grad_() for t in leaves)


@CASES
def test_gradients_are_numerical_derivatives(build, shape):
    call, leaves = as_function(build, shape)
    assert gradcheck(call, leaves, check_forward_ad=True, check_batched_grad=True)


@CASES
def test_second_derivatives_are_numerical_ones(build, shape):
    call, leaves = as_function(build, shape)
    assert gradgradcheck(call, leaves)


@CASES
def test_function_transforms(build, shape):
    call, (x, *parameters) = as_function(build, shape)
    jacobians = [f(call)(x, *parameters) for f in (torch.func.jacrev, torch.func.jacfwd)]
    torch.testing.assert_close(*jacobians)


@CASES
@MOMENTA
def test_an_ensemble_in_one_batched_run_keeps_each_members_books(build, shape, momentum):
    members = [made(build, momentum=momentum) for _ in range(3)]
    data = torch.stack([normal(*shape, seed=s) for s in range(3)])
    parameters, buffers = torch.func.stack_module_state(members)
    base = copy.deepcopy(members[0])

    def loss(p, b, x):
        return torch.func.functional_call(base, (p, b), (x,)).pow(3).sum()

    grads = torch.vmap(torch.func.grad(loss))(parameters, buffers, data)
    for i, (member, x) in enumerate(zip(members, data, strict=True)):
        member(x).pow(3).sum().backward()
        for name, p in member.named_parameters():
            torch.testing.assert_close(grads[name][i], p.grad)
        for name, b in member.named_buffers():
            torch.testing.assert_close(buffers[name][i], b)


@CASES
@MOMENTA
def test_traces_to_one_graph(build, shape, momentum):
    layer = made(build, momentum=momentum)
    twin = copy.deepcopy(layer)
    torch._dynamo.reset()
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    for seed in range(2):
        x, dy = normal(*shape, seed=seed), normal(*shape, seed=9)
        torch.testing.assert_close(step(twin, x, dy, compiled), step(layer, x, dy))


# ---- torch's tools and ours -----------------------------------------------------------------------


@CASES
def test_symbolic_traces_keep_the_layer_as_one_node(build, shape):
    layer = made(build)
    traced = torch.fx.symbolic_trace(torch.nn.Sequential(layer))
    assert [n.op for n in traced.graph.nodes].count("call_module") == 1
    twin = copy.deepcopy(layer)
    torch.testing.assert_close(traced(normal(*shape)), twin(normal(*shape)))


@OF_TORCH
def test_frozen_layers_use_their_running_statistics(build, shape):
    layer = made(build)
    layer(normal(*shape))
    model = torch.nn.Sequential(layer)
    expected = copy.deepcopy(layer).eval()(normal(*shape))
    inference.freeze(model)
    torch.testing.assert_close(model.train()(normal(*shape)), expected)
    inference.unfreeze(model)
    assert type(model[0]) is type(made(build))


@OF_TORCH
def test_recalibration_and_folding(build, shape):
    linear = torch.nn.Conv2d(2, 3, 1) if len(shape) == 4 else torch.nn.Linear(2, 3)
    model = torch.nn.Sequential(linear.double(), made(build))
    batches = [normal(shape[0], 2, *shape[2:], seed=s) for s in range(3)]
    assert inference.recalibrate(model, batches) == ("1",)
    mean, var = inference.population_statistics([linear(x).detach() for x in batches])
    torch.testing.assert_close([model[1].running_mean, model[1].running_var], [mean, var])
    folded = inference.fold(model.eval(), batches[0])
    assert folded.folded
    torch.testing.assert_close(folded.model(batches[0]), model(batches[0]))
