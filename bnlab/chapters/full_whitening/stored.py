"""Chapter 4: the experiment whose result is stored."""

from __future__ import annotations

from bnlab.chapters.full_whitening import experiments
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]

EXPERIMENTS = (
    LongExperiment.of(
        experiments.measure_cost,
        name="full-whitening-cost",
        summary="Seconds of whitening beside those of Batch Normalization, as this machine takes them",
        defaults={"repeats": 15, "seed": 0},
        chapter=4,
    ),
)
"""Each makes the file of its name in ``book/results``."""
