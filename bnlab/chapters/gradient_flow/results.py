"""Results of Chapter 6: how gradients flow through Batch Normalization, and what follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.experiments import Result


def equilibrium_norm4(unit_grad2: float, *, lr: float, weight_decay: float) -> float:
    r"""Return the fourth power of the length at which decay shrinks w as fast as steps stretch it.

    .. math:: \lVert w \rVert^4 = \frac{\eta \, \mathrm{E} \lVert \tilde g \rVert^2}
              {\lambda \, (2 - \eta \lambda)}, \qquad \tilde g = \lVert w \rVert \, g

    Parameters
    ----------
    unit_grad2 : float
        Mean squared length of :math:`\tilde g`, the gradient at the weights scaled to length 1.
    lr, weight_decay : float
        :math:`\eta` and :math:`\lambda`, above 0.

    Returns
    -------
    float

    Notes
    -----
    From :math:`\lVert w \rVert^2 = (1 - \eta \lambda)^2 \lVert w \rVert^2 + \eta^2 \lVert g \rVert^2`,
    taking :math:`\lVert w \rVert` as constant; van Laarhoven 2017.

    Examples
    --------
    >>> round(equilibrium_norm4(2.0, lr=0.1, weight_decay=0.01), 4)
    10.005
    """
    return lr * unit_grad2 / (weight_decay * (2 - lr * weight_decay))


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

    @property
    def late_unit_grad2(self) -> np.ndarray:
        """Mean squared length, over the second half of the steps, of the gradient at w scaled to length 1."""
        steps = self.grad2.shape[1]
        return (self.grad2 * self.norm2[:, :-1])[:, steps // 2 :].mean(axis=1)

    @property
    def equilibrium_norm4(self) -> np.ndarray:
        """The fourth power of the length at which each seed settles in theory, (seeds,)."""
        return equilibrium_norm4(self.late_unit_grad2, lr=self.lr, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class UnitCloud(Result):
    """The three values of each unit of one layer for a batch of three, before its normalization."""

    z: np.ndarray  # (units, 3)

    @property
    def plane(self) -> np.ndarray:
        """Each unit's centered values, as a point in the plane at a right angle to (1, 1, 1), (units, 2)."""
        across, up = np.array([1.0, -1.0, 0.0]) / 2**0.5, np.array([-1.0, -1.0, 2.0]) / 6**0.5
        return self.z @ np.stack([across, up], axis=1)

    @property
    def roundness(self) -> float:
        """Variance of the cloud along its narrowest direction in the plane over that along its widest."""
        narrow, wide = np.linalg.eigvalsh(self.plane.T @ self.plane)
        return float(narrow / wide)


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

    @property
    def mean_accuracy(self) -> np.ndarray:
        """The mean over the seeds, (rates,)."""
        return self.accuracy.mean(axis=0)

    def largest_stable(self) -> np.ndarray:
        r"""Return, for each seed, the rate at which training stops being stable.

        Between the last rate before the first unstable one and that one, the logarithm of the rate is
        interpolated to where the loss crosses the limit. The rates must be in increasing order.

        Returns
        -------
        numpy.ndarray
            Shape (seeds,); the largest rate of the sweep where all were stable, NaN where not even the
            smallest was.

        Examples
        --------
        >>> loss = np.array([[0.5, 1.5, 0.5]])
        >>> RateSweep("", False, np.array([1.0, 4, 16]), loss, loss < 1, 1.0, loss, loss).largest_stable()
        array([2.])
        """
        edges = np.full(len(self.stable), np.nan)
        log_lr = np.log(self.lr)
        for i, (stable, loss) in enumerate(zip(self.stable, self.loss, strict=True)):
            good = int(np.cumprod(stable).sum()) - 1  # the last rate before the first failure
            if good == len(stable) - 1:
                edges[i] = self.lr[good]
            elif good >= 0:
                rise = loss[good + 1] - loss[good]
                share = (self.limit - loss[good]) / rise if np.isfinite(rise) else 0.0
                edges[i] = np.exp(log_lr[good] + np.clip(share, 0, 1) * np.diff(log_lr)[good])
        return edges
