"""Every result that the book stores is an entry of `bnlab run`, says where it comes from, and refuses an edit."""

import importlib
import importlib.util
from dataclasses import fields

import numpy as np
import pytest
from _book import RESULTS, book_result

from bnlab.chapters import TOPICS
from bnlab.chapters.convolutional_batchnorm import experiments as convolutional_batchnorm
from bnlab.chapters.covariate_shift import experiments as covariate_shift
from bnlab.chapters.gradient_flow import explosion, learning_rates
from bnlab.chapters.inference_statistics import experiments as inference_statistics
from bnlab.chapters.making_it_fast import one_pass
from bnlab.chapters.minibatch_batchnorm import experiments as minibatch_batchnorm
from bnlab.chapters.naive_failure import experiments as naive_failure
from bnlab.cli import _registry
from bnlab.experiments import load, seeds_of
from bnlab.experiments._long import as_json

for topic in TOPICS:  # a result is read by the module that defines it
    importlib.import_module(f"bnlab.chapters.{topic}.results")
NAMES = sorted(path.stem for path in RESULTS.glob("*.npz"))
ENTRIES = {entry.file.removesuffix(".npz"): entry for entry in _registry.known().values()}
# Not here: the tests of chapters 9 and 10 repeat theirs, and the page of chapter 8 this one, which takes long.
CHECKED = [
    name
    for name, entry in ENTRIES.items()
    if entry.check and entry.chapter not in (9, 10) and name != "conv_shifted_digits"
]


@pytest.mark.parametrize("name", NAMES)
def test_it_says_where_it_comes_from(name):
    result, origin = book_result(name)
    assert "changes" not in origin.commit
    assert origin.machine
    assert origin.duration > 0
    assert tuple(getattr(result, "seeds", origin.seeds)) == tuple(origin.seeds)


@pytest.mark.parametrize("name", NAMES)
def test_an_edited_number_is_refused(name, tmp_path):
    with np.load(RESULTS / f"{name}.npz") as file:
        arrays = dict(file)
    edited = max((k for k in arrays if arrays[k].dtype.kind == "f"), key=lambda k: arrays[k].size)
    arrays[edited].flat[0] = 1 + 2 * np.nan_to_num(arrays[edited].flat[0])
    np.savez(tmp_path / "edited.npz", **arrays)
    with pytest.raises(ValueError, match="does not match its own checksum"):
        load(tmp_path / "edited.npz")


# ---- the entries -----------------------------------------------------------------------------------


def test_every_entry_makes_a_file_and_every_file_has_an_entry():
    assert sorted(ENTRIES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_has_the_settings_that_made_its_file(name):
    _, origin = book_result(name)
    told = {k: v for k, v in origin.config.items() if k not in ("seeds", "renamed")}
    defaults = as_json(ENTRIES[name].defaults, name)
    assert told == {key: defaults[key] for key in told}
    assert seeds_of(defaults) == origin.seeds or not {"seed", "seeds"} & set(defaults)


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_made_by_the_command_has_no_other_settings_and_can_be_planned(name):
    entry, (_, origin) = ENTRIES[name], book_result(name)
    if origin.experiment:  # before there was a choice of the device
        assert entry.defaults in (origin.config, origin.config | {"device": "cpu"})
    assert entry.plan(entry.configure({}))
    assert entry.chapter in range(15)  # the ledger is of no chapter


def test_no_two_entries_have_one_name():
    modules = [f"bnlab.chapters.{topic}.stored" for topic in TOPICS]
    found = [importlib.import_module(m) for m in modules if importlib.util.find_spec(m)]
    assert sum(len(module.EXPERIMENTS) for module in found) == len(ENTRIES)


def test_what_cannot_be_checked_is_a_time_and_says_so():
    unchecked = {name: entry.summary for name, entry in ENTRIES.items() if entry.check is None}
    assert set(unchecked) == {
        "full_whitening_cost",
        "making_it_fast_speed",
        "making_it_fast_ensemble",
        "diagnose_corpus",
    }
    assert all("as this machine" in summary for summary in unchecked.values())


@pytest.mark.parametrize("name", CHECKED)
def test_todays_code_begins_as_a_file_does(name):
    found = ENTRIES[name].check(*book_result(name))
    assert found
    assert max(found.values()) <= ENTRIES[name].tolerance, found


@pytest.mark.parametrize(
    ("name", "function", "small"),
    [
        ("covariate_shift_rates_BN_0.1", covariate_shift.learning_rates, {"lrs": [1, 2], "steps": 6}),
        ("covariate_shift_bn", covariate_shift.drift_run, {"steps": 20, "one_step_at": [0, 20]}),
        ("naive_failure_digits", naive_failure.detached_on_digits, {"steps": 4}),
        ("minibatch_makeup", minibatch_batchnorm.batch_makeup, {"steps": 4, "repeats": 2, "sizes": [90]}),
        ("gradient_flow_explosion_relu", explosion.explosion_rates, {"width": 32}),
        ("gradient_flow_widths_linear", explosion.width_rates, {"widths": [16, 32]}),
        ("gradient_flow_ratios", explosion.depth_ratios, {"checkpoints": [0, 1]}),
        ("gradient_flow_rates_flat", learning_rates.sweep_arm, {"lrs": [0.5]}),
        ("inference_race_small", inference_statistics.statistics_race, {"checkpoints": [2], "examples": 100}),
        ("conv_library_twins", convolutional_batchnorm.library_twins, {"steps": 2}),
        ("conv_shifted_digits", convolutional_batchnorm.shifted_digits, {"steps": 1, "rates": [0.1], "shifts": [0]}),
        ("making_it_fast_errors", one_pass.error_sweep, {"means": [10.0, 1e4], "values": 256}),
    ],
)  # fmt: skip
def test_the_tasks_of_an_entry_add_up_to_what_its_function_returns(name, function, small):
    entry = ENTRIES[name]
    config = entry.configure(small | {"seeds": [2, 5]})
    tasks = entry.plan(config)
    found = entry.merge(config, tasks, tuple(entry.run(config, task) for task in tasks))
    expected = function(**config | {"seeds": (2, 5)})
    assert type(found) is type(expected)
    for field in fields(expected):
        here, there = getattr(found, field.name), getattr(expected, field.name)
        assert type(here) is type(there), field.name
        np.testing.assert_array_equal(here, there, err_msg=field.name)
