"""Chapter 12: what one layer does to one batch, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from bnlab import training
from bnlab.chapters.limits_and_relatives.experiments import images, network
from bnlab.chapters.limits_and_relatives.results import Leftovers, Reach

__all__ = ["gradient_left", "gradient_size", "leftovers", "notices", "reach", "split_gradient"]


def reach(layers: Mapping[str, nn.Module], *, shape: Sequence[int] = (4, 4, 1, 3)) -> Reach:
    """Say for each layer, in the mode that it is in, which inputs one output depends on.

    The gradient says it: it is zero at inputs that have no part in the output.

    Parameters
    ----------
    layers : mapping of str to torch.nn.Module
        Layers for inputs of this shape.
    shape : (N, C, H, W)

    Returns
    -------
    Reach

    Examples
    --------
    >>> reach({"instance": nn.InstanceNorm2d(4)}).shares.sum(axis=(1, 2, 3)).tolist()
    [3]
    """
    shares = []
    for layer in layers.values():
        x = torch.randn(*shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
        layer(x)[1, 1, 0, 1].backward()
        shares.append((x.grad != 0).flatten(2).numpy())  # type: ignore[operator]
    return Reach(layers=tuple(layers), shares=np.array(shares))


@torch.no_grad()
def notices(layer: nn.Module, *, shape: Sequence[int] = (4, 4, 1, 3)) -> tuple[bool, bool, bool]:
    """Say what changes the output for one example: other examples, its own contrast, its own brightness.

    Examples
    --------
    >>> notices(nn.LayerNorm((4, 1, 3)))
    (False, False, False)
    """
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    others, contrast, brightness = x.clone(), x.clone(), x.clone()
    others[1:] += 1
    contrast[0] *= 2
    brightness[0] += 1
    before = layer(x)[0]
    changed = [
        not torch.allclose(layer(v)[0], before, atol=1e-4) for v in (others, contrast, brightness)
    ]
    return changed[0], changed[1], changed[2]


@torch.no_grad()
def leftovers(
    sizes: Sequence[int] = (2, 4, 16), *, unit: int = 0, company: int = 2000, seed: int = 0
) -> Leftovers:
    r"""Put single values into many random batches and average what Batch Normalization makes of them.

    At m = 2 and eps = 0 a value becomes +1 or -1, and on average, with F the distribution of the values,

    .. math:: \mathrm{E}[\hat x \mid x] = 2 F(x) - 1

    Parameters
    ----------
    sizes : sequence of int
        Batch sizes m.
    unit : int
        The values are those of one unit of the first layer, for 4,000 digits.
    company : int
        Random batches for each value.
    seed : int

    Returns
    -------
    Leftovers

    Examples
    --------
    >>> result = leftovers((2,), company=50)
    >>> bool(abs(result.mean).max() <= 1)
    True
    """
    z = network("none", seed)[0](training.tensors(images()[0])[0])[:, unit].double()
    z = ((z - z.mean()) / z.std()).sort().values
    x = torch.linspace(-3, 3, 25, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    mean, std = [], []
    for m in sizes:
        others = z[torch.randint(len(z), (company, m - 1), generator=generator)]
        batch = torch.cat(
            [x[:, None, None].expand(-1, company, 1), others.expand(len(x), -1, -1)], 2
        )
        var, mu = torch.var_mean(batch, dim=2, correction=0)
        x_hat = (batch[:, :, 0] - mu) / (var + 1e-5).sqrt()
        mean.append(x_hat.mean(1).numpy())
        std.append(x_hat.std(1).numpy())
    rank = 2 * torch.searchsorted(z, x).double() / len(z) - 1
    return Leftovers(
        sizes=tuple(sizes), x=x.numpy(), mean=np.array(mean), std=np.array(std), rank=rank.numpy()
    )


def gradient_left(layer: nn.Module, *, m: int = 16, seed: int = 0) -> tuple[float, float]:
    """Send a random gradient back through a layer of one feature; return what passes of its two components.

    Parameters
    ----------
    layer : torch.nn.Module
        For inputs of shape (m, 1).
    m, seed : int

    Returns
    -------
    shift, scale : float
        The derivatives of the loss if all inputs move alike, and if they spread, relative to the length of the
        gradient. Both are 0 if the layer undoes such moves and its gradient knows it.

    Examples
    --------
    >>> max(map(abs, gradient_left(nn.BatchNorm1d(1, eps=1e-12)))) < 1e-9
    True
    """
    x, dx, _ = _gradient(layer, m, seed)
    spread = x.detach() - x.detach().mean()
    total = dx.norm() * m**0.5
    return float(dx.sum() / total), float((dx * spread).sum() / (total * spread.std(correction=0)))


def gradient_size(layer: nn.Module, *, m: int = 16, seed: int = 0) -> float:
    """Send a random gradient back through a layer of one feature; return its length behind over that before.

    Parameters
    ----------
    layer : torch.nn.Module
        For inputs of shape (m, 1).
    m, seed : int

    Examples
    --------
    >>> gradient_size(nn.BatchNorm1d(1), m=2) < 1e-3
    True
    """
    _, dx, dy = _gradient(layer, m, seed)
    return float(dx.norm() / dy.norm())


def _gradient(
    layer: nn.Module, m: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return random inputs of a layer, their gradient, and the random gradient of the outputs."""
    generator = torch.Generator().manual_seed(seed)
    x, dy = torch.randn(2, m, 1, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    (dx,) = torch.autograd.grad(layer.double().train()(x), x, dy)
    return x, dx, dy


def split_gradient(build: Callable[[int], nn.Module], *, m: int = 64, parts: int = 8) -> float:
    """Return by how much the gradient of one batch differs from that accumulated over its parts.

    Parameters
    ----------
    build : callable
        Takes the seed 0 and returns a network for the chapter's images.
    m, parts : int
        Size of the batch, and number of its equal parts.

    Returns
    -------
    float
        Length of the difference over the length of the gradient of the whole batch.
    """
    x, y = training.tensors(images()[0], dtype=torch.float64)
    x, y = x[:m], y[:m]

    def gradient(pieces: int) -> torch.Tensor:
        model = build(0).double().train()
        for a, b in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
            (nn.functional.cross_entropy(model(a), b) / pieces).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]

    whole = gradient(1)
    return float((gradient(parts) - whole).norm() / whole.norm())
