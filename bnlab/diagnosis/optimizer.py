"""The family "optimizer": what the parameter groups do to gamma and beta."""

from __future__ import annotations

from collections.abc import Iterator

from bnlab.diagnosis._case import Case, found
from bnlab.diagnosis.report import Finding

__all__: list[str] = []


def decayed_affine(case: Case) -> Iterator[Finding]:
    """Weight decay on weight or bias of batch norm."""
    decay = {
        id(parameter): float(group.get("weight_decay") or 0)
        for optimizer in case.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.requires_grad
    }
    for layer in case.layers.values():
        held = {
            name: decay[id(value)]
            for name in ("weight", "bias")
            if (value := getattr(layer.module, name, None)) is not None and decay.get(id(value))
        }
        if held:
            most = max(held.values())
            yield found(
                "decayed-affine", layer.name,
                f"Weight decay {most:g} pulls {' and '.join(held)} towards 0.",
                {"weight_decay": most, "parameters": len(held)},
            )  # fmt: skip
