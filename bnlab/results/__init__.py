"""Results: frozen dataclasses that experiments return and plots draw."""

from bnlab.results._store import Provenance, load, save
from bnlab.results.naive_failure import NaiveRun

__all__ = ["NaiveRun", "Provenance", "load", "save"]
