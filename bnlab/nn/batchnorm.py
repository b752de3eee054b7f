r"""Batch Normalization layers for PyTorch: bookkeeping around :func:`bnlab.nn.functional.batch_norm`.

Each class derives from the class of its name in :mod:`torch.nn`, so that constructor, parameters,
buffers, ``state_dict`` and every tool that asks ``isinstance`` work as before. Tools that compare exact
types, such as torch's own fusion and quantization, do not see them: swap torch's layers in first. What
the layer computes is ours: the forward pass, the statistics, and the gradient.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy

from bnlab.nn._check import check_rank, check_tensor
from bnlab.nn._compat import _BatchNorm
from bnlab.nn._tensors import widest
from bnlab.nn.functional import batch_norm

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]


class _Layer(_BatchNorm):
    """Choose between the statistics of the batch and the running ones, and count the batches."""

    _ranks: tuple[int, ...]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.momentum is not None and not 0 <= self.momentum <= 1:
            warnings.warn(
                f"momentum is {self.momentum}; expected a number from 0 to 1, or None. It is the weight of "
                f"the new batch, so that a running variance becomes negative, and evaluation NaN.",
                stacklevel=2,
            )

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` by the batch in training mode, by the running statistics otherwise."""
        if isinstance(input, Proxy):  # torch.fx is tracing: stay one node, as torch's layers do
            tracer: Any = input.tracer
            return tracer.create_proxy("call_module", tracer.path_of_module(self), (input,), {})
        mean, var, weight, bias = self.running_mean, self.running_var, self.weight, self.bias
        self._check_input(input, mean, weight, bias)
        training = self.training
        tracking = training and self.track_running_stats
        batch = training or (mean is None and var is None)
        if training and not tracking:
            mean, var = None, None  # buffers that someone set are kept, and not moved
        momentum = self.momentum
        if momentum is None:
            momentum = self._weight_of_new_batch()
        y = batch_norm(input, mean, var, weight, bias, batch, momentum, self.eps)
        # Counted last, so that a batch that raised an error does not count; nor does an empty one.
        if tracking and self.num_batches_tracked is not None and input.numel() > 0:
            self.num_batches_tracked.add_(1)
        return y

    def _weight_of_new_batch(self) -> float | Tensor:
        if self.num_batches_tracked is None:
            return 0.0
        # The n-th batch has weight 1/n in the average of all n. A tensor, because a compiler cannot
        # turn one into a number.
        return 1 / (self.num_batches_tracked + 1).to(widest(self.num_batches_tracked))

    def _check_input_dim(self, input: Tensor) -> None:
        check_rank(input, self._ranks, type(self).__name__)

    def __prepare_scriptable__(self) -> None:
        """Refuse torch.jit.script, which cannot read what this layer calls."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot be compiled by torch.jit.script, which torch has deprecated. Use "
            f"torch.export.export, torch.compile or torch.jit.trace, or put torch's own layer in: "
            f"bnlab.inference.swap(model, to='torch')."
        )

    def _check_input(
        self, input: Tensor, mean: Tensor | None, weight: Tensor | None, bias: Tensor | None
    ) -> None:
        check_tensor("input", input)
        self._check_input_dim(input)
        # Without parameters and statistics, no later check has a number of features to compare with.
        nothing = weight is None and bias is None and mean is None
        if nothing and input.shape[1] != self.num_features:
            raise RuntimeError(
                f"input has shape {tuple(input.shape)}, {input.shape[1]} features on axis 1; "
                f"expected {self.num_features}, the num_features of the layer. Build it as "
                f"{type(self).__name__}({input.shape[1]}), or if your features are last, use "
                f"input.movedim(-1, 1)."
            )


functools.update_wrapper(_Layer.__init__, _BatchNorm.__init__)  # the arguments that torch has


class BatchNorm1d(_Layer, torch.nn.BatchNorm1d):
    r"""Batch Normalization of vectors or sequences, a drop-in for :class:`torch.nn.BatchNorm1d`.

    .. math::

       y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    In training mode :math:`\mu` and :math:`\sigma^2` are the mean and the biased variance of the
    batch, over all axes but axis 1, and the running statistics move by

    .. math::

       \mathrm{E}[x] \leftarrow (1 - \alpha) \, \mathrm{E}[x] + \alpha \, \mu_B, \qquad
       \mathrm{Var}[x] \leftarrow (1 - \alpha) \, \mathrm{Var}[x]
           + \alpha \, \frac{m}{m - 1} \, \sigma_B^2

    In evaluation mode they are the running statistics, or those of the batch if there are none.

    Parameters
    ----------
    num_features : int
        Number of features C of an input of shape (N, C) or (N, C, L).
    eps : float
        Added to the variance, inside the square root.
    momentum : float or None
        Weight :math:`\alpha` of the *new* batch; None for the average of all batches,
        :math:`\alpha = 1/n` at the n-th.
    affine : bool
        True for learnable ``weight`` (:math:`\gamma`, from ones) and ``bias`` (:math:`\beta`, from
        zeros).
    track_running_stats : bool
        True to keep the buffers ``running_mean``, ``running_var`` and ``num_batches_tracked``.
    device, dtype : torch.device, torch.dtype
        Of parameters and buffers.
    bias : bool
        Keyword only, where torch has it: False leaves out :math:`\beta`.

    Raises
    ------
    ValueError
        If the input is not 2-D or 3-D or has no features, or training sees one value a feature.
    RuntimeError
        If the number of features, a dtype or a device does not match.
    TypeError, NotImplementedError
        If the input is not a tensor, or not one of floats.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithms 1 and 2.

    Examples
    --------
    >>> layer = BatchNorm1d(1)
    >>> [round(value, 3) for value in layer(torch.tensor([[1.0], [3.0]])).flatten().tolist()]
    [-1.0, 1.0]
    >>> [round(layer.running_mean.item(), 3), round(layer.running_var.item(), 3)]
    [0.2, 1.1]
    """

    _ranks = (2, 3)


class BatchNorm2d(_Layer, torch.nn.BatchNorm2d):
    r"""Batch Normalization of images, a drop-in for :class:`torch.nn.BatchNorm2d`.

    As :class:`BatchNorm1d`, for inputs (N, C, H, W): each channel is normalized over
    :math:`m = N H W` values, so that all positions share one :math:`\gamma` and :math:`\beta`.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    eps, momentum, affine, track_running_stats, device, dtype, bias : as in BatchNorm1d
        Have the meaning that they have in :class:`BatchNorm1d`.

    Raises
    ------
    ValueError, RuntimeError, TypeError, NotImplementedError
        As :class:`BatchNorm1d`; the input must be 4-D.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 3.2.

    Examples
    --------
    >>> layer = BatchNorm2d(1)
    >>> [round(value, 3) for value in layer(torch.tensor([[[[1.0, 3.0]]]])).flatten().tolist()]
    [-1.0, 1.0]
    """

    _ranks = (4,)


class BatchNorm3d(_Layer, torch.nn.BatchNorm3d):
    r"""Batch Normalization of volumes or videos, a drop-in for :class:`torch.nn.BatchNorm3d`.

    As :class:`BatchNorm1d`, for inputs (N, C, D, H, W): each channel is normalized over
    :math:`m = N D H W` values.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    eps, momentum, affine, track_running_stats, device, dtype, bias : as in BatchNorm1d
        Have the meaning that they have in :class:`BatchNorm1d`.

    Raises
    ------
    ValueError, RuntimeError, TypeError, NotImplementedError
        As :class:`BatchNorm1d`; the input must be 5-D.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 3.2.

    Examples
    --------
    >>> layer = BatchNorm3d(1)
    >>> [round(value, 3) for value in layer(torch.tensor([[[[[1.0, 3.0]]]]])).flatten().tolist()]
    [-1.0, 1.0]
    """

    _ranks = (5,)
