"""Chapter 2: the experiments whose results are stored."""

from __future__ import annotations

from bnlab.chapters.covariate_shift import experiments
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]

DRIFTS = (
    "unit", "pooled", "mean", "std", "wasserstein", "mean_shift", "log_std_ratio", "distance", "saturated",
    "one_step_all", "one_step_first", "scatter",
)  # fmt: skip

EXPERIMENTS = (
    *(
        LongExperiment.of(
            experiments.learning_rates,
            by_seed=("loss",),
            name=f"covariate-shift-rates-{arm}-{std}",
            summary=f"Learning rates, arm {arm}, from weights of N(0, {std}²)",
            defaults={
                "arm": arm, "init_std": std, "lrs": [0.5, 1, 2, 4, 8, 16], "steps": 300, "seeds": [100, 101, 102, 103],
            },
            chapter=2,
            check=experiments.repeat_rates,
            tolerance=1e-3,
        )
        for std in (experiments.INIT_STD, 0.4)
        for arm in experiments.ARMS
    ),
    *(
        LongExperiment.of(
            experiments.drift_run,
            by_seed=("loss", "accuracy", *DRIFTS),
            name=f"covariate-shift-{name.replace('_', '-')}",
            summary="How inputs of layers move: arm {arm}, rate {lr}, from weights of N(0, {init_std}²)".format(**run),
            defaults=run | {"steps": 600, "one_step_at": [0, 20, 100, 600], "seeds": list(range(200, 216))},
            chapter=2,
            check=experiments.repeat,
            tolerance=5e-3,
        )
        for name, run in experiments.RUNS.items()
    ),
)  # fmt: skip
"""Each makes the file of its name in ``book/results``."""
