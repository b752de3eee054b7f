"""Figures: each function takes a result and an optional Axes, draws, and returns the Axes."""

from bnlab.plots.covariate_shift import (
    activation_percentiles,
    cup_correlation,
    cup_error,
    depth_profile,
    drift_since_start,
    one_step_drift,
    saturated_share,
    shifted_fit,
)

__all__ = [
    "activation_percentiles",
    "cup_correlation",
    "cup_error",
    "depth_profile",
    "drift_since_start",
    "one_step_drift",
    "saturated_share",
    "shifted_fit",
]
