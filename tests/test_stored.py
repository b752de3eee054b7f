"""Every stored result of the book is that of a named experiment, which `bnlab run` repeats."""

import importlib
from pathlib import Path

import pytest

from bnlab import chapters
from bnlab.cli._registry import RESULTS, known
from bnlab.experiments import load

EXPERIMENTS = known()


@pytest.mark.xfail(reason="chapters without a module `stored` yet", strict=True)
def test_every_stored_file_is_that_of_an_experiment():
    files = {experiment.file for experiment in EXPERIMENTS.values()}
    assert {path.name for path in RESULTS.glob("*.npz")} == files


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_an_experiment_is_what_made_its_file(experiment):
    _, origin = load(RESULTS / experiment.file)
    if origin.experiment:  # made by `bnlab run`, always on the CPU
        assert experiment.defaults in (origin.config, origin.config | {"device": "cpu"})
    assert experiment.plan(experiment.configure({}))
    assert 1 <= experiment.chapter <= 14
    assert experiment.check is not None or "time" in experiment.summary


def test_no_two_experiments_have_one_name():
    folder = Path(chapters.__file__).parent
    modules = [f"bnlab.chapters.{path.parent.name}.stored" for path in folder.glob("*/stored.py")]
    names = [one.name for m in modules for one in importlib.import_module(m).EXPERIMENTS]
    assert sorted(names) == sorted(EXPERIMENTS)
