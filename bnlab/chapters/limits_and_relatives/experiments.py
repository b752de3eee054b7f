"""Chapter 12: one small network with many normalizations and batch sizes, each at its own learning rate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import bnlab.nn
from bnlab import data, inference, models, training
from bnlab.chapters.limits_and_relatives.many import batches, train_many
from bnlab.chapters.limits_and_relatives.results import ArmRates, ArmScores, arm_name
from bnlab.data import Dataset
from bnlab.experiments import Provenance, difference

__all__ = ["arms_run", "images", "network", "rate_search", "repeat_arms", "repeat_search"]

WIDTH, GROUPS = 64, 8
NOISE = 0.3  # standard deviation, where pixels lie between 0 and 1
FADED = 0.3, 0.5  # grey of the background, and what is left of the contrast

NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "group": lambda units: nn.GroupNorm(GROUPS, units),
    "batch, hidden layers fixed": nn.BatchNorm1d,
    "renorm": lambda units: bnlab.nn.BatchRenorm1d(units),
    "whitened": lambda units: bnlab.nn.DecorrelatedBatchNorm1d(units, GROUPS),
    **{
        f"ghost {size} in": lambda units, size=size: bnlab.nn.GhostBatchNorm1d(units, size)
        for size in (2, 4, 8, 16)
    },
}
FIXED = {"batch, hidden layers fixed": ("linear1", "linear2")}

Arm = Sequence[Any]  # norm, m, makeup: as JSON holds it


def network(norm: str, seed: int) -> nn.Sequential:
    """Build the network of the chapter: 196 pixels, two hidden layers of 64 ReLU units, ten classes.

    Examples
    --------
    >>> type(network("group", seed=0).norm1).__name__
    'GroupNorm'
    """
    sizes = [196, WIDTH, WIDTH, 10]
    return models.mlp(sizes, activation="relu", norm=NORMS[norm], init_std="he", seed=seed)


def images(aside: int = 0) -> tuple[Dataset, Dataset]:
    """Return digits averaged to 14 by 14 pixels: to train on, and to judge on.

    Parameters
    ----------
    aside : int
        0 for 4,000 digits and the 1,000 held-out ones. Otherwise the held-out ones take no part: so many of the
        4,000 are judged on, and the others trained on.

    Examples
    --------
    >>> [len(part) for part in (*images(), *images(aside=800))]
    [4000, 1000, 3200, 800]
    """
    train, test = data.mnist_5k().split(test=1000, seed=0)
    if aside:
        train, test = train.split(test=aside, seed=1)
    return _smaller(train), _smaller(test)


def _smaller(digits: Dataset) -> Dataset:
    pooled = digits.x.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(digits), 196)
    return replace(digits, x=pooled, feature_names=tuple(f"pixel {i}" for i in range(196)))


def _noisy(digits: Dataset, seed: int) -> Dataset:
    noise = np.random.default_rng(seed).normal(scale=NOISE, size=digits.x.shape)
    return replace(digits, x=digits.x + noise)


def _faded(digits: Dataset) -> Dataset:
    return replace(digits, x=FADED[0] + FADED[1] * digits.x)


def _train(arm: Arm, digits: Dataset, *, examples: int, share: float = 1.0, **settings):
    """Train networks of one arm on so many examples, whatever the batch size; or take the first share of its steps."""
    norm, m, makeup = arm
    steps = examples // m
    return train_many(
        lambda seed: network(norm, seed),
        digits,
        m=m,
        steps=round(share * steps),
        makeup=makeup,
        fixed=FIXED.get(norm, ()),
        before_step=partial(_set_limits, steps),
        **settings,
    )


def _set_limits(steps: int, t: int, model: nn.Module) -> None:
    """Give each layer of Batch Renormalization its limits at step t: the paper's schedule, as if the run had 50,000."""
    for layer in model.modules():
        if isinstance(layer, bnlab.nn.BatchRenorm1d):
            layer.r_max, layer.d_max = bnlab.nn.renorm_limits(50_000 * t // steps)


def rate_search(
    arms: Sequence[Arm],
    rates: dict[str, Sequence[float]],
    *,
    examples: int,
    aside: int,
    seeds: Sequence[int],
) -> ArmRates:
    """Train every arm at every rate of its grid, and judge it on images kept aside.

    Parameters
    ----------
    arms : sequence of (norm, m, makeup)
        Norms by their names in `NORMS`, batch size, and the makeup of a batch as `batches` takes it.
    rates : dict of str to sequence of float
        The grid for each batch size; keys are text because JSON has no others.
    examples : int
        Digits that each run sees, with repetition.
    aside : int
        As for `images`.
    seeds : sequence of int

    Returns
    -------
    ArmRates
    """
    train, test = images(aside)
    calibration = _calibration(train)
    accuracy = []
    for arm in arms:
        grid = rates[str(arm[1])]
        networks, _ = _train(arm, train, examples=examples, lrs=grid, seeds=seeds)
        scores = [
            (training.accuracy(n, test), _recalibrated(n, calibration, test)) for n in networks
        ]
        accuracy.append(np.array(scores).reshape(len(grid), len(seeds), 2))
    plain, recalibrated = np.moveaxis(np.array(accuracy), -1, 0)
    return ArmRates(
        arms=tuple(arm_name(*arm) for arm in arms),
        lr=np.array([rates[str(arm[1])] for arm in arms], dtype=float),
        accuracy=plain,
        recalibrated=recalibrated,
    )


def arms_run(
    arms: Sequence[Arm], lr: Sequence[float], *, examples: int, seeds: Sequence[int]
) -> ArmScores:
    """Train every arm at its own rate, once a seed, and judge the networks on held-out digits.

    Parameters
    ----------
    arms : sequence of (norm, m, makeup)
        As for `rate_search`.
    lr : sequence of float
        The rate of each arm.
    examples : int
        Digits that each run sees, with repetition.
    seeds : sequence of int

    Returns
    -------
    ArmScores
    """
    train, test = images()
    noisy, faded = _noisy(test, 1), _faded(test)
    on_clean, on_noisy, on_faded = map(_calibration, (train, _noisy(train, 0), _faded(train)))
    measured, losses = [], []
    for arm, rate in zip(arms, lr, strict=True):
        networks, loss = _train(arm, train, examples=examples, lrs=[rate], seeds=seeds)
        measured.append(
            [
                {
                    "accuracy": training.accuracy(one, test),
                    "recalibrated": _recalibrated(one, on_clean, test),
                    "within_shuffled": _within(one, test, arm[1], "shuffled"),
                    "within_two": _within(one, test, arm[1], "two classes"),
                    "within_one": _within(one, test, arm[1], "one class"),
                    "noisy": training.accuracy(one, noisy),
                    "noisy_recalibrated": _recalibrated(one, on_noisy, noisy),
                    "faded": training.accuracy(one, faded),
                    "faded_recalibrated": _recalibrated(one, on_faded, faded),
                    "moved": _moved(one, network(arm[0], seed)),
                }
                for one, seed in zip(networks, seeds, strict=True)
            ]
        )
        losses.append(loss)
    found = {k: np.array([[row[k] for row in rows] for rows in measured]) for k in measured[0][0]}
    return ArmScores(
        arms=tuple(arm_name(*arm) for arm in arms),
        lr=np.array(lr, dtype=float),
        seeds=tuple(seeds),
        loss=np.array(losses),
        **found,
    )


def _calibration(digits: Dataset) -> list[torch.Tensor]:
    return list(training.tensors(digits)[0].split(500))


def _recalibrated(one: nn.Module, calibration: list[torch.Tensor], test: Dataset) -> float:
    """Return the accuracy with population statistics of these batches, without labels and without training."""
    twin = copy.deepcopy(one)
    if not any(isinstance(layer, _BatchNorm) for layer in twin.modules()):
        return np.nan
    try:
        inference.recalibrate(twin, calibration)
    except ValueError:  # a run that blew up has no statistics
        return np.nan
    return training.accuracy(twin, test)


@torch.no_grad()
def _within(one: nn.Module, test: Dataset, m: int, makeup: str) -> float:
    """Return the accuracy in training mode, over a thousand digits in batches of m."""
    twin = copy.deepcopy(one).train()
    x, y = training.tensors(test)
    rows = list(_some(test, m, makeup))
    right = [(twin(x[r]).argmax(dim=1) == y[r]).double().mean() for r in rows]
    return float(torch.stack(right).mean())


def _some(test: Dataset, m: int, makeup: str) -> Iterator[torch.Tensor]:
    return islice(batches(test.y, m=m, makeup=makeup, seed=0), len(test) // m)


def _moved(one: nn.Module, start: nn.Module) -> float:
    before = start.get_parameter("linear1.weight").detach()
    return float((one.get_parameter("linear1.weight").detach() - before).norm() / before.norm())


def repeat_search(search: ArmRates, origin: Provenance) -> dict[str, float]:
    """Return what a stored search and one at the smallest rate of its first arm differ by."""
    arm = origin.config["arms"][0]
    config = origin.config | {
        "arms": [arm],
        "rates": {str(arm[1]): search.lr[0, :1].tolist()},
        "seeds": origin.seeds,
    }
    again = rate_search(**config)
    return {"accuracy": difference(again.accuracy, search.accuracy[:1, :1])}


def repeat_arms(arms: ArmScores, origin: Provenance) -> dict[str, float]:
    """Train the beginning of the first arm again, and return what its losses differ by.

    Small differences of rounding grow as training goes on, so only the first window can be compared.
    """
    arm, windows = origin.config["arms"][0], arms.loss.shape[2]
    _, loss = _train(
        arm, images()[0], examples=origin.config["examples"], share=1 / windows,
        lrs=origin.config["lr"][:1], seeds=origin.seeds[:2], windows=1,
    )  # fmt: skip
    return {"loss": difference(loss[:, 0], arms.loss[0, :2, 0])}
