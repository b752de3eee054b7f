"""The long experiments by name: those of the chapters, and a user's own."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from bnlab._validate import did_you_mean
from bnlab.chapters import TOPICS
from bnlab.experiments import LongExperiment

RESULTS = Path(__file__).parents[2] / "book" / "results"
"""Where the book's results lie in a copy of the repository."""


def known() -> dict[str, LongExperiment]:
    """Return what the chapters store, by name, in the order of the chapters."""
    modules = [f"bnlab.chapters.{topic}.stored" for topic in TOPICS]
    found = [importlib.import_module(m) for m in modules if importlib.util.find_spec(m)]
    return {one.name: one for module in found for one in module.EXPERIMENTS}


def find(name: str) -> LongExperiment:
    """Return the experiment of that name, or the object that ``module:OBJECT`` names."""
    if ":" in name:
        return _import(name)
    experiments = known()
    if name not in experiments:
        raise ValueError(
            f"there is no experiment {name!r}; expected a name that `bnlab run --list` shows, or "
            f"module:OBJECT for one of your own.{did_you_mean(name, experiments)}"
        )
    return experiments[name]


def _import(name: str) -> LongExperiment:
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # a console script looks beside itself, not where it is called
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{name} cannot be loaded ({error}); expected module:OBJECT, a module that Python can import "
            f"from here and a LongExperiment in it. Check the spelling and the folder."
        ) from error
    if not isinstance(found, LongExperiment):
        raise ValueError(
            f"{name} is a {type(found).__name__}; expected a LongExperiment. "
            f"Name the object that holds one, like module:EXPERIMENT."
        )
    return found
