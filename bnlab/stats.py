"""Means over seeds, how far to trust them, and tables of them as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

__all__ = ["Interval", "Table", "growth_exponent", "steps_to", "t_interval"]


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; prints as ``mean [low, high]``.

    Attributes
    ----------
    mean, low, high : numpy.ndarray
        The mean and the two ends of its interval, all of one shape.

    Examples
    --------
    >>> interval = Interval(mean=np.array(0.5), low=np.array(0.25), high=np.array(1.0))
    >>> interval
    0.5 [0.25, 1]
    >>> interval.bars
    array([0.25, 0.5 ])
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def bars(self) -> np.ndarray:
        """How far the ends are from the mean, low end first: the error bars of matplotlib."""
        return np.stack([self.mean - self.low, self.high - self.mean])

    def __repr__(self) -> str:
        return (
            f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"
            if self.mean.ndim == 0
            else (f"Interval of {self.mean.shape} means")
        )


def t_interval(
    samples: np.ndarray, *, confidence: float = 0.95, geometric: bool = False
) -> Interval:
    r"""Return the mean over the first axis (the seeds) and its Student-t confidence interval.

    .. math:: \bar s \pm t_{n-1} \sqrt{\frac{1}{n (n-1)} \sum_{i=1}^{n} (s_i - \bar s)^2}

    The interval is about the mean over seeds, not about one run. It assumes samples that are
    independent and not very skewed; for values that spread over powers of ten take a geometric mean.

    Parameters
    ----------
    samples : numpy.ndarray
        Shape (n, ...), one entry per seed, ``n >= 2``.
    confidence : float
        Between 0 and 1.
    geometric : bool
        Take the mean and interval of the logarithms, and the exponential of the three; samples must
        then be positive.

    Returns
    -------
    Interval
        Its arrays have the shape of one sample.

    Raises
    ------
    ValueError
        If there are fewer than two samples, `confidence` is not between 0 and 1, or a sample of a
        geometric mean is not positive.

    Examples
    --------
    >>> t_interval(np.array([1.0, 2.0, 3.0]))
    2 [-0.484, 4.48]
    """
    samples = np.asarray(samples, dtype=float)
    n = len(samples) if samples.ndim else 1
    if n < 2:
        raise ValueError(
            f"samples holds {n} seed(s); expected at least 2, because one run says nothing about "
            "the spread. Run more seeds."
        )
    if not 0 < confidence < 1:
        raise ValueError(
            f"confidence is {confidence}; expected a number between 0 and 1, e.g. 0.95."
        )
    if geometric:
        if not (samples > 0).all():
            raise ValueError(
                f"the smallest sample is {samples.min():g}; expected positive samples for a geometric mean."
            )
        logs = t_interval(np.log(samples), confidence=confidence)
        return Interval(*(np.exp(v) for v in (logs.mean, logs.low, logs.high)))
    mean = samples.mean(axis=0)
    half = _t_quantile(confidence, n - 1) * samples.std(axis=0, ddof=1) / np.sqrt(n)
    return Interval(
        mean=np.asarray(mean), low=np.asarray(mean - half), high=np.asarray(mean + half)
    )


def growth_exponent(sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    r"""Return the power p with which values grow with sizes: the slope of their logarithms, by least squares.

    .. math:: v \propto s^p

    Parameters
    ----------
    sizes : array of shape (n,)
        Positive, at least two of them different.
    values : array of shape (..., n)
        Positive.

    Returns
    -------
    numpy.ndarray
        Shape (...).

    Examples
    --------
    >>> growth_exponent([1, 2, 4], [[3.0, 12.0, 48.0], [5.0, 10.0, 20.0]]).round(6).tolist()
    [2.0, 1.0]
    """
    logs = np.log(np.asarray(sizes, dtype=float))
    centered = logs - logs.mean()
    return np.log(np.asarray(values, dtype=float)) @ centered / (centered @ centered)


def steps_to(values: np.ndarray, at: np.ndarray, level: float | np.ndarray) -> np.ndarray:
    """Return the number of steps at which each curve first reaches its level; infinity if it never does.

    Parameters
    ----------
    values : array of shape (..., looks)
        What is compared with the level, at each look.
    at : array of shape (looks,)
        Steps done at each look.
    level : float or array of shape (...)
        One level, or one for each curve.

    Returns
    -------
    numpy.ndarray
        Shape (...). Between two looks nothing is known: a step is late by their distance at most.

    Examples
    --------
    >>> steps_to(np.array([[0.1, 0.7, 0.6], [0.2, 0.3, 0.4]]), np.array([10, 20, 30]), 0.5).tolist()
    [20.0, inf]
    """
    reached = values >= np.asarray(level)[..., None]
    return np.where(reached.any(axis=-1), at[reached.argmax(axis=-1)], np.inf)


def _t_quantile(confidence: float, degrees: int) -> float:
    """Return t with P(|T| < t) = confidence, by numerical integration, so that SciPy is not needed."""
    # With T = sqrt(degrees) tan(a), the density of the angle a is proportional to cos(a)^(degrees-1).
    edges = np.linspace(0, np.pi / 2, 200_001)
    middles = (edges[1:] + edges[:-1]) / 2
    share = np.cumsum(np.cos(middles) ** (degrees - 1))
    return float(np.sqrt(degrees) * np.tan(np.interp(confidence, share / share[-1], edges[1:])))


class Table:
    """Columns side by side: text where it is printed, a real table in a notebook.

    A float has three significant digits; an `Interval` is ``mean [low, high]``, and one of many means gives a row
    each. In HTML the first column heads its row, intervals are set small, and the best of a column is bold.

    Parameters
    ----------
    columns : mapping of str to sequence
        Name and values of each column, all of one length.
    formats : mapping of str to str, optional
        Other format specifications for the floats of a column, such as ``{"loss": ".4f"}``.
    best : mapping of str to callable, optional
        `min` or `max` for each column whose best value is to stand out.

    Raises
    ------
    ValueError
        If the columns differ in length, or `formats` or `best` names no column.

    Examples
    --------
    >>> Table({"rate": [0.1, 1], "loss": [2.30259, 0.5]}, formats={"loss": ".2f"}, best={"loss": min})
    rate  loss
    0.1   2.30
    1     0.50
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[object] | np.ndarray | Interval],
        *,
        formats: Mapping[str, str] | None = None,
        best: Mapping[str, Callable] | None = None,
    ) -> None:
        self._columns = {name: _values(column) for name, column in columns.items()}
        self._formats, self._best = dict(formats or {}), dict(best or {})
        lengths = {name: len(values) for name, values in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns have lengths {lengths}; expected equal ones.")
        unknown = {*self._formats, *self._best} - set(self._columns)
        if unknown:
            raise ValueError(f"{sorted(unknown)} are no columns; there are {list(self._columns)}.")

    def __repr__(self) -> str:
        cells = [[name, *(a + b for a, b in self._cells(name))] for name in self._columns]
        widths = [max(map(len, column)) for column in cells]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in zip(*cells, strict=True)
        )

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th scope="col">{escape(name)}</th>' if name else "<td></td>"
            for name in self._columns
        )
        marked = [self._marked(name) for name in self._columns]
        rows = (
            f'<tr><th scope="row">{first}</th>'
            + "".join(f"<td>{cell}</td>" for cell in rest)
            + "</tr>"
            for first, *rest in zip(*marked, strict=True)
        )
        body = "\n".join(rows)
        return f'<table class="bn-table">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'

    def _cells(self, name: str) -> list[tuple[str, str]]:
        """Write each value of a column as its text and, for an interval, the two ends."""
        spec = self._formats.get(name, ".3g")
        return [_written(value, spec) for value in self._columns[name]]

    def _marked(self, name: str) -> list[str]:
        values = [v.mean if isinstance(v, Interval) else v for v in self._columns[name]]
        best = self._best[name](values) if name in self._best else None
        texts = []
        for value, (text, ends) in zip(values, self._cells(name), strict=True):
            text = escape(text)
            text = f"<b>{text}</b>" if best is not None and value == best else text
            texts.append(f"{text}<small>{escape(ends)}</small>" if ends else text)
        return texts


def _values(column: Sequence[object] | np.ndarray | Interval) -> list:
    """Return a column's values one by one; an interval of many means gives one for each."""
    if isinstance(column, Interval):
        ends = (column.mean, column.low, column.high)
        return [
            Interval(*map(np.asarray, row)) for row in zip(*map(np.atleast_1d, ends), strict=True)
        ]
    return list(column)


def _written(value: object, spec: str) -> tuple[str, str]:
    if isinstance(value, Interval):
        return f"{value.mean:{spec}}", f" [{value.low:{spec}}, {value.high:{spec}}]"
    return (f"{value:{spec}}" if isinstance(value, float | np.floating) else str(value)), ""
