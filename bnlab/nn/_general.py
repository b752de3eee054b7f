"""Batch Normalization in operations that can be traced, mapped over and differentiated again.

The result has the type of the input. Arithmetic runs in that type, in float32 for float16 and
bfloat16; sums accumulate in float64, and a mean is subtracted in two parts, what fits the type and
the rest, so that a mean a million times the standard deviation costs no digits.
"""

from __future__ import annotations

import torch
from torch import Tensor


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each feature, float64 of shape (C,).

    One pass: sums of d = x - k and of d * d, with k the first value of the feature. Any k is right;
    with this one (k - mean)^2 <= (m - 1) var, so that the difference of the two keeps its digits.
    """
    m, k = _count(x), _first(x)
    d = x.double() - k.reshape(_shape(x))
    mean_d = _sum(d) / m
    return k + mean_d, (_sum(d * d) / m - mean_d * mean_d).clamp(min=0)


def normalize(x: Tensor, mean: Tensor, inv_std: Tensor) -> Tensor:
    """Return x_hat."""
    return _center(x, mean) * _align(x, inv_std)


def affine(
    x: Tensor, mean: Tensor, inv_std: Tensor, gamma: Tensor | None, beta: Tensor | None
) -> Tensor:
    """Return y = gamma * x_hat + beta."""
    y = _center(x, mean) * scale(x, inv_std, gamma)
    return (y if beta is None else y + _align(x, beta)).to(x.dtype)


def scale(x: Tensor, inv_std: Tensor, gamma: Tensor | None) -> Tensor:
    """Return gamma / s, aligned with x."""
    return _align(x, inv_std if gamma is None else gamma * inv_std)


def project(v: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split v, per feature, into a multiple of 1, a multiple of x_hat, and the rest.

    Returns sum(v) and sum(v * x_hat), float64 of shape (C,), and the rest.
    """
    m = _count(x)
    x_hat = normalize(x, mean, inv_std)
    sum_v, sum_v_x_hat = _sum(v), _sum(v * x_hat)
    rest = _center(v, sum_v / m) - x_hat * _align(x, sum_v_x_hat / m)
    return sum_v, sum_v_x_hat, rest


def training_backward(
    dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta for the statistics of the batch."""
    # The paper's chain rule, with s = sqrt(var_B + eps) and sums over the batch:
    #   dx_hat = dy * gamma
    #   dvar_B = sum(dx_hat * (x - mu_B)) * -1/2 / s^3
    #   dmu_B  = -sum(dx_hat) / s - dvar_B * 2 sum(x - mu_B) / m,  where sum(x - mu_B) = 0
    #   dx     = dx_hat / s + dvar_B * 2 (x - mu_B) / m + dmu_B / m
    #   dgamma = sum(dy * x_hat)
    #   dbeta  = sum(dy)
    # Substituting x - mu_B = x_hat * s leaves one line:
    #   dx     = gamma / s * (dy - mean(dy) - x_hat * mean(dy * x_hat))
    inv_std = (var + eps).rsqrt()
    dbeta, dgamma, rest = project(dy, x, mean, inv_std)
    return (rest * scale(x, inv_std, gamma)).to(x.dtype), dgamma, dbeta


def inference_backward(
    dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta for statistics that are constants."""
    inv_std = (var + eps).rsqrt()
    # dx = dy * gamma / s, dgamma = sum(dy * x_hat), dbeta = sum(dy)
    dx = (dense(dy, like=x) * scale(x, inv_std, gamma)).to(x.dtype)
    return dx, _sum(dy * normalize(x, mean, inv_std)), _sum(dy)


def tangent(
    x: Tensor, mean: Tensor, inv_std: Tensor, dgamma: Tensor | None, dbeta: Tensor | None
) -> Tensor:
    """Return x_hat * dgamma + dbeta, what y moves by when gamma and beta do."""
    dy = torch.zeros_like(x, dtype=arithmetic(x))
    if dgamma is not None:
        dy = dy + normalize(x, mean, inv_std) * _align(x, dgamma)
    return dy if dbeta is None else dy + _align(x, dbeta)


@torch.no_grad()
def move(running: Tensor, new: Tensor, momentum: float | Tensor) -> None:
    """Move a running statistic towards that of the batch, in place."""
    weight = momentum.double() if isinstance(momentum, Tensor) else momentum
    moved = torch.lerp(running.double(), new.double().reshape(running.shape), weight)
    try:
        running.copy_(moved)
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        raise RuntimeError(
            "batch_norm got a batched tensor as input while the running_mean or running_var, which "
            "will be updated in place, were not batched; expected one of each per model. Pass "
            "track_running_stats=False, call torch.func.replace_all_batch_norm_modules_(model), or "
            "stack the buffers too with torch.func.stack_module_state."
        ) from error


def arithmetic(x: Tensor) -> torch.dtype:
    """Return the type that x is computed in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def dense(x: Tensor, like: Tensor) -> Tensor:
    """Lay x out as torch lays out the result for an input like that: channels last, or plain."""
    if like.is_contiguous() or like.dim() not in (4, 5):
        return x.contiguous()
    if like.movedim(1, -1).is_contiguous():
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    return x.contiguous()


def _center(x: Tensor, mean: Tensor) -> Tensor:
    """Subtract a float64 mean in two parts: what fits the type of the arithmetic, and the rest.

    One part is not enough: a mean of 1e6 rounds to float32 with an error of up to 0.03.
    """
    coarse = mean.to(arithmetic(x))
    c = x - _align(x, coarse)
    return c if x.dtype == torch.float64 else c - _align(x, mean - coarse)


def _sum(x: Tensor) -> Tensor:
    """Sum over all axes but the features', in float64, shape (C,)."""
    return x.sum([axis for axis in range(x.dim()) if axis != 1], dtype=torch.float64)


def _first(x: Tensor) -> Tensor:
    """Return the first value of each feature, float64 of shape (C,); 0 if it is not a finite one."""
    k = x.detach()[(slice(0, 1), slice(None), *(slice(0, 1),) * (x.dim() - 2))]
    return _sum(torch.where(k - k == 0, k, 0.0))


def _count(x: Tensor) -> int:
    return max(x.numel() // x.shape[1], 1)  # an empty batch has sums of 0, and no 0/0


def _align(x: Tensor, value: Tensor) -> Tensor:
    """Shape (C,) into (C, 1, ...), in the type of the arithmetic, to broadcast against x."""
    return value.to(arithmetic(x)).reshape(_shape(x))


def _shape(x: Tensor) -> tuple[int, ...]:
    return -1, *(1,) * (x.dim() - 2)
