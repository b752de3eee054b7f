"""What the how-to pages say of other programs, asked of those programs."""

import os
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from bnlab import inference

os.environ.setdefault("KERAS_BACKEND", "jax")
PAGES = Path(__file__).parents[1] / "book" / "howto"
WHY = "the peers are not installed: pip install bnlab[peers]"


def run(name, *, only=None):
    """Run the code of a page, or only its cells with that tag; return its names."""
    names = {}
    for cell in nbformat.read(PAGES / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and (only is None or only in cell.metadata.get("tags", [])):
            exec(cell.source, names)
    return names


@pytest.fixture(scope="module")
def page():
    """The names of the page on checkpoints."""
    return run("checkpoint")


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(2, 3, (4, 5, 5, 3)).astype("float32"), rng


def same_outputs(layer, x, theirs):
    ours = layer(torch.from_numpy(x).movedim(-1, 1)).movedim(1, -1).detach()
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of Keras about itself
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False, "epsilon": 0.5}])
def test_a_layer_of_keras_is_read(options):
    keras = pytest.importorskip("keras", reason=WHY)
    x, rng = drawn()
    layer = keras.layers.BatchNormalization(**options)
    layer.build(x.shape)
    layer.set_weights([rng.uniform(0.1, 2, w.shape) for w in layer.get_weights()])
    arrays = {w.name: keras.ops.convert_to_numpy(w) for w in layer.weights}
    settings = {"eps": layer.epsilon, "momentum": layer.momentum, "source": "keras"}
    ours = inference.convert(arrays, **settings)
    same_outputs(ours, x, keras.ops.convert_to_numpy(layer(x, training=False)))
    layer(x, training=True)
    ours.train()(torch.from_numpy(x).movedim(-1, 1))
    mean = keras.ops.convert_to_numpy(layer.moving_mean)
    np.testing.assert_allclose(ours.running_mean, mean, rtol=1e-4, atol=1e-5)


def test_a_layer_of_flax_is_read():
    linen = pytest.importorskip("flax.linen", reason=WHY)
    x, rng = drawn()
    layer = linen.BatchNorm(use_running_average=True)
    shapes = {"params": ("scale", "bias"), "batch_stats": ("mean", "var")}
    variables = {k: {n: rng.uniform(0.1, 2, 3) for n in names} for k, names in shapes.items()}
    arrays = {**variables["params"], **variables["batch_stats"]}
    settings = {"eps": layer.epsilon, "momentum": layer.momentum, "source": "flax"}
    ours = inference.convert(arrays, **settings)
    same_outputs(ours, x, np.asarray(layer.apply(variables, x)))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_defaults_and_the_variance_are_as_the_table_says():
    keras = pytest.importorskip("keras", reason=WHY)
    linen = pytest.importorskip("flax.linen", reason=WHY)
    onnx = pytest.importorskip("onnx", reason=WHY)
    x, _ = drawn()
    biased = x.var((0, 1, 2))
    theirs = keras.layers.BatchNormalization()
    assert (theirs.momentum, theirs.epsilon) == (0.99, 0.001)
    theirs = keras.layers.BatchNormalization(momentum=0.0)
    theirs(x, training=True)
    var = keras.ops.convert_to_numpy(theirs.moving_variance)
    np.testing.assert_allclose(var, biased, rtol=1e-4)
    theirs = linen.BatchNorm(use_running_average=False)
    assert (theirs.momentum, theirs.epsilon) == (0.99, 1e-5)
    theirs, ones = linen.BatchNorm(use_running_average=False, momentum=0.0), np.ones(3)
    start = {"params": {"scale": ones, "bias": ones}, "batch_stats": {"mean": ones, "var": ones}}
    _, moved = theirs.apply(start, x, mutable=["batch_stats"])
    np.testing.assert_allclose(moved["batch_stats"]["var"], biased, rtol=1e-4)
    schema = onnx.defs.get_schema("BatchNormalization")
    settings = {k: schema.attributes[k].default_value.f for k in ("momentum", "epsilon")}
    assert settings == pytest.approx({"momentum": 0.9, "epsilon": 1e-5})


def test_the_check_of_eps_leaves_the_layer_its_own(page):
    assert page["layer"].eps == 0.001


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("depthwise", [False, True])
def test_kernels_of_keras_are_moved_as_the_page_says(depthwise):
    keras = pytest.importorskip("keras", reason=WHY)
    x, rng = drawn()
    if depthwise:
        layer = keras.layers.DepthwiseConv2D((2, 3), depth_multiplier=2, use_bias=False)
    else:
        layer = keras.layers.Conv2D(4, (2, 3), use_bias=False)
    layer.build(x.shape)
    kernel = rng.normal(size=layer.kernel.shape).astype("float32")
    layer.set_weights([kernel])
    h, w = 2, 3
    moved = kernel.transpose(3, 2, 0, 1)
    if depthwise:
        moved = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, h, w)

    def ours(x):
        weight = torch.from_numpy(moved.copy())
        return torch.nn.functional.conv2d(x, weight, groups=3 if depthwise else 1)

    same_outputs(ours, x, keras.ops.convert_to_numpy(layer(x)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_arrays_of_onnx_are_found_by_the_order_of_the_nodes_inputs():
    onnx = pytest.importorskip("onnx", reason=WHY)
    pytest.importorskip("onnxscript", reason=WHY)
    x, rng = drawn()
    given = torch.from_numpy(x).movedim(-1, 1)
    theirs = torch.nn.BatchNorm2d(3)
    for value in (*theirs.parameters(), *theirs.buffers()):
        value.data.copy_(torch.tensor(rng.uniform(0.5, 2, value.shape)))
    model = torch.nn.Sequential(theirs).eval()
    graph = torch.onnx.export(model, (given,), dynamo=True, verbose=False).model_proto.graph
    arrays = {array.name: onnx.numpy_helper.to_array(array) for array in graph.initializer}
    (node,) = (node for node in graph.node if node.op_type == "BatchNormalization")
    names = ("scale", "B", "input_mean", "input_var")
    assert not set(names) & set(arrays)
    assert [i.name for i in onnx.defs.get_schema("BatchNormalization").inputs][1:] == [*names]
    found = dict(zip(names, (arrays[n] for n in node.input[1:]), strict=True))
    settings = {"eps": theirs.eps, "momentum": 0.9, "source": "onnx"}
    ours = inference.convert(found, **settings)
    torch.testing.assert_close(ours(given), model(given))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "0 batches seen, half-life 7 batches, broken: False"),
        ({"momentum": None}, "0 batches seen, averages all batches alike, broken: False"),
        ({"momentum": 0.0}, "0 batches seen, half-life inf batches, broken: False"),
        (
            {"track_running_stats": False},
            "no running statistics: it always takes those of the batch",
        ),
    ],
)
def test_evaluation_reports_every_kind_of_layer(evaluation, options, says):
    assert evaluation["report"](torch.nn.BatchNorm1d(3, **options)) == says


def test_evaluation_shows_batches_that_are_sorted(evaluation):
    x = torch.tensor([[-1.0], [1.0]]).repeat(50, 1) + torch.linspace(-0.1, 0.1, 100)[:, None]
    y = torch.tensor([0, 1]).repeat(50)
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 2))
    model[1].weight.data[:, 0] = torch.tensor([-1.0, 1.0])
    model[1].bias.data.zero_()
    mixed = list(zip(x.split(20), y.split(20), strict=True))
    order = y.argsort(stable=True)
    by_class = list(zip(x[order].split(50), y[order].split(50), strict=True))
    score = evaluation["score"]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert [score(model, b, batch_statistics=False) for b in (mixed, by_class)] == [1, 1]
    assert score(model, mixed, batch_statistics=True) == 1
    assert score(model, by_class, batch_statistics=True) < 0.6
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.fixture(scope="module")
def evaluation():
    """The names of the page on evaluation."""
    return run("evaluation")


def test_the_worth_of_a_batch_is_that_of_its_means():
    rho = run("choose", only="idea")["rho"]
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(500, 2, 4, 4, generator=rng)
    maps += torch.tensor([0.3, 2.0])[:, None, None] * torch.randn(500, 2, 1, 1, generator=rng)
    draws = torch.randint(500, (4000, 8), generator=rng)
    means = maps.mean((2, 3))[draws].mean(1)
    measured = maps.var((0, 2, 3)) / means.var(0)
    torch.testing.assert_close(8 / rho(maps), measured, rtol=0.1, atol=0)
