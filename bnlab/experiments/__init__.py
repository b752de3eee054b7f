"""What a long experiment is, how it is run, stored and resumed; the book's own are in `bnlab.chapters`."""

from bnlab.experiments._long import LongExperiment, difference, seeds_of
from bnlab.experiments._run import run
from bnlab.experiments.store import Provenance, Result, load, save

__all__ = [
    "LongExperiment",
    "Provenance",
    "Result",
    "difference",
    "load",
    "run",
    "save",
    "seeds_of",
]
