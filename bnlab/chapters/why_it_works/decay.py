"""Chapter 11: weight decay before Batch Normalization is a learning rate that grows from step to step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnlab import models, training
from bnlab.chapters.why_it_works.arms import digits
from bnlab.chapters.why_it_works.results import Decay
from bnlab.experiments import Provenance, difference

__all__ = ["decay", "matched_rows", "repeat"]

KINDS = ("decay", "growing rate", "neither")


class _BatchNorm(nn.BatchNorm1d):
    """Batch Normalization that also takes an epsilon of 0, which torch's own refuses."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        var, mean = torch.var_mean(input, dim=0, correction=0)
        return (
            functional.batch_norm(input, None, None, self.weight, self.bias, True, eps=self.eps)
            if self.eps
            else (input - mean) / var.sqrt() * self.weight + self.bias
        )


def decay(
    *,
    eps: Sequence[float] = (0.0, 1e-5),
    lr: float = 0.5,
    weight_decay: float = 0.01,
    steps: int = 400,
    batch_size: int = 60,
    sizes: Sequence[int] = (784, 50, 50, 10),
    seeds: Sequence[int] = (0,),
) -> Decay:
    r"""Train with weight decay, with the growing rate that should equal it, and with neither.

    .. math:: w \leftarrow (1 - \eta \lambda)\, w - \eta\, g \quad\text{against}\quad
              w \leftarrow w - \eta\, (1 - \eta \lambda)^{-(2 t + 1)}\, g

    Both act on the normalized weights alone; all else has the rate :math:`\eta` and no decay.

    Parameters
    ----------
    eps : sequence of float
        The layer's :math:`\epsilon`, each in turn.
    lr, weight_decay : float
        :math:`\eta` and :math:`\lambda`.
    steps, batch_size : int
        Of each run.
    sizes : sequence of int
        As for `bnlab.models.mlp`.
    seeds : sequence of int
        Each sets the weights and the order of the batches.

    Returns
    -------
    Decay
    """
    given, _ = digits("report")
    loss = np.empty((len(seeds), len(eps), len(KINDS), steps))
    for i, seed in enumerate(seeds):
        for j, epsilon in enumerate(eps):
            for k, kind in enumerate(KINDS):
                model, time = _network(seed, epsilon, sizes), [0]
                for w in _normalized(model):
                    w.register_hook(_CHANGES[kind](w, time, lr, weight_decay))
                loss[i, j, k] = training.train(
                    model, given, lr=lr, steps=steps, batch_size=batch_size, seed=seed,
                    on_step=lambda t, _, time=time: time.__setitem__(0, t),
                ).loss  # fmt: skip
    return Decay(eps=np.array(eps), lr=lr, weight_decay=weight_decay, kinds=KINDS, loss=loss)


_CHANGES = {
    "decay": lambda w, time, lr, wd: lambda g: g + wd * w.detach(),
    "growing rate": lambda w, time, lr, wd: lambda g: g * (1 - lr * wd) ** -(2 * time[0] + 1),
    "neither": lambda w, time, lr, wd: lambda g: g,
}


def matched_rows(
    *, lr: float, steps: int, seed: int, eps: float = 0.0, sizes: Sequence[int] = (784, 50, 50, 10)
) -> np.ndarray:
    r"""Train with free rows, with rows held at their first length, and so but at the rates of the free rows.

    .. math:: \eta_i(t) = \eta\, \lVert w_i(0) \rVert^2 / \lVert w_i(t) \rVert^2

    Parameters
    ----------
    lr : float
        The learning rate :math:`\eta`.
    steps, seed : int
        Of each run.
    eps : float
        The layer's :math:`\epsilon`.
    sizes : sequence of int
        As for `bnlab.models.mlp`.

    Returns
    -------
    numpy.ndarray
        The losses, (3, steps).
    """
    given, _ = digits("report")
    lengths: list[list[torch.Tensor]] = []  # of the free rows, before each step

    def run(kind: str) -> np.ndarray:
        model = _network(seed, eps, sizes)
        rows = _normalized(model)
        time = [0]
        if kind == "matched":
            for k, w in enumerate(rows):
                w.register_hook(lambda g, k=k: g * (lengths[0][k] / lengths[time[0]][k]) ** 2)

        @torch.no_grad()
        def on_step(t: int, _: nn.Module) -> None:
            time[0] = t
            if kind == "free":
                lengths.append([w.norm(dim=1, keepdim=True) for w in rows])
            else:
                for w, length in zip(rows, lengths[0], strict=True):
                    w *= length / w.norm(dim=1, keepdim=True)

        return training.train(
            model, given, lr=lr, steps=steps, batch_size=60, seed=seed, on_step=on_step
        ).loss

    return np.stack([run(kind) for kind in ("free", "held", "matched")])


def _network(seed: int, eps: float, sizes: Sequence[int]) -> nn.Sequential:
    return models.mlp(
        sizes, activation="relu", norm=lambda n: _BatchNorm(n, eps=eps), init_std="he", seed=seed
    ).double()


def _normalized(model: nn.Sequential) -> list[nn.Parameter]:
    *normalized, _ = (layer.weight for layer in model if isinstance(layer, nn.Linear))
    return normalized


def repeat(found: Decay, origin: Provenance, *, steps: int = 50) -> dict[str, float]:
    """Train the first steps of the first seed again, and return the relative difference of the loss."""
    again = decay(**origin.config | {"steps": steps, "seeds": origin.seeds[:1]})
    return {"loss": difference(again.loss, found.loss[:1, :, :, :steps])}
