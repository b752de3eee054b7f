"""Chapter 9: the experiments whose results are stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bnlab.chapters.figure_one import experiments, fair_start, layers, measures, rates
from bnlab.chapters.figure_one.results import FairStart, FigureOne, LayerViews, RateSearch
from bnlab.experiments import LongExperiment, Provenance

__all__ = ["EXPERIMENTS"]


def _check_run(result: FigureOne, origin: Provenance) -> dict[str, float]:
    """Repeat 50 steps of one seed, each arm at its lowest rate: at the highest, rounding errors explode."""
    both = list(zip(result.arms, result.rates, strict=True))
    lowest = {arm: min(rate for a, rate in both if a == arm) for arm in experiments.ARMS}
    return measures.repeats(result, steps=50, seed=result.seeds[0], rates=lowest)


def _check_search(result: RateSearch, origin: Provenance) -> dict[str, float]:
    """Repeat 50 steps of one seed of both arms at the lowest rate."""
    prefix = {"rates": [result.rates[0]], "seeds": [result.seeds[0]], "steps": 50}
    config = SEARCH.defaults | origin.config | prefix
    plan = SEARCH.plan(config)
    again = SEARCH.merge(config, plan, tuple(SEARCH.run(config, task) for task in plan))
    stored = result.accuracy[:, 0, 0, : len(again.steps)]
    return {"accuracy": float(np.abs(again.accuracy[:, 0, 0] - stored).max())}


def _check_layers(result: LayerViews, origin: Provenance) -> dict[str, float]:
    """Repeat 50 steps at the lowest rate, from weights of each size."""
    config = LAYERS.defaults | origin.config | {"rates": [result.rates[0]], "steps": 50}
    plan = LAYERS.plan(config)
    again = LAYERS.merge(config, plan, tuple(LAYERS.run(config, task) for task in plan))
    looks = len(again.steps)
    images = result.histogram[0, 0, 0, 0].sum(axis=-1).max()
    return {
        "accuracy": float(np.abs(again.accuracy - result.accuracy[:, :, :1, :looks]).max()),
        "histogram": float(
            np.abs(again.histogram - result.histogram[:, :, :1, :looks]).max() / images
        ),
    }


def _check_fair(result: FairStart | RateSearch, origin: Provenance) -> dict[str, float]:
    """Repeat 10 steps of one seed, each arm at its only, or its lowest, rate."""
    entry = FAIR if isinstance(result, FairStart) else FAIR_SEARCH
    lowest = {arm: rates[:1] for arm, rates in origin.config["rates"].items()}
    config = origin.config | {"rates": lowest, "seeds": [result.seeds[0]], "steps": 10}
    plan = entry.plan(config)
    again = entry.merge(config, plan, tuple(entry.run(config, task) for task in plan))
    stored = result.accuracy.reshape(len(result.arms), -1, len(result.steps))[:, 0]
    found = again.accuracy.reshape(len(result.arms), -1)
    return {"accuracy": float(np.abs(found - stored[:, : found.shape[1]]).max())}


EIGHT = replace(experiments.EXPERIMENT, check=_check_run, tolerance=0.01)
MAIN = replace(EIGHT, defaults=EIGHT.defaults | {"seeds": 16})
SEARCH = replace(rates.EXPERIMENT, check=_check_search, tolerance=0.01)
LAYERS = replace(layers.EXPERIMENT, check=_check_layers, tolerance=0.01)
FAIR = replace(fair_start.EXPERIMENT, check=_check_fair, tolerance=0.01)
FAIR_SEARCH = replace(fair_start.SEARCH, check=_check_fair, tolerance=0.01)


def _run(
    name: str, summary: str, source: str, copies: int = 0, **changes: object
) -> LongExperiment:
    """Return Figure 1 on other data, each arm at the rate that is its best there unless given."""
    best = {arm: [rate] for arm, rate in experiments.RATES[source, copies].items()}
    defaults = EIGHT.defaults | {"data": source, "copies": copies, "rates": best} | changes
    return replace(EIGHT, name=f"figure-one-{name}", summary=summary, defaults=defaults)


def _search(name: str, summary: str, **changes: object) -> LongExperiment:
    """Return the search for learning rates on other data, or from other weights."""
    defaults = SEARCH.defaults | changes
    return replace(SEARCH, name=f"figure-one-{name}", summary=summary, defaults=defaults)


EXPERIMENTS = (
    MAIN,
    LAYERS,
    FAIR,
    FAIR_SEARCH,
    _run("fashion", "Figure 1 on Fashion-MNIST", "fashion-mnist"),
    _run("gray", "Figure 1 on Fashion-MNIST in gray", "fashion-mnist", pixels="gray", steps=20_000),
    _run(
        "digits", "Figure 1 on the bundled 4,000 digits; with BN at two rates", "mnist-5k",
        rates={"without": [3.0], "with": [30.0, 10.0]},
    ),
    _run("deformed", "Figure 1 on those digits and 14 deformed copies of each", "mnist-5k", 14),
    _run(
        "one-rate-mnist", "Figure 1 with both arms at one low rate", "mnist",
        rates={"without": [0.1], "with": [0.1]},
    ),
    SEARCH,
    _search("rates-fashion", "The learning rates of figure-one-fashion", data="fashion-mnist", seeds=2),
    _search(
        "rates-digits", "The learning rates of figure-one-digits", data="mnist-5k", held_out=800,
        rates=[0.3, 1.0, 3.0, 10.0, 30.0, 100.0],
    ),
    _search(
        "rates-deformed", "The learning rates of figure-one-deformed", data="mnist-5k", held_out=800, copies=14
    ),
    *(
        _search(f"sigma-{sigma}", f"Learning rates from weights of N(0, {sigma}²)", sigma=sigma, steps=20_000)
        for sigma in (0.01, 0.03, 0.3)
    ),
)  # fmt: skip
"""Each makes the file of its name in ``book/results``."""
