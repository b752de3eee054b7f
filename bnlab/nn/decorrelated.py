r"""Decorrelated Batch Normalization: mini-batches that are whitened, not only standardized.

The whitening matrix is :math:`\Sigma^{-1/2}`, the inverse of the symmetric root :math:`R` of the covariance,
:math:`R R = \Sigma`. Its derivative needs no formula for eigenvectors, which has none where eigenvalues are
equal. Both sides of :math:`R R = \Sigma` have the differential

.. math:: R \, dR + dR \, R = d\Sigma

an equation for :math:`dR` that Lyapunov studied: :math:`dR = L_R(d\Sigma)`, where :math:`X = L_R(Q)` is the
solution of :math:`R X + X R = Q`. In the basis of the eigenvectors of R it is
:math:`X_{kl} = Q_{kl} / (s_k + s_l)`: sums of the positive :math:`s_k`, and no differences. The map
:math:`L_R` is its own adjoint, so gradients pass back through it as they are; and what it is differentiated
to is again :math:`L_R`, so that derivatives of every order come from these two functions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.fx import Proxy

from bnlab._validate import integer
from bnlab.nn._check import check_arguments, check_tensor
from bnlab.nn.autograd import _refuse_nested_forward_mode
from bnlab.nn.functional import _move

__all__ = ["DecorrelatedBatchNorm1d"]


class DecorrelatedBatchNorm1d(nn.Module):
    r"""Whiten the features of a mini-batch, in groups, then scale and shift each of them.

    .. math::

       z = \Sigma^{-1/2} (x - \mu), \qquad
       \Sigma = \frac{1}{m} \sum_i (x_i - \mu)(x_i - \mu)^\top + \epsilon I, \qquad
       y = \gamma \, z + \beta

    with :math:`\mu` and :math:`\Sigma` of the batch in training mode, and with the running mean and the
    running whitening matrix :math:`W` in evaluation mode. Training moves those by

    .. math::

       \mathrm{E}[x] \leftarrow (1 - \alpha) \, \mathrm{E}[x] + \alpha \, \mu, \qquad
       W \leftarrow (1 - \alpha) \, W + \alpha \, \Sigma^{-1/2}

    The gradient passes through the decomposition, and is right where eigenvalues are equal.

    Parameters
    ----------
    num_features : int
        Number of features C of an input of shape (N, C) or (N, C, L).
    groups : int
        Number of groups of neighboring features that are whitened apart, a divisor of C. 1 whitens all
        features together; C is :class:`BatchNorm1d`.
    eps : float
        Added to every eigenvalue.
    momentum : float or None
        Weight :math:`\alpha` of the *new* batch; None for the average of all batches.
    affine : bool
        True for learnable ``weight`` (:math:`\gamma`, from ones) and ``bias`` (:math:`\beta`, from
        zeros).
    track_running_stats : bool
        True to keep the buffers ``running_mean`` (C,), ``running_whitening`` (groups, C / groups,
        C / groups) and ``num_batches_tracked``.
    device, dtype : torch.device, torch.dtype
        Of parameters and buffers.
    bias : bool
        Keyword only: False leaves out :math:`\beta`.

    Raises
    ------
    ValueError
        If `groups` does not divide C, the input is not 2-D or 3-D, or training sees one value a feature.
    RuntimeError
        If the number of features, a dtype or a device does not match.
    TypeError, NotImplementedError
        If the input is not a tensor, or not one of floats.

    Notes
    -----
    Source: Huang, Yang, Lang & Deng 2018, "Decorrelated Batch Normalization". The arithmetic is
    float64.

    A group needs far fewer features than the batch has values. With m values or fewer, a batch has no
    variance at all in some directions: training gives 0 there, and evaluation multiplies by up to
    :math:`1 / \sqrt{\epsilon}`. And as the inverse root is convex, the average of the whitening
    matrices is larger than the whitening matrix of the average covariance, which
    :func:`bnlab.whitening.population_covariance` gives.

    Examples
    --------
    >>> layer = DecorrelatedBatchNorm1d(2)
    >>> x = torch.tensor([[1.0, 2.0], [2.0, 3.0], [3.0, 7.0], [4.0, 8.0]])
    >>> z = layer(x)
    >>> torch.allclose(z.T @ z / 4, torch.eye(2), atol=1e-3)
    True
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_whitening: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        groups: int = 1,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = integer("num_features", num_features, low=1)
        self.groups = integer("groups", groups, low=1)
        if num_features % groups:
            raise ValueError(
                f"groups is {groups}, and num_features is {num_features}; expected groups of one size. "
                f"Choose a divisor of {num_features}."
            )
        self.eps, self.momentum = eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        size, to = num_features // groups, {"device": device, "dtype": dtype}
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            values = nn.Parameter(torch.empty(num_features, **to)) if wanted else None
            self.register_parameter(name, values)
        buffers = {
            "running_mean": torch.empty(num_features, **to),
            "running_whitening": torch.empty(groups, size, size, **to),
            "num_batches_tracked": torch.tensor(0, dtype=torch.long, device=device),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Set the running statistics to mean 0 and the identity matrix."""
        if self.running_mean is not None and self.running_whitening is not None:
            self.running_mean.zero_()
            self.running_whitening.zero_().diagonal(dim1=-2, dim2=-1).fill_(1)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Set the parameters to ones and zeros, and the running statistics to their start."""
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Whiten by the batch in training mode, by the running statistics otherwise.

        Parameters
        ----------
        input : torch.Tensor
            Floats of shape (N, C) or (N, C, L).

        Returns
        -------
        torch.Tensor
            ``y``, of the shape and dtype of `input`.
        """
        if isinstance(input, Proxy):  # torch.fx is tracing: stay one node
            tracer: Any = input.tracer
            return tracer.create_proxy("call_module", tracer.path_of_module(self), (input,), {})
        self._check(input)
        # (groups, rows, features of a group)
        x = (
            input.movedim(1, -1)
            .double()
            .unflatten(-1, (self.groups, -1))
            .movedim(-2, 0)
            .flatten(1, -2)
        )
        if input.numel() == 0:
            z = x
        elif self._by_batch():
            mean = x.mean(1, keepdim=True)
            matrix = _whitening_matrix(x - mean, self.eps)
            z = (x - mean) @ matrix
            self._track(mean.detach(), matrix.detach())
        else:
            assert self.running_mean is not None
            assert self.running_whitening is not None
            mean = self.running_mean.double().view(self.groups, 1, -1)
            z = (x - mean) @ self.running_whitening.double()
        y = z.movedim(0, 1).flatten(1)
        if self.weight is not None:
            y = y * self.weight
        if self.bias is not None:
            y = y + self.bias
        y = y.to(input.dtype).unflatten(0, (len(input), *input.shape[2:]))
        return y.movedim(-1, 1).contiguous()

    def _by_batch(self) -> bool:
        return self.training or self.running_mean is None

    def _check(self, input: Tensor) -> None:
        check_tensor("input", input)
        if input.dim() not in (2, 3):
            raise ValueError(
                f"expected 2D or 3D input (got {input.dim()}D input): the shape (N, C) or (N, C, L). "
                f"For images flatten the positions: input.flatten(2)."
            )
        if input.shape[1] != self.num_features:
            raise RuntimeError(
                f"input has shape {tuple(input.shape)}, {input.shape[1]} features on axis 1; expected "
                f"{self.num_features}, the num_features of the layer. If your features are last, use "
                f"input.movedim(-1, 1)."
            )
        # What batch_norm checks: the mean stands for both statistics of one value a feature.
        given = (input, self.running_mean, self.running_mean, self.weight, self.bias)
        momentum = 0.0 if self.momentum is None else self.momentum
        check_arguments(*given, training=self._by_batch(), momentum=momentum, eps=self.eps)

    def _track(self, mean: Tensor, matrix: Tensor) -> None:
        running = self.running_mean, self.running_whitening
        if not (self.training and self.track_running_stats):
            return
        count, weight = self.num_batches_tracked, self.momentum
        if weight is None:
            weight = 0.0 if count is None else 1 / (count + 1).double()
        for old, new in zip(running, (mean, matrix), strict=True):
            if old is not None:
                _move(old, new, weight, weight)
        if count is not None:
            count.add_(1)

    def extra_repr(self) -> str:
        """Name the settings.

        Returns
        -------
        str
            As in ``repr(layer)``.
        """
        return (
            f"{self.num_features}, groups={self.groups}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )


def _whitening_matrix(c: Tensor, eps: float) -> Tensor:
    """Return the inverse root of the covariance of centered rows (groups, m, C / groups)."""
    one = torch.eye(c.shape[-1], dtype=c.dtype, device=c.device)
    covariance = c.mT @ c / c.shape[-2] + eps * one
    # An eigensolver refuses NaN, which should pass through a layer.
    finite = covariance.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    covariance = torch.where(finite, covariance, one)
    root = (_CompilableRoot if torch.compiler.is_compiling() else _Root).apply(covariance)
    return torch.where(finite, torch.linalg.inv(root), torch.nan)


def _lyapunov(root: Tensor, q: Tensor) -> Tensor:
    """Return the X with root X + X root = q, for a symmetric and positive root."""
    solver = _CompilableLyapunov if torch.compiler.is_compiling() else _Lyapunov
    return solver.apply(root, q)


class _CompilableRoot(Function):
    """The symmetric root R of a symmetric positive matrix."""

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor) -> Tensor:
        values, v = torch.linalg.eigh(matrix)
        return (v * values.clamp(min=0).sqrt()[..., None, :]) @ v.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, d_root: Tensor) -> Tensor:
        (root,) = ctx.saved_tensors
        return _lyapunov(root, d_root)


class _Root(_CompilableRoot):
    """The same with forward-mode derivatives, which torch.compile does not accept in a Function."""

    @staticmethod
    def jvp(ctx: Any, d_matrix: Tensor) -> Tensor:
        _refuse_nested_forward_mode()
        (root,) = ctx.saved_tensors
        return _lyapunov(root, d_matrix)


class _CompilableLyapunov(Function):
    """X with R X + X R = Q, where R is symmetric and positive."""

    generate_vmap_rule = True

    @staticmethod
    def forward(root: Tensor, q: Tensor) -> Tensor:
        s, v = torch.linalg.eigh(root)
        return v @ ((v.mT @ q @ v) / (s[..., :, None] + s[..., None, :])) @ v.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor, Tensor]:
        root, x = ctx.saved_tensors
        dq = _lyapunov(root, dx)
        return -(dq @ x.mT + x.mT @ dq), dq


class _Lyapunov(_CompilableLyapunov):
    """The same with forward-mode derivatives."""

    @staticmethod
    def jvp(ctx: Any, d_root: Tensor | None, dq: Tensor | None) -> Tensor:
        _refuse_nested_forward_mode()
        root, x = ctx.saved_tensors
        moved = torch.zeros_like(x) if dq is None else dq
        if d_root is not None:
            moved = moved - d_root @ x - x @ d_root
        return _lyapunov(root, moved)
