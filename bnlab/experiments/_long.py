"""Experiments that take minutes or hours: what one must provide to be run, stopped, resumed and shared out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnlab._validate import did_you_mean

__all__ = ["LongExperiment", "seeds_of"]

Config = dict[str, Any]
Task = dict[str, Any]
Outcome = dict[str, np.ndarray]


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
    defaults: Config
    tasks: Callable[[Config], tuple[Task, ...]]
    run: Callable[..., Outcome]
    merge: Callable[[Config, tuple[Task, ...], tuple[Outcome, ...]], Any]

    def configure(self, changes: Config) -> Config:
        """Return the defaults with these values in place of theirs, as JSON gives them back."""
        unknown = sorted(set(changes) - set(self.defaults))
        if unknown:
            raise ValueError(
                f"{self.name} has no setting {', '.join(map(repr, unknown))}; expected some of "
                f"{', '.join(self.defaults)}.{did_you_mean(unknown[0], self.defaults) or ' Leave it out.'}"
            )
        for name, value in changes.items():
            _same_kind(self.name, name, value, self.defaults[name])
        if "seeds" in changes:
            _check_seeds(changes["seeds"])
        return as_json(self.defaults | changes, f"the configuration of {self.name}")

    def plan(self, config: Config) -> tuple[Task, ...]:
        """Return the tasks of a configuration, as JSON gives them back."""
        try:
            tasks = list(self.tasks(config))
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(
                f"{self.name} cannot plan its tasks ({type(error).__name__}: {error}); its configuration is "
                f"{config}. Correct the setting that does not fit."
            ) from error
        tasks = as_json(tasks, f"the tasks of {self.name}")
        if not tasks:
            raise ValueError(f"{self.name} has no task with {config}; expected at least one.")
        return tuple(tasks)


def as_json(value: Any, what: str) -> Any:
    """Return a copy in JSON's own types, which every process and every later resume will see alike."""
    try:
        return json.loads(json.dumps(value))
    except TypeError as error:
        raise TypeError(
            f"{what} hold what JSON cannot ({error}); expected numbers, strings, booleans, None, lists and "
            f"dicts of those. Convert arrays with .tolist()."
        ) from error


def _same_kind(experiment: str, name: str, value: Any, default: Any) -> None:
    kinds: tuple[type, ...] = () if default is None else (type(default),)
    if name == "seeds":
        kinds = (int, list)
    elif kinds == (float,):
        kinds = (float, int)
    if kinds and (not isinstance(value, kinds) or isinstance(value, bool) != (kinds == (bool,))):
        raise TypeError(
            f"{name} of {experiment} is {value!r}; expected {' or '.join(kind.__name__ for kind in kinds)}, "
            f"like {default!r}. Correct the setting."
        )


def _check_seeds(seeds: int | list) -> None:
    each = [seeds] if isinstance(seeds, int) else seeds
    low = 1 if isinstance(seeds, int) else 0
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= low for n in each)
    if not each or not whole or len(set(each)) < len(each):
        raise ValueError(
            f"seeds is {seeds!r}; expected a count of at least 1, or a list of different whole numbers from 0, "
            f"like 0,3,5: a seed that is run twice would be counted twice. Correct --seeds."
        )


def seeds_of(config: Config) -> tuple[int, ...]:
    """Return every seed of a configuration, whose "seeds" is a count (0, 1, ...) or a list.

    Examples
    --------
    >>> seeds_of({"seeds": 3}), seeds_of({"seeds": [0, 3, 5]})
    ((0, 1, 2), (0, 3, 5))
    """
    seeds = config.get("seeds", config.get("seed", ()))
    if "seeds" in config and isinstance(seeds, int):
        return tuple(range(seeds))
    return (seeds,) if isinstance(seeds, int) else tuple(seeds)
