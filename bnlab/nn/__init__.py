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
from bnlab.nn.variants import DetachedBatchNorm1d

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "DetachedBatchNorm1d", "functional"]
