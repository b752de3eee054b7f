r"""Batch Normalization whose batch lies on several processes: one mean and one variance for all of it.

Each process sends how many values a feature has here, and their mean and variance. From these all
compute the same statistics of the whole batch,

.. math::

   m = \sum_r m_r, \qquad \mu_B = \sum_r \frac{m_r}{m} \mu_r, \qquad
   \sigma_B^2 = \sum_r \frac{m_r}{m} \left( \sigma_r^2 + (\mu_r - \mu_B)^2 \right)

In the backward pass the two means of the gradient are means over the whole batch, too:

.. math::

   \frac{\partial \ell}{\partial x} = \frac{\gamma}{s} \Big( \frac{\partial \ell}{\partial y}
       - \frac{1}{m} \sum_r \sum_i \frac{\partial \ell}{\partial y_{ri}}
       - \hat x \; \frac{1}{m} \sum_r \sum_i \frac{\partial \ell}{\partial y_{ri}} \hat x_{ri} \Big)

So each pass exchanges one small message. A sum over processes has itself as its derivative, which makes
all of this differentiable again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function
from torch.fx import Proxy

from bnlab.nn._check import check_arguments
from bnlab.nn._tensors import dense, scale_by
from bnlab.nn.autograd import _column, _sum, affine, moments
from bnlab.nn.batchnorm import _Layer
from bnlab.nn.functional import _move

__all__ = ["SyncBatchNorm"]


class SyncBatchNorm(_Layer):
    r"""Batch Normalization over the batches of all processes, as if they were one.

    Output, gradients and running statistics are those of :class:`BatchNorm1d`, 2d or 3d in one process
    that has the batches of all processes, up to rounding. The gradient of the input is that of the
    sum of the losses of all processes; of :math:`\gamma` and :math:`\beta` each process has its own
    part, which ``DistributedDataParallel`` averages as it does for every parameter. Evaluation mode
    exchanges nothing; nor does training in a single process. :func:`bnlab.inference.synchronize`
    converts the layers of a model.

    Parameters
    ----------
    num_features : int
        Number of features C of an input of shape (N, C) or (N, C, \*spatial).
    eps, momentum, affine, track_running_stats : as in BatchNorm1d
        Have the meaning that they have in :class:`BatchNorm1d`.
    process_group : torch.distributed.ProcessGroup or None
        Processes that share their batches; None for all.
    device, dtype, bias : as in BatchNorm1d
        Have the meaning that they have in :class:`BatchNorm1d`.

    Raises
    ------
    ValueError
        If training sees one value a feature in all processes together, or as :class:`BatchNorm1d`.
    RuntimeError
        If another process does not answer within the timeout of its group, or as :class:`BatchNorm1d`.
    TypeError, NotImplementedError
        As :class:`BatchNorm1d`.

    Notes
    -----
    Every process has to call the layer, and its backward pass, as often as every other. One that has no
    data calls it with an input of shape (0, C, \*spatial). One that dies or leaves is an error in all
    others after the timeout of the group at the latest
    (``init_process_group(..., timeout=timedelta(minutes=1))``).

    Where :class:`torch.nn.SyncBatchNorm` differs: it refuses tensors on the CPU, and counts the batch that it
    refused; its ``convert_sync_batchnorm`` would wake frozen layers and has no way back. This layer works with
    gloo on CPUs, where it is tested. With nccl on GPUs it does the same, and is untested; checking for one
    value a feature then waits for the message. It is not for :func:`torch.vmap`, and
    :func:`torch.compile` leaves it out of its graphs.

    Examples
    --------
    >>> layer = SyncBatchNorm(1)  # a single process: its batch is the whole batch
    >>> [round(value, 3) for value in layer(torch.tensor([[1.0], [3.0]])).flatten().tolist()]
    [-1.0, 1.0]
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        options = (eps, momentum, affine, track_running_stats, device, dtype)
        super().__init__(num_features, *options, bias=bias)
        self.process_group = process_group

    def forward(self, input: Tensor) -> Tensor:
        """Normalize by the batch of all processes in training mode, by the running statistics otherwise.

        Parameters
        ----------
        input : torch.Tensor
            Floats of shape (N, C) or (N, C, \\*spatial); N may be 0 in some processes.

        Returns
        -------
        torch.Tensor
            ``y``, of the shape and dtype of `input`.
        """
        if isinstance(input, Proxy) or not self.training or not self._has_company():
            return super().forward(input)
        if torch.compiler.is_compiling():  # its messages stay out of the graph
            apart: Any = torch.compiler.disable(self._synchronized)
            return apart(input)
        return self._synchronized(input)

    def _has_company(self) -> bool:
        ready = distributed.is_available() and distributed.is_initialized()
        return ready and distributed.get_world_size(self.process_group) > 1

    def _synchronized(self, input: Tensor) -> Tensor:
        gamma, beta, group = self.weight, self.bias, self.process_group
        tracking = self.track_running_stats
        mean, var = (self.running_mean, self.running_var) if tracking else (None, None)
        self._check_input(input, mean, gamma, beta)
        momentum = self._weight_of_new_batch() if self.momentum is None else self.momentum
        given = (input, mean, var, gamma, beta)
        check_arguments(*given, training=True, momentum=momentum, eps=self.eps, alone=False)
        statistics, m = _of_all(input.detach(), group)
        if m == 1:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got 1 in all "
                f"{distributed.get_world_size(group)} processes together (here: input size "
                f"{input.shape}), because one value has no variance. Use larger batches or evaluation mode."
            )
        y = _Synchronized.apply(input, gamma, beta, statistics, m, self.eps, group)
        if mean is not None and var is not None and m > 0:
            mu_B, var_B = statistics
            _move(mean, mu_B, momentum, momentum)
            _move(var, var_B, momentum, momentum * (m / (m - 1)))
        if tracking and (count := self.num_batches_tracked) is not None:
            count.add_(1)
        return y

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(
                f"expected at least 2D input (got {input.dim()}D input): the shape (N, C) or "
                f"(N, C, *spatial). For one feature: input.reshape(-1, 1)."
            )


def _of_all(x: Tensor, group: Any) -> tuple[Tensor, int]:
    """Return the mean and biased variance of all processes' values, (2, C) in float64, and their number."""
    c = x.shape[1]
    mean, var = moments(x)
    here = torch.cat((mean, var, mean.new_full((1,), x.numel() // c)))
    # A row for each process, and zeros where others fill in: their sum holds all rows, and is exact.
    rows = here.new_zeros(distributed.get_world_size(group), len(here))
    rows[distributed.get_rank(group)] = here
    means, variances, counts = _AllSum.apply(rows, group).split([c, c, 1], 1)
    m = int(counts.sum())
    weights = counts / max(m, 1)
    mean = (weights * means).sum(0)
    var = (weights * (variances + (means - mean).square())).sum(0)
    return torch.stack((mean, var)), m


class _Synchronized(Function):
    """The transform of training, where the statistics and m are those of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        statistics: Tensor,
        m: int,
        eps: float,
        group: Any,
    ) -> Tensor:
        ctx.save_for_backward(x, gamma, statistics)
        ctx.dtypes = [None if p is None else p.dtype for p in (gamma, beta)]
        ctx.m, ctx.eps, ctx.group = m, eps, group
        mean, var = statistics
        return affine(x, mean, scale_by(var, gamma, eps), beta).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor):
        x, gamma, statistics = ctx.saved_tensors
        m = max(ctx.m, 1)
        if torch.is_grad_enabled():  # to be differentiated again: the statistics as a function of x
            statistics, _ = _of_all(x, ctx.group)
        mean, var = statistics
        x_hat = affine(x, mean, scale_by(var, None, ctx.eps))
        dbeta, dgamma = sums = torch.stack((_sum(dy), _sum(dy * x_hat)))
        mean_dy, mean_dy_x_hat = _AllSum.apply(sums, ctx.group) / m
        dx = dy - _column(mean_dy, x) - x_hat * _column(mean_dy_x_hat, x)
        dx = dense((dx * _column(scale_by(var, gamma, ctx.eps), x)).to(x.dtype), like=x)
        dgamma, dbeta = (
            None if t is None else v.to(t) for v, t in zip((dgamma, dbeta), ctx.dtypes, strict=True)
        )
        return dx, dgamma, dbeta, None, None, None, None


class _AllSum(Function):
    """The sum of a tensor over processes. The derivative of all losses together is a sum again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = x.clone()
        try:
            distributed.all_reduce(total, group=group)
        except RuntimeError as error:
            raise RuntimeError(
                f"SyncBatchNorm in process {distributed.get_rank(group)} of "
                f"{distributed.get_world_size(group)} got no answer from another: {error}\n"
                f"Expected all processes to call the layer, forward and backward, equally often; one "
                f"without data with an input of shape (0, C, ...). Look at the log of each process for the "
                f"one that stopped, and at the timeout of init_process_group."
            ) from error
        return total

    @staticmethod
    def backward(ctx: Any, d_total: Tensor):
        return _AllSum.apply(d_total, ctx.group), None
