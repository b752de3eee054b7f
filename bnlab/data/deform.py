"""More images from the ones there are: small shifts and elastic deformations, seeded."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt

import numpy as np

from bnlab._validate import integer, number
from bnlab.data._dataset import Dataset

__all__ = ["deform"]


def deform(
    dataset: Dataset,
    copies: int,
    seed: int,
    *,
    shift: int = 2,
    elastic: float = 1.4,
    smooth: float = 4.0,
) -> Dataset:
    r"""Return the images of a data set, and deformed copies of each that keep its label.

    Each copy is moved by whole pixels and bent by a smooth random field. Pixel :math:`p` of a copy is read
    from the original at

    .. math:: p + s + \alpha\, d(p), \qquad s \in \{-k, \dots, k\}^2, \qquad d = K Z K^\top

    between pixels by bilinear interpolation, and as 0 outside of it. :math:`Z` is Gaussian noise, one field for
    each direction, and :math:`K` a Gaussian blur whose rows have length 1, so that :math:`d` has
    variance 1 at every pixel.

    Parameters
    ----------
    dataset : Dataset
        Square images, one a row.
    copies : int
        Deformed copies of each image, at least 0.
    seed : int
        Seed of shifts and fields; the first copies are the same however many there are.
    shift : int
        The largest shift :math:`k` along each axis, in pixels.
    elastic : float
        The root mean square displacement :math:`\alpha`, in pixels.
    smooth : float
        The standard deviation of the blur, in pixels, above 0.

    Returns
    -------
    Dataset
        The rows of `dataset`, then all rows deformed once, then again: (copies + 1) times as many.

    Raises
    ------
    TypeError
        If `dataset` is no Dataset or a number is of another kind.
    ValueError
        If the rows are no square images, or a number is out of range.

    Notes
    -----
    The fields are those of Simard, Steinkraus & Platt 2003; their :math:`\alpha = 34` and
    :math:`\sigma = 4` are a root mean square displacement of 1.4 pixels.

    Examples
    --------
    >>> from bnlab.data import mnist_5k
    >>> digits = mnist_5k().take(np.arange(4))
    >>> more = deform(digits, 2, 0)
    >>> len(more), more.y.tolist() == 3 * digits.y.tolist()
    (12, True)
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}; expected a bnlab.data.Dataset of images, e.g. "
            f"mnist_5k()."
        )
    columns = dataset.x.shape[1]
    side = isqrt(columns)
    if side * side != columns:
        raise ValueError(
            f"the rows have {columns} columns; expected square images, for example 784 for 28 by 28. "
            f"Pad them to squares first."
        )
    integer("copies", copies, low=0)
    integer("shift", shift, low=0, high=side)
    if not 0 <= number("elastic", elastic) <= side:
        raise ValueError(f"elastic is {elastic}; expected 0 to {side} pixels, e.g. 1.4.")
    if not number("smooth", smooth) > 0:
        raise ValueError(f"smooth is {smooth}; expected pixels above 0, e.g. 4.")
    seed = integer("seed", seed, low=0)
    images = dataset.x.reshape(-1, side, side)
    blur = _blur(side, smooth).astype(images.dtype)
    parts = [dataset.x]
    for copy in range(copies):
        rng = np.random.default_rng([seed, copy])
        moved = [
            _deformed(part, rng, shift, elastic, blur)
            for part in np.array_split(images, -(-len(images) // 1000))
        ]
        parts.append(np.concatenate(moved).reshape(-1, columns))
    return replace(
        dataset,
        name=f"{dataset.name}, and {copies} deformed copies of each",
        x=np.concatenate(parts),
        y=np.tile(dataset.y, copies + 1),
    )


def _blur(side: int, smooth: float) -> np.ndarray:
    """Return a matrix that blurs along one axis, with rows of length 1 so that white noise keeps its variance."""
    p = np.arange(side)
    kernel = np.exp(-0.5 * ((p[:, None] - p) / smooth) ** 2)
    return kernel / np.linalg.norm(kernel, axis=1, keepdims=True)


def _deformed(images, rng, shift: int, elastic: float, blur: np.ndarray) -> np.ndarray:
    """Return the images, each shifted and bent at random; pixels between grid points are interpolated."""
    n, side = len(images), images.shape[1]
    noise = rng.standard_normal((2, n, side, side), dtype=np.float32).astype(images.dtype)
    field = elastic * (blur @ noise @ blur.T)
    field += rng.integers(-shift, shift, size=(2, n, 1, 1), endpoint=True)
    field += np.indices((side, side), dtype=images.dtype)[:, None]
    # A border of zeros around each image: a pixel that comes from outside is taken from the border.
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    row, column = np.clip(field + 1, 0, side + 1)
    top, left = np.minimum(row.astype(int), side), np.minimum(column.astype(int), side)
    down, right = row - top.astype(row.dtype), column - left.astype(row.dtype)
    corner = (np.arange(n)[:, None, None] * (side + 2) + top) * (side + 2) + left
    flat = padded.ravel()
    above = flat[corner] * (1 - right) + flat[corner + 1] * right
    below = flat[corner + side + 2] * (1 - right) + flat[corner + side + 3] * right
    return (1 - down) * above + down * below
