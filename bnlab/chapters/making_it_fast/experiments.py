"""Chapter 14: the same layer written in faster and faster ways, and what each of them moves."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bnlab.chapters.making_it_fast import _traffic, blocked
from bnlab.chapters.making_it_fast.results import BOTH, EnsembleSpeed, SpeedTable, Traffic
from bnlab.stats import Table

__all__ = [
    "AIMS",
    "FORMS",
    "STORED",
    "STORED_ENSEMBLE",
    "Aim",
    "Form",
    "aims_table",
    "batch",
    "ensemble_aims",
    "intensity",
    "peak_memory",
    "ratio_table",
    "traffic",
]

STORED = "making_it_fast_speed.npz"  # written by: python -m benchmarks --save book/results/STORED
STORED_ENSEMBLE = "making_it_fast_ensemble.npz"  # likewise, by: python -m benchmarks.ensemble


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
    dmu = (-dx_hat / np.sqrt(var + eps)).sum(**over)
    dmu = dmu + dvar * (-2 * (x - mu)).sum(**over) / m
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
    m = dy.size // dy.shape[1]
    dbeta, dgamma = dy.sum(_axes(dy)), _dot(dy, x_hat)
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
    "in blocks": Form(blocked.forward, blocked.backward),
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


def traffic(form: str, *, shape: Sequence[int] = (4096, 1024), cache: int = 2**21) -> Traffic:
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
        forward, backward = FORMS[form].forward, FORMS[form].backward
        if form == "in blocks":  # it makes its own arrays, unless it is given some that count
            forward, backward = partial(forward, out=new[:2]), partial(backward, out=new[2])
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


def intensity(rows: int, inputs: int, outputs: int, *, itemsize: int = 4) -> float:
    """Return flop per byte of a linear layer's forward pass, each array moved once.

    Examples
    --------
    >>> round(intensity(1, 1000, 1000), 2)
    0.5
    """
    moved = itemsize * (rows * inputs + inputs * outputs + rows * outputs)
    return 2 * rows * inputs * outputs / moved


def peak_memory(form: str, *, shape: Sequence[int] = (4096, 256)) -> float:
    """Return the most memory that a form takes for itself at one time, in arrays of the size of x.

    Examples
    --------
    >>> peak_memory("textbook") > peak_memory("in place")
    True
    """
    x, gamma, beta, dy = batch(shape)
    tracemalloc.start()
    try:
        _, saved = FORMS[form].forward(x, gamma, beta)
        FORMS[form].backward(dy, saved)
        return tracemalloc.get_traced_memory()[1] / x.nbytes
    finally:
        tracemalloc.stop()


def ratio_table(
    table: SpeedTable, names: Sequence[str], *, kind: str = BOTH, threads: int = 1
) -> Table:
    """Write the ratios of some contestants as text, a column for each shape."""
    columns = {"program": names}
    for j, shape in enumerate(table.shapes):
        cells = [table.of(table.ratio, name, kind, threads)[j] for name in names]
        columns[_size(shape)] = ["–" if np.isnan(v) else f"{v:.2f}" for v in cells]
    return Table(columns)


@dataclass(frozen=True)
class Aim:
    """A ratio to torch native, forward and backward, that was to be reached."""

    contestant: str
    most: float
    shapes: Callable[[tuple[int, ...]], bool]
    where: str
    mean: bool = False  # the geometric mean over the shapes, instead of each of them


def _small(shape: tuple[int, ...]) -> bool:
    return shape == (60, 100)


AIMS = (
    Aim("NumPy in blocks", 0.8, _small, "at 60×100"),
    Aim("NumPy in blocks", 3.0, lambda s: not _small(s), "elsewhere"),
    Aim("bnlab.nn", 2.0, lambda s: True, "everywhere"),
    Aim("bnlab.nn, compiled", 0.75, lambda s: len(s) > 2, "for images"),
    Aim("bnlab.nn, compiled", 2.6, lambda s: len(s) == 2, "elsewhere"),
    Aim("bnlab.nn, kernels", 1.0, lambda s: True, "everywhere"),
    Aim("bnlab.nn, kernels", 0.5, lambda s: True, "geometric mean", mean=True),
)


def aims_table(table: SpeedTable) -> tuple[Table, int]:
    """Say of each aim whether it is reached with each number of threads; count those that always are.

    Returns
    -------
    (str, int)
    """
    columns = {
        "program": [aim.contestant for aim in AIMS],
        "where": [aim.where for aim in AIMS],
        "at most": [f"{aim.most:g}" for aim in AIMS],
    }
    reached = np.ones(len(AIMS), bool)
    for threads in table.threads:
        found = np.array([_value(aim, table, threads) for aim in AIMS])
        held = found <= [aim.most for aim in AIMS]
        cells = [
            f"{v:.2f} {'reached' if h else 'not reached'}" for v, h in zip(found, held, strict=True)
        ]
        columns[f"{threads} thread{'s' if threads > 1 else ''}"] = cells
        reached &= held
    return Table(columns), int(reached.sum())


def ensemble_aims(speed: EnsembleSpeed) -> Table:
    """Say of each aim for training many networks at once whether it is reached in each arm."""
    at = list(speed.members).index(speed.chosen)
    rows = (
        (f"cost of a seed, {speed.chosen} together, of eager", "<=", 0.45, speed.cost[:, at, 1]),
        ("share of the rate of bare products", ">=", 0.5, speed.share[:, 1]),
        (f"{speed.processes} processes over one eager one", ">=", 3.5, speed.machine[:, 1]),
    )
    columns = {"what": [row[0] for row in rows], "aim": [f"{row[1]} {row[2]:g}" for row in rows]}
    for i, arm in enumerate(speed.arms):
        held = [
            value[i] <= aim if sign == "<=" else value[i] >= aim for _, sign, aim, value in rows
        ]
        columns[arm] = [
            f"{row[3][i]:.2f} {'reached' if h else 'not reached'}"
            for row, h in zip(rows, held, strict=True)
        ]
    return Table(columns)


def _value(aim: Aim, table: SpeedTable, threads: int) -> float:
    """Return the largest ratio of the aim's shapes, or their geometric mean."""
    chosen = [aim.shapes(shape) for shape in table.shapes]
    ratio = table.of(table.ratio, aim.contestant, BOTH, threads)[chosen]
    return float(np.exp(np.log(ratio).mean()) if aim.mean else ratio.max())


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
