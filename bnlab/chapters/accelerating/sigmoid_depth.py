"""Chapter 10: deep networks of sigmoids, with and without normalization, each at its best learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from bnlab import data, models
from bnlab.chapters.accelerating.results import DepthRates
from bnlab.experiments import LongExperiment, seeds_of
from bnlab.training import Ensemble, Member

__all__ = ["EXPERIMENT", "GAINS", "NETS", "network", "repeat"]

NETS = ("plain", "BN", "scaled")
GAINS = {"sigmoid": 4.0, "tanh": 5 / 3, "relu": 2**0.5}
"""What the hidden layers' weights are multiplied by in the net "scaled", by nonlinearity.

The slope of a sigmoid is at most 1/4, so weights proper to a slope of 1 lose a factor of 4 in each layer.

:meta hide-value:
"""
LOOKS = (400, 1000, 2000, 4000, 8000, 16_000)


def network(
    net: str, *, depth: int, activation: str = "sigmoid", width: int = 100, seed: int = 0
) -> nn.Sequential:
    r"""Return a network for digits that begins with Gaussian weights of Glorot's size.

    .. math:: \sigma = g \sqrt{\frac{2}{n_\text{in} + n_\text{out}}}

    The gain g is 1, except in the hidden layers of the net "scaled", where it is that of `GAINS`.

    Parameters
    ----------
    net : {"plain", "BN", "scaled"}
    depth : int
        Number of hidden layers.
    activation : {"sigmoid", "tanh", "relu"}
    width : int
        Units of a hidden layer.
    seed : int

    Returns
    -------
    torch.nn.Sequential
        A `bnlab.models.mlp`; the weights are the same in all nets, but for the gain.

    Notes
    -----
    Glorot & Bengio 2010, equation 12, for the size at gain 1.

    Examples
    --------
    >>> plain, scaled = (network(net, depth=2).linear2.weight for net in ("plain", "scaled"))
    >>> bool(torch.equal(scaled, 4 * plain))
    True
    """
    if net not in NETS:
        raise ValueError(f"net is {net!r}; expected one of {', '.join(NETS)}.")
    model = models.mlp(
        [784, *[width] * depth, 10],
        activation=activation,
        norm=nn.BatchNorm1d if net == "BN" else None,
        seed=seed,
    )
    if net == "scaled":
        with torch.no_grad():
            for k in range(1, depth + 1):
                model.get_submodule(f"linear{k}").weight.mul_(GAINS[activation])
    return model


def looks(steps: int) -> list[int]:
    """Return after how many steps accuracy is measured, the last included.

    Examples
    --------
    >>> looks(4000), looks(500)
    ([400, 1000, 2000, 4000], [400, 500])
    """
    return [t for t in LOOKS if t < steps] + [steps]


def digits(held_out: int) -> tuple[data.Dataset, data.Dataset, data.Dataset]:
    """Return digits to train with, to choose the rate with, and to test with."""
    train, validation = data.load("mnist-5k").split(test=held_out, seed=1)
    return train, validation, data.load("mnist-5k", split="test")


# ---- the long experiment --------------------------------------------------------------------------


def tasks(config: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the tasks, a net of one depth each with all rates and seeds; the deepest come first."""
    depths = sorted(config["depths"], reverse=True)
    return tuple({"net": net, "depth": depth} for depth in depths for net in config["nets"])


def run(config: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Train one net of one depth with every seed at every rate."""
    train, *judged = digits(config["held_out"])
    shape = len(seeds_of(config)), len(config["rates"])
    ensemble = Ensemble(
        lambda seed: network(
            task["net"],
            depth=task["depth"],
            activation=config["activation"],
            width=config["width"],
            seed=seed,
        ),
        train,
        members=[Member(float(lr), seed) for seed in seeds_of(config) for lr in config["rates"]],
        batch_size=config["batch_size"],
        device=config["device"],
    )
    found = []
    for step in looks(config["steps"]):
        ensemble.advance(step - ensemble.step)
        found.append([ensemble.evaluate(part).accuracy.reshape(shape) for part in judged])
    validation, accuracy = np.stack(found, axis=-1)
    return {"validation": validation, "accuracy": accuracy}


def merge(
    config: Mapping[str, Any],
    tasks: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Mapping[str, np.ndarray]],
) -> DepthRates:
    """Return the result of all tasks."""
    by_task = {(t["net"], t["depth"]): o for t, o in zip(tasks, outcomes, strict=True)}

    def stack(name: str) -> np.ndarray:
        rows = [[by_task[net, d][name] for d in config["depths"]] for net in config["nets"]]
        return np.array(rows, dtype=np.float32)

    return DepthRates(
        activation=config["activation"],
        steps=config["steps"],
        batch_size=config["batch_size"],
        held_out=config["held_out"],
        nets=tuple(config["nets"]),
        depths=tuple(config["depths"]),
        seeds=seeds_of(config),
        lr=np.array(config["rates"], dtype=float),
        looks=np.array(looks(config["steps"])),
        validation=stack("validation"),
        accuracy=stack("accuracy"),
    )


EXPERIMENT = LongExperiment(
    name="accelerating-depth",
    summary="Chapter 10: networks of 1 to 12 layers of sigmoids, tanh or ReLU, with and without BN",
    defaults={
        "activation": "sigmoid",
        "nets": list(NETS),
        "depths": [1, 3, 5, 12],
        "rates": [0.1, 0.3, 1.0, 3.0],
        "width": 100,
        "held_out": 800,
        "batch_size": 60,
        "steps": 2000,
        "seeds": 3,
        "device": "cpu",
    },
    tasks=tasks,
    run=run,
    merge=merge,
    chapter=10,
)


# ---- reading the result ---------------------------------------------------------------------------


def repeat(result: DepthRates, net: str, depth: int, *, seed: int | None = None) -> float:
    """Train one network today up to the first look, and return how far its test accuracy is off.

    Parameters
    ----------
    result : DepthRates
    net : str
    depth : int
        One of ``result.depths``.
    seed : int, optional
        One of ``result.seeds``; the first unless given.

    Returns
    -------
    float
        Largest difference of accuracy, on the digits held out and on those of the test.

    Examples
    --------
    >>> config = EXPERIMENT.configure({"nets": ["BN"], "depths": [1], "rates": [1], "seeds": 1, "steps": 5})
    >>> (task,) = tasks(config)
    >>> repeat(merge(config, [task], [run(config, task)]), "BN", 1)
    0.0
    """
    seed = result.seeds[0] if seed is None else seed
    i, j, k = result.nets.index(net), result.depths.index(depth), result.seeds.index(seed)
    rate = result.at_best_rate(0)[1][i, j]
    config = EXPERIMENT.configure({
        "activation": result.activation, "held_out": result.held_out, "rates": [rate], "seeds": [seed],
        "batch_size": result.batch_size, "steps": int(result.looks[0]),
    })  # fmt: skip
    again = run(config, {"net": net, "depth": depth})
    at = (i, j, k, result.lr.tolist().index(rate), 0)
    off = [float(again[n].item() - getattr(result, n)[at]) for n in ("validation", "accuracy")]
    return round(max(map(abs, off)), 6)
