"""What chapter 11 says is what its rules make of the stored results."""

import re

import nbformat
import pytest
from _book import RESULTS, book_result

from bnlab.chapters.why_it_works import rules, stored


@pytest.fixture(scope="module")
def found():
    return rules.gather({name: book_result(f"why_{name}")[0] for name in rules.FILES})


@pytest.fixture(scope="module")
def ruled(found):
    return rules.judge_all(found)


def test_the_rules_look_at_as_many_intervals_as_they_correct_for(ruled):
    planned = len(rules.GHOSTS) + len(rules.NOISES)  # of the noise, which was not run
    assert sum(len(ruling.intervals) for ruling in ruled.values()) + planned == rules.JUDGED


def test_every_file_is_read():
    assert {f"why_{name}" for name in rules.FILES} == {
        e.file.removesuffix(".npz") for e in stored.EXPERIMENTS
    }


@pytest.mark.parametrize("name", ["parts", "drift", "depth"])
def test_every_best_rate_of_a_search_is_inside_its_grid(found, name):
    search = found[f"{name}_rates"]
    for arm in search.arms:
        assert 0 < search.best(arm) < search.lr.shape[1] - 1, arm


@pytest.mark.parametrize("name", ["drift", "depth"])
def test_the_rates_that_are_reported_are_those_that_were_found(found, name):
    search = found[f"{name}_rates"]
    best = {arm: search.lr[i][search.best(arm)] for i, arm in enumerate(search.arms)}
    assert best == stored.FOUND[name]
    assert dict(zip(found[name].arms, found[name].lr[:, 0], strict=True)) == stored.FOUND[name]


def test_smoothness_is_measured_at_the_rates_found(found):
    search = found["parts_rates"]
    for arm, lr in stored.FOUND["smoothness"].items():
        assert lr == search.lr[search.arms.index(arm)][search.best(arm)]


def test_search_and_report_share_neither_seeds_nor_digits():
    for name in rules.FILES:
        origin = book_result(f"why_{name}")[1]
        kind = "search" if name.endswith("rates") else "report"
        assert origin.config.get("images", kind) == kind
        assert set(origin.seeds) == set(stored.SEARCH if kind == "search" else stored.REPORT)


# Row of the page's table: the rule or rules that give its chip.
ROWS = {
    "BN lets": "effect",
    "because it conditions": "inputs",
    "from moving": "shift",
    "Constants": "constants",
    "without their gradient": "detached",
    "tunes its own rate": "rows",
    "Weight decay": "decay",
    "as they were trained": "smooth_as_trained",
    "layer itself": "smooth_twins",
    "keeps the rank": "rank_kept",
    "rank at the start": "rank_enough",
    "grows like": "skip_growth",
    "branches that begin at zero": "skip_enough",
}


def test_every_chip_is_what_its_rule_says(ruled, found):
    path = RESULTS.parent / "11_why_does_it_work.ipynb"
    text = "\n".join(
        c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"
    )
    rows = re.findall(r"^\| (.+?) \| \{verdict\}`(\w+)(?: <[\w-]+>)?` \|", text, flags=re.M)
    judged = [(claim, chip) for claim, chip in rows if chip != "untested"]
    assert len(judged) == len(ROWS)
    for (claim, chip), (words, rule) in zip(judged, ROWS.items(), strict=True):
        assert words in claim
        verdict = rules.decay_is_a_rate(found["decay"]) if rule == "decay" else ruled[rule].verdict
        assert chip == verdict, claim
