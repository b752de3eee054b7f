"""Results of Chapter 3: what happens when normalization is left out of the gradient step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result


@dataclass(frozen=True)
class NaiveRun(Result):
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


@dataclass(frozen=True)
class RoundingSweep(Result):
    """The centered layer in float32 with its bias put at one size after another."""

    lr: float
    steps: int  # taken from each bias, to measure how it moves
    b: np.ndarray
    spacing: np.ndarray  # between neighboring float32 numbers at b
    output_error: np.ndarray  # root mean square over samples, against float64 at b = 0
    predicted_error: np.ndarray  # spacing / sqrt(12), at most the spread of u
    loss: np.ndarray
    exact_loss: float
    move: np.ndarray  # mean change of b a step
    exact_move: float
    predicted_move: np.ndarray  # exact_move, rounded to a multiple of the spacing


@dataclass(frozen=True)
class Stall(Result):
    """A number that grows by one constant step at a time until rounding swallows the step."""

    dtype: str
    step: float
    count: np.ndarray  # steps taken, at the recorded states
    b: np.ndarray
    stalled_after: int  # the first number of steps after which b no longer changes; -1 if never
    predicted_b: float


@dataclass(frozen=True)
class DetachedOnDigits(Result):
    """Digits learned without normalization, with it, and with its statistics detached.

    The last axis of `loss` has one entry a step, that of `bias_shift` and `weight_growth` one a
    state. All three watch the first Linear layer.
    """

    arms: tuple[str, ...]
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    loss: np.ndarray  # (seeds, arms, lrs, steps), of the mini-batch
    accuracy: np.ndarray  # (seeds, arms, lrs), on digits held out
    bias_shift: np.ndarray  # (seeds, arms, lrs, steps + 1), ||b - b at the start||
    weight_growth: np.ndarray  # (seeds, arms, lrs, steps + 1), ||W|| / ||W at the start||
    bias_gradient: np.ndarray  # (seeds, arms, lrs), largest |dl/db| met on the way


@dataclass(frozen=True)
class GradientAgreement(Result):
    """How the detached gradient of a layer's weights compares with the true one, as it trains."""

    lr: float
    at: np.ndarray  # steps taken, at the recorded states
    cosine: np.ndarray  # (seeds, len(at))
    size_ratio: np.ndarray  # (seeds, len(at)), ||detached|| / ||true||


@dataclass(frozen=True)
class ClaimedAndReal(Result):
    """What a gradient says that a shift of the bias does to the loss, and what the shift does."""

    layers: tuple[str, ...]
    claimed: np.ndarray  # (layers,), the gradient along the direction
    real: np.ndarray  # (layers,), the central difference of the loss
