"""Exchange the layers of torch.nn for those of bnlab.nn, and back, with exact types."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from bnlab import nn as layers
from bnlab.inference.freezing import batch_norm_layers, change_class, frozen_class, refuse_lazy

_PAIRS = tuple(
    (getattr(nn, name), getattr(layers, name))
    for name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
)


def swap(model: nn.Module, to: Literal["torch", "bnlab"]) -> tuple[str, ...]:
    """Make every Batch Normalization layer one of torch.nn or one of bnlab.nn, in place.

    Only the class changes: parameters, buffers, hooks, mode and settings are the same objects, and
    ``state_dict`` keeps its names. Tools that ask for an exact type, such as
    ``torch.fx.experimental.optimization.fuse`` and ``torch.ao.quantization.fuse_modules``, find
    torch's layers after ``swap(model, to="torch")``.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place. Layers of other classes, which may compute something else, stay. Frozen layers
        stay frozen, so their type is not exact: :func:`unfreeze` them first for such tools.
    to : {"torch", "bnlab"}
        Whose layers to have.

    Returns
    -------
    tuple of str
        Names of the layers that changed.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If `to` is something else, or a layer is a lazy one that has not run yet.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> swap(model, to="bnlab")
    ('1',)
    >>> type(model[1]).__module__
    'bnlab.nn.batchnorm'
    >>> swap(model, to="torch")
    ('1',)
    >>> type(model[1]) is nn.BatchNorm1d
    True
    """
    if to not in ("torch", "bnlab"):
        raise ValueError(f"to is {to!r}; expected 'torch' or 'bnlab'.")
    found = batch_norm_layers(model)
    for name, layer in found:
        refuse_lazy(name, layer)
    classes = {a: b for a, b in _PAIRS} if to == "bnlab" else {b: a for a, b in _PAIRS}
    classes |= {frozen_class(a): frozen_class(b) for a, b in classes.items()}
    changed = [(name, m) for name, m in found if type_before_parametrizations(m) in classes]
    for _, layer in changed:
        change_class(layer, classes.__getitem__)
    return tuple(name for name, _ in changed)
