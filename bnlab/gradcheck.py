r"""Check a hand-written backward pass against its forward pass, without deriving anything.

A loss that weighs every output with a random number (a random *cotangent*) sees each entry of the
Jacobian, and one random direction in the input tests all its entries at once.

Why not simply sum the outputs? For Batch Normalization that check is vacuous: over a batch,
:math:`\sum_i \hat{x}_i = 0` whatever ``x`` is, so the loss :math:`\sum_i y_i = m \beta` has a
gradient of exactly zero with respect to ``x`` and ``gamma``. A backward pass that drops a term, or
returns zeros, would pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bnlab import _validate

__all__ = ["check_gradient", "directional_error"]


class _Comparison(NamedTuple):
    """One derivative along a random direction, by finite differences and by the backward pass."""

    numeric: float
    analytic: float
    error: float


def directional_error(
    forward: Callable[..., np.ndarray],
    backward: Callable[..., Sequence[np.ndarray]],
    *inputs: np.ndarray,
    seed: int = 0,
    step: float | None = None,
) -> tuple[float, ...]:
    r"""Return, for each input, the relative error of its gradient along one random direction.

    With a random cotangent :math:`w` (the ``dy`` of the backward pass) and a random direction
    :math:`v` for the input :math:`x`, the two numbers compared are

    .. math::

       \frac{\langle w, f(x + h v) - f(x - h v) \rangle}{2 h}
       \qquad \text{and} \qquad
       \Big\langle \frac{\partial \langle w, f(x) \rangle}{\partial x}, v \Big\rangle ,

    and their difference is divided by the larger of the first number and the norm of the gradient.
    A difference that rounding of ``y`` alone explains counts as zero.

    Parameters
    ----------
    forward : callable
        ``forward(*inputs) -> y``, an array of floats or one float (a loss). Return ``y`` alone,
        without a cache.
    backward : callable
        ``backward(dy, *inputs) -> (gradient, ...)``, one gradient of the shape of each input.
    *inputs : numpy.ndarray
        Where to check; float64, because dividing by a small step multiplies the rounding error of
        float32 to about one percent. The functions receive copies.
    seed : int
        Seed of the cotangent and the directions.
    step : float, optional
        The step h. By default the cube root of the float64 resolution, about 6e-6, times the
        spread of the input: the best compromise of truncation and rounding.

    Returns
    -------
    tuple of float
        One relative error per input: about 1e-9 for a right gradient, near 1 for a wrong one.

    Raises
    ------
    TypeError
        If an input, ``y`` or a gradient is not an array of floats, or an input is not float64.
    ValueError
        If there is no input, one is empty, an input or ``y`` holds NaN or Inf, ``backward`` returns
        another number of gradients or another shape, or ``step`` is not positive.

    Notes
    -----
    Source: central differences with a random cotangent, like the gradient checks of HIPS/autograd.

    Examples
    --------
    >>> x = np.linspace(1.0, 2.0, 5)
    >>> (error,) = directional_error(np.square, lambda dy, x: (2 * x * dy,), x)
    >>> error < 1e-8
    True
    >>> (error,) = directional_error(np.square, lambda dy, x: (x * dy,), x)  # the 2 is missing
    >>> error > 0.1
    True
    """
    return tuple(c.error for c in _compare(forward, backward, inputs, seed, step))


def check_gradient(
    forward: Callable[..., np.ndarray],
    backward: Callable[..., Sequence[np.ndarray]],
    *inputs: np.ndarray,
    tolerance: float = 1e-6,
    seeds: Sequence[int] = (0, 1, 2),
    names: Sequence[str] = (),
    step: float | None = None,
) -> None:
    r"""Raise an AssertionError that names the input whose gradient is wrong, if there is one.

    For each seed, :func:`directional_error` must be at most the tolerance for every input:

    .. math::

       \Big| \frac{\langle w, f(x + h v) - f(x - h v) \rangle}{2 h}
       - \langle \nabla_x, v \rangle \Big| \le \text{tolerance} \times \text{size of the gradient}

    Parameters
    ----------
    forward, backward : callable
        As in :func:`directional_error`.
    *inputs : numpy.ndarray
        As in :func:`directional_error`.
    tolerance : float
        Largest relative error to accept.
    seeds : sequence of int
        One random cotangent and direction each.
    names : sequence of str
        Names of the inputs, for the message.
    step : float, optional
        As in :func:`directional_error`.

    Raises
    ------
    AssertionError
        If a gradient is wrong: says which, both numbers and the relative error.
    TypeError, ValueError
        As :func:`directional_error`; also if ``seeds`` is empty, ``tolerance`` is not positive, or
        there are not as many names as inputs.

    Notes
    -----
    Source: central differences with a random cotangent, like the gradient checks of HIPS/autograd.

    Examples
    --------
    >>> x = np.linspace(1.0, 2.0, 5)
    >>> check_gradient(np.square, lambda dy, x: (2 * x * dy,), x)
    >>> check_gradient(np.square, lambda dy, x: (-2 * x * dy,), x, names=["x"])
    Traceback (most recent call last):
        ...
    AssertionError: the gradient of x is wrong: ...
    """
    tolerance = _positive("tolerance", tolerance)
    if isinstance(seeds, int):
        raise TypeError(f"seeds is {seeds}; expected a sequence of seeds. Pass seeds=({seeds},).")
    if len(seeds) == 0:
        raise ValueError("seeds is empty, so nothing would be checked; expected at least one seed.")
    names = tuple(names) or tuple(f"input {i}" for i in range(len(inputs)))
    if len(names) != len(inputs):
        raise ValueError(
            f"names has {len(names)} entries for {len(inputs)} inputs; expected one name per input."
        )
    for seed in seeds:
        comparisons = _compare(forward, backward, inputs, seed, step)
        for name, (numeric, analytic, error) in zip(names, comparisons, strict=True):
            if not error <= tolerance:  # written so that NaN fails
                raise AssertionError(
                    f"the gradient of {name} is wrong: along a random direction backward gives "
                    f"{analytic:.6g}, finite differences give {numeric:.6g}; relative error "
                    f"{error:.2g}, tolerance {tolerance:.2g}, seed {seed}."
                )


def _compare(forward, backward, inputs, seed, step) -> list[_Comparison]:
    """Differentiate by each input along one random direction, in both ways."""
    for i, x in enumerate(inputs):
        _check_input(f"input {i}", x)
    if not inputs:
        raise ValueError("no input was given; expected at least one array to differentiate by.")
    if step is not None:
        step = _positive("step", step)
    rng = np.random.default_rng(seed)
    y = _call(forward, inputs)
    dy = rng.standard_normal(y.shape)
    # y is rounded to its last digit, so the numeric side can be off by this much over the step.
    rounding = float(np.finfo(float).eps * np.abs(dy * y).sum())
    gradients = _gradients(backward, dy, inputs)
    comparisons = []
    for i, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        v = rng.standard_normal(x.shape)
        h = _default_step(x) if step is None else step
        ahead, behind = (
            _call(forward, (*inputs[:i], x + signed * v, *inputs[i + 1 :])) for signed in (h, -h)
        )
        numeric = float((dy * (ahead - behind)).sum()) / (2 * h)
        analytic = float((gradient * v).sum())
        gap = max(abs(numeric - analytic) - rounding / h, 0.0)
        size = max(abs(numeric), float(np.linalg.norm(gradient)))
        # Not the analytic number but the norm: along a random direction the number can be tiny by chance.
        comparisons.append(_Comparison(numeric, analytic, gap / size if gap else 0.0))
    return comparisons


def _default_step(x: np.ndarray) -> float:
    """Scale the step to the spread of x, which is what a normalization layer reacts to."""
    scale = max(float(x.std()), 0.01 * float(np.abs(x).max())) or 1.0
    return float(np.cbrt(np.finfo(float).eps)) * scale


def _call(forward, inputs) -> np.ndarray:
    """Run the forward pass on copies of the inputs; raise if its result is not finite floats."""
    y = _array("the result of forward", forward(*(x.copy() for x in inputs)))
    if not np.isfinite(y).all():
        raise ValueError(
            "the result of forward contains NaN or Inf, so its differences say nothing; expected "
            "finite numbers. Check at inputs where forward is defined, away from poles and overflow."
        )
    return y


def _array(name: str, value: object) -> np.ndarray:
    """Return an array of floats; a float counts, because NumPy turns arrays without axes into scalars."""
    return _validate.float_array(name, np.asarray(value) if isinstance(value, float) else value)


def _gradients(backward, dy, inputs) -> Sequence[np.ndarray]:
    """Run the backward pass on copies; raise unless it returns one gradient of the shape of each input."""
    gradients = backward(dy.copy(), *(x.copy() for x in inputs))
    if not isinstance(gradients, tuple | list) or len(gradients) != len(inputs):
        given = (
            f"{len(gradients)} gradient(s)"
            if isinstance(gradients, tuple | list)
            else f"a {type(gradients).__name__}"
        )
        raise ValueError(
            f"backward returned {given}; expected a tuple of {len(inputs)}, one gradient per input. "
            f"For a single input, return (dx,)."
        )
    gradients = [_array(f"gradient {i}", gradient) for i, gradient in enumerate(gradients)]
    for i, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        if gradient.shape != x.shape:
            raise ValueError(
                f"gradient {i} has shape {gradient.shape}; expected {x.shape}, the shape of input "
                f"{i}. Sum over the axes along which that input was broadcast."
            )
    return gradients


def _check_input(name: str, x: object) -> None:
    x = _validate.float_array(name, x)
    if x.dtype != np.float64:
        raise TypeError(
            f"{name} has dtype {x.dtype}; expected float64, because a finite difference divides the "
            f"rounding error of y by a small step. Convert it first: x.astype(np.float64)."
        )
    if x.size == 0:
        raise ValueError(f"{name} has shape {x.shape}, which holds no values; expected some.")
    _validate.finite(name, x)


def _positive(name: str, value: object) -> float:
    value = _validate.number(name, value)
    if value <= 0:
        raise ValueError(f"{name} is {value}; expected a positive number.")
    return value
