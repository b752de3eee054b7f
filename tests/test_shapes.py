"""The shapes that signatures promise, checked by beartype in copies of the modules made for this file.

Everywhere else a signature is only read, and a module's own checks answer for bad input. Here a copy of
each module is imported through jaxtyping's hook, in which every annotation is enforced.
"""

import importlib
import inspect
import sys
from typing import get_type_hints

import numpy as np
import pytest
from jaxtyping import AbstractArray, TypeCheckError, install_import_hook

X, ONE, TWO = np.arange(12.0).reshape(4, 3), np.ones(3), np.ones(2)
IMAGES = np.arange(48.0).reshape(4, 3, 2, 2)


def cache(module, x=X):
    return module.batch_norm_forward(x, ONE, ONE)[1]


# module -> function -> good arguments, made from the module, and wrong ones to put in their place.
CALLS = {
    "bnlab.reference": {
        "batch_norm_forward": (
            lambda m: {"x": X, "gamma": ONE, "beta": ONE},
            {"x": ONE, "gamma": TWO, "beta": X},
        ),
        "batch_norm_backward": (
            lambda m: {"dy": IMAGES, "cache": cache(m, IMAGES)},
            {"dy": ONE, "cache": ONE},
        ),
        "batch_norm_inference": (
            lambda m: {"x": IMAGES, "gamma": ONE, "beta": ONE, "mean": ONE, "var": ONE},
            {"x": ONE, "gamma": TWO, "beta": TWO, "mean": TWO, "var": X},
        ),
        "population_statistics": (lambda m: {"batches": [X, X + 1]}, {"batches": [ONE, ONE]}),
        "update_running_statistics": (
            lambda m: {"running_mean": ONE, "running_var": ONE, "cache": cache(m)},
            {"running_mean": X, "running_var": TWO, "cache": ONE},
        ),
    },
}
ROWS = [(module, name) for module, calls in CALLS.items() for name in calls]
WRONG = [(*row, argument) for row in ROWS for argument in CALLS[row[0]][row[1]][1]]


@pytest.fixture(scope="module")
def enforced():
    """Import a copy of each module in which annotations are enforced; leave the module as it is."""
    copies = {}
    for name in CALLS:
        parent, _, child = name.rpartition(".")
        original = importlib.import_module(name)
        del sys.modules[name]
        with install_import_hook(name, "beartype.beartype"):
            copies[name] = importlib.import_module(name)
        sys.modules[name] = original
        setattr(sys.modules[parent], child, original)
    return copies


@pytest.mark.parametrize(("module", "name"), ROWS)
def test_results_have_the_shapes_they_promise(enforced, module, name):
    good, _ = CALLS[module][name]
    getattr(enforced[module], name)(**good(enforced[module]))


@pytest.mark.parametrize(("module", "name", "argument"), WRONG)
def test_a_wrong_shape_is_refused(enforced, module, name, argument):
    good, wrong = CALLS[module][name]
    arguments = good(enforced[module]) | {argument: wrong[argument]}
    with pytest.raises(TypeCheckError, match=f"{module}.{name}.\nThe problem .* '{argument}'"):
        getattr(enforced[module], name)(**arguments)


@pytest.mark.parametrize("module", CALLS)
def test_every_function_that_promises_shapes_is_called(module):
    def shapes(hint):
        parts = getattr(hint, "__args__", ())
        return any(map(shapes, parts)) or (
            isinstance(hint, type) and issubclass(hint, AbstractArray)
        )

    functions = inspect.getmembers(importlib.import_module(module), inspect.isfunction)
    promising = {
        name
        for name, function in functions
        if function.__module__ == module
        and not name.startswith("_")
        and any(map(shapes, get_type_hints(function).values()))
    }
    assert promising == set(CALLS[module])
