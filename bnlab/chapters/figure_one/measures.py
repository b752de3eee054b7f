"""Chapter 9: what is read off the runs of Figure 1, and the check that a stored run can be repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bnlab import data, stats
from bnlab.chapters.figure_one import experiments as figure_one
from bnlab.chapters.figure_one.results import (
    FairStart,
    FigureOne,
    ImageRows,
    RateSearch,
    Stability,
)

__all__ = [
    "at_the_end",
    "begun",
    "example_images",
    "gap",
    "repeats",
    "stability",
    "steps_to",
    "times_fewer",
]


def steps_to(
    result: FigureOne | FairStart | RateSearch,
    level: float,
    *,
    setting: int | tuple[int, int],
    in_a_row: int = 1,
) -> np.ndarray:
    """Return the step of the first look at which accuracy was at least `level`.

    Parameters
    ----------
    result : FigureOne, FairStart or RateSearch
    level : float
        An accuracy.
    setting : int or (int, int)
        See `FigureOne.setting`; of a search the numbers of an arm and a rate.
    in_a_row : int
        How many looks in a row must be at the level; the first of them counts.

    Returns
    -------
    array of shape (seeds,)
        Infinite for a seed that never got there. The looks are 50 steps apart at first and 2,000 at
        the end: a step is at most that much too late.
    """
    lowest = sliding_window_view(result.accuracy[setting], in_a_row, axis=-1).min(axis=-1)
    return stats.steps_to(lowest, result.steps[: lowest.shape[-1]], level)


def times_fewer(
    result: FigureOne,
    levels: Sequence[float],
    *,
    settings: tuple[int, int] | None = None,
    in_a_row: int = 1,
) -> np.ndarray:
    """Return the steps to each level without Batch Normalization over those with it.

    Parameters
    ----------
    result : FigureOne
    levels : sequence of float
        Accuracies, see `steps_to`.
    settings : (int, int), optional
        Without and with; by default both at their best rates.
    in_a_row : int
        See `steps_to`.

    Returns
    -------
    array of shape (seeds, levels)
        Above 1 where normalization is faster.
    """
    without, with_ = settings or (result.setting(arm) for arm in figure_one.ARMS)
    plain, normalized = (
        np.stack(
            [steps_to(result, level, setting=k, in_a_row=in_a_row) for level in levels], axis=-1
        )
        for k in (without, with_)
    )
    return plain / normalized


def at_the_end(result: FigureOne | FairStart | RateSearch, values: np.ndarray) -> np.ndarray:
    """Return the average of `values` over the looks in the last fifth of training.

    Parameters
    ----------
    values : array of shape (..., looks)
        For example ``result.accuracy``.

    Returns
    -------
    array of shape (...)
    """
    return values[..., result.steps >= 0.8 * result.steps[-1]].mean(axis=-1)


def begun(search: RateSearch, steps: int) -> RateSearch:
    """Return what a search would have been with fewer steps: rates are constant, so it is its beginning.

    Parameters
    ----------
    search : RateSearch
    steps : int
        One of its looks.

    Examples
    --------
    >>> looks = np.array([0, 10, 20])
    >>> search = RateSearch("", "", 0, 1, ("with",), (1.0,), (0,), looks, np.zeros((1, 1, 1, 3)))
    >>> begun(search, 10).accuracy.shape
    (1, 1, 1, 2)
    """
    if steps not in search.steps:
        looks = ", ".join(map(str, search.steps.tolist()))
        raise ValueError(f"steps is {steps}; expected one of the looks {looks}.")
    kept = search.steps <= steps
    return replace(search, steps=search.steps[kept], accuracy=search.accuracy[..., kept])


def gap(result: FigureOne) -> np.ndarray:
    """Return the test accuracy with Batch Normalization less that without, each at its best rate.

    Returns
    -------
    array of shape (seeds, looks)
        Paired: in both arms a seed stands for the same initial weights and the same mini-batches.
    """
    return result.accuracy[result.setting("with")] - result.accuracy[result.setting("without")]


def stability(result: FigureOne, *, first: int = 0) -> Stability:
    r"""Measure how the input of each sigmoid moved from step `first` on.

    With :math:`q_{15}, q_{50}, q_{85}` the percentiles of one unit's input at step :math:`t`,

    .. math:: \text{wander} = \frac{\max_t q_{50} - \min_t q_{50}}{\operatorname{mean}_t (q_{85} - q_{15})},
              \qquad
              \text{stretch} = \frac{\max_t (q_{85} - q_{15})}{\min_t (q_{85} - q_{15})} .

    Both are 0 and 1 for a distribution that stands still, and neither depends on the unit of
    measurement. The mean over :math:`t` is that over the looks. The stretch is infinite if two
    percentiles ever coincide.

    Parameters
    ----------
    result : FigureOne
    first : int
        From which step on.

    Returns
    -------
    Stability
    """
    low, middle, high = np.moveaxis(
        result.percentiles[:, :, result.watched >= first].astype(float), 3, 0
    )
    spread = high - low
    distance = np.ptp(middle, axis=2)
    with np.errstate(divide="ignore"):
        stretch = spread.max(axis=2) / spread.min(axis=2)
    return Stability(
        first=first,
        wander=distance / spread.mean(axis=2),
        distance=distance,
        stretch=stretch,
    )


def repeats(
    result: FigureOne, *, steps: int = 200, seed: int = 0, rates: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Run the first steps of one seed again, each arm at one rate, and compare with what is stored.

    Parameters
    ----------
    result : FigureOne
        Of data that is on this machine.
    steps : int
        At most as many as were run, and one of its looks.
    seed : int
    rates : mapping of str to float, optional
        The rate of an arm, if not its best. A rate so high that rounding errors grow at once, because
        training with it is chaotic, gives other numbers on other machines.

    Returns
    -------
    dict
        The largest difference of "accuracy", "loss" and "percentiles" over both arms and all looks.
    """
    rows = [result.setting(arm, (rates or {}).get(arm)) for arm in figure_one.ARMS]
    config = figure_one.EXPERIMENT.configure(
        {
            "data": result.data,
            "pixels": result.pixels,
            "copies": result.copies,
            "sigma": result.sigma,
            "batch_size": result.batch_size,
            "steps": steps,
            "seeds": [seed],
            "rates": {arm: [result.rates[k]] for arm, k in zip(figure_one.ARMS, rows, strict=True)},
        }
    )
    plan = figure_one.EXPERIMENT.plan(config)
    again = figure_one.merge(config, plan, [figure_one.run(config, task) for task in plan])
    column = result.seeds.index(seed)
    largest = {}
    for name, times in (("accuracy", "steps"), ("loss", "steps"), ("percentiles", "watched")):
        _, here, there = np.intersect1d(
            getattr(again, times), getattr(result, times), return_indices=True
        )
        stored = getattr(result, name)[rows, column][:, there].astype(float)
        largest[name] = float(np.abs(getattr(again, name)[:, 0, here] - stored).max())
    return largest


def example_images(*, digits: Sequence[int] = tuple(range(10)), copies: int = 2) -> ImageRows:
    """Return one training digit of each kind: in gray, in binary pixels, and deformed in both.

    Examples
    --------
    >>> example_images(copies=1).images.shape
    (3, 10, 28, 28)
    """
    gray, _ = figure_one.images("mnist-5k", pixels="gray")
    first = gray.take(np.array([int(np.argmax(gray.y == d)) for d in digits]))
    more = data.deform(first, copies, 0).x.reshape(copies + 1, len(digits), 28, 28)
    binary = (more > figure_one.THRESHOLD).astype(more.dtype)
    return ImageRows(
        labels=("gray", "binary", *("deformed",) * copies),
        images=np.concatenate([more[:1], binary]),
    )
