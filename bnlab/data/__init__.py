"""Data sets: a table we generate, two of scikit-learn, 5,000 MNIST digits; and full-size ones if they are there."""

from __future__ import annotations

import os
from pathlib import Path

from bnlab._validate import did_you_mean
from bnlab.data import _files
from bnlab.data._dataset import Dataset
from bnlab.data._fetch import fetch
from bnlab.data.deform import deform
from bnlab.data.digits import MNIST_5K_SHA256, mnist_5k
from bnlab.data.images import IMAGE_SETS, fashion_mnist, mnist
from bnlab.data.tables import breast_cancer, mixed_scale_table, wine

__all__ = [
    "Dataset",
    "breast_cancer",
    "checksums",
    "deform",
    "fashion_mnist",
    "fetch",
    "load",
    "mixed_scale_table",
    "mnist",
    "mnist_5k",
    "names",
    "verify",
    "wine",
]


def names() -> tuple[str, ...]:
    """Return the names that `load` knows.

    Returns
    -------
    tuple of str
        The bundled set first.

    Examples
    --------
    >>> names()
    ('mnist-5k', 'fashion-mnist', 'mnist')
    """
    return ("mnist-5k", "fashion-mnist", "mnist")


def load(name: str, *, split: str = "train", path: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the training or the test part of a set of images by its name; the parts never change.

    Parameters
    ----------
    name : str
        ``"mnist-5k"``, the 5,000 bundled digits, as ``mnist_5k().split(test=1000, seed=0)``: 4,000 to train
        with and 1,000 to test with; ``"fashion-mnist"`` or ``"mnist"``, with 60,000 and 10,000.
    split : "train" or "test"
        Which part.
    path : path, optional
        The file of the 5,000 digits, or the folder of the files of a full-size set, if it is to be read from
        there and nowhere else.

    Returns
    -------
    Dataset
        ``x`` in float32 between 0 and 1, of shape (N, 784).

    Raises
    ------
    FileNotFoundError
        If the set is not on this machine; the message says how to get it.
    ValueError
        If there is no set or part of that name, or a file is damaged or a different one.

    Examples
    --------
    >>> load("mnist-5k", split="test")
    Dataset('mnist_5k', 1000 rows, 784 features, 10 classes)
    """
    _known(name)
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; expected 'train' or 'test'. Choose one of them.")
    if name in IMAGE_SETS:
        return IMAGE_SETS[name].load(split, path)
    train, test = mnist_5k(path=path).split(test=1000, seed=0)
    return train if split == "train" else test


def checksums(name: str) -> dict[str, str]:
    """Return the SHA-256 of each file that `load` reads for a name, as it checks them.

    Parameters
    ----------
    name : str
        One of :func:`names`.

    Returns
    -------
    dict of str to str
        File name to hexadecimal digest.

    Raises
    ------
    ValueError
        If there is no set of that name.

    Examples
    --------
    >>> {file: digest[:8] for file, digest in checksums("mnist-5k").items()}
    {'mnist_5k.npz': '246e0c30'}
    """
    _known(name)
    if name in IMAGE_SETS:
        return {file.name: file.checked for file in IMAGE_SETS[name].every_file()}
    return {"mnist_5k.npz": MNIST_5K_SHA256}


def verify(name: str, *, path: str | os.PathLike[str] | None = None) -> Path:
    """Check every file of a set of images where `load` finds it, and return that folder or file.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    path : path, optional
        As for :func:`load`.

    Returns
    -------
    Path
        The bundled file, or the folder of a full-size set.

    Raises
    ------
    FileNotFoundError
        If the set is not on this machine; the message says how to get it.
    ValueError
        If there is no set of that name, or a file is damaged or a different one.

    Examples
    --------
    >>> verify("mnist-5k").name
    'mnist_5k.npz'
    """
    _known(name)
    if name in IMAGE_SETS:
        return IMAGE_SETS[name].verify(path)
    found = _files.find("mnist_5k.npz", path)
    _files.verified(found, MNIST_5K_SHA256)
    return found


def _known(name: str) -> None:
    if name not in names():
        raise ValueError(
            f"name is {name!r}; expected one of {', '.join(map(repr, names()))}."
            f"{did_you_mean(name, names()) or ' Choose one of them.'}"
        )
