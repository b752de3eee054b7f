"""Rows (N, C): sums over blocks of rows, one merge, and a second pass over the blocks."""

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
    finish,
    finish_gradient,
    first,
    take,
)

MOST_BLOCKS = 64


@compiled
def blocks_of(n, c):
    """Return the number of blocks; the shape alone decides, so that threads cannot change a bit."""
    return max(1, min(MOST_BLOCKS, n * c // 2**15, n // 16))


@compiled
def _sums(x, sum_d, sum_dd, k):
    sum_d[:] = 0.0
    sum_dd[:] = 0.0
    whole = len(x) - len(x) % 4
    for i in range(0, whole, 4):  # four rows for each time that the sums are loaded and stored
        x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
        for c in range(x.shape[1]):
            k_c = first(k[c])
            d0, d1, d2, d3 = x0[c] - k_c, x1[c] - k_c, x2[c] - k_c, x3[c] - k_c
            sum_d[c] += (d0 + d1) + (d2 + d3)
            sum_dd[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
    for i in range(whole, len(x)):
        for c in range(x.shape[1]):
            d = x[i, c] - first(k[c])
            sum_d[c] += d
            sum_dd[c] += d * d


@compiled
def _dsums(x, dy, sum_dy, sum_dy_c, mean):
    sum_dy[:] = 0.0
    sum_dy_c[:] = 0.0
    whole = len(x) - len(x) % 4
    for i in range(0, whole, 4):
        x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
        y0, y1, y2, y3 = dy[i], dy[i + 1], dy[i + 2], dy[i + 3]
        for c in range(x.shape[1]):
            k = mean[c]
            g0, g1, g2, g3 = F64(y0[c]), F64(y1[c]), F64(y2[c]), F64(y3[c])
            sum_dy[c] += (g0 + g1) + (g2 + g3)
            sum_dy_c[c] += g0 * (x0[c] - k) + g1 * (x1[c] - k) + g2 * (x2[c] - k) + g3 * (x3[c] - k)
    for i in range(whole, len(x)):
        for c in range(x.shape[1]):
            sum_dy[c] += dy[i, c]
            sum_dy_c[c] += dy[i, c] * (x[i, c] - mean[c])


@compiled
def _normalize(x, y, coarse, scale, shift):
    for i in range(len(x)):
        for c in range(x.shape[1]):
            y[i, c] = (x[i, c] - coarse[c]) * scale[c] + shift[c]


@compiled
def _gradient(x, dy, dx, coarse, coarse_dy, rest, slope, scale):
    for i in range(len(x)):
        for c in range(x.shape[1]):
            dx[i, c] = scale[c] * (
                (dy[i, c] - coarse_dy[c]) + rest[c] - (x[i, c] - coarse[c]) * slope[c]
            )


@compiled
def _total(work):
    """Add the sums of all blocks to those of the first, in their order."""
    for b in range(1, len(work)):
        for j in range(2):
            for c in range(work.shape[2]):
                work[0, j, c] += work[b, j, c]


@compiled
def _first_pass(call, pointer, x, dy, work, dtype):
    n, blocks = call.n, len(work)
    b = take(pointer)
    while b < blocks:
        rows = slice(b * n // blocks, (b + 1) * n // blocks)
        if call.steps & SUMS:
            _sums(x[rows], work[b, 0], work[b, 1], x[0])
        else:
            _dsums(x[rows], dy[rows], work[b, 0], work[b, 1], array(call.mean, call.c, F64))
        b = take(pointer)


@compiled
def _second_pass(call, pointer, x, dy, out, numbers, blocks):
    n = call.n
    b = blocks - 1 - take(pointer)  # backwards: the first pass left the last blocks in the cache
    while b >= 0:
        rows = slice(b * n // blocks, (b + 1) * n // blocks)
        if call.steps & NORMALIZE:
            _normalize(x[rows], out[rows], numbers[0], numbers[1], numbers[2])
        else:
            _gradient(x[rows], dy[rows], out[rows], *numbers)
        b = blocks - 1 - take(pointer)


@compiled
def rows(call, pointer, dtype):
    """Do the steps that are asked for; one thread does them all, several meet before each merge."""
    shape, steps = (call.n, call.c), call.steps
    x, dy, out = (array(call.x, shape, dtype), array(call.dy, shape, dtype),
                  array(call.out, shape, dtype))  # fmt: skip
    blocks = blocks_of(call.n, call.c)
    size = (2 * blocks + 5) * call.c
    # One thread alone brings its own memory, as no other needs to see it.
    memory = array(call.work, size, F64) if call.work != 0 else np.empty(size)
    work = memory[: 2 * blocks * call.c].reshape((blocks, 2, call.c))
    number = memory[2 * blocks * call.c :].view(dtype)[: 5 * call.c].reshape((5, call.c))
    numbers = number[0], number[1], number[2], number[3], number[4]
    if steps & (SUMS | DSUMS):
        _first_pass(call, pointer, x, dy, work, dtype)
    if steps & (MERGE | DMERGE):
        _total(work)
    for c in range(call.c):
        if steps & MERGE:
            finish(call, c, first(x[0, c]), work[0, 0, c], work[0, 1, c])
        if steps & AFFINE:
            number[0, c], number[1, c], number[2, c] = affine(call, c, dtype)
        if steps & DMERGE:
            sums = work[0, 0, c], work[0, 1, c]
            for j, value in enumerate(finish_gradient(call, c, *sums, dtype)):
                number[j, c] = value
    if steps & (AFFINE | DMERGE):
        call.next = 0
    if steps & (NORMALIZE | GRADIENT):
        _second_pass(call, pointer, x, dy, out, numbers, len(work))
