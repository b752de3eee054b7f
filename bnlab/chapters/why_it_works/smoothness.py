"""Chapter 11: how the loss and its gradient change along a step, with and without Batch Normalization."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnlab import models, training
from bnlab.chapters.why_it_works.arms import ARMS, SIZES, digits
from bnlab.chapters.why_it_works.results import Smoothness
from bnlab.experiments import Provenance, difference

__all__ = ["repeat", "smoothness", "twins"]

INPUTS = {"raw": "", "centred": ", centred"}
ORIGINS = {"plain": None, "BN": nn.BatchNorm1d}


def twins(model: nn.Sequential, x: torch.Tensor) -> tuple[nn.Sequential, nn.Sequential]:
    r"""Return a plain network and one with Batch Normalization that agree on a batch, with the same weights.

    .. math:: W u + b = \gamma\, \frac{W u - \mu_\mathcal{B}}{s} + \beta, \qquad
              \gamma = s, \quad \beta = \mu_\mathcal{B} + b

    Layers of `model` that are normalized are folded first. The two differ in what happens when weights move: the
    one has a constant b, the other statistics that follow.

    Parameters
    ----------
    model : torch.nn.Sequential
        As `bnlab.models.mlp` makes it, plain or with Batch Normalization.
    x : torch.Tensor
        The batch.

    Returns
    -------
    plain, normalized : torch.nn.Sequential
    """
    layers = dict(model.named_children())
    count = sum(name.startswith("linear") for name in layers)
    sizes = [
        layers["linear1"].in_features,
        *(layers[f"linear{k}"].out_features for k in range(1, count + 1)),
    ]
    plain, normalized = (
        models.mlp(sizes, activation="relu", norm=norm).to(x.dtype)
        for norm in (None, nn.BatchNorm1d)
    )
    with torch.no_grad():
        for k in range(1, count + 1):
            linear, ours, theirs = (
                m.get_submodule(f"linear{k}") for m in (model, plain, normalized)
            )
            weight, bias = linear.weight, linear.bias
            if norm := layers.get(f"norm{k}"):
                var, mean = torch.var_mean(x @ weight.T, dim=0, correction=0)
                scale = norm.weight / (var + norm.eps).sqrt()
                weight, bias = scale[:, None] * weight, norm.bias - scale * mean
            ours.weight.copy_(weight), ours.bias.copy_(bias), theirs.weight.copy_(weight)
            x = x @ weight.T
            if k == count:
                theirs.bias.copy_(bias)
                break
            twin = normalized.get_submodule(f"norm{k}")
            var, mean = torch.var_mean(x, dim=0, correction=0)
            twin.weight.copy_((var + twin.eps).sqrt()), twin.bias.copy_(mean + bias)
            x = (x + bias).relu()
    return plain, normalized


def _along(
    model: nn.Sequential,
    x: torch.Tensor,
    y: torch.Tensor,
    distances: Iterable[float],
    *,
    unit: bool,
) -> tuple[float, float]:
    """Return the range of the loss along the gradient of the weights, and the largest change of it per distance."""
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    start = [w.detach().clone() for w in weights]
    model.train()

    def loss_and_gradient() -> tuple[float, list[torch.Tensor]]:
        loss = functional.cross_entropy(model(x), y)
        return loss.item(), list(torch.autograd.grad(loss, weights))

    first, gradient = loss_and_gradient()
    length = _length(gradient)
    losses, changes = [first], []
    for distance in distances:
        step = distance / length if unit else distance
        with torch.no_grad():
            for w, s, g in zip(weights, start, gradient, strict=True):
                w.copy_(s - step * g)
        loss, other = loss_and_gradient()
        losses.append(loss)
        moved = [a - b for a, b in zip(other, gradient, strict=True)]
        changes.append(_length(moved) / (step * length))
    with torch.no_grad():
        for w, s in zip(weights, start, strict=True):
            w.copy_(s)
    return max(losses) - min(losses), max(changes)


def _length(tensors: Iterable[torch.Tensor]) -> float:
    return float(sum(t.detach().square().sum() for t in tensors) ** 0.5)


def smoothness(
    *,
    lrs: Mapping[str, float],
    checkpoints: Sequence[int],
    rates: Sequence[float],
    shares: Sequence[float],
    probe: int = 500,
    batch_size: int = 60,
    seeds: Sequence[int] = (0,),
) -> Smoothness:
    r"""Measure the loss along gradient steps: of each network as it was trained, and of twins with one function.

    As trained, each goes along its own gradient by the learning rates `rates`. Twins (see `twins`) go by equal
    distances, `shares` of the length of the weights that they have in common.

    Parameters
    ----------
    lrs : mapping of str to float
        The learning rate of the arms "plain", "BN" and of both with centred inputs.
    checkpoints : sequence of int
        After so many steps of training.
    rates, shares : sequence of float
        How far to go.
    probe : int
        Training digits on which loss and gradient are taken, as one batch.
    batch_size : int
        Of the training.
    seeds : sequence of int
        Each sets the weights and the order of the batches.

    Returns
    -------
    Smoothness
    """
    shape = len(seeds), len(INPUTS), len(ORIGINS), len(checkpoints)
    own, twin = np.empty((*shape, 2)), np.empty((*shape, 2, 2))
    for j, suffix in enumerate(INPUTS.values()):
        given, _ = digits("report", centred=ARMS[f"BN{suffix}"].centred)
        for k, (origin, norm) in enumerate(ORIGINS.items()):
            x, y = (t[:probe] for t in training.tensors(given, dtype=torch.float64))
            for i, seed in enumerate(seeds):

                def look(t: int, model: nn.Sequential, at=(i, j, k), x=x, y=y) -> None:
                    if t not in checkpoints:
                        return
                    c = list(checkpoints).index(t)
                    own[(*at, c)] = _along(model, x, y, rates, unit=False)
                    pair = twins(model, x)
                    length = _length(p for p in pair[0].parameters() if p.ndim == 2)
                    for side, network in enumerate(pair):
                        twin[(*at, c, side)] = _along(
                            network, x, y, [s * length for s in shares], unit=True
                        )

                model = models.mlp(SIZES, activation="relu", norm=norm, init_std="he", seed=seed)
                training.train(
                    model.double(), given, lr=lrs[origin + suffix], steps=max(checkpoints),
                    batch_size=batch_size, seed=seed, on_step=look,
                )  # fmt: skip
    return Smoothness(
        inputs=tuple(INPUTS),
        origins=tuple(ORIGINS),
        checkpoints=tuple(checkpoints),
        own=own,
        twin=twin,
    )


def repeat(found: Smoothness, origin: Provenance) -> dict[str, float]:
    """Take the first seed's first checkpoint again, and return the relative differences."""
    again = smoothness(
        **origin.config | {"checkpoints": found.checkpoints[:1], "seeds": origin.seeds[:1]}
    )
    return {
        name: difference(getattr(again, name), getattr(found, name)[:1, :, :, :1])
        for name in ("own", "twin")
    }
