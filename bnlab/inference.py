r"""What Batch Normalization needs after training: population statistics, folding, freezing.

Everything works on the layers of :mod:`torch.nn` and on any layer that derives from them. Features
are axis 1 of a tensor (N, C) or (N, C, \*spatial).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnlab import _validate

__all__ = [
    "convert_momentum",
    "fold_conv",
    "fold_linear",
    "freeze",
    "half_life",
    "population_statistics",
    "recalibrate",
    "unfreeze",
]

# Whether `momentum` is the weight of the new batch (else it is the weight of the old average).
WEIGHS_THE_NEW_BATCH = {"torch": True, "keras": False, "flax": False, "onnx": False}


# ---- population statistics ----------------------------------------------------------------------


def population_statistics(batches: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Estimate the mean and variance of the population from mini-batches.

    .. math::

       \mathrm{E}[x] = \frac{\sum_i m_i \, \mu_i}{\sum_i m_i}, \qquad
       \mathrm{Var}[x] = \frac{\sum_i m_i \, \sigma_i^2}{\sum_i (m_i - 1)}

    For batches of one size m this is the paper's :math:`\mathrm{E}_B[\mu_B]` and
    :math:`\frac{m}{m - 1} \mathrm{E}_B[\sigma_B^2]`. The variance is the one *within* batches: it is
    unbiased when the values of a batch are independent draws, so shuffle before you batch.

    Parameters
    ----------
    batches : iterable of torch.Tensor
        Floats of shape (N, C) or (N, C, \*spatial) with one C for all, m > 1 values a feature each.
        Each is read once and only one is held, so a generator works.

    Returns
    -------
    mean, var : torch.Tensor
        Shape (C,), float64.

    Raises
    ------
    TypeError
        If `batches` is one tensor or not iterable, or a batch is not a tensor of floats.
    ValueError
        If there is no batch, or a batch is empty, has one value a feature, holds NaN or Inf, or has
        another number of features.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 2, line 10.

    Examples
    --------
    >>> batches = [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [9.0]])]
    >>> [value.tolist() for value in population_statistics(batches)]
    [[4.5], [5.0]]
    """
    moments = _Moments()
    for i, batch in enumerate(_iterable(batches)):
        moments.add(f"batches[{i}]", batch)
    if moments.count == 0:
        raise _no_batch()
    return moments.mean, moments.var


def recalibrate(
    model: nn.Module, batches: Iterable[Any], *, sequential: bool = True
) -> tuple[str, ...]:
    r"""Replace running statistics by population statistics, layer by layer, in place.

    .. math::

       \text{for } k = 1, \dots, K: \quad
       \big(\mathrm{E}[x^{(k)}], \mathrm{Var}[x^{(k)}]\big) \leftarrow
       \text{Algorithm 2 on the inputs of layer } k
       \text{ while layers } 1, \dots, k-1 \text{ are in evaluation mode}

    Each layer thus gets the statistics of exactly those inputs that it will meet at inference, where
    all earlier layers use their new statistics. The passes run in evaluation mode otherwise (Dropout
    is off) and without gradients. Modes and ``num_batches_tracked`` are left as they were, and after
    an error the running statistics are too.

    Parameters
    ----------
    model : torch.nn.Module
        Called as ``model(x)``. A layer that is called several times in a pass pools all its inputs,
        and normalizes each by its own batch until it has its statistics. Layers that keep no running
        statistics, are frozen, or are never reached stay as they are.
    batches : iterable
        Tensors, or tuples whose first item is one, moved to the model's device. Shuffled batches of
        the training set, as large as you like. Read K times, so a list or a DataLoader and not a
        generator. Uneven sizes are weighted as in :func:`population_statistics`.
    sequential : bool
        False takes all statistics in a single pass in which every layer normalizes by its own batch,
        as in training. It costs 1 pass instead of K and lets `batches` be a generator, but statistics
        after the first layer then belong to the noisier inputs that layers meet in training.

    Returns
    -------
    tuple of str
        Names of the layers that got new statistics, in order of execution.

    Raises
    ------
    TypeError
        If `model` is not a module, `batches` is one tensor, not iterable or can be read only once,
        or a batch holds no tensor.
    ValueError
        If no layer was reached or there is no batch, or the inputs of a layer are empty, have one
        value a feature or hold NaN or Inf; the message names the layer.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 2, lines 7 to 12. Line 11 replaces one layer after another
    in the inference network; the paper does not say in which network line 10 collects. `sequential`
    offers both readings. ``torch.optim.swa_utils.update_bn`` is the second, with Dropout on and every
    batch weighted alike.

    Examples
    --------
    >>> model = nn.Sequential(nn.BatchNorm1d(1), nn.ReLU(), nn.BatchNorm1d(1))
    >>> recalibrate(model, [torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [7.0]])])
    ('0', '2')
    >>> model[0].running_mean.tolist(), model[0].running_var.tolist()
    ([3.0], [13.0])
    """
    layers = {layer: name for name, layer in _layers(model) if _keeps_statistics(layer)}
    if isinstance(_iterable(batches), Iterator) and sequential:
        raise TypeError(
            f"batches is a {type(batches).__name__}, which can be read once; expected a list or a "
            f"DataLoader, because each layer needs its own pass. Pass list(batches), or "
            f"sequential=False for a single pass."
        )
    with _borrowed(model, layers), torch.no_grad():
        for layer in layers:
            layer.training = True
        found = _collect(model, batches, layers)
        if not found:
            raise ValueError(
                f"no Batch Normalization layer with running statistics was reached: the model has "
                f"{len(layers)} that could be. Expected at least one; is its running average "
                f"switched off (track_running_stats=False), or is it frozen?"
            )
        _store(layers, found)
        if sequential:  # the first layer has nothing before it, so its statistics stand
            for earlier, layer in pairwise(found):
                earlier.training = False
                _store(layers, _collect(model, batches, {layer: layers[layer]}))
    return tuple(layers[layer] for layer in found)


class _Moments:
    """The sums of Algorithm 2 over batches, in float64."""

    def __init__(self) -> None:
        self.count, self.degrees, self._sums, self._squares = 0, 0, 0.0, 0.0

    def add(self, name: str, x: Any) -> None:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            given = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
            raise TypeError(f"{name} is {given}; expected a tensor of floats. Convert it first.")
        if x.dim() < 2 or x.numel() == 0:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; expected (N, C) or (N, C, *spatial) with at "
                f"least one value. Put the features on axis 1 and skip empty batches."
            )
        if self.count and x.shape[1] != len(self._sums):
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; expected {len(self._sums)} features on axis 1, "
                f"like the batches before it. Take all batches from one layer."
            )
        m = x.numel() // x.shape[1]
        if m == 1:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}, one value a feature; expected at least 2, "
                f"because one value has no variance. Use larger batches; with a DataLoader, drop "
                f"the last incomplete one (drop_last=True)."
            )
        axes = [axis for axis in range(x.dim()) if axis != 1]
        # Each batch is centered on its own mean before it is squared, so a large mean costs no digits.
        var, mean = torch.var_mean(x.detach().double(), dim=axes, correction=0)
        if not (mean.isfinite().all() and var.isfinite().all()):
            raise ValueError(
                f"{name} holds {int((~x.isfinite()).sum())} NaN or Inf value(s) or overflows; "
                f"expected finite numbers, because one bad value poisons a whole statistic. Drop "
                f"or repair those examples first."
            )
        self.count, self.degrees = self.count + m, self.degrees + m - 1
        self._sums, self._squares = self._sums + m * mean, self._squares + m * var

    @property
    def mean(self) -> torch.Tensor:
        return self._sums / self.count

    @property
    def var(self) -> torch.Tensor:
        return self._squares / self.degrees


def _collect(
    model: nn.Module, batches: Iterable[Any], layers: dict[nn.Module, str]
) -> dict[nn.Module, _Moments]:
    """Run the model over all batches; return the moments of what each layer receives, first first."""
    found: dict[nn.Module, _Moments] = {}
    i = -1

    def observe(layer: nn.Module, args: tuple, kwargs: dict) -> None:
        x = args[0] if args else kwargs["input"]
        moments = found.setdefault(layer, _Moments())
        moments.add(f"the input of layer {layers[layer]!r} at batches[{i}]", x)

    handles = [layer.register_forward_pre_hook(observe, with_kwargs=True) for layer in layers]
    device = next((p.device for p in model.parameters()), None)
    try:
        for i, batch in enumerate(batches):
            x = batch[0] if isinstance(batch, tuple | list) and batch else batch
            if not isinstance(x, torch.Tensor):
                raise TypeError(
                    f"batches[{i}] is a {type(batch).__name__} without a tensor in front; expected a "
                    f"tensor or (input, target). Pick the input: [b['x'] for b in batches]."
                )
            model(x if device is None else x.to(device))
    finally:
        for handle in handles:
            handle.remove()
    if i < 0:
        raise _no_batch()
    return found


def _store(layers: dict[nn.Module, str], found: dict[nn.Module, _Moments]) -> None:
    for layer, moments in found.items():
        layer.running_mean.copy_(moments.mean)
        layer.running_var.copy_(moments.var)
        if not (layer.running_mean.isfinite().all() and layer.running_var.isfinite().all()):
            raise ValueError(
                f"the statistics of layer {layers[layer]!r} do not fit its {layer.running_var.dtype}: "
                f"the variance reaches {float(moments.var.max()):.3g}. Expected values that fit; "
                f"scale the inputs down, or keep the layer in a wider dtype."
            )


@contextmanager
def _borrowed(model: nn.Module, layers: Iterable[nn.Module]) -> Iterator[None]:
    """Lend the model out in evaluation mode; put all back but the statistics, after errors these too."""
    modes = {module: module.training for module in model.modules()}
    kept = {layer: {k: b.clone() for k, b in layer.named_buffers()} for layer in layers}
    changed: tuple[str, ...] = ()
    model.eval()
    try:
        yield
        changed = ("running_mean", "running_var")
    finally:
        for module, mode in modes.items():
            module.training = mode
        for layer, buffers in kept.items():
            for name in buffers.keys() - changed:
                layer.get_buffer(name).copy_(buffers[name])


def _layers(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}; expected a torch.nn.Module. Pass the network itself."
        )
    return [(name, m) for name, m in model.named_modules() if isinstance(m, _BatchNorm)]


def _keeps_statistics(layer: _BatchNorm) -> bool:
    return layer.running_mean is not None and not isinstance(layer, _Frozen)


def _iterable(batches: Any) -> Iterable[Any]:
    if isinstance(batches, torch.Tensor) or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches is a {type(batches).__name__}; expected an iterable of batches. Put a single "
            f"batch in a list: [x]."
        )
    return batches


def _no_batch() -> ValueError:
    return ValueError(
        "batches holds no batch; expected at least one. A generator that was read once is empty: "
        "make a new one, or pass a list."
    )


# ---- folding ------------------------------------------------------------------------------------


def fold_linear(linear: nn.Linear, bn: nn.Module) -> nn.Linear:
    r"""Return one linear layer that computes what `linear` followed by `bn` computes at inference.

    .. math::

       s = \frac{\gamma}{\sqrt{\mathrm{Var}[x] + \epsilon}}, \qquad
       W' = \operatorname{diag}(s) \, W, \qquad b' = s \, (b - \mathrm{E}[x]) + \beta

    Parameters
    ----------
    linear : torch.nn.Linear
        With bias or without, applied to inputs (N, in_features).
    bn : a Batch Normalization layer of torch.nn, or derived from one
        In evaluation mode, with ``out_features`` features; gamma and beta may be missing.

    Returns
    -------
    torch.nn.Linear
        New, with a bias, of the dtype and device of `linear`. The inputs are untouched. The
        arithmetic runs in float64 and is rounded once.

    Raises
    ------
    TypeError
        If an argument is another kind of layer.
    ValueError
        If `bn` is in training mode, has no running statistics or another number of features, or a
        result is NaN or Inf.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 2, line 11, composed with the layer before it.

    Examples
    --------
    >>> linear, bn = nn.Linear(3, 2), nn.BatchNorm1d(2).eval()
    >>> x = torch.ones(4, 3)
    >>> bool(torch.allclose(fold_linear(linear, bn)(x), bn(linear(x)), atol=1e-6))
    True
    """
    _require_kind("linear", linear, (nn.Linear,), "For convolutions use fold_conv.")
    scale, shift = _affine_map("linear", linear.out_features, linear.bias, bn)
    folded = nn.utils.skip_init(
        nn.Linear, linear.in_features, linear.out_features, bias=True, **_factory(linear.weight)
    )
    return _fill(folded, linear, linear.weight.detach().double() * scale[:, None], shift)


def fold_conv(conv: nn.Module, bn: nn.Module) -> nn.Module:
    r"""Return one convolution that computes what `conv` followed by `bn` computes at inference.

    .. math::

       s_c = \frac{\gamma_c}{\sqrt{\mathrm{Var}[x_c] + \epsilon}}, \qquad
       W'_c = s_c \, W_c, \qquad b'_c = s_c \, (b_c - \mathrm{E}[x_c]) + \beta_c
       \qquad \text{for each output channel } c

    Parameters
    ----------
    conv : torch.nn.Conv1d, Conv2d, Conv3d, or ConvTranspose1d, 2d, 3d
        With bias or without; any stride, padding, dilation and number of groups.
    bn : a Batch Normalization layer of torch.nn, or derived from one
        In evaluation mode, with ``out_channels`` features; gamma and beta may be missing.

    Returns
    -------
    torch.nn.Module
        New, of the kind, dtype and device of `conv`, with a bias. The inputs are untouched. The
        arithmetic runs in float64 and is rounded once.

    Raises
    ------
    TypeError
        If an argument is another kind of layer.
    ValueError
        If `bn` is in training mode, has no running statistics or another number of features, or a
        result is NaN or Inf.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 3.2 (one pair of parameters a feature map), composed with
    the convolution. Folding is into the layer *before*: into the one after, zero padding would be
    in the way.

    Examples
    --------
    >>> conv, bn = nn.Conv2d(3, 4, 3, groups=1, bias=False), nn.BatchNorm2d(4).eval()
    >>> x = torch.ones(2, 3, 5, 5)
    >>> bool(torch.allclose(fold_conv(conv, bn)(x), bn(conv(x)), atol=1e-6))
    True
    """
    kind = _require_kind("conv", conv, _CONVOLUTIONS, "For linear layers use fold_linear.")
    scale, shift = _affine_map("conv", conv.out_channels, conv.bias, bn)
    weight = conv.weight.detach().double()
    options = {name: getattr(conv, name) for name in _CONVOLUTION_OPTIONS}
    if (
        conv.transposed
    ):  # weight (in, out / groups, *kernel): split axis 0 to meet each group's outputs
        options["output_padding"] = conv.output_padding
        grouped = weight.unflatten(0, (conv.groups, -1))
        by_group = scale.reshape(conv.groups, 1, -1, *(1,) * (weight.dim() - 2))
        weight = (grouped * by_group).flatten(0, 1)
    else:
        weight = weight * scale.reshape(-1, *(1,) * (weight.dim() - 1))
    folded = nn.utils.skip_init(kind, **options, bias=True, **_factory(conv.weight))
    return _fill(folded, conv, weight, shift)


_CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
)  # fmt: skip
_CONVOLUTION_OPTIONS = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"
)  # fmt: skip


def _require_kind(name: str, layer: nn.Module, kinds: tuple[type, ...], hint: str) -> type:
    """Return which of the kinds a layer is; a subclass with a forward pass of its own is none."""
    kind = next((k for k in kinds if isinstance(layer, k)), None)
    if kind is None or type(layer).forward is not kind.forward:
        raise TypeError(
            f"{name} is a {type(layer).__name__}; expected {', '.join(k.__name__ for k in kinds)} of "
            f"torch.nn, with its own forward pass. {hint}"
        )
    return kind


def _affine_map(
    name: str, channels: int, bias: torch.Tensor | None, bn: nn.Module
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `bn` does to an output without its bias: scale and shift, float64 (C,)."""
    if not isinstance(bn, _BatchNorm):
        raise TypeError(
            f"bn is a {type(bn).__name__}; expected a Batch Normalization layer. Only their "
            f"statistics are fixed at inference, so only they can be folded."
        )
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError(
            "bn has no running statistics (track_running_stats=False), so it normalizes by the batch "
            "even at inference; expected fixed ones. Build it with track_running_stats=True, load the "
            "weights and call bnlab.inference.recalibrate."
        )
    if bn.training:
        raise ValueError(
            "bn is in training mode, where its output depends on the other examples, so no fixed layer "
            "equals it; expected evaluation mode. Call model.eval() first."
        )
    if bn.num_features != channels:
        raise ValueError(
            f"bn has {bn.num_features} features; expected {channels}, the outputs of {name}. Pass the "
            f"layer that directly follows it."
        )
    mean, var = bn.running_mean.double(), bn.running_var.double()
    scale = torch.rsqrt(var + bn.eps)
    if bn.weight is not None:
        scale = scale * bn.weight.detach().double()
    shift = ((0 if bias is None else bias.detach().double()) - mean) * scale
    if bn.bias is not None:
        shift = shift + bn.bias.detach().double()
    return scale, shift


def _fill(folded: nn.Module, source: nn.Module, weight: torch.Tensor, bias: torch.Tensor):
    with torch.no_grad():
        folded.weight.copy_(weight)
        folded.bias.copy_(bias)
    if not (folded.weight.isfinite().all() and folded.bias.isfinite().all()):
        raise ValueError(
            f"the folded layer holds NaN or Inf; expected finite numbers that fit "
            f"{folded.weight.dtype}. Look for NaN, a negative running_var, or a running_var of 0 "
            f"with eps=0."
        )
    folded.requires_grad_(source.weight.requires_grad)
    return folded.train(source.training)


def _factory(weight: torch.Tensor) -> dict[str, Any]:
    return {"device": weight.device, "dtype": weight.dtype}


# ---- freezing -----------------------------------------------------------------------------------


def freeze(model: nn.Module, *, affine: bool = False) -> tuple[str, ...]:
    r"""Make every Batch Normalization layer use its running statistics for good, also in training.

    .. math::

       y = \gamma \, \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} + \beta
       \qquad \text{with constant } \mathrm{E}[x], \mathrm{Var}[x] \text{, whatever the mode}

    ``model.train()`` does not wake a frozen layer: ``layer.training`` stays False. Copies, pickles and
    ``state_dict`` work as before, parameters stay the same objects, and each class name gets the
    prefix ``Frozen``.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place. Freezing twice is the same as freezing once.
    affine : bool
        True also stops the training of gamma and beta (``requires_grad = False``).

    Returns
    -------
    tuple of str
        Names of the frozen layers.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If the model has no Batch Normalization layer, or one has no running statistics.

    Notes
    -----
    A frozen layer is an affine map: its gradient is :math:`\gamma / \sqrt{\mathrm{Var}[x] + \epsilon}`
    and lacks the two projections that training mode has.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> freeze(model)
    ('1',)
    >>> model.train()[1].training
    False
    """
    layers = _layers(model)
    if not layers:
        raise ValueError(
            "the model has no Batch Normalization layer; expected at least one to freeze."
        )
    for name, layer in layers:
        if layer.running_mean is None:
            raise ValueError(
                f"layer {name!r} has no running statistics (track_running_stats=False); expected some "
                f"to freeze. Build it with track_running_stats=True and call recalibrate first."
            )
    for _, layer in layers:
        if not isinstance(layer, _Frozen):
            layer.__class__ = _frozen_class(type(layer))
        layer.eval()
        if affine:
            layer.requires_grad_(False)
    return tuple(name for name, _ in layers)


def unfreeze(model: nn.Module, *, affine: bool = False) -> tuple[str, ...]:
    """Undo :func:`freeze`: the layers follow ``model.train()`` again.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place; thawed layers take the mode of the model.
    affine : bool
        True also trains gamma and beta again (``requires_grad = True``).

    Returns
    -------
    tuple of str
        Names of the layers that were frozen.

    Raises
    ------
    TypeError
        If `model` is not a module.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> freeze(model) == unfreeze(model)
    True
    >>> model.train()[1].training
    True
    """
    frozen = [(name, layer) for name, layer in _layers(model) if isinstance(layer, _Frozen)]
    for _, layer in frozen:
        layer.__class__ = _thawed_class(layer)
        layer.train(model.training)
        if affine:
            layer.requires_grad_(True)
    return tuple(name for name, _ in frozen)


class _Frozen:
    """Mixed in before a layer's own class, whose forward pass thereby stays in evaluation mode."""

    def train(self, mode: bool = True):
        return super().train(False)

    def __reduce__(self):  # the mixed class has no importable name: copies and pickles make it anew
        return _new_frozen, (_thawed_class(self),), self.__dict__


@cache
def _frozen_class(kind: type) -> type:
    # With the layer's own module name, torch.fx still takes the layer for one of torch.nn.
    return type(f"Frozen{kind.__name__}", (_Frozen, kind), {"__module__": kind.__module__})


def _thawed_class(layer: nn.Module) -> type:
    return type(layer).__bases__[1]


def _new_frozen(kind: type) -> nn.Module:
    made = _frozen_class(kind)
    return made.__new__(made)


# ---- momentum -----------------------------------------------------------------------------------


def convert_momentum(value: float | None, *, source: str, to: str) -> float | None:
    r"""Translate the momentum of a running average from one framework's convention to another's.

    .. math::

       \text{torch:}\quad \mu \leftarrow (1 - \alpha) \, \mu + \alpha \, \mu_B
       \qquad\qquad
       \text{Keras, flax, ONNX:}\quad \mu \leftarrow \alpha \, \mu + (1 - \alpha) \, \mu_B

    Parameters
    ----------
    value : float or None
        The momentum :math:`\alpha`, from 0 to 1. None is torch's cumulative average, which weights
        all batches alike; the others have no such setting.
    source, to : {"torch", "keras", "flax", "onnx"}
        Convention of `value`, and the one wanted.

    Returns
    -------
    float or None
        ``value`` or ``1 - value``, without rounding dust: 0.99 becomes 0.01.

    Raises
    ------
    TypeError
        If `value` is not a number.
    ValueError
        If `value` is outside [0, 1], a convention is unknown, or None has no translation.

    Notes
    -----
    Sources: ``torch.nn.BatchNorm1d`` (the new value is ``(1 - momentum) * old + momentum * observed``),
    ``keras.layers.BatchNormalization`` (``moving_mean * momentum + mean(batch) * (1 - momentum)``),
    ``flax.nnx.BatchNorm`` ("decay rate for the exponential moving average"), ONNX operator
    BatchNormalization 15 (``input_mean * momentum + current_mean * (1 - momentum)``). The momentum is
    not all that differs: torch averages unbiased variances, ONNX and flax biased ones, and Keras
    either, by backend and version.

    Examples
    --------
    >>> convert_momentum(0.99, source="keras", to="torch")
    0.01
    >>> convert_momentum(0.1, source="torch", to="flax")
    0.9
    """
    for name, convention in (("source", source), ("to", to)):
        if convention not in WEIGHS_THE_NEW_BATCH:
            raise ValueError(
                f"{name} is {convention!r}; expected one of {', '.join(WEIGHS_THE_NEW_BATCH)}. "
                f"Others follow one of these: look up whether momentum weights the new batch."
            )
    if value is None:
        if source == to == "torch":
            return None
        raise ValueError(
            f"value is None, torch's cumulative average of all batches; expected a number for "
            f"{source} to {to}, because no fixed momentum weights all batches alike. Run "
            f"recalibrate in torch and copy the statistics."
        )
    value = _validate.number("value", value, low=0, high=1)
    if WEIGHS_THE_NEW_BATCH[source] == WEIGHS_THE_NEW_BATCH[to]:
        return value
    return float(1 - Decimal(repr(value)))


def half_life(momentum: float) -> float:
    r"""Return after how many batches the weight of the past in a running average has halved.

    .. math:: (1 - \alpha)^t = \frac{1}{2}
              \quad\Longleftrightarrow\quad t = \frac{\log(1/2)}{\log(1 - \alpha)}

    Parameters
    ----------
    momentum : float
        :math:`\alpha` in torch's convention, the weight of the new batch, from 0 to 1.

    Returns
    -------
    float
        Number of batches; infinite for 0 (never updated), 0 for 1 (only the last batch counts).

    Raises
    ------
    TypeError
        If `momentum` is not a number.
    ValueError
        If `momentum` is outside [0, 1].

    Examples
    --------
    >>> round(half_life(0.1), 2), round(half_life(0.01), 1)
    (6.58, 69.0)
    """
    momentum = _validate.number("momentum", momentum, low=0, high=1)
    if momentum in (0, 1):
        return math.inf if momentum == 0 else 0.0
    return math.log(0.5) / math.log1p(-momentum)
