"""One file of named arrays and a JSON head, with a checksum over both, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def write(
    path: Path, head: dict[str, Any], arrays: dict[str, Any], *, compressed: bool = True
) -> None:
    """Write an archive; a TypeError says what of the head JSON cannot hold."""
    text = json.dumps(head | {"sha256": _digest(head, arrays)})
    store = np.savez_compressed if compressed else np.savez
    write_whole(path, lambda file: store(file, _head=np.array(text), **arrays))


def read(path: Path, *, what: str, advice: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read an archive; a ValueError names the file if it is damaged, was edited or is something else."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            head = json.loads(str(file["_head"]))
            arrays = {name: file[name] for name in file.files if name != "_head"}
        expected = head.pop("sha256")
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,  # what zipfile raises when damage looks like encryption or another compression
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path} is not a readable {what} ({_reason(error)}). It is damaged or "
            f"comes from elsewhere: {advice}"
        ) from error
    found = _digest(head, arrays)
    if found != expected:
        raise ValueError(
            f"{path} does not match its own checksum: it says {str(expected)[:12]}…, its content gives "
            f"{found[:12]}…. It was edited or damaged: {advice}"
        )
    return head, arrays


def _reason(error: Exception) -> str:
    """Say what went wrong; NumPy would advise to unpickle a foreign file, which can run its code."""
    pickled = isinstance(error, ValueError) and "pickle" in str(error)
    return "no NumPy archive" if pickled else f"{type(error).__name__}: {error}"


def write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Fill a file beside `path` and rename it, so that a reader sees the old file or the new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())  # or a power cut after the renaming could leave an empty file
        os.chmod(beside, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _digest(head: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{array.dtype.str}{arrays[name].shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
