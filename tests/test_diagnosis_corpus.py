"""Every planted fault is found where it was planted, and no healthy model raises an alarm."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.corpus.healthy import HEALTHY
from benchmarks.corpus.planted import PLANTED
from bnlab import diagnose
from bnlab.diagnosis import CHECKS

# What may come with a fault, because it follows from it.
STALE = {"stale-statistics", "train-eval-gap"}
FOLLOWS = {
    "stale-statistics": STALE,
    "untrained-statistics": STALE,
    "start-up-bias": STALE,
    "averaged-weights": STALE,
    "train-eval-gap": STALE,
    "noisy-statistics": {"few-values", *STALE},
    "reversed-momentum": {*STALE, "untrained-statistics", "noisy-statistics"},
    "shared-layer": {"train-eval-gap"},
    "dropout-before": {"train-eval-gap"},  # the variance shift itself
    "dead-channels": STALE,  # gammas set to 0 after training
    "few-values": {"untracked"},
}


def report(make):
    torch.manual_seed(0)
    given = make()
    return diagnose(given.model, given.batches, **given.options), given


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_raises_no_alarm(name):
    found, _ = report(HEALTHY[name])
    assert found.ok, str(found)
    assert not found.findings, str(found)


@pytest.mark.parametrize(("id", "name"), PLANTED)
def test_a_planted_fault_is_found_where_it_is(id, name):
    found, given = report(PLANTED[id, name])
    where = {finding.layer for finding in found.findings if finding.id == id}
    assert id in found.ids, str(found)
    assert set(given.layers) <= where
    assert found.ids <= {id} | FOLLOWS.get(id, set()), str(found)
    assert all(finding.evidence for finding in found.findings)


def test_each_id_is_planted_in_three_models():
    assert {id for id, _ in PLANTED} == set(CHECKS)
    assert min(sum(id == one for one, _ in PLANTED) for id in CHECKS) >= 3
    assert len(HEALTHY) >= 30
