"""Chapter 11: networks that differ in one thing, trained alike and side by side, each over its own learning rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnlab import data, models, probes, training
from bnlab.chapters.why_it_works import layers
from bnlab.chapters.why_it_works.results import Arms
from bnlab.experiments import Provenance, difference
from bnlab.training.sgd import shuffled_batches

__all__ = ["ARMS", "Arm", "Networks", "digits", "repeat", "train_arms"]

GUESSING = float(np.log(10))  # the loss of ten equal guesses
STRENGTH = 0.3  # of the noise after Batch Normalization
SIZES = (784, 100, 100, 10)  # as in chapter 6


@dataclass(frozen=True)
class Arm:
    """One kind of network: what stands before each ReLU, and what else is unusual about it."""

    norm: Callable[..., nn.Module] | None = None  # of the members' seeds and the number of units
    centred: bool = False  # each pixel less its mean over the training digits
    hold: bool = (
        False  # after each step, each unit's normalized weights get their first length again
    )
    last_fixed: bool = False  # the last layer keeps its first weights
    shortcuts: float | None = (
        None  # a way around each layer but the first and last, beside this share of the layer
    )


GHOSTS = (2, 4, 8, 16, 64)
PARTS = {
    "plain": None,
    "frozen": partial(layers.HeldBatchNorm, momentum=0.0),
    "running": partial(layers.HeldBatchNorm, momentum=0.1),
    "detached": layers.DetachedBatchNorm,
    "BN": layers.BatchNorm,
}
ARMS = {
    **{name: Arm(norm) for name, norm in PARTS.items()},
    **{f"{name}, centred": Arm(norm, centred=True) for name, norm in PARTS.items()},
    "noisy BN": Arm(partial(layers.NoisyBatchNorm, strength=STRENGTH)),
    "noisy plain": Arm(partial(layers.Noise, strength=STRENGTH)),
    "BN, rows held": Arm(layers.BatchNorm, hold=True),
    "BN, last fixed": Arm(layers.BatchNorm, last_fixed=True),
    "BN, last fixed, rows held": Arm(layers.BatchNorm, last_fixed=True, hold=True),
    "plain, last fixed": Arm(last_fixed=True),
    "residual plain": Arm(shortcuts=1.0),
    "residual BN": Arm(layers.BatchNorm, shortcuts=1.0),
    "residual from zero": Arm(shortcuts=0.0),
    **{f"ghost {n}": Arm(partial(layers.GhostBatchNorm, size=n)) for n in GHOSTS},
    **{f"noise {n}": Arm(partial(layers.MatchedNoise, size=n)) for n in GHOSTS},
}
"""The networks that the chapter compares, by name."""


class Networks(nn.Module):
    r"""ReLU networks of one arm side by side, in float64, with the weights of `bnlab.models.mlp` for each seed.

    .. math:: z_1 = W_1 x, \qquad z_k = \big[z_{k-1} +\big]\; a_k\, W_k\, \mathrm{ReLU}(\mathrm{norm}(z_{k-1}))

    The bracket is there with shortcuts only, and not in the last layer. The share :math:`a_k` is learned if it begins
    at 0 (the SkipInit of De & Smith 2020), and 1 otherwise.
    """

    def __init__(self, arm: Arm, seeds: Sequence[int], sizes: Sequence[int] = SIZES):
        super().__init__()
        stacks = [models.mlp(sizes, activation="relu", init_std="he", seed=seed) for seed in seeds]
        apart = [
            [1000 * seed + k for seed in seeds] for k in range(len(sizes) - 2)
        ]  # noise of each layer
        self.norms = nn.ModuleList(
            nn.Identity() if arm.norm is None else arm.norm(own, units)
            for own, units in zip(apart, sizes[1:-1], strict=True)
        )
        shifted = [*(isinstance(norm, layers.BatchNorm) for norm in self.norms), False]
        self.linears = nn.ModuleList(
            layers.Linear([stack.get_submodule(f"linear{k}") for stack in stacks], bias=not beta)
            for k, beta in enumerate(shifted, start=1)
        )
        self.shortcuts = arm.shortcuts is not None
        share = torch.full(
            (len(sizes) - 2, len(seeds), 1, 1), 1.0 if arm.shortcuts is None else arm.shortcuts
        )
        self.share = nn.Parameter(share, requires_grad=arm.shortcuts == 0)
        if arm.last_fixed:
            self.linears[-1].requires_grad_(False)
        self.double()

    def look(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return what each linear layer passes on, the logits last, and what each ReLU receives."""
        z, y = [self.linears[0](x)], []
        for k, (norm, linear) in enumerate(zip(self.norms, self.linears[1:], strict=True), start=1):
            y.append(norm(z[-1]))
            own = self.share[k - 1] * linear(y[-1].relu())
            z.append(z[-1] + own if self.shortcuts and k < len(self.norms) else own)
        return z, y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, (S, m, classes)."""
        return self.look(x)[0][-1]


def digits(
    images: str, *, centred: bool = False, train: int | None = None
) -> tuple[data.Dataset, data.Dataset]:
    """Return digits to train on and digits to test on; those for "search" and for "report" have none in common."""
    report, search = data.mnist_5k().split(test=2000, seed=11)
    chosen = {"search": search, "report": report}[images]
    first, held_out = chosen.split(test=len(chosen) // 4, seed=12)
    mean = first.x.mean(axis=0) if centred else 0.0
    first, held_out = (replace(part, x=part.x - mean) for part in (first, held_out))
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
    sizes: Sequence[int] = SIZES,
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
    shape = len(seeds), len(lrs[0])
    measured: dict[str, list[np.ndarray]] = {"loss": [], "drift": [], "held_out": []}
    for name, rates in zip(arms, lrs, strict=True):
        arm = ARMS[name]
        given, unseen = digits(images, centred=arm.centred, train=train)
        each = np.repeat(seeds, len(rates)).tolist()
        networks = Networks(arm, each, sizes)
        moves = _Moves(given) if drift else None
        losses = _train(
            networks, given, lr=np.tile(rates, len(seeds)), seeds=each, steps=steps, batch_size=batch_size,
            after_step=_after_step(networks, hold=arm.hold, moves=moves),
        )  # fmt: skip
        none = np.full(len(each), np.nan)
        ended = np.where(np.isfinite(losses).all(axis=1), losses[:, -last:].mean(axis=1), np.inf)
        measured["loss"].append(ended.reshape(shape))
        measured["drift"].append((np.mean(moves.found, axis=0) if moves else none).reshape(shape))
        measured["held_out"].append(
            (_unseen_loss(networks, given, unseen) if held_out else none).reshape(shape)
        )
    stacked = {name: np.stack(values, axis=1) for name, values in measured.items()}
    return Arms(tuple(arms), np.array(lrs, dtype=float), below * GUESSING, **stacked)


def repeat(found: Arms, origin: Provenance, *, arms: int = 2) -> dict[str, float]:
    """Train the first arms again, with the first rate and seed, and return the relative difference of the loss."""
    few = {
        "arms": found.arms[:arms],
        "lrs": found.lr[:arms, :1].tolist(),
        "seeds": origin.seeds[:1],
    }
    again = train_arms(**origin.config | few)
    return {"loss": difference(again.loss, found.loss[:1, :arms, :1])}


def _train(
    networks: Networks, given: data.Dataset, *, lr: np.ndarray, seeds: Sequence[int], steps: int, batch_size: int,
    after_step: Callable[[int], None],
) -> np.ndarray:  # fmt: skip
    """Take plain gradient steps, each member with its own rate and batches; return the losses, (S, steps)."""
    x, y = training.tensors(given, dtype=torch.float64)
    rate = torch.from_numpy(lr)[:, None, None]
    orders = {
        seed: shuffled_batches(len(x), batch_size=batch_size, seed=seed) for seed in set(seeds)
    }
    with torch.no_grad():
        networks(
            x[:768].expand(len(seeds), -1, -1)
        )  # what is held begins with the statistics of these
    learned = [p for p in networks.parameters() if p.requires_grad]
    losses = torch.empty(len(seeds), steps, dtype=torch.float64)
    for t in range(steps):
        batches = {seed: next(order) for seed, order in orders.items()}
        rows = torch.stack([batches[seed] for seed in seeds])
        logits = networks(x[rows])
        own = functional.cross_entropy(logits.flatten(0, 1), y[rows].flatten(), reduction="none")
        own = own.view(rows.shape).mean(dim=1)
        losses[:, t] = own.detach()
        gradients = torch.autograd.grad(own.sum(), learned)
        with torch.no_grad():
            for p, g in zip(learned, gradients, strict=True):
                p -= rate * g
        after_step(t)
    return losses.numpy()


def _after_step(networks: Networks, *, hold: bool, moves: _Moves | None) -> Callable[[int], None]:
    normalized = [linear.weight for linear in networks.linears[:-1]]
    lengths = [w.detach().norm(dim=1, keepdim=True) for w in normalized]

    @torch.no_grad()
    def after_step(t: int) -> None:
        if hold:
            for w, length in zip(normalized, lengths, strict=True):
                w *= length / w.norm(dim=1, keepdim=True)
        if moves:
            moves(t, networks)

    return after_step


class _Moves:
    """How far what the ReLUs receive moves in every tenth step, on fixed digits: the median unit's drift."""

    def __init__(self, given: data.Dataset, every: int = 10, probe: int = 300):
        self.probe, self.every = training.tensors(given, dtype=torch.float64)[0][:probe], every
        self.before: list[torch.Tensor] = []
        self.found: list[np.ndarray] = []  # (S,) for each layer and look

    def __call__(self, t: int, networks: Networks) -> None:
        if t % self.every > 1:
            return
        seen = networks.look(self.probe.expand(networks.share.shape[1], -1, -1))[1]
        if t % self.every == 1:
            for before, after in zip(self.before, seen, strict=True):
                pairs = zip(before.numpy(), after.numpy(), strict=True)
                self.found.append(
                    np.array([np.median(probes.drift(*pair).wasserstein) for pair in pairs])
                )
        self.before = seen


@torch.no_grad()
def _unseen_loss(networks: Networks, given: data.Dataset, unseen: data.Dataset) -> np.ndarray:
    """Return each member's cross-entropy on unseen digits; all training digits together give the statistics."""
    x, _ = training.tensors(given, dtype=torch.float64)
    new, y = training.tensors(unseen, dtype=torch.float64)
    z = networks.linears[0](torch.cat([x, new]).expand(networks.share.shape[1], -1, -1))
    for norm, linear in zip(networks.norms, networks.linears[1:], strict=True):
        if isinstance(norm, layers.BatchNorm):
            var, mean = torch.var_mean(z[:, : len(x)], dim=1, correction=0, keepdim=True)
            z = norm.gamma * (z - mean) * (var + norm.eps).rsqrt() + norm.beta
        z = linear(z.relu())
    logits = z[:, len(x) :]
    loss = functional.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)), reduction="none")
    return loss.view(len(logits), -1).mean(dim=1).numpy()
