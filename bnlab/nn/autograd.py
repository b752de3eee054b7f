r"""Batch Normalization as one function of torch, with its gradient derived by hand.

With the sums and means over all axes but that of the features, the forward pass is the paper's:

.. math::

   \mu_B = \overline{x}, \qquad \sigma_B^2 = \overline{(x - \mu_B)^2}, \qquad
   s = \sqrt{\sigma_B^2 + \epsilon}, \qquad \hat x = (x - \mu_B) / s, \qquad
   y = \gamma \hat x + \beta

and so is the backward pass, the chain rule of its section 3:

.. math::

   \frac{\partial \ell}{\partial \hat x} &= \gamma \frac{\partial \ell}{\partial y} \\
   \frac{\partial \ell}{\partial \sigma_B^2} &=
       -\frac{1}{2 s^3} \sum \frac{\partial \ell}{\partial \hat x} (x - \mu_B) \\
   \frac{\partial \ell}{\partial \mu_B} &= -\frac{1}{s} \sum \frac{\partial \ell}{\partial \hat x} \\
   \frac{\partial \ell}{\partial x} &= \frac{1}{s} \frac{\partial \ell}{\partial \hat x}
       + \frac{2 (x - \mu_B)}{m} \frac{\partial \ell}{\partial \sigma_B^2}
       + \frac{1}{m} \frac{\partial \ell}{\partial \mu_B}

With :math:`x - \mu_B = s \hat x`, these four lines become one:

.. math::

   \frac{\partial \ell}{\partial x} = \frac{\gamma}{s} \left( \frac{\partial \ell}{\partial y}
       - \overline{\frac{\partial \ell}{\partial y}}
       - \hat x \; \overline{\frac{\partial \ell}{\partial y} \hat x} \right)

Evaluation mode has constants in place of the statistics, and :math:`\gamma / s` times the gradient
of y as the gradient of x.

Everything here can be compiled, exported, mapped over (:func:`torch.vmap`) and differentiated again.
Where nothing of that is asked for, :mod:`bnlab.kernels` or ``_inplace`` compute the same numbers in
less time. All compute in the type of x, in float32 for float16 and bfloat16. Statistics are the rows of
one float64 tensor (2, C), mean and variance, in which the square of any float32 fits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

import bnlab.nn._compat as _compat
import bnlab.nn._inplace as _inplace
import bnlab.nn._numba as _numba
from bnlab.nn._tensors import (
    arithmetic,
    axes,
    count,
    dense,
    in_cpu_memory,
    scale_by,
    split_mean,
    widest,
)


def moments(x: Tensor) -> Tensor:
    """Return the mean and the biased variance of each feature as the rows of a float64 tensor (2, C).

    One pass sums d = x - k and its square, where k is the first value of the feature. Any k would do;
    with this one (k - mean)^2 <= (m - 1) var, so that the difference of the two keeps its digits.
    """
    k, m = _first(x), count(x)
    d = x.to(widest(x)) - k.reshape(_shape(x))
    mean_d, square = _sum(d) / m, _sum(d * d) / m
    var = (square - mean_d * mean_d).clamp(min=0)
    # Infinite squares of finite numbers leave an infinite variance, and not what infinities differ by.
    return torch.stack((k + mean_d, torch.where(square.isinf() & mean_d.isfinite(), square, var)))


def affine(x: Tensor, mean: Tensor, scale: Tensor, beta: Tensor | None = None) -> Tensor:
    """Return (x - mean) * scale + beta: y for the scale gamma / s, x_hat for 1 / s and no beta."""
    coarse, rest = split_mean(mean, x)
    shift = (0.0 if beta is None else beta) - rest * scale
    return (x - _column(coarse, x)) * _column(scale, x) + _column(shift, x)


def gradients(
    dy: Tensor, x: Tensor, gamma: Tensor | None, statistics: Tensor, eps: float, *, of_batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta, where the statistics are those of the batch or constants."""
    mean, var = statistics
    x_hat = affine(x, mean, scale_by(var, None, eps))
    rest, dbeta, dgamma = _project(dy, x_hat)
    dx = (rest if of_batch else dy) * _column(scale_by(var, gamma, eps), x)
    return dense(dx.to(x.dtype), like=x), dgamma, dbeta


def _project(v: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return v - mean(v) - x_hat * mean(v * x_hat), sum(v) and sum(v * x_hat)."""
    m, sum_v, sum_v_x_hat = count(x_hat), _sum(v), _sum(v * x_hat)
    rest = v - _column(sum_v / m, x_hat) - x_hat * _column(sum_v_x_hat / m, x_hat)
    return rest, sum_v, sum_v_x_hat


def _sum(x: Tensor) -> Tensor:
    return x.sum(axes(x), dtype=widest(x))


def _first(x: Tensor) -> Tensor:
    """Return the first value of each feature as float64 of shape (C,), 0 for NaN and infinity.

    Without float64 a difference of squares could lose all its digits; data come centered then, and k is 0.
    """
    k = x.detach()[(slice(1), slice(None), *(slice(1),) * (x.dim() - 2))]
    k = _sum(k.nan_to_num(0.0, 0.0, 0.0))  # a sum, as there may be no value at all
    return k if k.dtype is torch.float64 else torch.zeros_like(k)


def _column(value: Tensor, x: Tensor) -> Tensor:
    """Shape C values as (C, 1, ...), to broadcast against x, in the type that x is computed in."""
    return value.to(arithmetic(x)).reshape(_shape(x))


def _shape(x: Tensor) -> tuple[int, ...]:
    return -1, *(1,) * (x.dim() - 2)


class CompilableBatchNorm(Function):
    """The transform of evaluation if statistics are given, which returns y; that of training if not.

    Training returns y and the statistics of the batch, as in :func:`moments`.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor | None, beta: Tensor | None, given: Tensor | None, eps: float
    ):
        """Return y, and the statistics of the batch if none are given."""
        if in_cpu_memory(x, gamma, beta, given):
            quick = _numba if _numba.fits(x, gamma, beta) else _inplace
            if (found := quick.forward(x, gamma, beta, given, eps)) is not None:
                return found
        statistics = moments(x) if given is None else given
        mean, var = statistics
        y = affine(x, mean, scale_by(var, gamma, eps), beta).to(x.dtype)
        return (y, statistics) if given is None else y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple | Tensor) -> None:
        """Keep what the derivatives need."""
        x, gamma, beta, statistics, ctx.eps = inputs
        ctx.of_batch = statistics is None
        if ctx.of_batch:
            _, statistics = output
            ctx.mark_non_differentiable(statistics)
        ctx.save_for_backward(x, gamma, statistics)
        ctx.save_for_forward(x, gamma, statistics)
        ctx.dtypes = [None if p is None else p.dtype for p in (gamma, beta)]

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Tensor):
        """Return dx, dgamma and dbeta; no gradient flows to given statistics."""
        x, gamma, statistics = ctx.saved_tensors
        again = _differentiated_again(dy, x, gamma)
        if ctx.of_batch and not again and in_cpu_memory(dy, x, gamma, statistics):
            quick = _numba if _numba.fits(x, gamma) else _inplace
            dx, *rest = quick.backward(dy, x, gamma, statistics, ctx.eps)
        else:
            if ctx.of_batch and again:
                statistics = moments(x)  # as a function of x
            dx, *rest = gradients(dy, x, gamma, statistics, ctx.eps, of_batch=ctx.of_batch)
        dgamma, dbeta = (
            None if t is None else v.to(t) for v, t in zip(rest, ctx.dtypes, strict=True)
        )
        return dx, dgamma, dbeta, None, None


class BatchNorm(CompilableBatchNorm):
    """The same with forward-mode derivatives, which torch.compile does not accept in a Function."""

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dgamma: Tensor | None, dbeta: Tensor | None, *_: None):
        """Return what y moves by when x, gamma and beta move by dx, dgamma and dbeta."""
        _refuse_nested_forward_mode()
        x, gamma, statistics = ctx.saved_tensors
        mean, var = moments(x) if ctx.of_batch else statistics
        x_hat = affine(x, mean, scale_by(var, None, ctx.eps))
        dy = torch.zeros_like(x_hat)
        if dgamma is not None:
            dy = dy + x_hat * _column(dgamma, x)
        if dbeta is not None:
            dy = dy + _column(dbeta, x)
        if dx is not None:  # the projection of the backward pass is its own transpose
            rest = _project(dx, x_hat)[0] if ctx.of_batch else dx
            dy = dy + rest * _column(scale_by(var, gamma, ctx.eps), x)
        dy = dy.to(x.dtype)
        return (dy, None) if ctx.of_batch else dy


def transform(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, given: Tensor | None, eps: float
) -> Any:
    """Apply :class:`BatchNorm`, or what of it torch.compile accepts."""
    args = x, gamma, beta, given, eps
    if not torch.compiler.is_compiling():
        return _compat.apply(BatchNorm, *args)
    if not torch.is_grad_enabled() or not any(t is not None and t.requires_grad for t in args[:3]):
        return CompilableBatchNorm.forward(
            *args
        )  # torch 2.4 compiles no Function without a gradient
    return CompilableBatchNorm.apply(*args)


def _differentiated_again(*tensors: Tensor | None) -> bool:
    """Tell whether a derivative of the backward pass is wanted, in reverse or in forward mode."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.is_grad_enabled()
    return _compat.has_tangent(*tensors)


def _refuse_nested_forward_mode() -> None:
    # PyTorch switches forward mode off inside jvp, so an outer derivative would be silently wrong.
    if _compat.forward_mode_is_nested():
        raise NotImplementedError(
            "batch_norm has no forward-mode derivative of a forward-mode derivative; expected "
            "reverse mode in at least one place. Use torch.func.hessian, or jacfwd(jacrev(f))."
        )
