"""Results: frozen dataclasses that experiments return and plots draw."""

from bnlab.results._store import Provenance, load, save
from bnlab.results.covariate_shift import (
    CupGame,
    DepthProfile,
    DriftRun,
    LearningRates,
    ShiftedFit,
)
from bnlab.results.interval import Interval, t_interval
from bnlab.results.naive_failure import NaiveRun
from bnlab.results.training import Drift, History, Summary

__all__ = [
    "CupGame",
    "DepthProfile",
    "Drift",
    "DriftRun",
    "History",
    "Interval",
    "LearningRates",
    "NaiveRun",
    "Provenance",
    "ShiftedFit",
    "Summary",
    "load",
    "save",
    "t_interval",
]
