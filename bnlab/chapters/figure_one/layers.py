"""Chapter 9: what the sigmoids of all three hidden layers receive in training, at every learning rate of the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from bnlab import data, probes
from bnlab.chapters.figure_one.experiments import ARMS, images, network
from bnlab.chapters.figure_one.results import LayerViews
from bnlab.experiments import LongExperiment
from bnlab.training import Ensemble, Member, tensors

__all__ = ["EXPERIMENT", "LAYERS", "schedule"]

LAYERS = ("act1", "act2", "act3")
EDGES = np.linspace(-8, 8, 33)
WATCHED = 1000  # test images


def schedule(steps: int) -> np.ndarray:
    """Return after how many steps to look: 0, 10, 20, 30, 50, 70, 100, 150, 200, 300 and so on.

    Examples
    --------
    >>> schedule(250).tolist()
    [0, 10, 20, 30, 50, 70, 100, 150, 200, 250]
    """
    looks = [
        int(a * 10.0**k) for k in range(1, 7) for a in (1, 1.5, 2, 3, 5, 7) if (a, k) != (1.5, 1)
    ]
    return np.array([0, *(look for look in looks if look < steps), steps])


def tasks(config: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the tasks: an arm from weights of one size, at all rates together."""
    return tuple({"arm": arm, "sigma": sigma} for arm, sigma in product(ARMS, config["sigmas"]))


def run(config: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Train one network at each rate, and look at its layers along the way."""
    train, test = images(config["data"])
    ensemble = Ensemble(
        lambda seed: network(task["arm"], seed=seed, sigma=task["sigma"]),
        train,
        members=[Member(float(rate), config["seed"]) for rate in config["rates"]],
        batch_size=config["batch_size"],
    )
    accuracy, histogram = [], []
    for step in schedule(config["steps"]).tolist():
        ensemble.advance(step - ensemble.step)
        accuracy.append(ensemble.evaluate(test).accuracy)
        histogram.append([_counts(ensemble.model(i), test) for i in range(len(config["rates"]))])
    return {
        "accuracy": np.stack(accuracy, axis=1),
        "histogram": np.stack(histogram, axis=1),
    }


def _counts(model, test: data.Dataset) -> np.ndarray:
    """Count what the sigmoids of each layer receive, all units and watched images together: (layers, bins)."""
    seen = probes.observe(model.cpu().train(), tensors(test)[0][:WATCHED], LAYERS)
    inside = [np.clip(seen[layer], EDGES[0], EDGES[-1]) for layer in LAYERS]
    return np.stack([np.histogram(values, EDGES)[0] for values in inside])


def merge(
    config: Mapping[str, Any],
    tasks: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Mapping[str, np.ndarray]],
) -> LayerViews:
    """Return the result of all tasks."""
    shape = (len(ARMS), len(config["sigmas"]))
    found = {name: np.stack([o[name] for o in outcomes]) for name in ("accuracy", "histogram")}
    return LayerViews(
        data=config["data"],
        arms=ARMS,
        sigmas=tuple(float(s) for s in config["sigmas"]),
        rates=tuple(float(r) for r in config["rates"]),
        seed=config["seed"],
        steps=schedule(config["steps"]),
        edges=EDGES,
        **{name: values.reshape(shape + values.shape[1:]) for name, values in found.items()},
    )


EXPERIMENT = LongExperiment(
    name="figure-one-layers",
    summary="Inputs of all sigmoids and accuracy in training, at six learning rates from weights of three sizes",
    defaults={
        "data": "mnist",
        "sigmas": [0.03, 0.1, 0.3],
        "rates": [0.1, 0.3, 1.0, 3.0, 10.0, 30.0],
        "batch_size": 60,
        "steps": 20_000,
        "seed": 0,
    },
    tasks=tasks,
    run=run,
    merge=merge,
    chapter=9,
)
