"""Images (N, C, S): a channel is a block, small enough for a cache, so memory is read once."""

from __future__ import annotations

from bnlab.kernels._call import (
    F64,
    GRADIENT,
    SUMS,
    affine,
    array,
    compiled,
    compiled_sum,
    finish,
    finish_gradient,
    first,
    take,
)


@compiled_sum
def _sums(x, k):
    sum_d = sum_dd = 0.0
    for i in range(x.size):
        d = x[i] - k
        sum_d += d
        sum_dd += d * d
    return sum_d, sum_dd


@compiled_sum
def _dsums(x, dy, mean):
    sum_dy = sum_dy_c = 0.0
    for i in range(x.size):
        sum_dy += dy[i]
        sum_dy_c += dy[i] * (x[i] - mean)
    return sum_dy, sum_dy_c


@compiled
def _normalize(x, y, coarse, scale, shift):
    for i in range(x.size):
        y[i] = (x[i] - coarse) * scale + shift


@compiled
def _gradient(x, dy, dx, coarse, coarse_dy, rest, slope, scale):
    for i in range(x.size):
        dx[i] = scale * ((dy[i] - coarse_dy) + rest - (x[i] - coarse) * slope)


@compiled
def _forward(call, c, x, y, dtype):
    if call.steps & SUMS:
        k = first(x[0, c, 0])
        sum_d = sum_dd = 0.0
        for n in range(call.n):
            d, dd = _sums(x[n, c], k)
            sum_d += d
            sum_dd += dd
        finish(call, c, k, sum_d, sum_dd)
    coarse, scale, shift = affine(call, c, dtype)
    for n in range(call.n):
        _normalize(x[n, c], y[n, c], coarse, scale, shift)


@compiled
def _backward(call, c, x, dy, dx, dtype):
    mean = array(call.mean, call.c, F64)[c]
    sum_dy = sum_dy_c = 0.0
    for n in range(call.n):
        g, gc = _dsums(x[n, c], dy[n, c], mean)
        sum_dy += g
        sum_dy_c += gc
    coarse, coarse_dy, rest, slope, scale = finish_gradient(call, c, sum_dy, sum_dy_c, dtype)
    for n in range(call.n):
        _gradient(x[n, c], dy[n, c], dx[n, c], coarse, coarse_dy, rest, slope, scale)


@compiled
def images(call, pointer, dtype):
    """Take channels until none is left, each from its sums to its last value."""
    shape = (call.n, call.c, call.s)
    x, out = array(call.x, shape, dtype), array(call.out, shape, dtype)
    c = take(pointer)
    while c < call.c:
        if call.steps & GRADIENT:
            _backward(call, c, x, array(call.dy, shape, dtype), out, dtype)
        else:
            _forward(call, c, x, out, dtype)
        c = take(pointer)
