"""The shapes that signatures promise, checked by beartype in copies of the modules made for this file.

Everywhere else a signature is only read, and a module's own checks answer for bad input. Here a copy of
each module is imported through jaxtyping's hook, in which every annotation is enforced.
"""

import importlib
import inspect
import sys
from operator import attrgetter
from typing import get_type_hints

import numpy as np
import pytest
import torch
from jaxtyping import AbstractArray, TypeCheckError, install_import_hook

X, ONE, TWO = np.arange(12.0).reshape(4, 3), np.ones(3), np.ones(2)
TABLE = np.array([[1.0, 2.0], [2.0, 3.0], [3.0, 7.0], [4.0, 8.0]])
IMAGES = np.arange(48.0).reshape(4, 3, 2, 2)


def cache(module, x=X):
    return module.batch_norm_forward(x, ONE, ONE)[1]


def transforms(kind, fit):
    """Give the rows of the two methods of a fitted transform."""
    return {
        f"{kind}.apply": (lambda m: {"self": getattr(m, fit)(TABLE), "x": TABLE}, {"x": TWO}),
        f"{kind}.invert": (lambda m: {"self": getattr(m, fit)(TABLE), "z": TABLE}, {"z": TWO}),
    }


# module -> function or method -> good arguments, made from the module, and wrong ones to put in their place.
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
    "bnlab.scaling": {
        "min_max": (lambda m: {"x": TABLE}, {"x": TWO}),
        "standardize": (lambda m: {"x": TABLE}, {"x": TWO}),
        "whiten": (lambda m: {"x": TABLE, "method": "pca"}, {"x": TWO}),
        "condition_number": (lambda m: {"a": X}, {"a": IMAGES}),
        "distance_shares": (lambda m: {"x": X}, {"x": IMAGES}),
        **transforms("MinMax", "min_max"),
        **transforms("Standardization", "standardize"),
        **transforms("Whitening", "whiten"),
    },
    "bnlab.nn.functional": {
        "batch_norm": (
            lambda m: {
                "input": torch.tensor(IMAGES),
                **dict.fromkeys(
                    ("running_mean", "running_var", "weight", "bias"), torch.tensor(ONE)
                ),
            },
            {
                "input": torch.tensor(ONE),
                **dict.fromkeys(
                    ("running_mean", "running_var", "weight", "bias"), torch.tensor(TWO)
                ),
            },
        ),
    },
    "bnlab.whitening": {
        "whitening_forward": (lambda m: {"x": IMAGES}, {"x": ONE}),
        "whitening_backward": (
            lambda m: {"dz": IMAGES, "cache": m.whitening_forward(IMAGES)[1]},
            {"dz": ONE, "cache": ONE},
        ),
        "whitening_inference": (
            lambda m: {"x": IMAGES, "mean": ONE, "covariance": np.eye(3)},
            {"x": ONE, "mean": TWO, "covariance": X},
        ),
        "population_covariance": (lambda m: {"batches": [X, X + 1]}, {"batches": [ONE, ONE]}),
        "WhiteningCache.covariance": (lambda m: {"self": m.whitening_forward(X)[1]}, {}),
        "WhiteningCache.matrix": (lambda m: {"self": m.whitening_forward(X)[1]}, {}),
    },
}


def find(module, name):
    """Return a function, a method, or the function behind a property."""
    found = attrgetter(name)(module)
    return getattr(found, "fget", found)


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
    find(enforced[module], name)(**good(enforced[module]))


@pytest.mark.parametrize(("module", "name", "argument"), WRONG)
def test_a_wrong_shape_is_refused(enforced, module, name, argument):
    good, wrong = CALLS[module][name]
    arguments = good(enforced[module]) | {argument: wrong[argument]}
    with pytest.raises(TypeCheckError, match=f"{module}.{name}.\nThe problem .* '{argument}'"):
        find(enforced[module], name)(**arguments)


def test_a_result_of_a_wrong_shape_is_refused(enforced, monkeypatch):
    whitening = enforced["bnlab.whitening"]
    monkeypatch.setattr(whitening, "_like", lambda name, rows, shape, dtype: rows)
    with pytest.raises(
        TypeCheckError, match=r"return value of bnlab.whitening.whitening_forward\.\n"
    ):
        whitening.whitening_forward(IMAGES)


def test_a_field_of_a_wrong_shape_is_refused(enforced, monkeypatch):
    scaling = enforced["bnlab.scaling"]
    monkeypatch.setattr(scaling, "_std", lambda rows: TWO[:1])
    with pytest.raises(TypeCheckError, match=r"Standardization.__init__\.\n.*'std'"):
        scaling.standardize(TABLE)


@pytest.mark.parametrize("module", CALLS)
def test_every_function_that_promises_shapes_is_called(module):
    def shapes(hint):
        parts = getattr(hint, "__args__", ())
        return any(map(shapes, parts)) or (
            isinstance(hint, type) and issubclass(hint, AbstractArray)
        )

    here = importlib.import_module(module)
    classes = {
        f"{name}.": kind
        for name, kind in inspect.getmembers(here, inspect.isclass)
        if kind.__module__ == module
    }
    promising = {
        prefix + name
        for prefix, owner in {"": here, **classes}.items()
        for name in vars(owner)
        if not name.startswith("_")
        and inspect.isfunction(function := find(here, prefix + name))
        and function.__module__ == module
        and any(map(shapes, get_type_hints(function).values()))
    }
    assert promising == set(CALLS[module])
