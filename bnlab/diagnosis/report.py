"""What :func:`bnlab.diagnosis.diagnose` found: as text, JSON, SARIF, and in a notebook."""

from __future__ import annotations

import html
import inspect
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bnlab._validate import did_you_mean
from bnlab.diagnosis.table import CHECKS, SEVERITIES

__all__ = ["Finding", "FindingsError", "Report"]

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}  # SARIF's words
_COLORS = {"error": "#b03a2e", "warning": "#8a5a00", "info": "#1f618d"}  # under white letters
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


class FindingsError(RuntimeError):
    """What :meth:`Report.raise_for` raises.

    Examples
    --------
    >>> from torch import nn
    >>> from bnlab import diagnose
    >>> try:
    ...     diagnose(nn.BatchNorm1d(3, momentum=0.9)).raise_for("warning")
    ... except FindingsError as error:
    ...     print(str(error)[:23])
    BatchNorm1d: 1 warning.
    """


@dataclass(frozen=True)
class Finding:
    """One thing that was found, with its evidence in numbers."""

    id: str
    """A key of ``bnlab.diagnosis.CHECKS``."""
    severity: str
    """``"error"``, ``"warning"`` or ``"info"``."""
    layer: str | None
    """Name of the module, as in ``model.named_modules()``; None if no layer is to blame."""
    message: str
    """What was found, in a sentence."""
    evidence: dict[str, Any]
    """The numbers behind it."""
    cause: str
    """Why this happens."""
    fix: str
    """What to do."""
    chapter: int
    """The chapter of the book that explains it."""
    apply: Callable[[], Any] | None = field(default=None, repr=False, compare=False)
    """Performs the fix on the model; None if it takes a person."""
    _plot: Any = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        where = f" {self.layer}" if self.layer else ""
        return f"{self.severity}{where}: {self.message} [{self.id}]"


@dataclass(frozen=True, repr=False)
class Report:
    """All findings about one model, the gravest first."""

    findings: tuple[Finding, ...]
    """What was found."""
    model: str
    """Class of the model."""
    looked_at: dict[str, Any]
    """How many layers and batches were seen, and which checks were made."""
    notes: tuple[str, ...] = ()
    """What could not be seen, and why."""
    _owners: dict[str, type] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ids(self) -> frozenset[str]:
        """Ids of what was found.

        Returns
        -------
        frozenset of str
            Each id once.
        """
        return frozenset(finding.id for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Tell whether there is no error and no warning.

        Returns
        -------
        bool
            True if all findings are infos.
        """
        return not self.at_least("warning")

    def at_least(self, severity: str) -> tuple[Finding, ...]:
        """Return the findings of a severity and above.

        Parameters
        ----------
        severity : str
            ``"info"``, ``"warning"`` or ``"error"``.

        Returns
        -------
        tuple of Finding
            In the order of the report.

        Raises
        ------
        ValueError
            If there is no such severity.
        """
        if severity not in SEVERITIES:
            raise ValueError(
                f"severity is {severity!r}; expected one of {', '.join(SEVERITIES)}."
                f"{did_you_mean(severity, SEVERITIES)}"
            )
        grave = SEVERITIES[SEVERITIES.index(severity) :]
        return tuple(finding for finding in self.findings if finding.severity in grave)

    def without(self, known: Iterable[tuple[str, str | None]]) -> Report:
        """Return the report without findings that are known.

        Parameters
        ----------
        known : iterable of (str, str or None)
            Id and layer of each.

        Returns
        -------
        Report
            The rest, and a note that counts what was left out.
        """
        known = set(known)
        rest = tuple(f for f in self.findings if (f.id, f.layer) not in known)
        left = len(self.findings) - len(rest)
        note = (
            (f"{left} known finding{'s' * (left > 1)} of the baseline left out.",) if left else ()
        )
        return replace(self, findings=rest, notes=self.notes + note)

    def raise_for(self, severity: str = "error") -> None:
        """Raise an error if anything of a severity or above was found.

        Parameters
        ----------
        severity : str
            ``"info"``, ``"warning"`` or ``"error"``.

        Raises
        ------
        FindingsError
            With the findings as its text.
        ValueError
            If there is no such severity.
        """
        grave = self.at_least(severity)
        if grave:
            raise FindingsError(f"{self._headline(grave)}\n" + "\n".join(map(str, grave)))

    def to_json(self) -> str:
        """Write the report as JSON, which `bnlab diagnose --baseline` reads.

        Returns
        -------
        str
            An object with ``model``, ``looked_at``, ``notes`` and ``findings``.
        """
        findings = [
            {
                "id": one.id, "severity": one.severity, "layer": one.layer, "message": one.message,
                "evidence": one.evidence, "cause": one.cause, "fix": one.fix, "chapter": one.chapter,
            }
            for one in self.findings
        ]  # fmt: skip
        whole = {
            "model": self.model,
            "ok": self.ok,
            "looked_at": self.looked_at,
            "notes": list(self.notes),
            "findings": findings,
        }
        return json.dumps(_plain(whole), indent=2)

    def to_sarif(self) -> str:
        """Write the report in SARIF 2.1.0, the form of code scanners.

        Returns
        -------
        str
            A log with one run; each finding is a result at the layer's name, and at the class that
            holds the layer if its source lies below the working directory.
        """
        from bnlab import __version__

        rules = [
            {
                "id": row.id,
                "shortDescription": {"text": f"{row.when[0].upper()}{row.when[1:]}."},
                "fullDescription": {"text": row.cause},
                "help": {"text": row.fix},
                "defaultConfiguration": {"level": _LEVELS[row.severity]},
                "properties": {"family": row.family, "chapter": row.chapter},
            }
            for row in CHECKS.values()
        ]
        order = list(CHECKS)
        results = [
            {
                "ruleId": one.id,
                "ruleIndex": order.index(one.id),
                "level": _LEVELS[one.severity],
                "message": {"text": f"{one.message} {one.cause} {one.fix}"},
                "locations": [self._location(one)],
                "partialFingerprints": {"bnlab/v1": f"{one.id}:{one.layer or ''}"},
                "properties": {"evidence": one.evidence},
            }
            for one in self.findings
        ]
        driver = {"name": "bnlab diagnose", "version": __version__, "rules": rules}
        run = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
        log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
        return json.dumps(_plain(log), indent=2)

    def _location(self, finding: Finding) -> dict[str, Any]:
        name = finding.layer or self.model
        place: dict[str, Any] = {
            "logicalLocations": [{"fullyQualifiedName": name, "kind": "member"}]
        }
        source = _source(self._owners.get(finding.layer or ""))
        if source is not None:
            file, line = source
            place["physicalLocation"] = {
                "artifactLocation": {"uri": file, "uriBaseId": "%SRCROOT%"},
                "region": {"startLine": line},
            }
        return place

    def __str__(self) -> str:
        lines = [self._headline(self.findings)]
        for one in self.findings:
            lines += [
                "",
                str(one),
                f"  {_numbers(one.evidence)}",
                f"  Why: {one.cause}",
                f"  Fix: {one.fix}",
            ]
            lines[-1] += f" (chapter {one.chapter})"
        if self.notes:
            lines += ["", *(f"Note: {note}" for note in self.notes)]
        return "\n".join(lines)

    __repr__ = __str__

    def _headline(self, findings: tuple[Finding, ...]) -> str:
        counts = [
            f"{n} {severity}{'s' if n > 1 else ''}"
            for severity in reversed(SEVERITIES)
            if (n := sum(one.severity == severity for one in findings))
        ]
        return f"{self.model}: {', '.join(counts) or 'nothing found'}. {self._seen()}"

    def _seen(self) -> str:
        layers, batches = self.looked_at["layers"], self.looked_at["batches"]
        kinds = ", ".join(f"{n} {kind}" for kind, n in self.looked_at["kinds"].items())
        what = (
            f"{layers} batch norm layer{'s' * (layers != 1)} ({kinds})"
            if layers
            else "no batch norm layer"
        )
        there = f"The model has {what}."
        if not layers and not batches:
            return there
        ran = (
            f"over {batches} batch{'es' * (batches != 1)}"
            if batches
            else "without batches: static checks only"
        )
        return f"{there} Looked for {len(self.looked_at['checks'])} of {len(CHECKS)} faults {ran}."

    def _repr_html_(self) -> str:
        rows = "".join(map(_row, self.findings))
        table = (
            "<table><thead><tr><th>severity</th><th style='text-align:left'>layer</th>"
            f"<th style='text-align:left'>what</th><th>evidence</th></tr></thead><tbody>{rows}</tbody></table>"
            if rows
            else ""
        )
        notes = "".join(f"<p><em>{html.escape(note)}</em></p>" for note in self.notes)
        return f"<div><p>{html.escape(self._headline(self.findings))}</p>{table}{notes}</div>"


def _row(one: Finding) -> str:
    text = html.escape
    color = _COLORS[one.severity]
    return (
        f"<tr style='vertical-align:top'><td><strong style='background:{color};color:#fff;"
        f"padding:0 .4em'>{one.severity}</strong></td>"
        f"<td style='text-align:left'><code>{text(one.layer or '–')}</code></td>"
        f"<td style='text-align:left'><code>{one.id}</code>: {text(one.message)}<br><small>{text(one.cause)} "
        f"<strong>{text(one.fix)}</strong> Chapter {one.chapter}.</small></td>"
        f"<td>{_picture(one, color)}</td></tr>"
    )


def _picture(one: Finding, color: str) -> str:
    """Draw the values of the channels, or of the batches, as dots, with what counts as far as a line."""
    if one._plot is None:
        return ""
    values, limit, label = one._plot
    values = [v for v in values if math.isfinite(v)][:256]
    if not values:
        return ""
    top = max(*values, limit, 1e-12) * 1.05
    low = min(*values, 0.0)
    width, height, pad = 150, 44, 3

    def y(value: float) -> float:
        return pad + (height - 2 * pad) * (1 - (value - low) / (top - low))

    dots = "".join(
        f"<circle cx='{pad + (width - 2 * pad) * (i + 0.5) / len(values):.1f}' cy='{y(v):.1f}' r='1.8' "
        f"fill='{color}' fill-opacity='0.7'/>"
        for i, v in enumerate(values)
    )
    line = (
        f"<line x1='0' x2='{width}' y1='{y(limit):.1f}' y2='{y(limit):.1f}' stroke='currentColor' "
        f"stroke-dasharray='3 2'/>"
    )
    said = html.escape(f"{label}; the dashed line is at {limit:g}", quote=True)
    return (
        f"<svg role='img' aria-label='{said}' viewBox='0 0 {width} {height}' width='{width}' height='{height}'>"
        f"<title>{said}</title>{line}{dots}</svg><br><small>{html.escape(label)}</small>"
    )


def _numbers(evidence: dict[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in evidence.items())


def _plain(value: Any) -> Any:
    """Replace NaN and Inf, which JSON lacks, by text."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _source(owner: type | None) -> tuple[str, int] | None:
    """Find the class in a file below the working directory."""
    if owner is None:
        return None
    try:
        file = Path(inspect.getsourcefile(owner) or "").resolve().relative_to(Path.cwd())
        return file.as_posix(), inspect.getsourcelines(owner)[1]
    except (OSError, TypeError, ValueError):
        return None
