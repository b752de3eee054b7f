"""The momentum of a running average, in the convention of each framework."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np

from bnlab import _validate

# Whether `momentum` is the weight of the new batch (else it is the weight of the old average).
WEIGHS_THE_NEW_BATCH = {
    "torch": True,
    "keras": False,
    "tensorflow": False,
    "flax": False,
    "paddle": False,
    "mxnet": False,
    "onnx": False,
}


def convert_momentum(value: float | None, *, source: str, to: str) -> float | None:
    r"""Translate the momentum of a running average from one framework's convention to another's.

    .. math::

       \text{torch:}\quad \mu \leftarrow (1 - \alpha) \, \mu + \alpha \, \mu_B
       \qquad\qquad
       \text{all others:}\quad \mu \leftarrow \alpha \, \mu + (1 - \alpha) \, \mu_B

    Parameters
    ----------
    value : float or None
        The momentum :math:`\alpha`, from 0 to 1. None is torch's cumulative average, which weights
        all batches alike; the others have no such setting.
    source, to : {"torch", "keras", "tensorflow", "flax", "paddle", "mxnet", "onnx"}
        Convention of `value`, and the one wanted.

    Returns
    -------
    float or None
        ``value`` or ``1 - value``, without rounding dust: 0.99 becomes 0.01, a NumPy float32 too.

    Raises
    ------
    TypeError
        If `value` is not a number.
    ValueError
        If `value` is outside [0, 1], a convention is unknown, or None has no translation.

    Notes
    -----
    Sources: ``torch.nn.BatchNorm1d`` (the new value is ``(1 - momentum) * old + momentum * observed``),
    ``keras.layers.BatchNormalization`` (``moving_mean * momentum + mean(batch) * (1 - momentum)``),
    ``flax.nnx.BatchNorm`` ("decay rate for the exponential moving average"), ONNX operator
    BatchNormalization 15 (``input_mean * momentum + current_mean * (1 - momentum)``),
    ``paddle.nn.BatchNorm2D`` and ``mxnet.gluon.nn.BatchNorm``
    (``moving_mean * momentum + batch_mean * (1 - momentum)``). The momentum is not all that differs:
    torch averages unbiased variances, ONNX and flax biased ones, and Keras either, by backend and
    version.

    Examples
    --------
    >>> convert_momentum(0.99, source="keras", to="torch")
    0.01
    >>> convert_momentum(0.1, source="torch", to="flax")
    0.9
    """
    for name, convention in (("source", source), ("to", to)):
        if convention not in WEIGHS_THE_NEW_BATCH:
            raise ValueError(
                f"{name} is {convention!r}; expected one of {', '.join(WEIGHS_THE_NEW_BATCH)}. "
                f"Others follow one of these: look up whether momentum weights the new batch."
            )
    if value is None:
        if source == to == "torch":
            return None
        raise ValueError(
            f"value is None, torch's cumulative average of all batches; expected a number for "
            f"{source} to {to}, because no fixed momentum weights all batches alike. Run "
            f"recalibrate in torch and copy the statistics."
        )
    exact = _validate.number("value", value, low=0, high=1)
    # The shortest text is what was meant: "0.99", also of a NumPy float32, whose exact value is not 0.99.
    meant = Decimal(str(value) if isinstance(value, np.floating) else repr(exact))
    same = WEIGHS_THE_NEW_BATCH[source] == WEIGHS_THE_NEW_BATCH[to]
    return float(meant if same else 1 - meant)


def half_life(momentum: float) -> float:
    r"""Return after how many batches the weight of the past in a running average has halved.

    .. math:: (1 - \alpha)^t = \frac{1}{2}
              \quad\Longleftrightarrow\quad t = \frac{\log(1/2)}{\log(1 - \alpha)}

    Parameters
    ----------
    momentum : float
        :math:`\alpha` in torch's convention, the weight of the new batch, from 0 to 1.

    Returns
    -------
    float
        Number of batches; infinite for 0 (never updated), 0 for 1 (only the last batch counts).

    Raises
    ------
    TypeError
        If `momentum` is not a number.
    ValueError
        If `momentum` is outside [0, 1].

    Examples
    --------
    >>> round(half_life(0.1), 2), round(half_life(0.01), 1)
    (6.58, 69.0)
    """
    momentum = _validate.number("momentum", momentum, low=0, high=1)
    if momentum in (0, 1):
        return math.inf if momentum == 0 else 0.0
    return math.log(0.5) / math.log1p(-momentum)
