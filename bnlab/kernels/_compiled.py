r"""The kernels themselves, compiled by numba: one C function for each floating-point type.

Two layouts. **Images** (N, C, S) with S > 1: a channel is one block of work; it is small enough for
a core's cache, so that its second pass does not read memory again. **Rows** (N, C): blocks of rows,
each with partial sums of its own; the sums are merged, and a second pass goes over the rows.

Threads. A block belongs to whichever thread takes it first, but the blocks and the order of merging
depend on the shape alone, so every number of threads gives the same bits.

Precision. A first pass sums x - k and its square in float64, with k the first value of the feature.
Since (k - mean)^2 <= (m - 1) var, whatever the data, at most a factor m of float64's 1e-16 is lost.
A second pass works in the type of x and subtracts a mean in two parts: what fits that type, then
the rest.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

ADDRESSES = (
    "x", "dy", "out", "gamma", "beta", "mean", "var", "dgamma", "dbeta", "running_mean",
    "running_var", "work",
)  # fmt: skip
PHASES = ("forward", "sums", "merge", "normalize", "backward", "dsums", "dmerge", "gradient")
FORWARD, SUMS, MERGE, NORMALIZE, BACKWARD, DSUMS, DMERGE, GRADIENT = range(len(PHASES))


class Call(ctypes.Structure):
    """What one call works on: addresses of contiguous arrays (0: there is none), sizes, numbers."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("next", "phase", *ADDRESSES, "n", "c", "s")),
        *((name, ctypes.c_double) for name in ("eps", "momentum")),
    )


RECORD = np.dtype(Call)
F64 = np.float64
MAX_BLOCKS = 64

_njit = njit(fastmath={"contract"}, error_model="numpy")
# Sums of one run of memory may change their order, once and for all when they are compiled.
_njit_sum = njit(fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")


@intrinsic
def _take(_context, call):
    """Return the next block that no thread has taken: call.next, which goes up by one atomically."""

    def codegen(_target, builder, _signature, args):
        from llvmlite import ir

        int64 = ir.IntType(64)
        counter = builder.bitcast(args[0], int64.as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(int64, 1), "monotonic")

    return types.int64(types.voidptr), codegen


@intrinsic
def _pointer(_context, address):
    """Turn an address into a pointer."""

    def codegen(_target, builder, _signature, args):
        from llvmlite import ir

        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), codegen


@_njit
def _array(address, shape, dtype):
    return carray(_pointer(address), shape, dtype)


# ---- one feature --------------------------------------------------------------------------------


@_njit
def _first(value):
    """Return the k of a feature: its first value, unless that is no number to subtract."""
    k = F64(value)
    return k if k - k == 0 else 0.0


@_njit
def _finish(call, c, k, sum_d, sum_dd, dtype):
    """Turn the sums of d = x - k and of its square into the statistics of feature c; move the running ones."""
    m = call.n * call.s
    mean = k + sum_d / m
    var = (sum_dd - sum_d * sum_d / m) / m
    if var < 0:
        var = 0.0
    _array(call.mean, call.c, F64)[c] = mean
    _array(call.var, call.c, F64)[c] = var
    if call.running_mean != 0:
        old, new = 1 - call.momentum, call.momentum
        running_mean = _array(call.running_mean, call.c, dtype)
        running_var = _array(call.running_var, call.c, dtype)
        running_mean[c] = old * running_mean[c] + new * mean
        running_var[c] = old * running_var[c] + new * (var * (m / (m - 1)))


@_njit
def _affine(call, c, dtype):
    """Return the numbers of y = (x - coarse) * scale + shift for feature c."""
    mean = _array(call.mean, call.c, F64)[c]
    scale = 1 / np.sqrt(_array(call.var, call.c, F64)[c] + call.eps)
    if call.gamma != 0:
        scale *= _array(call.gamma, call.c, dtype)[c]
    shift = 0.0
    if call.beta != 0:
        shift = F64(_array(call.beta, call.c, dtype)[c])
    coarse = dtype(mean)
    if np.isfinite(mean):
        shift -= (mean - coarse) * scale
    return coarse, dtype(scale), dtype(shift)


@_njit
def _finish_gradient(call, c, sum_dy, sum_dy_c, dtype):
    """Store dgamma and dbeta of feature c, and return the numbers of dx.

    dx = gamma / s * (dy - mean(dy) - (x - mean) * mean(dy * (x - mean)) / s^2), with the two means
    in two parts each: dx = scale * (dy - coarse_dy + rest - (x - coarse) * slope).
    """
    m = call.n * call.s
    mean = _array(call.mean, call.c, F64)[c]
    inv_std = 1 / np.sqrt(_array(call.var, call.c, F64)[c] + call.eps)
    scale = inv_std
    if call.gamma != 0:
        scale *= _array(call.gamma, call.c, dtype)[c]
    if call.dgamma != 0:
        _array(call.dgamma, call.c, dtype)[c] = sum_dy_c * inv_std
    if call.dbeta != 0:
        _array(call.dbeta, call.c, dtype)[c] = sum_dy
    mean_dy, slope = sum_dy / m, sum_dy_c / m * inv_std * inv_std
    coarse, coarse_dy = dtype(mean), dtype(mean_dy)
    rest = (coarse_dy - mean_dy) + (mean - coarse) * slope
    return coarse, coarse_dy, dtype(rest), dtype(slope), dtype(scale)


# ---- images: a channel is a block ---------------------------------------------------------------


@_njit_sum
def _sums_of_run(x, k):
    sum_d = sum_dd = 0.0
    for i in range(x.size):
        d = x[i] - k
        sum_d += d
        sum_dd += d * d
    return sum_d, sum_dd


@_njit_sum
def _dsums_of_run(x, dy, mean):
    sum_dy = sum_dy_c = 0.0
    for i in range(x.size):
        sum_dy += dy[i]
        sum_dy_c += dy[i] * (x[i] - mean)
    return sum_dy, sum_dy_c


@_njit
def _normalize_run(x, y, coarse, scale, shift):
    for i in range(x.size):
        y[i] = (x[i] - coarse) * scale + shift


@_njit
def _gradient_of_run(x, dy, dx, coarse, coarse_dy, rest, slope, scale):
    for i in range(x.size):
        dx[i] = scale * ((dy[i] - coarse_dy) + rest - (x[i] - coarse) * slope)


@_njit
def _image_forward(call, c, x, y, dtype):
    if call.phase == FORWARD:
        k = _first(x[0, c, 0])
        sum_d = sum_dd = 0.0
        for n in range(call.n):
            a, b = _sums_of_run(x[n, c], k)
            sum_d += a
            sum_dd += b
        _finish(call, c, k, sum_d, sum_dd, dtype)
    coarse, scale, shift = _affine(call, c, dtype)
    for n in range(call.n):
        _normalize_run(x[n, c], y[n, c], coarse, scale, shift)


@_njit
def _image_backward(call, c, x, dy, dx, dtype):
    mean = _array(call.mean, call.c, F64)[c]
    sum_dy = sum_dy_c = 0.0
    for n in range(call.n):
        a, b = _dsums_of_run(x[n, c], dy[n, c], mean)
        sum_dy += a
        sum_dy_c += b
    coarse, coarse_dy, rest, slope, scale = _finish_gradient(call, c, sum_dy, sum_dy_c, dtype)
    for n in range(call.n):
        _gradient_of_run(x[n, c], dy[n, c], dx[n, c], coarse, coarse_dy, rest, slope, scale)


@_njit
def _images(call, pointer, dtype):
    shape = (call.n, call.c, call.s)
    x, out = _array(call.x, shape, dtype), _array(call.out, shape, dtype)
    c = _take(pointer)
    while c < call.c:
        if call.phase == BACKWARD:
            _image_backward(call, c, x, _array(call.dy, shape, dtype), out, dtype)
        else:
            _image_forward(call, c, x, out, dtype)
        c = _take(pointer)


# ---- rows: blocks of rows, merged ---------------------------------------------------------------


@_njit
def _blocks(n, c):
    """Return the number of blocks, at least 16 rows and 32768 values each: the shape alone decides."""
    return max(1, min(MAX_BLOCKS, n * c // 2**15, n // 16))


@_njit
def _sums_of_rows(x, first, last, sum_d, sum_dd):
    sum_d[:] = 0.0
    sum_dd[:] = 0.0
    whole = last - (last - first) % 4
    for i in range(first, whole, 4):  # four at a time: the sums are loaded and stored less often
        x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
        for c in range(x.shape[1]):
            k = _first(x[0, c])
            d0, d1, d2, d3 = x0[c] - k, x1[c] - k, x2[c] - k, x3[c] - k
            sum_d[c] += (d0 + d1) + (d2 + d3)
            sum_dd[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
    for i in range(whole, last):
        for c in range(x.shape[1]):
            d = x[i, c] - _first(x[0, c])
            sum_d[c] += d
            sum_dd[c] += d * d


@_njit
def _dsums_of_rows(x, dy, first, last, mean, sum_dy, sum_dy_c):
    sum_dy[:] = 0.0
    sum_dy_c[:] = 0.0
    whole = last - (last - first) % 4
    for i in range(first, whole, 4):
        x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
        y0, y1, y2, y3 = dy[i], dy[i + 1], dy[i + 2], dy[i + 3]
        for c in range(x.shape[1]):
            k = mean[c]
            g0, g1, g2, g3 = F64(y0[c]), F64(y1[c]), F64(y2[c]), F64(y3[c])
            sum_dy[c] += (g0 + g1) + (g2 + g3)
            sum_dy_c[c] += (g0 * (x0[c] - k) + g1 * (x1[c] - k)) + (
                g2 * (x2[c] - k) + g3 * (x3[c] - k)
            )
    for i in range(whole, last):
        for c in range(x.shape[1]):
            sum_dy[c] += dy[i, c]
            sum_dy_c[c] += dy[i, c] * (x[i, c] - mean[c])


@_njit
def _normalize_rows(x, y, first, last, coarse, scale, shift):
    for i in range(first, last):
        for c in range(x.shape[1]):
            y[i, c] = (x[i, c] - coarse[c]) * scale[c] + shift[c]


@_njit
def _gradient_of_rows(x, dy, dx, first, last, coarse, coarse_dy, rest, slope, scale):
    for i in range(first, last):
        for c in range(x.shape[1]):
            dx[i, c] = scale[c] * (
                (dy[i, c] - coarse_dy[c]) + rest[c] - (x[i, c] - coarse[c]) * slope[c]
            )


@_njit
def _total(work, blocks):
    """Add the sums of all blocks to those of the first, in their order."""
    for b in range(1, blocks):
        for j in range(2):
            for c in range(work.shape[2]):
                work[0, j, c] += work[b, j, c]


@_njit
def _merge_rows(call, x, work, numbers, dtype):
    if call.phase != NORMALIZE:
        _total(work, _blocks(call.n, call.c))
        for c in range(call.c):
            _finish(call, c, _first(x[0, c]), work[0, 0, c], work[0, 1, c], dtype)
    for c in range(call.c):
        numbers[0, c], numbers[1, c], numbers[2, c] = _affine(call, c, dtype)


@_njit
def _merge_gradient_rows(call, work, numbers, dtype):
    _total(work, _blocks(call.n, call.c))
    for c in range(call.c):
        a, b, d, e, f = _finish_gradient(call, c, work[0, 0, c], work[0, 1, c], dtype)
        numbers[0, c], numbers[1, c], numbers[2, c], numbers[3, c], numbers[4, c] = a, b, d, e, f


@_njit
def _rows(call, pointer, dtype):
    """Run one phase, or all: "forward" is sums, merge, normalize on one thread; so is "backward"."""
    blocks, shape, phase = _blocks(call.n, call.c), (call.n, call.c), call.phase
    x, out, dy = (_array(call.x, shape, dtype), _array(call.out, shape, dtype),
                  _array(call.dy, shape, dtype))  # fmt: skip
    mean = _array(call.mean, call.c, F64)
    work = _array(call.work, (blocks, 2, call.c), F64)
    numbers = _array(call.work + work.nbytes, (5, call.c), dtype)
    if phase in (FORWARD, SUMS):
        b = _take(pointer)
        while b < blocks:
            _sums_of_rows(
                x, b * call.n // blocks, (b + 1) * call.n // blocks, work[b, 0], work[b, 1]
            )
            b = _take(pointer)
    if phase in (FORWARD, MERGE):
        _merge_rows(call, x, work, numbers, dtype)
    if phase in (BACKWARD, DSUMS):
        b = _take(pointer)
        while b < blocks:
            _dsums_of_rows(
                x,
                dy,
                b * call.n // blocks,
                (b + 1) * call.n // blocks,
                mean,
                work[b, 0],
                work[b, 1],
            )
            b = _take(pointer)
    if phase in (BACKWARD, DMERGE):
        _merge_gradient_rows(call, work, numbers, dtype)
    if phase in (FORWARD, BACKWARD):
        call.next = 0
    if phase in (FORWARD, NORMALIZE, BACKWARD, GRADIENT):
        b = blocks - 1 - _take(pointer)  # backwards: the last blocks are still in the cache
        while b >= 0:
            first, last = b * call.n // blocks, (b + 1) * call.n // blocks
            if phase in (FORWARD, NORMALIZE):
                _normalize_rows(x, out, first, last, numbers[0], numbers[1], numbers[2])
            else:
                _gradient_of_rows(x, dy, out, first, last, *numbers)
            b = blocks - 1 - _take(pointer)
