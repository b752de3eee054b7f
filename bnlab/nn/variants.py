"""Relatives of Batch Normalization for PyTorch, each a drop-in for the layer in torch.nn."""

from __future__ import annotations

import torch
from torch.nn import functional


class DetachedBatchNorm1d(torch.nn.BatchNorm1d):
    r"""Batch Normalization with the paper's naive bug: the batch statistics carry no gradient.

    .. math::

        \hat x = \frac{x - \operatorname{sg}(\mu_B)}{\sqrt{\operatorname{sg}(\sigma_B^2) + \epsilon}},
        \qquad y = \gamma \hat x + \beta, \qquad
        \frac{\partial \ell}{\partial x}
            = \frac{\gamma}{\sqrt{\sigma_B^2 + \epsilon}} \frac{\partial \ell}{\partial y},

    where :math:`\operatorname{sg}` (stop gradient, ``detach()`` in PyTorch) makes a constant. Outputs
    equal those of :class:`torch.nn.BatchNorm1d` to rounding; only gradients differ, in training.

    .. warning::

        This layer is wrong on purpose. The gradient it returns keeps the two components that
        normalization is about to undo, so what stands before it drifts: a bias along the mean
        gradient, a weight's norm with the scale. Use it to see and to test for the bug, not to train.

    Parameters
    ----------
    num_features : int
        Number of features C of an input of shape (N, C) or (N, C, L).
    eps, momentum, affine, track_running_stats, device, dtype, bias : as in torch.nn.BatchNorm1d
        Have the same meaning; buffers, errors and evaluation mode are the same as well.

    Raises
    ------
    ValueError
        If the input is not 2-D or 3-D, or training sees one value a channel.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 2 (normalization outside the gradient step).

    Examples
    --------
    >>> x = torch.tensor([[0.0], [2.0]], requires_grad=True)
    >>> DetachedBatchNorm1d(1)(x).sum().backward()
    >>> [round(value, 4) for value in x.grad.flatten().tolist()]
    [1.0, 1.0]
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalize by the statistics of the batch, held constant.

        Parameters
        ----------
        input : torch.Tensor
            Floats of shape (N, C) or (N, C, L).

        Returns
        -------
        torch.Tensor
            ``y``, of the same shape.
        """
        if not self.training and self.running_mean is not None:
            return super().forward(input)  # constants here are true constants: no bug to show
        with torch.no_grad():
            super().forward(input)  # torch's own checks and running statistics
            axes = [axis for axis in range(input.dim()) if axis != 1]
            var, mean = torch.var_mean(input, dim=axes, correction=0)
        return functional.batch_norm(input, mean, var, self.weight, self.bias, eps=self.eps)
