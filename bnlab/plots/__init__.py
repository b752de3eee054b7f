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
from bnlab.plots.feature_scaling import (
    distance_shares,
    nearest_neighbors,
    neighbor_accuracy,
    one_feature_scaled,
    outlier_effect,
    rounding_error,
    steps_and_condition,
    table_descent,
    whitening_steps,
)
from bnlab.plots.gradient_flow import (
    computation_graph,
    explosion_rates,
    gradient_depth,
    rate_sweeps,
    weight_length,
)
from bnlab.plots.naive_failure import (
    bias_by_learning_rate,
    detached_on_digits,
    naive_bias,
    naive_scale,
    rounding_sweep,
    stall,
)

__all__ = [
    "activation_percentiles",
    "bias_by_learning_rate",
    "computation_graph",
    "cup_correlation",
    "cup_error",
    "depth_profile",
    "detached_on_digits",
    "distance_shares",
    "drift_since_start",
    "explosion_rates",
    "gradient_depth",
    "naive_bias",
    "naive_scale",
    "nearest_neighbors",
    "neighbor_accuracy",
    "one_feature_scaled",
    "one_step_drift",
    "outlier_effect",
    "rate_sweeps",
    "rounding_error",
    "rounding_sweep",
    "saturated_share",
    "shifted_fit",
    "stall",
    "steps_and_condition",
    "table_descent",
    "weight_length",
    "whitening_steps",
]
