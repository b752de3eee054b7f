"""Run an experiment on this machine and save its result with its provenance."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bnlab import results


def run_and_save(
    path: str | Path,
    experiment: Callable[[], Any],
    describe: Callable[[Any], tuple[Sequence[int], dict[str, Any]]],
) -> Path:
    """Time `experiment`, ask `describe` for the seeds and settings behind its result, and save all of it."""
    start = time.perf_counter()
    result = experiment()
    duration = time.perf_counter() - start
    seeds, config = describe(result)
    origin = results.Provenance.now(seeds=tuple(seeds), config=config, duration=duration)
    return results.save(result, path, provenance=origin)
