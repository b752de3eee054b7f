"""Exercise checkers: each takes the reader's function and returns a verdict that prints as one sentence."""

from bnlab.checks._verdict import Verdict
from bnlab.checks.accelerating import (
    change_interaction,
    shard_shuffle,
    speedup_share,
    steps_to_target,
)
from bnlab.checks.convolutional_batchnorm import (
    effective_values,
    fold_convolution,
    map_counts,
    maps_backward,
    normalize_maps,
)
from bnlab.checks.covariate_shift import (
    importance_weights,
    relative_wasserstein,
    saturated_share,
    size_at_depth,
    standard_format,
)
from bnlab.checks.feature_scaling import (
    best_step,
    scale_like_training,
    scale_to_interval,
    standardize_columns,
    undo_standardize,
    zca_whiten,
)
from bnlab.checks.figure_one import (
    mean_over_training,
    paired_standard_error,
    steps_to_level,
    wander,
)
from bnlab.checks.full_whitening import (
    directions_left,
    divided_difference,
    smallest_batch,
    whitened_distance,
    whitening_gradient,
)
from bnlab.checks.gradient_flow import (
    equilibrium_length,
    growth_per_layer,
    next_squared_length,
    one_line_gradient,
    projection_matrix,
)
from bnlab.checks.inference_statistics import (
    debiased_average,
    factor_for_images,
    fold_pair,
    frozen_gradient,
    keras_momentum,
    pooled_statistics,
)
from bnlab.checks.making_it_fast import (
    attainable_speed,
    fastest_time,
    gradient_in_place,
    merge_moments,
)
from bnlab.checks.minibatch_batchnorm import (
    eps_output_std,
    identity_parameters,
    minibatch_backward,
    minibatch_forward,
    most_extreme_batch,
)
from bnlab.checks.naive_failure import (
    bias_growth,
    bias_with_beta,
    gradient_through_mean,
    gradient_through_statistics,
    stall_point,
)

__all__ = [
    "Verdict",
    "attainable_speed",
    "best_step",
    "bias_growth",
    "bias_with_beta",
    "change_interaction",
    "debiased_average",
    "directions_left",
    "divided_difference",
    "effective_values",
    "eps_output_std",
    "equilibrium_length",
    "factor_for_images",
    "fastest_time",
    "fold_convolution",
    "fold_pair",
    "frozen_gradient",
    "gradient_in_place",
    "gradient_through_mean",
    "gradient_through_statistics",
    "growth_per_layer",
    "identity_parameters",
    "importance_weights",
    "keras_momentum",
    "map_counts",
    "maps_backward",
    "mean_over_training",
    "merge_moments",
    "minibatch_backward",
    "minibatch_forward",
    "most_extreme_batch",
    "next_squared_length",
    "normalize_maps",
    "one_line_gradient",
    "paired_standard_error",
    "pooled_statistics",
    "projection_matrix",
    "relative_wasserstein",
    "saturated_share",
    "scale_like_training",
    "scale_to_interval",
    "shard_shuffle",
    "size_at_depth",
    "smallest_batch",
    "speedup_share",
    "stall_point",
    "standard_format",
    "standardize_columns",
    "steps_to_level",
    "steps_to_target",
    "undo_standardize",
    "wander",
    "whitened_distance",
    "whitening_gradient",
    "zca_whiten",
]
