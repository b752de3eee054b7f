"""Exercise checkers: each takes the reader's function and returns a verdict that prints as one sentence."""

from bnlab.checks._verdict import Verdict
from bnlab.checks.covariate_shift import (
    importance_weights,
    relative_wasserstein,
    saturated_share,
    size_at_depth,
    standard_format,
)

__all__ = [
    "Verdict",
    "importance_weights",
    "relative_wasserstein",
    "saturated_share",
    "size_at_depth",
    "standard_format",
]
