"""Download a full-size set of images once, and keep only what its checksum proves right."""

from __future__ import annotations

import os
import shutil
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bnlab._validate import did_you_mean, number
from bnlab.data import _files
from bnlab.data.images import IMAGE_SETS, ImageFile

__all__ = ["fetch"]

LARGEST = 64 * 2**20
"""No file of a set is larger, in bytes; a server that sends more is not followed."""

Show = Callable[[str, int, int | None], None]


def fetch(
    name: str,
    *,
    to: str | os.PathLike[str] | None = None,
    mirrors: Sequence[str] | None = None,
    timeout: float = 30.0,
    show: Show = lambda file, received, size: None,
) -> Path:
    """Download the files of ``"mnist"`` or ``"fashion-mnist"`` that are not there yet, and check them all.

    Each file is taken from the first mirror that has it right. It is written under a temporary name and gets its
    own name once its SHA-256 is right; a file that is there is never written over.

    Parameters
    ----------
    name : str
        The set.
    to : path, optional
        The folder below which the folder `name` is made: the user's cache by default, where `load` looks.
        For another folder, set ``BNLAB_DATA`` to it afterwards.
    mirrors : sequence of str, optional
        URLs of folders to take the files from instead of the known ones: http, https or file.
    timeout : float
        Seconds of silence after which a mirror is given up.
    show : callable, optional
        Called as ``show(file, received, size)`` with numbers of bytes; `size` is None if the server does not
        say it.

    Returns
    -------
    Path
        The folder of the files.

    Raises
    ------
    ValueError
        If there is no such set, a mirror is no URL, or a file that is there is damaged.
    ImportError
        If something is to be downloaded and pooch, which does it, is not installed.
    OSError
        If no mirror gave a file as it should be; the message names each and its reason.
    """
    if name not in IMAGE_SETS:
        bundled = " It comes with the package." if name == "mnist-5k" else ""
        raise ValueError(
            f"there is nothing to download for {name!r}; expected one of "
            f"{', '.join(map(repr, IMAGE_SETS))}.{bundled or did_you_mean(name, IMAGE_SETS)}"
        )
    number("timeout", timeout, low=0.1)
    if isinstance(mirrors, str):
        raise TypeError(
            f"mirrors is {mirrors!r}, one string; expected several. Write [{mirrors!r}]."
        )
    images = IMAGE_SETS[name]
    folder = (Path(to) if to is not None else _files.cache_folder()) / name
    urls = [_folder_url(url) for url in (mirrors or images.mirrors)]
    for file in images.every_file():
        if (folder / file.name).exists():
            file.read(folder)
        else:
            _from_first_mirror(file, folder, urls, timeout, show)
    return folder


def _folder_url(url: str) -> str:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise ValueError(
            f"mirror is {url!r}; expected a URL of a folder that begins with https://, http:// or file://. "
            f"For a folder on this machine, use Path(folder).absolute().as_uri()."
        )
    return url if url.endswith("/") else url + "/"


def _from_first_mirror(
    file: ImageFile, folder: Path, urls: Sequence[str], timeout: float, show: Show
) -> None:
    """Put a file into its folder from the first mirror that has it right."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            "a download needs pooch, which is not installed; install it with `pip install 'bnlab[cli]'`."
        ) from error
    pooch.get_logger().setLevel("WARNING")  # what it does is told to `show`
    failures = []
    for url in urls:
        bar = _Bar(file.name, show)
        # pooch takes any object with the methods of a progress bar, though it is annotated as a bool.
        http = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=timeout)  # pyright: ignore[reportArgumentType]
        downloader: Any = _copy if url.startswith("file:") else http
        try:
            path = pooch.retrieve(
                url + file.name, file.sha256, file.name, folder, downloader=downloader
            )
        except (OSError, ValueError) as error:
            failures.append(f"{url}: {error}")
        else:
            os.chmod(path, 0o644)  # pooch leaves it to its owner alone
            return
    raise OSError(
        f"{file.name} could not be had; nothing was kept of it. {' | '.join(failures)}. "
        f"Try again, or name another folder of the four files with --mirror."
    )


def _copy(url: str, to: str, _: object) -> None:
    shutil.copyfile(urllib.request.url2pathname(urllib.parse.urlsplit(url).path), to)


class _Bar:
    """The progress bar that pooch updates: it calls `show`, and stops a server that sends too much."""

    def __init__(self, file: str, show: Show):
        self.file, self.show, self.received, self.total = file, show, 0, 0

    def update(self, received: int) -> None:
        self.received += received
        if self.received > LARGEST:
            raise OSError(f"sent more than {LARGEST} bytes")
        # pooch counts whole chunks, and the total once more at the end.
        self.show(self.file, min(self.received, self.total or self.received), self.total or None)

    def reset(self) -> None: ...

    def close(self) -> None: ...
