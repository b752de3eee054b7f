"""Chapter 14: the experiments whose results are stored."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import bnlab
from bnlab.chapters.making_it_fast import one_pass, results
from bnlab.experiments import LongExperiment, load

__all__ = ["EXPERIMENTS"]


def _measured(module: str, *options: str) -> Any:
    """Run one of the benchmarks, which start processes with settings of their own, and return what it stores."""
    clone = Path(bnlab.__file__).parents[1]
    if not (clone / "benchmarks" / "__main__.py").is_file():
        raise FileNotFoundError(
            f"there is no folder benchmarks beside the package, in {clone}; expected the benchmarks, which only "
            f"a clone of the repository holds. Clone it, install it with `pip install -e .`, and run this there."
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.npz"
        command = [sys.executable, "-m", module, *options, "--save", str(file)]
        run = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
        if run.returncode:
            raise RuntimeError(f"python -m {module} failed: {' '.join(run.stderr.split())[-500:]}")
        return load(file)[0]


def speed(*, rounds: int, fresh_memory: bool, quick: bool) -> results.SpeedTable:
    """Measure the implementations beside torch's own with each number of threads."""
    flags = [word for word, on in (("--fresh-memory", fresh_memory), ("--quick", quick)) if on]
    return _measured("benchmarks", "--rounds", str(rounds), *flags)


def ensemble(*, rounds: int, kept_memory: bool) -> results.EnsembleSpeed:
    """Measure many networks in one batched run beside one at a time."""
    flags = ["--kept-memory"] if kept_memory else []
    return _measured("benchmarks.ensemble", "--rounds", str(rounds), *flags)


EXPERIMENTS = (
    LongExperiment.of(
        speed,
        name="making-it-fast-speed",
        summary="Speed of implementations beside torch's own, by `python -m benchmarks`, as this machine has it",
        defaults={"rounds": 21, "fresh_memory": False, "quick": False},
        chapter=14,
    ),
    LongExperiment.of(
        ensemble,
        name="making-it-fast-ensemble",
        summary="Speed of many networks trained in one batched run, by `python -m benchmarks.ensemble`, likewise",
        defaults={"rounds": 9, "kept_memory": False},
        chapter=14,
    ),
    LongExperiment.of(
        one_pass.error_sweep,
        name="making-it-fast-errors",
        summary="What float32 keeps of a mean and a variance, by the way they are computed",
        defaults={"values": 4096, "means": [10.0**p for p in range(7)], "seeds": 8},
        chapter=14,
        check=one_pass.repeat,
        tolerance=1.5,
    ),
)
"""Each makes the file of its name in ``book/results``."""
