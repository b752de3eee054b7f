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
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from benchmarks.process import check_save, environment, is_child
from benchmarks.timing import Spread, interleave
from bnlab.chapters.making_it_fast.results import EnsembleSpeed
from bnlab.data import Dataset
from bnlab.experiments import Provenance, save
from bnlab.models import mlp
from bnlab.training import Ensemble, Member, shuffled_batches, tensors

SIZES, BATCH = [784, 100, 100, 100, 10], 60
LAYERS = tuple(pairwise(SIZES))
# Two each for z and for the gradients by W and x; the first layer's x needs none.
FLOPS = sum((6 if k else 4) * BATCH * a * b for k, (a, b) in enumerate(LAYERS))
ARMS = {"without BN": None, "with BN": nn.BatchNorm1d}
DESCRIPTION = "Time of training many networks in one batched run, beside one at a time."
STEPS = 128  # seed-steps in one measurement
MEMBERS, PEERS = (1, 2, 4, 8, 16, 32), (8, 32)  # sizes of a batched run of ours, and by torch.func
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


def ensemble(norm, data: Dataset, members: int) -> Callable[[], None]:
    """Return a run of STEPS seed-steps of an `Ensemble`."""
    networks = Ensemble(
        partial(build, norm),
        data,
        members=[Member(0.1, seed) for seed in range(members)],
        batch_size=BATCH,
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


def by_members(data: Dataset, rounds: int, *, peers: bool) -> dict[str, np.ndarray]:
    """Measure the cost of a seed and step against the number of members, beside the peers."""
    kinds = (("", ensemble, MEMBERS), ("vmap_", mapped, PEERS if peers else ()))
    found, alone = {}, []
    for prefix, make, sizes in kinds:
        cost = np.empty((len(ARMS), len(sizes), 3))
        for j, size in enumerate(sizes):
            runs = {("eager", arm): eager(norm, data) for arm, norm in ARMS.items()}
            runs |= {("many", arm): make(norm, data, size) for arm, norm in ARMS.items()}
            times = interleave(runs, rounds=rounds)
            alone.append([times["eager", arm] for arm in ARMS])
            for i, arm in enumerate(ARMS):
                cost[i, j] = quartiles(times["many", arm] / times["eager", arm])
        found |= {f"{prefix}members": np.array(sizes, dtype=int), f"{prefix}cost": cost}
    found["eager_microseconds"] = np.median(np.concatenate(alone, axis=1), axis=1) / STEPS * 1e6
    return found


def quartiles(values: np.ndarray) -> np.ndarray:
    """Return the quartile, the median and the quartile."""
    return np.quantile(values, (0.25, 0.5, 0.75))


def _text(cost: np.ndarray) -> str:
    low, median, high = cost
    return str(Spread(median=median, low=low, high=high))


def shares(data: Dataset, rounds: int, members: int = CHOICE) -> dict[str, object]:
    """Measure which share of the rate of bare multiplications is reached."""
    runs = {"matmul": matmuls(members)}
    for arm, norm in ARMS.items():
        runs[arm] = ensemble(norm, data, members)
    times = interleave(runs, rounds=3 * rounds)
    return {
        "chosen": members,
        "product_rate": float(FLOPS * STEPS / np.median(times["matmul"])),
        "share": np.stack([quartiles(times["matmul"] / times[arm]) for arm in ARMS]),
    }


def machine(rounds: int, processes: int, data: Dataset, members: int = CHOICE) -> dict[str, object]:
    """Measure the throughput of all processes together over that of one eager process, in turns."""
    context = multiprocessing.get_context("spawn")
    found = np.empty((len(ARMS), 3))
    for k, norm in enumerate(ARMS.values()):
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
        found[k] = quartiles(np.array(gains))
    return {"processes": processes, "machine": found}


_RUNS = 4  # measurements that one worker makes while the others work too


def _work(norm, members: int, rounds: int, start, end) -> None:
    run = ensemble(norm, images(), members)
    run()
    for _ in range(rounds):
        start.wait()
        for _ in range(_RUNS):
            run()
        end.wait()


def measure(rounds: int, processes: int, *, peers: bool) -> EnsembleSpeed:
    """Measure everything."""
    data = images()
    return EnsembleSpeed(
        arms=tuple(ARMS),
        rounds=rounds,
        flops=FLOPS,
        **by_members(data, rounds, peers=peers),
        **shares(data, rounds),
        **machine(rounds, processes, data),
    )


def report(speed: EnsembleSpeed) -> str:
    """Write a result as text."""
    width = max(map(len, speed.arms)) + 12
    lines = [
        f"One seed and step, {speed.flops / 1e6:.1f} MFLOP: time over torch eager, "
        f"median of {speed.rounds} paired ratios [quartiles]",
        f"{'':16}" + "".join(f"{arm:>{width}}" for arm in speed.arms),
        f"{'eager, us':16}" + "".join(f"{us:{width}.0f}" for us in speed.eager_microseconds),
    ]
    for name, sizes, cost in (
        ("ensemble of", speed.members, speed.cost),
        ("vmap over", speed.vmap_members, speed.vmap_cost),
    ):
        for j, size in enumerate(sizes):
            cells = "".join(f"{_text(cost[i, j]):>{width}}" for i in range(len(speed.arms)))
            lines.append(f"{f'{name} {size}':16}{cells}")
    rate = speed.product_rate / 1e9
    lines.append(f"\nThe multiplications alone, {speed.chosen} members: {rate:.0f} GFLOP/s.")
    for i, arm in enumerate(speed.arms):
        lines.append(f"  {arm}: {_text(speed.share[i])} of that rate")
    each = f"{speed.processes} processes of {speed.chosen} members and one thread each"
    lines.append(f"\nThe whole machine, {each}:")
    for arm, gain in zip(speed.arms, speed.machine, strict=True):
        lines.append(f"  {arm}: {_text(gain)} times the seed-steps of one eager process")
    return "\n".join(lines)


def main() -> int:
    """Measure in a process of one thread, with the memory of a plain program or kept memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ensemble", description=DESCRIPTION)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--kept-memory", action="store_true", help="as the other benchmarks do")
    parser.add_argument("--no-vmap", action="store_true", help="leave out torch.func")
    parser.add_argument(
        "--save", type=Path, metavar="FILE.npz", help="store the result with its provenance"
    )
    options = parser.parse_args()
    for name in ("rounds", "processes"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; expected at least 1.")
    if options.save:
        check_save(parser, options.save)
    if not is_child():
        settings = environment(1)
        if not options.kept_memory:
            settings = {k: v for k, v in settings.items() if not k.startswith("MALLOC")}
        command = [sys.executable, "-m", "benchmarks.ensemble", *sys.argv[1:]]
        return subprocess.run(command, env=os.environ | settings, check=False).returncode
    start = time.perf_counter()
    speed = measure(options.rounds, options.processes, peers=not options.no_vmap)
    print(report(speed))
    if options.save:
        config = {"rounds": options.rounds, "kept_memory": options.kept_memory}
        duration = time.perf_counter() - start
        origin = Provenance.now(seeds=(0,), config=config, duration=duration)
        print(f"\nStored in {save(speed, options.save, provenance=origin)}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
