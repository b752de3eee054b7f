"""Settings that must be made before a process starts: memory, threads, one OpenMP runtime.

Memory. glibc gives a large array back to the system when it is freed, and each fresh page then costs
a fault: at 64 MB the faults take longer than the arithmetic. Worse, it moves its threshold while the
program runs, so that a result depends on what ran before. Here memory is kept and used again, as the
allocator of a training loop does, for every contestant alike; `fresh_memory=True` shows the other
case, also with a fixed threshold.

Threads. Pools of waiting threads that spin on the same cores cost milliseconds a call. Every library
is told the same number of threads, and each number is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MARK = "BNLAB_BENCHMARK_CHILD"


def environment(threads: int, *, fresh_memory: bool = False) -> dict[str, str]:
    """Return the variables of a process that measures with `threads` threads."""
    count = str(threads)
    memory = (
        {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
        if fresh_memory
        else {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
        | {"MALLOC_TOP_PAD_": str(2**28), "MALLOC_ARENA_MAX": "1"}
    )
    xla = (
        "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" if threads == 1 else ""
    )
    return memory | {
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "NUMBA_NUM_THREADS": count,
        "XLA_FLAGS": xla,
        "JAX_PLATFORMS": "cpu",
        "KERAS_BACKEND": "torch",
        "BNLAB_KERNELS": "0",  # the kernels are switched on for their own rows only
        "TF_CPP_MIN_LOG_LEVEL": "3",
        MARK: count,
    }


def is_child() -> bool:
    """Say whether this process was started by `respawn`."""
    return MARK in os.environ


def respawn(
    module: str, arguments: Sequence[str], *, threads: int, fresh_memory: bool = False
) -> int:
    """Run ``python -m module arguments`` in a process with the right settings; return its exit code."""
    settings = environment(threads, fresh_memory=fresh_memory)
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=os.environ | settings, check=False).returncode


def check_save(parser: argparse.ArgumentParser, save: Path) -> None:
    """Refuse, before anything is measured, a file that could not be written after it."""
    if save.suffix != ".npz" or not save.parent.is_dir():
        parser.error(
            f"--save is {save}; expected a name that ends in .npz, in a folder that exists."
        )
