"""Chapter 6: the learning rates at which digits are still learned, without normalization and with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from bnlab import data, models, training
from bnlab.chapters.gradient_flow.results import RateSweep
from bnlab.experiments import Provenance, difference

__all__ = ["rate_sweep", "repeat", "sweep_arm"]

GUESSING = float(np.log(10))  # the loss of ten equal guesses


def rate_sweep(
    label: str,
    *,
    lrs: Sequence[float],
    norm: Callable[[int], nn.Module] | None = None,
    normalize_outputs: bool = False,
    fixed: Sequence[str] = (),
    held: Sequence[str] = (),
    centered: bool = False,
    sizes: Sequence[int] = (784, 100, 100, 10),
    steps: int = 100,
    batch_size: int = 60,
    last: int = 20,
    below: float = 0.5,
    seeds: Sequence[int] = tuple(range(5)),
) -> RateSweep:
    r"""Train a ReLU network on digits in float64 at each learning rate; say which runs were stable.

    A run is *stable* if every loss is finite and the mean of its last losses is below half of
    :math:`\ln 10`, the loss of guessing among ten digits. A run that blew up and came to rest with
    dead units is therefore not stable.

    Parameters
    ----------
    label : str
        Name in figures.
    lrs : sequence of float
        The learning rates.
    norm : callable, optional
        As for `bnlab.models.mlp`.
    normalize_outputs : bool
        Normalize the logits as well, without scale and shift, so that *every* parameter is followed
        by a normalization.
    fixed : sequence of str
        Names of layers that keep their initial parameters, e.g. ``linear3``, the last.
    held : sequence of str
        Names of layers in which each unit's weights keep their initial length: after every step they are
        scaled back to it. In front of a normalization that leaves the function as it is.
    centered : bool
        Subtract from each pixel its mean over the training digits.
    sizes : sequence of int
        As for `bnlab.models.mlp`.
    steps, batch_size, last : int
        Steps of each run, batch size, and how many last losses count.
    below : float
        The limit of stability as a share of the loss of guessing.
    seeds : sequence of int
        Each sets the weights and the order of the batches.

    Returns
    -------
    RateSweep

    Examples
    --------
    >>> sweep = rate_sweep("plain", lrs=[0.1, 1000.0], steps=30, seeds=(0,))
    >>> sweep.stable.tolist()
    [[True, False]]
    """
    digits, held_out = data.mnist_5k().split(test=1000, seed=0)
    if centered:
        mean = digits.x.mean(axis=0)
        digits, held_out = (replace(part, x=part.x - mean) for part in (digits, held_out))
    losses, stable, accuracy, growth = [], [], [], []
    for seed in seeds:
        for lr in lrs:
            model = models.mlp(sizes, activation="relu", norm=norm, init_std="he", seed=seed)
            if normalize_outputs:
                model.add_module("norm_out", nn.BatchNorm1d(sizes[-1], affine=False))
            model.double()
            for name in fixed:
                model.get_submodule(name).requires_grad_(False)
            before = float(model.linear1.weight.detach().norm())
            loss = training.train(
                model, digits, lr=lr, steps=steps, batch_size=batch_size, seed=seed,
                on_step=_keep_lengths(model, held),
            ).loss  # fmt: skip
            end = loss[-last:].mean()
            losses.append(end)
            stable.append(bool(np.isfinite(loss).all() and end < below * GUESSING))
            accuracy.append(training.accuracy(model, held_out))
            growth.append(float(model.linear1.weight.detach().norm()) / before)
    shape = (len(seeds), len(lrs))
    return RateSweep(
        label=label,
        normalized=norm is not None,
        lr=np.array(lrs, dtype=float),
        loss=np.array(losses).reshape(shape),
        stable=np.array(stable).reshape(shape),
        limit=below * GUESSING,
        accuracy=np.array(accuracy).reshape(shape),
        growth=np.array(growth).reshape(shape),
    )


def _keep_lengths(model: nn.Module, names: Sequence[str]) -> Callable[[int, nn.Module], None]:
    """Return what scales each unit's weights in these layers back to the length that they have now."""
    weights = [model.get_submodule(name).weight for name in names]
    lengths = [w.detach().norm(dim=1, keepdim=True) for w in weights]

    @torch.no_grad()
    def on_step(step: int, model: nn.Module) -> None:
        for w, length in zip(weights, lengths, strict=True):
            w *= length / w.norm(dim=1, keepdim=True)

    return on_step


def _flat(units: int) -> nn.Module:
    return nn.BatchNorm1d(units, affine=False)


NORMS = {"BatchNorm1d": nn.BatchNorm1d, "BatchNorm1d(affine=False)": _flat, None: None}

# Rates for plain and for normalized networks: close together where the first runs break.
_LOW = (2.0 ** np.array([-3, -2, -1, -0.5, 0, 0.5, 1, 1.5, 2])).tolist()
_HIGH = (2.0 ** np.array([-2, -1, 0, 1, 1.5, 2, 2.5, 3, 3.5, 4])).tolist()
_COARSE = (2.0 ** np.arange(-1, 8, 2)).tolist()

_PLAIN, _BN = {"norm": None}, {"norm": "BatchNorm1d"}
_FLAT = {"norm": "BatchNorm1d(affine=False)"}
_LAST_FIXED, _OUTPUTS_TOO = _BN | {"fixed": ["linear3"]}, _BN | {"normalize_outputs": True}
_HELD = {"held": ["linear1", "linear2"]}  # what the hidden layers' normalizations follow

ARMS = {  # the arguments of `rate_sweep` for each arm that Chapter 6 compares, norms by their names in NORMS
    "without": {"lrs": _LOW} | _PLAIN,
    "with": {"lrs": _HIGH} | _BN,
    "flat": {"lrs": _HIGH} | _FLAT,
    "last fixed": {"lrs": _COARSE} | _LAST_FIXED,
    "outputs too": {"lrs": _COARSE} | _OUTPUTS_TOO,
    "without centered": {"lrs": _LOW, "centered": True} | _PLAIN,
    "with centered": {"lrs": _HIGH, "centered": True} | _BN,
    "with held": {"lrs": _HIGH} | _BN | _HELD,
    "last fixed held": {"lrs": _COARSE} | _LAST_FIXED | _HELD,
}


def sweep_arm(label: str, **config) -> RateSweep:
    r"""Sweep one of the arms that Chapter 6 compares; see `rate_sweep`.

    Parameters
    ----------
    label : str
        The arm: "without" or "with" normalization, also "centered" (inputs); "flat", without scale and shift;
        "last fixed", the last layer; "outputs too", which are normalized; "held" with any, the lengths of the weights.
    **config
        Arguments of `rate_sweep` to use instead of the arm's own.

    Returns
    -------
    RateSweep

    Examples
    --------
    >>> sweep_arm("with", lrs=[0.5], steps=40, seeds=(0,)).stable.tolist()
    [[True]]
    """
    settings = ARMS[label] | config
    return rate_sweep(label, **settings | {"norm": NORMS[settings["norm"]]})


def repeat(sweep: RateSweep, origin: Provenance) -> dict[str, float]:
    """Train the first run of a stored sweep again, and return the relative differences.

    Close to where training breaks, rounding decides how a run goes on, and processors round differently.
    So the chapter shows stored sweeps, and only the smallest rate can be compared.
    """
    again = sweep_arm(
        **origin.config | {"label": sweep.label, "lrs": sweep.lr[:1], "seeds": origin.seeds[:1]}
    )
    return {
        name: difference(getattr(again, name), getattr(sweep, name)[:1, :1])
        for name in ("loss", "growth")
    }
