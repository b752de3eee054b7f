"""Layers for PyTorch."""

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
