"""Chapter 8: the experiments whose results are stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from bnlab.chapters.convolutional_batchnorm import experiments
from bnlab.chapters.convolutional_batchnorm.results import ShiftedDigits
from bnlab.experiments import LongExperiment, seeds_of

__all__ = ["EXPERIMENTS"]


def _tasks(config: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return a task for each seed and normalization: a seed alone would take more than two minutes."""
    return tuple(
        {"seed": seed, "normalization": name}
        for seed in seeds_of(config)
        for name in config["normalizations"]
    )


def _run(config: dict[str, Any], task: dict[str, Any]) -> dict[str, np.ndarray]:
    one = {"normalizations": (task["normalization"],), "seeds": (task["seed"],)}
    return {"accuracy": experiments.shifted_digits(**config | one).accuracy}


def _merge(config: dict[str, Any], tasks: Any, outcomes: Any) -> ShiftedDigits:
    seeds, names = seeds_of(config), tuple(config["normalizations"])
    accuracy = np.array([outcome["accuracy"][0, 0] for outcome in outcomes])
    return ShiftedDigits(
        normalizations=names,
        seeds=seeds,
        steps=config["steps"],
        rates=np.array(config["rates"]),
        shifts=np.array(config["shifts"]),
        accuracy=accuracy.reshape(len(seeds), len(names), *accuracy.shape[1:]),
    )


def _twins(name: str, summary: str, kinks: bool) -> LongExperiment:
    return LongExperiment.of(
        experiments.library_twins,
        by_seed=("loss", "loss_gap", "weight_gap"),
        name=f"conv-{name}-twins",
        summary=summary,
        defaults={"steps": 100, "batch_size": 60, "lr": 0.05, "kinks": kinks, "seeds": 12},
        chapter=8,
        check=experiments.repeat_twins,
        tolerance=1e-4,
    )


EXPERIMENTS = (
    LongExperiment(
        name="conv-shifted-digits",
        summary="Digits that are moved, by networks whose normalization shares more or less over positions",
        defaults={
            "normalizations": list(experiments.NORMALIZATIONS), "shifts": [0, 1, 2, 3], "steps": 200,
            "rates": [0.03, 0.1, 0.3], "seeds": 8,
        },
        tasks=_tasks,
        run=_run,
        merge=_merge,
        chapter=8,
        check=experiments.repeat_shifted,
        tolerance=0.03,
    ),
    _twins("library", "One training by two libraries, and once more with one weight moved", kinks=True),
    _twins("smooth", "The same for a network without kinks", kinks=False),
    LongExperiment.of(
        experiments.folded_nets,
        name="conv-folded-nets",
        summary="Networks before and after folding; of the times, which are this machine's, nothing is checked",
        defaults={"batch_sizes": [1, 32], "repeats": 150, "seed": 0},
        chapter=8,
        check=experiments.repeat_folding,
        tolerance=1e-5,
    ),
)  # fmt: skip
"""Each makes the file of its name in ``book/results``."""
