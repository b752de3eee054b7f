r"""Batch Normalization as one function for PyTorch, with the gradient derived by hand.

Two autograd functions are the textbook: the transform of training, whose statistics depend on x, and
that of inference, whose statistics are constants. Comments use the paper's symbols.

Precision. The result has the dtype of the input. Arithmetic runs in that dtype, in float32 for
float16 and bfloat16; sums accumulate in float64, and a mean is subtracted in two parts, what fits
the dtype and the rest, so that a mean a million times the standard deviation costs no digits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._functorch import eager_transforms
from torch.autograd import Function, forward_ad
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from bnlab.nn._check import check_arguments

__all__ = ["batch_norm"]


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    r"""Normalize each feature, by its batch or by running statistics, then scale and shift it.

    .. math::

       y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta, \qquad
       (\mu, \sigma^2) = \begin{cases}
           (\mu_B, \sigma_B^2) & \text{training: mean and biased variance of the batch} \\
           (\mathrm{E}[x], \mathrm{Var}[x]) & \text{otherwise: the running statistics}
       \end{cases}

    The signature and meaning are those of :func:`torch.nn.functional.batch_norm`.

    Parameters
    ----------
    input : torch.Tensor
        Floats ``x`` of shape (N, C) or (N, C, \*spatial).
    running_mean, running_var : torch.Tensor or None
        C values each. Training moves them in place, by the *unbiased* variance of the batch.
    weight, bias : torch.Tensor or None
        :math:`\gamma` and :math:`\beta`, C values each; None stands for ones and zeros.
    training : bool
        True to normalize by the batch.
    momentum : float or torch.Tensor
        Weight of the *new* batch in the running statistics.
    eps : float
        Added to the variance, inside the square root.

    Returns
    -------
    torch.Tensor
        ``y``, of the shape and dtype of `input`.

    Raises
    ------
    ValueError
        If `input` has no features, training sees one value a feature, or `eps` is out of range.
    RuntimeError
        If sizes, dtypes or devices do not match, or statistics are missing or require gradients.
    TypeError
        If an argument is of the wrong type.
    IndexError, NotImplementedError
        If `input` has no axis 1, or no floats.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithms 1 and 2; the backward pass simplifies section 3.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [2.0], [4.0]], requires_grad=True)
    >>> y = batch_norm(x, None, None, training=True)
    >>> y[0].sum().backward()
    >>> [round(value, 3) for value in x.grad.flatten().tolist()]
    [0.229, -0.344, 0.115]
    """
    tensors = (input, running_mean, running_var, weight, bias)
    if has_torch_function(tensors):  # a subclass of Tensor that has its own idea, or torch.fx
        options = {"training": training, "momentum": momentum, "eps": eps}
        return handle_torch_function(batch_norm, tensors, *tensors, **options)
    check_arguments(*tensors, training=training, momentum=momentum, eps=eps)
    if _becomes_one_onnx_node(training):
        return functional.batch_norm(*tensors, training, float(momentum) if training else 0.0, eps)
    x = _dense(input)
    gamma, beta = (None if v is None else v.reshape(-1) for v in (weight, bias))
    if not training:
        # Copies, so that a later training step cannot change what the backward pass needs.
        mean, var = (
            v.reshape(-1).to(torch.float64, copy=True) for v in (running_mean, running_var)
        )
        transform = _InferencePlain if torch.compiler.is_compiling() else _Inference
        return transform.apply(x, gamma, beta, mean, var, eps)
    transform = _TrainingPlain if torch.compiler.is_compiling() else _Training
    y, mu_B, var_B = transform.apply(x, gamma, beta, eps)
    m = x.numel() // x.shape[1]
    if running_mean is not None and m > 0:
        # The biased variance would fall short of the population's by (m - 1) / m on average.
        _move(running_mean, mu_B, momentum)
        _move(running_var, var_B * (m / (m - 1)), momentum)
    return y


def _becomes_one_onnx_node(training: bool) -> bool:
    """Say whether an exporter to ONNX is at work that writes torch's operation as one node.

    The newer one, on torch.export, would write training mode as evaluation mode: it gets ours.
    """
    traced, exported = torch.jit.is_tracing(), torch.compiler.is_exporting()
    return (traced or (exported and not training)) and torch.onnx.is_in_onnx_export()


class _TrainingPlain(Function):
    """Algorithm 1 of the paper, and the gradient of its section 3."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float):
        mu_B, var_B, c = _moments(x, gamma, beta)
        return _scale_and_shift(c, var_B, gamma, beta, eps).to(x.dtype), mu_B, var_B

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, gamma, beta, ctx.eps = inputs
        _, mu_B, var_B = output
        ctx.mark_non_differentiable(mu_B, var_B)
        ctx.save_for_backward(x, gamma, mu_B, var_B)
        ctx.save_for_forward(x, gamma, mu_B, var_B)
        ctx.dtypes = [None if p is None else p.dtype for p in (gamma, beta)]

    @staticmethod
    def backward(ctx: Any, dy: Tensor, _dmu_B: Tensor, _dvar_B: Tensor):
        # The paper's chain rule, with s = sqrt(var_B + eps) and sums over the batch:
        #   dx_hat = dy * gamma
        #   dvar_B = sum(dx_hat * (x - mu_B)) * -1/2 / s^3
        #   dmu_B  = -sum(dx_hat) / s - dvar_B * 2 sum(x - mu_B) / m,  where sum(x - mu_B) = 0
        #   dx     = dx_hat / s + dvar_B * 2 (x - mu_B) / m + dmu_B / m
        #   dgamma = sum(dy * x_hat)
        #   dbeta  = sum(dy)
        # Substituting x - mu_B = x_hat * s leaves one line:
        #   dx     = gamma / s * (dy - mean(dy) - x_hat * mean(dy * x_hat))
        x, gamma, mu_B, var_B = ctx.saved_tensors
        mu_B, var_B = _differentiable_moments(x, mu_B, var_B)
        dbeta, dgamma, rest = _project(dy, x, mu_B, var_B, ctx.eps)
        dx = _times(rest, _gamma_over_std(x, var_B, gamma, ctx.eps))
        return dx.to(x.dtype), *map(_cast, (dgamma, dbeta), ctx.dtypes), None


class _Training(_TrainingPlain):
    """The same with forward-mode derivatives, which torch.compile does not take."""

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dgamma: Tensor | None, dbeta: Tensor | None, _eps: None):
        _refuse_nested_forward_mode()
        x, gamma, mu_B, var_B = ctx.saved_tensors
        mu_B, var_B = _differentiable_moments(x, mu_B, var_B)
        dy = 0.0
        if dx is not None:  # the same projection: it is its own transpose
            rest = _project(dx, x, mu_B, var_B, ctx.eps)[2]
            dy = rest * _gamma_over_std(x, var_B, gamma, ctx.eps)
        dy = dy + _affine_tangent(x, mu_B, var_B, dgamma, dbeta, ctx.eps)
        return dy.to(x.dtype), None, None


class _InferencePlain(Function):
    """Algorithm 2, line 11: the statistics are constants, so the transform is affine."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps
    ):
        c = _center(x, *_align(x, mean, var, gamma, beta)[:1])
        return _scale_and_shift(c, var, gamma, beta, eps).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, gamma, beta, mean, var, ctx.eps = inputs
        ctx.save_for_backward(x, gamma, mean, var)
        ctx.save_for_forward(x, gamma, mean, var)
        ctx.dtypes = [None if p is None else p.dtype for p in (gamma, beta)]

    @staticmethod
    def backward(ctx: Any, dy: Tensor):
        # dx = dy * gamma / s, dgamma = sum(dy * x_hat), dbeta = sum(dy), with s = sqrt(var + eps)
        x, gamma, mean, var = ctx.saved_tensors
        need_dx, need_dgamma, need_dbeta, *_ = ctx.needs_input_grad
        dx = dgamma = dbeta = None
        if need_dx:
            dx = (_dense(dy, like=x) * _gamma_over_std(x, var, gamma, ctx.eps)).to(x.dtype)
        if need_dgamma:
            dgamma = _sum(dy, _normalize(x, mean, var, ctx.eps))
        if need_dbeta:
            dbeta = _sum(dy)
        return dx, *map(_cast, (dgamma, dbeta), ctx.dtypes), None, None, None


class _Inference(_InferencePlain):
    """The same with forward-mode derivatives."""

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dgamma: Tensor | None, dbeta: Tensor | None, *_: None):
        _refuse_nested_forward_mode()
        x, gamma, mean, var = ctx.saved_tensors
        dy = 0.0 if dx is None else dx * _gamma_over_std(x, var, gamma, ctx.eps)
        return (dy + _affine_tangent(x, mean, var, dgamma, dbeta, ctx.eps)).to(x.dtype)


def _moments(x: Tensor, *companions: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean and the biased variance, float64 (C,), and x minus its mean."""
    m = max(x.numel() // x.shape[1], 1)  # an empty batch has sums of 0, and no 0/0
    mean = _sum(x) / m
    c = _center(x, _align(x, mean, *companions)[0])
    return mean, _sum(c, c) / m, c


def _differentiable_moments(x: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the moments once more, as functions of x, where a derivative may be taken again."""
    again = torch.is_grad_enabled()
    if not torch.compiler.is_compiling():
        again = again or forward_ad.unpack_dual(x).tangent is not None
    return _moments(x)[:2] if again else (mean, var)


def _center(x: Tensor, mean: Tensor) -> Tensor:
    """Subtract a float64 mean in two parts: what fits the dtype of the arithmetic, and the rest.

    One part is not enough: a mean of 1e6 rounds to float32 with an error of up to 0.03.
    """
    if x.dtype == torch.float64:
        return x - mean
    coarse = mean.to(torch.float32)
    return (x - coarse).sub_((mean - coarse).to(torch.float32))


def _normalize(x: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    mean, inv_std = _align(x, mean, (var + eps).rsqrt())
    c = _center(x, mean)
    return _times(c, inv_std)


def _scale_and_shift(c: Tensor, var: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float):
    """Turn x minus its mean into y, in place."""
    y = c.mul_(_gamma_over_std(c, var, gamma, eps).to(c.dtype))
    return y if beta is None else y.add_(_align(c, beta)[0].to(c.dtype))


def _gamma_over_std(x: Tensor, var: Tensor, gamma: Tensor | None, eps: float) -> Tensor:
    inv_std = (var + eps).rsqrt()
    scale = inv_std if gamma is None else gamma * inv_std
    return _align(x, scale)[0].to(_arithmetic(x))


def _project(v: Tensor, x: Tensor, mean: Tensor, var: Tensor, eps: float):
    """Split v, per feature, into a multiple of 1, a multiple of x_hat, and the rest.

    Returns sum(v) and sum(v * x_hat), float64 of shape (C,), and the rest.
    """
    m = max(x.numel() // x.shape[1], 1)
    sum_v = _sum(v)
    mean, mean_v, inv_std = _align(x, mean, sum_v / m, (var + eps).rsqrt())
    x_hat = _times(_center(x, mean), inv_std)
    c = _center(v, mean_v)
    sum_v_x_hat = _sum(c, x_hat)  # the mean of v does not count, as sum(x_hat) = 0
    return sum_v, sum_v_x_hat, _times(x_hat, _align(x, -sum_v_x_hat / m)[0]).add_(c)


def _affine_tangent(
    x: Tensor, mean: Tensor, var: Tensor, dgamma: Tensor | None, dbeta: Tensor | None, eps: float
) -> Tensor:
    """Return x_hat * dgamma + dbeta."""
    dy = torch.zeros_like(x, dtype=_arithmetic(x))
    if dgamma is not None:
        dy = dy + _normalize(x, mean, var, eps) * _align(x, dgamma)[0].to(dy.dtype)
    return dy if dbeta is None else dy + _align(x, dbeta)[0].to(dy.dtype)


def _refuse_nested_forward_mode() -> None:
    # PyTorch switches forward mode off inside jvp, so an outer derivative would be silently wrong.
    if getattr(eager_transforms, "JVP_NESTING", 0) > 1:
        raise NotImplementedError(
            "batch_norm has no forward-mode derivative of a forward-mode derivative; expected "
            "reverse mode in at least one place. Use torch.func.hessian, or jacfwd(jacrev(f))."
        )


def _sum(*factors: Tensor) -> Tensor:
    """Sum the product of the factors over all axes but the features', in float64, shape (C,).

    A slice of the batch at a time, so that the wide copies stay in the cache: a third of the time.
    """
    axes = [axis for axis in range(factors[0].dim()) if axis != 1]

    def total(*parts: Tensor) -> Tensor:
        product = parts[0] if len(parts) == 1 else parts[0] * parts[1]
        return product.sum(axes, dtype=torch.float64)

    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return total(*factors)
    size = factors[0].numel()
    if size <= _SLICE:
        return total(*factors)
    rows = max(1, _SLICE * len(factors[0]) // size)
    return sum(total(*parts) for parts in zip(*(f.split(rows) for f in factors), strict=True))


_SLICE = 2**17  # numbers in a slice: 1 MiB of float64


def _align(x: Tensor, *values: Tensor | None) -> tuple[Tensor, ...]:
    """Shape (C,) into (1, C, 1, ...) to broadcast against x, in float64; None is left out.

    Stacked on the way, so that in torch.func.vmap all carry the mapped axis if one does, and so
    does all that is computed from them: an operation in place needs that.
    """
    present = [value.double() for value in values if value is not None]
    shape = (1, -1, *(1,) * (x.dim() - 2))
    if len(present) == 1:
        return (present[0].reshape(shape),)
    return torch.stack(present).reshape(len(present), *shape).unbind()


def _times(a: Tensor, b: Tensor) -> Tensor:
    """Multiply, in place unless autograd records the product and so needs its factors."""
    b = b.to(a.dtype)
    return a * b if torch.is_grad_enabled() else a.mul_(b)


def _cast(gradient: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
    """Give a gradient its parameter's dtype; drop it if there is no parameter."""
    return None if gradient is None or dtype is None else gradient.to(dtype)


def _arithmetic(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _dense(x: Tensor, like: Tensor | None = None) -> Tensor:
    """Lay x out as torch lays out the result for an input like that: channels last, or plain."""
    like = x if like is None else like
    if like.dim() in (4, 5) and not like.is_contiguous() and like.movedim(1, -1).is_contiguous():
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    return x.contiguous()


@torch.no_grad()
def _move(running: Tensor, new: Tensor, momentum: float | Tensor) -> None:
    """Move a running statistic towards that of the batch, in place."""
    weight = momentum.double() if isinstance(momentum, Tensor) else momentum
    moved = torch.lerp(running.double(), new.reshape(running.shape), weight)
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
