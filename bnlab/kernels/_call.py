"""What one call of a kernel works on, and the numbers of one feature, for code compiled by numba."""

from __future__ import annotations

import ctypes

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

ADDRESSES = (
    "x", "dy", "out", "gamma", "beta", "mean", "var", "dgamma", "dbeta", "running_mean",
    "running_var", "work",
)  # fmt: skip
# The steps of a call, as bits, since one thread takes several at once.
SUMS, MERGE, AFFINE, NORMALIZE, DSUMS, DMERGE, GRADIENT, MOVE = (1 << i for i in range(8))


class Call(ctypes.Structure):
    """Addresses of contiguous arrays (0: there is none), sizes and numbers, of (n, c, s) values."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("next", "steps", *ADDRESSES, "n", "c", "s")),
        *((name, ctypes.c_double) for name in ("eps", "momentum")),
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
def finish(call, c, k, sum_d, sum_dd):
    """Turn the sums of d = x - k and of d * d into the statistics of feature c."""
    m = call.n * call.s
    array(call.mean, call.c, F64)[c] = k + sum_d / m
    var = (sum_dd - sum_d * sum_d / m) / m
    array(call.var, call.c, F64)[c] = 0.0 if var < 0 else var


@compiled
def move(call, dtype):
    """Move the running statistics towards those of the batch, the variance to the unbiased one."""
    m = call.n * call.s
    mean, var = array(call.mean, call.c, F64), array(call.var, call.c, F64)
    running_mean = array(call.running_mean, call.c, dtype)
    running_var = array(call.running_var, call.c, dtype)
    old, new = 1 - call.momentum, call.momentum
    for c in range(call.c):
        running_mean[c] = old * running_mean[c] + new * mean[c]
        running_var[c] = old * running_var[c] + new * (var[c] * (m / (m - 1)))


@compiled
def affine(call, c, dtype):
    """Return the numbers of y = (x - coarse) * scale + shift for feature c."""
    mean = array(call.mean, call.c, F64)[c]
    scale = 1 / np.sqrt(array(call.var, call.c, F64)[c] + call.eps)
    if call.gamma != 0:
        scale *= array(call.gamma, call.c, dtype)[c]
    shift = 0.0
    if call.beta != 0:
        shift = F64(array(call.beta, call.c, dtype)[c])
    coarse = dtype(mean)
    if np.isfinite(mean):
        shift -= (mean - coarse) * scale
    return coarse, dtype(scale), dtype(shift)


@compiled
def finish_gradient(call, c, sum_dy, sum_dy_c, dtype):
    """Store dgamma and dbeta of feature c from the sums of dy and dy * (x - mean); prepare dx.

    dx = gamma / s * (dy - mean(dy) - (x - mean) * mean(dy * (x - mean)) / s^2). With both means in
    two parts it is scale * (dy - coarse_dy + rest - (x - coarse) * slope): return these numbers.
    """
    m = call.n * call.s
    mean = array(call.mean, call.c, F64)[c]
    inv_std = 1 / np.sqrt(array(call.var, call.c, F64)[c] + call.eps)
    scale = inv_std
    if call.gamma != 0:
        scale *= array(call.gamma, call.c, dtype)[c]
    array(call.dgamma, call.c, dtype)[c] = sum_dy_c * inv_std
    array(call.dbeta, call.c, dtype)[c] = sum_dy
    mean_dy, slope = sum_dy / m, sum_dy_c / m * inv_std * inv_std
    coarse, coarse_dy = dtype(mean), dtype(mean_dy)
    rest = (coarse_dy - mean_dy) + (mean - coarse) * slope
    return coarse, coarse_dy, dtype(rest), dtype(slope), dtype(scale)
