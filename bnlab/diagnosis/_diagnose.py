"""The function `diagnose`: run what the wanted checks need, then let them judge."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from bnlab.diagnosis import batches as _batches
from bnlab.diagnosis import distributed, mode, optimizer, statistics, structure
from bnlab.diagnosis._case import Case
from bnlab.diagnosis._flow import Flow, traced
from bnlab.diagnosis._layers import kind, layers_of, modes_in_training, unwrapped
from bnlab.diagnosis._probe import Probe, eager, iterable, quiet
from bnlab.diagnosis._state import borrowed, seeded
from bnlab.diagnosis.report import Finding, Report
from bnlab.diagnosis.table import CHECKS, SEVERITIES, chosen
from bnlab.inference import recalibrate

_FAMILIES = {
    "statistics": statistics,
    "mode": mode,
    "batches": _batches,
    "structure": structure,
    "optimizer": optimizer,
    "distributed": distributed,
}
_STEP = frozenset(
    ("redundant-bias", "double-update", "unused-layer", "dropout-before", "detached-statistics")
)
_TRAINED = frozenset(
    (
        "stale-statistics", "untrained-statistics", "start-up-bias", "dead-channels", "eps-dominates",
        "noisy-statistics", "averaged-weights", "train-eval-gap", "ordered-batches",
    )
)  # fmt: skip
_EVALUATED = _TRAINED | {
    "few-values",
    "shifted-batches",
    "shared-layer",
    "unused-layer",
    "unsynchronized",
}


def diagnose(
    model: nn.Module,
    batches: Iterable[Any] | None = None,
    *,
    call: Callable[[nn.Module, Any], Any] | None = None,
    optimizer: Any = None,
    other_batches: Iterable[Any] | None = None,
    select: str | Iterable[str] | None = None,
    ignore: str | Iterable[str] | None = None,
) -> Report:
    r"""Find out what is wrong with the Batch Normalization layers of a model.

    .. math::

       \text{far:} \quad \frac{|\mathrm{E}[x] - \mu|}{\sigma} > 0.25 \;\text{ and }\;
       |\mathrm{E}[x] - \mu| > 5 \, \mathrm{se}, \qquad
       \text{or the like of } \log \frac{\mathrm{Var}[x]}{\sigma^2}

    Every layer is judged by what it meets: by m, the number of values behind each statistic, and by standard
    errors that come from the scatter between examples. The model is only read: weights, buffers, modes, hooks,
    gradients and random numbers are the same afterwards, also after an error.
    ``bnlab.diagnosis.CHECKS`` has the whole table.

    Parameters
    ----------
    model : torch.nn.Module
        Any model, with layers of torch, bnlab, or others that hold ``running_mean`` and ``running_var``.
    batches : iterable, optional
        Inputs of the model: tensors, or tuples whose first entry is used, or dicts of arguments. Read once, so a
        generator works. Each batch runs once in evaluation mode and some of them again with batch norm in
        training mode; one step of training is tried on a few examples. None makes static checks only.
    call : callable, optional
        How to run the model on one batch, ``call(model, batch)``.
    optimizer : torch.optim.Optimizer or list of them, optional
        To look at its parameter groups.
    other_batches : iterable, optional
        Batches of another origin, to compare with the first.
    select, ignore : str or iterable of str, optional
        Ids or families of checks to make, and not to make.

    Returns
    -------
    Report
        What was found; ``print`` shows it, a notebook draws it.

    Raises
    ------
    TypeError
        If `model` is no module, `batches` is one tensor or not iterable, or `optimizer` has no groups.
    ValueError
        If `select` or `ignore` names no check, or `batches` holds no batch.

    Notes
    -----
    An error that the model raises in evaluation mode is passed on. What else could not be run is a note of the
    report. Source of the layer and its two modes: Ioffe & Szegedy 2015, Algorithms 1 and 2.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3, momentum=0.99))
    >>> report = diagnose(model.eval())
    >>> sorted(report.ids), report.ok
    (['reversed-momentum'], False)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}; expected a torch.nn.Module. Pass the network itself."
        )
    ids = chosen(select, ignore)
    for name, given in (("batches", batches), ("other_batches", other_batches)):
        if given is not None:
            iterable(name, given)
    if other_batches is not None and batches is None:
        raise ValueError(
            "other_batches is given and batches is not; expected both, because one is compared with the other."
        )
    optimizers = _optimizers(optimizer)
    now = {module: module.training for module in model.modules()}
    owners = _owners(model)
    # The first also puts the grad mode back that a model or a loader may have switched.
    with torch.inference_mode(False), borrowed(model), eager(model):
        after = modes_in_training(model)
        layers = layers_of(model, now, after)
        case = Case(model, layers, after, now[unwrapped(model)], optimizers)
        if batches is None:
            notes, seen = _static(case, ids), 0
        else:
            notes, seen = _run(case, ids, batches, other_batches, call)
    case.recalibrate = _recalibration(model, batches, call)
    with (
        torch.no_grad()
    ):  # a model made in inference mode has parameters that nothing may be recorded of
        findings = [finding for id in CHECKS if id in ids for finding in _check(id)(case)]
    order = {name: i for i, name in enumerate(case.layers)}
    findings.sort(key=lambda f: (-SEVERITIES.index(f.severity), order.get(f.layer or "", -1)))
    kinds: dict[str, int] = {}
    for layer in layers.values():
        kinds[kind(layer.module)] = kinds.get(kind(layer.module), 0) + 1
    looked = {"layers": len(layers), "kinds": kinds, "batches": seen, "checks": sorted(ids)}
    return Report(tuple(findings), kind(model), looked, tuple(notes), owners)


def _check(id: str) -> Callable[[Case], Iterator[Finding]]:
    """Return the function that makes a check: the id with underscores, in the module of its family."""
    return getattr(_FAMILIES[CHECKS[id].family], id.replace("-", "_"))


def _static(case: Case, ids: frozenset[str]) -> list[str]:
    if ids & {"redundant-bias", "dropout-before", "shared-layer"} and case.layers:
        with quiet(), seeded(0), torch.no_grad():
            case.flow = traced(case.model, case.layers) or Flow()
    return _blind(case)


def _run(
    case: Case, ids: frozenset[str], batches: Any, other_batches: Any, call: Any
) -> tuple[list[str], int]:
    probe = Probe(case.model, case.layers, case.modes, call)
    look = bool(case.layers and ids & _EVALUATED)
    twice = bool(ids & _TRAINED) and any(
        (x.wakes and x.tracked) or x.lazy for x in case.layers.values()
    )
    step = bool(ids & _STEP)
    seen = -1
    for seen, batch in enumerate(batches):
        output = probe.evaluate(batch, seen, probe.evaluated) if look else None
        # Two batches and then every fourth: enough for the spread, and time for the rest.
        if twice and output is not None and (seen < 2 or seen % 4 == 3):
            probe.train(batch, seen, output)
        if step:
            probe.step(batch)
            step = False
        if not look:
            break
    if seen < 0:
        raise ValueError(
            "batches holds no batch; expected at least one. A generator that was read once is empty: make a new "
            "one, or pass a list."
        )
    if other_batches is not None and look and "shifted-batches" in ids:
        for i, batch in enumerate(other_batches):
            probe.evaluate(batch, i, probe.others)
    reached = list(probe.evaluated.moments)
    case.layers = {
        n: case.layers[n] for n in [*reached, *(n for n in case.layers if n not in reached)]
    }
    case.ran = True
    case.evaluated, case.trained = probe.evaluated.inputs(), probe.trained.inputs()
    case.others = probe.others.inputs()
    case.values = {name: moments.m for name, moments in probe.evaluated.moments.items()}
    case.lone, case.calls = probe.lone, probe.evaluated.calls
    case.reached = frozenset(probe.reached)
    case.gradients, case.outputs = probe.gradients, probe.outputs
    if probe.flow is not None:
        case.flow = probe.flow
    elif step_wanted := ids & {"redundant-bias", "dropout-before"}:
        _static(case, step_wanted)
    return probe.notes + _blind(case), seen + 1


def _blind(case: Case) -> list[str]:
    """Say what cannot be seen at all."""
    notes = []
    hidden = [x for x in case.layers.values() if x.hidden]
    scripted = sum(isinstance(x.module, torch.jit.ScriptModule) for x in hidden)
    for count, what, made in (
        (scripted, "inside TorchScript", "torch.jit.script"),
        (len(hidden) - scripted, "calls of a graph", "torch.export"),
    ):
        if count:
            notes.append(
                f"{count} layers are {what}, which calls no hooks: their inputs were not seen. Diagnose the model "
                f"before {made}."
            )
    lazy = sum(x.lazy for x in case.layers.values())
    if lazy and not case.ran:
        notes.append(
            f"{lazy} lazy layers have not been made yet: run the model once, or pass batches."
        )
    return notes


def _recalibration(model: nn.Module, batches: Any, call: Any) -> Callable[[], Any] | None:
    """Return what takes the statistics again, if the batches can be read again."""
    if (
        batches is None
        or isinstance(batches, Iterator)
        or isinstance(model, torch.jit.ScriptModule)
    ):
        return None
    options = {}
    if call is not None:
        if "call" not in inspect.signature(recalibrate).parameters:
            return None
        options["call"] = call
    return lambda: recalibrate(model, batches, **options)


def _optimizers(given: Any) -> list[Any]:
    if given is None:
        return []
    several = given if isinstance(given, list | tuple) else [given]
    for one in several:
        if not hasattr(one, "param_groups"):
            raise TypeError(
                f"optimizer is a {type(one).__name__}; expected a torch.optim.Optimizer, which has param_groups, or "
                f"a list of them."
            )
    return list(several)


def _owners(model: nn.Module) -> dict[str, type]:
    """Return the class that holds each module, the nearest that is not of torch."""
    modules = dict(model.named_modules())
    owners = {}
    for name in modules:
        above = name
        while above and type(modules[above]).__module__.startswith("torch."):
            above = above.rpartition(".")[0]
        owners[name] = type(modules[above])
    return owners
