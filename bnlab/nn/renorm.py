r"""Batch Renormalization: the batch's statistics for the gradient, the running ones for the output.

A batch is normalized by its own statistics and then moved, by two constants a channel, to where the
running statistics would have put it. So the output of training is that of evaluation, and yet the
gradient knows that the statistics of the batch depend on the batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.fx import Proxy

from bnlab._validate import number
from bnlab.nn._check import check_arguments
from bnlab.nn._tensors import arithmetic
from bnlab.nn.autograd import moments
from bnlab.nn.batchnorm import BatchNorm1d, BatchNorm2d, _Layer
from bnlab.nn.functional import _move, batch_norm

__all__ = ["BatchRenorm1d", "BatchRenorm2d", "renorm_limits"]


class _Renorm(_Layer):
    """Correct the batch's statistics to the running ones, by constants r and d."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        r_max: float = 3.0,
        d_max: float = 5.0,
    ) -> None:
        options = (eps, momentum, affine, track_running_stats, device, dtype)
        super().__init__(num_features, *options, bias=bias)
        if not track_running_stats:
            raise ValueError(
                f"track_running_stats is {track_running_stats}; expected True, because {type(self).__name__} "
                f"corrects the batch to its running statistics. For none of them use BatchNorm."
            )
        self.r_max = _limit("r_max", r_max, low=1)
        self.d_max = _limit("d_max", d_max, low=0)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize by the batch, corrected to the running statistics; in evaluation mode by those."""
        if isinstance(input, Proxy) or not self.training:
            return super().forward(input)
        mean, var, gamma, beta = self.running_mean, self.running_var, self.weight, self.bias
        self._check_input(input, mean, gamma, beta)
        if mean is None or var is None:
            raise RuntimeError(
                f"{type(self).__name__} has no running_mean or running_var; expected both, because training "
                f"corrects the batch to them. Set them, or use BatchNorm."
            )
        momentum = self._weight_of_new_batch() if self.momentum is None else self.momentum
        check_arguments(
            input, mean, var, gamma, beta, training=True, momentum=momentum, eps=self.eps
        )
        if input.numel() == 0:
            return super().forward(input)
        mu_B, var_B = moments(input.detach())
        mu, var_before = _before_the_step(torch.stack((mean, var))).double()
        sigma_B, sigma = (var_B + self.eps).sqrt(), (var_before + self.eps).sqrt()
        r = (sigma_B / sigma).clamp(1 / self.r_max, self.r_max)
        d = ((mu_B - mu) / sigma).clamp(-self.d_max, self.d_max)
        # gamma (x_hat r + d) + beta, as one scale and shift of x_hat
        kind = arithmetic(input)
        scale, shift = r.to(kind), d.to(kind)
        if gamma is not None:
            scale, shift = scale * gamma, shift * gamma
        if beta is not None:
            shift = shift + beta
        y = batch_norm(input, None, None, scale, shift, True, 0.0, self.eps)
        if self.track_running_stats:
            _move(mean, mu_B, momentum, momentum)
            # The average is that of standard deviations. In its place, the state holds the variance with
            # which evaluation mode divides by it.
            moved = sigma + momentum * (sigma_B - sigma)
            _move(var, (moved * moved - self.eps).clamp(min=0), 1.0, 1.0)
            if (count := self.num_batches_tracked) is not None:
                count.add_(1)
        return y

    def extra_repr(self) -> str:
        """Name the limits of the corrections, too."""
        return f"{super().extra_repr()}, r_max={self.r_max}, d_max={self.d_max}"


class BatchRenorm1d(_Renorm, BatchNorm1d):
    r"""Batch Renormalization of vectors or sequences: the same outputs in training and evaluation.

    .. math::

       y = \gamma \left( \frac{x - \mu_B}{\sigma_B} \, r + d \right) + \beta, \qquad
       r = \operatorname{clip}_{[1/r_{max},\, r_{max}]} \frac{\sigma_B}{\sigma}, \qquad
       d = \operatorname{clip}_{[-d_{max},\, d_{max}]} \frac{\mu_B - \mu}{\sigma}

    with :math:`\sigma_B^2 = \mathrm{Var}_B[x] + \epsilon`, biased. The gradient takes :math:`r` and
    :math:`d` as constants, and not :math:`\mu_B` and :math:`\sigma_B`. Unclipped, :math:`y` is
    :math:`\gamma (x - \mu) / \sigma + \beta`, the output of evaluation mode. After that, in each batch,

    .. math::

       \mu \leftarrow \mu + \alpha \, (\mu_B - \mu), \qquad
       \sigma \leftarrow \sigma + \alpha \, (\sigma_B - \sigma)

    The state holds :math:`\mu` as ``running_mean`` and :math:`\sigma^2 - \epsilon` as ``running_var``:
    it loads into :class:`BatchNorm1d` and back, and evaluation mode is that of :class:`BatchNorm1d`.

    Parameters
    ----------
    num_features : int
        Number of features C of an input of shape (N, C) or (N, C, L).
    eps, momentum, affine : as in BatchNorm1d
        Have the meaning that they have in :class:`BatchNorm1d`.
    track_running_stats : bool
        True, because training needs the running statistics.
    device, dtype, bias : as in BatchNorm1d
        Have the meaning that they have in :class:`BatchNorm1d`.
    r_max : float
        Keyword only: limit of r, from 1, which leaves the scale to the batch, to ``math.inf``.
    d_max : float
        Keyword only: limit of d, from 0, which leaves the mean to the batch, to ``math.inf``.
        ``r_max=1, d_max=0`` is Batch Normalization but for the averages of :math:`\sigma`. Both are
        attributes to set between steps: :func:`bnlab.nn.renorm_limits` has the paper's schedule.

    Raises
    ------
    ValueError
        If a limit is out of range, `track_running_stats` is False, or as :class:`BatchNorm1d`.
    RuntimeError
        If the running statistics were taken away, or as :class:`BatchNorm1d`.
    TypeError, NotImplementedError
        As :class:`BatchNorm1d`.

    Notes
    -----
    Source: Ioffe 2017, "Batch Renormalization", Algorithm 1. Equal to
    ``keras.layers.BatchNormalization(renorm=True)`` of Keras 3 with the clipping ``rmax=r_max``,
    ``rmin=1 / r_max``, ``dmax=d_max`` and one momentum for both its pairs of averages, which is
    ``1 - momentum`` here; Keras starts from :math:`\sigma = 1`, this layer from
    :math:`\sqrt{1 + \epsilon}`.

    Activation checkpointing computes the layer twice, the second time with moved statistics and so with
    another r and d: keep the layer out of it.

    Examples
    --------
    >>> layer = BatchRenorm1d(1)
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> [round(value, 3) for value in layer(x).flatten().tolist()]  # as evaluation with mean 0, var 1
    [1.0, 3.0]
    >>> layer.r_max, layer.d_max = renorm_limits(0)  # the first steps of the schedule: the batch alone
    >>> [round(value, 3) for value in layer(x).flatten().tolist()]
    [-1.0, 1.0]
    """


class BatchRenorm2d(_Renorm, BatchNorm2d):
    r"""Batch Renormalization of images, as BatchRenorm1d.

    As :class:`BatchRenorm1d`, for inputs (N, C, H, W): each channel has one r and one d, from
    :math:`m = N H W` values.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    eps, momentum, affine : as in BatchNorm1d
        Have the meaning that they have in :class:`BatchNorm1d`.
    track_running_stats : bool
        True, because training needs the running statistics.
    device, dtype, bias : as in BatchNorm1d
        Have the meaning that they have in :class:`BatchNorm1d`.
    r_max, d_max : float
        Keyword only: limits of the corrections, as in :class:`BatchRenorm1d`.

    Raises
    ------
    ValueError, RuntimeError, TypeError, NotImplementedError
        As :class:`BatchRenorm1d`; the input must be 4-D.

    Notes
    -----
    Source: Ioffe 2017, "Batch Renormalization", Algorithm 1.

    Examples
    --------
    >>> layer = BatchRenorm2d(1)
    >>> [round(value, 3) for value in layer(torch.tensor([[[[1.0, 3.0]]]])).flatten().tolist()]
    [1.0, 3.0]
    """


def renorm_limits(step: int) -> tuple[float, float]:
    r"""Return `r_max` and `d_max` of the paper's schedule at a training step.

    .. math::

       r_{max} = 1 + 2 \, \operatorname{clip}_{[0, 1]} \frac{t - 5000}{35000}, \qquad
       d_{max} = 5 \, \operatorname{clip}_{[0, 1]} \frac{t - 5000}{20000}

    Parameters
    ----------
    step : int
        Number of steps taken, from 0.

    Returns
    -------
    tuple of float
        1 and 0, which is Batch Normalization, for 5,000 steps; 3 from step 40,000 and 5 from step 25,000.

    Raises
    ------
    TypeError, ValueError
        If `step` is not a number, or negative.

    Notes
    -----
    Source: Ioffe 2017, section 4.2, for Inception on ImageNet. Scale the step where training is shorter.

    Examples
    --------
    >>> renorm_limits(0), renorm_limits(15_000)[1], renorm_limits(40_000)
    ((1.0, 0.0), 2.5, (3.0, 5.0))
    """
    past = number("step", step, low=0) - 5000
    return 1 + 2 * min(max(past / 35_000, 0.0), 1.0), 5 * min(max(past / 20_000, 0.0), 1.0)


def _before_the_step(statistics: Tensor) -> Tensor:
    """Return statistics that the backward pass of a compiled layer cannot read again, after they moved.

    The compiler may compute r and d a second time in the backward pass, from buffers that the forward
    pass has moved by then: https://github.com/pytorch/pytorch/pull/197039. It never repeats a custom
    operation.
    """
    return _snapshot(statistics) if torch.compiler.is_compiling() else statistics


@torch.library.custom_op("bnlab::snapshot", mutates_args=(), schema="(Tensor x) -> Tensor")
def _snapshot(x: Tensor) -> Tensor:
    return x.clone()


@_snapshot.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _limit(name: str, value: float, low: float) -> float:
    """Return a limit if it is at least `low`; it may be infinite, for no limit."""
    return value if value == math.inf else number(name, value, low=low)
