"""Chapter 12: each claim's verdict follows from its rule, and the page says no other."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from _book import book_result

from bnlab.chapters.limits_and_relatives import stored
from bnlab.chapters.limits_and_relatives.claims import CLAIMS, Claim, judged
from bnlab.chapters.limits_and_relatives.results import ArmScores, arm_name
from bnlab.stats import Interval, t_interval

PAGE = Path(__file__).parents[2] / "book" / "12_limits_and_relatives.ipynb"
NAMES = [arm_name(*arm) for arms in stored.ARMS.values() for arm in arms]


def made_up(**values):
    """Return networks that all score 0.9 in everything, but for the arms given as {arm: {quantity: value}}."""
    wiggle = np.linspace(-1e-4, 1e-4, 16)
    fields = ["accuracy", "recalibrated", "within_shuffled", "within_two", "within_one", "noisy",
              "noisy_recalibrated", "faded", "faded_recalibrated", "moved"]  # fmt: skip
    rolled = np.stack([np.roll(wiggle, i) for i in range(len(NAMES))])
    arrays = {name: 0.9 + rolled for name in fields}
    for arm, changes in values.items():
        for name, value in changes.items():
            arrays[name][NAMES.index(arm)] = value - wiggle
    arrays["loss"] = np.zeros((len(NAMES), 16, 20))
    return ArmScores(tuple(NAMES), np.ones(len(NAMES)), tuple(range(16)), **arrays)


def verdicts(arms):
    return {name: verdict for name, (verdict, _) in judged(arms).items()}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.9, "holds"), (-0.1, 0.9, "open"), (0.5, 1.5, "open"), (1.1, 2, "false"), (-2, -0.1, "false")],
)  # fmt: skip
def test_a_claim_is_judged_by_the_whole_interval(low, high, verdict):
    claim = Claim("some", lambda arms: arms.accuracy, 0.0, 1.0)
    assert claim.verdict(Interval(*map(np.array, ((low + high) / 2, low, high)))) == verdict


@pytest.mark.parametrize(
    ("name", "arm", "quantity", "value", "before", "after"),
    [
        ("cliff-2", "batch 2", "accuracy", 0.6, "false", "holds"),
        ("cliff-8", "batch 8", "accuracy", 0.85, "holds", "false"),
        ("layer-flat", "layer 2", "accuracy", 0.95, "holds", "false"),
        ("group-flat", "group 64", "accuracy", 0.95, "holds", "false"),
        ("batch-over-group-64", "batch 64", "accuracy", 0.95, "open", "holds"),
        ("group-over-batch-4", "group 4", "accuracy", 0.85, "open", "false"),
        ("learned-2", "batch 2", "accuracy", 0.95, "holds", "false"),
        ("company-one", "batch 20, one class", "within_one", 0.5, "false", "false"),
        ("company-one", "batch 20, one class", "accuracy", 0.5, "false", "holds"),
        ("company-two", "batch 20, two classes", "accuracy", 0.5, "false", "holds"),
        ("sorted-layer", "layer 20, one class", "accuracy", 0.8, "holds", "false"),
        ("faded", "batch 64", "faded_recalibrated", 0.8, "holds", "false"),
        ("renorm-4", "renorm 4", "accuracy", 0.95, "open", "holds"),
        ("renorm-64", "renorm 64", "accuracy", 0.8, "holds", "false"),
        ("ghost-16", "ghost 16 in 64", "accuracy", 0.95, "open", "holds"),
        ("whitened-64", "whitened 64", "accuracy", 0.95, "open", "holds"),
        ("ghost-2", "ghost 2 in 64", "accuracy", 0.6, "false", "holds"),
    ],
)
def test_a_changed_result_changes_the_verdict(name, arm, quantity, value, before, after):
    assert verdicts(made_up())[name] == before
    assert verdicts(made_up(**{arm: {quantity: value}}))[name] == after


def test_the_intervals_hold_for_all_claims_together():
    arms = made_up()
    effect = CLAIMS[0].effect(arms)
    _, interval = judged(arms)[CLAIMS[0].name]
    assert interval == t_interval(effect, confidence=1 - 0.05 / len(CLAIMS))


@pytest.mark.parametrize(
    ("name", "arm", "changes", "found"),
    [
        ("repaired-2", "batch 2", {"accuracy": 0.5, "recalibrated": 0.8}, 10),
        ("noisy", "batch 64", {"recalibrated": 0.9, "noisy": 0.5, "noisy_recalibrated": 0.6}, -10),
    ],
)
def test_a_repair_is_measured_from_half_of_what_was_lost(name, arm, changes, found):
    _, interval = judged(made_up(**{arm: changes}))[name]
    assert float(interval.mean) == pytest.approx(found, abs=0.1)


def test_the_page_says_the_verdict_of_each_rule():
    arms = ArmScores.joined([book_result(f"limits_{name}")[0] for name in stored.ARMS])
    found = judged(arms)
    cells = json.loads(PAGE.read_text())["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    rows = [row for row in text.splitlines() if row.startswith("|") and "{verdict}" in row]
    said = {}
    for row in rows:
        verdict = re.search(r"\{verdict\}`(\w+)", row).group(1)
        for name in re.findall(r"\{glue:text\}`effect-([\w-]+)`", row):
            said[name] = verdict
    assert said == {name: verdict for name, (verdict, _) in found.items()}
    assert len(said) == len(CLAIMS)
