"""Long experiments end in the same bits however often they are stopped, killed or shared out."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import _toy_experiment as toy
import numpy as np
import pytest
import torch

from bnlab import data
from bnlab.experiments import _run, load
from bnlab.experiments import run as run_experiment
from bnlab.experiments._run import TaskFailed

HERE = Path(__file__).parent


@pytest.fixture
def out(tmp_path):
    (tmp_path / "orders").mkdir()
    return tmp_path / "out" / "toy.npz"


def run(out, experiment=toy.EXPERIMENT, *, jobs=1, cluster=None, **options):
    how = {k: options.pop(k) for k in ("resume", "force", "show") if k in options}
    return run_experiment(experiment, out, changes=options, jobs=jobs, cluster=cluster, **how)


def orders(out, **words):
    """Tell tasks how to misbehave; return the setting that makes them listen, and say who began what."""
    folder = out.parents[1] / "orders"
    for seed, word in words.items():
        (folder / seed.strip("_")).write_text(word)
    return str(folder)


def begun(out):
    """Return (seed, process) of each task that was begun, in order."""
    log = out.parents[1] / "orders" / "log"
    return (
        [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
        if log.exists()
        else []
    )


def parts_of(out):
    return out.with_name(out.name + ".parts")


def unfinished(out, **options):
    """Leave a run of which only task 0 is finished."""
    told = orders(out, _1="raise")
    with pytest.raises(TaskFailed):
        run(out, orders=told, **options)
    Path(told, "1").unlink()
    return {"orders": told, **options}


def assert_is_the_result(out, **size):
    result, origin = load(out)
    assert result.loss.tobytes() == toy.expected(**size).tobytes()
    assert list(out.parent.iterdir()) == [out]
    return origin


# --- a run that nothing disturbs -----------------------------------------------------------------------------


@pytest.mark.parametrize(("jobs", "cluster"), [(1, None), (2, None), (2, "local")])
def test_a_run_stores_the_same_bits_and_where_they_come_from(out, jobs, cluster):
    seen, told = [], orders(out, _0="wait")

    def show(*at):  # the first task ends last
        seen.append(at)
        if jobs == 1 or at == (2, 3):
            Path(told, "0").unlink(missing_ok=True)

    assert run(out, jobs=jobs, cluster=cluster, steps=30, orders=told, show=show) == out
    origin = assert_is_the_result(out, steps=30)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert origin.config == toy.EXPERIMENT.defaults | {"steps": 30, "orders": told}
    assert (origin.experiment, origin.seeds) == ("toy", (0, 1, 2))
    assert origin.data == data.checksums("mnist-5k")
    assert origin.versions["numpy"] == np.__version__
    assert origin.duration > 0
    assert str(os.cpu_count()) in origin.machine
    assert (os.getpid() in {pid for _, pid in begun(out)}) == (jobs == 1)


def done_here(function, number=0):
    plan = _run._plan(toy.EXPERIMENT, toy.EXPERIMENT.defaults)
    return _run._do(function, plan | _run._code(function), {"seed": number}, number)


def test_a_task_has_one_thread_and_cannot_change_its_arguments():
    def task(config, task):
        config["new"] = task["seed"] = 1
        return {"threads": torch.get_num_threads()}

    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert done_here(task).outcome == {"threads": 1}
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_the_threads_of_one_process_take_turns():
    busy = []

    def task(config, task):
        busy.append(task)
        time.sleep(0.01)
        assert len(busy) == 1
        return {"n": len(busy.pop())}

    with ThreadPoolExecutor(4) as pool:
        assert [p.number for p in pool.map(lambda i: done_here(task, i), range(8))] == [*range(8)]


# --- refusals ------------------------------------------------------------------------------------------------


def test_a_finished_result_is_replaced_by_force_alone_and_left_by_its_own_resume(out):
    run(out, seeds=1)
    before = out.read_bytes()
    with pytest.raises(FileExistsError, match=r"toy\.npz exists; nothing was run.*--force"):
        run(out, seeds=2)
    with pytest.raises(FileExistsError, match=r"another run: config\.seeds was 1 and is 2"):
        run(out, seeds=2, resume=True)
    parts_of(out).mkdir()  # left if the run was killed between its last two steps
    run(out, seeds=1, resume=True)
    assert_is_the_result(out, seeds=1)
    with pytest.raises(TaskFailed):
        run(out, seeds=2, orders=orders(out, _1="raise"), force=True)
    assert out.read_bytes() == before
    run(out, seeds=2, force=True)
    assert_is_the_result(out, seeds=2)


def test_an_unfinished_run_is_neither_continued_nor_thrown_away_unasked(out):
    options = unfinished(out)
    with pytest.raises(FileExistsError, match=r"unfinished run with 1 of its tasks done.*--resume"):
        run(out, **options)
    (parts_of(out) / "task-0001ab12.tmp").write_bytes(b"half")  # of a killed write
    (parts_of(out) / "notes.txt").write_text("not of a run: is never deleted")
    run(out, **options, resume=True)
    assert [path.name for path in parts_of(out).iterdir()] == ["notes.txt"]
    shutil.rmtree(parts_of(out))
    assert_is_the_result(out)
    assert [seed for seed, _ in begun(out)] == [0, 1, 1, 2]
    out.unlink()
    unfinished(out)
    run(out, **options, force=True)
    assert_is_the_result(out)
    assert [seed for seed, _ in begun(out)][4:] == [0, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"steps": 41}, r"config\.steps was 40 and is 41"),
        ({"seeds": 4}, r"config\.seeds was 3 and is 4"),
        ("versions", r'versions\.numpy was "[\d.]+" and is "1\.0"'),
        ("name", 'experiment was "toy" and is "other"'),
        ("code", "code was"),
    ],
)
def test_a_run_that_was_begun_otherwise_is_not_resumed(out, change, what, monkeypatch):
    options, experiment = unfinished(out), toy.EXPERIMENT
    if change == "versions":
        monkeypatch.setattr(_run, "versions", lambda: {"numpy": "1.0"})
    elif change == "name":
        experiment = replace(experiment, name="other")
    elif change == "code":  # that of an experiment is the package's and its own file's
        experiment = replace(experiment, run=lambda config, task: toy.run(config, task))
    else:
        options |= change
    with pytest.raises(
        ValueError, match=rf"toy\.npz\.parts was begun otherwise: .*{what}.*--force"
    ):
        run(out, experiment, resume=True, **options)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (flip, "task-0000.npz .*delete it, and its task starts anew"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "task-0000.npz is not a readable"),
        (
            lambda path: path.rename(path.with_name("task-0002.npz")),
            "task-0002.npz is not of this run",
        ),
        (lambda path: run(path.with_name("task-0001.npz")), "task-0001.npz is not of this run"),
    ],
)
def test_a_damaged_or_foreign_part_is_refused_by_name_before_any_work(out, harm, message):
    options = unfinished(out)
    harm(parts_of(out) / "task-0000.npz")
    before = begun(out)
    with pytest.raises(ValueError, match=message):
        run(out, resume=True, **options)
    assert begun(out) == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"jobs": 0}, ValueError, "jobs is 0; expected at least 1"),
        ({"jobs": 2, "cluster": "tcp://127.0.0.1:1"}, ValueError, "jobs is 2; .* where a cluster"),
        ({"width": 3}, ValueError, "toy has no setting 'width'; expected some of seeds, steps"),
        ({"steps": "3"}, TypeError, "steps of toy is '3'; expected int"),
        ({"steps": True}, TypeError, "steps of toy is True; expected int"),
        ({"noise": np.ones(2)}, TypeError, "noise of toy is .*expected float or int"),
        ({"seeds": 0}, ValueError, "seeds is 0; expected a count of at least 1"),
        ({"seeds": []}, ValueError, r"seeds is \[\]; expected"),
        ({"seeds": [0, 3, 3]}, ValueError, r"seeds is \[0, 3, 3\]; expected .* different"),
        ({"seeds": [-1]}, ValueError, r"seeds is \[-1\]; expected"),
        ({"seeds": [True]}, ValueError, r"seeds is \[True\]; expected"),
        ({"seeds": [3]}, ValueError, "toy cannot plan its tasks .TypeError: .*'seeds': .3."),
        ({"data": "mnist"}, FileNotFoundError, "bnlab data fetch mnist"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_before_anything_is_written(
    out, options, error, message, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(out.parent))
    monkeypatch.delenv("BNLAB_DATA", raising=False)
    with pytest.raises(error, match=message):
        run(out, **options)
    with pytest.raises(ValueError, match=r"toy\.txt'; expected a name that ends in \.npz"):
        run(out.with_suffix(".txt"))
    assert not out.parent.exists()


def test_a_configuration_is_what_json_gives_back_and_has_a_task():
    any_noise = replace(toy.EXPERIMENT, defaults=toy.EXPERIMENT.defaults | {"noise": None})
    assert any_noise.configure({"noise": (1, 2)})["noise"] == [1, 2]
    with pytest.raises(TypeError, match="the configuration of toy hold what JSON cannot"):
        any_noise.configure({"noise": {1, 2}})
    with pytest.raises(ValueError, match="toy has no task with"):
        replace(toy.EXPERIMENT, tasks=lambda config: ()).plan({})


# --- stopped, failed, killed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failed_task_is_named_and_the_others_are_kept(out, jobs):
    told = orders(out, _2="raise")
    with pytest.raises(
        TaskFailed, match=r"^task 2 \({'seed': 2}\) failed: ArithmeticError: it went wrong$"
    ):
        run(out, jobs=jobs, orders=told)
    assert (parts_of(out) / "task-0000.npz").exists()
    with pytest.raises(TaskFailed, match=r"task 0 .* outcome 'x' is {1}; expected an array"):
        done_here(lambda config, task: {"x": {1}})


def test_a_process_that_dies_costs_its_task_and_one_that_always_dies_the_run(out):
    run(out, jobs=2, orders=orders(out, _1="die once"))
    assert_is_the_result(out)
    assert Counter(seed for seed, _ in begun(out))[1] >= 2
    told = orders(out, _0="die")
    with pytest.raises(TaskFailed, match=r"died in each of 3 attempts.*fewer --jobs"):
        run(out, jobs=2, orders=told, force=True)


def wait_for(condition, what, process=None, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


@pytest.fixture
def start():
    """Start programs, and end whatever is left of them."""
    started = []

    def begin(*words):
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, words)], cwd=HERE, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": f"{HERE.parent}:{HERE}"},
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def command(start, out, *words):
    """Start a run whose first two tasks end, and the next two wait; return it when they do."""
    told = orders(out, _2="wait", _3="wait")
    words = ("--seeds", 6, "--set", f"orders={told}", *words)
    process = start("bnlab", "run", "_toy_experiment:EXPERIMENT", "--out", out, *words)
    wait_for(
        lambda: len(list(parts_of(out).glob("*.npz"))) == 2 and len(begun(out)) == 4,
        "tasks",
        process,
    )
    return process, told


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_run_that_is_stopped_or_killed_keeps_what_is_finished(start, out, number, code):
    process, told = command(start, out, "--jobs", 2)
    if number == signal.SIGKILL:
        process.kill()  # and not the processes it has started
    else:
        os.killpg(process.pid, number)  # as a terminal does: to all of them
        said, errors = process.communicate()
        assert "Traceback" not in errors
        line = errors.strip().splitlines()[-1]
        assert re.fullmatch(
            rf"bnlab: stopped by {number.name}; .* kept. Go on with: bnlab run .* --resume", line
        )
        assert (str(out) in line, said) == (True, "")
    assert process.wait() == code
    before = begun(out)
    for seed in "23":
        Path(told, seed).unlink()
    run(out, seeds=6, orders=told, resume=True)
    assert_is_the_result(out, seeds=6)
    assert sorted(begun(out)[len(before) :]) == [(seed, os.getpid()) for seed in (2, 3, 4, 5)]


# --- on a cluster --------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cluster(start):
    """Start a scheduler and two workers."""
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = start("dask", "scheduler", "--host", address, "--no-dashboard")
    words = ("dask", "worker", address, "--nthreads", 1, "--no-dashboard", "--no-nanny")
    return address, scheduler, [start(*words), start(*words)]


def test_a_cluster_gives_the_same_bits_when_a_worker_is_killed(start, out, cluster):
    address, _, workers = cluster
    process, told = command(start, out, "--cluster", address)
    at_work = {pid: seed for seed, pid in begun(out) if seed in (2, 3)}
    assert set(at_work) == {worker.pid for worker in workers}
    workers[1].kill()
    for seed in "23":
        Path(told, seed).unlink()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert_is_the_result(out, seeds=6)
    assert sorted(seed for seed, _ in begun(out)) == sorted([*range(6), at_work[workers[1].pid]])


def test_a_cluster_without_its_scheduler_ends_the_run(start, out, cluster):
    address, scheduler, _ = cluster
    process, _ = command(start, out, "--cluster", address)
    scheduler.kill()
    _, errors = process.communicate()
    assert (process.returncode, "Traceback" in errors) == (1, False)
    assert re.search(f"bnlab: the cluster at {address} gave up: .* go on with: bnlab run", errors)
    assert len(list(parts_of(out).glob("*.npz"))) == 2


def test_a_worker_of_another_version_is_refused(monkeypatch):
    plan = _run._plan(toy.EXPERIMENT, toy.EXPERIMENT.defaults)
    monkeypatch.setattr(_run, "versions", lambda: {"numpy": "1.0"})
    with pytest.raises(
        TaskFailed, match=r'a worker .* differs .*versions.numpy was ".*" and is "1.0"'
    ):
        _run._do(toy.run, plan, {"seed": 0}, 0)


def test_a_scheduler_that_is_not_there_and_a_missing_dask_are_named(out, monkeypatch):
    dask = pytest.importorskip("dask")
    soon = dask.config.set({"distributed.comm.timeouts.connect": "0.1s"})
    with soon, pytest.raises(OSError, match=r"tcp://127\.0\.0\.1:1 "):
        run(out, jobs=None, cluster="tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'bnlab\[cluster\]'"):
        run(out, cluster="local")
