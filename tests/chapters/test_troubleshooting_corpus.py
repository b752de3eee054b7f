"""The stored comparison: what each tool finds of the planted faults, what it cries at healthy models, and the cost."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from _book import book_result  # noqa: E402

from benchmarks.corpus.__main__ import RULES, ours, peer  # noqa: E402
from benchmarks.corpus.healthy import HEALTHY  # noqa: E402
from benchmarks.corpus.planted import PLANTED  # noqa: E402
from bnlab.diagnosis import CHECKS  # noqa: E402


@pytest.fixture(scope="module")
def result():
    return book_result("diagnose_corpus")[0]


def test_it_was_made_from_the_corpus_as_it_is(result):
    assert result.ids == tuple(CHECKS)
    assert result.planted.tolist() == [sum(id == one for one, _ in PLANTED) for id in CHECKS]
    assert result.healthy == len(HEALTHY)
    assert result.tools == ("bnlab.diagnose", "torch-audit")


def test_ours_finds_every_fault_and_cries_at_no_healthy_model(result):
    assert result.found[0].tolist() == result.planted.tolist()
    assert result.alarmed[0] == result.alarms[0].sum() == 0


def test_no_tool_finds_more_than_was_planted(result):
    assert (result.found <= result.planted).all()
    assert (result.alarms <= result.healthy).all()


def test_the_table_has_a_row_for_each_id_and_one_of_sums(result):
    table = str(result.table())
    assert len(table.splitlines()) == len(CHECKS) + 2
    assert table.splitlines()[-1].split()[:2] == ["all", str(result.planted.sum())]


def test_the_cost_is_two_passes_and_a_tenth_where_a_pass_takes_long(result):
    assert max(result.passes[:3]) <= 2.2
    assert (result.passes > 1).all()


def test_ours_is_judged_by_the_id():
    torch.manual_seed(0)
    assert ours(PLANTED["reversed-momentum", "momentum of keras"]()) == {"reversed-momentum"}


def test_the_peer_is_judged_by_rules_about_the_same_thing():
    pytest.importorskip("torch_audit", reason="the peers are not installed")
    assert set(RULES.values()) <= set(CHECKS)
    torch.manual_seed(0)
    assert "redundant-bias" in peer(PLANTED["redundant-bias", "biases in a sequential"]())
