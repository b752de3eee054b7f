"""Many networks in one batched run beside one at a time: `python -m benchmarks.ensemble`.

The network of Figure 1, 784-100-100-100-10 with sigmoids, batch 60, plain SGD, float32, 60,000 rows,
one thread. Peers: torch eager as everyone writes it, and torch.func.vmap. Eager training asks for a new
gradient of 314 kB at each step; the allocator of a plain program gives such arrays back to the system
and faults every page in again. With --kept-memory it does not, for every contestant alike.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from benchmarks.process import environment, is_child
from benchmarks.timing import Spread, interleave, paired
from bnlab.data import Dataset
from bnlab.models import mlp
from bnlab.training import Ensemble, Member, shuffled_batches, tensors

SIZES, BATCH = [784, 100, 100, 100, 10], 60
LAYERS = tuple(pairwise(SIZES))
# Two each for z and for the gradients by W and x; the first layer's x needs none.
FLOPS = sum((6 if k else 4) * BATCH * a * b for k, (a, b) in enumerate(LAYERS))
ARMS = {"without BN": None, "with BN": nn.BatchNorm1d}
DESCRIPTION = "Time of training many networks in one batched run, beside one at a time."
STEPS = 128  # seed-steps in one measurement
CHOICE = 8  # networks in one batched run, with one process a core: what chapter 9 runs


def build(norm, seed: int) -> nn.Sequential:
    """Return the network of Figure 1."""
    return mlp(SIZES, norm=norm, init_std=0.1, seed=seed)


def images(n: int = 60_000) -> Dataset:
    """Return noise of the size of MNIST."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, SIZES[0]), dtype=np.uint8).astype(np.float32) / 255
    names = tuple(f"pixel {i}" for i in range(SIZES[0]))
    return Dataset("noise", x, rng.integers(0, 10, n), names, tuple("0123456789"), "class")


def eager(norm, data: Dataset) -> Callable[[], None]:
    """Return a run of STEPS steps of torch as everyone writes them."""
    model, (x, y) = build(norm, 0), tensors(data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss_function = nn.CrossEntropyLoss()
    batches = shuffled_batches(len(x), batch_size=BATCH, seed=0)

    def run() -> None:
        for _ in range(STEPS):
            rows = next(batches)
            loss = loss_function(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def ensemble(norm, data: Dataset, members: int, *, watch: str | None = None) -> Callable[[], None]:
    """Return a run of STEPS seed-steps of `train_ensemble`."""
    networks = Ensemble(
        partial(build, norm),
        data,
        members=[Member(0.1, seed) for seed in range(members)],
        batch_size=BATCH,
        watch=watch,
    )
    return partial(networks.advance, STEPS // members)


def mapped(norm, data: Dataset, members: int) -> Callable[[], None]:
    """Return the same by torch.func.vmap, whose Batch Normalization can keep no running statistics."""
    if norm is not None:
        norm = partial(norm, track_running_stats=False)
    models, (x, y) = [build(norm, seed) for seed in range(members)], tensors(data)
    parameters, buffers = stack_module_state(models)
    parameters = {name: p.detach() for name, p in parameters.items()}
    streams = [shuffled_batches(len(x), batch_size=BATCH, seed=seed) for seed in range(members)]

    def loss(p, b, x, y):
        return nn.functional.cross_entropy(functional_call(models[0], (p, b), (x,)), y)

    gradient = vmap(grad(loss))

    def run() -> None:
        for _ in range(STEPS // members):
            rows = torch.stack([next(stream) for stream in streams])
            for name, g in gradient(parameters, buffers, x[rows], y[rows]).items():
                parameters[name].sub_(g, alpha=0.1)

    return run


def matmuls(members: int) -> Callable[[], None]:
    """Return the multiplications of STEPS seed-steps and nothing else."""
    layers = [
        {"x": (BATCH, a), "dx": (BATCH, a), "w": (a, b), "z": (BATCH, b), "dz": (BATCH, b)}
        for a, b in LAYERS
    ]
    layers = [{k: torch.randn(members, *shape) for k, shape in t.items()} for t in layers]

    def run() -> None:
        for _ in range(STEPS // members):
            for t in layers:
                torch.bmm(t["x"], t["w"], out=t["z"])
            for k, t in reversed(list(enumerate(layers))):
                if k:
                    torch.bmm(t["dz"], t["w"].mT, out=t["dx"])
                t["w"].baddbmm_(t["x"].mT, t["dz"], alpha=1e-9)

    return run


def by_members(data: Dataset, rounds: int, *, peers: bool) -> None:
    """Print the cost of a seed and step against the number of members, beside the peers."""
    print(
        f"One seed and step: {FLOPS / 1e6:.1f} MFLOP. Ratios are paired by round, with quartiles."
    )
    print(f"{'':16}" + "".join(f"{arm + ', us':>18}{'of eager':>20}" for arm in ARMS))
    kinds = {f"ensemble of {s}": partial(ensemble, members=s) for s in (1, 2, 4, 8, 16, 32)}
    if peers:
        kinds |= {f"vmap over {s}": partial(mapped, members=s) for s in (8, 32)}
    for name, make in kinds.items():
        runs = {("eager", arm): eager(norm, data) for arm, norm in ARMS.items()}
        runs |= {(name, arm): make(norm, data) for arm, norm in ARMS.items()}
        times = interleave(runs, rounds=rounds)
        if make is kinds["ensemble of 1"]:
            cells = (f"{_us(times['eager', arm]):18.0f}{'1':>20}" for arm in ARMS)
            print(f"{'eager':16}" + "".join(cells))
        row = f"{name:16}"
        for arm in ARMS:
            ratio = paired(times, base=("eager", arm))[name, arm]
            row += f"{_us(times[name, arm]):18.0f}{ratio!s:>20}"
        print(row, flush=True)


def _us(times: np.ndarray) -> float:
    return float(np.median(times)) / STEPS * 1e6


def shares(data: Dataset, rounds: int, members: int = CHOICE) -> None:
    """Print which share of the rate of bare multiplications is reached, and what watching costs."""
    runs = {"matmul": matmuls(members)}
    for arm, norm in ARMS.items():
        runs[arm] = ensemble(norm, data, members)
        runs[f"{arm}, watched"] = ensemble(norm, data, members, watch="act3")
    times = interleave(runs, rounds=3 * rounds)
    rate = FLOPS * STEPS / np.median(times["matmul"]) / 1e9
    print(f"\nThe multiplications alone, {members} members: {rate:.0f} GFLOP/s.")
    for arm in ARMS:
        share = Spread.of(times["matmul"] / times[arm])
        # The log is sorted in some measurements and not in others, so a mean, without outliers.
        extra = np.sort(times[f"{arm}, watched"] / times[arm])
        extra = extra[len(extra) // 10 : -len(extra) // 10].mean() - 1
        print(f"  {arm}: {share} of that rate; percentiles of every step cost {extra:+.1%}")


def machine(data: Dataset, rounds: int, processes: int, members: int = CHOICE) -> None:
    """Print the throughput of all processes together over that of one eager process, in turns."""
    print(f"\nThe whole machine, {processes} processes of {members} members and one thread each:")
    context = multiprocessing.get_context("spawn")
    for arm, norm in ARMS.items():
        start, end = (context.Barrier(processes + 1, timeout=60) for _ in range(2))
        workers = [
            context.Process(target=_work, args=(norm, members, rounds + 1, start, end), daemon=True)
            for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        alone, gains = eager(norm, data), []
        for i in range(rounds + 1):
            began = time.perf_counter()
            alone()
            one = time.perf_counter() - began
            start.wait()
            began = time.perf_counter()
            end.wait()
            if i:  # the first round warms up
                gains.append(one * processes * _RUNS / (time.perf_counter() - began))
        for worker in workers:
            worker.join()
        print(f"  {arm}: {Spread.of(np.array(gains))} times the seed-steps of one eager process")


_RUNS = 4  # measurements that one worker makes while the others work too


def _work(norm, members: int, rounds: int, start, end) -> None:
    run = ensemble(norm, images(), members)
    run()
    for _ in range(rounds):
        start.wait()
        for _ in range(_RUNS):
            run()
        end.wait()


def main() -> int:
    """Measure in a process of one thread, with the memory of a plain program or kept memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ensemble", description=DESCRIPTION)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--kept-memory", action="store_true", help="as the other benchmarks do")
    parser.add_argument("--no-vmap", action="store_true", help="leave out torch.func")
    options = parser.parse_args()
    if not is_child():
        settings = environment(1)
        if not options.kept_memory:
            settings = {k: v for k, v in settings.items() if not k.startswith("MALLOC")}
        command = [sys.executable, "-m", "benchmarks.ensemble", *sys.argv[1:]]
        return subprocess.run(command, env=os.environ | settings, check=False).returncode
    data = images()
    by_members(data, options.rounds, peers=not options.no_vmap)
    shares(data, options.rounds)
    machine(data, options.rounds, options.processes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
