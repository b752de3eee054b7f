"""Chapter 12: the experiments whose results are stored."""

from __future__ import annotations

from typing import Any

from bnlab.chapters.limits_and_relatives import experiments
from bnlab.chapters.limits_and_relatives.results import arm_name
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]

SIZES = (64, 16, 8, 4, 2)
MAKEUPS = ("two classes", "one class")
EXAMPLES = 12800  # digits that each run sees: 200 steps of 64, or 6400 steps of 2

ARMS: dict[str, list[tuple[str, int, str]]] = {
    "alone": [(norm, m, "shuffled") for norm in ("none", "layer", "group") for m in SIZES]
    + [("layer", 20, makeup) for makeup in MAKEUPS],
    "batch": [("batch", m, "shuffled") for m in SIZES]
    + [("batch", 20, makeup) for makeup in MAKEUPS]
    + [("batch, hidden layers fixed", 2, "shuffled")],
    "relatives": [("renorm", m, "shuffled") for m in SIZES]
    + [(f"ghost {size} in", 64, "shuffled") for size in SIZES[1:]],
}
"""The arms of each result, by its name: statistics of one example, of the batch, and of the batch in other ways."""


def _grid(m: int) -> list[float]:
    """Return eight rates, each twice the one before, higher for larger batches."""
    middle = 0.5 * (m / 64) ** 0.75
    first = -5 if m == 2 else -4
    return [float(f"{middle * 2.0**k:.2g}") for k in range(first, first + 8)]


RATES: dict[str, float] = {}
"""The best rate of each arm in its search, by running statistics where it has some; a test compares them."""


def _pair(name: str) -> tuple[LongExperiment, ...]:
    arms = [list(arm) for arm in ARMS[name]]
    common: dict[str, Any] = {"chapter": 12, "tolerance": 1e-3}
    return (
        LongExperiment.of(
            experiments.rate_search,
            name=f"limits-rates-{name}",
            summary=f"Learning rates for the arms of limits-{name}, on images kept aside",
            defaults={
                "arms": arms, "rates": {str(m): _grid(m) for m in sorted({arm[1] for arm in ARMS[name]})},
                "examples": EXAMPLES, "aside": 800, "seeds": [100, 101, 102],
            },
            check=experiments.repeat_search,
            **common,
        ),
        LongExperiment.of(
            experiments.arms_run,
            name=f"limits-{name}",
            summary=f"Normalization against batch size, arms {name!r}",
            defaults={
                "arms": arms, "lr": [RATES.get(arm_name(*arm), 0.1) for arm in ARMS[name]],
                "examples": EXAMPLES, "seeds": list(range(16)),
            },
            check=experiments.repeat_arms,
            **common,
        ),
    )  # fmt: skip


EXPERIMENTS = tuple(entry for name in ARMS for entry in _pair(name))
"""Each makes the file of its name in ``book/results``."""
