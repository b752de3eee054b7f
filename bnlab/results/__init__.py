"""Results: frozen dataclasses that experiments return and plots draw."""

from bnlab.results._store import Provenance, load, save

__all__ = ["Provenance", "load", "save"]
