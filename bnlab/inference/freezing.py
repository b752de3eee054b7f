"""Keep Batch Normalization layers on their running statistics, whatever the model's mode."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize


def freeze(model: nn.Module, *, affine: bool = False) -> tuple[str, ...]:
    r"""Make every Batch Normalization layer use its running statistics for good, also in training.

    .. math::

       y = \gamma \, \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} + \beta
       \qquad \text{with constant } \mathrm{E}[x], \mathrm{Var}[x] \text{, whatever the mode}

    ``model.train()`` does not wake a frozen layer: ``layer.training`` stays False. Copies, pickles and
    ``state_dict`` work as before, parameters stay the same objects, and each class name gets the
    prefix ``Frozen``. ``SyncBatchNorm.convert_sync_batchnorm``, which would lose the freeze,
    is refused: convert first, or not at all, as frozen layers have nothing to synchronize.

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
        If the model has no Batch Normalization layer, or one has no running statistics, or is a lazy
        one that has not run yet.

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
        refuse_lazy(name, layer)
        if layer.running_mean is None:
            raise ValueError(
                f"layer {name!r} has no running statistics (track_running_stats=False); expected some "
                f"to freeze. Build it with track_running_stats=True and call recalibrate first."
            )
    for _, layer in layers:
        if not isinstance(layer, Frozen):
            change_class(layer, frozen_class)
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
        change_class(layer, _thawed_class)
        layer.train(model.training)
        if affine:
            layer.requires_grad_(True)
    return tuple(name for name, _ in frozen)


def check_frozen(model: nn.Module) -> tuple[str, ...]:
    """List the Batch Normalization layers that are not fixed once the model trains.

    ``model.train()`` is called as a training loop would, also where a class overrides it, and undone.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it is.

    Returns
    -------
    tuple of str
        Names of the layers that are then in training mode, or have no running statistics and so always
        normalize by the batch. Empty if all are frozen.

    Raises
    ------
    TypeError
        If `model` is not a module.

    Examples
    --------
    >>> model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2)).eval()
    >>> freeze(model[0])
    ('',)
    >>> check_frozen(model)
    ('1',)
    """
    layers = batch_norm_layers(model)
    modes = {module: module.training for module in model.modules()}
    try:
        model.train()
        return tuple(name for name, m in layers if m.training or m.running_mean is None)
    finally:
        for module, mode in modes.items():
            module.training = mode


class Frozen(nn.Module):
    """Mixin that keeps a layer in evaluation mode; it comes before the layer's own class."""

    def train(self, mode: bool = True):
        """Stay in evaluation mode, whatever was asked for."""
        return super().train(False)

    def __reduce__(self):  # pickle cannot import the mixed class by its name, so it is made again
        return _new_frozen, (_thawed_class(type(self)),), self.__dict__

    @property
    def qconfig(self) -> Any:
        """Return a setting of torch's quantization, which ``convert_sync_batchnorm`` asks for as well.

        That function makes a new layer, which is not frozen, and this is the one place to tell its caller.
        """
        caller = sys._getframe(1).f_code
        if caller is nn.SyncBatchNorm.convert_sync_batchnorm.__func__.__code__:
            raise ValueError(
                "convert_sync_batchnorm would replace frozen layers by ones that are not; expected "
                "none. Call it before bnlab.inference.freeze, or on a part without frozen layers: "
                "these have nothing to synchronize."
            )
        try:
            return self.__dict__["qconfig"]
        except KeyError:
            raise AttributeError("qconfig") from None

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        self.__dict__["qconfig"] = value


@cache
def frozen_class(kind: type[nn.Module]) -> Any:
    """Return the class of frozen layers of a kind, always the same one."""
    # torch.fx keeps classes of torch.nn whole, and knows them by the name of their module.
    return type(f"Frozen{kind.__name__}", (Frozen, kind), {"__module__": kind.__module__})


def _thawed_class(kind: type[nn.Module]) -> Any:
    """Return the class that a frozen one was made of."""
    return kind.__bases__[1]


def change_class(layer: nn.Module, change: Callable[[type[nn.Module]], Any]) -> None:
    """Give a layer the class that `change` makes of its own.

    A parametrized layer has a class of its own, with a property for each parametrized tensor, around the
    one it had before: that one is changed, so that torch can still take the parametrization off.
    """
    kind = type(layer)
    if parametrize.is_parametrized(layer):
        inner = change(kind.__bases__[0])
        members = {k: v for k, v in vars(kind).items() if k not in ("__dict__", "__weakref__")}
        layer.__class__ = type(f"Parametrized{inner.__name__}", (inner,), members)
    else:
        layer.__class__ = change(kind)


def refuse_lazy(name: str, layer: nn.Module) -> None:
    """Raise for a layer that does not know its number of features yet, and will change its class then."""
    if isinstance(layer, LazyModuleMixin):
        raise ValueError(
            f"layer {name!r} is a {type(layer).__name__} that has not run yet; expected layers that know "
            f"their number of features. Run the model on one batch first."
        )


def _new_frozen(kind: type[nn.Module]) -> nn.Module:
    """Make a frozen layer of a kind, without its attributes, for a copy or pickle to fill."""
    made = frozen_class(kind)
    return made.__new__(made)


def batch_norm_layers(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    """List every Batch Normalization layer of a model with its name."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}; expected a torch.nn.Module. Pass the network itself."
        )
    return [(name, m) for name, m in model.named_modules() if isinstance(m, _BatchNorm)]
