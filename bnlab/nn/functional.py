"""Batch Normalization as one function for PyTorch: checks, one transform, and the running statistics."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from bnlab.nn._check import check_arguments
from bnlab.nn._compat import is_exporting, is_tracing
from bnlab.nn._tensors import arithmetic, axes, dense, widest
from bnlab.nn.autograd import transform

__all__ = ["batch_norm"]

Batch = Float[Tensor, "N C *spatial"]
Vector = Float[Tensor, "C"]


def batch_norm(
    input: Batch,
    running_mean: Vector | None,
    running_var: Vector | None,
    weight: Vector | None = None,
    bias: Vector | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Batch:
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

    The statistics of a batch are float64, so that results are right for any finite `input` of float32,
    bfloat16 or float16, also where its squares overflow. Where a device has no float64 (Apple's), they
    are float32, of the batch less its rounded mean: as exact, but squares above 1e38 are infinite.
    A running variance that its own dtype cannot hold becomes and stays infinite, as in torch; evaluation
    then returns :math:`\beta`. So does training on a float64 `input` that lies more than about 1e154
    from its mean, as the variance is infinite.

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
    if isinstance(input, Tensor) and input.dim() == 1 and input.numel() == 0:
        return input.clone()  # as torch, which looks for axis 1 later
    check_arguments(*tensors, training=training, momentum=momentum, eps=eps)
    if _becomes_one_node(training):
        return functional.batch_norm(*tensors, training, float(momentum) if training else 0.0, eps)
    x = dense(input, like=input)
    gamma, beta = (v if v is None or v.dim() == 1 else v.reshape(-1) for v in (weight, bias))
    if not training:
        # A copy, so that training after this cannot change what the backward pass needs.
        assert running_mean is not None  # as checked
        assert running_var is not None
        given = torch.stack((running_mean.reshape(-1), running_var.reshape(-1))).to(widest(x))
        return transform(x, gamma, beta, given, eps)
    center = None
    if (
        widest(x) is torch.float32
    ):  # which cannot hold the mean of x: so it holds that of x - center
        center = x.detach().float().mean(axes(x), keepdim=True)
        x = x - center
    y, statistics = transform(x, gamma, beta, None, eps)
    m = x.numel() // x.shape[1]
    if running_mean is not None and running_var is not None and m > 0:
        # Last, as a checkpointed block may stop when it has y. The biased variance would fall short of
        # the population's by (m - 1) / m on average.
        mu_B, var_B = statistics.detach().to(arithmetic(running_mean)).unbind()
        mu_B = mu_B if center is None else mu_B + center.flatten()
        _move(running_mean, mu_B, momentum, momentum)
        _move(running_var, var_B, momentum, momentum * (m / (m - 1)))
    return y if center is None else y.to(input.dtype)


def _move(running: Tensor, new: Tensor, momentum: float | Tensor, weight: float | Tensor) -> None:
    """Change a running statistic, in place, to 1 - momentum times itself and weight times the new one."""
    new = new.view_as(running)
    if isinstance(weight, Tensor):
        new, weight = new * weight, 1
    moved = torch.add(running.to(new.dtype) * (1 - momentum), new, alpha=weight)
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


def _becomes_one_node(training: bool) -> bool:
    """Tell whether a graph is exported in which torch's own operation would be one node.

    In training mode only torch's older exporter to ONNX gets that: the newer one would write
    evaluation mode, without a word.
    """
    if is_exporting():
        return not training
    return is_tracing() and torch.onnx.is_in_onnx_export()
