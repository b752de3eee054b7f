"""The benchmarks measure in pairs, refuse bad options, and print what they found. No time is asserted."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from _speed_tables import handmade, many

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import contestants, ensemble, measure, process, timing  # noqa: E402
from benchmarks.report import report  # noqa: E402
from bnlab.experiments import load  # noqa: E402


def test_every_round_runs_every_function_in_a_new_order():
    calls = []
    runs = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    times = timing.interleave(runs, rounds=20, seconds=0)
    assert {name: len(t) for name, t in times.items()} == {"a": 20, "b": 20, "c": 20}
    rounds = [tuple(calls[i : i + 3]) for i in range(6, len(calls), 3)]
    assert len(rounds) == 20
    assert {tuple(sorted(r)) for r in rounds} == {("a", "b", "c")}
    assert len(set(rounds)) > 3


def test_pairs_are_of_one_round():
    # The machine slows down: medians of times would say 10 / 2, pairs say that they are equal.
    slow = np.array([1.0, 1.0, 10.0, 10.0, 10.0])
    ratio = timing.paired({"base": slow, "other": slow * 2}, "base")["other"]
    assert (ratio.low, ratio.median, ratio.high) == (2, 2, 2)


def test_bad_arguments_of_the_harness():
    with pytest.raises(ValueError, match="rounds is 0; expected at least 1"):
        timing.interleave({"a": int}, rounds=0)
    with pytest.raises(ValueError, match="base is 'c'; expected one of a, b"):
        timing.paired({"a": np.ones(1), "b": np.ones(1)}, "c")


def test_the_environment_holds_memory_and_threads_fixed():
    kept, fresh = process.environment(2), process.environment(2, fresh_memory=True)
    assert kept["OMP_NUM_THREADS"] == kept["OPENBLAS_NUM_THREADS"] == "2"
    assert kept["MALLOC_MMAP_MAX_"] == "0"
    assert "MALLOC_MMAP_MAX_" not in fresh
    assert fresh["MALLOC_MMAP_THRESHOLD_"] == fresh["MALLOC_TRIM_THRESHOLD_"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threads", "two"], "--threads is 'two'; expected whole numbers"),
        (["--threads", "0"], "expected different numbers from 1 to"),
        (["--threads", "1,1"], "expected different numbers"),
        (["--threads", "100000"], "the cores"),
        (["--shapes", "60x100"], "--shapes is '60x100'; expected shapes by semicolons"),
        (["--shapes", "60"], "--shapes has (60,); expected (N, C)"),
        (["--shapes", "1,100"], "not one value"),
        (["--shapes", "0,100"], "expected (N, C)"),
        (["--rounds", "0"], "--rounds is 0; expected at least 1"),
        (["--rounds", "many"], "invalid int value"),
        (["--save", "table.txt"], "ends in .npz"),
        (["--save", "no/such/folder/table.npz"], "in a folder that exists"),
        (["--fast"], "unrecognized arguments"),
    ],
)
def test_bad_options_end_with_a_sentence(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        command.options(arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_options():
    o = command.options(["--shapes", "60,100;2,3,4,5", "--threads", "1", "--quick"])
    assert o.shapes == ((60, 100), (2, 3, 4, 5))
    assert (o.threads, o.rounds) == ((1,), 5)
    names = command.chosen(command.options(["--no-peers", "--no-compile"]))
    assert "bnlab.nn" in names
    assert not set(names) & {"bnlab.nn, compiled", *contestants.PEERS}


def test_the_report_shows_every_ratio_with_its_quartiles():
    text = report(handmade(2.0))
    assert "forward + backward, 2 thread(s)" in text
    assert text.count("bnlab.nn, kernels") == 4  # two passes, two numbers of threads
    assert "2.00 [2.00, 2.00]" in text
    assert "memory floor" in text
    assert "folding" in text


@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 4, 4)])
@pytest.mark.parametrize("name", [n for n in contestants.OURS if "compiled" not in n])
def test_contestants_run(name, shape):
    try:
        runs = contestants.OURS[name](shape)
    except ImportError:
        pytest.skip(f"{name} needs what is not installed")
    assert set(runs) <= set(contestants.PASSES)
    for run in runs.values():
        run()


def test_the_limit_leaves_out_rounds_but_not_the_last_five():
    count = lambda **o: len(timing.interleave({"a": int}, seconds=0, **o)["a"])  # noqa: E731
    assert count(rounds=30, limit=0) == 5
    assert count(rounds=3, limit=0) == 3
    assert count(rounds=6) == 6


def test_who_cannot_run_is_left_out_and_named(monkeypatch, capsys):
    def broken(shape):
        raise RuntimeError("found no C++ compiler\nand more")

    monkeypatch.setitem(sys.modules, "autograd", None)  # importing it fails
    monkeypatch.setitem(contestants.OURS, "bnlab.nn, compiled", broken)
    names = ["NumPy in place", "bnlab.nn, compiled", "HIPS autograd"]
    assert list(measure.build(names, (6, 5))) == names[:1]
    said = capsys.readouterr().err
    assert "bnlab.nn, compiled is left out: found no C++ compiler\n" in said
    assert "HIPS autograd is left out: import of autograd" in said
    monkeypatch.setitem(contestants.OURS, "bnlab.nn", broken)
    with pytest.raises(RuntimeError):  # ours must run
        measure.build(["bnlab.nn"], (6, 5))


def test_a_process_gets_its_settings_and_its_exit_code_comes_back(tmp_path, monkeypatch):
    code = "import os, sys; sys.exit(int(os.environ['OMP_NUM_THREADS']) + len(sys.argv))"
    (tmp_path / "one_child.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert process.respawn("one_child", ["a", "b"], threads=7) == 7 + 3


def test_a_failed_measurement_ends_the_run(monkeypatch, capsys):
    monkeypatch.setattr(command, "respawn", lambda *a, **k: 3)
    assert command.main(["--threads", "1"]) == 3
    errors = capsys.readouterr().err
    assert "This takes some six minutes" in errors
    assert "The measurement with 1 thread(s) failed." in errors


def test_the_command_is_found():
    words = [sys.executable, "-m", "benchmarks", "--help"]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0
    assert "--fresh-memory" in run.stdout


def test_one_small_run_prints_and_stores(tmp_path, monkeypatch, capsys):
    def respawn(module, arguments, *, threads, fresh_memory):
        """Do the child's work here: a process would spend its time on importing torch."""
        with monkeypatch.context() as child:
            child.setenv(process.MARK, str(threads))
            return command.main(arguments)

    monkeypatch.setattr(command, "respawn", respawn)
    monkeypatch.setattr(
        contestants, "folding_pairs", lambda: dict.fromkeys(contestants.FOLDING, (int, int))
    )
    path = tmp_path / "table.npz"
    arguments = "--quick --rounds 1 --threads 1 --shapes 60,100 --no-peers --no-compile --save"
    assert command.main([*arguments.split(), str(path)]) == 0
    said, errors = capsys.readouterr()
    assert "NumPy textbook" in said
    assert "60x100: forward + backward" in errors
    table, origin = load(path)
    assert table.shapes == ((60, 100),)
    assert np.isfinite(table.of(table.ratio, "bnlab.reference", "forward + backward", 1)).all()
    assert (table.of(table.ratio, "torch native", "inference", 1) == 1).all()
    assert origin.config["rounds"] == table.rounds == 1
    assert np.isfinite(table.rows_milliseconds).any()


def test_folded_layers_compute_what_their_pairs_do():
    pairs = contestants.folding_pairs()
    assert list(pairs) == list(contestants.FOLDING)
    for pair, folded in pairs.values():
        torch.testing.assert_close(folded(), pair(), rtol=1e-4, atol=1e-4)


def test_the_speed_of_many_networks_as_text():
    text = ensemble.report(many(cost=0.4, machine=3.9))
    cells = [line.split() for line in text.splitlines()]
    assert ["ensemble", "of", "8", *["0.40", "[0.40,", "0.40]"] * 2] in cells
    assert ["vmap", "over", "8", *["0.95", "[0.95,", "0.95]"] * 2] in cells
    assert "2 processes of 8 members" in text
    assert "with BN: 3.90 [3.90, 3.90] times" in text


def test_quartiles_keep_their_order():
    assert ensemble.quartiles(np.array([5.0, 1.0, 2.0, 3.0, 4.0])).tolist() == [2, 3, 4]
    assert ensemble._text(np.array([2.0, 3.0, 4.0])) == "3.00 [2.00, 4.00]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], "--rounds is 0; expected at least 1"),
        (["--processes", "0"], "--processes is 0; expected at least 1"),
        (["--save", "speed.txt"], "--save is speed.txt; expected a name that ends in .npz"),
    ],
)
def test_bad_options_for_many_networks(arguments, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ensemble", *arguments])
    with pytest.raises(SystemExit) as ended:
        ensemble.main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
