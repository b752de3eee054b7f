"""Chapter 14: the same layer written in faster and faster ways, and what each of them moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bnlab.experiments import _traffic
from bnlab.reference import batch_norm_backward, batch_norm_forward
from bnlab.results import Traffic

__all__ = ["FORMS", "Form", "batch", "floor_bytes", "growth_exponent", "intensity", "traffic"]


@dataclass(frozen=True)
class Form:
    """One way to write the layer: forward(x, gamma, beta) -> (y, saved), backward(dy, saved)."""

    forward: Callable[..., tuple]
    backward: Callable[..., tuple]


def _axes(x: np.ndarray) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _along(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    axes = list(range(a.ndim))
    return np.einsum(a, axes, b, axes, [1])


def _textbook_forward(x, gamma, beta, eps=1e-5):
    mu = _along(x.mean(_axes(x)), x)
    var = ((x - mu) ** 2).mean(_axes(x), keepdims=True)
    x_hat = (x - mu) / np.sqrt(var + eps)
    y = _along(gamma, x) * x_hat + _along(beta, x)
    return y, (x, x_hat, mu, var, _along(gamma, x), eps)


def _textbook_backward(dy, saved):
    x, x_hat, mu, var, gamma, eps = saved
    m, over = x.size // x.shape[1], {"axis": _axes(x), "keepdims": True}
    dx_hat = dy * gamma
    dvar = (dx_hat * (x - mu) * -0.5 * (var + eps) ** -1.5).sum(**over)
    dmu = (-dx_hat / np.sqrt(var + eps)).sum(**over) + dvar * (-2 * (x - mu)).sum(**over) / m
    dx = dx_hat / np.sqrt(var + eps) + dvar * 2 * (x - mu) / m + dmu / m
    return dx, (dy * x_hat).sum(_axes(x)), dy.sum(_axes(x))


def _short_forward(x, gamma, beta, eps=1e-5):
    m = x.size // x.shape[1]
    c = x - _along(x.sum(_axes(x)) / m, x)
    inv_std = 1 / np.sqrt(_dot(c, c) / m + eps)
    x_hat = c * _along(inv_std, x)
    return x_hat * _along(gamma, x) + _along(beta, x), (x_hat, gamma * inv_std)


def _short_backward(dy, saved):
    x_hat, scale = saved
    m, dbeta, dgamma = dy.size // dy.shape[1], dy.sum(_axes(dy)), _dot(dy, x_hat)
    projection = x_hat * _along(dgamma / m, dy)
    dx = (dy - _along(dbeta / m, dy) - projection) * _along(scale, dy)
    return dx, dgamma, dbeta


def _in_place_forward(x, gamma, beta, eps=1e-5):
    m = x.size // x.shape[1]
    x_hat = x - _along(x.sum(_axes(x)) / m, x)
    inv_std = 1 / np.sqrt(_dot(x_hat, x_hat) / m + eps)
    x_hat *= _along(inv_std, x)
    y = x_hat * _along(gamma, x)
    y += _along(beta, x)
    return y, (x_hat, gamma * inv_std)


def _in_place_backward(dy, saved):
    x_hat, scale = saved
    m, dbeta, dgamma = dy.size // dy.shape[1], dy.sum(_axes(dy)), _dot(dy, x_hat)
    dx = x_hat * _along(dgamma / -m, dy)
    dx += dy
    dx -= _along(dbeta / m, dy)
    dx *= _along(scale, dy)
    return dx, dgamma, dbeta


FORMS = {
    "textbook": Form(_textbook_forward, _textbook_backward),
    "fewer passes": Form(_short_forward, _short_backward),
    "in place": Form(_in_place_forward, _in_place_backward),
    "in blocks": Form(batch_norm_forward, batch_norm_backward),
}


def batch(shape: Sequence[int], *, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return float32 x, gamma, beta and dy to work on.

    Examples
    --------
    >>> [a.shape for a in batch((4, 3, 2))]
    [(4, 3, 2), (3,), (3,), (4, 3, 2)]
    """
    rng = np.random.default_rng(seed)
    x, dy = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    x = 1 + 2 * x
    gamma = rng.uniform(0.5, 2, shape[1]).astype(np.float32)
    return x, gamma, rng.standard_normal(shape[1], dtype=np.float32), dy


def traffic(form: str, *, shape: Sequence[int] = (4096, 1024), cache: int = 2**20) -> Traffic:
    """Run a form on arrays that count what is done to them.

    Parameters
    ----------
    form : str
        A key of `FORMS`.
    shape : sequence of int
        Of x.
    cache : int
        Size in bytes of an ideal cache: it keeps what was used last, and writes back what changed.

    Returns
    -------
    Traffic

    Examples
    --------
    >>> result = traffic("in place", shape=(1000, 10), cache=1)
    >>> result.touched == result.moved
    True
    """
    x, gamma, beta, dy = batch(shape)
    with _traffic.counting(cache, small=4 * len(gamma)) as count:
        x, dy, *new = (count.watch(a) for a in (x, dy, *np.empty((3, *shape), x.dtype)))
        into = {"out": tuple(new[:2])}, {"out": new[2]}
        forward, backward = FORMS[form].forward, FORMS[form].backward
        if form == "in blocks":  # it makes its own arrays, unless it is given some that count
            forward, backward = partial(forward, **into[0]), partial(backward, **into[1])
        y, saved = forward(x, gamma, beta)
        kept = (y, *backward(dy, saved))  # so that results reach memory in the end
    del kept
    return Traffic(
        form=form,
        shape=tuple(shape),
        cache=cache,
        calls=count.calls,
        flops=count.flops,
        touched=count.touched,
        moved=count.moved,
    )


def floor_bytes(shape: Sequence[int], *, itemsize: int = 4) -> int:
    """Return the bytes that forward and backward cannot avoid: read x, write y; read x and dy, write dx.

    Examples
    --------
    >>> floor_bytes((10, 5))
    1000
    """
    return 5 * itemsize * int(np.prod(shape))


def intensity(rows: int, inputs: int, outputs: int, *, itemsize: int = 4) -> float:
    """Return flop per byte of a linear layer's forward pass, each array moved once.

    Examples
    --------
    >>> round(intensity(1, 1000, 1000), 2)
    0.5
    """
    moved = itemsize * (rows * inputs + inputs * outputs + rows * outputs)
    return 2 * rows * inputs * outputs / moved


def growth_exponent(sizes: np.ndarray, times: np.ndarray) -> float:
    """Return p of the least-squares fit times ~ sizes^p.

    Examples
    --------
    >>> growth_exponent(np.array([1, 2, 4]), np.array([3.0, 12.0, 48.0])).round(6)
    2.0
    """
    return np.polyfit(np.log(sizes), np.log(times), 1)[0]
