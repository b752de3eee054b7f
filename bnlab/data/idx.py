"""The IDX format of the MNIST files: a header of sizes, then the values of one array."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np

__all__ = ["decode", "unpack"]

_UNSIGNED_BYTES = 0x08


def decode(content: bytes, *, name: str | Path = "the content") -> np.ndarray:
    """Read an array of unsigned bytes from IDX content.

    The header is two zero bytes, 8 for "unsigned bytes", the number of axes, and the length of each axis as
    four bytes, the highest first. The values follow, the last axis fastest.

    Parameters
    ----------
    content : bytes
        The whole file, unpacked.
    name : str or Path
        What the errors call it.

    Returns
    -------
    numpy.ndarray of uint8
        It shares the memory of `content` and cannot be written.

    Raises
    ------
    ValueError
        If this is no IDX, holds another type, or is shorter or longer than its header says.

    Notes
    -----
    LeCun, Cortes & Burges, the MNIST database, "File formats for the MNIST database".

    Examples
    --------
    >>> decode(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])).tolist()
    [[1, 2, 3], [4, 5, 6]]
    """
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(
            f"content is a {type(content).__name__}; expected the bytes of an IDX file, as "
            f"Path(...).read_bytes() or idx.unpack gives them."
        )
    content = bytes(content)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(
            f"{name} begins with {content[:4].hex() or 'nothing'}; expected an IDX header, 0000 08 and the "
            f"number of axes. Is it still packed, or another format?"
        )
    kind, axes = content[2], content[3]
    if kind != _UNSIGNED_BYTES or axes == 0:
        raise ValueError(
            f"{name} holds values of type {kind:#04x} on {axes} axes; expected unsigned bytes (0x08) on at "
            f"least one axis, as MNIST has. Convert it with the tool that wrote it."
        )
    start = 4 + 4 * axes
    lengths = np.frombuffer(content[4:start].ljust(4 * axes, b"\0"), dtype=">u4")
    shape = tuple(int(length) for length in lengths)
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise ValueError(
            f"{name} has {len(content)} bytes; its header promises the shape {shape}, which takes {expected}. "
            f"It is damaged: get a fresh copy."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def unpack(packed: bytes, *, size: int, name: str | Path = "the content") -> bytes:
    """Unpack a whole gzip file that must hold exactly `size` bytes; never more than that is unpacked.

    Raises
    ------
    ValueError
        If it is no gzip file, is cut short, holds another number of bytes, or something follows it.

    Examples
    --------
    >>> import gzip
    >>> unpack(gzip.compress(b"abc"), size=3)
    b'abc'
    """
    machine = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        content = machine.decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError(
            f"{name} is no whole gzip file ({error}). It is damaged or comes from elsewhere: get a fresh copy."
        ) from error
    if len(content) != size or not machine.eof or machine.unused_data:
        given = f"more than {size}" if len(content) > size else len(content)
        raise ValueError(
            f"{name} unpacks to {given} bytes{'' if machine.eof else ' without an end'}"
            f"{' and something follows' if machine.unused_data else ''}; expected {size} and nothing else. "
            f"It is damaged or comes from elsewhere: get a fresh copy."
        )
    return content
