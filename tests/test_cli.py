"""The command: what it prints, what it draws, how it fails, and its exit codes."""

import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import _toy_experiment as toy
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import bnlab
from bnlab.chapters.accelerating.results import RecipeRuns
from bnlab.chapters.figure_one.results import FigureOne
from bnlab.chapters.gradient_flow.results import RateSweep
from bnlab.chapters.minibatch_batchnorm.results import LargestValues
from bnlab.cli import _app, _progress, _registry, _show
from bnlab.experiments import Provenance, load, save

HERE = Path(__file__).parent
TOY = "_toy_experiment:EXPERIMENT"


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BNLAB_DATA", raising=False)
    monkeypatch.chdir(HERE)


def call(*words, code=0):
    done = CliRunner().invoke(_app.app, list(map(str, words)))
    assert done.exit_code == code, done.output
    return done


def fails(*words, code=1):
    """Return the one line that a failing command prints."""
    done = call(*words, code=code)
    *progress, line = done.stderr.strip().splitlines()
    assert all("tasks done" in said for said in progress), done.stderr
    assert line.startswith("bnlab: ")
    assert "Traceback" not in done.output
    return line


@pytest.fixture
def stored(tmp_path):
    """A result that one figure can draw alone."""
    m = np.array([2, 4, 8, 16])
    largest = np.sqrt(m - 1.0) * np.ones((3, 1, 1))
    result = LargestValues(kinds=("normal",), m=m, largest=largest)
    origin = Provenance.now(seeds=(0, 1), config={"lr": 0.1}, duration=75)
    return save(result, tmp_path / "stored.npz", provenance=origin)


# --- run -----------------------------------------------------------------------------------------------------


def test_run_takes_its_options_and_says_where_the_result_is(tmp_path):
    out = tmp_path / "toy.npz"
    done = call(
        "run", TOY, "--out", out, "--seeds", 2, "--steps", 30, "--jobs", 1, "--set", "noise=0"
    )
    assert str(out) in done.stdout
    result, origin = load(out)
    assert result.loss.tobytes() == toy.expected(seeds=2, steps=30).tobytes()
    assert (origin.config["seeds"], origin.config["noise"]) == (2, 0)
    assert f"{TOY}: 2 of 2 tasks done" in done.stderr
    assert "\x1b" not in done.output  # plain lines: no terminal here
    assert "exists; nothing was run" in fails("run", TOY, "--out", out)


def test_run_names_the_result_after_the_experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(_registry, "known", lambda: {"toy": toy.EXPERIMENT})
    seen = {}
    monkeypatch.setattr(
        _app, "run_experiment", lambda one, out, **o: seen.update(o, one=one, out=out) or out
    )
    call("run", "toy", "--seeds", "0,3,5", "--data", "mnist", "--device", "mps")
    assert (seen.pop("one"), seen.pop("out")) == (toy.EXPERIMENT, Path("toy.npz"))
    assert seen.pop("show")
    assert seen == {
        "changes": {"seeds": [0, 3, 5], "data": "mnist", "device": "mps"},
        "resume": False, "force": False, "jobs": None, "cluster": None,
    }  # fmt: skip
    call("run", "toy", "--jobs", 3, "--cluster", "local")
    assert (seen["jobs"], seen["cluster"]) == (3, "local")
    call("run", "toy", "--resume", "--force", "--out", "b.npz", "--set", "a=[1]", "--set", "b=grey")
    assert (seen["resume"], seen["force"], seen["changes"]) == (True, True, {"a": [1], "b": "grey"})


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("run", TOY, "--seeds", "x"),
        ("run", TOY, "--seeds", "0"),
        ("run", TOY, "--seeds", "²"),
        ("run", TOY, "--seeds", "-1"),
        ("run", TOY, "--seeds", "0,"),
        ("run", TOY, "--seeds", "9999999999999999999999"),
        ("run", TOY, "--steps", "0"),
        ("run", TOY, "--jobs", "0"),
        ("run", TOY, "--set", "lr"),
        ("nonsense",),
        ("data", "fetch"),
    ],
)
def test_wrong_use_ends_with_2_and_says_what_is_wrong(words):
    done = call(*words, code=2)
    assert "Error" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "nonsense"), "there is no experiment 'nonsense'"),
        (("run", TOY, "--out", "toy.txt"), "ends in .npz"),
        (("run", TOY, "--device", "cuda"), "toy has no setting 'device'"),
        (("run", "_toy_experiment:expected"), "is a function; expected a LongExperiment"),
        (("run", "_toy_experiment:NOTHING"), "cannot be loaded"),
        (("run", "no_such_module:EXPERIMENT"), "cannot be loaded"),
        (("run", TOY, "--data", "mnist"), "bnlab data fetch mnist"),
        (("run", TOY, "--set", "width=3"), "no setting 'width'"),
        (("show", "nowhere.npz"), f"nowhere.npz does not exist in {HERE}; expected"),
        (("show", HERE / "conftest.py"), "conftest.py is not a readable result of bnlab"),
        (("data", "verify", "mnist"), "mnist is not on this machine"),
        (("data", "verify", "nonsense"), "name is 'nonsense'; expected one of 'mnist-5k'"),
        (("data", "fetch", "mnist-5k"), "It comes with the package"),
        (("data", "fetch", "mnist", "--mirror", "ftp://example.org"), "expected a URL"),
    ],
)
def test_a_foreseen_error_is_one_line(words, message):
    assert message in fails(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "figur-one-mnist"), "Did you mean 'figure-one-mnist'?"),
        (("run", TOY, "--set", "step=3"), "has no setting 'step'; .* Did you mean 'steps'?"),
        (("run", TOY, "--seeds", "1,1"), "seeds is .1, 1.; expected .* different"),
        (
            ("run", TOY, "--seeds", 10**7),
            "seeds is 10000000; expected a count .* at most 1,000,000",
        ),
        (("run", TOY, "--set", f"seeds=[{2**63}]"), "expected .* from 0 to 2[*][*]63 - 1"),
        (("run", TOY, "--set", "seeds=0"), "seeds is 0; expected a count of at least 1"),
        (("run", TOY, "--set", "seeds=[]"), "seeds is ..; expected"),
        (
            ("run", "figure-one-digits", "--data", "mnist5k"),
            "name is 'mnist5k'; .* Did you mean 'mnist-5k'?",
        ),
        (("run", "figure-one-digits", "--data", "wine"), "name is 'wine'; expected one of"),
        (("run", "figure-one-digits", "--set", 'rates={"with": 3}'), "cannot plan its tasks"),
        (("show", HERE), "is a folder; expected a result file"),
        (("data", "fetch", "mnst"), "Did you mean 'mnist'?"),
    ],
)
def test_what_can_be_refused_is_refused_before_the_work(tmp_path, words, message):
    out = ("--out", tmp_path / "x.npz") if words[0] == "run" else ()
    line = fails(*words, *out)
    assert re.search(message.replace("?", "[?]"), line), line
    assert not list(tmp_path.glob("x.npz*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", TOY, "--steps", 3, "--set", "steps=4"), "steps is set twice"),
        (("run", TOY, "--set", "noise=0", "--set", "noise=1"), "noise is set twice"),
        (("show", "x.npz", "--plot", "curves"), "there is no --to"),
    ],
)
def test_options_that_contradict_each_other_are_refused(words, message):
    assert message in " ".join(call(*words, code=2).stderr.split())


def test_a_place_that_cannot_be_written_is_named_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    line = fails("run", TOY, "--jobs", 1, "--out", tmp_path / "file" / "x.npz")
    assert "cannot be read or written (Not a directory)" in line
    assert "Choose another folder" in line


def test_a_folder_in_the_place_of_the_result_is_refused_before_the_run(tmp_path):
    (tmp_path / "x.npz").mkdir()
    line = fails("run", TOY, "--force", "--jobs", 1, "--out", tmp_path / "x.npz")
    assert "x.npz', a folder; expected a file. Choose another name" in line
    assert list(tmp_path.iterdir()) == [tmp_path / "x.npz"]


def test_seeds_may_stand_with_spaces_and_zeros(monkeypatch):
    assert [_app._seeds(text) for text in ("08", " 0, 10 ", "0,0")] == [8, [0, 10], [0, 0]]


def test_the_list_of_data_says_where_an_own_copy_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "900")  # each set on one line

    def first():
        lines = call("data", "list").stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["name", "mnist-5k", "fashion-mnist", "mnist"]
        return lines[1]

    assert "in the package" in first()
    monkeypatch.setenv("BNLAB_DATA", str(tmp_path))
    assert "in the package" in first()
    (tmp_path / "mnist_5k.npz").write_bytes(b"")
    assert f" {tmp_path / 'mnist_5k.npz'} " in first()
    monkeypatch.setenv("BNLAB_DATA", str(tmp_path / "gone"))
    assert "gone', which is no folder; expected the folder that holds" in first()


def test_verify_fails_where_an_explicit_path_holds_no_set(tmp_path):
    assert "mnist-5k: not here" in call("data", "verify", "--path", tmp_path, code=1).stdout


def test_a_table_is_as_wide_as_columns_says_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, call("run", "--list").stdout.splitlines())) <= 60
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, call("run", "--list").stdout.splitlines())) > 100


def test_a_failed_task_says_how_to_go_on(tmp_path, monkeypatch):
    (tmp_path / "1").write_text("raise")
    words = ["run", TOY, "--out", str(tmp_path / "a.npz"), "--set", f"orders={tmp_path}", "--force"]
    monkeypatch.setattr(sys, "argv", ["bnlab", *words])
    line = fails(*words)
    assert "task 1 ({'seed': 1}) failed: ArithmeticError: it went wrong. Finished" in line
    assert line.endswith(f"go on with: bnlab {' '.join(words[:-1])} --resume")


def test_an_unforeseen_error_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(_app, "run_experiment", lambda *a, **o: 1 / 0)
    done = CliRunner().invoke(_app.app, ["run", TOY])
    assert isinstance(done.exception, ZeroDivisionError)


# --- list, show, version -------------------------------------------------------------------------------------


def test_list_shows_every_experiment_with_what_its_file_says(monkeypatch, stored):
    monkeypatch.setattr(_registry, "RESULTS", stored.parent)
    found = {name: replace(toy.EXPERIMENT, name=name, chapter=7) for name in ("stored", "toy")}
    monkeypatch.setattr(_registry, "known", lambda: found)
    _, first, second = (line.split() for line in call("run", "--list").stdout.splitlines())
    assert first == ["stored", "7", "75", f"{stored.stat().st_size:,}", "a", "chaotic", "map"]
    assert second == ["toy", "7", "not", "stored", "here", "a", "chaotic", "map"]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("found", "code"), [(0.5, 0), (0.51, 1), (float("nan"), 1), (float("inf"), 1)]
)
def test_check_fails_where_a_difference_is_larger_than_allowed(
    monkeypatch, stored, two_threads, found, code
):
    def check(result, origin):
        assert (type(result).__name__, origin.config) == ("LargestValues", {"lr": 0.1})
        assert torch.get_num_threads() == 1
        return {"loss": 0.0, "accuracy": found}

    experiment = replace(toy.EXPERIMENT, name="stored", check=check, tolerance=0.5)
    monkeypatch.setattr(_registry, "known", lambda: {"stored": experiment})
    for words in (("--out", stored), ()):
        monkeypatch.setattr(_registry, "RESULTS", stored.parent)
        lines = call("run", "stored", "--check", *words, code=code).stdout.splitlines()
        assert [line.split() for line in lines[1:]] == [
            ["loss", "0", "0.5"], ["accuracy", f"{found:g}", "0.5"],
        ]  # fmt: skip


def test_what_cannot_be_checked_says_why():
    assert "cannot be compared with a run of today: a chaotic map" in fails("run", TOY, "--check")


def test_show_prints_origin_and_fields(stored):
    done = call("show", stored)
    for text in ("LargestValues", "1 min 15 s", "0, 1", "lr=0.1", np.__version__, "largest_values"):
        assert text in done.stdout


@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_show_draws_a_picture_by_the_type_of_the_result(stored, tmp_path, name, begin):
    done = call("show", stored, "--to", tmp_path / name)
    assert name in done.stdout
    assert (tmp_path / name).read_bytes().startswith(begin)
    assert "ends in .png or .svg" in fails("show", stored, "--to", tmp_path / "a.gif")
    assert (
        "no figure nonsense draws a LargestValues alone; expected one of largest_values"
        in fails("show", stored, "--to", "a.png", "--plot", "nonsense")
    )


def test_every_kind_of_stored_result_is_drawn_by_each_of_its_figures(tmp_path):
    files = {
        type(_show._load(path)[0]): path for path in (HERE.parent / "book/results").glob("*.npz")
    }
    for kind, path in files.items():
        pictures = set()
        for name in kind.figures():
            call("show", path, "--to", tmp_path / "a.png", "--plot", name)
            pictures.add((tmp_path / "a.png").read_bytes())
            plt.close("all")
        assert len(pictures) == len(kind.figures())
    assert FigureOne.figures() == ("accuracy_in_training", "input_percentiles")
    assert RateSweep.figures() == ("rate_sweeps",)  # it takes a sequence, and is given one
    assert {FigureOne, RateSweep} < set(files)
    line = fails("show", files[RecipeRuns], "--to", tmp_path / "b.png")
    assert "no figure draws a RecipeRuns alone; expected a result that has one" in line
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.25"),
        (np.array([1.0, 2.5]), "float64 (2,): [1. , 2.5]"),
        (np.arange(100.0), "float64 (100,): 0 to 99"),
        (np.ones((2, 2, 2)), "float64 (2, 2, 2): 1 to 1"),
        (np.full((2, 2), True), "bool (2, 2)"),
        (np.full(9, np.nan), "float64 (9,): nothing finite, 9 not finite"),
        (tuple(range(200)), str(tuple(range(200)))[:297] + "…"),
    ],
)
def test_a_field_is_shown_in_one_line(value, text):
    assert _show._value(value) == text


def test_version():
    assert call("--version").stdout == f"bnlab {bnlab.__version__}\n"


def test_a_terminal_gets_a_bar_with_the_time_left(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes what it writes to for a terminal
    clock = iter([0.0, 25.0])
    monkeypatch.setattr(_progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with _progress.of_run("toy") as show:
        show(2, 6)
        show(3, 6)
    with _progress.of_download() as show:
        show("images.gz", 5_000_000, 10_000_000)
    said = capsys.readouterr().err
    assert "\x1b[" in said
    assert "━" in said
    assert "5.0/10.0 MB" in said
    assert "3 of 6 tasks done, 1 min 15 s left" in said


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize(
    "words", [("run", "--list"), ("data", "list"), ("show", "{stored}")], ids=str
)
def test_a_terminal_that_is_not_utf_8_gets_what_it_can_show(monkeypatch, stored, encoding, words):
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(sys, "argv", ["bnlab", *(word.format(stored=stored) for word in words)])
    assert _app.run_app() == 0
    shown.flush()
    assert len(shown.buffer.getvalue().decode(encoding).splitlines()) > 3


# --- real processes ------------------------------------------------------------------------------------------


def python(*words, **environment):
    return subprocess.run(
        [sys.executable, *words], cwd=HERE, capture_output=True, text=True, timeout=60,
        env=os.environ | environment,
    )  # fmt: skip


def test_the_shell_completes_commands_and_names():
    done = python(
        "-m", "bnlab", _BNLAB_COMPLETE="complete_bash", COMP_WORDS="bnlab data fetch fas", COMP_CWORD="3",
    )  # fmt: skip
    assert done.stdout.split() == ["fashion-mnist"]
    assert "complete" in python("-m", "bnlab", _BNLAB_COMPLETE="source_bash").stdout


def test_without_typer_the_command_says_what_to_install():
    code = "import sys; sys.modules['typer'] = None; from bnlab.cli import main; sys.exit(main())"
    done = python("-c", code)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "bnlab: the command needs typer, which is not installed; install it with `pip install 'bnlab[cli]'`."
    )


def test_the_base_package_loads_nothing_of_the_cli_extra():
    extra = ("typer", "rich", "pooch", "requests")
    code = f"import sys, bnlab.experiments; bnlab.data; print([m for m in {extra} if m in sys.modules])"
    assert python("-c", code).stdout.strip() == "[]"


# --- the page of the book that explains it -------------------------------------------------------------------

PAGE = (HERE.parent / "book" / "running_experiments.md").read_text(encoding="utf-8")


def test_the_page_names_only_commands_and_options_that_exist():
    words = {
        "run": (),
        "show": (),
        "data list": (),
        "data verify": (),
        "data fetch": (),
    }
    helps = {name: call(*name.split(), "--help").stdout for name in words}
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, flags=re.S)).replace("\\\n", " ")
    lines = re.findall(r"(?:^|-m )bnlab ([a-z]+(?: list| verify| fetch)?)(.*)$", blocks, flags=re.M)
    assert len(lines) > 8
    for name, rest in lines:
        for option in re.findall(r"(--[a-z-]+)", rest.partition("#")[0]):
            assert option in helps[name.strip()], (name, option)
    for option in re.findall(r"`(--[a-z-]+)", PAGE):
        known = option in "".join(helps.values()) or option in call("--help").stdout
        assert known, option


def test_the_experiment_of_the_page_runs(tmp_path, monkeypatch):
    source = next(
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
        if "# mine.py" in block
    )
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    call("run", "mine:EXPERIMENT", "--seeds", 4, "--jobs", 1, "--out", "mine.npz")
    result, origin = load("mine.npz")
    assert result.loss.shape == (100,)
    assert origin.seeds == (0, 1, 2, 3)


@pytest.mark.parametrize(
    "path", sorted((HERE.parent / "book" / "results").glob("inference_race_*.npz"))
)
def test_a_stored_result_with_many_curves_can_be_drawn(path, tmp_path):
    call("show", path, "--to", tmp_path / "x.svg")
