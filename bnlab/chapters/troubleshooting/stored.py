"""Chapter 13: the experiments whose results are stored."""

from __future__ import annotations

from bnlab.chapters.troubleshooting import case, corpus, faults, recipes
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]

EXPERIMENTS = (
    LongExperiment.of(
        faults.evaluation_faults,
        by_seed=("by_batch", "before", "after", "found", "healthy"),
        name="troubleshooting-faults",
        summary="Trained networks with eight faults of their statistics, before and after the repair",
        defaults={"steps": 300, "batch_size": 60, "lr": 0.5, "seeds": 16},
        chapter=13,
        check=faults.repeat,
        tolerance=0.02,
    ),
    LongExperiment.of(
        recipes.rates,
        by_seed=("accuracy",),
        name="troubleshooting-rates",
        summary="The learning rate of six recipes: before or after the ReLU, and what is decayed",
        defaults={"steps": 300, "rates": list(recipes.RATES), "seeds": [100, 101, 102, 103]},
        chapter=13,
        check=recipes.repeat_rates,
        tolerance=0.02,
    ),
    LongExperiment.of(
        recipes.trial,
        by_seed=("accuracy",),
        name="troubleshooting-recipes",
        summary="The six recipes at their own rates: before or after the ReLU, and what is decayed",
        defaults={"steps": 300, "rates": list(recipes.BEST), "seeds": 16},
        chapter=13,
        check=recipes.repeat_trial,
        tolerance=0.02,
    ),
    LongExperiment.of(
        case.case_study,
        by_seed=("accuracy",),
        name="troubleshooting-case",
        summary="A small residual network, its statistics spoiled, recalibrated, frozen or not",
        defaults={"steps": 200, "width": 6, "lr": 0.5, "seeds": 16},
        chapter=13,
        check=case.repeat,
        tolerance=0.002,
    ),
    corpus.EXPERIMENT,
)
"""Each makes the file of its name in ``book/results``."""
