"""The ledger's own experiment, whose result is stored."""

from __future__ import annotations

from bnlab.chapters.claims.measures import EXPERIMENT

__all__ = ["EXPERIMENTS"]

EXPERIMENTS = (EXPERIMENT,)
"""It makes the file of its name in ``book/results``."""
