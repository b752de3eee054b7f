"""Argument checks of batch_norm: errors of the type that torch raises, which also say how to mend it."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def check_arguments(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    training: bool,
    momentum: float | Tensor,
    eps: float,
    alone: bool = True,
) -> None:
    """Raise what torch.nn.functional.batch_norm raises for the same arguments.

    Where the values of one input are not all there are, `alone` is False: one value a feature is enough.
    """
    check_tensor("input", input)
    named = (
        ("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias),
    )  # fmt: skip
    per_feature = {name: value for name, value in named if value is not None}
    for name, value in per_feature.items():
        check_tensor(name, value)
    _numbers(momentum, eps, training)
    _input(input, training and alone)
    _statistics(running_mean, running_var, training)
    _match(input, per_feature)


def check_tensor(name: str, value: object) -> None:
    """Raise a TypeError unless `value` is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} is a {type(value).__name__}; expected a torch.Tensor of floats. Convert it "
            f"first: torch.tensor({name}, dtype=torch.float32)."
        )


def check_rank(input: Tensor, ranks: tuple[int, ...], layer: str) -> None:
    """Raise a ValueError, with the words of torch, unless a layer takes so many axes."""
    if input.dim() in ranks:
        return
    wanted = " or ".join(f"{rank}D" for rank in ranks)
    takes = {2: "(N, C)", 3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, D, H, W)"}
    advice = [f"{layer} takes " + " or ".join(takes[rank] for rank in ranks)]
    if input.dim() + 1 in ranks:
        advice.append("for one example without an axis N, use input.unsqueeze(0)")
    if input.dim() in takes:
        dimensions = max(input.dim() - 2, 1)
        advice.append(f"for {takes[input.dim()]}, use BatchNorm{dimensions}d")
    raise ValueError(
        f"expected {wanted} input (got {input.dim()}D input of shape {tuple(input.shape)}): "
        f"{'; '.join(advice)}."
    )


def _numbers(momentum: float | Tensor, eps: float, training: bool) -> None:
    if not isinstance(momentum, (float, Tensor)) and not hasattr(momentum, "__float__"):
        raise TypeError(
            f"batch_norm(): argument 'momentum' must be float, not {type(momentum).__name__}. Pass "
            f"the weight of the new batch; for a cumulative average use a layer with momentum=None."
        )
    if not isinstance(eps, (float, Tensor)) and not hasattr(eps, "__float__"):
        raise TypeError(
            f"batch_norm(): argument 'eps' must be float, not {type(eps).__name__}. Pass 1e-5."
        )
    if training and eps <= 0:
        raise ValueError(
            f"batch_norm eps must be positive during training, but got {eps}: a constant feature "
            f"would be divided by 0. Pass 1e-5."
        )
    if eps < 0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}. Pass 1e-5.")


def _input(input: Tensor, needs_variance: bool) -> None:
    if input.dim() < 2:
        raise IndexError(
            f"Dimension out of range: input has shape {tuple(input.shape)}, expected (N, C) or "
            f"(N, C, *spatial) with the features on axis 1. For one feature: input.reshape(-1, 1)."
        )
    if not input.is_floating_point():
        raise NotImplementedError(
            f"\"batch_norm\" not implemented for '{str(input.dtype).removeprefix('torch.')}'; "
            f"expected floats. Convert the input first: input.float()."
        )
    if input.layout != torch.strided:
        raise NotImplementedError(
            f"batch_norm is not implemented for the layout {input.layout}; expected a dense tensor. "
            f"Convert the input first: input.to_dense()."
        )
    if input.shape[1] == 0:
        raise ValueError(
            f"input has shape {tuple(input.shape)}, no features on axis 1; expected at least one. "
            f"Leave the layer out where there is nothing to normalize."
        )
    if needs_variance and input.numel() == input.shape[1]:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {input.shape}, "
            f"because one value has no variance. Use larger batches (with a DataLoader, "
            f"drop_last=True) or evaluation mode."
        )


def _statistics(running_mean: Tensor | None, running_var: Tensor | None, training: bool) -> None:
    pair = {"running_mean": running_mean, "running_var": running_var}
    missing = [name for name, value in pair.items() if value is None]
    if missing and not training:
        raise RuntimeError(
            f"{missing[0]} must be defined in evaluation mode. Pass both statistics, or "
            f"training=True to normalize by the batch."
        )
    if len(missing) == 1:
        raise ValueError(
            f"running_mean and running_var must either both be None or neither be None, but "
            f"{missing[0]} is None. Pass the other one too."
        )
    for name, value in pair.items():
        if value is not None and value.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                f"batch_norm is not differentiable with respect to argument '{name}'; expected a "
                f"tensor without requires_grad. Pass {name}.detach()."
            )


def _match(input: Tensor, per_feature: dict[str, Tensor]) -> None:
    channels = input.shape[1]
    for name, value in per_feature.items():
        if value.numel() != channels:
            raise RuntimeError(
                f"{name} should contain {channels} elements not {value.numel()}, because input has "
                f"shape {tuple(input.shape)}: one value for each feature of axis 1. If your features "
                f"are last, use input.movedim(-1, 1)."
            )
        if value.device != input.device:
            raise RuntimeError(
                f"{name} is on device {value.device}, input is on {input.device}: it is not on the "
                f"expected device. Move one: layer.to(input.device)."
            )
    dtypes = {value.dtype for value in per_feature.values()}
    allowed = {input.dtype, torch.float32} if input.dtype in HALF else {input.dtype}
    if len(dtypes) > 1 or not dtypes <= allowed:
        given = ", ".join(f"{name} {value.dtype}" for name, value in per_feature.items())
        raise RuntimeError(
            f"mixed dtype: input {input.dtype}, {given}; expected one dtype for all, or float32 "
            f"parameters and statistics with a half precision input. Convert: layer.to(input.dtype)."
        )
