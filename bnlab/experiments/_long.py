"""Experiments that take minutes or hours: independent tasks, and how their outcomes become one result."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bnlab._validate import did_you_mean
from bnlab.experiments.store import from_arrays, to_arrays

__all__ = ["LongExperiment", "difference", "seeds_of"]

MOST_SEEDS = 1_000_000
"""A count above it is a mistake, and would fill the memory with seeds."""

Config = dict[str, Any]
Task = dict[str, Any]
Outcome = dict[str, np.ndarray]


@dataclass(frozen=True)
class LongExperiment:
    """An experiment in independent tasks, which `bnlab.experiments.run` shares out, keeps and merges.

    Parameters
    ----------
    name : str
        What ``bnlab run`` calls it, with hyphens. Its stored file has the name `file`.
    summary : str
        One line for ``bnlab run --list``.
    defaults : dict
        The configuration, in values that JSON can hold: exactly what made the stored file. ``--data``,
        ``--seeds``, ``--steps`` and ``--device`` replace the values of that name; "seeds" is a count or a list.
    tasks : callable
        ``tasks(config)``: the independent pieces of work, each a dict that JSON can hold. They follow from
        the configuration alone, never from how many processes there are.
    run : callable
        ``run(config, task)``: do one task and return its outcome, a dict of arrays. Both must follow from
        the arguments alone. A task that is stopped is lost, so it should take no more than about two minutes.
    merge : callable
        ``merge(config, tasks, outcomes)``: the result, a frozen dataclass derived from `Result`. The
        outcomes are in the order of the tasks.
    chapter : int
        The chapter of the book that shows it; 0 for none.
    check : callable, optional
        ``check(result, provenance)``: run the beginning of a stored result again and return the largest
        difference of each quantity by its name. Without it, `summary` says why it cannot be compared.
    tolerance : float
        The largest difference that ``bnlab run NAME --check`` allows.
    packages : tuple of str
        Further packages whose versions belong to the origin of the result.

    Examples
    --------
    >>> coin = LongExperiment(
    ...     name="coin-flips", summary="the mean of coin flips", defaults={"seeds": 2, "flips": 100},
    ...     tasks=lambda config: tuple({"seed": seed} for seed in seeds_of(config)),
    ...     run=lambda config, task: {
    ...         "mean": np.random.default_rng(task["seed"]).integers(0, 2, config["flips"]).mean()},
    ...     merge=lambda config, tasks, outcomes: np.mean([outcome["mean"] for outcome in outcomes]),
    ... )
    >>> coin.file, coin.plan(coin.configure({"seeds": [7, 9]}))
    ('coin_flips.npz', ({'seed': 7}, {'seed': 9}))
    """

    name: str
    summary: str
    defaults: Config
    tasks: Callable[[Config], tuple[Task, ...]]
    run: Callable[[Config, Task], Outcome]
    merge: Callable[[Config, tuple[Task, ...], tuple[Outcome, ...]], Any]
    chapter: int = 0
    check: Callable[..., dict[str, float]] | None = None
    tolerance: float = 1e-6
    packages: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, function: Callable[..., Any], *, by_seed: tuple[str, ...] = (), **about: Any
    ) -> LongExperiment:
        """Make an experiment of a function that takes the settings by name and returns a result.

        Parameters
        ----------
        function : callable
            ``function(**config)`` returns an instance of `Result`; "seeds" reaches it as a tuple.
        by_seed : tuple of str
            Fields of the result that are arrays with an entry of their first axis for each seed. With them
            each seed is a task, and these arrays are joined; without, all is one task.
        **about
            What is left: `name`, `summary`, `defaults`, and so on.

        Returns
        -------
        LongExperiment
            Its result is what the function returns, bit for bit.

        Examples
        --------
        >>> from bnlab.experiments import Result
        >>> @dataclass(frozen=True)
        ... class Means(Result):
        ...     seeds: tuple[int, ...]
        ...     mean: np.ndarray
        >>> def means(n, seeds):
        ...     return Means(seeds, np.array([np.random.default_rng(s).random(n).mean() for s in seeds]))
        >>> about = {"name": "means", "summary": "means", "defaults": {"n": 9, "seeds": [0, 4]}}
        >>> LongExperiment.of(means, by_seed=("mean",), **about).plan({"seeds": [0, 4]})
        ({'seed': 0}, {'seed': 4})
        """

        def tasks(config: Config) -> tuple[Task, ...]:
            return tuple({"seed": seed} for seed in seeds_of(config)) if by_seed else ({},)

        def run(config: Config, task: Task) -> Outcome:
            seeds = (task["seed"],) if by_seed else seeds_of(config)
            return to_arrays(function(**config | ({"seeds": seeds} if "seeds" in config else {})))

        functools.update_wrapper(run, function, (), ())  # a resumed run compares that one's file

        def merge(config: Config, tasks: tuple[Task, ...], outcomes: tuple[Outcome, ...]) -> Any:
            first, *_ = parts = [from_arrays(outcome) for outcome in outcomes]
            joined: dict[str, Any] = {
                name: np.concatenate([getattr(p, name) for p in parts]) for name in by_seed
            }
            if by_seed and hasattr(first, "seeds"):
                joined["seeds"] = seeds_of(config)
            return replace(first, **joined)

        return cls(tasks=tasks, run=run, merge=merge, **about)

    @property
    def file(self) -> str:
        """The name of the stored file, like ``figure_one_mnist.npz`` of figure-one-mnist."""
        return f"{self.name.replace('-', '_')}.npz"

    def configure(self, changes: Config) -> Config:
        """Return the defaults with these values in place of theirs, as JSON gives them back.

        Parameters
        ----------
        changes : dict
            Setting to value.

        Returns
        -------
        dict
            The whole configuration.

        Raises
        ------
        TypeError
            If a value is of another kind than its default, or JSON cannot hold it.
        ValueError
            If there is no such setting, or a seed occurs twice.
        """
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
        """Return the tasks of a configuration, as JSON gives them back.

        Parameters
        ----------
        config : dict
            What :meth:`configure` returned.

        Returns
        -------
        tuple of dict
            The tasks, at least one.

        Raises
        ------
        TypeError
            If JSON cannot hold a task.
        ValueError
            If no task follows from the configuration.
        """
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
    low, high = (1, MOST_SEEDS) if isinstance(seeds, int) else (0, 2**63 - 1)  # which torch takes
    whole = all(isinstance(n, int) and not isinstance(n, bool) and low <= n <= high for n in each)
    if not each or not whole or len(set(each)) < len(each):
        raise ValueError(
            f"seeds is {seeds!r}; expected a count of at least 1 and at most {MOST_SEEDS:,}, or a list of "
            f"different whole numbers from 0 to 2**63 - 1, like 0,3,5: a seed that is run twice would be counted "
            f"twice. Correct --seeds."
        )


def seeds_of(config: Config) -> tuple[int, ...]:
    """Return every seed of a configuration, whose "seeds" is a count (0, 1, ...) or a list.

    Parameters
    ----------
    config : dict
        A configuration with "seeds" or one "seed", or with neither.

    Returns
    -------
    tuple of int
        The seeds; empty if there are none.

    Examples
    --------
    >>> [seeds_of(config) for config in ({"seeds": 3}, {"seeds": [0, 3, 5]}, {"seed": 7}, {})]
    [(0, 1, 2), (0, 3, 5), (7,), ()]
    """
    seeds = config.get("seeds", config.get("seed", ()))
    if "seeds" in config and isinstance(seeds, int):
        return tuple(range(seeds))
    return (seeds,) if isinstance(seeds, int) else tuple(seeds)


def difference(again: Any, stored: Any, *, floor: float = 0.0) -> float:
    r"""Return the largest relative difference of numbers that were computed again from those that are stored.

    .. math:: \max \frac{|a - s|}{|s| + f}

    Parameters
    ----------
    again, stored : array-like
        Of one shape; what is infinite or NaN in both in the same place does not differ.
    floor : float
        The size f below which a difference counts less, for quantities that may be zero.

    Returns
    -------
    float
        Infinite if only one of the two is finite somewhere.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> round(difference([1.0, 2.2, np.nan], [1.0, 2.0, np.nan]), 6)
    0.1
    """
    a, s = np.asarray(again, dtype=float), np.asarray(stored, dtype=float)
    if a.shape != s.shape:
        raise ValueError(
            f"again has shape {a.shape} and stored {s.shape}; expected one shape. Cut the longer one."
        )
    differ = ~((a == s) | (np.isnan(a) & np.isnan(s)))
    if not differ.any():
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(a - s)[differ] / (np.abs(s)[differ] + floor)
    return float(np.nan_to_num(relative, nan=np.inf, posinf=np.inf).max())
