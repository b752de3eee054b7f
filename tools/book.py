"""Build the book, strictly: `python -m tools.book`, which is `make book`. And what its pages are."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
HTML = ROOT / "_build" / "html"
STAMP = ROOT / "_build" / ".site-state"
RUNS = ROOT / "_build" / ".jupyter_cache"
OPTIONS = ["--config", "_config.yml", "--path-output", ".", "-W", "-n", "--keep-going"]


def pages() -> list[str]:
    """Return the book's pages in the order of its table of contents."""
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    below = [(entry, *entry.get("sections", ())) for entry in entries]
    return [toc["root"], *(page["file"] for pages in below for page in pages)]


def build(root: Path, *options: str, **how) -> subprocess.CompletedProcess:
    """Run the book's one build command in a folder; `how` is for `subprocess.run`."""
    program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"}
    return subprocess.run(
        [*program, "build", "book", *OPTIONS, *options],
        cwd=root,
        env=os.environ | quiet,
        text=True,
        **how,
    )


def _files(*places: Path) -> list[Path]:
    found = (path for place in places for path in (place, *place.rglob("*")))
    return sorted(
        path
        for path in found
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".tmp"
    )


def state() -> str:
    """Fingerprint all that the pages are made of, by name, size and time."""
    files = _files(BOOK, ROOT / "bnlab", ROOT / "_config.yml")
    lines = (f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)
    return hashlib.sha256("\n".join([*lines, *_programs()]).encode()).hexdigest()


def _programs() -> list[str]:
    packages = ("numpy", "torch", "matplotlib", "scikit-learn", "sympy", "ipykernel")
    return [sys.version, *map(version, packages)]


def code() -> str:
    """Fingerprint what the output of a notebook depends on beside its own cells, by content."""
    digest = hashlib.sha256("\n".join(_programs()).encode())
    for path in _files(ROOT / "bnlab", BOOK / "results"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process is in this block."""
    STAMP.parent.mkdir(exist_ok=True)
    with (STAMP.parent / ".site-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure(*, whole: bool = True, **how) -> subprocess.CompletedProcess | None:
    """Build the pages if a source changed since the last whole build: all of them anew, or only what changed."""
    with alone():
        now = state()
        built = (HTML / "index.html").is_file()
        if built and STAMP.is_file() and STAMP.read_text() == now:
            return None
        STAMP.unlink(missing_ok=True)
        whole |= not built
        mark, today = RUNS / "code", code()
        if not mark.is_file() or mark.read_text() != today:
            shutil.rmtree(RUNS, ignore_errors=True)  # runs of other code
            RUNS.mkdir()
            mark.write_text(today)
        if whole:
            shutil.rmtree(HTML, ignore_errors=True)
        run = build(ROOT, *["--all"] * whole, **how)
        if whole and run.returncode == 0:
            STAMP.write_text(now)
        return run


def main() -> int:
    """Build what changed; return the exit code of the build."""
    run = ensure(whole=False)
    if run is None:
        print("Nothing has changed since the last build.")
    return run.returncode if run else 0


if __name__ == "__main__":
    sys.exit(main())
