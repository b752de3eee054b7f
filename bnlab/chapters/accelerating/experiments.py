"""Chapter 10: the paper's list of further changes, each alone and all together, with and without normalization."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from bnlab import data
from bnlab.chapters.accelerating.recipes import CHANGES, Images, Recipe, Run, checkpoints
from bnlab.chapters.accelerating.results import PaperTable, RecipeRuns
from bnlab.experiments import LongExperiment, Provenance, seeds_of

__all__ = [
    "ARMS",
    "EXPERIMENT",
    "ON_FEW",
    "begin",
    "best",
    "effect",
    "final",
    "interaction",
    "live_data",
    "paper_table",
    "recipe",
    "same_start",
    "steps_to",
    "steps_to_best",
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
    summary="Chapter 10: seven changes to training, each alone and all together, with and without BN",
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


def steps_to(accuracy: np.ndarray, at: np.ndarray, target: float | np.ndarray) -> np.ndarray:
    """Return the number of steps at which each curve first reaches its target; infinity if it never does.

    Parameters
    ----------
    accuracy : numpy.ndarray, shape (..., checkpoints)
    at : numpy.ndarray, shape (checkpoints,)
        Steps done at each checkpoint.
    target : float or numpy.ndarray, shape (...)

    Returns
    -------
    numpy.ndarray, shape (...)

    Examples
    --------
    >>> steps_to(np.array([[0.1, 0.7, 0.6], [0.2, 0.3, 0.4]]), np.array([10, 20, 30]), 0.5).tolist()
    [20.0, inf]
    """
    reached = accuracy >= np.asarray(target)[..., None]
    return np.where(reached.any(axis=-1), at[reached.argmax(axis=-1)], np.inf)


def best(runs: RecipeRuns, arm: str) -> np.ndarray:
    """Return the best accuracy of each seed of one arm, over the checkpoints.

    Examples
    --------
    >>> curves = np.array([[[0.1, 0.5, 0.4]]])
    >>> runs = RecipeRuns("", 3, 1, ("plain",), (0,), np.arange(3), curves, curves)
    >>> best(runs, "plain").tolist()
    [0.5]
    """
    return runs.best(arm)


def final(runs: RecipeRuns, arm: str) -> np.ndarray:
    """Return the accuracy of each seed of one arm at the end: the mean of the last four checkpoints.

    Examples
    --------
    >>> curves = np.array([[[0.1, 0.5, 0.25, 0.5, 0.25]]])
    >>> runs = RecipeRuns("", 5, 1, ("plain",), (0,), np.arange(5), curves, curves)
    >>> final(runs, "plain").tolist()
    [0.375]
    """
    return runs.final(arm)


def steps_to_best(
    runs: RecipeRuns, arm: str, *, target: str = "plain", short: float = 0.0
) -> np.ndarray:
    """Return how many steps each seed of an arm needs to the best accuracy of the same seed of `target`.

    Parameters
    ----------
    runs : RecipeRuns
    arm, target : str
        Names in `ARMS`.
    short : float
        How far below that best accuracy is near enough.

    Returns
    -------
    numpy.ndarray, shape (seeds,)
        Infinity where it is not reached.

    Examples
    --------
    >>> curves = np.array([[[0.1, 0.5, 0.6]], [[0.6, 0.7, 0.7]]])
    >>> runs = RecipeRuns("", 3, 1, ("plain", "BN"), (0,), np.array([1, 2, 3]), curves, curves)
    >>> steps_to_best(runs, "plain").tolist(), steps_to_best(runs, "BN").tolist()
    ([3.0], [1.0])
    >>> steps_to_best(runs, "plain", short=0.15).tolist()
    [2.0]
    """
    target_accuracy = best(runs, target) - short
    return steps_to(runs.accuracy[runs.arms.index(arm)], runs.at, target_accuracy)


def effect(
    runs: RecipeRuns,
    net: str,
    change: str,
    *,
    of: Callable[[RecipeRuns, str], np.ndarray] = best,
) -> np.ndarray:
    r"""Return what a change does to the accuracy of a net, seed by seed.

    .. math:: a(\text{net} + \text{change}) - a(\text{net})

    Parameters
    ----------
    runs : RecipeRuns
    net : {"plain", "BN"}
    change : str
        A name in `bnlab.chapters.accelerating.recipes.CHANGES`, "all" or "all, rate x 1".
    of : callable
        Which accuracy: `best` or `final`.

    Returns
    -------
    numpy.ndarray, shape (seeds,)

    Examples
    --------
    >>> curves = np.array([[[0.5]], [[0.75]]])
    >>> runs = RecipeRuns("", 1, 1, ("BN", "BN + all"), (0,), np.array([1]), curves, curves)
    >>> effect(runs, "BN", "all").tolist()
    [0.25]
    """
    return of(runs, f"{net} + {change}") - of(runs, net)


def interaction(
    runs: RecipeRuns, change: str, *, of: Callable[[RecipeRuns, str], np.ndarray] = best
) -> np.ndarray:
    """Return the effect of a change with normalization less its effect without, seed by seed; see `effect`.

    Examples
    --------
    >>> curves = np.array([0.5, 0.75, 0.75, 0.75])[:, None, None]
    >>> arms = ("plain", "plain + all", "BN", "BN + all")
    >>> interaction(RecipeRuns("", 1, 1, arms, (0,), np.array([1]), curves, curves), "all").tolist()
    [-0.25]
    """
    return effect(runs, "BN", change, of=of) - effect(runs, "plain", change, of=of)


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


def live_data(runs: RecipeRuns) -> str:
    """Return the script with the accuracies that the chapter's live figure shows, in ten-thousandths.

    Examples
    --------
    >>> curves = np.array([[[0.1, 0.5]]])
    >>> print(live_data(RecipeRuns("", 3, 1, ("plain",), (0,), np.array([1, 2]), curves, curves)))
    /* Written by tools/write_live_data.py from book/results/accelerating.npz. */
    BNLive.data["recipe-race"] = {"at":[1,2],"accuracy":{
    "plain":[[1000,5000]]}};
    <BLANKLINE>
    """
    accuracy = (runs.accuracy * 10_000).round().astype(int)
    lines = [
        json.dumps({arm: found.tolist()}, separators=(",", ":"))[1:-1]
        for arm, found in zip(runs.arms, accuracy, strict=True)
    ]
    at = json.dumps(runs.at.tolist(), separators=(",", ":"))
    return (
        "/* Written by tools/write_live_data.py from book/results/accelerating.npz. */\n"
        f'BNLive.data["recipe-race"] = {{"at":{at},"accuracy":{{\n' + ",\n".join(lines) + "}};\n"
    )


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
            "nothing",
            "BN",
            "BN, the list, rate x 5",
            "BN, the list, rate x 30",
            "BN, the list, rate x 5, sigmoid",
        ),
        steps=np.array([31.0e6, 13.3e6, 2.1e6, 2.7e6, np.inf]),
        accuracy=np.array([72.2, 72.7, 73.0, 74.8, 69.8]),
    )
