"""Chapter 3: the experiments whose results are stored."""

from __future__ import annotations

from bnlab.chapters.naive_failure import experiments
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]


def _digits(name: str, summary: str, arms: list[str], lrs: list[float]) -> LongExperiment:
    return LongExperiment.of(
        experiments.detached_on_digits,
        by_seed=("loss", "accuracy", "bias_shift", "weight_growth", "bias_gradient"),
        name=f"naive-failure-{name}",
        summary=summary,
        defaults={"arms": arms, "lrs": lrs, "steps": 300, "seeds": 5},
        chapter=3,
        check=experiments.repeat,
        tolerance=1e-3,
    )


EXPERIMENTS = (
    _digits(
        "digits",
        "Digits without normalization, with it, and with its statistics held constant",
        list(experiments.ARMS)[:4],
        [0.1, 0.3, 1.0, 3.0],
    ),
    _digits(
        "no-bias",
        "Statistics held constant, with and without a bias before them",
        ["detached", "detached, no Linear bias"],
        [0.1, 0.3, 1.0],
    ),
)
"""Each makes the file of its name in ``book/results``."""
