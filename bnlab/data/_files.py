"""Where data files are looked for, and the check that a file is the one expected."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

BUNDLED = Path(__file__).parents[1] / "_data"
SYSTEM = Path("/usr/share/datasets")
"""Where Debian's `dataset-*` packages put theirs."""


def cache_folder() -> Path:
    """Return the folder for downloads of this user and platform; it need not exist."""
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "bnlab"


def own_folder(holding: str) -> Path | None:
    """Return the folder that BNLAB_DATA names, or None if it is not set; refuse a name that is no folder."""
    folder = os.environ.get("BNLAB_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f"BNLAB_DATA is {folder!r}, which is no folder; expected the folder that holds {holding}. "
            f"Create it, or unset BNLAB_DATA to do without."
        )
    return Path(folder)


def find(filename: str, path: str | os.PathLike[str] | None) -> Path:
    """Return where a bundled file is: `path` if given, else BNLAB_DATA if it is there, else the package."""
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"there is no file at {str(path)!r}; expected a copy of {filename}. "
                f"Leave path out to use the bundled one."
            )
        return Path(path)
    folder = own_folder(filename)
    own = folder and folder / filename
    return own if own and own.is_file() else BUNDLED / filename


def folders(name: str) -> Iterator[Path]:
    """Yield the folders to look for a data set in, in order: in BNLAB_DATA, the user's cache, the system."""
    own = own_folder(f"{name}/")
    if own is not None:
        yield own / name
    yield cache_folder() / name
    yield SYSTEM / name


def verified(path: Path, sha256: str) -> bytes:
    """Read a file and refuse it unless its checksum is the expected one."""
    content = path.read_bytes()
    check(content, sha256, path)
    return content


def check(content: bytes, sha256: str, path: str | Path) -> None:
    """Raise a ValueError that names `path` unless `content` has this SHA-256."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path} is damaged or is not the file this version of bnlab expects: SHA-256 expected {sha256}, "
            f"found {found}. Nothing was changed; move the file away and get a fresh copy, by "
            f"`bnlab data fetch` or by installing again what it came with."
        )
