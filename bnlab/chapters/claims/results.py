"""Results of the ledger: one number a seed for each thing that it measures itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result


@dataclass(frozen=True)
class ClaimMeasures(Result):
    """What the ledger measures itself, with seeds that no chapter uses."""

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    samples: np.ndarray  # (names, seeds)

    def of(self, name: str) -> np.ndarray:
        """The samples of one measure, (seeds,)."""
        return self.samples[self.names.index(name)]
