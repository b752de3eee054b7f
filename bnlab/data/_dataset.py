"""A labelled table whose arrays cannot be written, and its stratified split."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Integral

import numpy as np

from bnlab._validate import finite, float_array, integer, read_only

__all__ = ["Dataset"]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A labelled table whose arrays cannot be written.

    Attributes
    ----------
    name : str
        What it is called.
    x : numpy.ndarray, shape (N, C)
        One row per example, one column per feature, floats.
    y : numpy.ndarray, shape (N,)
        The class of each row, integers from 0.
    feature_names, class_names : tuple of str
        Names of the C columns, and of the classes 0, 1, ...
    target_name : str
        What `y` says.
    source, license : str
        Where the data comes from, and on what terms.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    target_name: str
    source: str = field(default="")
    license: str = field(default="")

    def __post_init__(self) -> None:
        x, y = float_array("x", self.x), self.y
        if x.ndim != 2 or x.shape[1] != len(self.feature_names):
            raise ValueError(
                f"x has shape {x.shape} for {len(self.feature_names)} feature names; expected "
                f"(rows, {len(self.feature_names)}). Give one name to each column."
            )
        if not (isinstance(y, np.ndarray) and y.dtype.kind in "iu"):
            given = (
                f"has dtype {y.dtype}" if isinstance(y, np.ndarray) else f"is a {type(y).__name__}"
            )
            raise TypeError(
                f"y {given}; expected an array of integers, the class of each row of x. "
                f"Convert it first: np.asarray(y, dtype=int)."
            )
        if y.shape != x.shape[:1]:
            raise ValueError(
                f"y has shape {y.shape}; expected ({len(x)},), one class for each row of x."
            )
        if len(y) and not 0 <= y.min() <= y.max() < len(self.class_names):
            raise ValueError(
                f"y runs from {y.min()} to {y.max()} for {len(self.class_names)} class names; expected "
                f"0 to {len(self.class_names) - 1}. Name every class, or number them from 0."
            )
        finite("x", x)
        object.__setattr__(self, "x", read_only(x))
        object.__setattr__(self, "y", read_only(y))

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} rows, {self.x.shape[1]} features, {len(self.class_names)} classes)"

    def take(self, rows: np.ndarray) -> Dataset:
        """Return the data set made of these rows, in this order.

        Parameters
        ----------
        rows : numpy.ndarray
            Row numbers, or a boolean for each row.

        Returns
        -------
        Dataset
            With the names, source and license of this one.
        """
        return replace(self, x=self.x[rows], y=self.y[rows])

    def split(self, *, test: int, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Split into a training and a test set in which every class keeps its share, to within one row.

        Parameters
        ----------
        test : int
            How many rows to hold out.
        seed : int
            Seed of the shuffle; the same seed gives the same split.

        Returns
        -------
        train, test : Dataset
            Both shuffled; together they hold every row once.

        Raises
        ------
        TypeError
            If `test` or `seed` is no integer.
        ValueError
            If `test` leaves either side without rows, or `seed` is negative.

        Examples
        --------
        >>> from bnlab.data import mixed_scale_table
        >>> train, test = mixed_scale_table(n=100).split(test=25, seed=0)
        >>> len(train), len(test)
        (75, 25)
        """
        hint = "For a share, write test=round(0.25 * len(dataset))."
        if isinstance(test, bool) or not isinstance(test, Integral):
            raise TypeError(f"test is {test!r}; expected a number of rows, an integer. {hint}")
        if not 0 < test < len(self):
            raise ValueError(
                f"test={test} of {len(self)} rows; expected between 1 and {len(self) - 1}, so that both "
                f"sides have rows. {hint}"
            )
        rng = np.random.default_rng(integer("seed", seed, low=0))
        order = rng.permutation(len(self))
        # Rank each row inside its class, as a share of the class: the smallest shares are held out, so that
        # every class gives its proportion.
        share = np.empty(len(self))
        for label in np.unique(self.y):
            members = order[self.y[order] == label]
            share[members] = (np.arange(len(members)) + 0.5) / len(members)
        by_share = order[np.argsort(share[order], kind="stable")]
        train, test_rows = (
            rng.permutation(by_share[test:]),
            rng.permutation(by_share[:test]),
        )
        return self.take(train), self.take(test_rows)
