"""The family "structure": what is before a layer, how often it runs, and where its gradient goes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn.parameter import is_lazy

from bnlab.diagnosis._case import Case, found
from bnlab.diagnosis.report import Finding

__all__: list[str] = []


def redundant_bias(case: Case) -> Iterator[Finding]:
    """A bias that batch norm takes away again."""
    said = set()
    for name, before in case.flow.straight.items():
        layer, bias = case.layers[name], getattr(case.modules[before], "bias", None)
        if before in said or not isinstance(bias, torch.Tensor) or not bias.requires_grad:
            continue
        if case.gradients.goes_around(before):
            continue
        if layer.plain and (layer.wakes or not layer.tracked):
            said.add(before)
            yield found(
                "redundant-bias", before,
                f"The bias has no effect in training: {name} subtracts it.",
                {"parameters": 0 if is_lazy(bias) else bias.numel(), "norm": name},
            )  # fmt: skip


def shared_layer(case: Case) -> Iterator[Finding]:
    """One layer, several calls."""
    for name, calls in (case.calls if case.ran else case.flow.calls).items():
        layer = case.layers[name]
        if calls > 1 and layer.plain and layer.wakes:
            yield found(
                "shared-layer", name, f"The layer is called {calls} times in one forward pass.",
                {"calls": calls},
            )  # fmt: skip


def double_update(case: Case) -> Iterator[Finding]:
    """Statistics that the backward pass moves again."""
    for name in case.layers:
        if name in case.gradients.twice:
            momentum = case.layers[name].momentum
            evidence = {"updates_in_one_step": 2}
            if momentum is not None:
                evidence |= {"momentum": momentum, "in_effect": 1 - (1 - momentum) ** 2}
            yield found(
                "double-update", name,
                "One step of training moves the running statistics twice: forward, and again in the backward pass.",
                evidence,
            )  # fmt: skip


def unused_layer(case: Case) -> Iterator[Finding]:
    """No forward pass gets here."""
    if not case.ran:
        return
    for name, layer in case.layers.items():
        if name not in case.reached and not layer.hidden:
            yield found("unused-layer", name, "No forward pass reached this layer.", {"calls": 0})


def dropout_before(case: Case) -> Iterator[Finding]:
    """Dropout, then batch norm."""
    said = set()
    for name, dropouts in case.flow.dropouts.items():
        layer = case.layers[name]
        for dropout in sorted(dropouts):
            module = case.modules[dropout]
            if (
                dropout in said
                or not (layer.wakes and layer.tracked)
                or not case.modes.get(module, True)
            ):
                continue
            said.add(dropout)
            p = float(module.p)  # pyright: ignore[reportArgumentType]
            yield found(
                "dropout-before", dropout,
                f"Dropout with p = {p:g} lies before {name}: in training the variance there is larger than in "
                f"evaluation.",
                {"p": p, "norm": name},
            )  # fmt: skip


def detached_statistics(case: Case) -> Iterator[Finding]:
    """A gradient that takes the statistics for constants."""
    for name, evidence in case.gradients.detached.items():
        what = {"shift": "a shift of each channel", "stretch": "a stretch of each channel"}
        yield found(
            "detached-statistics", name,
            f"{what[evidence['direction']].capitalize()} does not change the output, but the gradient has a part "
            f"along it ({evidence['gradient_share']:.2f}, where 0 is right and 1 is chance).",
            evidence,
        )  # fmt: skip
