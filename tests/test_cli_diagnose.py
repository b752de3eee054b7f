"""The command `bnlab diagnose`: what it takes, what it prints, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bnlab.cli import _app
from bnlab.diagnosis import CHECKS

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.chdir(HERE)


def call(*words, code=0):
    done = CliRunner().invoke(_app.app, ["diagnose", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


def refused(*words):
    (line,) = call(*words, code=2).stderr.strip().splitlines()
    assert line.startswith("bnlab: ")
    return line


@pytest.mark.parametrize("name", ["spoiled", "INSTANCE"])
def test_it_takes_an_instance_or_a_function(name):
    done = call(f"_diagnosed:{name}", code=1)
    assert "warning 1: momentum is 0.99" in done.stdout
    assert not done.stderr


def test_it_takes_a_class_and_ends_with_0_where_there_are_only_infos():
    assert "info 0: The bias has no effect" in call("_diagnosed:Net").stdout
    call("_diagnosed:Net", "--fail-level", "info", code=1)
    call("_diagnosed:spoiled", "--fail-level", "error")


def test_nothing_found():
    assert "nothing found" in call("_diagnosed:healthy").stdout


@pytest.mark.parametrize("batches", ["BATCHES", "loader"])
def test_batches_may_be_an_object_or_a_function(batches):
    done = call("_diagnosed:healthy", "--batches", f"_diagnosed:{batches}", code=1)
    assert "untrained-statistics" in done.stdout
    assert "over 3 batches" in done.stdout


def test_every_other_option():
    done = call(
        "_diagnosed:Net", "--batches", "_diagnosed:DICTS", "--call", "_diagnosed:run", "--other-batches",
        "_diagnosed:DICTS", "--optimizer", "_diagnosed:optimizer", "--select", "optimizer,batches", "--select",
        "reversed-momentum", "--ignore", "train-eval-gap",
    )  # fmt: skip
    assert "Weight decay 0.1" in done.stdout


def test_json_and_sarif():
    found = json.loads(call("_diagnosed:spoiled", "--format", "json", code=1).stdout)
    assert [one["id"] for one in found["findings"]] == ["reversed-momentum"]
    log = json.loads(call("_diagnosed:spoiled", "--format", "sarif", code=1).stdout)
    assert log["runs"][0]["results"][0]["ruleId"] == "reversed-momentum"


def test_a_baseline_lets_known_findings_pass(tmp_path):
    file = tmp_path / "known.json"
    file.write_text(call("_diagnosed:spoiled", "--format", "json", code=1).stdout)
    assert (
        "1 known finding of the baseline left out"
        in call("_diagnosed:spoiled", "--baseline", file).stdout
    )
    file.write_text('{"findings": [{"id": "reversed-momentum", "layer": "4"}]}')
    call("_diagnosed:spoiled", "--baseline", file, code=1)


def test_list_and_explain_come_from_the_table():
    assert [line.split()[0] for line in call("--list").stdout.splitlines()] == list(CHECKS)
    for id, row in CHECKS.items():
        said = call("--explain", id).stdout
        assert row.when in said
        assert row.fix in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is no MODEL"),
        (("_diagnosed",), "cannot be loaded"),
        (("_diagnosed:nothing",), "cannot be loaded"),
        (("nowhere:model",), "cannot be loaded"),
        (("_diagnosed:fails",), "RuntimeError: no weights here"),
        (("_diagnosed:BATCHES",), "is a list; expected a torch.nn.Module"),
        (("_diagnosed:Net", "--format", "jsn"), "Did you mean 'json'"),
        (("_diagnosed:Net", "--fail-level", "warn"), "expected one of info, warning, error"),
        (("_diagnosed:Net", "--select", "few-value"), "Did you mean 'few-values'"),
        (
            ("_diagnosed:Net", "--batches", "_diagnosed:DICTS", "--call", "_diagnosed:fails"),
            "TypeError",
        ),
        (("_diagnosed:Net", "--baseline", "_diagnosed.py"), "holds no report"),
        (("_diagnosed:Net", "--baseline", "nowhere.json"), "nowhere.json"),
        (("--explain", "stale-statistic"), "Did you mean 'stale-statistics'"),
    ],
)
def test_what_could_not_run_ends_with_2_and_one_line(words, said):
    if said == "TypeError":
        said = "fails() takes 0 positional arguments"
    assert said in refused(*words)


def test_the_other_commands_wait_for_no_torch():
    code = "import sys, bnlab.cli._app; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
