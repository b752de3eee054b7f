"""Kernels for images (N, C, S): one channel after the other, as one fits the cache and is read once."""

from __future__ import annotations

import numpy as np

from bnlab.kernels._call import (
    F64,
    GRADIENT,
    SUMS,
    affine,
    array,
    compiled,
    compiled_sum,
    features,
    first,
    gradient,
    statistics,
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
def _gradient(x, dy, dx, coarse, shift, slope, scale):
    for i in range(x.size):
        dx[i] = scale * ((dy[i] - shift) - (x[i] - coarse) * slope)


@compiled
def _moments(x, c):
    """Return mean and biased variance of channel c."""
    k = first(x[0, c, 0])
    sum_d = sum_dd = 0.0
    for i in range(len(x)):
        d, dd = _sums(x[i, c], k)
        sum_d += d
        sum_dd += dd
    return statistics(k, sum_d, sum_dd, len(x) * x.shape[2])


@compiled
def images(call, pointer, dtype):
    """Take a channel and do all steps for it, until none is left."""
    shape, n = (call.n, call.c, call.s), call.n
    x, out = array(call.x, shape, dtype), array(call.out, shape, dtype)
    mean, var = array(call.mean, call.c, F64), array(call.var, call.c, F64)
    gamma, beta = features(call.gamma, call, dtype, 1.0), features(call.beta, call, dtype, 0.0)
    c = take(pointer)
    while c < call.c:
        if call.steps & SUMS:
            mean[c], var[c] = _moments(x, c)
        inv_std = 1 / np.sqrt(var[c] + call.eps)
        if call.steps & GRADIENT:
            dy = array(call.dy, shape, dtype)
            sum_dy = sum_dy_c = 0.0
            for i in range(n):
                g, gc = _dsums(x[i, c], dy[i, c], mean[c])
                sum_dy += g
                sum_dy_c += gc
            array(call.dbeta, call.c, dtype)[c] = sum_dy
            array(call.dgamma, call.c, dtype)[c] = sum_dy_c * inv_std
            numbers = gradient(mean[c], inv_std, gamma[c], sum_dy, sum_dy_c, n * call.s, dtype)
            for i in range(n):
                _gradient(x[i, c], dy[i, c], out[i, c], *numbers)
        else:
            coarse, scale, shift = affine(mean[c], inv_std, gamma[c], beta[c], dtype)
            for i in range(n):
                _normalize(x[i, c], out[i, c], coarse, scale, shift)
        c = take(pointer)
