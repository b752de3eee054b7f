r"""Batch Normalization as one function for PyTorch, with the gradient derived by hand.

There are two transforms: that of training, whose statistics depend on x, and that of inference, whose
statistics are constants. Both have their derivatives in ``bnlab.nn._general``, which reads like
the paper and serves every use that torch has for a function: ``torch.compile``, ``torch.func``,
second derivatives, forward mode. An ordinary call takes ``bnlab.nn._eager`` instead, the same
in few operations, or :mod:`bnlab.kernels` where those are enabled.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch._functorch import eager_transforms
from torch.autograd import Function, forward_ad
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

import bnlab.nn._eager as _eager
import bnlab.nn._fused as _fused
import bnlab.nn._general as _general
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
    if _direct(input):
        return _compute(*tensors, training, momentum, eps)
    if _becomes_one_onnx_node(training):
        return functional.batch_norm(*tensors, training, float(momentum) if training else 0.0, eps)
    x = _general.dense(input, like=input)
    gamma, beta = (None if v is None else v.reshape(-1) for v in (weight, bias))
    if not training:
        transform = _InferencePlain if torch.compiler.is_compiling() else _Inference
        return transform.apply(x, gamma, beta, *_copies(running_mean, running_var), eps)
    transform = _TrainingPlain if torch.compiler.is_compiling() else _Training
    y, mu_B, var_B = transform.apply(x, gamma, beta, eps)
    m = x.numel() // x.shape[1]
    if running_mean is not None and m > 0:
        # The biased variance would fall short of the population's by (m - 1) / m on average.
        _general.move(running_mean, mu_B, momentum)
        _general.move(running_var, var_B * (m / (m - 1)), momentum)
    return y


def _direct(x: Tensor) -> bool:
    """Tell whether x is only to be computed with, at once."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.is_legacy_batchedtensor(x)
        or forward_ad._current_level >= 0
        or x.numel() == 0
    )


def _compute(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    training: bool,
    momentum: float | Tensor,
    eps: float,
) -> Tensor:
    """Do what batch_norm does, in :mod:`_eager` or :mod:`_fused`."""
    if gamma is not None and gamma.dim() != 1:
        gamma = gamma.reshape(-1)
    if beta is not None and beta.dim() != 1:
        beta = beta.reshape(-1)
    x = _general.dense(x, like=x)
    if not training:
        return _DirectInference.apply(x, gamma, beta, *_copies(running_mean, running_var), eps)
    arithmetic = _fused if _fused.fits(x, gamma, beta, running_mean, running_var) else _eager
    found = []
    y = _DirectTraining.apply(x, gamma, beta, eps, arithmetic, found)
    if running_mean is not None:  # only now: a checkpointed block may stop before it gets here
        arithmetic.move(running_mean, running_var, *found, x, momentum)
    return y


def _copies(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Copy the statistics, so that later training cannot change what the backward pass needs."""
    return tuple(v.reshape(-1).to(torch.float64, copy=True) for v in (mean, var))


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
        mu_B, var_B = _general.moments(x)
        return _general.affine(x, mu_B, (var_B + eps).rsqrt(), gamma, beta), mu_B, var_B

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, gamma, beta, ctx.eps = inputs
        _, mu_B, var_B = output
        ctx.mark_non_differentiable(mu_B, var_B)
        ctx.save_for_backward(x, gamma, mu_B, var_B)
        ctx.save_for_forward(x, gamma, mu_B, var_B)
        ctx.dtypes = _dtypes(gamma, beta)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, _dmu_B: Tensor, _dvar_B: Tensor):
        x, gamma, mu_B, var_B = ctx.saved_tensors
        mu_B, var_B = _differentiable_moments(x, mu_B, var_B)
        dx, *rest = _general.training_backward(dy, x, gamma, mu_B, var_B, ctx.eps)
        return dx, *map(_cast, rest, ctx.dtypes), None


class _Training(_TrainingPlain):
    """The same with forward-mode derivatives, which torch.compile does not take."""

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dgamma: Tensor | None, dbeta: Tensor | None, _eps: None):
        _refuse_nested_forward_mode()
        x, gamma, mu_B, var_B = ctx.saved_tensors
        mu_B, var_B = _differentiable_moments(x, mu_B, var_B)
        inv_std = (var_B + ctx.eps).rsqrt()
        dy = _general.tangent(x, mu_B, inv_std, dgamma, dbeta)
        if dx is not None:  # the same projection as in the backward pass: it is its own transpose
            rest = _general.project(dx, x, mu_B, inv_std)[2]
            dy = dy + rest * _general.scale(x, inv_std, gamma)
        return dy.to(x.dtype), None, None


class _DirectTraining(Function):
    """The same for a call that is only to be computed."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        eps: float,
        arithmetic: ModuleType,
        found: list,
    ):
        y, batch = arithmetic.forward(x, gamma, beta, eps)
        found.append(batch)
        ctx.save_for_backward(x, gamma, *batch)
        ctx.eps, ctx.arithmetic, ctx.dtypes = eps, arithmetic, _dtypes(gamma, beta)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor):
        x, gamma, *batch = ctx.saved_tensors
        if torch.is_grad_enabled() or not _direct(dy):  # more is asked of the gradient
            moments = _general.moments(x)
            dx, *rest = _general.training_backward(dy, x, gamma, *moments, ctx.eps)
        else:
            dx, *rest = ctx.arithmetic.backward(dy, x, gamma, batch, ctx.eps)
        return dx, *map(_cast, rest, ctx.dtypes), None, None, None


class _InferencePlain(Function):
    """Algorithm 2, line 11: the statistics are constants, so the transform is affine."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps
    ):
        return _general.affine(x, mean, (var + eps).rsqrt(), gamma, beta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, gamma, beta, mean, var, ctx.eps = inputs
        ctx.save_for_backward(x, gamma, mean, var)
        ctx.save_for_forward(x, gamma, mean, var)
        ctx.dtypes = _dtypes(gamma, beta)

    @staticmethod
    def backward(ctx: Any, dy: Tensor):
        dx, *rest = _general.inference_backward(dy, *ctx.saved_tensors, ctx.eps)
        return dx, *map(_cast, rest, ctx.dtypes), None, None, None


class _Inference(_InferencePlain):
    """The same with forward-mode derivatives."""

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dgamma: Tensor | None, dbeta: Tensor | None, *_: None):
        _refuse_nested_forward_mode()
        x, gamma, mean, var = ctx.saved_tensors
        inv_std = (var + ctx.eps).rsqrt()
        dy = _general.tangent(x, mean, inv_std, dgamma, dbeta)
        if dx is not None:
            dy = dy + dx * _general.scale(x, inv_std, gamma)
        return dy.to(x.dtype)


class _DirectInference(Function):
    """The same for a call that is only to be computed."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
    ):
        ctx.save_for_backward(x, gamma, mean, var)
        ctx.eps, ctx.dtypes = eps, _dtypes(gamma, beta)
        module = _fused if _fused.fits(x, gamma, beta) else _eager
        return module.inference(x, gamma, beta, mean, var, eps)

    @staticmethod
    def backward(ctx: Any, dy: Tensor):
        quick = not torch.is_grad_enabled() and _direct(dy)
        gradients = (_eager if quick else _general).inference_backward
        dx, *rest = gradients(dy, *ctx.saved_tensors, ctx.eps)
        return dx, *map(_cast, rest, ctx.dtypes), None, None, None


def _differentiable_moments(x: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the moments once more, as functions of x, where a derivative may be taken again."""
    again = torch.is_grad_enabled()
    if not torch.compiler.is_compiling():
        again = again or forward_ad.unpack_dual(x).tangent is not None
    return _general.moments(x) if again else (mean, var)


def _refuse_nested_forward_mode() -> None:
    # PyTorch switches forward mode off inside jvp, so an outer derivative would be silently wrong.
    if getattr(eager_transforms, "JVP_NESTING", 0) > 1:
        raise NotImplementedError(
            "batch_norm has no forward-mode derivative of a forward-mode derivative; expected "
            "reverse mode in at least one place. Use torch.func.hessian, or jacfwd(jacrev(f))."
        )


def _dtypes(*parameters: Tensor | None) -> list[torch.dtype | None]:
    return [None if p is None else p.dtype for p in parameters]


def _cast(gradient: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
    """Give a gradient its parameter's dtype; drop it if there is no parameter."""
    return None if gradient is None or dtype is None else gradient.to(dtype)
