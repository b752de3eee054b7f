"""Chapter 12: its claims, each with a rule that was written down before its networks were trained.

A claim names an effect, one number a seed, and where the mean effect has to lie. It *holds* if the whole interval lies
there, is *false* here if the whole interval lies outside, and is not settled otherwise. The intervals share an error
of 5 % (Bonferroni), and arms are compared seed by seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bnlab.chapters.limits_and_relatives.results import ArmScores
from bnlab.stats import Interval, t_interval

__all__ = ["CLAIMS", "Claim", "judged"]

INF = np.inf


@dataclass(frozen=True)
class Claim:
    """An effect, the unit it is told in, and the range in which its mean has to lie.

    Examples
    --------
    >>> claim = Claim("flat", lambda arms: arms.of("layer 2"), -1.0, 1.0)
    >>> [claim.verdict(Interval(np.array(0.0), np.array(low), np.array(high)))
    ...  for low, high in ((-0.5, 0.5), (-0.5, 2.0), (1.5, 2.0))]
    ['holds', 'open', 'false']
    """

    name: str
    effect: Callable[[ArmScores], np.ndarray]
    low: float
    high: float

    def verdict(self, found: Interval) -> str:
        """Judge an interval: "holds", "false" or "open", as the role `verdict` of a page writes them."""
        if found.low > self.low and found.high < self.high:
            return "holds"
        return "false" if found.high <= self.low or found.low >= self.high else "open"


def _points(arm: str, other: str, what: str = "accuracy", than: str = "accuracy"):
    """Return percentage points of one quantity of an arm above one of another."""
    return lambda arms: 100 * (arms.of(arm, what) - arms.of(other, than))


def _beyond_half(better: tuple[str, str], worse: tuple[str, str], whole: tuple[str, str]):
    """Return by how many points `better` makes up for more than half of what `worse` has lost of `whole`."""
    return lambda arms: 100 * (arms.of(*better) - (arms.of(*worse) + arms.of(*whole)) / 2)


CLAIMS = (
    Claim("cliff-2", _points("batch 2", "batch 64"), -INF, -10),
    Claim("cliff-8", _points("batch 8", "batch 64"), -2, INF),
    Claim("layer-flat", _points("layer 2", "layer 64"), -1, 1),
    Claim("group-flat", _points("group 2", "group 64"), -1, 1),
    Claim("batch-over-group-64", _points("batch 64", "group 64"), 0, INF),
    Claim("group-over-batch-4", _points("group 4", "batch 4"), 0, INF),
    Claim(
        "repaired-2",
        _beyond_half(("batch 2", "recalibrated"), ("batch 2", "accuracy"), ("batch 64", "accuracy")),
        0, INF,
    ),
    Claim("learned-2", _points("batch 2", "batch, hidden layers fixed 2"), -INF, 1),
    Claim("company-one", _points(*["batch 20, one class"] * 2, what="within_one"), 10, INF),
    Claim("company-two", _points(*["batch 20, two classes"] * 2, what="within_two"), 10, INF),
    Claim("sorted-layer", _points("layer 20, one class", "layer 16"), -3, INF),
    Claim(
        "faded", _points(*["batch 64"] * 2, what="faded_recalibrated", than="recalibrated"), -1, 1
    ),
    Claim(
        "noisy",
        _beyond_half(("batch 64", "noisy_recalibrated"), ("batch 64", "noisy"), ("batch 64", "recalibrated")),
        0, INF,
    ),
    Claim("renorm-4", _points("renorm 4", "batch 4"), 0, INF),
    Claim("renorm-64", _points("renorm 64", "batch 64"), -1, 1),
    Claim("ghost-16", _points("ghost 16 in 64", "batch 64"), 0, INF),
    Claim("ghost-2", _points("ghost 2 in 64", "batch 64"), -INF, -10),
    Claim("whitened-64", _points("whitened 64", "batch 64"), 0, INF),
)  # fmt: skip
"""What the chapter tests, in the order of its table."""


def judged(arms: ArmScores) -> dict[str, tuple[str, Interval]]:
    """Return the verdict and the interval of every claim, by its name.

    Parameters
    ----------
    arms : ArmScores
        All arms of the chapter, joined.

    Returns
    -------
    dict of str to (str, Interval)
        The intervals are those for all claims together, at an error of 5 %.
    """
    found = {}
    for claim in CLAIMS:
        interval = t_interval(claim.effect(arms), confidence=1 - 0.05 / len(CLAIMS))
        found[claim.name] = claim.verdict(interval), interval
    return found
