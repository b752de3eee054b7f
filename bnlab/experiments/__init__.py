"""Experiments: one module per topic; each function takes a configuration and returns a result."""

from bnlab.experiments._long import LongExperiment, seeds_of

__all__ = ["LongExperiment", "seeds_of"]
