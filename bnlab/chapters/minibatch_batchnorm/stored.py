"""Chapter 5: the experiment whose result is stored."""

from __future__ import annotations

from bnlab.chapters.minibatch_batchnorm import experiments
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]

EXPERIMENTS = (
    LongExperiment.of(
        experiments.batch_makeup,
        by_seed=("evaluation", "shuffled", "by_class", "fickle"),
        name="minibatch-makeup",
        summary="Digits judged by the statistics of batches that are put together in several ways",
        defaults={"sizes": [2, 5, 10, 18, 45, 90], "repeats": 10, "steps": 400, "seeds": 5},
        chapter=5,
        check=experiments.repeat,
        tolerance=0.002,
    ),
)
"""Each makes the file of its name in ``book/results``."""
