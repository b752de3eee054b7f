"""A long experiment for the tests: chaotic, so that one wrong bit shows, and as slow as it is told to be."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnlab.experiments import LongExperiment, Result


@dataclass(frozen=True)
class Noise(Result):
    loss: np.ndarray


def run(config, task):
    seed = task["seed"]
    if config["log"]:
        with open(config["log"], "a") as log:
            log.write(f"{seed} {os.getpid()}\n")
    if config["trouble"] == seed:
        raise ArithmeticError("it went\nwrong")
    if config["death"] == seed and not Path(config["log"] + ".died").exists():
        Path(config["log"] + ".died").touch()  # once
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(config["sleep"] if seed else 0)
    x, rng = np.zeros(50), np.random.default_rng(seed)
    for _ in range(config["steps"]):
        x = np.cos(3.7 * x + rng.standard_normal(50))
    return {"loss": x}


def tasks(config):
    return tuple({"seed": seed} for seed in range(config["seeds"]))


def merge(config, tasks, outcomes):
    return Noise(np.concatenate([outcome["loss"] for outcome in outcomes]))


EXPERIMENT = LongExperiment(
    name="toy",
    summary="a chaotic map",
    defaults={
        "seeds": 3, "steps": 40, "data": "mnist-5k", "sleep": 0.0, "log": "", "trouble": None, "death": None,
    },
    tasks=tasks,
    run=run,
    merge=merge,
)  # fmt: skip


def expected(seeds=3, steps=40):
    """Compute the result without the machinery."""
    config = EXPERIMENT.defaults | {"seeds": seeds, "steps": steps}
    return np.concatenate([run(config, task)["loss"] for task in tasks(config)])
