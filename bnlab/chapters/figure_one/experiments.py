"""Chapter 9: Figure 1 of the paper, at full length and over many seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from bnlab import data, models, probes
from bnlab.chapters.figure_one.results import FigureOne
from bnlab.experiments import LongExperiment, seeds_of
from bnlab.training import Ensemble, Member, tensors

__all__ = ["ARMS", "EXPERIMENT", "LAYER", "RATES", "SIZES", "images", "network", "schedule"]

SIZES = (784, 100, 100, 100, 10)  # the network of Ioffe & Szegedy 2015, section 4.1
ARMS = ("without", "with")  # Batch Normalization
LAYER = "act3"  # the sigmoids of the last hidden layer, whose inputs Figure 1 (b, c) shows
PERCENTILES = (15, 50, 85)
THRESHOLD = 0.5  # a pixel above it is 1 and any other 0
EDGES = np.linspace(-10, 10, 41)
WATCHED = 1000  # test images whose inputs to that layer are recorded
SEEN = 2000  # training images on which training accuracy is measured
TOGETHER = 4  # networks trained in one batched run: 50,000 steps take a minute or two

RATES = {
    ("mnist", 0): {"without": 3.0, "with": 3.0},
    ("fashion-mnist", 0): {"without": 1.0, "with": 0.3},
    ("mnist-5k", 0): {"without": 3.0, "with": 30.0},
    ("mnist-5k", 14): {"without": 1.0, "with": 3.0},
}
"""The learning rates that the search found best, by data set and number of deformed copies.

:meta hide-value:
"""


def images(
    name: str, *, pixels: str = "binary", copies: int = 0, held_out: int = 0
) -> tuple[data.Dataset, data.Dataset]:
    """Return the training and the test images of a run.

    Parameters
    ----------
    name : str
        A name that `bnlab.data.load` knows.
    pixels : {"binary", "gray"}
        Whether each pixel becomes 0 or 1, as in the paper, or stays as it is.
    copies : int
        Add so many deformed copies of each training image, and none of test images.
    held_out : int
        If above 0, so many training images are judged in place of the test images, and not trained
        with.

    Returns
    -------
    train, test : bnlab.data.Dataset

    Examples
    --------
    >>> train, test = images("mnist-5k")
    >>> len(train), len(test), np.unique(train.x).tolist()
    (4000, 1000, [0.0, 1.0])
    """
    if pixels not in ("binary", "gray"):
        raise ValueError(f"pixels is {pixels!r}; expected 'binary' or 'gray'.")
    train, test = data.load(name), data.load(name, split="test")
    if held_out:
        train, test = train.split(test=held_out, seed=1)
    if copies:
        train = data.deform(train, copies, 0)
    if pixels == "gray":
        return train, test
    return _binary(train), _binary(test)


def _binary(part: data.Dataset) -> data.Dataset:
    return replace(part, x=(part.x > THRESHOLD).astype(np.float32))


def network(arm: str, *, seed: int, sigma: float = 0.1) -> nn.Sequential:
    r"""Return the paper's network with weights from :math:`N(0, \sigma^2)`, the same in both arms.

    Examples
    --------
    >>> [name for name, _ in network("with", seed=0).named_children()][-3:]
    ['norm3', 'act3', 'linear4']
    """
    norm = {"without": None, "with": nn.BatchNorm1d}[arm]
    return models.mlp(SIZES, activation="sigmoid", norm=norm, init_std=sigma, seed=seed)


def schedule(steps: int) -> np.ndarray:
    """Return after how many steps to look at the networks: often at first, then less and less.

    Examples
    --------
    >>> schedule(220).tolist()
    [0, 50, 100, 150, 200, 220]
    >>> len(schedule(50_000))
    63
    """
    spans = ((0, 500, 50), (500, 1000, 100), (1000, 3000, 250), (3000, 10_000, 500),
             (10_000, 20_000, 1000), (20_000, steps, 2000))  # fmt: skip
    looks = [np.arange(start, min(stop, steps), gap) for start, stop, gap in spans]
    return np.append(np.concatenate(looks), steps)


# ---- looking at the networks -----------------------------------------------------------------------


class Looks:
    """What is recorded of an ensemble at each step of a schedule."""

    def __init__(self, steps: int, train: data.Dataset, test: data.Dataset, *, normalized: bool):
        self.steps = schedule(steps)
        self.watched = np.unique(np.append(self.steps[::2], steps))
        self.recalibrated = self.steps[_near(self.steps)] if normalized else self.steps[:0]
        self.test, self.seen = test, train.take(np.arange(min(SEEN, len(train))))
        self._x = tensors(test)[0][:WATCHED]
        self._batches = list(tensors(train.take(np.arange(min(5000, len(train)))))[0].split(500))
        self._found: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}

    def take(self, ensemble: Ensemble) -> None:
        """Look at the networks if this is a step to do so."""
        if ensemble.step not in self.steps:
            return
        scores = ensemble.evaluate(self.test)
        found = {"accuracy": scores.accuracy, "loss": scores.loss}
        found["train_accuracy"] = ensemble.evaluate(self.seen).accuracy
        if ensemble.step in self.recalibrated:
            exact = ensemble.evaluate(self.test, recalibrate_on=self._batches)
            found["recalibrated"] = exact.accuracy
        if ensemble.step in self.watched:
            inputs = [self._inputs(ensemble.model(i)) for i in range(len(ensemble.members))]
            q = np.percentile(inputs, PERCENTILES, axis=1).swapaxes(0, 1)
            found["percentiles"] = np.clip(q, -6e4, 6e4).astype(np.float16)  # it ends at 65504
            found["histogram"] = np.stack([_counts(x) for x in inputs])
        for name, value in found.items():
            self._found[name].append(value)

    def _inputs(self, model: nn.Sequential) -> np.ndarray:
        """Return what the sigmoids receive in training mode, all watched images in one batch."""
        return probes.observe(model.cpu().train(), self._x, [LAYER])[LAYER]

    def outcome(self) -> dict[str, np.ndarray]:
        """Return what was recorded, member by member; what never was is left out."""
        return {name: np.stack(v, axis=1) for name, v in self._found.items() if v}


NAMES = ("accuracy", "loss", "train_accuracy", "recalibrated", "percentiles", "histogram")


def _near(steps: np.ndarray) -> np.ndarray:
    """Return which looks come with exact statistics: every eighth, and the last."""
    return np.unique(np.append(np.arange(4, len(steps), 8), len(steps) - 1))


def _counts(inputs: np.ndarray) -> np.ndarray:
    """Count each unit's inputs in the bins, shape (units, bins)."""
    inside = np.clip(inputs, EDGES[0], EDGES[-1])
    return np.stack([np.histogram(unit, EDGES)[0] for unit in inside.T]).astype(np.uint16)


# ---- the long experiment ---------------------------------------------------------------------------


def tasks(config: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the tasks: an arm, and up to four pairs of a learning rate and a seed."""
    found = []
    for arm in ARMS:
        pairs = [[rate, seed] for rate in config["rates"][arm] for seed in seeds_of(config)]
        parts = [pairs[i : i + TOGETHER] for i in range(0, len(pairs), TOGETHER)]
        found += [{"arm": arm, "members": part} for part in parts]
    return tuple(found)


def run(config: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Train the networks of one task and look at them along the way."""
    train, test = images(
        config["data"],
        pixels=config["pixels"],
        copies=config["copies"],
        held_out=config["held_out"],
    )
    ensemble = Ensemble(
        lambda seed: network(task["arm"], seed=seed, sigma=config["sigma"]),
        train,
        members=[Member(float(rate), int(seed)) for rate, seed in task["members"]],
        batch_size=config["batch_size"],
        device=config["device"],
    )
    looks = Looks(config["steps"], train, test, normalized=task["arm"] == "with")
    for step in looks.steps.tolist():
        ensemble.advance(step - ensemble.step)
        looks.take(ensemble)
    return looks.outcome()


def merge(
    config: Mapping[str, Any],
    tasks: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Mapping[str, np.ndarray]],
) -> FigureOne:
    """Return the result of all tasks."""
    settings = [(arm, rate) for arm in ARMS for rate in config["rates"][arm]]
    seeds = seeds_of(config)
    by_member = by_arm_rate_and_seed(tasks, outcomes)

    def stack(name: str) -> np.ndarray:
        return np.stack([[by_member[*s, seed][name] for seed in seeds] for s in settings])

    looks = schedule(config["steps"])
    few = looks[_near(looks)]
    for found in by_member.values():
        found.setdefault("recalibrated", np.full(len(few), np.nan))
    return FigureOne(
        data=config["data"],
        pixels=config["pixels"],
        copies=config["copies"],
        sigma=config["sigma"],
        batch_size=config["batch_size"],
        arms=tuple(arm for arm, _ in settings),
        rates=tuple(float(rate) for _, rate in settings),
        seeds=seeds,
        steps=looks,
        recalibrated_steps=few,
        watched=np.unique(np.append(looks[::2], looks[-1])),
        edges=EDGES,
        histogram=stack("histogram")[:, 0],
        **{name: stack(name) for name in NAMES if name != "histogram"},
    )


def by_arm_rate_and_seed(tasks, outcomes) -> dict[tuple[str, float, int], dict[str, np.ndarray]]:
    """Return what was recorded of each network."""
    return {
        (task["arm"], rate, seed): {name: values[i] for name, values in outcome.items()}
        for task, outcome in zip(tasks, outcomes, strict=True)
        for i, (rate, seed) in enumerate(task["members"])
    }


EXPERIMENT = LongExperiment(
    name="figure-one-mnist",
    summary="Figure 1 of the paper: accuracy, and the inputs of the last sigmoids, with and without BN",
    defaults={
        "data": "mnist",
        "pixels": "binary",
        "copies": 0,
        "held_out": 0,
        "rates": {arm: [rate] for arm, rate in RATES["mnist", 0].items()},
        "sigma": 0.1,
        "batch_size": 60,
        "steps": 50_000,
        "seeds": 8,
        "device": "cpu",
    },
    tasks=tasks,
    run=run,
    merge=merge,
    chapter=9,
)
