"""Simulations for the page on statistics: what seeds, pairs, many looks and chosen rates do to a comparison."""

from __future__ import annotations

import numpy as np

from bnlab.stats import t_interval

__all__ = ["any_false_alarm", "coverage", "luck_of_the_chosen"]


def coverage(n: int, *, repeats: int = 4000, seed: int = 0) -> float:
    """Return how often the t-interval of n normal samples contains their true mean.

    Parameters
    ----------
    n : int
        Samples, that is seeds, of each experiment.
    repeats : int
        Experiments.
    seed : int

    Returns
    -------
    float
    """
    samples = np.random.default_rng(seed).normal(size=(n, repeats))
    found = t_interval(samples)
    return float(((found.low < 0) & (found.high > 0)).mean())


def any_false_alarm(looks: int, *, corrected: bool, repeats: int = 2000, seed: int = 0) -> float:
    """Return how often at least one of many comparisons of equal arms finds a difference, 16 seeds each.

    Parameters
    ----------
    looks : int
        Comparisons of one experiment.
    corrected : bool
        With Bonferroni's correction.
    repeats, seed : int

    Returns
    -------
    float
    """
    samples = np.random.default_rng(seed).normal(size=(16, repeats, looks))
    found = t_interval(samples, confidence=1 - 0.05 / looks if corrected else 0.95)
    return float(((found.low > 0) | (found.high < 0)).any(axis=-1).mean())


def luck_of_the_chosen(rates: int, seeds: int, *, repeats: int = 4000, seed: int = 0) -> float:
    """Return how much better the best of equal rates looks than it is, in standard deviations of a run.

    Parameters
    ----------
    rates : int
        Learning rates that are all equally good.
    seeds : int
        Runs of each.
    repeats, seed : int

    Returns
    -------
    float
        Mean of the best mean; without the luck it is zero.
    """
    runs = np.random.default_rng(seed).normal(size=(repeats, rates, seeds))
    return float(runs.mean(axis=2).max(axis=1).mean())
