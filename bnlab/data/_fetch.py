"""Download a full-size set of images once, and keep only what its checksum proves right."""

from __future__ import annotations

import contextlib
import http.client
import os
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from bnlab._validate import did_you_mean, number
from bnlab.data import _files
from bnlab.data.images import IMAGE_SETS, ImageFile

__all__ = ["fetch"]

LARGEST = 64 * 2**20
"""No file of a set is larger, in bytes; a server that sends more is not followed."""

SLOWEST = 1024
"""Bytes a second, on average, below which a server counts as silent."""

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

    Each file is taken from the first mirror that has it right, checked in memory, written beside its place and
    renamed: what is damaged, cut short or different never gets a name, and a file that is there is never
    written over.

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
        Seconds without an answer after which a mirror is given up.
    show : callable, optional
        Called as ``show(file, received, size)`` with numbers of bytes; `size` is None if the server is silent
        about it.

    Returns
    -------
    Path
        The folder of the files.

    Raises
    ------
    ValueError
        If there is no such set, a mirror is no URL, or a file that is there is damaged.
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
    files = images.every_file()
    missing = [file for file in files if not (folder / file.name).exists()]
    for file in files:
        if file not in missing:
            file.decode((folder / file.name).read_bytes(), folder / file.name)
    for file in missing:
        _write_new(folder / file.name, _first_right(file, urls, timeout, show))
    return folder


def _folder_url(url: str) -> str:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise ValueError(
            f"mirror is {url!r}; expected a URL of a folder that begins with https://, http:// or file://. "
            f"For a folder on this machine, use Path(folder).absolute().as_uri()."
        )
    return url if url.endswith("/") else url + "/"


def _first_right(file: ImageFile, urls: Sequence[str], timeout: float, show: Show) -> bytes:
    """Return the checked bytes of a file from the first mirror that has it right."""
    failures = []
    for url in urls:
        try:
            content = _download(url + file.name, timeout, lambda *at: show(file.name, *at))
            file.decode(content, url + file.name)
            return content
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{url}: {_reason(error)}")
    raise OSError(
        f"{file.name} could not be had; nothing was kept of it. {' | '.join(failures)}. "
        f"Try again, or name another folder of the four files with --mirror."
    )


def _download(url: str, timeout: float, show: Callable[[int, int | None], None]) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "bnlab"})
    begin, content = time.monotonic(), bytearray()
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        length = answer.headers.get("Content-Length")
        size = int(length) if length is not None and length.isdigit() else None
        show(0, size)
        while chunk := answer.read1(2**16):
            content += chunk
            show(len(content), size)
            if len(content) > LARGEST:
                raise OSError(f"sent more than {LARGEST} bytes")
            seconds = time.monotonic() - begin
            if seconds > timeout and len(content) < SLOWEST * seconds:
                raise TimeoutError(f"sent {len(content)} bytes in {seconds:.0f} seconds")
    if size is not None and len(content) != size:
        raise OSError(f"was cut short after {len(content)} of {size} bytes")
    return bytes(content)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"could not be reached ({error.reason})"
    if isinstance(error, TimeoutError):
        return f"gave no answer in time ({error})"
    if isinstance(error, http.client.HTTPException):
        return f"broke off ({type(error).__name__})"
    if isinstance(error, ValueError):
        return "sent a damaged or different file, which its SHA-256 gives away"
    return str(error)


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that nobody else has made meanwhile, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
