"""Fold a Batch Normalization layer at inference into the linear layer or convolution before it."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from bnlab import nn as layers

Convolution = TypeVar("Convolution", bound=_ConvNd)
Layer = TypeVar("Layer", bound=nn.Linear | _ConvNd)


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
        If an argument is another kind of layer, or one that cannot follow the other.
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
    _require_pair("linear", linear, linear.out_features, bn, rank=1)
    return absorb_after(linear, Affine.of(bn))


def fold_conv(conv: Convolution, bn: nn.Module) -> Convolution:
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
        If an argument is another kind of layer, or one that cannot follow the other.
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
    _require_kind("conv", conv, CONVOLUTIONS, "For linear layers use fold_linear.")
    _require_pair("conv", conv, conv.out_channels, bn, rank=len(conv.kernel_size))
    return absorb_after(conv, Affine.of(bn))


class Affine(NamedTuple):
    """What a normalization does to each feature at inference: scale * (x - center) + shift, in float64."""

    center: torch.Tensor  # (C,)
    scale: torch.Tensor
    shift: torch.Tensor

    @classmethod
    def of(cls, bn: Any) -> Affine:
        """Read it from a layer."""
        return cls.from_statistics(bn.running_mean, bn.running_var, bn.weight, bn.bias, bn.eps)

    @classmethod
    def from_statistics(
        cls,
        mean: torch.Tensor,
        var: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        eps: float,
    ) -> Affine:
        """Compute it from what a layer holds."""
        scale = torch.rsqrt(widened(var) + eps)
        if weight is not None:
            scale = scale * widened(weight)
        return cls(widened(mean), scale, torch.zeros_like(scale) if bias is None else widened(bias))

    @property
    def size(self) -> float:
        """Return the largest of the numbers that its sum is made of: rounding is relative to them."""
        return max(float((self.scale * self.center).abs().max()), float(self.shift.abs().max()))


def absorb_after(layer: Layer, affine: Affine) -> Layer:
    """Return one layer that computes what `layer` followed by `affine` computes."""
    weight, bias = widened(layer.weight), 0 if layer.bias is None else widened(layer.bias)
    if isinstance(layer, _ConvNd) and layer.transposed:
        # Weights have shape (in, out / groups, *kernel), so each group has its own outputs on axis 1:
        # make the groups an axis to multiply each by the scale of its own outputs.
        grouped = weight.unflatten(0, (layer.groups, -1))
        by_group = affine.scale.reshape(layer.groups, 1, -1, *(1,) * (weight.dim() - 2))
        weight = (grouped * by_group).flatten(0, 1)
    else:
        weight = weight * affine.scale.reshape(-1, *(1,) * (weight.dim() - 1))
    return _fill(layer, weight, (bias - affine.center) * affine.scale + affine.shift)


def absorb_before(affine: Affine, layer: Layer) -> Layer:
    """Return one layer that computes what `affine` followed by `layer` computes.

    The layer is a linear one, or a convolution that is not transposed and does not pad with zeros: what
    is padded is not shifted.
    """
    weight, bias = widened(layer.weight), 0 if layer.bias is None else widened(layer.bias)
    groups = layer.groups if isinstance(layer, _ConvNd) else 1
    # Weights have shape (out, in / groups, *kernel): the outputs of a group read its own inputs.
    grouped = weight.unflatten(0, (groups, -1))
    scale, constant = (
        v.reshape(groups, 1, -1, *(1,) * (weight.dim() - 2))
        for v in (affine.scale, affine.shift - affine.scale * affine.center)
    )
    summed = (grouped * constant).flatten(0, 1).flatten(1).sum(1)
    return _fill(layer, (grouped * scale).flatten(0, 1), bias + summed)


def pads_with_zeros(conv: _ConvNd) -> bool:
    """Tell whether a convolution adds zeros around its input; a copy of the edge would be no matter."""
    return conv.padding_mode == "zeros" and any(conv._reversed_padding_repeated_twice)


_BY_RANK = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
)  # fmt: skip
_CONVOLUTION_OPTIONS = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"
)  # fmt: skip


_NORMALIZATIONS = {
    kind.forward
    for kind in (
        _BatchNorm,
        nn.SyncBatchNorm,
        layers.BatchNorm1d,
        layers.DetachedBatchNorm1d,
        layers.GhostBatchNorm1d,
        layers.BatchRenorm1d,
        layers.SyncBatchNorm,
    )
}


def kind_of(layer: nn.Module, kinds: tuple[type, ...]) -> type | None:
    """Return which of `kinds` a layer is; None if it is none, or has a forward pass of its own."""
    kind = next((k for k in kinds if isinstance(layer, k)), None)
    own = kind is None or type(layer).forward is not kind.forward or "forward" in vars(layer)
    return None if own else kind


def normalizes_plainly(bn: nn.Module) -> bool:
    """Tell whether a layer only normalizes; a subclass may also apply a nonlinearity, for example."""
    return type(bn).forward in _NORMALIZATIONS and "forward" not in vars(bn)


def widened(values: torch.Tensor) -> torch.Tensor:
    """Return values in double precision, on the CPU because not every device has that precision."""
    dtype = torch.complex128 if values.is_complex() else torch.float64
    return values.detach().to("cpu", dtype)


def require_values(name: str, model: nn.Module) -> None:
    """Refuse a model on the meta device, where tensors have a shape but no numbers."""
    for key, value in itertools.chain(model.named_parameters(), model.named_buffers()):
        if value.is_meta:
            raise ValueError(
                f"{key} of {name} is on the meta device, which holds no numbers; expected a model with "
                f"its weights. Call model.to_empty(device='cpu') and load a state_dict first."
            )


def _require_kind(name: str, layer: nn.Module, kinds: tuple[type, ...], hint: str) -> type:
    """Return which of `kinds` a layer is, else raise."""
    kind = kind_of(layer, kinds)
    if kind is None:
        raise TypeError(
            f"{name} is a {type(layer).__name__}; expected {', '.join(k.__name__ for k in kinds)} of "
            f"torch.nn, with its own forward pass. {hint}"
        )
    return kind


def _require_pair(
    name: str, layer: nn.Linear | _ConvNd, channels: int, bn: nn.Module, rank: int
) -> None:
    """Raise unless `bn` can be folded into `layer`, which it follows."""
    if not isinstance(bn, _BatchNorm):
        raise TypeError(
            f"bn is a {type(bn).__name__}; expected a Batch Normalization layer. Only their "
            f"statistics are fixed at inference, so only they can be folded."
        )
    if not normalizes_plainly(bn):
        raise TypeError(
            f"bn is a {type(bn).__name__}, whose forward pass is its own; expected one that normalizes "
            f"and does nothing else. Take what it adds, such as a nonlinearity, out of it."
        )
    given = next((d for d, kind in _BY_RANK.items() if isinstance(bn, kind)), None)
    if given not in (None, rank):  # torch.nn.SyncBatchNorm follows layers of any rank
        raise TypeError(
            f"bn is a {type(bn).__name__}; expected a BatchNorm{rank}d, because that is what can follow {name}. "
            f"Pass the layer that directly follows it."
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
    require_values("bn", bn)
    require_values(name, layer)
    if bn.num_features != channels:
        raise ValueError(
            f"bn has {bn.num_features} features; expected {channels}, the outputs of {name}. Pass the "
            f"layer that directly follows it."
        )


def _fill(source: Layer, weight: torch.Tensor, bias: torch.Tensor) -> Layer:
    """Return a new layer like `source`, of its own plain class, with this weight and bias."""
    if isinstance(source, nn.Linear):
        kind, options = nn.Linear, {n: getattr(source, n) for n in ("in_features", "out_features")}
    else:
        kind = next(k for k in CONVOLUTIONS if isinstance(source, k))
        options = {name: getattr(source, name) for name in _CONVOLUTION_OPTIONS}
        if source.transposed:
            options["output_padding"] = source.output_padding
    folded: Any = nn.utils.skip_init(kind, **options, bias=True, **_factory(source.weight))
    with torch.no_grad():
        folded.weight = nn.Parameter(torch.empty_like(source.weight))  # of the same memory format
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
    """Return the arguments that give a new layer the device and dtype of a weight."""
    return {"device": weight.device, "dtype": weight.dtype}
