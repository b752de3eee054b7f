"""Chapter 7: the experiments whose results are stored."""

from __future__ import annotations

from bnlab.chapters.inference_statistics import experiments
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]

SEEDS = {"sigmoid": list(range(300, 348)), "relu": 8, "small": 8}

EXPERIMENTS = tuple(
    LongExperiment.of(
        experiments.statistics_race,
        by_seed=("accuracy", "loss"),
        name=f"inference-race-{label}",
        summary=f"Running averages and exact statistics of the same weights, race {label!r}",
        defaults={
            **race,
            "checkpoints": list(race["checkpoints"]),
            "seeds": SEEDS[label],
        },
        chapter=7,
        check=experiments.repeat,
        tolerance=1e-3,
    )
    for label, race in experiments.RACES.items()
)
"""Each makes the file of its name in ``book/results``."""
