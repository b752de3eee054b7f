"""Measure everything once: the table, the memory's bandwidth, growth with N and C, and folding."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import contestants
from benchmarks.contestants import BASELINE, BOTH, PASSES
from benchmarks.timing import interleave, paired

COPY = "copy"
GROWTH = (BASELINE, "NumPy textbook", "NumPy in blocks", "bnlab.nn", "bnlab.nn, kernels")
GROWTH_FIXED = (256, 1024)  # C while N grows, N while C grows
LIMIT = 20.0  # seconds for the rounds of one step
START = time.perf_counter()


def say(text: str) -> None:
    """Tell on stderr what is being measured, and how long it has taken so far."""
    minutes, seconds = divmod(int(time.perf_counter() - START), 60)
    print(f"  {minutes}:{seconds:02d}  {text}", file=sys.stderr, flush=True)


def build(names: Sequence[str], shape: tuple[int, ...]) -> dict[str, contestants.Runs]:
    """Prepare the contestants that can run here; name those that cannot.

    A peer may be missing or broken, and a compiler may find no compiler of its own.
    """
    every, found = contestants.OURS | contestants.PEERS, {}
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of exporters and compilers of other libraries
                runs = every[name](shape)
                for run in runs.values():
                    run()
            found[name] = runs
        except Exception as error:
            if not (
                isinstance(error, ImportError) or name in contestants.PEERS or "compiled" in name
            ):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            say(f"{name} is left out: {reason}")
    return found


def one_shape(
    names: Sequence[str], shape: tuple[int, ...], *, rounds: int, seconds: float
) -> dict[str, Any]:
    """Time all passes of all contestants at one shape, and a copy of an array of that size."""
    size = "x".join(map(str, shape))
    say(f"{size}: preparing {len(names)} contestants")
    found = build(names, shape)
    source = np.ones(shape, np.float32)
    target = np.empty_like(source)
    shown = {}
    for kind in PASSES:
        say(f"{size}: {kind}")
        runs = {name: runs[kind] for name, runs in found.items() if kind in runs}
        runs[COPY] = lambda: np.copyto(target, source)
        shown[kind] = interleave(runs, rounds=rounds, seconds=seconds, limit=LIMIT)
    return shown


def bandwidth(shape: tuple[int, ...], times: np.ndarray) -> float:
    """Return bytes/s of a copy: each number is read once and written once."""
    return float(2 * 4 * np.prod(shape) / np.median(times))


def peak(rounds: int) -> float:
    """Return flop/s of a product of two matrices of 1024 by 1024, the best of the rounds."""
    a = torch.randn(1024, 1024)
    times = interleave({"product": lambda: a @ a}, rounds=rounds)["product"]
    return float(2 * 1024**3 / times.min())


def growth(names: Sequence[str], sizes: Sequence[int], *, rows: bool, rounds: int) -> np.ndarray:
    """Return milliseconds of both passes, (contestants, sizes), while N or C grows."""
    result = np.full((len(names), len(sizes)), np.nan)
    for j, size in enumerate(sizes):
        shape = (size, GROWTH_FIXED[0]) if rows else (GROWTH_FIXED[1], size)
        runs = {name: runs[BOTH] for name, runs in build(names, shape).items()}
        for name, times in interleave(runs, rounds=rounds, seconds=0.003, limit=LIMIT).items():
            result[list(names).index(name), j] = 1e3 * np.median(times)
    return result


def folding(rounds: int) -> np.ndarray:
    """Return the time of a folded layer over that of the pair: quartile, median, quartile."""
    ratios = []
    for pair, folded in contestants.folding_pairs().values():
        times = interleave({"pair": pair, "folded": folded}, rounds=rounds, limit=LIMIT)
        spread = paired(times, "pair")["folded"]
        ratios.append([spread.low, spread.median, spread.high])
    return np.array(ratios)


def measure(
    *,
    threads: int,
    shapes: Sequence[tuple[int, ...]],
    names: Sequence[str],
    rounds: int,
    quick: bool,
) -> dict[str, np.ndarray]:
    """Measure in this process, which was started with its settings for `threads` threads."""
    torch.set_num_threads(threads)
    seconds = 0.002 if quick else 0.01
    size = (len(PASSES), len(shapes), len(names))
    arrays = {key: np.full(size, np.nan) for key in ("milliseconds", "ratio", "low", "high")}
    arrays["bandwidth"] = np.full(len(shapes), np.nan)
    done = rounds
    for j, shape in enumerate(shapes):
        say(f"shape {j + 1} of {len(shapes)}")
        copies = []
        for i, times in enumerate(one_shape(names, shape, rounds=rounds, seconds=seconds).values()):
            copies.append(times.pop(COPY))
            done = min(done, len(copies[-1]))
            for name, spread in paired(times, BASELINE).items():
                place = i, j, list(names).index(name)
                arrays["milliseconds"][place] = 1e3 * np.median(times[name])
                arrays["ratio"][place] = spread.median
                arrays["low"][place], arrays["high"][place] = spread.low, spread.high
        arrays["bandwidth"][j] = bandwidth(shape, np.concatenate(copies))
    arrays["rounds"] = np.array(done)
    arrays["peak"] = np.array(peak(rounds))
    say("folding")
    arrays["folding"] = folding(rounds)
    if threads == 1:
        say("growth with N and C")
        sizes = (64, 128, 256) if quick else (64, 256, 1024, 4096, 16384)
        known = [name for name in GROWTH if name in names]
        arrays["growth_sizes"] = np.array(sizes)
        arrays["rows"] = growth(known, sizes, rows=True, rounds=rounds)
        arrays["features"] = growth(known, sizes, rows=False, rounds=rounds)
    return arrays
