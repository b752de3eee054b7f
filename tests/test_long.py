"""Long experiments end in the same bits however often they are stopped, killed or shared out."""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import _toy_experiment as toy
import numpy as np
import pytest

from bnlab import data
from bnlab.experiments import _archive, _parts, _plan, _team, _workers, load
from bnlab.experiments._long import seeds_of
from bnlab.experiments._registry import find
from bnlab.experiments._runner import Interrupted, run_long
from bnlab.experiments._workers import TaskFailed

HERE = Path(__file__).parent
TOY = "_toy_experiment:EXPERIMENT"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # then one job is done in this process
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(toy, "hook", None)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "toy.npz"


def run(out, *, jobs=1, save_every=0.0, **options):
    run_options = {k: options.pop(k) for k in ("resume", "force", "device") if k in options}
    return run_long(TOY, out, jobs=jobs, save_every=save_every, changes=options, **run_options)


def parts_of(out):
    return out.with_name(out.name + ".parts")


def stop_at(seed, step, number=signal.SIGINT):
    def hook(at_seed, at_step):
        if (at_seed, at_step) == (seed, step):
            signal.raise_signal(number)

    toy.hook = hook


def interrupted(out, seed=1, step=12, **options):
    """Leave an unfinished run: seed 0 done, seed 1 with a snapshot."""
    stop_at(seed, step)
    with pytest.raises(Interrupted):
        run(out, **options)
    toy.hook = None
    return parts_of(out)


def assert_is_the_result(out, **size):
    result, origin = load(out)
    assert result.loss.tobytes() == toy.expected(**size).tobytes()
    assert not parts_of(out).exists()
    return origin


# --- a run that nothing disturbs -----------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_stores_its_result_and_where_it_comes_from(out, jobs):
    assert run(out, jobs=jobs, seeds=2, steps=30) == out
    origin = assert_is_the_result(out, seeds=2, steps=30)
    assert origin.seeds == (0, 1)
    assert origin.config == toy.EXPERIMENT.defaults | {"seeds": 2, "steps": 30}
    assert origin.experiment == TOY
    assert origin.data == data.checksums("mnist-5k")
    assert origin.versions["numpy"] == np.__version__
    assert origin.duration > 0
    assert str(os.cpu_count()) in origin.machine
    assert list(out.parent.iterdir()) == [out]


def test_progress_rises_from_0_to_all(out):
    seen = []
    run_long(TOY, out, jobs=1, show=seen.append)
    fractions = [at.fraction for at in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1], seen[-1].done, seen[-1].tasks) == (0, 1, 3, 3)


@pytest.mark.parametrize(
    ("config", "seeds"),
    [({"seeds": 3}, (0, 1, 2)), ({"seeds": [4, 2]}, (4, 2)), ({"seed": 7}, (7,)), ({}, ())],
)
def test_seeds_are_a_count_or_a_list(config, seeds):
    assert seeds_of(config) == seeds


# --- refusals ------------------------------------------------------------------------------------------------


def test_a_finished_result_is_not_run_over_without_force(out):
    run(out, seeds=1)
    before = out.read_bytes()
    with pytest.raises(FileExistsError, match=r"toy\.npz exists; nothing was run.*--force"):
        run(out, seeds=2)
    assert out.read_bytes() == before
    run(out, seeds=2, force=True)
    assert_is_the_result(out, seeds=2)


def test_resuming_what_is_finished_does_nothing_or_names_the_difference(out):
    run(out, seeds=1)
    before = out.read_bytes()
    parts_of(out).mkdir()  # left if the run was killed between its last two steps
    assert run(out, seeds=1, resume=True) == out
    assert out.read_bytes() == before
    assert not parts_of(out).exists()
    with pytest.raises(FileExistsError, match=r"another run: config\.seeds was 1 and is 2"):
        run(out, seeds=2, resume=True)


def test_an_unfinished_run_is_neither_continued_nor_thrown_away_unasked(out):
    parts = interrupted(out)
    with pytest.raises(FileExistsError, match=r"unfinished run with 1 of its tasks done.*--resume"):
        run(out)
    run(out, steps=20, force=True)
    assert_is_the_result(out, steps=20)
    assert not parts.exists()


def test_force_keeps_the_old_result_until_the_new_one_is_whole(out):
    run(out, seeds=1)
    before = out.read_bytes()
    stop_at(0, 12)
    with pytest.raises(Interrupted):
        run(out, force=True)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"steps": 41}, r"config\.steps was 40 and is 41"),
        ({"seeds": 4}, r"config\.seeds was 3 and is 4"),
    ],
)
def test_another_configuration_is_not_resumed(out, options, what):
    interrupted(out)
    with pytest.raises(
        ValueError, match=rf"toy\.npz\.parts was begun otherwise: {what}\. .*--force"
    ):
        run(out, resume=True, **options)


def test_another_version_or_other_code_is_not_resumed(out, monkeypatch):
    interrupted(out)
    with monkeypatch.context() as patch:
        patch.setattr(_plan, "versions", lambda: {"numpy": "1.0"})
        with pytest.raises(ValueError, match=r'versions\.numpy was "[\d.]+" and is "1\.0"'):
            run(out, resume=True)
    monkeypatch.setattr(_plan, "code_of", lambda experiment: "other")
    with pytest.raises(ValueError, match="begun otherwise: code was"):
        run(out, resume=True)


def test_the_code_of_an_experiment_is_the_package_and_its_own_file(tmp_path, monkeypatch):
    before = _plan.code_of(toy.EXPERIMENT)
    own = tmp_path / "own_experiment.py"
    text = (HERE / "_toy_experiment.py").read_text()
    own.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    first = _plan.code_of(find("own_experiment:EXPERIMENT"))
    own.write_text(text + "# another line\n")
    second = _plan.code_of(find("own_experiment:EXPERIMENT"))
    assert len({before, first, second}) == 3


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["task-0000.npz", "task-0001.state.npz"])
@pytest.mark.parametrize("how", [damage, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_damaged_part_is_refused_by_name_before_any_work(out, name, how):
    log = out.with_suffix(".log")
    parts = interrupted(out, log=str(log))
    before = log.read_text()
    how(parts / name)
    with pytest.raises(
        ValueError, match=rf"{re.escape(name)} .*delete it, and its task starts anew"
    ):
        run(out, resume=True, log=str(log))
    assert log.read_text() == before
    (parts / name).unlink()
    run(out, resume=True, log=str(log))
    assert_is_the_result(out)


@pytest.mark.parametrize("name", ["run.json", "clock.json"])
def test_a_damaged_plan_or_clock_is_refused_by_name(out, name):
    parts = interrupted(out)
    (parts / name).write_text("{")
    with pytest.raises(ValueError, match=rf"{re.escape(name)} is damaged"):
        run(out, resume=True)


def test_a_part_of_another_run_or_task_is_refused(out):
    other = interrupted(out.with_name("other.npz"), steps=50) / "task-0001.state.npz"
    parts = interrupted(out)
    (parts / "task-0001.state.npz").write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match=r"task-0001\.state\.npz belongs to another run"):
        run(out, resume=True)
    (parts / "task-0001.state.npz").unlink()
    (parts / "task-0002.npz").write_bytes((parts / "task-0000.npz").read_bytes())
    with pytest.raises(
        ValueError, match=r"task-0002\.npz belongs to another run, or to another task"
    ):
        run(out, resume=True)


def test_a_part_is_no_result_and_a_result_no_part(out):
    parts = interrupted(out)
    with pytest.raises(ValueError, match=r"task-0000\.npz is not a readable result of bnlab"):
        load(parts / "task-0000.npz")
    run(out.with_name("whole.npz"), seeds=1)
    (parts / "task-0000.npz").write_bytes(out.with_name("whole.npz").read_bytes())
    with pytest.raises(ValueError, match=r"task-0000\.npz belongs to another run"):
        run(out, resume=True)


@pytest.mark.parametrize("force", [False, True])
def test_what_no_run_wrote_is_never_deleted(out, force):
    parts = interrupted(out)
    (parts / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt is nothing that a run wrote"):
        run(out, resume=not force, force=force)
    assert (parts / "notes.txt").read_text() == "mine"
    assert (parts / "task-0000.npz").exists()


def test_two_runs_into_one_file_at_once_are_refused(out):
    parts = interrupted(out)
    held = _parts.Parts(out, {})
    with held.held(), pytest.raises(FileExistsError, match="is in use: another process"):
        run(out, resume=True)
    assert held.token() == (parts / "lock").read_text() != ""
    run(out, resume=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"device": "cuda:99"},
            ValueError,
            "device is 'cuda:99', which this machine does not have",
        ),
        ({"device": "gpu"}, ValueError, "device is 'gpu'; expected cpu, cuda"),
        ({"jobs": 0}, ValueError, "jobs is 0; expected at least 1"),
        ({"width": 3}, ValueError, "toy has no setting 'width'; expected some of seeds, steps"),
        ({"steps": "3"}, TypeError, "steps of toy is '3'; expected int"),
        ({"steps": True}, TypeError, "steps of toy is True; expected int"),
        ({"sleep": np.ones(2)}, TypeError, "sleep of toy is .*expected float or int"),
        ({"seeds": 0}, ValueError, "seeds is 0; expected a count of at least 1"),
        ({"seeds": []}, ValueError, r"seeds is \[\]; expected"),
        ({"seeds": [0, 3, 3]}, ValueError, r"seeds is \[0, 3, 3\]; expected .* different"),
        ({"seeds": [-1]}, ValueError, r"seeds is \[-1\]; expected"),
        ({"seeds": [True]}, ValueError, r"seeds is \[True\]; expected"),
        ({"data": "mnist"}, FileNotFoundError, "bnlab data fetch mnist"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(
    out, options, error, message, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(error, match=message):
        run(out, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_no_result_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"toy\.txt'; expected a name that ends in \.npz"):
        run(tmp_path / "toy.txt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "no experiment 'nonsense'"),
        ("no_such_module:EXPERIMENT", "cannot be loaded"),
        ("_toy_experiment:NOTHING", "cannot be loaded"),
        ("_toy_experiment:expected", "is a function; expected a LongExperiment"),
    ],
)
def test_an_unknown_experiment_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        find(name)


def test_a_configuration_is_what_json_gives_back():
    config = toy.EXPERIMENT.configure({"trouble": (1, 2)})
    assert config["trouble"] == [1, 2]
    with pytest.raises(TypeError, match="the configuration of toy hold what JSON cannot"):
        toy.EXPERIMENT.configure({"trouble": {1, 2}})


@pytest.mark.parametrize("content", [{"a": [1.0]}, {"a": None}, {"a": {"b": 1}}])
def test_a_snapshot_holds_arrays_numbers_and_text_alone(tmp_path, content):
    parts = _parts.Parts(tmp_path / "a.npz", {})
    with pytest.raises(
        TypeError, match=r"a of task 0 is a .*; expected an array, a number or text"
    ):
        parts.save(0, _parts.Part(content, 0.5, ()), state=True)


def test_a_snapshot_comes_back_as_it_was(tmp_path):
    parts = _parts.Parts(tmp_path / "a.npz", {"experiment": "a"})
    content = {
        "file": np.arange(3.0, dtype=np.float32), "a/b": np.array(2), "scalar": np.float32(0.1), "on": True,
        "count": 2**60, "rate": 0.1 + 0.2, "nan": float("nan"), "text": "Γ", "empty": np.zeros((0, 3)),
    }  # fmt: skip
    parts.save(3, _parts.Part(content, 0.25, ("m",)), state=True)
    back = parts.load(3, state=True)
    assert (back.fraction, back.machines, parts.begun(), parts.done()) == (0.25, ("m",), {3}, set())
    assert set(back.content) == set(content)
    for name, value in content.items():
        assert type(back.content[name]) is type(value), name
        np.testing.assert_array_equal(back.content[name], value)
        assert getattr(back.content[name], "dtype", None) == getattr(value, "dtype", None)
    assert parts.load(4, state=True) is None


# --- whole files ---------------------------------------------------------------------------------------------


def test_a_file_reaches_the_disk_before_it_gets_its_name(out, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(Path(b).name), replace(a, b)))
    run(out, seeds=1)
    names = [call for call in calls if call != "fsync"]
    assert {"run.json", "clock.json", "task-0000.state.npz", "task-0000.npz", "toy.npz"} == set(
        names
    )
    assert calls == [entry for name in names for entry in ("fsync", name)]


def test_a_snapshot_that_cannot_be_written_leaves_the_last_one(out, monkeypatch):
    parts = interrupted(out)
    before = (parts / "task-0001.state.npz").read_bytes()

    def full_disk(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(TaskFailed, match="No space left"):
        run(out, resume=True)
    monkeypatch.undo()
    monkeypatch.chdir(HERE)
    assert (parts / "task-0001.state.npz").read_bytes() == before
    assert not list(parts.glob("*.tmp"))


def test_a_leftover_of_a_killed_write_does_no_harm(out):
    parts = interrupted(out)
    (parts / "task-0001.stateab12.tmp").write_bytes(b"half")
    run(out, resume=True)
    assert_is_the_result(out)


# --- stopped, failed, killed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_from_where_it_was(out, number):
    log, before = out.with_suffix(".log"), signal.getsignal(number)
    stop_at(1, 12, number)
    with pytest.raises(Interrupted, match=f"{number.name}; 1 of 3 tasks are done here") as caught:
        run(out, log=str(log))
    assert caught.value.signal == number
    assert not out.exists()
    assert _parts.Parts(out, {}).begun() == {1}
    assert not (parts_of(out) / "task-0000.state.npz").exists()  # done: nothing to go on with
    toy.hook = None
    assert signal.getsignal(number) == before
    run(out, log=str(log), resume=True)
    assert_is_the_result(out)
    begun = [tuple(map(int, line.split()[:2])) for line in log.read_text().splitlines()]
    assert begun == [(0, 0), (1, 0), (1, 15), (2, 0)]  # 15: the report after the signal


def test_the_duration_is_the_sum_over_the_resumes(out):
    interrupted(out, sleep=0.01)
    first = json.loads((parts_of(out) / "clock.json").read_text())["seconds"]
    assert first > 0.5  # 52 steps
    run(out, sleep=0.01, resume=True)
    assert load(out)[1].duration > first + 0.6  # 65 steps


def test_a_second_ctrl_c_ends_at_once(out):
    def hook(seed, step):
        if seed == 1 and step == 12:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    toy.hook = hook
    with pytest.raises(KeyboardInterrupt):
        run(out)
    toy.hook = None
    run(out, resume=True)
    assert_is_the_result(out)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failed_task_is_named_and_the_others_are_kept(out, jobs):
    with pytest.raises(TaskFailed) as caught:
        run(out, jobs=jobs, trouble=[1, 12])
    message = str(caught.value)
    assert "task 1 of 3 ({'seed': 1}) failed: ArithmeticError: it went wrong. The" in message
    trace = parts_of(out) / "task-0001.error.txt"
    assert str(trace) in message
    assert "Traceback" in trace.read_text()
    kept = _parts.Parts(out, {})
    assert 1 in kept.begun()
    assert 0 in kept.begun() | kept.done()


def test_a_process_that_dies_is_named(out):
    with pytest.raises(TaskFailed, match=r"process at task 1 of 3 .* died by exit code 7"):
        run(out, jobs=2, death=[1, 12])
    assert not out.exists()


def wait_for(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


STARTED = []


@pytest.fixture(autouse=True)
def _end_what_was_started():
    yield
    while STARTED:
        with (
            STARTED.pop() as process
        ):  # not communicate(): what it left behind might hold the pipes
            process.kill()


def start(words, **options):
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    STARTED.append(process)
    return process


def command(*words):
    return start(
        [sys.executable, "-m", "bnlab", "run", TOY, *words],
        cwd=HERE, start_new_session=True,
    )  # fmt: skip


SLOW = ("--set", "sleep=0.01", "--steps", "120", "--save-every", "0.05")


def alive(pid):
    try:
        os.kill(pid, 0)
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()  # a zombie waits to be counted
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_killed_run_resumes_to_the_same_bits(out):
    log = out.with_suffix(".log")
    options = ("--out", str(out), "--jobs", "2", *SLOW, "--set", f"log={log}")
    process = command(*options)
    states = [parts_of(out) / f"task-000{i}.state.npz" for i in (0, 1)]
    wait_for(lambda: all(path.exists() for path in states), "snapshots of two tasks")
    process.kill()
    process.wait()
    pids = {int(line.split()[2]) for line in log.read_text().splitlines()}
    assert process.pid not in pids
    wait_for(
        lambda: not any(map(alive, pids)), "the processes to leave with the one that started them"
    )
    before = _steps_in(states)
    ours = {"steps": 120, "sleep": 0.01, "log": str(log)}
    run(out, resume=True, jobs=2, **ours)
    assert_is_the_result(out, steps=120)
    lines = [line.split() for line in log.read_text().splitlines()]
    again = {int(seed): int(t) for seed, t, pid in lines if int(pid) not in pids}
    assert {seed: again[seed] for seed in before} == before
    assert all(t > 0 for t in before.values())


def test_no_process_outlives_the_one_that_started_it(out):
    log = out.with_suffix(".log")
    process = command("--out", str(out), "--jobs", "2", "--set", f"log={log}", "--set", "sleep=60")
    wait_for(lambda: log.exists() and log.read_text().count("\n") == 2, "two tasks at work")
    process.kill()
    process.wait()
    pids = [int(line.split()[2]) for line in log.read_text().splitlines()]
    try:
        wait_for(lambda: not any(map(alive, pids)), "processes that are asleep to leave", 20)
    finally:
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)


def _steps_in(states):
    found = {}
    for path in states:
        head, _ = _archive.read(path, what="", advice="")
        found[head["task"]] = head["plain"]["t"]
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_says_how_to_go_on(out, number, code):
    process = command("--out", str(out), "--jobs", "2", *SLOW)
    wait_for(lambda: list(parts_of(out).glob("*.state.npz")), "a snapshot")
    os.killpg(process.pid, number)  # as a terminal does: to the workers as well
    said, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    again = re.search(r"Go on with: (bnlab run .* --resume)$", errors.strip())
    assert again, errors
    assert str(out) in again[1]
    assert number.name in errors
    run(out, resume=True, jobs=2, steps=120, sleep=0.01)
    assert_is_the_result(out, steps=120)
    assert said == ""


@pytest.mark.parametrize(
    ("code", "stopping", "answer"),
    [(-15, True, True), (-2, True, True), (-15, False, False), (-9, True, False)],
)
def test_a_signal_to_all_ends_a_worker_that_is_still_starting_without_a_failure(
    code, stopping, answer
):
    assert _workers._was_stopped(code, lambda: stopping) is answer


# --- shared out ----------------------------------------------------------------------------------------------


def test_a_task_that_is_begun_goes_to_a_process_that_sees_its_snapshot():
    here = [({0}, {1, 2}), ({0}, {1, 2, 3}), (set(), {4, 5})]
    assert _team._holders(here, {0}) == {1: 0, 2: 1, 3: 1, 4: 2, 5: 2}
    assert _team._holders([(set(), {1}), ({1}, set())], {1}) == {}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_torchrun_shares_the_tasks_out_and_survives_the_death_of_a_rank(out):
    log = out.with_suffix(".log")
    process = start(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1",
            "--master-addr=127.0.0.1", f"--master-port={free_port()}", "-m", "bnlab",
            "run", TOY, "--out", str(out), "--seeds", "5", *SLOW, "--set", f"log={log}",
        ],
        cwd=HERE,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"},
    )  # fmt: skip
    kept = _parts.Parts(out, {})
    wait_for(lambda: kept.done() and len(kept.begun()) == 2, "one task done and two at work", 60)
    begun = {int(line.split()[0]): int(line.split()[2]) for line in log.read_text().splitlines()}
    os.kill(begun[max(begun)], signal.SIGKILL)
    said, errors = process.communicate(timeout=90)
    assert re.search(
        r"bnlab: process [01] of 2 stopped by SIGTERM, which torchrun sends when another process has died.*"
        r"all work is kept\. Go on with: torchrun \.\.\. -m bnlab run .* --resume",
        errors,
    ), errors
    assert process.returncode == 0, errors  # torchrun has started both again
    assert said.count("The result is in") == 1
    assert_is_the_result(out, seeds=5, steps=120)
    lines = [line.split() for line in log.read_text().splitlines()]
    lines = [line for line in lines if int(line[2]) not in begun.values()]
    assert len({pid for _, _, pid in lines}) == 2  # both took part
    assert (
        len({seed for seed, _, _ in lines}) == len(lines) < 5
    )  # nothing twice, and nothing that was done
    assert any(int(t) > 0 for _, t, _ in lines)


class Machine:
    """A process of a run on a "machine" of its own: with a folder that no other one sees."""

    def __init__(self, rank, port, folder):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        code = (
            "import sys; from bnlab.experiments import _team; _team.PATIENCE = 2.0; "
            "from bnlab.cli import main; sys.exit(main())"
        )
        self.process = start(
            [sys.executable, "-c", code, "run", TOY, "--seeds", "4", "--out", "toy.npz", "--resume", *SLOW],
            cwd=folder,
            env=os.environ | {
                "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
                "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}",
            },
        )  # fmt: skip

    @property
    def begun(self):
        return _parts.Parts(self.folder / "toy.npz", {}).begun()


def test_machines_without_a_common_disk_notice_silence_and_go_on(tmp_path):
    port = free_port()
    first, second = (Machine(rank, port, tmp_path / str(rank)) for rank in (0, 1))
    wait_for(lambda: first.begun and second.begun, "a snapshot on each machine", 60)
    first.process.send_signal(signal.SIGSTOP)  # silent, though its connections are open
    said, errors = second.process.communicate(timeout=60)
    assert second.process.returncode == 1
    assert re.search(
        r"bnlab: .*(cannot reach|no sign of life|gone).* is kept; go on with.*--resume", errors
    ), errors
    first.process.kill()
    first.process.wait()
    assert all(list(m.folder.glob("toy.npz.parts/task-*.npz")) for m in (first, second))
    port = free_port()
    first, second = (Machine(rank, port, tmp_path / str(rank)) for rank in (0, 1))
    for machine in (first, second):
        said, errors = machine.process.communicate(timeout=60)
        assert machine.process.returncode == 0, errors
        assert ("The result is in" in said) == (machine is first)
    assert_is_the_result(first.folder / "toy.npz", seeds=4, steps=120)
    assert list(second.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (lambda config: (), "toy has no task"),
        (lambda config: config["seeds"][0], "toy cannot plan its tasks .TypeError: 'int'"),
        (lambda config: config["nothing"], "toy cannot plan its tasks .KeyError: 'nothing'"),
    ],
)
def test_tasks_that_do_not_fit_the_settings_name_the_settings(tasks, message):
    experiment = dataclasses.replace(toy.EXPERIMENT, tasks=tasks)
    with pytest.raises(ValueError, match=message) as found:
        experiment.plan(experiment.configure({"seeds": 7}))
    assert "'seeds': 7" in str(found.value)
