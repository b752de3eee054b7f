"""Make the Batch Normalization layers of a model share their batches between processes, and back."""

from __future__ import annotations

from typing import Any

from torch import nn

from bnlab import nn as layers
from bnlab.inference.freezing import Frozen, batch_norm_layers, freeze, unfreeze

_KINDS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    layers.BatchNorm1d,
    layers.BatchNorm2d,
    layers.BatchNorm3d,
)


def synchronize(model: nn.Module, process_group: Any = None) -> tuple[str, ...]:
    """Make the Batch Normalization layers of a model :class:`bnlab.nn.SyncBatchNorm`, in place.

    Only the class of a layer changes: parameters, buffers, hooks and optimizers stay as they are, and a
    frozen layer stays frozen.

    Parameters
    ----------
    model : torch.nn.Module
        Its ``BatchNorm1d``, ``2d`` and ``3d`` of :mod:`torch.nn` and :mod:`bnlab.nn` change. Classes that
        derive from these may compute something else, and stay.
    process_group : torch.distributed.ProcessGroup or None
        Processes that share their batches; None for all.

    Returns
    -------
    tuple of str
        Names of the layers that changed.

    Raises
    ------
    TypeError
        If `model` is not a module.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> synchronize(model)
    ('1',)
    >>> type(model[1]).__name__
    'SyncBatchNorm'
    """
    changed = []
    layer: Any  # gets attributes of its own
    for name, layer in batch_norm_layers(model):
        kind = _own_class(layer)
        if kind in _KINDS:
            layer.synchronized_from = kind
            layer.process_group = process_group
            _set_own_class(layer, layers.SyncBatchNorm)
            changed.append(name)
    return tuple(changed)


def desynchronize(model: nn.Module) -> tuple[str, ...]:
    """Undo :func:`synchronize`: give each layer back the class it had, in place.

    Parameters
    ----------
    model : torch.nn.Module
        Layers that :func:`synchronize` changed change back, and frozen ones stay frozen. A layer that was
        built as :class:`bnlab.nn.SyncBatchNorm` stays one.

    Returns
    -------
    tuple of str
        Names of the layers that changed.

    Raises
    ------
    TypeError
        If `model` is not a module.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> synchronize(model) == desynchronize(model)
    True
    >>> type(model[1]).__name__
    'BatchNorm1d'
    """
    changed = []
    layer: Any  # gets attributes of its own
    for name, layer in batch_norm_layers(model):
        kind: Any = vars(layer).get("synchronized_from")
        if kind is not None and _own_class(layer) is layers.SyncBatchNorm:
            _set_own_class(layer, kind)
            del layer.synchronized_from, layer.process_group
            changed.append(name)
    return tuple(changed)


def _own_class(layer: nn.Module) -> type:
    """Return the class of a layer; of a frozen one, the class that it has when it is not frozen."""
    return type(layer).__bases__[1] if isinstance(layer, Frozen) else type(layer)


def _set_own_class(layer: Any, kind: type) -> None:
    frozen = unfreeze(layer)
    layer.__class__ = kind
    if frozen:
        freeze(layer)
