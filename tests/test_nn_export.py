"""Export to ONNX: the graph is valid, computes the same in onnxruntime, and looks as torch's does."""

import collections
import copy
import io
import warnings

import pytest
import torch
from torch import nn

import bnlab.nn
from bnlab import inference
from bnlab.chapters.convolutional_batchnorm.small_nets import mobile_net, residual_net
from bnlab.models import convnet, mlp

why = "exporting needs onnx, onnxscript and onnxruntime: pip install bnlab[book]"
onnx = pytest.importorskip("onnx", reason=why)
pytest.importorskip("onnxscript", reason=why)
onnxruntime = pytest.importorskip("onnxruntime", reason=why)


def export(model, x, exporter, *, optimize=False):
    """Export a copy, with any number of examples; the copy, as tracing moves running statistics."""
    model = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        if exporter == "dynamo":
            shapes = ({0: torch.export.Dim("n", min=2)},)
            program = torch.onnx.export(
                model, (x,), dynamo=True, dynamic_shapes=shapes, optimize=optimize, verbose=False
            )
            graph = program.model_proto
        else:
            file = io.BytesIO()
            torch.onnx.export(
                model, (x,), file, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "n"}},
                training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
            )  # fmt: skip
            graph = onnx.load_from_string(file.getvalue())
    onnx.checker.check_model(graph, full_check=True)
    return graph


def run(graph, x):
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def nodes(graph):
    return collections.Counter(node.op_type for node in graph.graph.node)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def settled(layer):
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        if layer.affine:
            layer.weight.uniform_(0.5, 1.5, generator=source)
            layer.bias.normal_(generator=source)
        if layer.running_mean is not None:
            layer.running_mean.normal_(generator=source)
            layer.running_var.uniform_(0.5, 2.0, generator=source)
    return layer.eval()


LAYERS = {
    "(N, C)": ("BatchNorm1d", (3,), {}),
    "(N, C, L)": ("BatchNorm1d", (3, 5), {"eps": 0.1}),
    "(N, C, H, W)": ("BatchNorm2d", (3, 5, 4), {}),
    "(N, C, D, H, W)": ("BatchNorm3d", (3, 2, 3, 4), {}),
    "not affine": ("BatchNorm2d", (3, 5, 4), {"affine": False}),
    "cumulative": ("BatchNorm2d", (3, 5, 4), {"momentum": None}),
}


@pytest.mark.parametrize(
    ("case", "exporter"),
    [
        *((case, "legacy") for case in LAYERS),
        ("(N, C, L)", "dynamo"),  # dynamo takes seconds a graph: a 1d layer with its eps,
        ("not affine", "dynamo"),  # and a 2d layer; the models below have (N, C) and affine 2d
    ],
)
def test_evaluation_mode_is_one_node_as_torchs_is(case, exporter):
    name, shape, options = LAYERS[case]
    ours = settled(getattr(bnlab.nn, name)(3, **options))
    theirs = settled(getattr(nn, name)(3, **options))
    graph = export(ours, normal(4, *shape), exporter)
    assert nodes(graph)["BatchNormalization"] == 1
    assert nodes(graph) == nodes(export(theirs, normal(4, *shape), exporter))
    x = normal(7, *shape, seed=1)  # another number of examples than the exporter saw
    torch.testing.assert_close(run(graph, x), ours(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("case", "training", "options", "exporter"),
    [
        ("(N, C)", True, {}, "dynamo"),
        ("(N, C)", True, {}, "legacy"),
        ("(N, C, H, W)", True, {}, "dynamo"),
        ("(N, C, H, W)", True, {}, "legacy"),
        # The legacy exporter refuses it with an unknown number of examples, from torch.nn as well.
        ("(N, C, H, W)", False, {"track_running_stats": False}, "dynamo"),
    ],
)
def test_batch_statistics_stay_batch_statistics(case, training, options, exporter):
    """torch.nn exported with dynamo=True gives evaluation mode here, and does not say so."""
    name, shape, _ = LAYERS[case]
    layer = settled(getattr(bnlab.nn, name)(3, **options)).train(training)
    graph = export(layer, normal(4, *shape), exporter)
    x = 3 * normal(7, *shape, seed=1) + 2
    torch.testing.assert_close(
        run(graph, x), copy.deepcopy(layer)(x).detach(), rtol=1e-4, atol=1e-4
    )


MODELS = {
    "mlp": (lambda: mlp([6, 5, 4, 3], norm=bnlab.nn.BatchNorm1d), (6,)),
    "convnet": (lambda: convnet((1, 8, 8), (4, 5), norm=bnlab.nn.BatchNorm2d), (1, 8, 8)),
    "residual": (lambda: residual_net(width=4, norm=bnlab.nn.BatchNorm2d), (1, 28, 28)),
    "mobile": (lambda: mobile_net(width=4, norm=bnlab.nn.BatchNorm2d), (1, 28, 28)),
}


@pytest.mark.parametrize(
    ("name", "exporter"),
    [*((name, "legacy") for name in MODELS), ("mlp", "dynamo"), ("mobile", "dynamo")],
)
def test_models_compute_the_same_before_and_after_folding(name, exporter):
    build, shape = MODELS[name]
    model, x = build(), normal(6, *shape)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            settled(part)
    model.eval()
    expected = model(x).detach()
    graph = export(model, x[:2], exporter)
    torch.testing.assert_close(run(graph, x), expected, rtol=1e-4, atol=1e-4)
    result = inference.fold(model, x)
    graph = export(result.model, x[:2], exporter)
    assert nodes(graph)["BatchNormalization"] == len(result.left)
    torch.testing.assert_close(run(graph, x), expected, rtol=1e-4, atol=1e-4)


def test_the_exporters_own_optimizer_folds_ours_as_it_folds_torchs():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), settled(bnlab.nn.BatchNorm2d(3)), nn.ReLU()).eval()
    graph = export(model, normal(2, 1, 6, 6), "dynamo", optimize=True)
    assert nodes(graph) == {"Conv": 1, "Relu": 1}


def test_exporting_leaves_the_eager_layer_as_it_is():
    layer = settled(bnlab.nn.BatchNorm2d(3))
    x = normal(4, 3, 5, 4).requires_grad_()
    before = layer(x)
    export(layer, x.detach(), "dynamo")
    assert torch.equal(layer(x), before)
