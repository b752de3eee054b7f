"""Borrow a model: run it as often as you like, and give it back as it was, bit for bit.

For the time of the loan every parameter and buffer is replaced by a copy, so that the owner's tensors are never
touched: neither their values nor their gradients, versions and hooks. All else that a module holds is put back.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter


@contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """Let a model be run and changed for a while."""
    modules = list(model.modules())
    tensors = _Tensors(model)
    kept = [_Attributes(module) for module in modules]
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=_cuda_devices()):
            tensors.put_copies(modules)
            yield
    finally:
        for one in kept:
            one.put_back()
        tensors.put_back()
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make a run repeatable, and leave the stream of random numbers, which a loader may use, where it was."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=_cuda_devices()):
            torch.default_generator.manual_seed(
                seed
            )  # manual_seed asks every kind of device, which takes long
            if torch.cuda.is_initialized():
                torch.cuda.manual_seed_all(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _cuda_devices() -> list[int]:
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


class _Tensors:
    """The parameters and buffers of a model, and copies to stand in for them."""

    def __init__(self, model: nn.Module) -> None:
        self._grads = [(p, p.grad) for p in model.parameters()]
        self._values: list[tuple[torch.Tensor, torch.Tensor]] = []  # of scripted modules

    def put_copies(self, modules: list[nn.Module]) -> None:
        copies: dict[torch.Tensor, torch.Tensor] = {}  # shared tensors stay shared
        for parameter, _ in self._grads:
            if parameter.grad is not None:
                parameter.grad = None
        for module in modules:
            if isinstance(module, torch.jit.ScriptModule):
                self._values += [(t, t.detach().clone()) for t in _own(module)]
                continue
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        if tensor not in copies:
                            copies[tensor] = _copy(tensor)
                        held[name] = copies[tensor]  # pyright: ignore[reportArgumentType]
            names = getattr(module, "_flat_weights_names", None)  # recurrent layers hold them twice
            if names is not None:
                held_twice: Any = [getattr(module, name, None) for name in names]
                module._flat_weights = held_twice

    def put_back(self) -> None:
        with torch.no_grad():
            for tensor, value in self._values:
                tensor.copy_(value)
        for parameter, grad in self._grads:
            if parameter.grad is not grad:
                parameter.grad = grad


def _own(module: nn.Module) -> list[torch.Tensor]:
    return [
        *(p for _, p in module.named_parameters(recurse=False)),
        *(b for _, b in module.named_buffers(recurse=False)),
    ]


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        again: Any = type(tensor)
        return again(tensor.requires_grad, tensor.device, tensor.dtype)
    value = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(value, requires_grad=tensor.requires_grad)
    return value.requires_grad_(tensor.requires_grad) if tensor.requires_grad else value


class _Attributes:
    """What a module holds: its attributes, and the contents of those that are containers."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self._class, self._training = module, type(module), module.training
        self._scripted = isinstance(module, torch.jit.ScriptModule)
        self._values = {} if self._scripted else dict(vars(module))
        self._contents = [
            (value, value.copy())
            for value in self._values.values()
            if isinstance(value, dict | list | set)
        ]

    def put_back(self) -> None:
        if self._scripted:
            self._module.training = self._training
            return
        if type(self._module) is not self._class:  # a lazy layer that has run
            self._module.__class__ = self._class
        own = vars(self._module)
        for name in own.keys() - self._values.keys():
            del own[name]
        own.update(self._values)
        for container, content in self._contents:
            _refill(container, content)


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, list):
        container[:] = content
    else:
        container.clear()
        container.update(content)
