"""Chapter 11: how many directions a batch keeps in a deep random network, and how large it grows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bnlab.chapters.why_it_works.arms import ARMS, Networks
from bnlab.chapters.why_it_works.results import Depth
from bnlab.experiments import Provenance, difference

__all__ = ["depth_signal", "effective_rank", "repeat"]


def effective_rank(h: torch.Tensor) -> float:
    r"""Return how many directions a batch uses: 1 if all examples are multiples of one, at most their number.

    .. math:: r = \frac{(\sum_i \sigma_i^2)^2}{\sum_i \sigma_i^4}

    with the singular values :math:`\sigma_i` of the matrix of activations, one row for each example.

    Parameters
    ----------
    h : torch.Tensor
        Activations, (examples, units).

    Returns
    -------
    float

    Examples
    --------
    >>> effective_rank(torch.eye(3)), effective_rank(torch.ones(3, 3))
    (3.0, 1.0)
    """
    squares = torch.linalg.svdvals(h).square()
    return round(float(squares.sum() ** 2 / squares.square().sum()), 9)


@torch.no_grad()
def depth_signal(
    arms: Sequence[str],
    *,
    depth: int = 50,
    width: int = 128,
    examples: int = 64,
    seeds: Sequence[int] = (0,),
) -> Depth:
    """Send independent Gaussian inputs through random networks; measure each layer.

    In a plain stack that is the output of each ReLU; with shortcuts, what stands on the way around.

    Parameters
    ----------
    arms : sequence of str
        Names in `bnlab.chapters.why_it_works.arms.ARMS`.
    depth, width, examples : int
        Layers after the first, units of each, and size of the batch.
    seeds : sequence of int
        One network and batch each.

    Returns
    -------
    Depth

    Examples
    --------
    >>> found = depth_signal(["plain", "BN"], depth=20, width=32, examples=16)
    >>> bool(found.rank[0, 0, -1] < found.rank[0, 1, -1])
    True
    """
    generators = [torch.Generator().manual_seed(10_000 + seed) for seed in seeds]
    x = torch.stack([torch.randn(examples, width, generator=g) for g in generators]).double()
    rank, square = [], []
    for arm in arms:
        z, y = Networks(ARMS[arm], seeds, [width] * (depth + 2) + [10]).look(x)
        states = z[:-1] if ARMS[arm].shortcuts else [v.relu() for v in y]
        rank.append([[effective_rank(h) for h in own] for own in zip(*states, strict=True)])
        square.append(torch.stack([h.square().mean(dim=(1, 2)) for h in states], dim=1).numpy())
    return Depth(
        arms=tuple(arms), examples=examples, rank=np.stack(rank, axis=1), square=np.stack(square, axis=1)
    )  # fmt: skip


def repeat(found: Depth, origin: Provenance) -> dict[str, float]:
    """Measure the first seed again, and return the relative differences."""
    again = depth_signal(**origin.config | {"seeds": origin.seeds[:1]})
    return {
        name: difference(getattr(again, name), getattr(found, name)[:1])
        for name in ("rank", "square")
    }
