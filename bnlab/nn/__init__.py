"""Layers for PyTorch."""

from bnlab.nn.variants import DetachedBatchNorm1d

__all__ = ["DetachedBatchNorm1d"]
