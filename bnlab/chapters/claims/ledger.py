r"""What a claim is, and how it is judged: by one rule for all, stated beforehand.

A claim says that a number lies in a region: above 1, between -0.5 and 0.5, at most rounding. Its cases are the
settings in which we looked. In each, the verdict is *holds* if the whole confidence interval of the mean over seeds
lies inside the region, *does not hold here* if it lies wholly outside, and *not settled* otherwise, or if there are
fewer than 16 seeds. With k intervals on one page each has the confidence 1 - 0.05 / k (Bonferroni).
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from bnlab import chapters
from bnlab.experiments import load
from bnlab.stats import Interval, t_interval

__all__ = ["SEEDS", "VERDICTS", "Case", "Claim", "Judged", "Ledger", "judge", "stored"]

SEEDS = 16
"""The fewest seeds that a verdict needs."""
VERDICTS = {
    "holds": "holds",
    "partly": "holds in part",
    "false": "does not hold here",
    "open": "not settled",
}
"""Kinds of verdicts, as the chips of the chapters name them, and their words."""


TAUGHT = ("often taught", "slides on Batch Normalization")
"""Sources that are no publication."""


@dataclass(frozen=True)
class Case:
    """One setting in which a claim is tested.

    Parameters
    ----------
    measure : callable
        Takes the results of the claim's experiments, in their order, and returns one number a seed, shape (seeds,).
    when : str
        The setting in words, to go on from "holds when"; empty if there is only one.
    """

    measure: Callable[..., np.ndarray]
    when: str = ""


@dataclass(frozen=True)
class Claim:
    """A sentence that somebody has said about normalization, and what would make it true.

    Parameters
    ----------
    said : str
        The claim.
    source : str
        Who says so, and where.
    experiments : tuple of str
        Names for ``bnlab run``.
    metric : str
        What the cases measure, with its unit.
    low, high : float
        The claim is true if the mean of the metric lies between them.
    cases : tuple of Case
    page : str
        The page, and after ``#`` the section, that tells more.
    geometric : bool
        The metric is a ratio: take the mean of its logarithm.
    exact : bool
        No sample: an identity, a count or an error that should be rounding. Every value has to lie inside.
    ruling : callable, optional
        A rule of the chapter's own, in place of cases and a region: takes the results and returns the kind of verdict
        and the intervals that it rests on, each by its name.
    words : str
        That rule, to go on from "True if".
    card : str
        The name of the chip, in a chapter, that says the same; the landing page shows some of them.
    """

    said: str
    source: str
    experiments: tuple[str, ...]
    metric: str
    cases: tuple[Case, ...]
    page: str
    low: float = -np.inf
    high: float = np.inf
    geometric: bool = False
    exact: bool = False
    card: str = ""
    ruling: Callable[..., tuple[str, Mapping[str, Interval]]] | None = None
    words: str = ""

    @property
    def rule(self) -> str:
        """The rule in words."""
        if self.words:
            return self.words
        what = "every value" if self.exact else "the interval"
        if np.isinf(self.high):
            return f"{what} is at least {self.low:g}"
        if np.isinf(self.low):
            return f"{what} is at most {self.high:g}"
        return f"{what} lies between {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class Judged:
    """A claim with what was found: an interval, a number of seeds and a verdict for each case, and one for all."""

    claim: Claim
    effects: tuple[Interval, ...]
    seeds: tuple[int, ...]
    kinds: tuple[str, ...]
    ruled: str = ""

    @property
    def kind(self) -> str:
        """Of all cases: one of VERDICTS."""
        if self.ruled:
            return self.ruled
        found = set(self.kinds)
        if len(found) == 1:
            return self.kinds[0]
        return "partly" if "holds" in found else "open"

    @property
    def words(self) -> str:
        """The verdict in words, with the cases in which it holds."""
        if self.kind == "partly" and not self.ruled:
            where = [
                c.when for c, k in zip(self.claim.cases, self.kinds, strict=True) if k == "holds"
            ]
            return f"holds {' and '.join(where)}"
        pairs = zip(self.claim.cases, self.kinds, strict=True)
        where = [case.when for case, kind in pairs if kind == "false"]
        if self.kind == "open" and where and not self.ruled:
            return f"does not hold {' and '.join(where)}; else not settled"
        return VERDICTS[self.kind]


def judge(claim: Claim, results: Mapping[str, Any], *, together: int = 1) -> Judged:
    """Apply the rule of a claim to results.

    Parameters
    ----------
    claim : Claim
    results : mapping of str to Result
        The results by the names of their experiments.
    together : int
        How many intervals are judged together: each takes its share of a risk of 5 percent.

    Returns
    -------
    Judged

    Examples
    --------
    >>> coin = Claim("Heads comes up more often than not.", "a gambler", ("coins",), "share of heads",
    ...              (Case(lambda coins: coins),), "claims", low=0.5)
    >>> found = judge(coin, {"coins": np.array([0.6, 0.7] * 8)})
    >>> found.words, found.effects
    ('holds', (0.65 [0.622, 0.678],))
    >>> judge(coin, {"coins": np.array([0.6, 0.7])}).words  # too few seeds
    'not settled'
    """
    if claim.ruling:
        kind, found = claim.ruling(*(results[name] for name in claim.experiments))
        named = replace(claim, cases=tuple(Case(np.asarray, when) for when in found))
        return Judged(named, tuple(found.values()), (SEEDS,), ("",) * len(found), kind)
    effects, seeds, kinds = [], [], []
    for case in claim.cases:
        samples = np.asarray(case.measure(*(results[name] for name in claim.experiments)), float)
        samples = samples.ravel()
        if claim.exact:
            ends = (samples.mean(), samples.min(), samples.max())
            effect = Interval(*map(np.asarray, ends))
        else:
            effect = t_interval(samples, confidence=1 - 0.05 / together, geometric=claim.geometric)
        inside = claim.low <= effect.low and effect.high <= claim.high
        outside = effect.high < claim.low or effect.low > claim.high
        enough = claim.exact or len(samples) >= SEEDS
        kinds.append(
            "open" if not enough else "holds" if inside else "false" if outside else "open"
        )
        effects.append(effect)
        seeds.append(len(samples))
    return Judged(claim, tuple(effects), tuple(seeds), tuple(kinds))


def stored(name: str, folder: str | Path = "results") -> Any:
    """Load the stored result of a chapter by the name of its experiment.

    Parameters
    ----------
    name : str
        As ``bnlab run --list`` has it.
    folder : path
        Where the results lie.

    Returns
    -------
    Result

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged.
    """
    for topic in chapters.TOPICS:  # each defines the classes of its results
        importlib.import_module(f"bnlab.chapters.{topic}.results")
    return load(Path(folder) / f"{name.replace('-', '_')}.npz")[0]


class Ledger:
    """All claims with their verdicts; in a notebook, a table to filter and to sort.

    Parameters
    ----------
    claims : iterable of Claim
    folder : path
        Where the stored results lie.

    Raises
    ------
    FileNotFoundError
        If a result is missing.
    ValueError
        If one is damaged.
    """

    def __init__(self, claims: Iterable[Claim], folder: str | Path = "results") -> None:
        claims = tuple(claims)
        names = sorted({name for claim in claims for name in claim.experiments})
        results = {name: stored(name, folder) for name in names}
        pages = Counter(_page(claim) for claim in claims for case in claim.cases if not claim.exact)
        self.rows = tuple(
            judge(claim, results, together=max(1, pages[_page(claim)])) for claim in claims
        )

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict, in the order of VERDICTS."""
        found = Counter(row.kind for row in self.rows)
        return {kind: found[kind] for kind in VERDICTS}

    def by_source(self) -> dict[str, dict[str, int]]:
        """How many claims have each verdict: the paper's, those that are taught, and those of others."""
        found = {group: dict.fromkeys(VERDICTS, 0) for group in ("the paper", "teaching", "others")}
        for row in self.rows:
            source = row.claim.source
            group = (
                "the paper" if "Szegedy" in source else "teaching" if source in TAUGHT else "others"
            )
            found[group][row.kind] += 1
        return found

    def __repr__(self) -> str:
        return "\n".join(f"{row.kind:7} {row.claim.said}" for row in self.rows)

    def _repr_html_(self) -> str:
        heads = ("Claim", "Verdict", "Effect", "How it was tested")
        head = "".join(f'<th scope="col">{h}</th>' for h in heads)
        body = "\n".join(map(_row, self.rows))
        return (
            f'<table class="bn-table bn-ledger">\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody>\n</table>"
        )


def _page(claim: Claim) -> str:
    return claim.page.partition("#")[0]


def _row(row: Judged) -> str:
    claim = row.claim
    effects = []
    for case, effect, kind in zip(claim.cases, row.effects, row.kinds, strict=True):
        when = f"{case.when}: " if case.when else ""
        spread = f" [{effect.low:.3g}, {effect.high:.3g}]"
        exact = claim.exact and effect.low == effect.high
        effects.append(
            f'<div class="bn-case bn-{kind}">{escape(when)}{effect.mean:.3g}'
            f"<small>{'' if exact else spread}</small></div>"
        )
    seeds = "exact" if claim.exact else f"{min(row.seeds)} seeds"
    runs = ", ".join(f"<code>bnlab run {name}</code>" for name in claim.experiments)
    page, _, section = claim.page.partition("#")
    link = f"{page}.html" + (f"#{section}" if section else "")
    number = int(page[:2]) if page[:2].isdigit() else 0
    how = f'True if {escape(claim.rule)}; {seeds}. {runs}. <a href="{link}">Chapter {number}</a>'
    cells = (
        f'<th scope="row">{escape(claim.said)} <small>{escape(claim.source)}</small></th>',
        f'<td><span class="bn-verdict bn-{row.kind}">{escape(row.words)}</span></td>',
        f"<td><small>{escape(claim.metric)}</small>{''.join(effects)}</td>",
        f"<td><small>{how}</small></td>",
    )
    return f'<tr data-kind="{row.kind}" data-chapter="{number}">{"".join(cells)}</tr>'
