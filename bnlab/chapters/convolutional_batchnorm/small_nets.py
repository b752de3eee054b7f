r"""Small versions of two famous families of networks, to fold and to export: residual and mobile.

What they add to a plain stack is what a tool that edits networks can stumble over: sums of two
paths, a normalization *before* a convolution, convolutions with one group a channel, and branches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def residual_net(*, width: int = 16, norm: Norm = nn.BatchNorm2d, seed: int = 0) -> nn.Module:
    """Build a residual network for (N, 1, 28, 28) with ten classes, of five residual blocks.

    Three blocks normalize after each convolution (He et al. 2016a), two before it (He et al. 2016b).
    Gamma, beta and the running statistics are random, so that no normalization is the identity.

    Parameters
    ----------
    width : int
        Channels of the first blocks; the later ones have twice as many.
    norm : callable
        Takes the number of channels and returns a layer.
    seed : int
        Seed of all weights and statistics.

    Returns
    -------
    torch.nn.Module
        In evaluation mode.

    Examples
    --------
    >>> tuple(residual_net(width=4)(torch.zeros(2, 1, 28, 28)).shape)
    (2, 10)
    """
    return _seeded(
        lambda: nn.Sequential(
            *_conv_norm(1, width, norm),
            nn.ReLU(),
            Residual(width, width, norm),
            Residual(width, 2 * width, norm, stride=2),
            Residual(2 * width, 2 * width, norm),
            PreActivation(2 * width, norm),
            PreActivation(2 * width, norm),
            norm(2 * width),
            nn.ReLU(),
            *_head(2 * width),
        ),
        seed,
    )


def mobile_net(*, width: int = 16, norm: Norm = nn.BatchNorm2d, seed: int = 0) -> nn.Module:
    """Build a mobile network for (N, 1, 28, 28) with ten classes: four inverted residual blocks.

    Each block widens by a 1x1 convolution, filters every channel by itself (one group a channel),
    and narrows again, with a normalization after each (Sandler et al. 2018).

    Parameters
    ----------
    width : int
        Channels of the first blocks; the later ones have twice as many.
    norm, seed
        As in :func:`residual_net`.

    Returns
    -------
    torch.nn.Module
        In evaluation mode.

    Examples
    --------
    >>> tuple(mobile_net(width=4)(torch.zeros(2, 1, 28, 28)).shape)
    (2, 10)
    """
    return _seeded(
        lambda: nn.Sequential(
            *_conv_norm(1, width, norm, stride=2),
            nn.ReLU6(),
            Inverted(width, width, norm),
            Inverted(width, 2 * width, norm, stride=2),
            Inverted(2 * width, 2 * width, norm),
            Inverted(2 * width, 2 * width, norm),
            *_head(2 * width),
        ),
        seed,
    )


class Residual(nn.Module):
    """Two normalized convolutions beside a shortcut; the sum goes through the nonlinearity."""

    def __init__(self, before: int, after: int, norm: Norm, stride: int = 1) -> None:
        super().__init__()
        first, second = (
            _conv_norm(before, after, norm, stride=stride),
            _conv_norm(after, after, norm),
        )
        self.path = nn.Sequential(*first, nn.ReLU(), *second)
        same = before == after and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(*_conv_norm(before, after, norm, kernel=1, stride=stride))
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Add the two paths."""
        return self.act(self.path(x) + self.shortcut(x))


class PreActivation(nn.Module):
    """A residual block whose first normalization comes before any convolution: it reads a sum."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        conv = _conv_norm(channels, channels, norm)
        last = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.path = nn.Sequential(norm(channels), nn.ReLU(), *conv, nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """Add the path to its input."""
        return x + self.path(x)


class Inverted(nn.Module):
    """Widen, filter each channel, narrow; added to the input where the shapes allow."""

    def __init__(self, before: int, after: int, norm: Norm, stride: int = 1) -> None:
        super().__init__()
        wide = 4 * before
        self.path = nn.Sequential(
            *_conv_norm(before, wide, norm, kernel=1),
            nn.ReLU6(),
            *_conv_norm(wide, wide, norm, stride=stride, groups=wide),
            nn.ReLU6(),
            *_conv_norm(wide, after, norm, kernel=1),
        )
        self.adds = before == after and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Filter, and add the input if it has the shape of the result."""
        return x + self.path(x) if self.adds else self.path(x)


def _conv_norm(before, after, norm, *, kernel=3, stride=1, groups=1) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(
        before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return conv, norm(after)


def _head(channels: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build with random weights and statistics, and leave the global random state alone."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = build().eval()
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.3)
                layer.running_mean.normal_(0, 0.5)
                layer.running_var.uniform_(0.5, 2.0)
    return model
