"""Layers for PyTorch."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "bnlab.nn needs PyTorch, which is not installed or cannot be loaded. Install it with: pip install torch; "
        "pytorch.org shows how to get the small build for a CPU. bnlab.reference needs NumPy only."
    ) from error

from bnlab.nn import functional
from bnlab.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from bnlab.nn.decorrelated import DecorrelatedBatchNorm1d
from bnlab.nn.ghost import GhostBatchNorm1d, GhostBatchNorm2d
from bnlab.nn.renorm import BatchRenorm1d, BatchRenorm2d, renorm_limits
from bnlab.nn.sync import SyncBatchNorm
from bnlab.nn.variants import DetachedBatchNorm1d

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BatchRenorm1d",
    "BatchRenorm2d",
    "DecorrelatedBatchNorm1d",
    "DetachedBatchNorm1d",
    "GhostBatchNorm1d",
    "GhostBatchNorm2d",
    "SyncBatchNorm",
    "functional",
    "renorm_limits",
]
