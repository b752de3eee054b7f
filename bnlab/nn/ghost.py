r"""Batch Normalization by ghost batches: large batches for the gradient, small ones for the statistics.

A batch is cut into ghost batches, and each is normalized as if it were a batch of its own. So the noise
in the statistics, which regularizes, stays that of a small batch however large the whole one is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Proxy

from bnlab._validate import integer
from bnlab.nn._check import check_arguments
from bnlab.nn._tensors import arithmetic
from bnlab.nn.batchnorm import BatchNorm1d, BatchNorm2d, _Layer
from bnlab.nn.functional import _move, batch_norm

__all__ = ["GhostBatchNorm1d", "GhostBatchNorm2d"]


class _Ghost(_Layer):
    """Normalize each ghost batch by its own statistics, and count each as a batch."""

    def __init__(
        self,
        num_features: int,
        ghost_size: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        options = (eps, momentum, affine, track_running_stats, device, dtype)
        super().__init__(num_features, *options, bias=bias)
        self.ghost_size = integer("ghost_size", ghost_size, low=1)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each ghost batch of `input`, in evaluation mode by the running statistics."""
        given = not (self.training or self.running_mean is self.running_var is None)
        if isinstance(input, Proxy) or given:
            return super().forward(input)
        mean, var, gamma, beta = self.running_mean, self.running_var, self.weight, self.bias
        self._check_input(input, mean, gamma, beta)
        momentum = 0.0 if self.momentum is None else self.momentum
        check_arguments(
            input, mean, var, gamma, beta, training=True, momentum=momentum, eps=self.eps
        )
        ghosts = max(len(input) // self.ghost_size, 1)
        size, longer = divmod(len(input), ghosts)
        if size * input[0:1, 0:1].numel() == 1:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got ghost batches of "
                f"{self.ghost_size} of the input size {input.shape}, because one value has no variance. "
                f"Pass a ghost_size of 2 or more."
            )
        # The first ghost batches may be longer by one: at most two blocks of ghost batches of one size.
        sizes = (size + 1, longer), (size, ghosts - longer)
        blocks = input.split([n * parts for n, parts in sizes])
        done = [self._by_ghosts(x, *s) for x, s in zip(blocks, sizes, strict=True) if s[1]]
        ys, means, variances = zip(*done, strict=True)
        if self.training and self.track_running_stats:
            if input.numel():
                self._track(torch.cat(means).double(), torch.cat(variances).double())
            if (count := self.num_batches_tracked) is not None:
                count.add_(ghosts)
        return ys[0] if len(ys) == 1 else torch.cat(ys)

    def _by_ghosts(self, x: Tensor, size: int, ghosts: int) -> tuple[Tensor, Tensor, Tensor]:
        """Normalize ghost batches of one size; return y, and their means and variances (ghosts, C)."""
        # One call for all: features of other ghost batches are other features.
        apart = x.unflatten(0, (ghosts, size)).movedim(0, 1).flatten(1, 2)
        gamma, beta = (
            None if p is None else p.to(arithmetic(x)).repeat(ghosts)
            for p in (self.weight, self.bias)
        )
        mean, var = apart.new_zeros(2, apart.shape[1], dtype=arithmetic(x))
        y = batch_norm(apart, mean, var, gamma, beta, True, 1.0, self.eps)
        y = y.unflatten(1, (ghosts, x.shape[1])).movedim(1, 0).flatten(0, 1)
        return y, mean.unflatten(0, (ghosts, -1)), var.unflatten(0, (ghosts, -1))

    def _track(self, means: Tensor, variances: Tensor) -> None:
        """Move the running statistics by one ghost batch after another, in one step."""
        ghosts, tracked = len(means), self.num_batches_tracked
        if self.momentum is not None:
            later = torch.arange(ghosts - 1, -1, -1, device=means.device)
            weights = self.momentum * (1 - self.momentum) ** later.double()
        else:  # the average of all ghost batches so far
            weights = means.new_ones(ghosts) * (
                0 if tracked is None else 1 / (tracked.double() + ghosts)
            )
        for running, new in ((self.running_mean, means), (self.running_var, variances)):
            if running is not None:
                _move(running, weights @ new, weights.sum(), 1.0)

    def extra_repr(self) -> str:
        """Name the size of the ghost batches, too."""
        return f"{super().extra_repr()}, ghost_size={self.ghost_size}"


class GhostBatchNorm1d(_Ghost, BatchNorm1d):
    r"""Batch Normalization of vectors or sequences by ghost batches of `ghost_size` examples.

    .. math::

       y_i = \gamma \, \frac{x_i - \mu_g}{\sqrt{\sigma_g^2 + \epsilon}} + \beta
       \qquad \text{for each example } i \text{ of ghost batch } g

    where :math:`\mu_g` and :math:`\sigma_g^2` are the mean and biased variance of that ghost batch. The
    output, every gradient and the buffers are those of :class:`BatchNorm1d` that is called with
    one ghost batch after another: each moves the running statistics and counts in
    ``num_batches_tracked``. Evaluation mode is that of :class:`BatchNorm1d`.

    Parameters
    ----------
    num_features : int
        Number of features C of an input of shape (N, C) or (N, C, L).
    ghost_size : int
        Examples of a ghost batch. N examples make N // `ghost_size` ghost batches, at least one, of
        neighbors on axis 0, whose sizes differ by at most one: 10 examples and the size 4 make 5 and 5.
    eps, momentum, affine, track_running_stats, device, dtype, bias : as in BatchNorm1d
        Have the meaning that they have in :class:`BatchNorm1d`, with a ghost batch for a batch.

    Raises
    ------
    ValueError
        If a ghost batch has one value a channel, `ghost_size` is below 1, or as :class:`BatchNorm1d`.
    RuntimeError, TypeError, NotImplementedError
        As :class:`BatchNorm1d`.

    Notes
    -----
    Source: Hoffer, Hubara & Soudry 2017, "Train longer, generalize better", Algorithm 1.

    Examples
    --------
    >>> layer = GhostBatchNorm1d(1, ghost_size=2)
    >>> x = torch.tensor([[1.0], [3.0], [100.0], [300.0]])
    >>> [round(value, 3) for value in layer(x).flatten().tolist()]
    [-1.0, 1.0, -1.0, 1.0]
    >>> layer.num_batches_tracked.item()
    2
    """


class GhostBatchNorm2d(_Ghost, BatchNorm2d):
    r"""Batch Normalization of images by ghost batches of `ghost_size` examples.

    As :class:`GhostBatchNorm1d`, for inputs (N, C, H, W): each channel is normalized over the
    `ghost_size` times H times W values of a ghost batch. ``ghost_size=1`` normalizes each image alone.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    ghost_size : int
        Examples of a ghost batch, as in :class:`GhostBatchNorm1d`.
    eps, momentum, affine, track_running_stats, device, dtype, bias : as in BatchNorm1d
        Have the meaning that they have in :class:`BatchNorm1d`, with a ghost batch for a batch.

    Raises
    ------
    ValueError, RuntimeError, TypeError, NotImplementedError
        As :class:`GhostBatchNorm1d`; the input must be 4-D.

    Notes
    -----
    Source: Hoffer, Hubara & Soudry 2017, "Train longer, generalize better", Algorithm 1.

    Examples
    --------
    >>> layer = GhostBatchNorm2d(1, ghost_size=1)
    >>> [round(value, 3) for value in layer(torch.tensor([[[[1.0, 3.0]]]])).flatten().tolist()]
    [-1.0, 1.0]
    """
