"""Chapter 11: the experiments whose results are stored."""

from __future__ import annotations

from typing import Any

from bnlab.chapters.why_it_works import arms, decay, depth, smoothness
from bnlab.experiments import LongExperiment

__all__ = ["EXPERIMENTS"]

SEARCH, REPORT = [2000, 2001, 2002], list(range(3000, 3016))


def _powers(low: int, count: int = 7) -> list[float]:
    """Return powers of two, from 2^low on."""
    return [2.0 ** (low + k) for k in range(count)]


# ---- the searches of rates: three seeds, other digits -------------------------------------------------

HIGH = _powers(-3)
SEARCHES: dict[str, dict[str, list[float]]] = {
    "raw": {"plain": _powers(-5), "frozen": _powers(-6), "running": _powers(-5), "detached": HIGH, "BN": HIGH},
    "centred": {
        "plain, centred": HIGH, "frozen, centred": _powers(-5), "running, centred": HIGH,
        "detached, centred": HIGH, "BN, centred": HIGH,
    },
    "drift": {"plain": _powers(-4), "BN": HIGH, "noisy BN": _powers(-4), "noisy plain": _powers(-6)},
    "depth": {
        "plain": _powers(-7, 6), "frozen": _powers(-10, 6), "BN": _powers(-5, 6),
        "residual plain": _powers(-13, 6), "residual BN": _powers(-3, 6), "residual from zero": _powers(-3, 6),
    },
}  # fmt: skip
DEEP: dict[str, Any] = {"sizes": [784, *[64] * 20, 10]}
SETTINGS: dict[str, dict[str, Any]] = {"depth": DEEP}

# ---- the runs that are reported: sixteen seeds --------------------------------------------------------

TOP = [0.5, 1.0, 2.0, 4.0, 4 * 2**0.5, 8.0]
SWEEPS = {  # the best rate of the search, and rates around the largest stable one of a pilot
    "plain": [0.25, 0.25 * 2**0.5, 0.5, 0.5**0.5, 1.0, 2**0.5],
    "frozen": [0.0625, 0.125 * 0.5**0.5, 0.125, 0.25 * 0.5**0.5, 0.25, 0.5 * 0.5**0.5],
    "running": [0.25, 0.25 * 2**0.5, 0.5, 0.5**0.5, 1.0, 2**0.5],
    "detached": TOP,
    "BN": TOP,
    "plain, centred": [0.5, 1.0, 2**0.5, 2.0, 8**0.5, 4.0],
    "frozen, centred": [0.125, 0.25, 0.25 * 2**0.5, 0.5, 0.5**0.5, 1.0],
    "running, centred": [0.5, 0.5**0.5, 1.0, 2**0.5, 2.0, 8**0.5],
    "detached, centred": TOP,
    "BN, centred": TOP,
    "BN, rows held": TOP,
    "plain, last fixed": [0.5, 0.5**0.5, 1.0, 2**0.5, 2.0, 8**0.5],
    "BN, last fixed": [16.0, 64.0, 256.0, 512.0, 1024.0, 4096.0],
    "BN, last fixed, rows held": [4.0, 8.0, 16.0, 16 * 2**0.5, 32.0, 64.0],
}
FOUND = {  # the rates that the searches found: a test compares
    "drift": {"plain": 0.25, "BN": 0.5, "noisy BN": 0.5, "noisy plain": 0.25},
    "depth": {
        "plain": 0.0625,
        "frozen": 2**-7,
        "BN": 0.5,
        "residual plain": 2**-10,
        "residual BN": 0.5,
        "residual from zero": 0.25,
    },
    "smoothness": {"plain": 0.25, "BN": 0.5, "plain, centred": 1.0, "BN, centred": 0.5},
}


def _slug(arm: str) -> str:
    return arm.replace(",", "").replace(" ", "-")


def _training(
    name: str,
    summary: str,
    grids: dict[str, list[float]],
    images: str,
    seeds: list[int],
    **settings: Any,
) -> LongExperiment:
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


EXPERIMENTS = (
    *(
        _training(f"{name}-rates", f"Search of rates, {name}", grids, "search", SEARCH, **SETTINGS.get(name, {}))
        for name, grids in SEARCHES.items()
    ),
    *(
        _training(_slug(arm), f"Loss over learning rates, arm {arm!r}", {arm: lrs}, "report", REPORT)
        for arm, lrs in SWEEPS.items()
    ),
    _training(
        "drift", "Movement of distributions, with noise after BN and without",
        {arm: [lr] for arm, lr in FOUND["drift"].items()}, "report", REPORT, drift=True,
    ),
    _training(
        "depth", "Twenty layers, without shortcuts and with",
        {arm: [lr] for arm, lr in FOUND["depth"].items()}, "report", REPORT, **DEEP,
    ),
    LongExperiment.of(
        depth.depth_signal,
        name="why-signal",
        summary="Effective rank and size of a batch over fifty random layers",
        defaults={"arms": ["plain", "BN", "residual plain", "residual BN"], "depth": 50, "seeds": REPORT},
        chapter=11,
        check=depth.repeat,
        tolerance=1e-3,
    ),
    LongExperiment.of(
        smoothness.smoothness,
        by_seed=("own", "twin"),
        name="why-smoothness",
        summary="Loss and gradient along a step, as trained and between twins of one function",
        defaults={
            "lrs": FOUND["smoothness"], "checkpoints": [0, 10, 100], "rates": [0.1, 0.2, 0.4],
            "shares": [0.02, 0.05, 0.1], "probe": 200, "seeds": REPORT,
        },
        chapter=11,
        check=smoothness.repeat,
        tolerance=1e-3,
    ),
    LongExperiment.of(
        decay.decay,
        by_seed=("loss",),
        name="why-decay",
        summary="Weight decay against the growing rate that equals it",
        defaults={
            "eps": [0.0, 1e-5], "lr": 0.5, "weight_decay": 0.01, "steps": 300, "seeds": REPORT,
        },
        chapter=11,
        check=decay.repeat,
        tolerance=1e-3,
    ),
)  # fmt: skip
"""Each makes the file of its name in ``book/results``."""
