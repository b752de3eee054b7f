"""Chapter 9: what centered inputs, larger initial weights or another nonlinearity buy a plain network, beside BN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from bnlab import data, models
from bnlab.chapters.figure_one.experiments import SIZES, by_arm_rate_and_seed, images
from bnlab.chapters.figure_one.results import FairStart, RateSearch
from bnlab.experiments import LongExperiment, seeds_of
from bnlab.training import Ensemble, Member

__all__ = ["ARMS", "EXPERIMENT", "GRID", "RATES", "SEARCH", "schedule"]

_NETWORKS: dict[str, dict[str, Any]] = {
    "sigmoid": {"activation": "sigmoid", "init_std": 0.1},  # the plain network of the chapter
    "sigmoid, std 0.4": {"activation": "sigmoid", "init_std": 0.4},
    "tanh": {"activation": "tanh", "init_std": 0.1},
    "BN": {"activation": "sigmoid", "init_std": 0.1, "norm": nn.BatchNorm1d},
}
ARMS = tuple(f"{name}{also}" for name in _NETWORKS for also in ("", ", centered"))
GRID = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
RATES = dict.fromkeys(ARMS, 1.0) | {"tanh": 0.3, "BN": 3.0, "BN, centered": 3.0}
"""The learning rate that the search found best for each arm."""
TOGETHER = 16  # networks trained in one batched run


def schedule(steps: int) -> np.ndarray:
    """Return after how many steps to look: every 10 steps up to 300, every 50 up to 1,500, then every 250.

    Examples
    --------
    >>> schedule(420).tolist()[-4:]
    [300, 350, 400, 420]
    """
    looks = [*range(0, 300, 10), *range(300, 1500, 50), *range(1500, max(steps, 1500) + 1, 250)]
    return np.array([*(look for look in looks if look < steps), steps])


def inputs(arm: str, name: str, *, held_out: int = 0) -> tuple[data.Dataset, data.Dataset]:
    """Return the training and the test images as an arm gets them; see `experiments.images`.

    Examples
    --------
    >>> train, test = inputs("tanh, centered", "mnist-5k")
    >>> bool(abs(train.x.mean(axis=0)).max() < 1e-5), len(test)
    (True, 1000)
    """
    parts = images(name, held_out=held_out)
    if not arm.endswith(", centered"):
        return parts
    mean = parts[0].x.mean(axis=0)
    train, test = (replace(part, x=part.x - mean) for part in parts)
    return train, test


def network(arm: str, *, seed: int) -> nn.Sequential:
    """Return the network of an arm.

    Examples
    --------
    >>> [type(layer).__name__ for layer in network("BN, centered", seed=0)][:3]
    ['Linear', 'BatchNorm1d', 'Sigmoid']
    """
    return models.mlp(SIZES, seed=seed, **_NETWORKS[arm.removesuffix(", centered")])


def tasks(config: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the tasks: an arm, and up to sixteen pairs of a learning rate and a seed."""
    found = []
    for arm, rates in config["rates"].items():
        pairs = [[rate, seed] for rate in rates for seed in seeds_of(config)]
        parts = [pairs[i : i + TOGETHER] for i in range(0, len(pairs), TOGETHER)]
        found += [{"arm": arm, "members": part} for part in parts]
    return tuple(found)


def run(config: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Train the networks of one task and look at their accuracy along the way."""
    train, test = inputs(task["arm"], config["data"], held_out=config["held_out"])
    ensemble = Ensemble(
        lambda seed: network(task["arm"], seed=seed),
        train,
        members=[Member(float(rate), int(seed)) for rate, seed in task["members"]],
        batch_size=config["batch_size"],
        device=config["device"],
    )
    found = []
    for step in schedule(config["steps"]).tolist():
        ensemble.advance(step - ensemble.step)
        found.append(ensemble.evaluate(test).accuracy)
    return {"accuracy": np.stack(found, axis=1)}


def _accuracy(config, tasks, outcomes) -> np.ndarray:
    """Return the accuracy of each look, (arms, rates, seeds, looks)."""
    found, seeds = by_arm_rate_and_seed(tasks, outcomes), seeds_of(config)
    return np.array(
        [
            [[found[arm, rate, seed]["accuracy"] for seed in seeds] for rate in rates]
            for arm, rates in config["rates"].items()
        ]
    )


def merge(
    config: Mapping[str, Any],
    tasks: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Mapping[str, np.ndarray]],
) -> FairStart:
    """Return the result of all tasks, each arm at its one rate."""
    return FairStart(
        data=config["data"],
        arms=tuple(config["rates"]),
        rates=tuple(float(rate) for (rate,) in config["rates"].values()),
        seeds=seeds_of(config),
        steps=schedule(config["steps"]),
        accuracy=_accuracy(config, tasks, outcomes)[:, 0],
    )


def merge_search(
    config: Mapping[str, Any],
    tasks: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Mapping[str, np.ndarray]],
) -> RateSearch:
    """Return the result of all tasks, all arms at the same rates."""
    rates = next(iter(config["rates"].values()))
    return RateSearch(
        data=config["data"],
        pixels="binary",
        copies=0,
        held_out=config["held_out"],
        arms=tuple(config["rates"]),
        rates=tuple(float(rate) for rate in rates),
        seeds=seeds_of(config),
        steps=schedule(config["steps"]),
        accuracy=_accuracy(config, tasks, outcomes),
    )


EXPERIMENT = LongExperiment(
    name="figure-one-fair-start",
    summary="Plain networks with centered inputs, larger initial weights or tanh, beside BN, on 4,000 digits",
    defaults={
        "data": "mnist-5k",
        "held_out": 0,
        "rates": {arm: [rate] for arm, rate in RATES.items()},
        "batch_size": 60,
        "steps": 2000,
        "seeds": list(range(720, 736)),
        "device": "cpu",
    },
    tasks=tasks,
    run=run,
    merge=merge,
    chapter=9,
)
SEARCH = replace(
    EXPERIMENT,
    name="figure-one-rates-fair-start",
    summary="The learning rates of figure-one-fair-start, on training images held out",
    defaults=EXPERIMENT.defaults
    | {"held_out": 800, "rates": {arm: list(GRID) for arm in ARMS}, "steps": 1000, "seeds": 3},
    merge=merge_search,
)
