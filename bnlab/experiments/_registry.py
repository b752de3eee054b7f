"""The long experiments by name; a module is loaded when its experiment is asked for."""

from __future__ import annotations

import importlib
import os
import sys

from bnlab._validate import did_you_mean
from bnlab.experiments._long import LongExperiment

MODULES: dict[str, str] = {
    "accelerating": "accelerating.experiments",
    "accelerating-rates": "accelerating.rates",
    "figure-one": "figure_one.experiments",
    "figure-one-rates": "figure_one.rates",
    "sigmoid-depth": "accelerating.sigmoid_depth",
}
"""The name of each experiment, and the module of this package whose EXPERIMENT it is."""


def find(name: str) -> LongExperiment:
    """Return the experiment of that name, or the object that ``module:OBJECT`` names."""
    if ":" in name:
        return _import(name)
    if name not in MODULES:
        raise ValueError(
            f"there is no experiment {name!r}; expected one of {', '.join(MODULES) or 'none yet'}, or "
            f"module:OBJECT for one of your own. `bnlab list` shows them.{did_you_mean(name, MODULES)}"
        )
    return importlib.import_module(f"bnlab.chapters.{MODULES[name]}").EXPERIMENT


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
