"""The family "statistics": are the running statistics those of the data?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bnlab.diagnosis._case import Case, found
from bnlab.diagnosis._layers import Layer
from bnlab.diagnosis._moments import FAR, FAR_LOG, MANY, Distance, Inputs
from bnlab.diagnosis.report import Finding
from bnlab.inference import convert_momentum

__all__: list[str] = []


def stale_statistics(case: Case) -> Iterator[Finding]:
    """Running statistics far from those of the batches."""
    for layer, inputs, away in case.distances():
        if away.is_far() and not layer.lazy:
            yield found(
                "stale-statistics", layer.name,
                f"The running statistics are not those of the batches: {_apart(away)}.",
                _evidence(away, inputs), apply=case.recalibrate,
                plot=(away.size, 1.0, "distance of each channel"),
            )  # fmt: skip


def untrained_statistics(case: Case) -> Iterator[Finding]:
    """No batch has moved them, and the data differ."""
    for layer, inputs, away in case.distances():
        if layer.is_start and bool(away.far().any()):
            yield found(
                "untrained-statistics", layer.name,
                f"No batch has moved the running statistics (mean 0, variance 1), but {_apart(away)}.",
                {"updates": layer.counter or 0, **_evidence(away, inputs)}, apply=case.recalibrate,
                plot=(away.size, 1.0, "distance of each channel"),
            )  # fmt: skip


def start_up_bias(case: Case) -> Iterator[Finding]:
    """A part of the start value is left in the running average, and it shows."""
    for layer, inputs, away in case.distances():
        if layer.momentum is None or not layer.counter or layer.mean is None or layer.var is None:
            continue
        left = (1 - layer.momentum) ** layer.counter
        if not (0 < left < 1 and layer.moves):
            continue
        mean, var = (1 - left) * inputs.mean, left + (1 - left) * inputs.var
        live = away.live
        shift = (left * inputs.mean).abs() / (
            torch.maximum(inputs.var, layer.var) + layer.eps
        ).sqrt()
        spread = torch.log((var + layer.eps) / (inputs.var + layer.eps)).abs()
        matters = ((shift > 0.4 * FAR) | (spread > 0.4 * FAR_LOG)) & live
        if int(matters.sum()) < max(1, MANY * int(live.sum())):
            continue
        # Does the start value explain how far the statistics are away?
        width = (inputs.var + layer.eps).sqrt()
        unexplained = ((layer.mean - mean) / width) ** 2 + torch.log(
            (layer.var + layer.eps) / (var + layer.eps)
        ) ** 2
        whole = ((layer.mean - inputs.mean) / width) ** 2 + away.spread**2
        doubt = (away.shift_error**2 + away.spread_error**2)[live]
        if unexplained[live].sum() > 0.5 * whole[live].sum() or whole[live].sum() < 9 * doubt.sum():
            continue
        yield found(
            "start-up-bias", layer.name,
            f"After {layer.counter} updates with momentum {layer.momentum:g}, {left:.2g} of the start value "
            f"is left in the running statistics.",
            {"updates": layer.counter, "momentum": layer.momentum, "left": left, **_evidence(away, inputs)},
            apply=case.recalibrate, plot=(away.size, 1.0, "distance of each channel"),
        )  # fmt: skip


def nonfinite_statistics(case: Case) -> Iterator[Finding]:
    """NaN or Inf in what the layer holds."""
    for layer in case.layers.values():
        held = {"running_mean": layer.mean, "running_var": layer.var}
        held |= {n: getattr(layer.module, n, None) for n in ("weight", "bias")}
        if layer.lazy:
            continue
        counts = {
            name: n
            for name, value in held.items()
            if isinstance(value, torch.Tensor) and (n := int((~torch.isfinite(value)).sum()))
        }
        if counts:
            said = ", ".join(f"{n} in {name}" for name, n in counts.items())
            mendable = not {"weight", "bias"} & counts.keys()
            yield found(
                "nonfinite-statistics", layer.name, f"NaN or Inf values: {said}.", counts,
                apply=case.recalibrate if mendable else None,
            )  # fmt: skip


def negative_variance(case: Case) -> Iterator[Finding]:
    """A running variance below 0."""
    for layer in case.layers.values():
        if layer.var is None:
            continue
        bad = layer.var[layer.var < 0]
        if len(bad):
            yield found(
                "negative-variance", layer.name,
                f"The running variance of {len(bad)} of {len(layer.var)} channels is below 0, "
                f"at worst {float(bad.min()):.3g}.",
                {"channels": len(bad), "of": len(layer.var), "lowest": bad.min()},
                apply=case.recalibrate,
            )  # fmt: skip


def dead_channels(case: Case) -> Iterator[Finding]:
    """Channels without variance, or with weight 0."""
    constant = {
        layer.name: int((~inputs.live(layer.eps)).sum())
        for layer, inputs in case.judged()
        if inputs.total >= 16 and inputs.n.sum() > 1
    }
    for layer in case.layers.values():
        weight = next(iter(layer.affine), None)
        weight = weight if getattr(layer.module, "weight", None) is weight else None
        zero = 0 if weight is None else int((weight == 0).sum())
        of = (
            weight.numel()
            if weight is not None
            else len(layer.mean)
            if layer.mean is not None
            else 0
        )
        zero = 0 if zero == of else zero  # all: a residual branch that starts at 0
        still = constant.get(layer.name, 0)
        if still or zero:
            said = [f"the input of {still} is constant"] * bool(still)
            said += [f"the weight of {zero} is exactly 0"] * bool(zero)
            yield found(
                "dead-channels", layer.name, f"Of {of} channels, {' and '.join(said)}.",
                {"constant_inputs": still, "zero_weights": zero, "of": of},
            )  # fmt: skip


def eps_dominates(case: Case) -> Iterator[Finding]:
    """Eps larger than the variance of many live channels."""
    for layer, inputs in case.judged():
        live = inputs.live(layer.eps)
        small = live & (inputs.var < layer.eps)
        if inputs.n.sum() > 1 and int(small.sum()) >= max(1, 0.25 * int(live.sum())):
            yield found(
                "eps-dominates", layer.name,
                f"eps {layer.eps:g} is larger than the variance of {int(small.sum())} of {int(live.sum())} live "
                f"channels; the median variance is {float(inputs.var[live].median()):.2g}.",
                {"eps": layer.eps, "channels": int(small.sum()), "live": int(live.sum()),
                 "median_variance": inputs.var[live].median()},
                plot=(inputs.var[live], layer.eps, "variance of each live channel"),
            )  # fmt: skip


def reversed_momentum(case: Case) -> Iterator[Finding]:
    """A momentum of the other convention."""
    for layer in case.layers.values():
        if layer.momentum is None or layer.momentum < 0.5 or not layer.plain:
            continue
        if layer.tracked or layer.lazy:

            def turn(layer: Layer = layer) -> None:
                layer.module.momentum = convert_momentum(layer.momentum, source="keras", to="torch")  # pyright: ignore

            yield found(
                "reversed-momentum", layer.name,
                f"momentum is {layer.momentum:g}: the last batch alone makes {layer.momentum:.0%} of the running "
                f"statistics.",
                {"momentum": layer.momentum, "other_convention": 1 - layer.momentum},
                apply=turn if 0 <= layer.momentum <= 1 else None,
            )  # fmt: skip


def noisy_statistics(case: Case) -> Iterator[Finding]:
    """A running average that jitters."""
    distances = {layer.name: away for layer, _, away in case.distances()}
    for layer, inputs in case.judged():
        if layer.momentum is None or not (layer.moves and layer.wakes):
            continue
        if case.calls.get(layer.name, 1) > 1:
            continue
        m_eff = inputs.effective(layer.eps)
        jitter = (layer.jitter / m_eff) ** 0.5
        if jitter <= 0.15:
            continue
        if not layer.training:  # it stands still: does the last jump show?
            away = distances.get(layer.name)
            if away is None or not bool(away.live.any()):
                continue
            live = away.live
            actual = away.shift[live].square().mean()
            sampling = (inputs.error / (inputs.var + layer.eps))[live].mean()
            doubt = 1 + 3 * (2 / int(live.sum())) ** 0.5
            if actual < (0.5 * jitter) ** 2 + doubt * sampling:
                continue
        yield found(
            "noisy-statistics", layer.name,
            f"The running average jitters by {jitter:.2f} standard deviations: momentum {layer.momentum:g}, and "
            f"a batch is worth {m_eff:.1f} independent values.",
            {"jitter": jitter, "momentum": layer.momentum, "m_eff": m_eff, "m": float(inputs.m.median())},
            apply=None if layer.training else case.recalibrate,
        )  # fmt: skip


def averaged_weights(case: Case) -> Iterator[Finding]:
    """An average of weights with statistics of other weights."""
    for part in case.averaged:
        inside = [
            (layer, away)
            for layer, _, away in case.distances()
            if not part or layer.name.startswith(f"{part}.")
        ]
        off = [(layer, away) for layer, away in inside if away.is_far(0.4)]
        if off:
            layer, away = max(off, key=lambda pair: float(pair[1].size[pair[1].live].mean()))
            yield found(
                "averaged-weights", part or None,
                f"{len(off)} of {len(inside)} layers hold statistics of other weights than these averaged ones; in "
                f"{layer.name}, {_apart(away)}.",
                {"layers": len(off), "of": len(inside), "worst_layer": layer.name,
                 "shift": _typical(away.shift, away), "log_variance": _typical(away.spread.abs(), away)},
                apply=case.recalibrate,
                plot=(away.size, 1.0, f"distance of each channel of {layer.name}"),
            )  # fmt: skip


def _typical(values: torch.Tensor, away: Distance) -> float:
    return float(values[away.live].median())


def _apart(away: Distance) -> str:
    far = int(away.far().sum())
    return (
        f"{far} of {int(away.live.sum())} channels are far, the typical mean by "
        f"{_typical(away.shift, away):.2f} standard deviations and the variance by a factor of "
        f"{float(torch.exp(away.spread.abs()[away.live].median())):.2f}"
    )


def _evidence(away: Distance, inputs: Inputs) -> dict[str, float | int]:
    return {
        "channels": int(away.far().sum()),
        "of": int(away.live.sum()),
        "shift": _typical(away.shift, away),
        "shift_error": _typical(away.shift_error, away),
        "log_variance": _typical(away.spread.abs(), away),
        "log_variance_error": _typical(away.spread_error, away),
        "values": int(inputs.total),
    }
