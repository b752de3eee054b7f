"""The family "distributed": each replica has a share of the batch only."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from torch import nn

from bnlab.diagnosis._case import Case, found
from bnlab.diagnosis._layers import REPLICATED, processes, synchronized
from bnlab.diagnosis.report import Finding

__all__: list[str] = []


def unsynchronized(case: Case) -> Iterator[Finding]:
    """Plain batch norm in replicas, with few values for each."""
    for part, module in case.modules.items():
        if not isinstance(module, REPLICATED):
            continue
        replicas = _replicas(module)
        for name, layer in case.layers.items():
            inside = not part or name.startswith(f"{part}.")
            values = [m for m in case.values.get(name, ()) if m]
            if not (inside and values and layer.plain and layer.wakes):
                continue
            each = median(values) / replicas
            if each < 16 and not synchronized(layer.module):
                yield found(
                    "unsynchronized", name,
                    f"Each of {replicas} replicas takes its statistics from {each:g} values of its own.",
                    {"m": float(median(values)), "replicas": replicas, "m_per_replica": each},
                )  # fmt: skip


def _replicas(module: nn.Module) -> int:
    """Return the number of replicas, 2 where none is known."""
    if isinstance(module, nn.DataParallel):
        return max(2, len(module.device_ids or ()))
    return max(2, processes())
