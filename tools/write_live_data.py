"""Write the stored numbers that live figures show, from the results they come from.

Usage: python tools/write_live_data.py [FIGURE ...]     (default: every figure whose result is stored)
"""

from __future__ import annotations

import sys
from pathlib import Path

from bnlab.chapters.accelerating import experiments as accelerating
from bnlab.chapters.figure_one import measures as figure_one_measures
from bnlab.experiments import load

BOOK = Path(__file__).resolve().parents[1] / "book"

SCRIPTS = {
    "figure-one": ("figure_one_mnist", figure_one_measures.live_data),
    "recipe-race": ("accelerating", accelerating.live_data),
}
"""Of each figure: the result, and what makes a script of it."""


def main(names: list[str]) -> None:
    """Write the scripts."""
    for name in names or SCRIPTS:
        result, script = SCRIPTS[name]
        source = BOOK / "results" / f"{result}.npz"
        target = BOOK / "assets" / "live" / "data" / f"{name}.js"
        if names or source.exists():
            target.parent.mkdir(exist_ok=True)
            target.write_text(script(load(source)[0]), encoding="utf-8")
            print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
