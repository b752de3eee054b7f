"""The ledger judges by its rules, from the stored results, and says what the chapters say."""

import re
from dataclasses import replace

import numpy as np
import pytest
from _book import RESULTS

from bnlab.chapters.claims import ledger, statistics
from bnlab.chapters.claims.ledger import Case, Claim, Ledger, judge
from bnlab.chapters.claims.measures import MEASURES
from bnlab.chapters.claims.rows import CLAIMS
from bnlab.cli import _registry

BOOK = RESULTS.parent
rng = np.random.default_rng(0)
ABOVE = np.linspace(0.5, 1.5, 16)


def kind(*samples, together=1, **changes):
    cases = tuple(Case(lambda _, s=s: np.asarray(s), f"case {i}") for i, s in enumerate(samples))
    claim = Claim("it grows", "us", ("x",), "growth", cases, "06_gradient_flow", low=0.0)
    return judge(replace(claim, **changes), {"x": None}, together=together)


@pytest.fixture(scope="module")
def found():
    return Ledger(CLAIMS, RESULTS)


# ---- the rule --------------------------------------------------------------------------------------


def test_inside_holds_outside_does_not_and_across_is_not_settled():
    assert kind(ABOVE).kind == "holds"
    assert kind(-ABOVE).kind == "false"
    assert kind(ABOVE - 1).kind == "open"


def test_fifteen_seeds_are_too_few():
    assert kind(ABOVE[:15]).kind == "open"
    assert kind(ABOVE[:15], exact=True).kind == "holds"


def test_a_region_has_two_ends():
    assert kind(ABOVE, low=0.0, high=0.9).kind == "open"
    assert kind(ABOVE, low=0.0, high=0.5).kind == "false"


def test_an_exact_claim_needs_every_value_inside():
    assert kind([0.1, 0.2], exact=True).kind == "holds"
    assert kind([0.1, -0.2], exact=True).kind == "open"


def test_more_claims_on_a_page_need_a_clearer_effect():
    edge = rng.normal(0.0, 1.0, 16)
    edge += 2.5 * edge.std(ddof=1) / 4 - edge.mean()  # t is 2.5; alone 2.13 is enough
    assert kind(edge).kind == "holds"
    assert kind(edge, together=20).kind == "open"


def test_a_claim_that_holds_in_one_case_names_it():
    assert kind(ABOVE, -ABOVE).words == "holds case 0"
    assert kind(ABOVE, ABOVE - 1).kind == "partly"
    assert kind(-ABOVE, ABOVE - 1).kind == "open"
    assert kind(-ABOVE, -ABOVE).kind == "false"


def test_a_ratio_is_averaged_by_its_logarithm():
    ratio = np.exp(np.array([-1.0, 1.0] * 8))
    assert kind(ratio, low=0.9, high=1.2, geometric=True).effects[0].mean == pytest.approx(1.0)


# ---- the claims ------------------------------------------------------------------------------------


def test_there_are_sixty_and_each_is_said_once():
    said = [claim.said for claim in CLAIMS]
    assert len(said) >= 60
    assert len(set(said)) == len(said)


def test_every_claim_names_runs_and_a_page_that_exist():
    known = _registry.known()
    for claim in CLAIMS:
        assert set(claim.experiments) <= set(known), claim.said
        assert (BOOK / f"{claim.page.partition('#')[0]}.ipynb").exists(), claim.said
        assert all(case.when for case in claim.cases) or len(claim.cases) == 1, claim.said
        assert claim.ruling or claim.low > -np.inf or claim.high < np.inf, claim.said


def test_every_measure_is_used():
    used = set()

    class Spy:
        def of(self, name):
            used.add(name)
            return np.ones(16)

    for claim in CLAIMS:
        if claim.experiments == ("claims-measures",):
            for case in claim.cases:
                case.measure(Spy())
    assert used == set(MEASURES)


@pytest.mark.parametrize(
    "claim", [claim for claim in CLAIMS if not claim.ruling], ids=lambda claim: claim.said
)
def test_another_result_changes_the_verdict(claim, found):
    """Move every sample far to the other side of the rule: a verdict that stays does not depend on the result."""
    row = next(row for row in found.rows if row.claim is claim)
    out = (
        claim.high * 2 + 1e3
        if np.isfinite(claim.high)
        else claim.low / 2 - 1e3 * (not claim.geometric)
    )
    out = max(out, 1e-9) if claim.geometric else out
    out = -1e3 if claim.exact and not np.isfinite(claim.high) else out
    into = (
        (max(claim.low, 1e-9 if claim.geometric else -1e3) + min(claim.high, claim.low + 2, 1e3))
        / 2
        if np.isfinite(claim.low)
        else claim.high / 2
        if claim.geometric
        else claim.high - 1e-9
    )
    wrong = into if row.kind == "false" else out
    moved = replace(
        claim, cases=tuple(replace(c, measure=lambda *_: np.full(16, wrong)) for c in claim.cases)
    )
    again = judge(moved, dict.fromkeys(claim.experiments))
    assert again.kind == ("holds" if row.kind == "false" else "false")
    assert again.kind != row.kind


def test_the_page_shows_these_verdicts(found):
    page = (BOOK / "claims.ipynb").read_text(encoding="utf-8")
    kinds = re.findall(r'data-kind=\\"(\w+)\\"', page)
    assert kinds == [row.kind for row in found.rows]


def test_the_chapters_chips_say_the_same(found):
    chips = {}
    for path in BOOK.glob("[0-9]*.ipynb"):
        for verdict, name in re.findall(r"\{verdict\}`(\w+) <([\w-]+)>`", path.read_text("utf-8")):
            chips[name] = verdict
    named = {row.claim.card: row.kind for row in found.rows if row.claim.card}
    shown = re.search(r"```\{claim-cards\} (.*)", (BOOK / "index.md").read_text("utf-8"))[1].split()
    assert set(shown) <= set(named)
    assert {name: chips[name] for name in named} == named


# ---- the page on statistics ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 16])
def test_intervals_contain_the_truth_as_often_as_they_say(n):
    assert statistics.coverage(n) == pytest.approx(0.95, abs=0.015)


def test_many_looks_find_something_and_bonferroni_prevents_it():
    assert statistics.any_false_alarm(27, corrected=False) == pytest.approx(1 - 0.95**27, abs=0.04)
    assert statistics.any_false_alarm(27, corrected=True) < 0.065


def test_the_best_of_one_rate_is_not_lucky():
    assert abs(statistics.luck_of_the_chosen(1, 4)) < 0.03
    assert statistics.luck_of_the_chosen(10, 1) == pytest.approx(
        1.5388, abs=0.03
    )  # of ten normal values


def test_a_missing_result_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"claims_measures\.npz"):
        ledger.stored("claims-measures", tmp_path)
