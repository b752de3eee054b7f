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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import _toy_experiment as toy
import dask
import numpy as np
import pytest
import torch
from dask.distributed import Client

from bnlab import data
from bnlab.experiments import LongExperiment, _run, load
from bnlab.experiments import run as run_experiment
from bnlab.experiments._run import TaskFailed

HERE = Path(__file__).parent


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "toy.npz"


@pytest.fixture
def orders(tmp_path):
    """The folder where the toy looks for orders, and notes who began what."""
    (tmp_path / "orders").mkdir()
    return tmp_path / "orders"


def order(orders, word, *seeds):
    for seed in seeds:
        (orders / "new").write_text(word)
        (orders / "new").replace(orders / str(seed))  # at once: tasks are reading


def begun(orders):
    """Return (seed, process) of each task that was begun, in order."""
    lines = (orders / "log").read_text().splitlines() if (orders / "log").exists() else []
    return [tuple(map(int, line.split())) for line in lines]


def run(out, experiment=toy.EXPERIMENT, *, jobs=1, cluster=None, **options):
    how = {k: options.pop(k) for k in ("resume", "force", "show") if k in options}
    options |= {"orders": str(options["orders"])} if "orders" in options else {}
    return run_experiment(experiment, out, changes=options, jobs=jobs, cluster=cluster, **how)


def parts_of(out):
    return out.with_name(out.name + ".parts")


def leave_unfinished(out, orders):
    """Run until task 1 fails: only task 0 is finished."""
    order(orders, "raise", 1)
    with pytest.raises(TaskFailed):
        run(out, orders=orders)
    (orders / "1").unlink()


def assert_is_the_result(out, **size):
    result, origin = load(out)
    assert result.loss.tobytes() == toy.expected(**size).tobytes()
    assert list(out.parent.iterdir()) == [out]
    return origin


# --- a run that nothing disturbs -----------------------------------------------------------------------------


@pytest.mark.parametrize(("jobs", "cluster"), [(1, None), (2, None), (2, "local")])
def test_a_run_stores_the_same_bits_and_where_they_come_from(out, orders, jobs, cluster):
    seen = []

    def show(*at):
        seen.append(at)
        if at == (2, 3):
            (orders / "0").unlink(missing_ok=True)

    order(orders, "wait", *[0] * (jobs > 1))  # for the others: the first task ends last
    run(out, jobs=jobs, cluster=cluster, steps=30, orders=orders, show=show)
    origin = assert_is_the_result(out, steps=30)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert origin.config == toy.EXPERIMENT.defaults | {"steps": 30, "orders": str(orders)}
    assert (origin.experiment, origin.seeds) == ("toy", (0, 1, 2))
    assert origin.data == data.checksums("mnist-5k")
    assert origin.versions["numpy"] == np.__version__
    assert origin.duration > 0
    assert str(os.cpu_count()) in origin.machine
    assert (os.getpid() in {pid for _, pid in begun(orders)}) == (jobs == 1)


def test_the_origin_names_the_versions_that_an_experiment_asks_for(out):
    run(out, replace(toy.EXPERIMENT, packages=("pytest", "no-such-package")))
    assert load(out)[1].versions["pytest"] == pytest.__version__
    assert "no-such-package" not in load(out)[1].versions


def do(function, task, number=0):
    plan = _run._plan(replace(toy.EXPERIMENT, run=function), toy.EXPERIMENT.defaults)
    part = _run._do(function, plan, task, number)
    assert plan["config"] == toy.EXPERIMENT.defaults
    return part


def threads():
    """Return the number of threads of torch itself, of OpenMP and of MKL, which are set apart."""
    said = torch.__config__.parallel_info()
    return {
        int(n) for n in re.findall(r"(?:at::get_num|omp_get_max|mkl_get_max)_threads.* (\d+)", said)
    }


def test_a_task_has_one_thread_and_cannot_change_its_arguments():
    def task(config, task):
        config["new"] = task["seed"] = 1
        return {"threads": sorted(threads())}

    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert do(task, number := {"seed": 0}).outcome["threads"].tolist() == [1]
        assert number == {"seed": 0}
        assert threads() == {before + 1}
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
        parts = pool.map(do, [task] * 8, [{}] * 8, range(8))
        assert [(part.number, part.failure) for part in parts] == [(i, None) for i in range(8)]


# --- refusals ------------------------------------------------------------------------------------------------


def test_a_finished_result_is_replaced_by_force_alone_and_left_by_its_own_resume(out, orders):
    run(out, seeds=1)
    before = out.read_bytes()
    with pytest.raises(FileExistsError, match=r"toy\.npz exists; nothing was run.*--force"):
        run(out, seeds=2)
    with pytest.raises(FileExistsError, match=r"another run: config\.seeds was 1 and is 2"):
        run(out, seeds=2, resume=True)
    parts_of(out).mkdir()  # left if the run was killed between its last two steps
    run(out, seeds=1, resume=True)
    assert_is_the_result(out, seeds=1)
    order(orders, "raise", 1)
    with pytest.raises(TaskFailed):
        run(out, seeds=2, orders=orders, force=True)
    assert out.read_bytes() == before
    run(out, seeds=2, force=True)
    assert_is_the_result(out, seeds=2)


def test_an_unfinished_run_is_neither_continued_nor_thrown_away_unasked(out, orders):
    leave_unfinished(out, orders)
    with pytest.raises(FileExistsError, match=r"unfinished run with 1 of its tasks done.*--resume"):
        run(out, orders=orders)
    (parts_of(out) / "task-0001ab12.tmp").write_bytes(b"half")  # of a killed write
    (parts_of(out) / "notes.txt").write_text("not of a run: is never deleted")
    run(out, orders=orders, resume=True)
    assert [path.name for path in parts_of(out).iterdir()] == ["notes.txt"]
    shutil.rmtree(parts_of(out))
    assert_is_the_result(out)
    out.unlink()
    leave_unfinished(out, orders)
    run(out, orders=orders, force=True)
    assert_is_the_result(out)
    assert [seed for seed, _ in begun(orders)] == [0, 1, 1, 2, 0, 1, 0, 1, 2]


def test_a_run_that_was_begun_otherwise_is_not_resumed(out, orders, monkeypatch):
    leave_unfinished(out, orders)

    def refuses(what, experiment=toy.EXPERIMENT, **changes):
        with pytest.raises(ValueError, match=rf"parts was begun otherwise: .*{what}.*--force"):
            run(out, experiment, orders=orders, resume=True, **changes)

    refuses(r"config\.steps was 40 and is 41", steps=41)
    refuses("experiment was .toy. and is .other", replace(toy.EXPERIMENT, name="other"))
    refuses("code was", replace(toy.EXPERIMENT, run=lambda *task: toy.run(*task)))  # in this file
    monkeypatch.setattr(_run, "versions", lambda: {"numpy": "1.0"})
    refuses(r'versions\.numpy was "[\d.]+" and is "1\.0"')


def test_the_code_of_an_experiment_is_its_own_file_too(tmp_path):
    codes = set()
    for text in ("def f(): 1", "def f(): 2"):
        (tmp_path / "own.py").write_text(text)
        exec(compile(text, tmp_path / "own.py", "exec"), found := {})
        made = LongExperiment.of(found["f"], name="own", summary="", defaults={})
        codes |= {_run._code(f)["code"] for f in (found["f"], made.run, partial(found["f"]))}
    assert len(codes) == 2


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "0.npz is not a readable .* starts anew"),
        (lambda path: path.rename(path.with_name("task-0002.npz")), "2.npz is not of this run"),
        (lambda path: run(path.with_name("task-0001.npz")), "1.npz is not of this run"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_part_is_refused_by_name_before_any_work(out, orders, harm, message):
    leave_unfinished(out, orders)
    harm(parts_of(out) / "task-0000.npz")
    before = begun(orders)
    with pytest.raises(ValueError, match=f"task-000{message}"):
        run(out, orders=orders, resume=True)
    assert begun(orders) == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"jobs": 0}, ValueError, "jobs is 0; expected at least 1"),
        ({"jobs": 2, "cluster": "tcp://a:1"}, ValueError, "jobs is 2; .* where a cluster .tcp://a:1"),
        ({"width": 3}, ValueError, "toy has no setting 'width'; expected some of seeds, steps"),
        ({"steps": "3"}, TypeError, "steps of toy is '3'; expected int"),
        ({"steps": True}, TypeError, "steps of toy is True; expected int"),
        ({"noise": np.ones(2)}, TypeError, "noise of toy is .*expected float or int"),
        ({"seeds": 0}, ValueError, "seeds is 0; expected a count of at least 1"),
        ({"seeds": [0, 3, 3]}, ValueError, r"seeds is \[0, 3, 3\]; expected .* different"),
        ({"seeds": [True]}, ValueError, r"seeds is \[True\]; expected"),
        ({"seeds": [3]}, ValueError, "toy cannot plan its tasks .TypeError: .*'seeds': .3."),
        ({"any": {1, 2}}, TypeError, "the configuration of toy hold what JSON cannot"),
        ({"data": "mnist"}, FileNotFoundError, "bnlab data fetch mnist"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_before_anything_is_written(
    out, options, error, message, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(out.parent))
    monkeypatch.delenv("BNLAB_DATA", raising=False)
    with pytest.raises(error, match=message):
        run(out, **options)
    with pytest.raises(ValueError, match=r"toy\.txt'; expected a name that ends in \.npz"):
        run(out.with_suffix(".txt"))
    assert not out.parent.exists()


# --- stopped, failed, killed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failed_task_is_named_and_the_others_are_kept(out, orders, jobs):
    order(orders, "wait" if jobs == 2 else "raise", 2)
    with pytest.raises(TaskFailed) as caught:
        run(out, jobs=jobs, orders=orders, show=lambda n, _: n == 2 and order(orders, "raise", 2))
    assert str(caught.value) == "task 2 ({'seed': 2}) failed: ArithmeticError: it went wrong"
    assert "_toy_experiment.py" in caught.value.__notes__[0]  # where
    assert sorted(p.name for p in parts_of(out).iterdir()) == ["task-0000.npz", "task-0001.npz"]
    assert "outcome 'x' is {1}; expected" in str(do(lambda config, task: {"x": {1}}, {}).failure)


def test_a_process_that_dies_costs_its_task_and_one_that_always_dies_the_run(out, orders):
    order(orders, "die once", 1)
    run(out, jobs=2, orders=orders)
    assert_is_the_result(out)
    assert [seed for seed, _ in begun(orders)].count(1) == 2
    order(orders, "die", 0)
    with pytest.raises(TaskFailed, match=r"died in each of 3 attempts.*fewer --jobs"):
        run(out, jobs=2, seeds=1, orders=orders, force=True)


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
        process.communicate(timeout=120)


def start_until_two_are_done_and_two_at_work(start, out, orders, *words):
    order(orders, "wait", 2, 3, 4, 5)
    words = ("--out", out, "--seeds", 6, "--set", f"orders={orders}", *words)
    process = start("bnlab", "run", "_toy_experiment:EXPERIMENT", *words)
    latest = time.monotonic() + 120
    while len(list(parts_of(out).glob("*.npz"))) < 2 or len(begun(orders)) < 4:
        assert process.poll() is None, process.communicate(timeout=120)
        assert time.monotonic() < latest, "waited two minutes"
        time.sleep(0.02)
    return process


def let_them_end(orders):
    for seed in range(2, 6):
        (orders / str(seed)).unlink()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_run_that_is_stopped_or_killed_keeps_what_is_finished(start, out, orders, number, code):
    process = start_until_two_are_done_and_two_at_work(start, out, orders, "--jobs", 2)
    if number == signal.SIGKILL:
        process.kill()  # and not the processes it has started
    else:
        os.killpg(process.pid, number)  # as a terminal does: to all of them
        said, errors = process.communicate(timeout=120)
        assert (said, "Traceback" in errors) == ("", False)
        line = errors.strip().splitlines()[-1]
        expected = (
            rf"bnlab: stopped by {number.name}; .* kept. Go on with: bnlab run .*{out}.* --resume"
        )
        assert re.fullmatch(expected, line)
    assert process.wait(timeout=120) == code
    before = len(begun(orders))
    let_them_end(orders)
    run(out, seeds=6, orders=orders, resume=True)
    assert_is_the_result(out, seeds=6)
    assert begun(orders)[before:] == [(seed, os.getpid()) for seed in (2, 3, 4, 5)]


# --- on a cluster --------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(start):
    """Start a scheduler and two workers; return its address and them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    scheduler = start("dask", "scheduler", "--host", address, "--no-dashboard")
    words = ("dask", "worker", address, "--nthreads", 1, "--no-dashboard", "--no-nanny")
    workers = [start(*words), start(*words)]
    with Client(address, set_as_default=False, timeout=120) as client:
        client.wait_for_workers(2, timeout=120)  # the first to come would get all tasks
    return address, scheduler, workers


def test_a_cluster_gives_the_same_bits_when_a_worker_is_killed(start, out, orders, cluster):
    address, _, workers = cluster
    process = start_until_two_are_done_and_two_at_work(start, out, orders, "--cluster", address)
    at_work = {pid: seed for seed, pid in begun(orders) if seed > 1}
    assert set(at_work) == {worker.pid for worker in workers}
    last = max(parts_of(out).iterdir(), key=lambda path: path.stat().st_mtime_ns)
    (victim,) = (w for w in workers if (int(last.stem[5:]), w.pid) in begun(orders))
    victim.kill()  # with the task it is at, and not with what it has done
    let_them_end(orders)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert_is_the_result(out, seeds=6)
    assert sorted(s for s, _ in begun(orders)) == sorted([*range(6), at_work[victim.pid]])


def test_a_cluster_without_its_scheduler_ends_the_run(start, out, orders, cluster):
    address, scheduler, _ = cluster
    process = start_until_two_are_done_and_two_at_work(start, out, orders, "--cluster", address)
    scheduler.kill()
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in errors) == (1, False)
    assert re.search(f"bnlab: the cluster at {address} gave up: .* go on with: bnlab run", errors)
    assert len(list(parts_of(out).glob("*.npz"))) == 2


def test_what_a_cluster_lacks_is_named(out, monkeypatch):
    plan = _run._plan(toy.EXPERIMENT, toy.EXPERIMENT.defaults)
    with monkeypatch.context() as patch:
        patch.setattr(_run, "versions", lambda: {"numpy": "1.0"})
        with pytest.raises(TaskFailed, match=r'a worker .* versions\.numpy was .* and is "1\.0"'):
            _run._do(toy.run, plan, {"seed": 0}, 0)
    soon = dask.config.set({"distributed.comm.timeouts.connect": "0.1s"})
    with soon, pytest.raises(OSError, match=r"tcp://127\.0\.0\.1:1 "):
        run(out, jobs=None, cluster="tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'bnlab\[cluster\]'"):
        run(out, cluster="local")
