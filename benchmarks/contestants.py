"""Who is measured: each function returns what to call for the forward pass, for both passes, at inference.

A builder gets the shape, makes its own float32 inputs in its own library, and returns a dict from the
name of a pass to a function without arguments. A peer that is not installed raises ImportError and
is left out of the table. Peers work in their own habit: flax puts features last and is compiled;
autograd differentiates the textbook form.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

import bnlab.nn
from bnlab import kernels as fused
from bnlab import reference
from bnlab.chapters.making_it_fast.experiments import FORMS, batch

FORWARD, BOTH, INFERENCE = "forward", "forward + backward", "inference"
PASSES = (FORWARD, BOTH, INFERENCE)
Runs = dict[str, Callable[[], object]]


def numpy_form(name: str) -> Callable[[tuple[int, ...]], Runs]:
    """Measure one of the ways of Chapter 14 to write the layer in NumPy."""

    def build(shape: tuple[int, ...]) -> Runs:
        x, gamma, beta, dy = batch(shape)
        form = FORMS[name]

        def both() -> None:
            _, saved = form.forward(x, gamma, beta)
            form.backward(dy, saved)

        return {FORWARD: lambda: form.forward(x, gamma, beta), BOTH: both}

    return build


def numpy_out(shape: tuple[int, ...]) -> Runs:
    """Measure the form in blocks writing into arrays that exist."""
    x, gamma, beta, dy = batch(shape)
    y, x_hat, dx = np.empty((3, *shape), np.float32)
    form = FORMS["in blocks"]

    def both() -> None:
        _, saved = form.forward(x, gamma, beta, out=(y, x_hat))
        form.backward(dy, saved, out=dx)

    return {FORWARD: lambda: form.forward(x, gamma, beta, out=(y, x_hat)), BOTH: both}


def numpy_arrays(package) -> Callable[[tuple[int, ...]], Runs]:
    """Measure the functions on arrays of bnlab.reference or of bnlab.kernels."""

    def build(shape: tuple[int, ...]) -> Runs:
        if package is fused and not fused.available():
            raise ImportError("numba")
        x, gamma, beta, dy = batch(shape)
        fixed = (beta, gamma)  # any mean and variance

        def both() -> None:
            _, cache = package.batch_norm_forward(x, gamma, beta)
            package.batch_norm_backward(dy, cache)

        return {
            FORWARD: lambda: package.batch_norm_forward(x, gamma, beta),
            BOTH: both,
            INFERENCE: lambda: package.batch_norm_inference(x, gamma, beta, *fixed),
        }

    return build


def torch_layer(package, *, compiled: bool = False, kernels: bool = False):
    """Measure the layer of torch.nn or of bnlab.nn, with its running statistics."""

    def build(shape: tuple[int, ...]) -> Runs:
        x, gamma, beta, dy = map(torch.from_numpy, batch(shape))
        kind = {2: package.BatchNorm1d, 3: package.BatchNorm1d, 4: package.BatchNorm2d}
        layer = kind[len(shape)](shape[1])
        with torch.no_grad():
            layer.weight.copy_(gamma)
            layer.bias.copy_(beta)
        frozen = kind[len(shape)](shape[1]).eval()
        if compiled:
            torch.compiler.reset()  # or the compiler gives up after a few shapes of one layer
        train = torch.compile(layer, dynamic=False) if compiled else layer
        infer = torch.compile(frozen, dynamic=False) if compiled else frozen
        leaf = x.clone().requires_grad_()
        wanted = (leaf, layer.weight, layer.bias)

        def both() -> None:
            torch.autograd.grad(train(leaf), wanted, dy)

        @torch.no_grad()
        def forward() -> None:
            train(x)

        @torch.inference_mode()
        def inference() -> None:
            infer(x)

        return {FORWARD: forward, BOTH: both, INFERENCE: inference}

    def with_kernels(shape: tuple[int, ...]) -> Runs:
        if not fused.available():
            raise ImportError("numba")

        def switched(run: Callable[[], object]) -> Callable[[], None]:
            def call() -> None:
                with fused.enable():
                    run()

            return call

        return {name: switched(run) for name, run in build(shape).items()}

    return with_kernels if kernels else build


def jax_flax(shape: tuple[int, ...]) -> Runs:
    """Measure flax.linen.BatchNorm, compiled; features last, as is its habit."""
    import jax
    from flax import linen

    x, _, _, dy = (np.moveaxis(a, 1, -1) if a.ndim > 1 else a for a in batch(shape))
    x, dy = jax.device_put(np.ascontiguousarray(x)), jax.device_put(np.ascontiguousarray(dy))
    layer = linen.BatchNorm(use_running_average=False)
    state = layer.init(jax.random.key(0), x)
    frozen = linen.BatchNorm(use_running_average=True)

    def apply(params, x):
        variables = {"params": params, "batch_stats": state["batch_stats"]}
        return layer.apply(variables, x, mutable=["batch_stats"])

    @jax.jit
    def both(params, x, dy):
        y, back, stats = jax.vjp(apply, params, x, has_aux=True)
        return y, stats, back(dy)

    forward, infer = jax.jit(apply), jax.jit(frozen.apply)
    return {
        FORWARD: lambda: jax.block_until_ready(forward(state["params"], x)),
        BOTH: lambda: jax.block_until_ready(both(state["params"], x, dy)),
        INFERENCE: lambda: jax.block_until_ready(infer(state, x)),
    }


def keras_layer(shape: tuple[int, ...]) -> Runs:
    """Measure keras.layers.BatchNormalization on its torch backend."""
    import keras

    if keras.backend.backend() != "torch":
        raise ImportError("keras on torch")
    x, _, _, dy = map(torch.from_numpy, batch(shape))
    layer = keras.layers.BatchNormalization(axis=1)
    layer.build(shape)
    leaf = x.clone().requires_grad_()
    wanted = (leaf, layer.gamma.value, layer.beta.value)

    def both() -> None:
        torch.autograd.grad(layer(leaf, training=True), wanted, dy)

    @torch.no_grad()
    def forward() -> None:
        layer(x, training=True)

    @torch.inference_mode()
    def inference() -> None:
        layer(x, training=False)

    return {FORWARD: forward, BOTH: both, INFERENCE: inference}


def hips_autograd(shape: tuple[int, ...]) -> Runs:
    """Measure the textbook form, differentiated by HIPS autograd."""
    import autograd
    import autograd.numpy as anp

    x, gamma, beta, dy = batch(shape)
    axes, kept = (0, *range(2, len(shape))), (1, -1, *(1,) * (len(shape) - 2))

    def layer(inputs):
        x, gamma, beta = inputs
        mean = anp.mean(x, axis=axes, keepdims=True)
        var = anp.mean((x - mean) ** 2, axis=axes, keepdims=True)
        x_hat = (x - mean) / anp.sqrt(var + 1e-5)
        return anp.reshape(gamma, kept) * x_hat + anp.reshape(beta, kept)

    def both() -> None:
        back, _ = autograd.make_vjp(layer)((x, gamma, beta))
        back(dy)

    return {FORWARD: lambda: layer((x, gamma, beta)), BOTH: both}


def onnx_runtime(shape: tuple[int, ...]) -> Runs:
    """Measure onnxruntime on torch's layer, exported in evaluation mode."""
    import onnxruntime

    x, *_ = batch(shape)
    layer = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1]).eval()
    file = io.BytesIO()
    torch.onnx.export(layer, (torch.from_numpy(x),), file, dynamo=False, input_names=["x"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    return {INFERENCE: lambda: session.run(None, {"x": x})}


BASELINE = "torch native"
OURS: dict[str, Callable[[tuple[int, ...]], Runs]] = {
    BASELINE: torch_layer(nn),
    "NumPy textbook": numpy_form("textbook"),
    "NumPy fewer passes": numpy_form("fewer passes"),
    "NumPy in place": numpy_form("in place"),
    "NumPy in blocks": numpy_form("in blocks"),
    "NumPy in blocks, out=": numpy_out,
    "bnlab.reference": numpy_arrays(reference),
    "bnlab.kernels": numpy_arrays(fused),
    "bnlab.nn": torch_layer(bnlab.nn),
    "bnlab.nn, compiled": torch_layer(bnlab.nn, compiled=True),
    "bnlab.nn, kernels": torch_layer(bnlab.nn, kernels=True),
}
PEERS: dict[str, Callable[[tuple[int, ...]], Runs]] = {
    "jax + flax": jax_flax,
    "keras on torch": keras_layer,
    "HIPS autograd": hips_autograd,
    "onnxruntime": onnx_runtime,
}

FOLDING = (
    "linear, 1024 to 1024 features",
    "convolution, 3 by 3, 64 channels",
    "the same, one channel each",
)


def folding_pairs() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Return, for two kinds of layers, the pair with its normalization and the folded layer."""
    from bnlab import inference

    def runs(model: nn.Sequential, x: torch.Tensor) -> tuple[Callable, Callable]:
        model = model.eval()
        folded = inference.fold(model, x).model

        def call(network: nn.Module) -> Callable[[], object]:
            @torch.inference_mode()
            def run() -> torch.Tensor:
                return network(x)

            return run

        return call(model), call(folded)

    linear = nn.Sequential(nn.Linear(1024, 1024), nn.BatchNorm1d(1024), nn.ReLU())
    separate = nn.Conv2d(64, 64, 3, padding=1, groups=64)
    conv = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
    depthwise = nn.Sequential(separate, nn.BatchNorm2d(64), nn.ReLU())
    rows, images = torch.randn(4096, 1024), torch.randn(8, 64, 56, 56)
    models = ((linear, rows), (conv, images), (depthwise, images))
    return {name: runs(*model) for name, model in zip(FOLDING, models, strict=True)}
