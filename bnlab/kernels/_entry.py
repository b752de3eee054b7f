"""Compile the kernels, one C function for each floating-point type, and run them on threads."""

from __future__ import annotations

import ctypes
import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import carray, cfunc, types

from bnlab.kernels._call import AFFINE, DMERGE, DSUMS, GRADIENT, MERGE, NORMALIZE, SUMS, Call
from bnlab.kernels._images import images
from bnlab.kernels._rows import blocks_of, rows

RECORD = np.dtype(Call)
# What each kernel does: first pass, C values, second pass. Threads wait for each other in between; the
# middle one is too short to share.
STEPS = {
    "forward": (SUMS, MERGE | AFFINE, NORMALIZE),
    "inference": (0, AFFINE, NORMALIZE),
    "backward": (DSUMS, DMERGE, GRADIENT),
}
SMALL = 2**15  # fewer values than this are done before a second thread has started


def run(kind: str, dtype: type, threads: int, **fields: float) -> None:
    """Run one kernel. The fields are those of :class:`Call`: addresses of memory, sizes and eps."""
    call, steps = Call(**fields), STEPS[kind]
    if call.c == 1 and call.s == 1:
        call.n, call.s = 1, call.n  # one feature: all its values are one run of memory
    alone, together = entry(dtype)
    fork = parallel() if threads > 1 and call.n * call.c * call.s > SMALL else None
    if fork is None:
        call.steps = sum(steps)
        alone(ctypes.byref(call))
    elif call.s > 1:  # images: no channel waits for another
        call.steps = sum(steps)
        fork(together, ctypes.byref(call), threads, 0)
    else:
        work = np.empty((2 * blocks_of.py_func(call.n, call.c) + 4) * call.c)
        call.work = work.ctypes.data
        for step in steps:
            call.next, call.steps = 0, step
            if step == steps[1]:
                alone(ctypes.byref(call))
            elif step:
                fork(together, ctypes.byref(call), threads, 0)


@cache
def entry(dtype: type) -> tuple[Any, int]:
    """Return the compiled function ``void (*)(Call *)`` for float32 or float64, and its address."""
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("_*.py")))
    version = int.from_bytes(hashlib.sha256(sources).digest()[:4], "big")

    def body(pointer):
        _ = version  # numba's cache compares this file alone; this makes it compare them all
        call = carray(pointer, 1, RECORD)[0]
        if call.s > 1:
            images(call, pointer, dtype)
        else:
            rows(call, pointer, dtype)

    signature = types.void(types.voidptr)
    try:
        run = cfunc(signature, cache=True)(body)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        run = cfunc(signature)(body)  # numba may write to no folder: each process compiles anew
    function = run.ctypes
    function.compiled = run  # the compiled code lives as long as this does
    return function, run.address


@cache
def parallel() -> Any:
    """Return ``GOMP_parallel`` of the OpenMP runtime that torch has loaded, or None.

    A pool of threads beside torch's own would compete with it for the cores: OpenMP's threads spin
    while they wait. So there is one pool; where it cannot be reached there is one thread.
    """
    for name in ("libgomp.so.1", "libiomp5.so", "libomp.so"):
        try:
            library = ctypes.CDLL(name, os.RTLD_NOLOAD | os.RTLD_NOW)
            function = library.GOMP_parallel
        except (OSError, AttributeError):
            continue
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        function.restype = None
        return function
    return None
