"""Chapter 11: the experiments whose results are stored."""

from __future__ import annotations

from typing import Any

from bnlab.chapters.why_it_works import arms, decay, depth
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]

SEARCH, REPORT = [2000, 2001, 2002], list(range(3000, 3016))


def _grid(low: float, count: int = 11, step: float = 0.5) -> list[float]:
    """Return powers of two, from 2^low on."""
    return [2.0 ** (low + step * k) for k in range(count)]


# Arm: where its grid of rates begins in the search, and in the runs that are reported over a grid.
PARTS = {
    "plain": (-4, -3.5), "frozen": (-6, -5), "running": (-4, -3.5), "detached": (-2, -0.5), "BN": (-2, -0.5),
    "plain, centred": (-3, -1.5), "frozen, centred": (-5, -4), "running, centred": (-3, -2),
    "detached, centred": (-2, -0.5), "BN, centred": (-2, -0.5),
}  # fmt: skip
ROWS = {
    "BN, rows held": _grid(-0.5, 8), "BN, last fixed": _grid(5, 8, 1), "BN, last fixed, rows held": _grid(1, 8, 1),
    "plain, last fixed": _grid(-2, 8),
}  # fmt: skip
DRIFT = {
    "plain": _grid(-4, 7, 1), "BN": _grid(-3, 7, 1), "noisy BN": _grid(-4, 7, 1), "noisy plain": _grid(-6, 7, 1),
}  # fmt: skip
GHOSTS = dict.fromkeys(
    ("plain", *(f"ghost {n}" for n in (2, 4, 8, 16, 64, 256)), *(f"noise {n}" for n in (4, 8, 16))),
    _grid(-4, 7, 1),
)  # fmt: skip
DEPTH = {
    "plain": _grid(-8, 7, 1), "frozen": _grid(-12, 7, 1), "BN": _grid(-6, 7, 1),
    "residual plain": _grid(-15, 7, 1), "residual BN": _grid(-4, 7, 1), "residual from zero": _grid(-4, 7, 1),
}  # fmt: skip


def _search(name: str, what: str, grids: dict[str, list[float]], **settings: Any) -> LongExperiment:
    return _training(f"{name}-rates", f"Search of rates: {what}", grids, "search", SEARCH, settings)


def _report(name: str, what: str, grids: dict[str, list[float]], **settings: Any) -> LongExperiment:
    return _training(name, f"{what[0].upper()}{what[1:]}", grids, "report", REPORT, settings)


def _training(
    name: str, summary: str, grids: dict[str, list[float]], images: str, seeds: list[int], settings: dict[str, Any]
) -> LongExperiment:  # fmt: skip
    return LongExperiment.of(
        arms.train_arms,
        name=f"why-{name}",
        summary=summary,
        defaults={
            "arms": list(grids), "lrs": list(grids.values()), "images": images, "seeds": seeds, **settings,
        },
        chapter=11,
        check=arms.repeat,
        tolerance=1e-3,
    )  # fmt: skip


# The rates that the searches found: a test compares.
FOUND = {
    "drift": {"plain": [0.25], "BN": [0.5], "noisy BN": [0.5], "noisy plain": [0.25]},
}
SMALL: dict[str, Any] = {
    "sizes": [784, 50, 50, 10], "batch_size": 256, "steps": 100, "train": 1000, "held_out": True,
}  # fmt: skip
DEEP: dict[str, Any] = {"sizes": [784, *[64] * 20, 10], "steps": 150}

EXPERIMENTS = (
    _search(
        "parts", "which part of BN does the work", {a: _grid(low) for a, (low, _) in PARTS.items()}
    ),
    _search("drift", "noise after BN", DRIFT),
    _search("ghosts", "groups of a batch, and matched noise", GHOSTS, **SMALL),
    _search("depth", "twenty layers, without shortcuts and with", DEPTH, **DEEP),
    _report(
        "parts",
        "which part of BN does the work",
        {a: _grid(low, 8) for a, (_, low) in PARTS.items()},
    ),
    _report("rows", "rows of weights that keep their length", ROWS),
    _report("drift", "noise after BN", FOUND["drift"], drift=True),
    LongExperiment.of(
        depth.depth_signal,
        name="why-signal",
        summary="Effective rank and size of a batch over fifty random layers",
        defaults={
            "arms": ["plain", "BN", "residual plain", "residual BN"],
            "depth": 50,
            "seeds": REPORT,
        },
        chapter=11,
        check=depth.repeat,
        tolerance=1e-3,
    ),
    LongExperiment.of(
        decay.decay,
        by_seed=("loss",),
        name="why-decay",
        summary="Weight decay against the growing rate that equals it",
        defaults={
            "eps": [0.0, 1e-5],
            "lr": 0.5,
            "weight_decay": 0.01,
            "steps": 400,
            "seeds": REPORT,
        },
        chapter=11,
        check=decay.repeat,
        tolerance=1e-3,
    ),
)
"""Each makes the file of its name in ``book/results``."""
