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
from bnlab.results.minibatch_batchnorm import (
    BatchMakeup,
    CompanySpread,
    EpsSweep,
    IdentityRun,
    LargestValues,
    NormalizedShape,
)
from bnlab.results.naive_failure import (
    ClaimedAndReal,
    DetachedOnDigits,
    GradientAgreement,
    NaiveRun,
    RoundingSweep,
    Stall,
)
from bnlab.results.training import Drift, History, Summary

__all__ = [
    "BatchMakeup",
    "ClaimedAndReal",
    "CompanySpread",
    "CupGame",
    "DepthProfile",
    "DescentPath",
    "DescentRates",
    "DetachedOnDigits",
    "DistanceShares",
    "Drift",
    "DriftRun",
    "EpsSweep",
    "ExplosionRates",
    "GradientAgreement",
    "History",
    "IdentityRun",
    "Interval",
    "LargestValues",
    "Leakage",
    "LearningRates",
    "NaiveRun",
    "NearestNeighbors",
    "NeighborAccuracy",
    "NeuronRun",
    "NormalizedShape",
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
