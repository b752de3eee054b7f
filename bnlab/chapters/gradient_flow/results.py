"""Results of Chapter 6: how gradients flow through Batch Normalization, and what follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result


@dataclass(frozen=True)
class ScaleInvariance(Result):
    r"""A layer BN(aWu) compared with BN(Wu) for several scales a; one entry a scale.

    The differences are the largest over all entries, relative to the largest entry at a = 1.
    """

    a: np.ndarray
    eps: float
    output: np.ndarray  # of y
    du: np.ndarray  # of the gradient with respect to the input u
    dw: np.ndarray  # of a times the gradient with respect to aW
    radial: np.ndarray  # w . dL/dw, with w one row of aW
    radial_theory: np.ndarray  # eps / (var_B + eps) * dgamma


@dataclass(frozen=True)
class NeuronRun(Result):
    """One normalized neuron trained by SGD on an endless noisy stream, for several seeds."""

    lr: float
    weight_decay: float
    eps: float
    norm2: np.ndarray  # (seeds, steps + 1): squared length of w
    grad2: np.ndarray  # (seeds, steps): squared length of the gradient
    radial: np.ndarray  # (seeds, steps): w . gradient
    rotation: np.ndarray  # (seeds, steps): angle in radians between w before and after the step


@dataclass(frozen=True)
class ExplosionRates(Result):
    """Growth per layer of the squared gradient in normalized random networks, against batch size."""

    activation: str
    width: int
    depth: int
    batch_sizes: np.ndarray  # (sizes,)
    rate: np.ndarray  # (draws, sizes): geometric mean over the layers in the middle
    theory: np.ndarray  # (sizes,): in the limit of wide layers
    limit: float  # the theory for large batches


@dataclass(frozen=True)
class WidthRates(Result):
    """Growth per layer of the squared gradient in normalized random networks, against their width."""

    activation: str
    batch_size: int
    widths: np.ndarray  # (widths,)
    rate: np.ndarray  # (draws, widths): geometric mean over the layers in the middle
    theory: float  # in the limit of wide layers


@dataclass(frozen=True)
class DepthRatios(Result):
    """Gradient in the first layer over that in the last, while deep normalized networks train."""

    lrs: tuple[float, ...]
    checkpoints: tuple[int, ...]  # after so many steps
    ratio: np.ndarray  # (rates, seeds, checkpoints)


@dataclass(frozen=True)
class RateSweep(Result):
    """Short training runs over a grid of learning rates, and which of them were stable."""

    label: str
    normalized: bool
    lr: np.ndarray  # (rates,)
    loss: np.ndarray  # (seeds, rates): mean over the last steps
    stable: np.ndarray  # (seeds, rates): every loss finite, and the last ones below the limit
    limit: float
    accuracy: np.ndarray  # (seeds, rates): on held-out digits
    growth: np.ndarray  # (seeds, rates): length of the first layer's weights, after / before
