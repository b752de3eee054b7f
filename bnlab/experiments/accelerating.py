"""Chapter 10: the paper's list of further changes, each alone and all together, with and without normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from bnlab import data
from bnlab.experiments._long import LongExperiment, seeds_of
from bnlab.experiments.recipes import CHANGES, Images, Recipe, Run, checkpoints
from bnlab.results import RecipeRuns

__all__ = ["ARMS", "EXPERIMENT", "begin", "recipe"]

BASELINE = {"plain": False, "BN": True}  # the nets, and whether they are normalized


def _all(r: Recipe, *but: str) -> Recipe:
    for name, change in CHANGES.items():
        r = r if name in but else change(r)
    return r


COMBINED: dict[str, Callable[[Recipe], Recipe]] = {
    "all": _all,
    "all, rate x 1": lambda r: _all(r, "rate x 5"),
}


def _arms() -> dict[str, Callable[[float], Recipe]]:
    changes = {"": lambda r: r} | {f" + {k}": v for k, v in (CHANGES | COMBINED).items()}
    arms = {
        net + name: lambda lr, change=change, on=on: change(Recipe(lr=lr, normalized=on))
        for net, on in BASELINE.items()
        for name, change in changes.items()
    }
    arms["BN + all, rate x 30"] = lambda lr: replace(arms["BN + all"](lr), lr=30 * lr)
    for name in ("plain", "plain + all, rate x 1", "BN + all"):
        joint = ", " if "+" in name else " + "
        arms[f"{name}{joint}sigmoid"] = lambda lr, name=name: replace(
            arms[name](lr), activation="sigmoid"
        )
    return arms


ARMS = _arms()
"""From the name of an arm to its recipe, given the baseline's learning rate: "plain" is the baseline, "BN" the
same with normalization, "BN + no LRN" with one change, "BN + all" with all seven."""


def recipe(arm: str, *, lr: float) -> Recipe:
    """Return the recipe of an arm, given the baseline's learning rate.

    Examples
    --------
    >>> recipe("BN + all", lr=0.1).lr, recipe("BN + no LRN", lr=0.1).lrn
    (0.5, False)
    """
    if arm not in ARMS:
        raise ValueError(f"arm is {arm!r}; expected one of {', '.join(map(repr, ARMS))}.")
    return ARMS[arm](lr)


def begin(config: dict[str, Any], arm: str, seed: int, *, device: str = "cpu") -> Run:
    """Return one run of the experiment before its first step.

    Parameters
    ----------
    config : dict
        As `EXPERIMENT.defaults`, or the config that a stored result carries.
    arm : str
        A name in `ARMS`.
    seed : int
    device : str
        Where to compute.

    Returns
    -------
    bnlab.experiments.recipes.Run

    Examples
    --------
    >>> run = begin(EXPERIMENT.defaults | {"data": "mnist-5k"}, "BN", 0)
    >>> run.advance(2); run.done
    2
    """
    train, test = images(config["data"], config["side"], device)
    return Run(
        recipe(arm, lr=config["lr"]),
        train,
        test,
        seed=seed,
        **{k: config[k] for k in ("steps", "batch_size", "shard", "channels", "momentum")},
    )


@cache
def images(name: str, side: int, device: str) -> tuple[Images, Images]:
    """Return the training and the test images, read once."""
    train = Images.of(data.load(name), side=side, device=device)
    return train, Images.of(data.load(name, split="test"), side=side, like=train, device=device)


def carry_out(run: Run, *, state, report) -> dict[str, np.ndarray]:
    """Train to the end, from `state` if there is one, reporting at each checkpoint."""
    if state is not None:
        run.restore(state)
    for step in run.at[run.at > run.done].tolist():
        run.advance(step)
        report(step, run.steps, run.snapshot)
    return run.outcome()


def _tasks(config: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple({"arm": arm, "seed": seed} for seed in seeds_of(config) for arm in config["arms"])


def _run(config, task, *, state=None, report, device="cpu") -> dict[str, np.ndarray]:
    run = begin(config, task["arm"], task["seed"], device=device)
    return carry_out(run, state=state, report=report)


def _merge(config, tasks: Sequence[dict], outcomes: Sequence[dict]) -> RecipeRuns:
    found = {(t["arm"], t["seed"]): o for t, o in zip(tasks, outcomes, strict=True)}
    arms, seeds = tuple(config["arms"]), tuple(seeds_of(config))
    accuracy, loss = (
        np.array([[found[arm, seed][key] for seed in seeds] for arm in arms])
        for key in ("accuracy", "loss")
    )
    return RecipeRuns(
        data=config["data"],
        steps=config["steps"],
        batch_size=config["batch_size"],
        arms=arms,
        seeds=seeds,
        at=checkpoints(config["steps"]),
        accuracy=accuracy,
        loss=loss,
    )


EXPERIMENT = LongExperiment(
    name="accelerating",
    summary="Chapter 10: seven changes to training, each alone and all together, with and without BN",
    defaults={
        "data": "fashion-mnist",
        "seeds": [0, 1, 2, 3, 4],
        "steps": 1800,
        "lr": 0.08,
        "batch_size": 64,
        "shard": 640,
        "side": 14,
        "channels": [8, 16, 32],
        "momentum": 0.9,
        "arms": list(ARMS),
    },
    tasks=_tasks,
    run=_run,
    merge=_merge,
)
