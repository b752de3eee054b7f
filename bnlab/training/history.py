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
class EnsembleHistory:
    """Many training runs of one architecture, member by member, and the settings that made them.

    Arrays that were not asked for have length 0 along their second axis.
    """

    lr: np.ndarray  # (S,)
    seed: np.ndarray  # (S,)
    steps: int
    batch_size: int
    momentum: float
    weight_decay: float
    loss: np.ndarray  # (S, steps): of the mini-batch before each step
    eval_at: np.ndarray  # (E,): steps taken before each evaluation
    accuracy: np.ndarray  # (S, E): on the evaluation data, with the running statistics
    eval_loss: np.ndarray  # (S, E)
    recalibrated_accuracy: np.ndarray  # (S, E) or (S, 0): with population statistics
    watch: str  # the layer whose input is described below, or ""
    watch_at: np.ndarray  # (T,): steps taken before each record
    q: tuple[float, ...]
    percentiles: np.ndarray  # (S, T, len(q), units): of each unit's input over the mini-batch
    histogram_at: np.ndarray  # (H,): steps taken before each histogram
    histogram_edges: np.ndarray  # (bins + 1,)
    histograms: np.ndarray  # (S, H, units, bins): of each unit's input over the evaluation data
