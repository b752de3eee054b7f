"""Chapter 12: the experiments whose results are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bnlab.chapters.limits_and_relatives import experiments
from bnlab.chapters.limits_and_relatives.results import arm_name
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]

SIZES = (64, 16, 8, 4, 2)
MAKEUPS = ("two classes", "one class")
EXAMPLES = 12800  # digits that each run sees: 200 steps of 64, or 6400 steps of 2

Arm = tuple[str, int, str]  # normalization, batch size, makeup of the batches

ARMS: dict[str, list[Arm]] = {
    "alone": [(norm, m, "shuffled") for norm in ("none", "layer", "group") for m in SIZES]
    + [("layer", 20, makeup) for makeup in MAKEUPS],
    "batch": [("batch", m, "shuffled") for m in SIZES]
    + [("batch", 20, makeup) for makeup in MAKEUPS]
    + [("batch, hidden layers fixed", 2, "shuffled")],
    "ghost": [(f"ghost {size} in", 64, "shuffled") for size in SIZES[1:]],
    "whitened": [("whitened", 64, "shuffled")],
    "renorm": [("renorm", m, "shuffled") for m in (64, 4)],
}
"""The arms of each result, by its name: statistics of one example, of the batch, and of the batch in other ways."""


def _grid(m: int) -> list[float]:
    """Return eight rates, each twice the one before, higher for larger batches."""
    middle = 0.5 * (m / 64) ** 0.75
    first = -5 if m == 2 else -4
    return [float(f"{middle * 2.0**k:.2g}") for k in range(first, first + 8)]


RATES: dict[str, float] = {
    "none 64": 0.5,
    "none 16": 0.18,
    "none 8": 0.11,
    "none 4": 0.12,
    "none 2": 0.037,
    "layer 64": 0.25,
    "layer 16": 0.088,
    "layer 8": 0.053,
    "layer 4": 0.031,
    "layer 2": 0.0093,
    "group 64": 0.25,
    "group 16": 0.71,
    "group 8": 0.026,
    "group 4": 0.062,
    "group 2": 0.019,
    "layer 20, two classes": 0.1,
    "layer 20, one class": 0.1,
    "ghost 16 in 64": 0.5,
    "ghost 8 in 64": 1.0,
    "ghost 4 in 64": 1.0,
    "ghost 2 in 64": 0.25,
    "whitened 64": 0.25,
    "renorm 64": 0.5,
    "renorm 4": 0.062,
    "batch 64": 1.0,
    "batch 16": 0.71,
    "batch 8": 0.21,
    "batch 4": 0.062,
    "batch 2": 0.0046,
    "batch 20, two classes": 0.21,
    "batch 20, one class": 0.0256,
    "batch, hidden layers fixed 2": 0.0093,
}
"""The best rate of each arm in its search, by running statistics where it has some; a test compares them."""


LOWER = {"one-class": [("batch", 20, "one class")]}
"""What was searched again, at lower rates: the best of the first search lay at the edge of its grid."""


def _search(name: str, arms: Sequence[Arm], grid: Callable[[int], list[float]]) -> LongExperiment:
    return LongExperiment.of(
        experiments.rate_search,
        name=f"limits-rates-{name}",
        summary=f"Learning rates for networks of chapter 12, {name!r}, on images kept aside",
        defaults={
            "arms": [list(arm) for arm in arms], "rates": {str(m): grid(m) for m in sorted({arm[1] for arm in arms})},
            "examples": EXAMPLES, "aside": 800, "seeds": [100, 101, 102],
        },
        chapter=12,
        check=experiments.repeat_search,
        tolerance=0.02,
    )  # fmt: skip


def _judged(name: str, arms: Sequence[Arm]) -> LongExperiment:
    return LongExperiment.of(
        experiments.arms_run,
        name=f"limits-{name}",
        summary=f"Networks of chapter 12 on new digits, {name!r}, each at its best learning rate",
        defaults={
            "arms": [list(arm) for arm in arms], "lr": [RATES[arm_name(*arm)] for arm in arms],
            "examples": EXAMPLES, "seeds": list(range(16)),
        },
        chapter=12,
        check=experiments.repeat_arms,
        tolerance=1e-3,
    )  # fmt: skip


EXPERIMENTS = (
    *(_search(name, arms, _grid) for name, arms in ARMS.items()),
    *(
        _search(name, arms, lambda m: [0.0016 * 2**k for k in range(8)])
        for name, arms in LOWER.items()
    ),
    *(_judged(name, arms) for name, arms in ARMS.items()),
)
"""Each makes the file of its name in ``book/results``."""
