"""The long experiments by name; a module is loaded when its experiment is asked for."""

from __future__ import annotations

import importlib

from bnlab.experiments._long import LongExperiment

MODULES: dict[str, str] = {}
"""The name of each experiment, and the module of this package whose EXPERIMENT it is."""


def find(name: str) -> LongExperiment:
    """Return the experiment of that name."""
    if name not in MODULES:
        raise ValueError(
            f"there is no experiment {name!r}; expected one of {', '.join(MODULES) or 'none yet'}. "
            f"`bnlab list` shows them."
        )
    return importlib.import_module(f"bnlab.experiments.{MODULES[name]}").EXPERIMENT
