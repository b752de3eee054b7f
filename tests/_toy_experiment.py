"""A long experiment for the tests: chaotic, so that one wrong bit shows; its tasks misbehave when told to."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnlab.experiments import LongExperiment, Result


@dataclass(frozen=True)
class ToyNoise(Result):
    loss: np.ndarray


def run(config, task):
    """Do what the file ``<orders>/<seed>`` says, if there is one, and write down who began which task."""
    seed, orders = task["seed"], Path(config["orders"])
    if config["orders"]:
        with (orders / "log").open("a") as log:
            log.write(f"{seed} {os.getpid()}\n")
        order = orders / str(seed)
        while (word := order.read_text() if order.exists() else "") == "wait":
            time.sleep(0.02)
        if word == "raise":
            raise ArithmeticError("it went\nwrong")
        if word == "die once":
            order.unlink()
        if word.startswith("die"):
            os.kill(os.getpid(), signal.SIGKILL)
    x, rng = np.zeros(50), np.random.default_rng(seed)
    for _ in range(config["steps"]):
        x = np.cos(3.7 * x + rng.standard_normal(50))
    return {"loss": x}


def tasks(config):
    return tuple({"seed": seed} for seed in range(config["seeds"]))


def merge(config, tasks, outcomes):
    return ToyNoise(np.concatenate([outcome["loss"] for outcome in outcomes]))


EXPERIMENT = LongExperiment(
    name="toy",
    summary="a chaotic map",
    defaults={"seeds": 3, "steps": 40, "data": "mnist-5k", "noise": 1.0, "any": None, "orders": ""},
    tasks=tasks,
    run=run,
    merge=merge,
)


def expected(seeds=3, steps=40):
    """Compute the result without the machinery."""
    config = EXPERIMENT.defaults | {"seeds": seeds, "steps": steps}
    return np.concatenate([run(config, task)["loss"] for task in tasks(config)])
