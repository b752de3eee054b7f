"""Keep Batch Normalization layers on their running statistics, whatever the model's mode."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze(model: nn.Module, *, affine: bool = False) -> tuple[str, ...]:
    r"""Make every Batch Normalization layer use its running statistics for good, also in training.

    .. math::

       y = \gamma \, \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} + \beta
       \qquad \text{with constant } \mathrm{E}[x], \mathrm{Var}[x] \text{, whatever the mode}

    ``model.train()`` does not wake a frozen layer: ``layer.training`` stays False. Copies, pickles and
    ``state_dict`` work as before, parameters stay the same objects, and each class name gets the
    prefix ``Frozen``.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place. Freezing twice is the same as freezing once.
    affine : bool
        True also stops the training of gamma and beta (``requires_grad = False``).

    Returns
    -------
    tuple of str
        Names of the frozen layers.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If the model has no Batch Normalization layer, or one has no running statistics.

    Notes
    -----
    A frozen layer is an affine map: its gradient is :math:`\gamma / \sqrt{\mathrm{Var}[x] + \epsilon}`
    and lacks the two projections that training mode has.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> freeze(model)
    ('1',)
    >>> model.train()[1].training
    False
    """
    layers = batch_norm_layers(model)
    if not layers:
        raise ValueError(
            "the model has no Batch Normalization layer; expected at least one to freeze."
        )
    for name, layer in layers:
        if layer.running_mean is None:
            raise ValueError(
                f"layer {name!r} has no running statistics (track_running_stats=False); expected some "
                f"to freeze. Build it with track_running_stats=True and call recalibrate first."
            )
    for _, layer in layers:
        if not isinstance(layer, Frozen):
            layer.__class__ = _frozen_class(type(layer))
        layer.eval()
        if affine:
            layer.requires_grad_(False)
    return tuple(name for name, _ in layers)


def unfreeze(model: nn.Module, *, affine: bool = False) -> tuple[str, ...]:
    """Undo :func:`freeze`: the layers follow ``model.train()`` again.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place; thawed layers take the mode of the model.
    affine : bool
        True also trains gamma and beta again (``requires_grad = True``).

    Returns
    -------
    tuple of str
        Names of the layers that were frozen.

    Raises
    ------
    TypeError
        If `model` is not a module.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> freeze(model) == unfreeze(model)
    True
    >>> model.train()[1].training
    True
    """
    frozen = [
        (name, layer) for name, layer in batch_norm_layers(model) if isinstance(layer, Frozen)
    ]
    for _, layer in frozen:
        layer.__class__ = _thawed_class(layer)
        layer.train(model.training)
        if affine:
            layer.requires_grad_(True)
    return tuple(name for name, _ in frozen)


class Frozen(nn.Module):
    """Mixin that keeps a layer in evaluation mode; it comes before the layer's own class."""

    def train(self, mode: bool = True):
        """Stay in evaluation mode, whatever was asked for."""
        return super().train(False)

    def __reduce__(self):  # pickle cannot import the mixed class by its name, so it is made again
        return _new_frozen, (_thawed_class(self),), self.__dict__


@cache
def _frozen_class(kind: type[nn.Module]) -> Any:
    # torch.fx keeps classes of torch.nn whole, and knows them by the name of their module.
    return type(f"Frozen{kind.__name__}", (Frozen, kind), {"__module__": kind.__module__})


def _thawed_class(layer: nn.Module) -> Any:
    """Return the class that a frozen layer had before."""
    return type(layer).__bases__[1]


def _new_frozen(kind: type[nn.Module]) -> nn.Module:
    """Make a frozen layer of a kind, without its attributes, for a copy or pickle to fill."""
    made = _frozen_class(kind)
    return made.__new__(made)


def batch_norm_layers(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    """List every Batch Normalization layer of a model with its name."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}; expected a torch.nn.Module. Pass the network itself."
        )
    return [(name, m) for name, m in model.named_modules() if isinstance(m, _BatchNorm)]
