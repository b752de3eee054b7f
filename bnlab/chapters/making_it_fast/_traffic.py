"""Arrays that count the operations done to them, and the bytes that miss an ideal cache."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# What counts as arithmetic. Checks for NaN and Inf read blocks that are in the cache anyway.
ARITHMETIC = {"add", "subtract", "multiply", "divide", "square", "power", "sqrt", "negative"}


class Count:
    """Totals, and a cache that keeps the arrays used last and writes back those that changed."""

    def __init__(self, cache: int, small: int) -> None:
        self.calls = self.flops = self.touched = self.moved = 0
        self._size, self._small, self._used = cache, small, 0
        self._lines: OrderedDict[tuple, list] = OrderedDict()  # place -> [bytes, changed, owner]

    def watch(self, array: np.ndarray) -> Counted:
        """Return a view of the array whose uses are counted here."""
        view = array.view(Counted)
        view.count = self
        return view

    def operation(self, inputs: list, outputs: list, flops: int) -> None:
        """Count one operation; a few numbers for each feature do not matter."""
        if flops <= self._small:
            return
        self.calls += 1
        self.flops += flops
        for array in inputs:
            self._use(array, change=False)
        for array in outputs:
            self._use(array, change=True)

    def _use(self, array: np.ndarray, *, change: bool) -> None:
        if array.size <= self._small:
            return
        self.touched += array.nbytes
        owner = array if array.base is None else array.base
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        place = (array.__array_interface__["data"][0], array.nbytes)
        line = self._lines.pop(place, None)
        if line is not None and line[2]() is not owner:  # that array is gone, its memory used again
            self._used -= line[0]
            line = None
        if line is None:
            self._used += array.nbytes
            self.moved += 0 if change else array.nbytes
            line = [array.nbytes, False, weakref.ref(owner)]
        line[1] = line[1] or change
        self._lines[place] = line
        while self._used > self._size:
            self._evict()

    def _evict(self) -> None:
        _, (size, changed, owner) = self._lines.popitem(last=False)
        self._used -= size
        if changed and owner() is not None:
            self.moved += size

    def finish(self) -> None:
        """Write back what is still in use."""
        while self._lines:
            self._evict()


class Counted(np.ndarray):
    """An array that tells its `Count` of every ufunc and sum."""

    count: Count | None = None

    def __array_finalize__(self, source: Any) -> None:
        self.count = getattr(source, "count", None)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [np.asarray(a) if isinstance(a, Counted) else a for a in inputs]
        targets = None if out is None else tuple(None if o is None else np.asarray(o) for o in out)
        result = getattr(ufunc, method)(*plain, **options, **({"out": targets} if targets else {}))
        count = next(a.count for a in (*inputs, *(out or ())) if isinstance(a, Counted))
        arrays = [a for a in plain if isinstance(a, np.ndarray)]
        done = [] if method == "reduce" else [np.asarray(result)]
        work = arrays[0].size if method == "reduce" else np.size(result)
        if ufunc.__name__ in ARITHMETIC:
            count.operation(arrays, done, work)
        if out is not None:
            return out[0]
        return count.watch(result) if isinstance(result, np.ndarray) else result

    def __array_function__(self, function, types, args, kwargs):
        if function is not np.einsum:
            return super().__array_function__(function, types, args, kwargs)
        plain = [np.asarray(a) if isinstance(a, Counted) else a for a in args]
        arrays = [a for a in plain if isinstance(a, np.ndarray)]
        self.count.operation(arrays, [], len(arrays) * arrays[0].size)
        return function(*plain, **kwargs)


@contextmanager
def counting(cache: int, *, small: int) -> Iterator[Count]:
    """Count until the end of the block, arrays of more than `small` numbers, then empty the cache."""
    count = Count(cache, small)
    yield count
    count.finish()
