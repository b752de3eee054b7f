"""Write the stored numbers that live figures show, from the results they come from: whole numbers, as JavaScript.

Usage: python tools/write_live_data.py [FIGURE ...]     (default: every figure whose result is stored)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bnlab.chapters.accelerating.results import RecipeRuns
from bnlab.chapters.figure_one import measures
from bnlab.chapters.figure_one.results import FigureOne, LayerViews
from bnlab.chapters.gradient_flow.results import RateSweep
from bnlab.chapters.why_it_works.results import Arms
from bnlab.experiments import load
from bnlab.stats import t_interval

BOOK = Path(__file__).resolve().parents[1] / "book"


def figure_one(result: FigureOne) -> dict[str, Any]:
    """Return percentiles and histograms of every unit of the first seed, by arm, time and unit.

    Percentiles are in hundredths. Of a histogram there is the number of its first bar and then the heights
    of all bars up to the last, in 63rds of the tallest; bars before and after are empty.
    """
    arms = {}
    for arm in ("without", "with"):
        setting = result.setting(arm)
        counts = result.histogram[setting].astype(float)
        heights = np.rint(63 * counts / counts.max(axis=-1, keepdims=True)).astype(int)
        arms[arm] = {
            "rate": result.rates[setting],
            "percentiles": _whole(100 * result.percentiles[setting, 0].astype(float)),
            "bars": [[_without_empty_ends(unit) for unit in time] for time in heights],
        }
    return {
        "data": result.data,
        "steps": result.watched.tolist(),
        "units": result.percentiles.shape[-1],
        "low": float(result.edges[0]),
        "high": float(result.edges[-1]),
        "bins": len(result.edges) - 1,
        "arms": arms,
    }


def turn_up(result: LayerViews) -> dict[str, Any]:
    """Return accuracies and histograms in thousandths, and how the best run of each arm ends after 50,000 steps."""
    shares = result.histogram / result.histogram.sum(axis=-1, keepdims=True)
    bars = np.rint(1000 * shares).astype(int)
    shape = bars.shape[:-1]
    packed = np.empty(shape, dtype=object)
    for at in np.ndindex(shape):
        packed[at] = _without_empty_ends(bars[at])
    best, _ = load(BOOK / "results" / "figure_one_mnist.npz")
    gap = t_interval(100 * measures.gap(best)[:, -1])
    return {
        "arms": list(result.arms),
        "sigmas": list(result.sigmas),
        "rates": list(result.rates),
        "steps": result.steps.tolist(),
        "low": float(result.edges[0]),
        "high": float(result.edges[-1]),
        "bins": len(result.edges) - 1,
        "accuracy": _whole(1000 * result.accuracy),
        "bars": packed.tolist(),
        "end": {
            "steps": int(best.steps[-1]),
            "seeds": len(best.seeds),
            **{
                name: round(float(value), 3)
                for name, value in (("gap", gap.mean), ("low", gap.low), ("high", gap.high))
            },
        },
    }


def recipe_race(runs: RecipeRuns) -> dict[str, Any]:
    """Return the accuracies in ten-thousandths, by arm, seed and checkpoint."""
    accuracy = zip(runs.arms, _whole(10_000 * runs.accuracy), strict=True)
    return {"at": runs.at.tolist(), "accuracy": dict(accuracy)}


def stable_rate(*sweeps: RateSweep) -> dict[str, Any]:
    """Return sweeps by label: rates, accuracies in thousandths, stable runs (1), growth in tenths or None."""
    return {
        sweep.label: {
            "rates": sweep.lr.round(6).tolist(),
            "accuracy": _whole(1000 * sweep.accuracy),
            "stable": _whole(sweep.stable),
            "growth": [
                round(10 * float(growth)) if np.isfinite(growth) else None
                for growth in np.median(sweep.growth, axis=0)
            ],
        }
        for sweep in sweeps
    }


def rival_rates(*sweeps: Arms) -> dict[str, Any]:
    """Return the losses over the seeds in thousandths, by arm: geometric mean, least and most, and the stable rate.

    A loss above 9 counts as 9: the run is lost either way.
    """
    arms = {}
    for runs in sweeps:
        (name,), loss = runs.arms, np.minimum(runs.loss[:, 0], 9.0)
        arms[name] = {
            "rates": runs.lr[0].round(6).tolist(),
            "loss": _whole(1000 * np.exp(np.log(loss).mean(axis=0))),
            "low": _whole(1000 * loss.min(axis=0)),
            "high": _whole(1000 * loss.max(axis=0)),
            "stable": round(float(np.exp(np.log(runs.largest_stable(name)).mean())), 3),
        }
    return {"limit": round(sweeps[0].limit, 4), "arms": arms}


def _whole(values: np.ndarray) -> list:
    return np.rint(values).astype(int).tolist()


def _without_empty_ends(heights: np.ndarray) -> list[int]:
    first, last = np.flatnonzero(heights)[[0, -1]]  # the tallest bar is not empty
    return [int(first), *heights[first : last + 1].tolist()]


STABLE_RATE_ARMS = ["without", "with", "flat", "last_fixed", "outputs_too"]
STABLE_RATE_ARMS += ["without_centered", "with_centered"]

FIGURES: dict[str, tuple[str | tuple[str, ...], Callable[..., dict[str, Any]]]] = {
    "figure-one": ("figure_one_mnist", figure_one),
    "turn-up": ("figure_one_layers", turn_up),
    "recipe-race": ("accelerating", recipe_race),
    "stable-rate": (
        tuple(f"gradient_flow_rates_{arm}" for arm in STABLE_RATE_ARMS),
        stable_rate,
    ),
    "rival-rates": (
        tuple(
            f"why_{arm}"
            for arm in (
                "plain",
                "BN",
                "plain_centred",
                "frozen",
                "running",
                "detached",
                "BN_rows_held",
            )
        ),
        rival_rates,
    ),
}
"""Of each figure: the result or results, and what takes its numbers from them."""


def sources(figure: str) -> list[str]:
    """Return the files of a figure's results."""
    results = FIGURES[figure][0]
    names = [results] if isinstance(results, str) else results
    return [f"book/results/{name}.npz" for name in names]


def script(figure: str) -> str:
    """Return the JavaScript that holds a figure's numbers."""
    found = [load(BOOK.parent / source)[0] for source in sources(figure)]
    content = json.dumps(FIGURES[figure][1](*found), separators=(",", ":"))
    lines = content.replace("]],", "]],\n")  # so that an editor can show it
    head = f"/* Written by tools/write_live_data.py from {', '.join(sources(figure))}. */"
    return f'{head}\nBNLive.data["{figure}"] = {lines};\n'


def target(figure: str) -> Path:
    """Return where the script belongs."""
    return BOOK / "assets" / "live" / "data" / f"{figure}.js"


def main(figures: list[str]) -> None:
    """Write the scripts."""
    for figure in figures or FIGURES:
        if figures or all((BOOK.parent / source).exists() for source in sources(figure)):
            target(figure).write_text(script(figure), encoding="utf-8")
            print(target(figure).name)


if __name__ == "__main__":
    main(sys.argv[1:])
