"""Chapter 10: the experiments whose results are stored."""

from __future__ import annotations

from dataclasses import replace

from bnlab.chapters.accelerating import experiments, rates, sigmoid_depth

__all__ = ["EXPERIMENTS"]

MAIN = experiments.EXPERIMENT

EXPERIMENTS = (
    MAIN,
    replace(
        MAIN,
        name="accelerating-few",
        summary="Some of these changes on 2,000 images, which the network can learn by heart",
        defaults=MAIN.defaults | {"trained": 2000, "arms": experiments.ON_FEW},
    ),
    replace(
        MAIN,
        name="accelerating-digits",
        summary="Three recipes on the bundled digits, for one seed",
        defaults=MAIN.defaults
        | {"data": "mnist-5k", "trained": 4000, "seeds": 1, "arms": ["plain", "BN", "BN + no Dropout"]},
    ),
    rates.EXPERIMENT,
    sigmoid_depth.EXPERIMENT,
)  # fmt: skip
"""Each makes the file of its name in ``book/results``."""
