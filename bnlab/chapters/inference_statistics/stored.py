"""Chapter 7: the experiments whose results are stored."""

from __future__ import annotations

from bnlab.chapters.inference_statistics import experiments
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]

SEEDS = {
    "sigmoid": 48,
    "relu": 24,
    "small": 24,
}  # from 700 on; no network of the page has one of these

EXPERIMENTS = tuple(
    LongExperiment.of(
        experiments.statistics_race,
        by_seed=("accuracy", "loss"),
        name=f"inference-race-{label}",
        summary=f"Running averages and exact statistics of the same weights, race {label!r}",
        defaults={
            **race,
            "checkpoints": list(race["checkpoints"]),
            "seeds": list(range(700, 700 + SEEDS[label])),
        },
        chapter=7,
        check=experiments.repeat,
        tolerance=1e-3,
    )
    for label, race in experiments.RACES.items()
)
"""Each makes the file of its name in ``book/results``."""
