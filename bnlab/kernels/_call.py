"""What one call of a kernel works on, and the numbers of one feature, for code compiled by numba."""

from __future__ import annotations

import ctypes

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

ADDRESSES = ("x", "dy", "out", "gamma", "beta", "mean", "var", "dgamma", "dbeta", "work")
# The steps of a call, as bits, since one thread takes several at once.
SUMS, MERGE, AFFINE, NORMALIZE, DSUMS, DMERGE, GRADIENT = (1 << i for i in range(7))


class Call(ctypes.Structure):
    """Addresses of contiguous arrays (0: there is none), sizes and numbers, of (n, c, s) values."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("next", "steps", *ADDRESSES, "n", "c", "s")),
        ("eps", ctypes.c_double),
    )


F64 = np.float64
compiled = njit(fastmath={"contract"}, error_model="numpy")
# A sum along a run of memory may be reordered, once and for all when it is compiled.
compiled_sum = njit(fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")


@intrinsic
def take(_context, call):
    """Return the next block that no thread has taken: call.next, which goes up by one atomically."""

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
    """Return the k of a feature: its first value, unless that is no number to subtract."""
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
    """Return the numbers of y = (x - coarse) * scale + shift for one feature."""
    coarse, scale = dtype(mean), inv_std * gamma
    fine = mean - coarse if np.isfinite(mean) else 0.0
    return coarse, dtype(scale), dtype(beta - fine * scale)


@compiled
def gradient(mean, inv_std, gamma, sum_dy, sum_dy_c, m, dtype):
    """Return the numbers of dx = scale * ((dy - shift) - (x - coarse) * slope) for one feature.

    dx = gamma / s * (dy - mean(dy) - (x - mean) * mean(dy * (x - mean)) / s^2), where what coarse
    lacks of the mean has gone into the shift.
    """
    coarse, slope = dtype(mean), sum_dy_c / m * inv_std * inv_std
    return coarse, dtype(sum_dy / m - (mean - coarse) * slope), dtype(slope), dtype(inv_std * gamma)


@compiled
def features(address, call, dtype, otherwise):
    """Return the C values at an address in float64, or one that stands for each if there are none."""
    values = np.empty(call.c)
    if address == 0:
        values[:] = otherwise
    else:
        values[:] = array(address, call.c, dtype)
    return values
