"""Chapter 9: the search for each arm's own best learning rate, judged on training images held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bnlab.chapters.figure_one import experiments as figure_one
from bnlab.chapters.figure_one.results import RateSearch
from bnlab.experiments import LongExperiment, seeds_of

__all__ = ["EXPERIMENT"]

GRID = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def tasks(config: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the tasks of `figure_one` with every rate for both arms."""
    return figure_one.tasks(_as_figure_one(config))


def run(config: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out a task of `figure_one`."""
    return figure_one.run(_as_figure_one(config), task)


def _as_figure_one(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "rates": {arm: config["rates"] for arm in figure_one.ARMS}}


def merge(
    config: Mapping[str, Any],
    tasks: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Mapping[str, np.ndarray]],
) -> RateSearch:
    """Return the result of all tasks."""
    found = figure_one.by_arm_rate_and_seed(tasks, outcomes)
    seeds, rates = seeds_of(config), config["rates"]
    return RateSearch(
        data=config["data"],
        pixels=config["pixels"],
        copies=config["copies"],
        held_out=config["held_out"],
        arms=figure_one.ARMS,
        rates=tuple(float(rate) for rate in rates),
        seeds=seeds,
        steps=figure_one.schedule(config["steps"]),
        accuracy=np.array(
            [
                [[found[arm, rate, seed]["accuracy"] for seed in seeds] for rate in rates]
                for arm in figure_one.ARMS
            ]
        ),
    )


EXPERIMENT = LongExperiment(
    name="figure-one-rates-mnist",
    summary="The learning rates of figure-one-mnist: every rate for both arms, on images held out",
    defaults=figure_one.EXPERIMENT.defaults | {"held_out": 10_000, "rates": list(GRID), "seeds": 4},
    tasks=tasks,
    run=run,
    merge=merge,
    chapter=9,
)
