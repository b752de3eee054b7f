"""The family "batches": are there enough values, and are the batches alike?"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import torch
from torch import Tensor

from bnlab.diagnosis._case import Case, found
from bnlab.diagnosis._layers import Layer, processes, synchronized
from bnlab.diagnosis._moments import FAR, Inputs, compared
from bnlab.diagnosis.report import Finding

__all__: list[str] = []


def few_values(case: Case) -> Iterator[Finding]:
    """Too few values behind each statistic of a layer that normalizes by the batch."""
    for layer in case.layers.values():
        together = processes() if synchronized(layer.module) else 1
        values = [m * together for m in case.values.get(layer.name, ()) if m]
        if not (layer.uses_batch and values):
            continue
        typical, lone = median(values), case.lone.get(layer.name, 0) if min(values) == 1 else 0
        if lone:
            message = (
                f"{lone} batch{'es' * (lone > 1)} had one value per channel, which has no variance."
            )
        elif typical < 16:
            message = f"Each statistic comes from {typical:g} values."
        else:
            continue
        yield found(
            "few-values", layer.name, message,
            {"median_m": float(typical), "least_m": min(values), "batches_with_one": lone},
            severity="error" if lone else None, plot=(values, 16.0, "values in each batch"),
        )  # fmt: skip


def train_eval_gap(case: Case) -> Iterator[Finding]:
    """Outputs differ between the two modes of batch norm, far beyond what batches make."""
    stacked = case.outputs.stacked()
    if stacked is None or not all(bool(torch.isfinite(t).all()) for t in stacked[:2]):
        return
    train, evaluation, widths = stacked
    scale = widths[..., 0].square().mean().sqrt()
    if not torch.isfinite(scale):  # a loss has no width over examples
        scale = train.abs().mean()
    if scale <= 0:
        return
    chance = max((1 / i.effective(layer.eps) for layer, i in case.judged()), default=0.0) ** 0.5
    gap, spread, sure = _systematic((evaluation - train) / scale, train / scale, chance)
    found_by = gap > FAR and sure
    wide = (widths > 1e-3 * scale).all(2).all(0)
    stretch = stretch_spread = 0.0
    if bool(wide.any()):
        logs = widths[:, wide].log()
        stretch, stretch_spread, sure = _systematic(
            logs[..., 1] - logs[..., 0], logs[..., 0], chance
        )
        found_by |= stretch > 0.35 and sure
    if found_by:
        yield found(
            "train-eval-gap", None,
            f"Between training and evaluation mode of batch norm, outputs shift by {gap:.2f} of their standard "
            f"deviations and their width changes by a factor of {2.718281828**stretch:.2f}; between batches they "
            f"spread by {spread:.2f}.",
            {"shift": gap, "spread": spread, "log_width": stretch, "log_width_spread": stretch_spread,
             "batches": len(train)},
            apply=case.recalibrate,
            plot=((evaluation - train).mean(0).abs() / scale, FAR, "shift of each output unit"),
        )  # fmt: skip


def _systematic(difference: Tensor, train: Tensor, chance: float) -> tuple[float, float, bool]:
    """Return what is the same in all batches of a difference, the spread between training-mode batches, and
    whether the first is far beyond the second, and beyond its own error."""
    count = len(difference)
    gap = float(difference.mean(0).square().mean().sqrt())
    spread = float(train.var(0).mean().sqrt()) if count > 1 else chance
    error = float((difference.var(0) / count).mean().sqrt()) if count > 1 else chance
    if count < 3:
        spread, error = max(spread, chance), max(error, chance)
    return gap, spread, gap > 4 * spread and gap > 4 * error


def ordered_batches(case: Case) -> Iterator[Finding]:
    """Batch means that scatter more than chance allows."""
    worst: tuple[float, float, Layer, Inputs] | None = None
    for layer, inputs in case.judged():
        batches, spare = len(inputs.n), float((inputs.n - 1).sum())
        if batches < 2 or spare < 8 or case.calls.get(layer.name, 1) > 1:
            continue
        live = inputs.live(layer.eps) & (inputs.within > 0)
        width = inputs.within[live]
        by_chance = (inputs.scatter[live] / width).sum() * (1 / inputs.n).mean()
        if not bool(live.any()) or not by_chance > 0:
            continue
        ratio = float((inputs.means.var(0)[live] / width).sum() / by_chance)
        limit = max(_chance(batches - 1) / max(1 - 4 / spare, 0.25), 3.0)
        if ratio > limit and (worst is None or ratio / limit > worst[0] / worst[1]):
            worst = ratio, limit, layer, inputs
    if worst:
        ratio, limit, layer, inputs = worst
        centered = (inputs.means - inputs.mean).norm(dim=1)
        yield found(
            "ordered-batches", None,
            f"At {layer.name}, batch means scatter {ratio:.1f} times as much as those of random batches of "
            f"{inputs.n.median():g} examples; chance allows {limit:.1f}.",
            {"ratio": ratio, "limit": limit, "worst_layer": layer.name, "batches": len(inputs.n),
             "examples": inputs.n.median()},
            plot=(centered, 0.0, "distance of each batch mean"),
        )  # fmt: skip


def _chance(degrees: int, z: float = 5.0) -> float:
    """Return how far chi squared over its degrees of freedom gets by z standard errors (Wilson and Hilferty)."""
    part = 2 / (9 * degrees)
    return (1 - part + z * part**0.5) ** 3


def shifted_batches(case: Case) -> Iterator[Finding]:
    """The other batches are of another distribution."""
    for name, layer in case.layers.items():
        here, there = case.evaluated.get(name), case.others.get(name)
        if here is None or there is None or not (here.finite and there.finite):
            continue
        away = compared(here, there.mean, there.var, layer.eps, other=there)
        if away.is_far():
            far, live = int(away.far().sum()), int(away.live.sum())
            yield found(
                "shifted-batches", None,
                f"At {name}, {far} of {live} channels of other_batches have another mean or variance: the typical "
                f"shift is {float(away.shift[away.live].median()):.2f} standard deviations.",
                {"first_layer": name, "channels": far, "of": live,
                 "shift": away.shift[away.live].median(), "log_variance": away.spread[away.live].abs().median()},
                plot=(away.size, 1.0, "distance of each channel"),
            )  # fmt: skip
            return  # layers behind it only pass it on
