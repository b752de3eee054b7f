"""Measure, print the table, and store it if asked: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.process import MARK, check_save, is_child, respawn

SHAPES = ((60, 100), (128, 1024), (4096, 1024), (32, 64, 56, 56), (65536, 256))


def parser() -> argparse.ArgumentParser:
    """Describe the options."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Speed of bnlab beside torch native and other libraries, as ratios in one run. "
        "Everything takes some six minutes on a quiet machine; progress goes to stderr.",
    )
    p.add_argument(
        "--quick", action="store_true", help="few rounds and small shapes: about half a minute"
    )
    p.add_argument("--threads", default="1,2", help="thread counts, by commas (default: 1,2)")
    p.add_argument("--shapes", help="shapes by semicolons, such as '60,100;32,64,56,56'")
    p.add_argument(
        "--rounds",
        type=int,
        help="rounds of interleaved timing, fewer if a step takes long (default: 21; quick: 5)",
    )
    p.add_argument("--no-peers", action="store_true", help="leave out the other libraries")
    p.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    p.add_argument("--fresh-memory", action="store_true", help="every large array in new memory")
    p.add_argument(
        "--save", type=Path, metavar="FILE.npz", help="store the result with its provenance"
    )
    p.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    return p


def options(arguments: list[str]) -> argparse.Namespace:
    """Read and check the options; a mistake ends with one sentence that says what is expected."""
    p = parser()
    o = p.parse_args(arguments)
    cores = os.cpu_count() or 1
    try:
        o.threads = tuple(int(t) for t in o.threads.split(","))
    except ValueError:
        p.error(f"--threads is {o.threads!r}; expected whole numbers by commas, such as 1,2.")
    if min(o.threads) < 1 or max(o.threads) > cores or len(set(o.threads)) < len(o.threads):
        p.error(
            f"--threads is {o.threads}; expected different numbers from 1 to {cores}, the cores."
        )
    standard = SHAPES[:2] if o.quick else SHAPES
    try:
        given = o.shapes.split(";") if o.shapes else []
        o.shapes = tuple(tuple(int(n) for n in s.split(",")) for s in given) or standard
    except ValueError:
        p.error(
            f"--shapes is {o.shapes!r}; expected shapes by semicolons, such as '60,100;8,3,5,5'."
        )
    for shape in o.shapes:
        if len(shape) not in (2, 3, 4) or min(shape) < 1 or np.prod(shape) == shape[1]:
            p.error(
                f"--shapes has {shape}; expected (N, C), (N, C, L) or (N, C, H, W), not one value."
            )
    o.rounds = (5 if o.quick else 21) if o.rounds is None else o.rounds
    if o.rounds < 1:
        p.error(f"--rounds is {o.rounds}; expected at least 1.")
    if o.save:
        check_save(p, o.save)
    return o


def chosen(o: argparse.Namespace) -> list[str]:
    """Return the names of the contestants that were asked for."""
    from benchmarks import contestants

    names = [n for n in contestants.OURS if not (o.no_compile and "compiled" in n)]
    return names + ([] if o.no_peers else list(contestants.PEERS))


def run_child(o: argparse.Namespace) -> int:
    """Measure with the settings of this process and leave the numbers in a file."""
    from benchmarks.measure import measure

    threads = int(os.environ[MARK])
    arrays = measure(
        threads=threads, shapes=o.shapes, names=chosen(o), rounds=o.rounds, quick=o.quick
    )
    np.savez(o.part, **arrays)
    return 0


def run_parent(o: argparse.Namespace, arguments: list[str]) -> int:
    """Start one process for each number of threads; join, print and store what they measured."""
    from bnlab.chapters.making_it_fast.stored import PACKAGES
    from bnlab.experiments import Provenance, save
    from bnlab.experiments.store import versions

    start, parts = time.perf_counter(), []
    usual = "about half a minute" if o.quick else "some six minutes with the default options"
    print(f"This takes {usual}, longer if the machine does something else.", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        for threads in o.threads:
            text = f"{threads} thread(s), {len(chosen(o))} contestants, {o.rounds} rounds"
            print(text, file=sys.stderr, flush=True)
            part = Path(folder) / f"{threads}.npz"
            child = [*arguments, "--part", str(part)]
            code = respawn("benchmarks", child, threads=threads, fresh_memory=o.fresh_memory)
            if code:
                print(f"The measurement with {threads} thread(s) failed.", file=sys.stderr)
                return code
            with np.load(part) as file:
                parts.append(dict(file))
    table = join(o, parts)
    from benchmarks.report import report

    print(report(table))
    if o.save:
        config = {"rounds": o.rounds, "fresh_memory": o.fresh_memory, "quick": o.quick}
        duration = time.perf_counter() - start
        found = versions(PACKAGES)
        origin = Provenance.now(seeds=(0,), config=config, duration=duration, versions=found)
        print(f"\nStored in {save(table, o.save, provenance=origin)}.")
    return 0


def join(o: argparse.Namespace, parts: list[dict[str, np.ndarray]]):
    """Put the processes' numbers into one result."""
    from benchmarks import contestants, measure
    from bnlab.chapters.making_it_fast.results import SpeedTable

    names = chosen(o)
    first = next((p for p in parts if "rows" in p), {})
    none = np.empty((0, 0))
    stacked = ("milliseconds", "ratio", "low", "high", "bandwidth", "peak")
    return SpeedTable(
        contestants=tuple(names),
        baseline=contestants.BASELINE,
        passes=contestants.PASSES,
        shapes=o.shapes,
        threads=o.threads,
        rounds=int(min(p["rounds"] for p in parts)),
        **{key: np.stack([p[key] for p in parts]) for key in stacked},
        growth_contestants=tuple(n for n in measure.GROWTH if n in names),
        growth_rows=first.get("growth_sizes", np.empty(0)),
        growth_features=first.get("growth_sizes", np.empty(0)),
        growth_fixed=measure.GROWTH_FIXED,
        rows_milliseconds=first.get("rows", none),
        features_milliseconds=first.get("features", none),
        folding_pairs=contestants.FOLDING,
        folding_ratio=np.stack([p["folding"] for p in parts]),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks."""
    arguments = sys.argv[1:] if arguments is None else arguments
    o = options(arguments)
    return run_child(o) if is_child() and o.part else run_parent(o, arguments)


if __name__ == "__main__":
    sys.exit(main())
