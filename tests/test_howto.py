"""What the how-to pages say of other programs, asked of those programs."""

import os
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "jax")
PAGES = Path(__file__).parents[1] / "book" / "howto"
WHY = "the peers are not installed: pip install bnlab[peers]"


@pytest.fixture(scope="module")
def page():
    """The code of the page on checkpoints, run: its names."""
    names = {}
    for cell in nbformat.read(PAGES / "checkpoint.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
    return names


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
def test_a_layer_of_keras_is_read(page, options):
    keras = pytest.importorskip("keras", reason=WHY)
    x, rng = drawn()
    layer = keras.layers.BatchNormalization(**options)
    layer.build(x.shape)
    layer.set_weights([rng.uniform(0.1, 2, w.shape) for w in layer.get_weights()])
    arrays = {w.name: keras.ops.convert_to_numpy(w) for w in layer.weights}
    settings = {"eps": layer.epsilon, "momentum": layer.momentum, "source": "keras"}
    ours = page["layer_from"](arrays, torch.nn.BatchNorm2d, **settings)
    same_outputs(ours, x, keras.ops.convert_to_numpy(layer(x, training=False)))
    layer(x, training=True)
    ours.train()(torch.from_numpy(x).movedim(-1, 1))
    mean = keras.ops.convert_to_numpy(layer.moving_mean)
    np.testing.assert_allclose(ours.running_mean, mean, rtol=1e-4, atol=1e-5)


def test_a_layer_of_flax_is_read(page):
    linen = pytest.importorskip("flax.linen", reason=WHY)
    x, rng = drawn()
    layer = linen.BatchNorm(use_running_average=True)
    shapes = {"params": ("scale", "bias"), "batch_stats": ("mean", "var")}
    variables = {k: {n: rng.uniform(0.1, 2, 3) for n in names} for k, names in shapes.items()}
    arrays = {**variables["params"], **variables["batch_stats"]}
    settings = {"eps": layer.epsilon, "momentum": layer.momentum, "source": "flax"}
    ours = page["layer_from"](arrays, torch.nn.BatchNorm2d, **settings)
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


def test_a_missing_statistic_is_named(page):
    with pytest.raises(KeyError, match="running_var"):
        page["layer_from"](
            {"mean": np.ones(3)}, torch.nn.BatchNorm2d, eps=0.1, momentum=0.9, source="flax"
        )
