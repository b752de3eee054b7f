"""All that is known of one model when the checks judge it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from bnlab.diagnosis._flow import Flow
from bnlab.diagnosis._gradient import Gradients
from bnlab.diagnosis._layers import Layer, averaged_parts, unwrapped
from bnlab.diagnosis._moments import Distance, Inputs, compared
from bnlab.diagnosis._probe import Outputs
from bnlab.diagnosis.report import Finding
from bnlab.diagnosis.table import CHECKS


@dataclass
class Case:
    """A model, its layers in the order of execution, and what they met."""

    model: nn.Module
    layers: dict[str, Layer]
    modes: dict[nn.Module, bool]
    """Of every module, after ``train()``."""
    root_training: bool
    optimizers: list[Any] = field(default_factory=list)
    ran: bool = False
    """Whether there were batches."""
    evaluated: dict[str, Inputs] = field(default_factory=dict)
    """Inputs in evaluation mode."""
    trained: dict[str, Inputs] = field(default_factory=dict)
    """Inputs with all batch norm in training mode."""
    others: dict[str, Inputs] = field(default_factory=dict)
    """Inputs of the other batches."""
    values: dict[str, list[int]] = field(default_factory=dict)
    """m of each layer in each batch."""
    lone: dict[str, int] = field(default_factory=dict)
    """Batches in which a layer had one value for a channel."""
    calls: dict[str, int] = field(default_factory=dict)
    reached: frozenset[str] = frozenset()
    flow: Flow = field(default_factory=Flow)
    gradients: Gradients = field(default_factory=Gradients)
    outputs: Outputs = field(default_factory=Outputs)
    recalibrate: Callable[[], Any] | None = None

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        return dict(self.model.named_modules())

    @property
    def root(self) -> nn.Module:
        return unwrapped(self.model)

    @cached_property
    def averaged(self) -> list[str]:
        """Names of the parts that are averages of weights."""
        return averaged_parts(self.model)

    @cached_property
    def _judged(self) -> dict[str, tuple[Inputs, Distance | None]]:
        """Inputs to judge each layer by, in order of execution.

        As in evaluation, until a layer is broken: what is behind it meets, in evaluation, inputs that are not its
        fault. Those layers are judged by what they meet when every layer normalizes by its batch, if the broken
        ones do.
        """
        found: dict[str, tuple[Inputs, Distance | None]] = {}
        source = self.evaluated
        for name, layer in self.layers.items():
            inputs, broken = source.get(name), not layer.finite
            if inputs is not None and inputs.finite:
                away = self._away(layer, inputs)
                found[name] = inputs, away
                broken |= away is not None and away.is_far()
            if broken:
                source = self.trained if layer.plain and layer.wakes and source else {}
        return found

    def _away(self, layer: Layer, inputs: Inputs) -> Distance | None:
        if layer.lazy:
            start = torch.zeros_like(inputs.mean)
            return compared(inputs, start, start + 1, layer.eps)
        if layer.mean is None or layer.var is None or not layer.finite:
            return None
        if len(layer.mean) != len(inputs.mean):
            return None
        return compared(inputs, layer.mean, layer.var, layer.eps, jitter=layer.jitter)

    def judged(self) -> Iterator[tuple[Layer, Inputs]]:
        """Yield the layers that met something, and what they are judged by."""
        for name, (inputs, _) in self._judged.items():
            yield self.layers[name], inputs

    def distances(self) -> Iterator[tuple[Layer, Inputs, Distance]]:
        """Yield how far the running statistics of each layer are from its inputs."""
        for name, (inputs, away) in self._judged.items():
            if away is not None:
                yield self.layers[name], inputs, away


def found(
    id: str,
    layer: str | None,
    message: str,
    evidence: dict[str, Any],
    *,
    severity: str | None = None,
    apply: Callable[[], Any] | None = None,
    plot: tuple[Any, float, str] | None = None,
) -> Finding:
    """Make a finding: what does not depend on the model comes from the table."""
    row = CHECKS[id]
    numbers = {k: rounded(v) for k, v in evidence.items()}
    if plot is not None:
        plot = ([float(v) for v in plot[0]], plot[1], plot[2])
    return Finding(
        id, severity or row.severity, layer, message, numbers, row.cause, row.fix, row.chapter, apply, plot
    )  # fmt: skip


def rounded(value: Any) -> Any:
    """Return a number with four digits, so that reports can be read and compared."""
    if isinstance(value, torch.Tensor):
        value = value.item()
    return float(f"{value:.4g}") if isinstance(value, float) else value
