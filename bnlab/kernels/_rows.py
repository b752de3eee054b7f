"""Kernels for rows (N, C): sum up blocks of rows, merge the sums, and go through the blocks again."""

from __future__ import annotations

import numpy as np

from bnlab.kernels._call import (
    AFFINE,
    DMERGE,
    DSUMS,
    F64,
    GRADIENT,
    MERGE,
    NORMALIZE,
    SUMS,
    affine,
    array,
    compiled,
    features,
    first,
    gradient,
    statistics,
    take,
)

MOST_BLOCKS = 64


@compiled
def blocks_of(n, c):
    """Return the number of blocks. It depends on the shape alone: any number of threads gives the same bits."""
    return max(1, min(MOST_BLOCKS, n * c // 2**15, n // 16))


@compiled
def _sums(x, sum_d, sum_dd, k):
    sum_d[:] = 0.0
    sum_dd[:] = 0.0
    for i in range(len(x)):
        for c in range(x.shape[1]):
            d = x[i, c] - k[c]
            sum_d[c] += d
            sum_dd[c] += d * d


@compiled
def _dsums(x, dy, sum_dy, sum_dy_c, mean):
    sum_dy[:] = 0.0
    sum_dy_c[:] = 0.0
    for i in range(len(x)):
        for c in range(x.shape[1]):
            g = F64(dy[i, c])
            sum_dy[c] += g
            sum_dy_c[c] += g * (x[i, c] - mean[c])


@compiled
def _normalize(x, y, coarse, scale, shift):
    for i in range(len(x)):
        for c in range(x.shape[1]):
            y[i, c] = (x[i, c] - coarse[c]) * scale[c] + shift[c]


@compiled
def _gradient(x, dy, dx, coarse, shift, slope, scale):
    for i in range(len(x)):
        for c in range(x.shape[1]):
            dx[i, c] = scale[c] * ((dy[i, c] - shift[c]) - (x[i, c] - coarse[c]) * slope[c])


@compiled
def _total(work):
    """Add the sums of all blocks to those of the first, block by block."""
    for b in range(1, len(work)):
        for j in range(2):
            for c in range(work.shape[2]):
                work[0, j, c] += work[b, j, c]


@compiled
def _first_pass(call, pointer, x, dy, work, k):
    n, blocks = call.n, len(work)
    b = take(pointer)
    while b < blocks:
        rows = slice(b * n // blocks, (b + 1) * n // blocks)
        if call.steps & SUMS:
            _sums(x[rows], work[b, 0], work[b, 1], k)
        else:
            _dsums(x[rows], dy[rows], work[b, 0], work[b, 1], k)
        b = take(pointer)


@compiled
def _merge(call, work, number, k, mean, var, dtype):
    """Turn the sums of the blocks into the few numbers of each feature that the second pass needs."""
    steps, m = call.steps, call.n
    if steps & (MERGE | DMERGE):
        _total(work)
    sums = work[0]
    if steps & MERGE:
        for c in range(call.c):
            mean[c], var[c] = statistics(k[c], sums[0, c], sums[1, c], m)
    inv_std, gamma = 1 / np.sqrt(var + call.eps), features(call.gamma, call, dtype, 1.0)
    if steps & AFFINE:
        beta = features(call.beta, call, dtype, 0.0)
        for c in range(call.c):
            number[0, c], number[1, c], number[2, c] = affine(
                mean[c], inv_std[c], gamma[c], beta[c], dtype
            )
    if steps & DMERGE:
        dgamma, dbeta = array(call.dgamma, call.c, dtype), array(call.dbeta, call.c, dtype)
        for c in range(call.c):
            dbeta[c], dgamma[c] = sums[0, c], sums[1, c] * inv_std[c]
            number[0, c], number[1, c], number[2, c], number[3, c] = gradient(
                mean[c], inv_std[c], gamma[c], sums[0, c], sums[1, c], m, dtype
            )


@compiled
def _second_pass(call, pointer, x, dy, out, number, blocks):
    n = call.n
    b = blocks - 1 - take(pointer)  # backwards: the first pass left the last blocks in the cache
    while b >= 0:
        rows = slice(b * n // blocks, (b + 1) * n // blocks)
        if call.steps & NORMALIZE:
            _normalize(x[rows], out[rows], number[0], number[1], number[2])
        else:
            _gradient(x[rows], dy[rows], out[rows], number[0], number[1], number[2], number[3])
        b = blocks - 1 - take(pointer)


@compiled
def rows(call, pointer, dtype):
    """Do the steps that the call asks for: all of them if there is one thread, one of them if several."""
    shape, steps = (call.n, call.c), call.steps
    x, out = array(call.x, shape, dtype), array(call.out, shape, dtype)
    dy = array(call.dy, shape, dtype)
    mean, var = array(call.mean, call.c, F64), array(call.var, call.c, F64)
    blocks = blocks_of(call.n, call.c)
    size = (2 * blocks + 4) * call.c
    # One thread alone brings its own memory, as no other needs to see it.
    memory = array(call.work, size, F64) if call.work != 0 else np.empty(size)
    work = memory[: 2 * blocks * call.c].reshape((blocks, 2, call.c))
    number = memory[2 * blocks * call.c :].view(dtype)[: 4 * call.c].reshape((4, call.c))
    k = mean
    if steps & (SUMS | MERGE):
        k = np.array([first(value) for value in x[0]])
    if steps & (SUMS | DSUMS):
        _first_pass(call, pointer, x, dy, work, k)
    if steps & (MERGE | AFFINE | DMERGE):
        _merge(call, work, number, k, mean, var, dtype)
        call.next = 0
    if steps & (NORMALIZE | GRADIENT):
        _second_pass(call, pointer, x, dy, out, number, blocks)
