"""The arguments of a kernel, and the formulas that need one feature's sums, compiled by numba."""

from __future__ import annotations

import ctypes

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

ADDRESSES = ("x", "dy", "out", "gamma", "beta", "mean", "var", "dgamma", "dbeta", "work")
# The steps of a call, one bit each: a call of one thread does several steps, and sets several bits.
SUMS, MERGE, AFFINE, NORMALIZE, DSUMS, DMERGE, GRADIENT = (1 << i for i in range(7))


class Call(ctypes.Structure):
    """The arguments of a kernel for arrays of shape (n, c, s).

    Arrays are contiguous and given by their addresses, 0 if there is none. `steps` says what to do, and
    `next` is the number of the next block that is free for a thread to take.
    """

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("next", "steps", *ADDRESSES, "n", "c", "s")),
        ("eps", ctypes.c_double),
    )


F64 = np.float64
compiled = njit(fastmath={"contract"}, error_model="numpy")
# Lets the compiler add up a run of memory in several sums at once. It fixes their order for good.
compiled_sum = njit(fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")


@intrinsic
def take(_context, call):
    """Return call.next and add one to it, in one atomic step: no two threads take the same block."""

    def codegen(_target, builder, _signature, args):
        from llvmlite import ir

        int64 = ir.IntType(64)
        counter = builder.bitcast(args[0], int64.as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(int64, 1), "monotonic")

    return types.int64(types.voidptr), codegen


@intrinsic
def _pointer(_context, address):
    def codegen(_target, builder, _signature, args):
        from llvmlite import ir

        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), codegen


@compiled
def array(address, shape, dtype):
    """View the memory at an address as a contiguous array."""
    return carray(_pointer(address), shape, dtype)


@compiled
def first(value):
    """Return what to subtract before summing: a feature's first value, 0 if that is not finite."""
    k = F64(value)
    return k if k - k == 0 else 0.0


@compiled
def statistics(k, sum_d, sum_dd, m):
    """Return mean and biased variance from the sums of d = x - k and of d * d."""
    if sum_dd == np.inf and np.isfinite(sum_d):  # the squares of numbers above 1e154
        return k + sum_d / m, np.inf
    var = (sum_dd - sum_d * sum_d / m) / m
    return k + sum_d / m, 0.0 if var < 0 else var


@compiled
def affine(mean, inv_std, gamma, beta, dtype):
    """Return coarse, scale and shift of one feature, for y = (x - coarse) * scale + shift."""
    coarse, scale = dtype(mean), inv_std * gamma
    fine = mean - coarse if np.isfinite(mean) else 0.0
    return coarse, dtype(scale), dtype(beta - fine * scale)


@compiled
def gradient(mean, inv_std, gamma, sum_dy, sum_dy_c, m, dtype):
    """Return the numbers for dx = scale * ((dy - shift) - (x - coarse) * slope) of one feature.

    This is dx = gamma / s * (dy - mean(dy) - (x - mean) * mean(dy * (x - mean)) / s^2). Coarse is the
    mean rounded to the type of x; the shift makes up for the rounding.
    """
    coarse, slope = dtype(mean), sum_dy_c / m * inv_std * inv_std
    return coarse, dtype(sum_dy / m - (mean - coarse) * slope), dtype(slope), dtype(inv_std * gamma)


@compiled
def features(address, call, dtype, otherwise):
    """Return the C values at an address as float64; C times `otherwise` if there are none."""
    values = np.empty(call.c)
    if address == 0:
        values[:] = otherwise
    else:
        values[:] = array(address, call.c, dtype)
    return values
