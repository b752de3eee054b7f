"""Every stored result of the book is that of a named experiment, which `bnlab run` repeats."""

import importlib
from pathlib import Path

import pytest

from bnlab import chapters
from bnlab.cli._registry import RESULTS, known
from bnlab.experiments import load

EXPERIMENTS = known()


def test_every_stored_file_is_that_of_an_experiment_and_every_experiment_has_one():
    files = {experiment.file for experiment in EXPERIMENTS.values()}
    assert {path.name for path in RESULTS.iterdir()} == files


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_an_experiment_is_what_made_its_file(experiment):
    _, origin = load(RESULTS / experiment.file)
    if origin.experiment:  # made by `bnlab run`, always on the CPU
        assert experiment.defaults in (origin.config, origin.config | {"device": "cpu"})
    assert experiment.plan(experiment.configure({}))
    assert experiment.chapter in range(1, 15)


def test_what_cannot_be_checked_is_a_time_and_says_so():
    unchecked = {name: one.summary for name, one in EXPERIMENTS.items() if one.check is None}
    assert set(unchecked) == {
        "full-whitening-cost", "making-it-fast-speed", "making-it-fast-ensemble",
    }  # fmt: skip
    assert all("as this machine" in summary for summary in unchecked.values())


def test_no_two_experiments_have_one_name_and_no_topic_is_left_out():
    folder = Path(chapters.__file__).parent
    modules = [f"bnlab.chapters.{path.parent.name}.stored" for path in folder.glob("*/stored.py")]
    names = [one.name for m in modules for one in importlib.import_module(m).EXPERIMENTS]
    assert sorted(names) == sorted(EXPERIMENTS)
