"""A long experiment for the tests: chaotic, so that one wrong bit shows, and as slow as it is told to be."""

import json
import os
import time
from dataclasses import dataclass

import numpy as np

from bnlab.experiments import LongExperiment, Result


@dataclass(frozen=True)
class Noise(Result):
    loss: np.ndarray


hook = None
"""Called as hook(seed, step), if a test in this process sets it."""


def run(config, task, *, state, report, device="cpu"):
    rng = np.random.default_rng(task["seed"])
    t, x, loss = 0, np.zeros(5), np.zeros(config["steps"])
    if state is not None:
        t, x, loss = state["t"], state["x"], state["loss"]
        rng.bit_generator.state = json.loads(state["rng"])
    if config["log"]:
        with open(config["log"], "a") as log:
            log.write(f"{task['seed']} {t} {os.getpid()}\n")
    while t < config["steps"]:
        if config["trouble"] == [task["seed"], t]:
            raise ArithmeticError("it went\nwrong")
        if config["death"] == [task["seed"], t]:
            os._exit(7)
        x = np.cos(3.7 * x + rng.standard_normal(len(x)))
        loss[t] = x.mean()
        t += 1
        time.sleep(config["sleep"])
        if hook is not None:
            hook(task["seed"], t)
        if t % 5 == 0:
            now = {"t": t, "x": x, "loss": loss, "rng": json.dumps(rng.bit_generator.state)}
            report(t, config["steps"], lambda now=now: now)
    return {"loss": loss}


def tasks(config):
    return tuple({"seed": seed} for seed in range(config["seeds"]))


def merge(config, tasks, outcomes):
    assert [task["seed"] for task in tasks] == list(range(config["seeds"]))
    loss = np.concatenate([outcome["loss"] for outcome in outcomes])
    return Noise(loss)


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
    """Compute the result without the runner."""
    config = EXPERIMENT.defaults | {"seeds": seeds, "steps": steps}
    outcomes = [
        run(config, task, state=None, report=lambda *a: None)["loss"] for task in tasks(config)
    ]
    return np.concatenate(outcomes)
