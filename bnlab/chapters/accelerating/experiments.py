"""Chapter 10: the paper's list of further changes, each alone and all together, with and without normalization."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from bnlab import data
from bnlab.chapters.accelerating.recipes import CHANGES, Images, Recipe, Run, checkpoints
from bnlab.chapters.accelerating.results import PaperTable, RecipeRuns
from bnlab.experiments import LongExperiment, Provenance, seeds_of
from bnlab.stats import Interval, Table, t_interval

__all__ = [
    "ARMS",
    "EXPERIMENT",
    "ON_FEW",
    "begin",
    "effects",
    "paper_table",
    "percentage_points",
    "race",
    "recipe",
    "same_start",
    "times_fewer",
]

BASELINE = {"plain": False, "BN": True}  # the nets, and whether they are normalized


def _all(r: Recipe, *but: str) -> Recipe:
    for name, change in CHANGES.items():
        r = r if name in but else change(r)
    return r


COMBINED: dict[str, Callable[[Recipe], Recipe]] = {
    "all": _all,
    "all, rate x 1": lambda r: _all(r, "rate x 5"),
}


def _arms() -> dict[str, Callable[[float], Recipe]]:
    changes = {"": lambda r: r} | {f" + {k}": v for k, v in (CHANGES | COMBINED).items()}
    arms = {
        net + name: lambda lr, change=change, on=on: change(Recipe(lr=lr, normalized=on))
        for net, on in BASELINE.items()
        for name, change in changes.items()
    }
    arms["BN + all, rate x 30"] = lambda lr: replace(arms["BN + all"](lr), lr=30 * lr)
    for name in ("plain", "BN + all"):
        joint = ", " if "+" in name else " + "
        arms[f"{name}{joint}sigmoid"] = lambda lr, name=name: replace(
            arms[name](lr), activation="sigmoid"
        )
    return arms


ARMS = _arms()
"""From the name of an arm to its recipe, given the baseline's learning rate: "plain" is the baseline, "BN" the
same with normalization, "BN + no LRN" with one change, "BN + all" with all seven."""


ON_FEW = [
    net + change
    for net in BASELINE
    for change in (
        *("", " + no Dropout", " + L2 / 5", " + distortion / 5"),
        *(" + shuffled", " + all", " + all, rate x 1"),
    )
]
"""The arms that the chapter repeats on sets that the network can learn by heart; a value for the setting "arms"."""


def recipe(arm: str, *, lr: float) -> Recipe:
    """Return the recipe of an arm, given the baseline's learning rate.

    Examples
    --------
    >>> recipe("BN + all", lr=0.1).lr, recipe("BN + no LRN", lr=0.1).lrn
    (0.5, False)
    """
    if arm not in ARMS:
        raise ValueError(f"arm is {arm!r}; expected one of {', '.join(map(repr, ARMS))}.")
    return ARMS[arm](lr)


def begin(config: dict[str, Any], arm: str, seed: int) -> Run:
    """Return one run of the experiment before its first step.

    Parameters
    ----------
    config : dict
        As `EXPERIMENT.defaults`, or the config that a stored result carries.
    arm : str
        A name in `ARMS`.
    seed : int

    Returns
    -------
    bnlab.chapters.accelerating.recipes.Run

    Examples
    --------
    >>> run = begin(EXPERIMENT.defaults | {"data": "mnist-5k"}, "BN", 0)
    >>> run.advance(2); run.done
    2
    """
    train, test = images(
        config["data"],
        config["side"],
        config["tested"],
        config.get("device", "cpu"),  # files from before there was a choice do not say
        trained=config["trained"],
    )
    return Run(
        recipe(arm, lr=config["lr"]),
        train,
        test,
        seed=seed,
        **{k: config[k] for k in ("steps", "batch_size", "shard", "channels", "momentum")},
    )


@cache
def images(
    name: str, side: int, tested: int, device: str = "cpu", *, trained: int | None = None
) -> tuple[Images, Images]:
    """Return the first `trained` training images, or all, and the first `tested` test images, read once."""
    train = Images.of(first(data.load(name), trained), side=side, device=device)
    test = first(data.load(name, split="test"), tested)
    return train, Images.of(test, side=side, like=train, device=device)


def first(part: data.Dataset, count: int | None) -> data.Dataset:
    """Return the first examples of a data set, or all if there are no more or `count` is None.

    Examples
    --------
    >>> len(first(data.load("mnist-5k"), 100)), len(first(data.load("mnist-5k"), 10**6))
    (100, 4000)
    """
    return part if count is None else part.take(np.arange(min(count, len(part))))


def _tasks(config: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple({"arm": arm, "seed": seed} for seed in seeds_of(config) for arm in config["arms"])


def _run(config: dict[str, Any], task: dict[str, Any]) -> dict[str, np.ndarray]:
    run = begin(config, task["arm"], task["seed"])
    run.advance(config["steps"])
    return run.outcome()


def _merge(config, tasks: Sequence[dict], outcomes: Sequence[dict]) -> RecipeRuns:
    found = {(t["arm"], t["seed"]): o for t, o in zip(tasks, outcomes, strict=True)}
    arms, seeds = tuple(config["arms"]), tuple(seeds_of(config))
    accuracy, loss = (
        np.array([[found[arm, seed][key] for seed in seeds] for arm in arms])
        for key in ("accuracy", "loss")
    )
    return RecipeRuns(
        data=config["data"],
        steps=config["steps"],
        batch_size=config["batch_size"],
        arms=arms,
        seeds=seeds,
        at=checkpoints(config["steps"]),
        accuracy=accuracy,
        loss=loss,
    )


def _check(runs: RecipeRuns, origin: Provenance) -> dict[str, float]:
    """Repeat the first checkpoint of each arm's first seed."""
    off = [same_start(runs, origin.config, arm, points=1) for arm in runs.arms]
    return {"loss, relative": max(off)}


EXPERIMENT = LongExperiment(
    name="accelerating",
    summary="Seven changes to training, each alone and all together, with and without BN",
    defaults={
        "data": "fashion-mnist",
        "trained": 10_000,
        "seeds": 8,
        "steps": 6400,
        "lr": 0.02,
        "batch_size": 32,
        "shard": 320,
        "side": 14,
        "tested": 5000,
        "channels": [8, 16, 32],
        "momentum": 0.9,
        "arms": list(ARMS),
        "device": "cpu",
    },
    tasks=_tasks,
    run=_run,
    merge=_merge,
    chapter=10,
    check=_check,
    tolerance=0.02,
)


# ---- reading the runs -----------------------------------------------------------------------------


def same_start(runs: RecipeRuns, config: dict[str, Any], arm: str, *, points: int = 2) -> float:
    """Begin the first seed of an arm again, and return the largest relative difference of its first losses.

    Parameters
    ----------
    runs : RecipeRuns
        A stored result.
    config : dict
        The config of its provenance.
    arm : str
    points : int
        Number of checkpoints to repeat.

    Returns
    -------
    float
        0 if today's code and processor give the stored losses to the last digit.
    """
    run = begin(config, arm, runs.seeds[0])
    run.advance(int(runs.at[points - 1]))
    stored = runs.loss[runs.arms.index(arm), 0, :points]
    return float(np.abs(run.loss[:points] / stored - 1).max())


def times_fewer(runs: RecipeRuns, before: str, after: str, *, short: float = 0.0) -> Interval | str:
    """Return how many times fewer steps one arm needs than another to the best accuracy of the baseline.

    Parameters
    ----------
    runs : RecipeRuns
    before, after : str
        Names of arms.
    short : float
        How far below that best accuracy is near enough.

    Returns
    -------
    bnlab.stats.Interval or str
        The geometric mean over the seeds. If not all of them arrive, the median and how many do; and if less than
        half do, only that.

    Examples
    --------
    >>> curves = np.array([[[0.1, 0.5], [0.2, 0.4], [0.1, 0.3]], [[0.5, 0.6], [0.3, 0.4], [0.1, 0.2]]])
    >>> runs = RecipeRuns("", 2, 1, ("plain", "BN"), (0, 1, 2), np.array([1, 2]), curves, curves)
    >>> times_fewer(runs, "plain", "plain"), times_fewer(runs, "plain", "BN")
    (1 [1, 1], '1.00 (2 of 3)')
    """
    a, b = (runs.steps_to_best(arm, short=short) for arm in (before, after))
    arrived = int(np.isfinite(a + b).sum())
    if arrived == len(b):
        return t_interval(a / b, geometric=True)
    if 2 * arrived > len(b):
        return f"{np.median(a / b):.2f} ({arrived} of {len(b)})"
    return f"({arrived} of {len(b)} arrive)"


def percentage_points(samples: np.ndarray) -> Interval:
    """Return the mean and the 95% interval of differences of accuracy, in percentage points to one decimal.

    Examples
    --------
    >>> percentage_points(np.array([0.01, 0.02, 0.03]))
    2 [-0.5, 4.5]
    """
    found = t_interval(100 * samples)
    return Interval(*(np.asarray(v.round(1) + 0.0) for v in (found.mean, found.low, found.high)))


def race(runs: RecipeRuns, arms: Mapping[str, str], *, base: str) -> Table:
    """Return a table of steps to the baseline's best accuracy, against one arm, and of best accuracies.

    Parameters
    ----------
    runs : RecipeRuns
    arms : mapping of str to str
        From labels to names of arms.
    base : str
        The arm that the others are compared with.
    """
    needed = {arm: runs.steps_to_best(arm) for arm in arms.values()}
    columns = {
        "network": list(arms),
        "steps": [_median_steps(s) for s in needed.values()],
        "times fewer": [
            "" if arm == base else times_fewer(runs, base, arm) for arm in arms.values()
        ],
        "best accuracy, %": [t_interval(100 * runs.best(arm)) for arm in arms.values()],
    }
    return Table(columns, formats={"times fewer": ".2f", "best accuracy, %": ".1f"})


def _median_steps(steps: np.ndarray) -> str:
    if np.isinf(steps).all():
        return "never"
    median = np.median(steps)
    return f"{median:.0f}" if np.isfinite(median) else "not by the median seed"


def effects(runs: RecipeRuns, change: str, *, count: int, of: str = "best") -> list[str]:
    """Return what a change does without normalization and with it, and the interaction, in percentage points.

    Parameters
    ----------
    runs : RecipeRuns
    change : str
        As for `RecipeRuns.effect`.
    count : int
        Number of intervals judged together: a star marks those that exclude zero also at a level set for all.
    of : {"best", "final"}
        Which accuracy.

    Returns
    -------
    list of str
    """
    plain, bn = (runs.effect(net, change, of=of) for net in BASELINE)
    cells = []
    for found in (plain, bn, bn - plain):
        strict = t_interval(100 * found, confidence=1 - 0.05 / count)
        star = "*" if strict.low > 0 or strict.high < 0 else ""
        cells.append(f"{percentage_points(found)}{star}")
    return cells


def paper_table() -> PaperTable:
    """Return the table of the paper's Figure 3, and what distinguishes each row.

    Inception networks on ImageNet, one run each, in mini-batches of 32: the steps to the best accuracy of the first
    row, and the best accuracy on the validation images.

    Returns
    -------
    PaperTable

    Notes
    -----
    Ioffe & Szegedy 2015, section 4.2.2 and Figure 3.

    Examples
    --------
    >>> table = paper_table()
    >>> round(float(table.steps[0] / table.steps[1]), 2)
    2.33
    """
    return PaperTable(
        models=("Inception", "BN-Baseline", "BN-x5", "BN-x30", "BN-x5-Sigmoid"),
        changes=(
            "unchanged",
            "BN",
            "BN, the list, rate x 5",
            "BN, the list, rate x 30",
            "BN, the list, rate x 5, sigmoid",
        ),
        steps=np.array([31.0e6, 13.3e6, 2.1e6, 2.7e6, np.inf]),
        accuracy=np.array([72.2, 72.7, 73.0, 74.8, 69.8]),
    )
