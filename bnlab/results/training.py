"""What training and the probes leave behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class History:
    """One training run: the mini-batch loss before each step, and the settings that made it."""

    loss: np.ndarray  # (steps,)
    lr: float
    steps: int
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Summary:
    """How each unit's values are spread over the examples."""

    mean: np.ndarray  # (units,)
    std: np.ndarray  # (units,)
    percentiles: np.ndarray  # (len(q), units)
    q: tuple[float, ...]


@dataclass(frozen=True)
class Drift:
    """How far each unit's distribution moved."""

    mean_shift: np.ndarray  # (units,): |mean after - mean before| / std before
    log_std_ratio: np.ndarray  # (units,): |ln(std after / std before)|
    wasserstein: np.ndarray  # (units,): earth mover's distance / std before
    distance: np.ndarray  # (units,): earth mover's distance, in the values' own units
