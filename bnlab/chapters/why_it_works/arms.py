"""Chapter 11: networks that differ in one thing, trained alike, each over its own learning rates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnlab import data, inference, models, probes, training
from bnlab.chapters.why_it_works.layers import (
    GhostBatchNorm,
    HeldBatchNorm,
    MatchedNoise,
    Noise,
    Residual,
)
from bnlab.chapters.why_it_works.results import Arms
from bnlab.experiments import Provenance, difference
from bnlab.nn.variants import DetachedBatchNorm1d

__all__ = ["ARMS", "Arm", "build", "digits", "repeat", "train_arms"]

GUESSING = float(np.log(10))  # the loss of ten equal guesses
STRENGTH = 0.3  # of the noise after Batch Normalization
SITES = ("act1", "act2")  # their inputs are what the nonlinearities receive


@dataclass(frozen=True)
class Arm:
    """One kind of network: what stands before each ReLU, and what else is unusual about it."""

    norm: Callable[[int], nn.Module] | None = None
    centred: bool = False  # each pixel less its mean over the training digits
    hold: bool = False  # after each step, rows of normalized weights get their first length again
    last_fixed: bool = False  # the last layer keeps its first weights
    shortcuts: float | None = (
        None  # a way around each layer but the first and last, beside this share of the layer
    )


def _noisy(units: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(bn=nn.BatchNorm1d(units), noise=Noise(units, strength=STRENGTH))
    )


def _held(momentum: float) -> Callable[[int], nn.Module]:
    return lambda units: HeldBatchNorm(units, momentum=momentum)


GHOSTS = (2, 4, 8, 16, 32, 64, 128, 256)
PARTS = {
    "plain": None,
    "frozen": _held(0.0),
    "running": _held(0.1),
    "detached": DetachedBatchNorm1d,
    "BN": nn.BatchNorm1d,
}
ARMS = {
    **{name: Arm(norm) for name, norm in PARTS.items()},
    **{f"{name}, centred": Arm(norm, centred=True) for name, norm in PARTS.items()},
    "noisy BN": Arm(_noisy),
    "noisy plain": Arm(lambda units: Noise(units, strength=STRENGTH, bias=True)),
    "BN, rows held": Arm(nn.BatchNorm1d, hold=True),
    "BN, last fixed": Arm(nn.BatchNorm1d, last_fixed=True),
    "BN, last fixed, rows held": Arm(nn.BatchNorm1d, last_fixed=True, hold=True),
    "plain, last fixed": Arm(last_fixed=True),
    "residual plain": Arm(shortcuts=1.0),
    "residual BN": Arm(nn.BatchNorm1d, shortcuts=1.0),
    "residual from zero": Arm(shortcuts=0.0),
    **{f"ghost {n}": Arm(lambda units, n=n: GhostBatchNorm(units, size=n)) for n in GHOSTS},
    **{f"noise {n}": Arm(lambda units, n=n: MatchedNoise(units, size=n)) for n in GHOSTS},
}
"""The networks that the chapter compares, by name."""


def build(arm: Arm, seed: int, sizes: Sequence[int]) -> nn.Module:
    """Return the network of an arm, in float64: a ReLU stack as `bnlab.models.mlp` makes it."""
    model = models.mlp(sizes, activation="relu", norm=arm.norm, init_std="he", seed=seed).double()
    for number, layer in enumerate(model.modules()):
        if hasattr(layer, "rng"):
            layer.rng = np.random.default_rng([seed, number])
    if arm.last_fixed:
        model.get_submodule(f"linear{len(sizes) - 1}").requires_grad_(False)
    return model if arm.shortcuts is None else Residual(model, arm.shortcuts).double()


def digits(
    images: str, *, centred: bool = False, train: int | None = None
) -> tuple[data.Dataset, data.Dataset]:
    """Return digits to train on and digits to test on; those for "search" and for "report" have none in common."""
    report, search = data.mnist_5k().split(test=2000, seed=11)
    chosen = {"search": search, "report": report}[images]
    pair = chosen.split(test=len(chosen) // 4, seed=12)
    mean = pair[0].x.mean(axis=0) if centred else 0.0
    first, held_out = (replace(part, x=part.x - mean) for part in pair)
    return (
        first if train is None else replace(first, x=first.x[:train], y=first.y[:train])
    ), held_out


def train_arms(
    arms: Sequence[str],
    lrs: Sequence[Sequence[float]],
    *,
    images: str,
    steps: int = 100,
    batch_size: int = 60,
    sizes: Sequence[int] = (784, 100, 100, 10),
    train: int | None = None,
    drift: bool = False,
    held_out: bool = False,
    last: int = 20,
    below: float = 0.5,
    seeds: Sequence[int] = (0,),
) -> Arms:
    r"""Train each arm at each of its learning rates with each seed.

    Parameters
    ----------
    arms : sequence of str
        Names in `ARMS`.
    lrs : sequence of sequences of float
        The rates of each arm, as many for each, ascending.
    images : {"search", "report"}
        On which digits; a rate that was found on one kind favours no run on the other.
    steps, batch_size, last : int
        Steps of each run, batch size, and how many last losses count.
    sizes : sequence of int
        As for `bnlab.models.mlp`.
    train : int, optional
        Take only so many training digits.
    drift : bool
        Measure how far the inputs of the nonlinearities move in single steps.
    held_out : bool
        Measure the cross-entropy on held-out digits, with population statistics.
    below : float
        The limit of stability as a share of the loss of guessing.
    seeds : sequence of int
        Each sets the weights and the order of the batches.

    Returns
    -------
    Arms

    Examples
    --------
    >>> found = train_arms(["plain"], [[0.1, 1000.0]], images="search", steps=40)
    >>> found.loss.shape, bool(found.loss[0, 0, 0] < found.loss[0, 0, 1])
    ((1, 1, 2), True)
    """
    shape = len(seeds), len(arms), len(lrs[0])
    measured = {name: np.full(shape, np.nan) for name in ("loss", "drift", "held_out")}
    for j, name in enumerate(arms):
        arm = ARMS[name]
        given, unseen = digits(images, centred=arm.centred, train=train)
        for i, seed in enumerate(seeds):
            for k, lr in enumerate(lrs[j]):
                model = build(arm, seed, sizes)
                moves = _Moves(given) if drift else None
                loss = training.train(
                    model, given, lr=lr, steps=steps, batch_size=batch_size, seed=seed,
                    on_step=_each_step(model, given, hold=arm.hold, moves=moves),
                ).loss  # fmt: skip
                measured["loss"][i, j, k] = (
                    loss[-last:].mean() if np.isfinite(loss).all() else np.inf
                )
                if moves:
                    measured["drift"][i, j, k] = np.mean(moves.found)
                if held_out:
                    measured["held_out"][i, j, k] = _held_out_loss(model, given, unseen, sizes)
    return Arms(tuple(arms), np.array(lrs, dtype=float), below * GUESSING, **measured)


def repeat(found: Arms, origin: Provenance, *, arms: int = 3) -> dict[str, float]:
    """Train the first arms again, with the first rate and seed, and return the relative difference of the loss."""
    few = {
        "arms": found.arms[:arms],
        "lrs": found.lr[:arms, :1].tolist(),
        "seeds": origin.seeds[:1],
    }
    again = train_arms(**origin.config | few)
    return {"loss": difference(again.loss, found.loss[:1, :arms, :1])}


def _each_step(model: nn.Module, given: data.Dataset, *, hold: bool, moves: _Moves | None):
    """Return what to do before the first step and after each."""
    x, _ = training.tensors(given, dtype=torch.float64)
    *normalized, _ = (layer.weight for layer in model.modules() if isinstance(layer, nn.Linear))
    lengths = [w.detach().norm(dim=1, keepdim=True) for w in normalized]

    @torch.no_grad()
    def on_step(t: int, model: nn.Module) -> None:
        if t == 0:
            model(x[:768])  # what is held begins with the statistics of these
        if hold:
            for w, length in zip(normalized, lengths, strict=True):
                w *= length / w.norm(dim=1, keepdim=True)
        if moves:
            moves(t, model)

    return on_step


class _Moves:
    """How far the inputs of the nonlinearities move in every tenth step, on fixed digits: the median unit's drift."""

    def __init__(self, given: data.Dataset, every: int = 10, probe: int = 300):
        self.probe, self.every = training.tensors(given, dtype=torch.float64)[0][:probe], every
        self.before: dict[str, np.ndarray] = {}
        self.found: list[float] = []

    def __call__(self, t: int, model: nn.Module) -> None:
        if t % self.every == 0:
            self.before = probes.observe(model, self.probe, SITES)
        elif t % self.every == 1:
            after = probes.observe(model, self.probe, SITES)
            self.found += [
                float(np.median(probes.drift(self.before[site], after[site]).wasserstein))
                for site in SITES
            ]


def _held_out_loss(
    model: nn.Module, given: data.Dataset, unseen: data.Dataset, sizes: Sequence[int]
) -> float:
    """Return the cross-entropy of a network with Batch Normalization by population statistics in place of its norms."""
    twin = models.mlp(sizes, activation="relu", norm=nn.BatchNorm1d).double()
    twin.load_state_dict(model.state_dict(), strict=False)
    x, _ = training.tensors(given, dtype=torch.float64)
    inference.recalibrate(twin, x.split(500))
    x, y = training.tensors(unseen, dtype=torch.float64)
    with torch.no_grad():
        return float(functional.cross_entropy(twin.eval()(x), y))
