"""Make a layer of torch from the arrays and settings that another framework has for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnlab import _validate
from bnlab.inference.momentum import convert_momentum


class _Convention(NamedTuple):
    """The names that a framework gives to gamma, beta and the statistics, and its settings by default."""

    weight: tuple[str, ...]
    bias: tuple[str, ...]
    running_mean: tuple[str, ...]
    running_var: tuple[str, ...]
    eps: float
    momentum: float


_KERAS = _Convention(("gamma",), ("beta",), ("moving_mean",), ("moving_variance",), 1e-3, 0.99)
CONVENTIONS = {
    "torch": _Convention(("weight",), ("bias",), ("running_mean",), ("running_var",), 1e-5, 0.1),
    "keras": _KERAS,
    "tensorflow": _KERAS,
    "flax": _Convention(("scale",), ("bias",), ("mean",), ("var",), 1e-5, 0.99),
    "paddle": _Convention(("weight",), ("bias",), ("_mean",), ("_variance",), 1e-5, 0.9),
    "mxnet": _Convention(
        ("gamma",), ("beta",), ("running_mean", "moving_mean"), ("running_var", "moving_var"), 1e-5, 0.9
    ),
    "onnx": _Convention(("scale",), ("B",), ("input_mean",), ("input_var",), 1e-5, 0.9),
}  # fmt: skip


def convert(
    arrays: Mapping[str, Any],
    *,
    source: str,
    kind: type[_BatchNorm] = nn.BatchNorm2d,
    eps: float | None = None,
    momentum: float | None = None,
) -> Any:
    r"""Make a layer for torch from another framework's arrays, in evaluation mode.

    The layer computes at inference what the other one did; in training its running statistics move at
    the same pace. The variance is taken as it is, biased or not: the network was used with that number.

    Parameters
    ----------
    arrays : mapping of str to array
        The arrays of one layer by the framework's names, alone or at the end of a path
        (``"bn1/gamma:0"``, ``"batchnorm0_gamma"``, ``"bn1._mean"``). Without a :math:`\gamma` or
        :math:`\beta`, as with Keras's ``scale=False``, ones or zeros stand in. What else is in there,
        such as ``num_batches_tracked``, is left out.
    source : {"torch", "keras", "tensorflow", "flax", "paddle", "mxnet", "onnx"}
        Whose names, and whose meaning of `momentum`.
    kind : type
        The class to make, of :mod:`torch.nn` or :mod:`bnlab.nn`.
    eps, momentum : float, optional
        As the other framework has them; they are not in the arrays. None stands for its default.

    Returns
    -------
    torch.nn.Module
        A layer of class `kind` and of torch's default dtype.

    Raises
    ------
    KeyError
        If an array for the mean or the variance is missing.
    ValueError
        If `source` is unknown, a name is there for several layers, an array has another shape than the
        mean or holds NaN or Inf, a variance is negative, or a setting is out of range.

    Notes
    -----
    =================  =======  ======  ===================================  =====  ========
    framework          gamma    beta    mean, variance                       eps    momentum
    =================  =======  ======  ===================================  =====  ========
    Keras, TensorFlow  gamma    beta    moving_mean, moving_variance         1e-3   0.99
    flax               scale    bias    mean, var                            1e-5   0.99
    Paddle             weight   bias    _mean, _variance                     1e-5   0.9
    MXNet              gamma    beta    running_mean or moving_mean, … _var  1e-5   0.9
    ONNX               scale    B       input_mean, input_var                1e-5   0.9
    torch              weight   bias    running_mean, running_var            1e-5   0.1
    =================  =======  ======  ===================================  =====  ========

    MXNet's values are those of ``gluon.nn.BatchNorm``. Its symbols have eps 1e-3, and take gamma for ones
    where ``fix_gamma`` is set: leave gamma out then. All but torch weight the *old* average.

    Examples
    --------
    >>> keras = {"gamma": [2.0], "beta": [1.0], "moving_mean": [3.0], "moving_variance": [3.999]}
    >>> layer = convert(keras, source="keras", kind=nn.BatchNorm1d)
    >>> layer.eps, layer.momentum
    (0.001, 0.01)
    >>> round(layer(torch.tensor([[5.0]])).item(), 4)
    3.0
    """
    if source not in CONVENTIONS:
        raise ValueError(
            f"source is {source!r}; expected one of {', '.join(CONVENTIONS)}."
            f"{_validate.did_you_mean(source, CONVENTIONS)}"
        )
    names = CONVENTIONS[source]
    found = {field: _array(arrays, getattr(names, field), field) for field in names._fields[:4]}
    for field in ("running_mean", "running_var"):
        if found[field] is None:
            raise KeyError(
                f"no {field} for {source}, there called {' or '.join(getattr(names, field))}, among "
                f"{', '.join(map(str, arrays))}; expected the arrays of one layer."
            )
    state = {field: value for field, value in found.items() if value is not None}
    features = len(state["running_mean"])
    for field, value in state.items():
        _validate.per_feature(field, value, features)
    _validate.variance("running_var", state["running_var"], features)
    layer = kind(
        features,
        eps=_validate.number("eps", names.eps if eps is None else eps, low=0),
        momentum=convert_momentum(
            names.momentum if momentum is None else momentum, source=source, to="torch"
        ),
    )
    with torch.no_grad():
        for field, value in state.items():
            getattr(layer, field).copy_(torch.from_numpy(value.copy()))
    return layer.eval()


def _array(arrays: Mapping[str, Any], names: tuple[str, ...], field: str) -> np.ndarray | None:
    """Return the one array whose name is, or ends in, one of `names`; None if there is none."""
    pattern = re.compile(rf"(?:^|.*[/._])(?:{'|'.join(names)})(?::\d+)?", re.DOTALL)
    keys = [key for key in arrays if pattern.fullmatch(str(key))]
    if len(keys) > 1:
        raise ValueError(
            f"{field} is there as {' and as '.join(map(str, keys))}; expected the arrays of one layer. "
            f"Pass those whose names begin alike."
        )
    if not keys:
        return None
    value = arrays[keys[0]]
    value = value.detach().cpu() if isinstance(value, torch.Tensor) else value
    return np.atleast_1d(np.asarray(value, dtype=float))
