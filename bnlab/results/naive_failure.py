"""Results of Chapter 3: what happens when normalization is left out of the gradient step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NaiveRun:
    r"""One run of gradient descent on a normalized scalar layer; every array has one entry a state.

    The layer is :math:`x = au + b`, :math:`\hat x = (x - \mathrm{E}[x]) / \mathrm{std}[x]` (or
    only half of that, by `variant`) and :math:`y = \gamma \hat x + \beta`. State 0 is the start,
    so `steps` steps make arrays of length ``steps + 1``.
    """

    variant: str
    lr: float
    dtype: str
    through_statistics: bool
    a: np.ndarray
    b: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    loss: np.ndarray
    output_change: np.ndarray  # max over samples of |x_hat - x_hat at the start|
    grad_a: np.ndarray
    grad_b: np.ndarray
