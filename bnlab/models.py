"""Models of the book: plain stacks of named layers that take their normalization from outside."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import nn

from bnlab import _validate

__all__ = ["convnet", "mlp"]

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
    _require_activation(activation)
    _require_factory(norm)
    generator = torch.Generator().manual_seed(_validate.integer("seed", seed, low=0))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for k, (fan_in, fan_out) in enumerate(pairwise(counts), start=1):
        last = k == len(counts) - 1
        std = _weight_std(init_std, fan_in, fan_out)
        layers[f"linear{k}"] = _drawn(
            nn.Linear, fan_in, fan_out, std, generator, bias=last or norm is None
        )
        if not last:
            if norm is not None:
                layers[f"norm{k}"] = _made_by(norm, fan_out)
            layers[f"act{k}"] = ACTIVATIONS[activation]()
    return nn.Sequential(layers)


def convnet(
    in_shape: Sequence[int] = (1, 28, 28),
    channels: Sequence[int] = (16, 32),
    classes: int = 10,
    *,
    kernel_size: int = 3,
    pool: int = 2,
    activation: str = "relu",
    norm: Callable[[int], nn.Module] | None = None,
    lrn: bool = False,
    dropout: float = 0.0,
    init_std: float | str = "he",
    seed: int = 0,
) -> nn.Sequential:
    r"""Build a convolutional network, normalized before each nonlinearity if `norm` is given.

    .. math:: h_k = \mathrm{pool}(g(\mathrm{BN}(W_k * h_{k-1}))), \qquad
              \text{without normalization}\quad h_k = \mathrm{pool}(g(W_k * h_{k-1} + b_k))

    The layers are named ``image``, then ``conv1``, ``norm1``, ``act1``, ``lrn1``, ``pool1``, ``conv2`` and
    so on, then ``flatten``, ``dropout`` and ``linear``; those not asked for are missing. ``image``
    shapes rows into images and leaves images alone. Convolutions are padded, so that only pooling
    makes a map smaller. A normalized convolution has no bias: subtracting the mean would cancel it,
    and the normalization's own :math:`\beta` takes its place. Weights are Gaussian with mean zero,
    biases are zero, and the global random state is left alone.

    Parameters
    ----------
    in_shape : sequence of int
        Channels, height and width of an image.
    channels : sequence of int
        Number of feature maps of each convolution.
    classes : int
        Number of outputs.
    kernel_size : int
        Height and width of every kernel, odd.
    pool : int
        Height and width of the windows of max pooling after each nonlinearity; 1 leaves it out.
    activation : {"sigmoid", "tanh", "relu", "linear"}
        The nonlinearity g.
    norm : callable, optional
        Takes the number of feature maps and returns a module, e.g. ``torch.nn.BatchNorm2d``.
    lrn : bool
        True to put local response normalization, over 5 maps, after each nonlinearity.
    dropout : float
        Probability with which training drops each input of the last layer; 0 leaves dropout out.
    init_std : float or {"he", "xavier", "lecun"}
        Standard deviation of every weight, or the scheme that sets it layer by layer.
    seed : int
        Seed of the weights.

    Returns
    -------
    torch.nn.Sequential
        Maps (N, C, H, W), or rows (N, C * H * W), to (N, classes).

    Raises
    ------
    ValueError
        If an argument is out of range or unknown, or pooling would leave no pixel.
    TypeError
        If `norm` is not a factory, for example because it is a finished layer, or a number has
        another type.

    Notes
    -----
    Placement and the missing bias follow Ioffe & Szegedy 2015, section 3.2; the order nonlinearity,
    response normalization, pooling and the constants of the response normalization follow
    Krizhevsky et al. 2012, section 3.3.

    Examples
    --------
    >>> model = convnet(channels=(4,), norm=nn.BatchNorm2d)
    >>> [name for name, _ in model.named_children()]
    ['image', 'conv1', 'norm1', 'act1', 'pool1', 'flatten', 'linear']
    >>> tuple(model(torch.zeros(2, 784)).shape)
    (2, 10)
    """
    sizes = _positive("in_shape", in_shape, 3, "channels, height and width, e.g. (1, 28, 28)")
    maps = _positive("channels", channels, None, "feature maps of each convolution, e.g. (16, 32)")
    _validate.integer("classes", classes, low=1)
    _validate.integer("pool", pool, low=1)
    if _validate.integer("kernel_size", kernel_size, low=1) % 2 == 0:
        raise ValueError(
            f"kernel_size is {kernel_size}; expected an odd number, which padding can center on a "
            f"pixel. Pass {kernel_size - 1} or {kernel_size + 1}."
        )
    height, width = (size // pool ** len(maps) for size in sizes[1:])
    if height * width == 0:
        raise ValueError(
            f"in_shape is {tuple(sizes)}; {len(maps)} poolings by {pool} leave no pixel of it, expected "
            f"at least one. Pass fewer channels, pool=1, or larger images."
        )
    if not isinstance(dropout, Real) or not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout!r}; expected a probability >= 0 and < 1, e.g. 0.5.")
    _require_activation(activation)
    _require_factory(norm)
    generator = torch.Generator().manual_seed(_validate.integer("seed", seed, low=0))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["image"] = nn.Sequential(nn.Flatten(), nn.Unflatten(1, tuple(sizes)))
    for k, (before, after) in enumerate(pairwise([sizes[0], *maps]), start=1):
        std = _weight_std(init_std, before * kernel_size**2, after * kernel_size**2)
        options = {"kernel_size": kernel_size, "padding": kernel_size // 2, "bias": norm is None}
        layers[f"conv{k}"] = _drawn(nn.Conv2d, before, after, std, generator, **options)
        if norm is not None:
            layers[f"norm{k}"] = _made_by(norm, after)
        layers[f"act{k}"] = ACTIVATIONS[activation]()
        if lrn:
            layers[f"lrn{k}"] = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        if pool > 1:
            layers[f"pool{k}"] = nn.MaxPool2d(pool)
    layers["flatten"] = nn.Flatten()
    if dropout > 0:
        layers["dropout"] = nn.Dropout(dropout)
    fan_in = maps[-1] * height * width
    std = _weight_std(init_std, fan_in, classes)
    layers["linear"] = _drawn(nn.Linear, fan_in, classes, std, generator, bias=True)
    return nn.Sequential(layers)


def _positive(name: str, given: Sequence[int], length: int | None, meaning: str) -> list[int]:
    """Return positive integers as a list if there are `length` of them (None: any number), else raise."""
    counts = list(given) if isinstance(given, Sequence | np.ndarray) else []
    fits = len(counts) > 0 if length is None else len(counts) == length
    if not fits or not all(isinstance(n, Integral) and n > 0 for n in counts):
        how_many = "one or more" if length is None else str(length)
        raise ValueError(f"{name} is {given!r}; expected {how_many} positive integers: {meaning}.")
    return [int(n) for n in counts]


def _require_activation(activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}.")


def _require_factory(norm: object) -> None:
    if norm is not None and (isinstance(norm, nn.Module) or not callable(norm)):
        raise TypeError(
            f"norm is a {type(norm).__name__}; expected a factory, from the number of features to a "
            "new module. Pass the class itself: torch.nn.BatchNorm1d for mlp, BatchNorm2d for convnet."
        )


def _weight_std(init_std: float | str, fan_in: int, fan_out: int) -> float:
    """Return the standard deviation of a layer's weights: the given one, or that of a scheme."""
    if isinstance(init_std, str):
        if init_std in SCHEMES:
            return SCHEMES[init_std](fan_in, fan_out)
    elif isinstance(init_std, Real) and 0 <= init_std < float("inf"):
        return float(init_std)
    raise ValueError(
        f"init_std is {init_std!r}; expected a finite number >= 0 or one of {', '.join(SCHEMES)}."
    )


def _made_by(norm: Callable[[int], nn.Module], features: int) -> nn.Module:
    """Return the layer that a factory makes; raise if it makes something else."""
    layer = norm(features)
    if not isinstance(layer, nn.Module):
        raise TypeError(
            f"norm({features}) returned a {type(layer).__name__}; expected a new torch.nn.Module. "
            "Pass a class or a function that returns a layer, e.g. norm=torch.nn.BatchNorm1d."
        )
    return layer


def _drawn(kind: type[nn.Module], fan_in: int, fan_out: int, std: float, generator, **options):
    """Build a layer with Gaussian weights and biases of zero, drawn from `generator` alone."""
    layer: Any = nn.utils.skip_init(kind, fan_in, fan_out, **options)
    with torch.no_grad():
        layer.weight.normal_(0.0, std, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer
