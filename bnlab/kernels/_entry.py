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

from bnlab.kernels._call import (
    AFFINE,
    DMERGE,
    DSUMS,
    GRADIENT,
    MERGE,
    NORMALIZE,
    SUMS,
    Call,
)
from bnlab.kernels._images import images
from bnlab.kernels._rows import blocks_of, rows

RECORD = np.dtype(Call)
# Threads meet between steps; the one in the middle, over C values, needs no more than one thread.
FORWARD = (SUMS, MERGE | AFFINE, NORMALIZE)
INFERENCE = (0, AFFINE, NORMALIZE)
BACKWARD = (DSUMS, DMERGE, GRADIENT)
SMALL = 2**15  # one thread is done with so many values before a second one has started


def run(call: Call, steps: tuple[int, int, int], dtype: type, threads: int) -> None:
    """Do the steps of a call whose addresses, sizes and numbers are set."""
    if call.c == 1 and call.s == 1:
        call.n, call.s = 1, call.n  # one feature: all its values are one run of memory
    work = None
    if call.s == 1:
        blocks = blocks_of.py_func(call.n, call.c)
        work = np.empty((2 * blocks + 5, call.c))
        call.work = work.__array_interface__["data"][0]
    function, pointer = entry(dtype), ctypes.addressof(call)
    fork = parallel() if threads > 1 and call.n * call.c * call.s > SMALL else None
    if fork is None:
        call.steps = sum(steps)
        function.ctypes(pointer)
    elif work is None:  # images: no channel waits for another
        call.steps = sum(steps)
        fork(function.address, pointer, threads, 0)
    else:
        for step in steps:
            call.next, call.steps = 0, step
            if step == steps[1]:
                function.ctypes(pointer)
            elif step:
                fork(function.address, pointer, threads, 0)


@cache
def entry(dtype: type) -> Any:
    """Return the compiled function ``void (*)(Call *)`` for float32 or float64."""
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("_*.py")))
    version = int.from_bytes(hashlib.sha256(sources).digest()[:4], "big")

    @cfunc(types.void(types.voidptr), cache=True)
    def run(pointer):
        _ = version  # numba's cache compares this file alone; this makes it compare them all
        call = carray(pointer, 1, RECORD)[0]
        if call.s > 1:
            images(call, pointer, dtype)
        else:
            rows(call, pointer, dtype)

    return run


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
