"""How many planted faults `bnlab.diagnose` finds, and torch-audit beside it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import bnlab
from bnlab.chapters.troubleshooting.results import DiagnosisCorpus
from bnlab.experiments import LongExperiment, load

__all__ = ["EXPERIMENT", "corpus"]


def corpus(*, seed: int, rounds: int) -> DiagnosisCorpus:
    """Run ``python -m benchmarks.corpus``, whose models lie beside the package, and return what it stores.

    Parameters
    ----------
    seed : int
        Of the weights of every model.
    rounds : int
        Pairs of times.

    Returns
    -------
    DiagnosisCorpus
        Found, false alarms, and time; torch-audit's columns only where it is installed.

    Raises
    ------
    FileNotFoundError
        If there is no clone of the repository.
    RuntimeError
        If the command fails.
    """
    clone = Path(bnlab.__file__).parents[1]
    if not (clone / "benchmarks" / "corpus").is_dir():
        raise FileNotFoundError(
            f"there is no folder benchmarks/corpus beside the package, in {clone}; expected the models, which only a "
            f"clone of the repository holds. Clone it, install it with `pip install -e .`, and run this there."
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.npz"
        options = ["--seed", str(seed), "--rounds", str(rounds), "--save", str(file)]
        command = [sys.executable, "-m", "benchmarks.corpus", *options]
        run = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
        if run.returncode:
            raise RuntimeError(
                f"python -m benchmarks.corpus failed: {' '.join(run.stderr.split())[-500:]}"
            )
        return load(file)[0]


EXPERIMENT = LongExperiment.of(
    corpus,
    name="diagnose-corpus",
    summary="Planted faults found and false alarms, of bnlab.diagnose and torch-audit, and time as this machine has it",
    defaults={"seed": 0, "rounds": 5},
    chapter=13,
    packages=("torch-audit",),
)
"""By `python -m benchmarks.corpus`, which prints the table as well."""
