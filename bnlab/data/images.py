"""Full-size sets of 28 by 28 images, in MNIST's format: MNIST itself and Fashion-MNIST."""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnlab.data import _files
from bnlab.data._dataset import Dataset

__all__ = ["IMAGE_SETS", "PIXELS", "ImageFile", "ImageSet", "fashion_mnist", "mnist"]

PIXELS = tuple(f"pixel {row},{column}" for row in range(28) for column in range(28))
"""The names of the columns of a flattened image."""

SPLITS = ("train", "test")


@dataclass(frozen=True)
class ImageFile:
    """One gzip file of a set, and what proves that it is the right one."""

    name: str
    shape: tuple[int, ...]
    sha256: str
    """Of the .gz file, as its makers publish it."""
    content_sha256: str | None = None
    """Of what it holds, to be checked in place of `sha256` where others compress the file anew."""

    @property
    def checked(self) -> str:
        """Return the SHA-256 that is checked whenever the file is read."""
        return self.content_sha256 or self.sha256

    def read(self, folder: Path) -> np.ndarray:
        """Return the array that this file of a folder holds, once its checksum is right.

        The format is IDX: four bytes for the kind of value and the number of axes, four for the length of each
        axis, then the values.

        Parameters
        ----------
        folder : Path
            Where the file is.

        Returns
        -------
        numpy.ndarray
            Of `shape`, unsigned bytes.

        Raises
        ------
        ValueError
            If the file is damaged or a different one.
        """
        path, header = folder / self.name, 4 + 4 * len(self.shape)
        packed = path.read_bytes()
        if self.content_sha256 is None:
            _files.check(packed, self.sha256, path)
        size = header + math.prod(self.shape)
        try:  # one byte more than there may be is read, so that a wrong file cannot fill the memory
            content = gzip.GzipFile(fileobj=io.BytesIO(packed)).read(size + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            content = b""  # its checksum is wrong
        if self.content_sha256 is not None:
            _files.check(content, self.content_sha256, path)
        return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(self.shape)


@dataclass(frozen=True)
class ImageSet:
    """A set of images: its files, its terms and where it can be had."""

    name: str
    files: dict[str, tuple[ImageFile, ImageFile]]
    """The images and the labels of "train" and "test"."""
    class_names: tuple[str, ...]
    target_name: str
    source: str
    license: str
    mirrors: tuple[str, ...]
    how: str
    """A sentence that says how to get it."""

    def every_file(self) -> tuple[ImageFile, ...]:
        """Return all four files.

        Returns
        -------
        tuple of ImageFile
            Images and labels to train with, then those to test with.
        """
        return tuple(file for split in SPLITS for file in self.files[split])

    def folder(self, files: tuple[ImageFile, ...], path: str | os.PathLike[str] | None) -> Path:
        """Return the first folder that has these files.

        Parameters
        ----------
        files : tuple of ImageFile
            The files that it must have.
        path : path or None
            The only folder to look at; None looks at all where data may be.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FileNotFoundError
            If no folder has them all; the message says how to get them.
        """
        tried = [Path(path)] if path is not None else list(_files.folders(self.name))
        for folder in tried:
            if all((folder / file.name).is_file() for file in files):
                return folder
        raise FileNotFoundError(
            f"{self.name} is not on this machine: no folder with {' and '.join(f.name for f in files)} among "
            f"{', '.join(str(folder) for folder in tried)}. {self.how}"
        )

    def verify(self, path: str | os.PathLike[str] | None) -> Path:
        """Check the files of both parts, and return the folder of the training part.

        Parameters
        ----------
        path : path or None
            As for :meth:`folder`.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FileNotFoundError
            If a file is not on this machine.
        ValueError
            If a file is damaged or a different one.
        """
        for split in reversed(SPLITS):
            folder = self.folder(self.files[split], path)
            for file in self.files[split]:
                file.read(folder)
        return folder

    def load(self, split: str, path: str | os.PathLike[str] | None) -> Dataset:
        """Read, check and scale one of its two parts.

        Parameters
        ----------
        split : {"train", "test"}
            Which part.
        path : path or None
            As for :meth:`folder`.

        Returns
        -------
        Dataset
            ``x`` in float32 between 0 and 1.

        Raises
        ------
        FileNotFoundError
            If a file is not on this machine.
        ValueError
            If `split` is another, or a file is damaged or a different one.
        """
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; expected 'train' or 'test'. Choose one of them.")
        files = self.files[split]
        folder = self.folder(files, path)
        images, labels = (file.read(folder) for file in files)
        return Dataset(
            name=f"{self.name} {split}",
            x=images.reshape(len(images), -1) / np.float32(255),
            y=labels.astype(np.int64),
            feature_names=PIXELS,
            class_names=self.class_names,
            target_name=self.target_name,
            source=self.source,
            license=self.license,
        )


def mnist(*, split: str = "train", path: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the full MNIST: 60,000 handwritten digits to train with, 10,000 to test with.

    It is not part of the package: ``bnlab data fetch mnist`` downloads it once. The files are looked for in
    the folder `path`, or else in ``mnist/`` below the folder that ``BNLAB_DATA`` names, below the user's cache
    and below ``/usr/share/datasets``. The SHA-256 of each is checked at each load.

    Parameters
    ----------
    split : "train" or "test"
        Which part.
    path : path, optional
        The folder of the four files.

    Returns
    -------
    Dataset
        ``x`` of shape (60000 or 10000, 784) in float32 between 0 and 1, ``y`` the digits.

    Raises
    ------
    FileNotFoundError
        If the files are not on this machine; the message says how to get them.
    ValueError
        If `split` is another, or a file is damaged or a different one.

    Notes
    -----
    LeCun, Bottou, Bengio & Haffner 1998, doi:10.1109/5.726791.
    """
    return IMAGE_SETS["mnist"].load(split, path)


def fashion_mnist(*, split: str = "train", path: str | os.PathLike[str] | None = None) -> Dataset:
    """Load Fashion-MNIST: 60,000 pictures of clothes to train with, 10,000 to test with.

    It is looked for as `mnist` is, in ``fashion-mnist/``. Debian's package ``dataset-fashion-mnist`` puts it
    into ``/usr/share/datasets``; elsewhere ``bnlab data fetch fashion-mnist`` downloads it. What is checked is
    the SHA-256 of the unpacked content, since Debian compresses the files anew.

    Parameters
    ----------
    split : "train" or "test"
        Which part.
    path : path, optional
        The folder of the four files.

    Returns
    -------
    Dataset
        ``x`` of shape (60000 or 10000, 784) in float32 between 0 and 1, ``y`` the kind of clothing.

    Raises
    ------
    FileNotFoundError
        If the files are not on this machine; the message says how to get them.
    ValueError
        If `split` is another, or a file is damaged or a different one.

    Notes
    -----
    Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747.
    """
    return IMAGE_SETS["fashion-mnist"].load(split, path)


def _files_of(
    sha256: Sequence[str], contents: Sequence[str | None] = (None,) * 4
) -> dict[str, tuple[ImageFile, ImageFile]]:
    """Describe the four files by their checksums: training images and labels, then test images and labels."""
    kinds = (
        ("train-images-idx3-ubyte.gz", (60_000, 28, 28)),
        ("train-labels-idx1-ubyte.gz", (60_000,)),
        ("t10k-images-idx3-ubyte.gz", (10_000, 28, 28)),
        ("t10k-labels-idx1-ubyte.gz", (10_000,)),
    )
    images, labels, test_images, test_labels = (
        ImageFile(*kind, packed, content)
        for kind, packed, content in zip(kinds, sha256, contents, strict=True)
    )
    return {"train": (images, labels), "test": (test_images, test_labels)}


IMAGE_SETS = {
    "mnist": ImageSet(
        name="mnist",
        files=_files_of(
            (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
            contents=(
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        class_names=tuple("0123456789"),
        target_name="digit",
        source="MNIST (LeCun, Cortes & Burges)",
        license="CC BY-SA 3.0, as stated by the TensorFlow/Keras documentation of MNIST",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        how="Download it once with `bnlab data fetch mnist` (11 MB), or put its four .gz files there.",
    ),
    "fashion-mnist": ImageSet(
        name="fashion-mnist",
        files=_files_of(
            (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
            contents=(
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
        class_names=(
            "T-shirt/top", "trouser", "pullover", "dress", "coat",
            "sandal", "shirt", "sneaker", "bag", "ankle boot",
        ),
        target_name="kind of clothing",
        source="Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747)",
        license="MIT, Copyright 2017 Zalando SE",
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        how="On Debian or Ubuntu `apt install dataset-fashion-mnist`; elsewhere "
        "`bnlab data fetch fashion-mnist` (31 MB).",
    ),
}  # fmt: skip
"""The full-size sets by name."""
