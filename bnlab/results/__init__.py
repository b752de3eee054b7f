"""Results: frozen dataclasses that experiments return and plots draw."""

from bnlab.results._store import Provenance, load, save
from bnlab.results.covariate_shift import (
    CupGame,
    DepthProfile,
    DriftRun,
    LearningRates,
    ShiftedFit,
)
from bnlab.results.feature_scaling import (
    DescentPath,
    DescentRates,
    DistanceShares,
    Leakage,
    NearestNeighbors,
    NeighborAccuracy,
    OutlierEffect,
    RoundingError,
    TableDescent,
    TableRounding,
    WhiteningSteps,
)
from bnlab.results.gradient_flow import ExplosionRates, NeuronRun, RateSweep, ScaleInvariance
from bnlab.results.interval import Interval, t_interval
from bnlab.results.naive_failure import (
    DetachedOnDigits,
    GradientAgreement,
    NaiveRun,
    RoundingSweep,
    Stall,
)
from bnlab.results.training import Drift, History, Summary

__all__ = [
    "CupGame",
    "DepthProfile",
    "DescentPath",
    "DescentRates",
    "DetachedOnDigits",
    "DistanceShares",
    "Drift",
    "DriftRun",
    "ExplosionRates",
    "GradientAgreement",
    "History",
    "Interval",
    "Leakage",
    "LearningRates",
    "NaiveRun",
    "NearestNeighbors",
    "NeighborAccuracy",
    "NeuronRun",
    "OutlierEffect",
    "Provenance",
    "RateSweep",
    "RoundingError",
    "RoundingSweep",
    "ScaleInvariance",
    "ShiftedFit",
    "Stall",
    "Summary",
    "TableDescent",
    "TableRounding",
    "WhiteningSteps",
    "load",
    "save",
    "t_interval",
]
