"""Chapter 10: which learning rate the baseline should have, and how wide the choice is with normalization."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from bnlab import data
from bnlab.chapters.accelerating.experiments import EXPERIMENT as MAIN
from bnlab.chapters.accelerating.experiments import first, recipe
from bnlab.chapters.accelerating.recipes import Images, Run
from bnlab.chapters.accelerating.results import RecipeRates
from bnlab.experiments import LongExperiment, Provenance, seeds_of

__all__ = ["EXPERIMENT"]


@cache
def _images(
    name: str, side: int, trained: int, validation: int, device: str
) -> tuple[Images, Images]:
    """Return training images in two parts, to train with and to choose with; the test images stay unseen."""
    train, chosen = data.load(name).split(test=validation, seed=0)
    train = Images.of(first(train, trained), side=side, device=device)
    return train, Images.of(chosen, side=side, like=train, device=device)


def _tasks(config: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"arm": arm, "lr": lr, "seed": seed}
        for seed in seeds_of(config)
        for arm in config["arms"]
        for lr in config["rates"]
    )


def _run(config: dict[str, Any], task: dict[str, Any]) -> dict[str, np.ndarray]:
    train, chosen = _images(
        *(config[key] for key in ("data", "side", "trained", "validation", "device"))
    )
    run = Run(
        recipe(task["arm"], lr=task["lr"]),
        train,
        chosen,
        seed=task["seed"],
        **{k: config[k] for k in ("steps", "batch_size", "shard", "channels", "momentum")},
    )
    run.advance(config["steps"])
    return run.outcome()


def _merge(config, tasks, outcomes) -> RecipeRates:
    shape = (len(seeds_of(config)), len(config["arms"]), len(config["rates"]))
    accuracy = np.array([o["accuracy"].max() for o in outcomes]).reshape(shape)
    finite = np.array([bool(o["finite"]) for o in outcomes]).reshape(shape)
    return RecipeRates(
        data=config["data"],
        steps=config["steps"],
        batch_size=config["batch_size"],
        arms=tuple(config["arms"]),
        seeds=tuple(seeds_of(config)),
        lr=np.array(config["rates"]),
        accuracy=accuracy.swapaxes(0, 1),
        finite=finite.swapaxes(0, 1),
    )


def _check(result: RecipeRates, origin: Provenance) -> dict[str, float]:
    """Repeat the first arm and seed at the lowest rate, all of it: only its best checkpoint is stored."""
    task = {"arm": result.arms[0], "lr": float(result.lr[0]), "seed": result.seeds[0]}
    best = _run(EXPERIMENT.defaults | origin.config, task)["accuracy"].max()
    return {"accuracy": abs(float(best - result.accuracy[0, 0, 0]))}


EXPERIMENT = LongExperiment(
    name="accelerating-rates",
    summary="Learning rates of accelerating, chosen on training images held out",
    defaults={key: value for key, value in MAIN.defaults.items() if key not in ("lr", "tested")}
    | {
        "seeds": [100, 101, 102, 103],
        "arms": ["plain", "BN", "plain + all, rate x 1", "BN + all, rate x 1", "plain + no LRN"],
        "rates": [0.01, 0.02, 0.04, 0.08, 0.16, 0.32],
        "validation": 5000,
    },
    tasks=_tasks,
    run=_run,
    merge=_merge,
    chapter=10,
    check=_check,
    tolerance=0.005,
)
