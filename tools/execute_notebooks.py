"""Execute the book's notebooks in place, so that a second run changes no byte.

Usage: python tools/execute_notebooks.py [--check] [NOTEBOOK ...]     (default: every notebook of the book)

`--check` writes nothing and fails if a fresh run would change a file.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# One thread: sums come out in another order, and so with other last digits, when threads share them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["BNLAB_KERNELS"] = "0"  # last digits would depend on whether numba is installed

import nbformat
from nbclient import NotebookClient

BOOK = Path(__file__).resolve().parents[1] / "book"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def executed(path: Path) -> str:
    """Return the notebook's text after a run from a clean kernel, without times, versions or random ids."""
    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    return nbformat.writes(notebook) + "\n"


def main() -> int:
    """Run each notebook; return the number that failed the check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of the book")
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    options = parser.parse_args()
    changed = 0
    for path in options.notebooks or sorted([*BOOK.glob("*.ipynb"), *BOOK.glob("howto/*.ipynb")]):
        text = executed(path)
        same = text == path.read_text(encoding="utf-8")
        changed += not same
        print(f"{path.name}: {'unchanged' if same else 'changed'}", flush=True)
        if not same and not options.check:
            beside = path.with_suffix(".ipynb.tmp")
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
    return changed if options.check else 0


if __name__ == "__main__":
    sys.exit(main())
