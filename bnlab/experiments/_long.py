"""Experiments that take minutes or hours: what one must provide to be run, stopped, resumed and shared out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["LongExperiment"]


@dataclass(frozen=True)
class LongExperiment:
    """An experiment in independent tasks, each of which can stop and go on to the bit-identical outcome.

    Parameters
    ----------
    name : str
        What ``bnlab run`` calls it, with hyphens.
    summary : str
        One line for ``bnlab list``.
    defaults : dict
        The configuration, in values that JSON can hold. ``--data``, ``--seeds`` and ``--steps`` replace the
        values of "data", "seeds" (a count or a list) and "steps".
    tasks : callable
        ``tasks(config)``: the independent pieces of work, each a dict that JSON can hold. They follow from
        the configuration alone, never from how many processes there are.
    run : callable
        ``run(config, task, *, state, report, device="cpu")``: do one task and return its outcome, a dict of
        arrays. ``report(done, total, snapshot)`` is to be called every few hundred steps; ``snapshot()``
        returns a dict of arrays, numbers and text, and `state`, None or such a dict, makes the task go on
        from there to the same outcome, bit for bit.
    merge : callable
        ``merge(config, tasks, outcomes)``: the result, a frozen dataclass of `bnlab.results`.
    """

    name: str
    summary: str
    defaults: dict[str, Any]
    tasks: Callable[[dict[str, Any]], tuple[dict[str, Any], ...]]
    run: Callable[..., dict[str, np.ndarray]]
    merge: Callable[[dict[str, Any], tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]], Any]
