"""The command `bnlab diagnose`: look at the batch norm layers of a model that a module of yours makes."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnlab._validate import did_you_mean

if TYPE_CHECKING:  # loading it loads torch, which no other command needs
    from bnlab.diagnosis import Report

FORMATS, SEVERITIES = ("text", "json", "sarif"), ("info", "warning", "error")


def diagnose(
    model: Annotated[
        str | None,
        typer.Argument(help="module:OBJECT, a model, its class, or a function that makes it."),
    ] = None,
    batches: Annotated[
        str | None,
        typer.Option(help="module:OBJECT, an iterable of batches or a function that makes it."),
    ] = None,
    other_batches: Annotated[
        str | None, typer.Option(help="The same, to compare the batches with.")
    ] = None,
    call: Annotated[
        str | None,
        typer.Option(help="module:FUNCTION that runs the model: FUNCTION(model, batch)."),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="module:OBJECT, an optimizer, or a function of the model.")
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option(help="Look for these ids or families only; with commas.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Leave these out.")] = None,
    format_: Annotated[str, typer.Option("--format", help="text, json or sarif.")] = "text",
    baseline: Annotated[
        Path | None,
        typer.Option(help="What an earlier --format json printed: known findings pass."),
    ] = None,
    fail_level: Annotated[
        str, typer.Option(help="info, warning or error: from where on findings fail.")
    ] = "warning",
    explain: Annotated[str | None, typer.Option(help="Explain one id.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List what is looked for.")] = False,
) -> None:
    """Find out what is wrong with the batch norm layers of a model; 0: nothing, 1: findings, 2: it could not run."""
    try:
        if list_:
            return print(every_check())
        if explain is not None:
            return print(explanation(explain))
        if model is None:
            raise ValueError("there is no MODEL; expected module:OBJECT, such as my_models:resnet.")
        _one_of("--format", format_, FORMATS)
        _one_of("--fail-level", fail_level, SEVERITIES)
        known = _known(baseline)
        report = _report(model, batches, other_batches, call, optimizer, select, ignore)
    except Exception as error:
        if os.environ.get("BNLAB_TRACEBACK"):
            raise
        text = " ".join(str(error).split())
        foreseen = isinstance(error, ValueError | TypeError | OSError | ImportError)
        print(f"bnlab: {text if foreseen else f'{type(error).__name__}: {text}'}", file=sys.stderr)
        raise typer.Exit(2) from error
    report = report.without(known)
    print(
        {"text": str, "json": lambda r: r.to_json(), "sarif": lambda r: r.to_sarif()}[format_](
            report
        )
    )
    if report.at_least(fail_level):
        raise typer.Exit(1)


def every_check() -> str:
    """Return every id with its family, its severity and when it is found."""
    from bnlab.diagnosis import CHECKS

    width = max(map(len, CHECKS))
    return "\n".join(
        f"{row.id:{width}}  {row.severity:7}  {row.family:11}  {row.when}"
        for row in CHECKS.values()
    )


def explanation(id: str) -> str:
    """Return the row of one id in words."""
    from bnlab.diagnosis import CHECKS

    if id not in CHECKS:
        raise ValueError(
            f"there is no id {id!r}; expected one that `bnlab diagnose --list` shows.{did_you_mean(id, CHECKS)}"
        )
    row = CHECKS[id]
    return (
        f"{row.id} ({row.severity}, family {row.family})\n\nFound when: {row.when}.\nWhy: {row.cause}\n"
        f"Fix: {row.fix}\nMore: chapter {row.chapter} of the book."
    )


def _report(
    model: str, batches: Any, other: Any, call: Any, optimizer: Any, select: Any, ignore: Any
) -> Report:
    from torch import nn

    from bnlab.diagnosis import diagnose

    made = _made(model, nn.Module)
    if not isinstance(made, nn.Module):
        raise TypeError(
            f"{model} is a {type(made).__name__}; expected a torch.nn.Module, its class, or a function that makes "
            f"one without arguments."
        )
    return diagnose(
        made,
        None if batches is None else _made(batches),
        call=None if call is None else _loaded(call),
        optimizer=None if optimizer is None else _optimizer(optimizer, made),
        other_batches=None if other is None else _made(other),
        select=_names(select),
        ignore=_names(ignore),
    )


def _names(given: list[str] | None) -> list[str] | None:
    return [name.strip() for one in given for name in one.split(",")] if given else None


def _loaded(name: str) -> Any:
    """Return the object that ``module:OBJECT`` names; OBJECT may have dots."""
    if os.getcwd() not in sys.path:  # a console script looks beside itself, not where it is called
        sys.path.insert(0, os.getcwd())
    module, colon, path = name.partition(":")
    try:
        if not (colon and path):
            raise ValueError("there is no colon with a name on each side")
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{name} cannot be loaded ({error}); expected module:OBJECT, a module that Python can import from here "
            f"and a name in it. Check the spelling and the folder."
        ) from error
    return found


def _made(name: str, kind: type | None = None) -> Any:
    """Return what a name stands for, made by a call if it is a class or a function."""
    found = _loaded(name)
    ready = isinstance(found, kind) if kind else hasattr(type(found), "__iter__")
    return found if ready or not callable(found) else found()


def _optimizer(name: str, model: Any) -> Any:
    found = _loaded(name)
    if hasattr(found, "param_groups") or not callable(found):
        return found
    needed = [p for p in inspect.signature(found).parameters.values() if p.default is p.empty]
    return found(model) if needed else found()


def _one_of(option: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(
            f"{option} is {given!r}; expected one of {', '.join(known)}.{did_you_mean(given, known)}"
        )


def _known(baseline: Path | None) -> set[tuple[str, str | None]]:
    if baseline is None:
        return set()
    try:
        found = json.loads(baseline.read_text())["findings"]
        return {(one["id"], one["layer"]) for one in found}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"--baseline {baseline} holds no report; expected what `bnlab diagnose --format json` prints. Write it "
            f"again: bnlab diagnose ... --format json > {baseline}."
        ) from error
