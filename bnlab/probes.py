"""Look inside a model while it runs: what each layer receives, and how far that moved."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from bnlab import _validate

__all__ = ["Drift", "Summary", "activations", "drift", "observe", "summarize"]


@dataclass(frozen=True)
class Summary:
    """How each unit's values are spread over the examples.

    Attributes
    ----------
    mean, std : numpy.ndarray
        Mean and standard deviation (divided by N) of each unit, shape (units,).
    percentiles : numpy.ndarray
        Percentiles of each unit, shape (len(q), units).
    q : tuple of float
        Which percentiles, from 0 to 100.
    """

    mean: np.ndarray
    std: np.ndarray
    percentiles: np.ndarray
    q: tuple[float, ...]


@dataclass(frozen=True)
class Drift:
    """How far each unit's distribution moved; every array has shape (units,).

    Attributes
    ----------
    mean_shift : numpy.ndarray
        Distance between the means, over the standard deviation before.
    log_std_ratio : numpy.ndarray
        Absolute value of the logarithm of (standard deviation after / before).
    wasserstein : numpy.ndarray
        Earth mover's distance, over the standard deviation before.
    distance : numpy.ndarray
        Earth mover's distance, in the values' own unit.
    """

    mean_shift: np.ndarray
    log_std_ratio: np.ndarray
    wasserstein: np.ndarray
    distance: np.ndarray


@contextmanager
def activations(
    model: nn.Module, names: Sequence[str], *, of: str = "input"
) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Record what named layers receive (or return) while the block runs.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it was: the hooks are removed at the end of the block, also after an error in it.
    names : sequence of str
        Names of layers, as `model.named_modules` spells them.
    of : {"input", "output"}
        What to record: the first argument of each layer, or what it returns.

    Yields
    ------
    dict of str to list of torch.Tensor
        For each name a list with one detached copy per forward pass. All are kept, so run few passes.

    Raises
    ------
    TypeError
        If `model` is not a module, or `names` is one string.
    ValueError
        If the model has no layer of some name, or `of` is neither word.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 2), nn.Sigmoid())
    >>> with activations(model, ["1"]) as recorded:
    ...     _ = model(torch.zeros(5, 3))
    >>> recorded["1"][0].shape
    torch.Size([5, 2])
    """
    if isinstance(names, str):
        raise TypeError(f"names is the string {names!r}; expected a list of names: [{names!r}].")
    if of not in ("input", "output"):
        raise ValueError(f"of is {of!r}; expected 'input' or 'output'.")
    modules = dict(_module(model).named_modules())
    missing = [name for name in names if name not in modules]
    if missing:
        raise ValueError(
            f"the model has no layer named {', '.join(map(repr, missing))}; expected names among "
            f"{', '.join(repr(name) for name in modules if name)}."
        )
    recorded: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    handles = []
    try:
        for name, into in recorded.items():
            layer = modules[name]
            if of == "input":
                # Read before the layer runs: an in-place layer overwrites its input.
                handles.append(layer.register_forward_pre_hook(partial(_keep_input, into)))
            else:
                handles.append(layer.register_forward_hook(partial(_keep_output, into)))
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def _module(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; expected a torch.nn.Module.")
    return model


def _keep_input(into: list[torch.Tensor], layer: nn.Module, inputs: tuple) -> None:
    into.append(inputs[0].detach().clone())


def _keep_output(
    into: list[torch.Tensor], layer: nn.Module, inputs: tuple, output: torch.Tensor
) -> None:
    into.append(output.detach().clone())


def observe(
    model: nn.Module, x: torch.Tensor, names: Sequence[str], *, of: str = "input"
) -> dict[str, np.ndarray]:
    """Return what named layers receive when the whole of `x` is one batch, touching nothing.

    The pass runs on a copy of the model, in the mode the model is in. In training mode a Batch
    Normalization layer therefore uses the statistics of `x`, and the model's own running statistics
    stay as they were.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it was.
    x : torch.Tensor
        The batch, of shape (N, ...).
    names : sequence of str
        Names of layers, as `model.named_modules` spells them.
    of : {"input", "output"}
        What to return: the first argument of each layer, or its result.

    Returns
    -------
    dict of str to numpy.ndarray
        For each name an array whose first axis are the N examples.

    Raises
    ------
    TypeError, ValueError
        As :func:`activations`, and if `x` is not a tensor.

    Examples
    --------
    >>> model = nn.Sequential(nn.BatchNorm1d(1), nn.Sigmoid())
    >>> seen = observe(model, torch.tensor([[1.0], [3.0]]), ["1"])
    >>> seen["1"].round(2).ravel().tolist(), model[0].num_batches_tracked.item()
    ([-1.0, 1.0], 0)
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(
            f"x is a {type(x).__name__}; expected a torch.Tensor. Convert it first: torch.tensor(x)."
        )
    with torch.no_grad():
        twin = copy.deepcopy(_module(model))
        with activations(twin, names, of=of) as recorded:
            twin(x)
    return {name: tensors[-1].numpy() for name, tensors in recorded.items()}


def summarize(values: np.ndarray, *, q: tuple[float, ...] = (15, 50, 85)) -> Summary:
    """Return mean, standard deviation and percentiles of each unit over the examples.

    Parameters
    ----------
    values : numpy.ndarray
        Floats of shape (N, units), one row per example.
    q : tuple of float
        Percentiles between 0 and 100; by default those of Figure 1 of Ioffe & Szegedy 2015.

    Returns
    -------
    Summary
        Mean, standard deviation and percentiles of each unit.

    Raises
    ------
    TypeError
        If `values` is not a NumPy array of floats.
    ValueError
        If `values` is not two-dimensional or holds NaN or Inf, or a percentile is outside [0, 100].

    Examples
    --------
    >>> summary = summarize(np.array([[0.0], [1.0], [2.0]]), q=(50,))
    >>> summary.mean.tolist(), summary.percentiles.tolist()
    ([1.0], [[1.0]])
    """
    _rows_of_units("values", values)
    if not all(0 <= percentile <= 100 for percentile in q):
        raise ValueError(
            f"q is {tuple(q)}; expected percentiles between 0 and 100. Write the median as 50, not 0.5."
        )
    return Summary(
        mean=values.mean(axis=0),
        std=values.std(axis=0),
        percentiles=np.percentile(values, q, axis=0),
        q=tuple(q),
    )


def drift(before: np.ndarray, after: np.ndarray) -> Drift:
    r"""Measure how far each unit's distribution moved.

    With :math:`\mu, \sigma` the mean and standard deviation before and :math:`\mu', \sigma'` after,

    .. math:: \frac{|\mu' - \mu|}{\sigma}, \qquad \left|\ln\frac{\sigma'}{\sigma}\right|, \qquad
              \frac{W_1}{\sigma} = \frac{1}{N\sigma} \sum_{i=1}^{N} |a'_{(i)} - a_{(i)}|

    where :math:`a_{(i)}` is the i-th smallest value. The earth mover's distance :math:`W_1` sees
    every change of shape; it is at least the mean's shift, and zero only for equal distributions.

    Parameters
    ----------
    before, after : numpy.ndarray
        Floats of shape (N, units): each unit's values over the same N examples. They are compared as
        distributions, so the order of the rows does not matter.

    Returns
    -------
    Drift
        Arrays of shape (units,): the three above, and :math:`W_1` itself. A ratio to :math:`\sigma`
        does not depend on the unit of measurement, but is large for what was nearly constant;
        :math:`W_1` says how far the next nonlinearity is driven along its own curve.

    Raises
    ------
    TypeError
        If an argument is not a NumPy array of floats.
    ValueError
        If the shapes differ, a value is NaN or Inf, or a unit is constant before or after: then no
        spread can be compared.

    Examples
    --------
    >>> moved = drift(np.array([[-1.0], [1.0]]), np.array([[2.0], [0.0]]))
    >>> [float(v[0]) for v in (moved.mean_shift, moved.log_std_ratio, moved.wasserstein)]
    [1.0, 0.0, 1.0]
    """
    _rows_of_units("before", before)
    _rows_of_units("after", after)
    if before.shape != after.shape:
        raise ValueError(
            f"before has shape {before.shape} and after {after.shape}; expected equal shapes. "
            "Observe both on the same examples."
        )
    # The standard deviation cannot tell: for a repeated 0.1 it is rounding error, not 0.
    constant = np.flatnonzero((np.ptp(before, axis=0) == 0) | (np.ptp(after, axis=0) == 0))
    if constant.size:
        raise ValueError(
            f"unit {constant[0]} (and {constant.size - 1} more) is constant over the examples; expected "
            "some spread to measure the drift by. Leave such units out, e.g. dead ReLU units."
        )
    sigma, sigma_after = before.std(axis=0), after.std(axis=0)
    gap = np.abs(np.sort(after, axis=0) - np.sort(before, axis=0)).mean(axis=0)
    return Drift(
        mean_shift=np.abs(after.mean(axis=0) - before.mean(axis=0)) / sigma,
        log_std_ratio=np.abs(np.log(sigma_after / sigma)),
        wasserstein=gap / sigma,
        distance=gap,
    )


def _rows_of_units(name: str, values: np.ndarray) -> None:
    """Refuse all but finite floats of shape (examples, units)."""
    _validate.float_array(name, values)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(
            f"{name} has shape {np.shape(values)}; expected (examples, units) with at least one example. "
            f"For one unit use {name}[:, None]; for a convolution move the channels last and flatten."
        )
    _validate.finite(name, values)
