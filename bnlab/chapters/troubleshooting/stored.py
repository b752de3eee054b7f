"""Chapter 13: the experiments whose results are stored."""

from __future__ import annotations

from bnlab.chapters.troubleshooting import corpus

__all__ = ["EXPERIMENTS"]

EXPERIMENTS = (corpus.EXPERIMENT,)
"""Each makes the file of its name in ``book/results``."""
