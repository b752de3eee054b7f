"""Models of the book: plain stacks of named layers that take their normalization from outside."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from bnlab import _validate

__all__ = ["mlp"]

ACTIVATIONS = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "linear": nn.Identity,
}

# Standard deviation of a Gaussian weight, from the layer's number of inputs and outputs.
SCHEMES = {
    "lecun": lambda fan_in, fan_out: fan_in**-0.5,
    "xavier": lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5,
    "he": lambda fan_in, fan_out: (2 / fan_in) ** 0.5,
}


def mlp(
    sizes: Sequence[int],
    *,
    activation: str = "sigmoid",
    norm: Callable[[int], nn.Module] | None = None,
    init_std: float | str = "xavier",
    seed: int = 0,
) -> nn.Sequential:
    r"""Build a multilayer perceptron, normalized before each nonlinearity if `norm` is given.

    .. math:: h_k = g(\mathrm{BN}(W_k h_{k-1})), \qquad
              \text{without normalization}\quad h_k = g(W_k h_{k-1} + b_k)

    The layers are named ``linear1``, ``norm1``, ``act1``, ``linear2`` and so on; the last is linear
    alone and returns logits. A normalized layer has no bias: subtracting the mean would cancel it,
    and the normalization's own :math:`\beta` takes its place. Weights are Gaussian with mean zero,
    biases are zero, and the global random state is left alone.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, of units in each hidden layer, and of outputs.
    activation : {"sigmoid", "tanh", "relu", "linear"}
        The nonlinearity g.
    norm : callable, optional
        Takes the number of features and returns a module, e.g. ``torch.nn.BatchNorm1d``.
    init_std : float or {"xavier", "lecun", "he"}
        Standard deviation of every weight, or the scheme that sets it layer by layer.
    seed : int
        Seed of the weights.

    Returns
    -------
    torch.nn.Sequential
        Maps (N, sizes[0]) to (N, sizes[-1]).

    Raises
    ------
    ValueError
        If a size, `activation` or `init_std` is out of range or unknown.
    TypeError
        If `norm` is not a factory, for example because it is a finished layer, or `seed` is no integer.

    Notes
    -----
    Placement and the missing bias follow Ioffe & Szegedy 2015, section 3.2.

    Examples
    --------
    >>> [name for name, _ in mlp([4, 3, 2], norm=nn.BatchNorm1d).named_children()]
    ['linear1', 'norm1', 'act1', 'linear2']
    """
    counts = list(sizes) if isinstance(sizes, Sequence | np.ndarray) else []
    if len(counts) < 2 or not all(isinstance(n, Integral) and n > 0 for n in counts):
        raise ValueError(
            f"sizes is {sizes!r}; expected at least two positive integers, the number of inputs "
            "first and of outputs last, e.g. [784, 100, 10]."
        )
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}.")
    if norm is not None and (isinstance(norm, nn.Module) or not callable(norm)):
        raise TypeError(
            f"norm is a {type(norm).__name__}; expected a factory, from the number of features to a "
            "new module. Pass the class itself, e.g. norm=torch.nn.BatchNorm1d."
        )
    generator = torch.Generator().manual_seed(_validate.integer("seed", seed, low=0))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for k, (fan_in, fan_out) in enumerate(pairwise(counts), start=1):
        last = k == len(counts) - 1
        std = _weight_std(init_std, fan_in, fan_out)
        layers[f"linear{k}"] = _linear(fan_in, fan_out, last or norm is None, std, generator)
        if not last:
            if norm is not None:
                layers[f"norm{k}"] = _made_by(norm, fan_out)
            layers[f"act{k}"] = ACTIVATIONS[activation]()
    return nn.Sequential(layers)


def _weight_std(init_std: float | str, fan_in: int, fan_out: int) -> float:
    if isinstance(init_std, str) and init_std in SCHEMES:
        return SCHEMES[init_std](fan_in, fan_out)
    if isinstance(init_std, Real) and 0 <= init_std < float("inf"):
        return float(init_std)
    raise ValueError(
        f"init_std is {init_std!r}; expected a finite number >= 0 or one of {', '.join(SCHEMES)}."
    )


def _made_by(norm: Callable[[int], nn.Module], features: int) -> nn.Module:
    layer = norm(features)
    if not isinstance(layer, nn.Module):
        raise TypeError(
            f"norm({features}) returned a {type(layer).__name__}; expected a new torch.nn.Module. "
            "Pass a class or a function that returns a layer, e.g. norm=torch.nn.BatchNorm1d."
        )
    return layer


def _linear(fan_in: int, fan_out: int, bias: bool, std: float, generator) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out, bias=bias)
    with torch.no_grad():
        layer.weight.normal_(0.0, std, generator=generator)
        if bias:
            layer.bias.zero_()
    return layer
