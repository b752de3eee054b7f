"""Layers for PyTorch."""

from bnlab.nn import functional
from bnlab.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from bnlab.nn.variants import DetachedBatchNorm1d

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "DetachedBatchNorm1d", "functional"]
