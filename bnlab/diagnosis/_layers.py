"""What counts as a Batch Normalization layer, and what can be read off it without running the model."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

AFFINE = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)
DROPOUT = _DropoutNd
REPLICATED = (DataParallel, DistributedDataParallel)
_AVERAGED = re.compile(r"(?:^|_)(?:ema|swa|averaged?)(?:_|\d|$)", re.IGNORECASE)
_AVERAGED_CLASS = re.compile(r"EMA|Ema(?![a-z])|SWA|Swa(?![a-z])|Averaged")


@dataclass(frozen=True)
class Layer:
    """One Batch Normalization layer as its owner handed it over."""

    name: str
    module: nn.Module
    mean: torch.Tensor | None
    """The running mean in float64, None if there is none."""
    var: torch.Tensor | None
    """The running variance in float64."""
    counter: int | None
    """Updates of the running statistics, None if nobody counts."""
    momentum: float | None
    eps: float
    training: bool
    """Its mode now."""
    wakes: bool
    """Whether it is in training mode after ``train()``."""
    moves: bool
    """Whether training mode moves its running statistics; of hand-written layers that shows in a run only."""
    plain: bool
    """Whether it is of torch's family, hence normalizes by the batch in training mode."""
    lazy: bool
    """Whether it has not been made yet."""

    @property
    def tracked(self) -> bool:
        return self.mean is not None

    @property
    def hidden(self) -> bool:
        """Tell whether hooks on it are never called: a scripted one, or the shell of one in an exported graph."""
        scripted = isinstance(self.module, torch.jit.ScriptModule)
        return scripted or type(self.module).forward is nn.Module.forward

    @property
    def uses_batch(self) -> bool:
        """Tell whether it normalizes by the batch as it stands."""
        return self.plain and (self.training or not self.tracked)

    @property
    def affine(self) -> list[torch.Tensor]:
        """Weight and bias, those it has."""
        values = (getattr(self.module, name, None) for name in ("weight", "bias"))
        return [v for v in values if isinstance(v, torch.Tensor) and not is_lazy(v)]

    @property
    def jitter(self) -> float:
        """How much of the variance of a batch's statistic the running average keeps."""
        if self.momentum is None:
            return 1 / max(self.counter or 1, 1)
        return self.momentum / (2 - self.momentum) if 0 <= self.momentum < 2 else 1.0

    @property
    def is_start(self) -> bool:
        """Tell whether the running statistics are those of a new layer."""
        if self.lazy:
            return True
        if self.mean is None or self.var is None or self.counter:
            return False
        return bool((self.mean == 0).all() and (self.var == 1).all())

    @property
    def finite(self) -> bool:
        """Tell whether all it holds is finite, and no variance below 0."""
        values = [v for v in (self.mean, self.var) if v is not None]
        fine = all(bool(torch.isfinite(v).all()) for v in values + self.affine)
        return fine and (self.var is None or not bool((self.var < 0).any()))


def is_batch_norm(module: nn.Module) -> bool:
    """Tell whether a module is a Batch Normalization layer: torch's family, or one with its two buffers."""
    if isinstance(module, _BatchNorm):
        return True
    if isinstance(module, _InstanceNorm) or "InstanceNorm" in kind(module):
        return False
    if "BatchNorm" in kind(module) and isinstance(module, torch.jit.ScriptModule):
        return True
    if any(True for _ in module.children()):
        return False
    buffers = dict(module.named_buffers(recurse=False))
    return all(
        isinstance(buffers.get(name), torch.Tensor) for name in ("running_mean", "running_var")
    )


def kind(module: nn.Module) -> str:
    """Name the class of a module, also of a scripted one."""
    return str(getattr(module, "original_name", type(module).__name__))


def layers_of(
    model: nn.Module, now: dict[nn.Module, bool], after: dict[nn.Module, bool]
) -> dict[str, Layer]:
    """Describe every Batch Normalization layer, with its mode now and after ``train()``."""
    return {
        name: _described(name, module, now[module], after.get(module, True))
        for name, module in model.named_modules()
        if is_batch_norm(module)
    }


def _described(name: str, module: nn.Module, training: bool, wakes: bool) -> Layer:
    values = {n: getattr(module, n, None) for n in ("running_mean", "running_var")}
    lazy = any(v is not None and is_lazy(v) for v in [*values.values(), *module.parameters(False)])
    mean, var = (
        None
        if v is None
        else torch.zeros(1)
        if lazy
        else v.detach().cpu().double().reshape(-1).clone()
        for v in values.values()
    )
    counter = getattr(module, "num_batches_tracked", None)
    plain = isinstance(module, _BatchNorm | torch.jit.ScriptModule)
    momentum = getattr(module, "momentum", None)
    tracks = bool(getattr(module, "track_running_stats", True))
    return Layer(
        name=name,
        module=module,
        mean=mean,
        var=var,
        counter=None if counter is None or is_lazy(counter) else int(counter),
        momentum=float(momentum) if isinstance(momentum, int | float) else None,
        eps=float(e) if isinstance(e := getattr(module, "eps", 1e-5), int | float) else 1e-5,
        training=training,
        wakes=wakes,
        moves=plain and tracks and mean is not None and momentum != 0,
        plain=plain,
        lazy=lazy,
    )


def synchronized(module: nn.Module) -> bool:
    """Tell whether a layer takes its statistics over all processes: torch's kind, bnlab's or another of that name."""
    return any(one.__name__ == "SyncBatchNorm" for one in type(module).__mro__)


def processes() -> int:
    """Return the number of processes that work together, 1 outside a group."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def is_norm(module: nn.Module) -> bool:
    """Tell whether a module is a normalization of any kind, judged by its class."""
    return is_batch_norm(module) or "Norm" in kind(module)


def unwrapped(model: nn.Module) -> nn.Module:
    """Take a model out of what is around it: replication, averaging, compilation."""
    while True:
        if isinstance(model, (*REPLICATED, AveragedModel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def averaged_parts(model: nn.Module) -> list[str]:
    """Name the parts of a model that are averages of weights, by their class or by what they are called."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(not part or name.startswith(f"{part}.") for part in found)
        said = _AVERAGED.search(name.rpartition(".")[2]) or _AVERAGED_CLASS.search(kind(module))
        if not inside and (isinstance(module, AveragedModel) or said):
            found.append(name)
    return found


def modes_in_training(model: nn.Module) -> dict[nn.Module, bool]:
    """Return the modes after ``train()``, the model's own version of it included; the model is a borrowed one."""
    try:
        model.train()
        return {module: module.training for module in model.modules()}
    except Exception:  # some cannot be trained, or take other arguments
        return {module: not hasattr(module, "freeze") for module in model.modules()}
