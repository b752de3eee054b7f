"""Batch Normalization, explained and computed.

The NumPy reference of the paper's algorithms is here at once; every submodule loads on first use, so that
`import bnlab` stays quick and needs neither torch nor matplotlib.

>>> import numpy as np
>>> import bnlab
>>> x = np.array([[1.0, 50.0], [3.0, 70.0]])
>>> y, cache = bnlab.batch_norm_forward(x, np.ones(2), np.zeros(2))
>>> print(y.round(3))
[[-1. -1.]
 [ 1.  1.]]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bnlab.reference import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    population_statistics,
    update_running_statistics,
)

if TYPE_CHECKING:  # type checkers and editors look into submodules that Python has yet to load
    from bnlab import (
        chapters,
        data,
        derivation,
        diagnosis,
        experiments,
        gradcheck,
        graph,
        inference,
        kernels,
        models,
        nn,
        probes,
        reference,
        scaling,
        stats,
        training,
        whitening,
    )
    from bnlab.diagnosis import diagnose

__version__ = "0.1.0"

__all__ = [
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "chapters",
    "data",
    "derivation",
    "diagnose",
    "diagnosis",
    "experiments",
    "gradcheck",
    "graph",
    "inference",
    "kernels",
    "models",
    "nn",
    "population_statistics",
    "probes",
    "reference",
    "scaling",
    "stats",
    "training",
    "update_running_statistics",
    "whitening",
]


def __getattr__(name: str) -> Any:
    if name == "diagnose":
        return importlib.import_module("bnlab.diagnosis").diagnose
    if name in __all__:  # a submodule: the functions are here already
        return importlib.import_module(f"bnlab.{name}")
    raise AttributeError(f"module 'bnlab' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
