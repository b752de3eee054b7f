r"""Normalization outside the gradient step, and what it does to the parameters in front of it.

One scalar layer, trained by gradient descent on the whole sample:

.. math::

    x = a u + b, \qquad \hat x = \frac{x - \mathrm{E}[x]}{\mathrm{std}[x]}, \qquad
    y = \gamma \hat x + \beta, \qquad \ell = \mathrm{E}\left[(y - t)^2\right].

The naive gradient holds :math:`\mathrm{E}[x]` and :math:`\mathrm{std}[x]` constant; the right one
differentiates through them. A *variant* says which statistics are used and what is trained.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bnlab._validate import finite, float_array, integer, number
from bnlab.chapters.naive_failure.results import NaiveRun

__all__ = [
    "VARIANTS",
    "Gradients",
    "gradients",
    "predicted_bias",
    "predicted_scale",
    "scale_push",
    "stalling_bias",
    "train",
]

VARIANTS = {
    "center": ("b",),
    "center_beta": ("b", "beta"),
    "scale": ("a",),
    "center_scale": ("a", "b"),
    "center_scale_affine": ("a", "b", "gamma", "beta"),
}
"""Each variant's name and the parameters it trains; the others stay at their start."""


class Gradients(NamedTuple):
    """The layer's output, its loss and the gradients of the loss at one setting of the parameters."""

    x_hat: np.ndarray
    loss: np.floating
    a: np.floating
    b: np.floating
    gamma: np.floating
    beta: np.floating


def gradients(
    u: np.ndarray,
    t: np.ndarray,
    *,
    variant: str = "center",
    a: float = 1.0,
    b: float = 0.0,
    gamma: float = 1.0,
    beta: float = 0.0,
    through_statistics: bool = False,
) -> Gradients:
    r"""Compute output, loss and gradients of the normalized layer, the naive way or the right way.

    With :math:`g = \partial \ell / \partial \hat x` (one number a sample) and
    :math:`s = \mathrm{std}[x]`,

    .. math::

        \text{naive:}\quad \frac{\partial \ell}{\partial x} = \frac{g}{s}, \qquad
        \text{through the statistics:}\quad
        \frac{\partial \ell}{\partial x}
            = \frac{1}{s}\left(g - \mathrm{E}[g] - \hat x \, \mathrm{E}[g \hat x]\right),

    where a variant that does not center drops :math:`\mathrm{E}[x]` and :math:`\mathrm{E}[g]` (its
    :math:`\hat x` keeps a mean, and the last factor is centered instead), and one that does not
    scale drops :math:`s` and the last term. Then
    :math:`\partial\ell/\partial a = \sum u\,\partial\ell/\partial x` and
    :math:`\partial\ell/\partial b = \sum \partial\ell/\partial x`.

    Parameters
    ----------
    u, t : ndarray, shape (n,)
        Inputs and targets of the whole sample, of one floating dtype; all arithmetic is done in it.
    variant : str
        One of `VARIANTS`: which statistics normalize :math:`x`.
    a, b, gamma, beta : float
        The parameters: scale and bias before the normalization, scale and bias after it.
    through_statistics : bool
        False treats the statistics as constants (the naive way); True differentiates through them.

    Returns
    -------
    Gradients
        ``x_hat`` (shape (n,)), ``loss``, and the gradient of the loss with respect to
        ``a, b, gamma, beta``, whether or not the variant trains them.

    Raises
    ------
    TypeError
        If `u` or `t` is not a floating array, or their dtypes differ.
    ValueError
        If shapes differ, a value is not finite, the variant is unknown, or :math:`x` is constant
        where it must be scaled.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 2.

    Examples
    --------
    >>> u, t = np.array([-1.0, 0.0, 1.0]), np.array([0.0, 1.0, 2.0])
    >>> float(gradients(u, t).b), float(gradients(u, t, through_statistics=True).b)
    (-2.0, 0.0)
    """
    _check_sample(u, t)
    _check_one_dtype(u, t)
    _check_variant(variant)
    given = {"a": a, "b": b, "gamma": gamma, "beta": beta}
    values = {name: u.dtype.type(number(name, value)) for name, value in given.items()}
    return _gradients(u, t, variant, through_statistics, **values)


def train(
    u: np.ndarray,
    t: np.ndarray,
    *,
    variant: str = "center",
    lr: float = 0.1,
    steps: int = 100,
    b0: float = 0.0,
    a0: float = 1.0,
    dtype: Any = np.float64,
    through_statistics: bool = False,
) -> NaiveRun:
    r"""Run gradient descent on the normalized layer and record every state.

    .. math::

        \theta \leftarrow \theta - \mathrm{lr} \, \frac{\partial \ell}{\partial \theta}
        \quad\text{for the parameters } \theta \text{ that the variant trains.}

    Parameters
    ----------
    u, t : ndarray, shape (n,)
        Inputs and targets; floating, finite, of one shape, at least two samples.
    variant : {"center", "center_beta", "scale", "center_scale", "center_scale_affine"}
        Which statistics normalize and which parameters learn; see `VARIANTS`.
    lr : float
        Learning rate, above 0.
    steps : int
        Number of steps, at least 0.
    b0, a0 : float
        Where the bias and the scale start; ``gamma`` starts at 1 and ``beta`` at 0.
    dtype : floating dtype
        All data, parameters and arithmetic are rounded to it.
    through_statistics : bool
        False is the naive step; True differentiates through mean and standard deviation.

    Returns
    -------
    NaiveRun
        Parameters, gradients, loss and output change at each of the ``steps + 1`` states.

    Raises
    ------
    TypeError
        If an array or `dtype` is not floating.
    ValueError
        As `gradients`; also if ``lr <= 0``, ``steps < 0``, ``a0 == 0`` where the variant scales, or
        the scale lands on exactly zero during training.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 2.

    Examples
    --------
    >>> u, t = np.array([-1.0, 0.0, 1.0]), np.array([0.0, 1.0, 2.0])
    >>> run = train(u, t, lr=0.1, steps=3)
    >>> print(np.round(run.b, 6), np.round(run.loss, 6))
    [0.  0.2 0.4 0.6] [1. 1. 1. 1.]
    >>> print(train(u, t, steps=3, through_statistics=True).b)
    [0. 0. 0. 0.]
    """
    kind = _check_dtype(dtype)
    _check_sample(u, t)
    _check_variant(variant)
    _check_schedule(lr, steps)
    u, t, rate = u.astype(kind), t.astype(kind), kind(lr)
    a, b = kind(number("a0", a0)), kind(number("b0", b0))
    theta = {"a": a, "b": b, "gamma": kind(1), "beta": kind(0)}
    start = _gradients(u, t, variant, through_statistics, **theta).x_hat
    record: dict[str, list] = {name: [] for name in _RECORDED}
    for step in range(steps + 1):
        now = _gradients(u, t, variant, through_statistics, step=step, **theta)
        change = np.abs(now.x_hat - start).max()
        state = (*theta.values(), now.loss, change, now.a, now.b)
        for name, value in zip(_RECORDED, state, strict=True):
            record[name].append(value)
        for name in VARIANTS[variant]:
            theta[name] = theta[name] - rate * getattr(now, name)
    arrays = {name: np.array(values, dtype=kind) for name, values in record.items()}
    return NaiveRun(variant, float(lr), np.dtype(kind).name, through_statistics, **arrays)


def predicted_bias(
    t: np.ndarray, *, variant: str = "center", lr: float = 0.1, steps: int = 100, b0: float = 0.0
) -> np.ndarray:
    r"""Predict the naive bias after each step, in closed form, from the targets' mean alone.

    .. math::

        \text{center:}\quad b_k = b_0 + 2\,\mathrm{lr}\,\bar t\,k, \qquad
        \text{center\_beta:}\quad
        b_k = b_0 + \bar t\left(1 - (1 - 2\,\mathrm{lr})^k\right).

    Parameters
    ----------
    t : ndarray, shape (n,)
        Targets; only their mean matters.
    variant : {"center", "center_beta"}
        Without or with a learned ``beta`` (from 0) after the normalization.
    lr, steps, b0
        As in `train`. With ``center_beta`` the bias converges when ``0 < lr < 1``.

    Returns
    -------
    ndarray, shape (steps + 1,)
        The bias at every state, the start included.

    Raises
    ------
    TypeError, ValueError
        As `train`; also for a variant that scales, where no such formula exists.

    Notes
    -----
    Derived in Chapter 3 from Ioffe & Szegedy 2015, section 2.

    Examples
    --------
    >>> t = np.array([0.0, 1.0, 2.0])
    >>> print(np.round(predicted_bias(t, lr=0.1, steps=3), 6))
    [0.  0.2 0.4 0.6]
    >>> print(np.round(predicted_bias(t, variant="center_beta", lr=0.25, steps=3), 6))
    [0.    0.5   0.75  0.875]
    """
    _check_vector("t", t)
    _check_schedule(lr, steps)
    b0, k = number("b0", b0), np.arange(steps + 1)
    if variant == "center":
        return b0 + 2 * lr * t.mean() * k
    if variant == "center_beta":
        return b0 + t.mean() * (1 - (1 - 2 * lr) ** k)
    raise ValueError(
        f"variant is {variant!r}; a closed form for b exists for 'center' and 'center_beta'. "
        f"Use predicted_scale for a, or measure with train."
    )


def scale_push(u: np.ndarray, t: np.ndarray) -> float:
    r"""Return the constant :math:`G` of the naive gradient :math:`\partial\ell/\partial a = G/a`.

    .. math::

        G = 2\left(\mathrm{E}[\hat u^2] - \mathrm{E}[\hat u t]\right), \qquad
        \hat u = u / \mathrm{std}[u],

    for :math:`a > 0` and :math:`b = 0`, where the output is :math:`\hat u`. It is
    :math:`2(1 - \mathrm{cov}(\hat u, t))` when :math:`u` is centered. For
    :math:`a < 0` the output is :math:`-\hat u`: use ``scale_push(-u, t)``.

    Parameters
    ----------
    u, t : ndarray, shape (n,)
        Inputs and targets.

    Returns
    -------
    float
        Negative when the target asks for a larger output (:math:`a` grows), positive when it
        asks for a smaller one (:math:`a` shrinks).

    Raises
    ------
    TypeError, ValueError
        As `gradients`.

    Notes
    -----
    Derived in Chapter 3 from Ioffe & Szegedy 2015, section 2.

    Examples
    --------
    >>> u = np.array([-1.0, 1.0])
    >>> scale_push(u, 3 * u), scale_push(u, 0 * u)
    (-4.0, 2.0)
    """
    _check_sample(u, t)
    if np.ptp(u) == 0 or u.std() == 0:
        raise ValueError(_CONSTANT.format(where="the input u", value=float(u[0])))
    u_hat = u / u.std()
    return float(2 * (np.mean(u_hat**2) - np.mean(u_hat * t)))


def predicted_scale(
    u: np.ndarray, t: np.ndarray, *, lr: float = 0.1, steps: int = 100, a0: float = 1.0
) -> np.ndarray:
    r"""Predict the naive scale after each step, to first order in the learning rate.

    .. math::

        a_{k+1} = a_k - \mathrm{lr}\,\frac{G}{a_k}
        \quad\Rightarrow\quad
        a_{k+1}^2 = a_k^2 - 2\,\mathrm{lr}\,G + \left(\frac{\mathrm{lr}\,G}{a_k}\right)^2
        \quad\Rightarrow\quad
        a_k \approx \sqrt{a_0^2 - 2\,\mathrm{lr}\,G\,k},

    which is a lower bound as long as :math:`a` keeps its sign, because the dropped term is positive.

    Parameters
    ----------
    u, t : ndarray, shape (n,)
        Inputs and targets.
    lr, steps, a0
        As in `train`, with ``a0 > 0``.

    Returns
    -------
    ndarray, shape (steps + 1,)
        The scale at every state; NaN from the step at which the formula has run out, about
        :math:`a_0^2 / (2\,\mathrm{lr}\,G)` steps when :math:`G > 0`.

    Raises
    ------
    TypeError, ValueError
        As `train`; also if ``a0 <= 0``.

    Notes
    -----
    Derived in Chapter 3 from Ioffe & Szegedy 2015, section 2.

    Examples
    --------
    >>> u = np.array([-1.0, 1.0])
    >>> print(np.round(predicted_scale(u, 3 * u, lr=0.1, steps=3), 4))
    [1.     1.3416 1.6125 1.8439]
    """
    _check_schedule(lr, steps)
    if not number("a0", a0) > 0:
        raise ValueError(f"a0 is {a0}; expected above 0. For a negative start pass -u and -a0.")
    square = a0**2 - 2 * lr * scale_push(u, t) * np.arange(steps + 1)
    return np.sqrt(np.where(square >= 0, square, np.nan))


def stalling_bias(step: float, *, dtype: Any = np.float32) -> float:
    r"""Return where a number that grows by `step` at a time stops, because rounding swallows the step.

    .. math::

        b_\text{stall} = 2^k, \qquad k = p + \lceil \log_2 \text{step} \rceil,

    with p the digits of the significand (24 in float32): the first power of two whose half spacing
    :math:`2^{k-p}` is at least `step`. One binade below, the step is rounded up to one whole
    spacing, so that b lands on :math:`2^k` exactly.

    Parameters
    ----------
    step : float
        The constant growth, above 0.
    dtype : floating dtype
        In which every sum is rounded, to nearest.

    Returns
    -------
    float
        A power of two.

    Raises
    ------
    TypeError, ValueError
        If `dtype` is not floating, or `step` not above 0 or so large that b would overflow.

    Notes
    -----
    Derived in Chapter 3; the arithmetic is IEEE 754's.

    Examples
    --------
    >>> stalling_bias(1.0)  # counting in float32 ends at 2**24
    16777216.0
    """
    if not number("step", step) > 0:
        raise ValueError(f"step is {step}; expected above 0. For a falling bias pass -step.")
    kind = np.finfo(_check_dtype(dtype))
    exponent = kind.nmant + 1 + int(np.ceil(np.log2(step)))
    if exponent >= kind.maxexp:
        raise ValueError(
            f"step is {step}, so b would overflow {kind.dtype} before it stalls; expected a step of "
            f"at most {2.0 ** (kind.maxexp - kind.nmant - 2):.3g}. Use a wider dtype."
        )
    return 2.0**exponent


_RECORDED = ("a", "b", "gamma", "beta", "loss", "output_change", "grad_a", "grad_b")
_CONSTANT = (
    "{where} is constant (every value is {value:.6g}, or nearly), so its standard deviation is 0; expected values "
    "that differ, because scaling divides by it. Use variant='center', or another a0, lr or input."
)


def _gradients(u, t, variant, through_statistics, *, a, b, gamma, beta, step=0) -> Gradients:
    """Do what `gradients` says; arguments are checked and share one dtype."""
    center, scale = "center" in variant, "scale" in variant
    x = a * u + b
    mean, std = x.mean(), x.std() if scale else x.dtype.type(1)
    if scale and (x.min() == x.max() or std == 0):  # few digits lose a small variance to 0
        raise ValueError(_CONSTANT.format(where=f"x = a*u + b at step {step}", value=float(x[0])))
    x_hat = (x - mean if center else x) / std
    error = gamma * x_hat + beta - t
    g = 2 * gamma * error  # n times the loss's gradient at x_hat; every sum below is a mean
    dx = g / std
    if through_statistics and scale:
        dx = dx - (x - mean) / std**2 * (g * x_hat).mean()
    if through_statistics and center:
        dx = dx - dx.mean()
    return Gradients(
        x_hat=x_hat,
        loss=(error**2).mean(),
        a=(dx * u).mean(),
        b=dx.mean(),
        gamma=(2 * error * x_hat).mean(),
        beta=(2 * error).mean(),
    )


def _check_sample(u: np.ndarray, t: np.ndarray) -> None:
    _check_vector("u", u)
    _check_vector("t", t)
    if u.shape != t.shape:
        raise ValueError(
            f"u has shape {u.shape} and t has {t.shape}; expected one target for each input. "
            f"Trim the longer one."
        )


def _check_one_dtype(u: np.ndarray, t: np.ndarray) -> None:
    if u.dtype != t.dtype:
        raise TypeError(
            f"u has dtype {u.dtype} and t has {t.dtype}; expected one dtype, in which all arithmetic "
            f"is done. Convert one of them: t.astype(u.dtype)."
        )


def _check_vector(name: str, value: np.ndarray) -> None:
    float_array(name, value)
    if value.ndim != 1 or value.size < 2:
        raise ValueError(
            f"{name} has shape {value.shape}; expected (n,) with n >= 2, one value a sample. "
            f"Flatten it with {name}.ravel(), or give more samples."
        )
    finite(name, value)


def _check_variant(variant: str) -> None:
    if variant not in VARIANTS:
        raise ValueError(
            f"variant is {variant!r}; expected one of {', '.join(map(repr, VARIANTS))}. "
            f"Pick the statistics and parameters you want from that list."
        )


def _check_schedule(lr: float, steps: int) -> None:
    if not number("lr", lr) > 0:
        raise ValueError(f"lr is {lr}; expected a number above 0. Try lr=0.1.")
    integer("steps", steps, low=0)


def _check_dtype(dtype: Any) -> type[np.floating]:
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(
            f"dtype is {dtype!r}, which NumPy does not know; expected a floating dtype. "
            f"Use np.float64, np.float32 or np.float16."
        ) from error
    if not np.issubdtype(kind, np.floating):
        raise TypeError(
            f"dtype is {kind}; expected a floating dtype, because integers cannot hold the steps. "
            f"Use np.float64, np.float32 or np.float16."
        )
    return kind.type
