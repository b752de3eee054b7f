"""One of several real processes, each with a part of a batch: run by test_nn_sync.py, three at a time.

Every process draws the whole batch from the same seed, keeps its own part of it, and compares what the
synchronized layer does to it with what one layer does to the whole batch in one process.
"""

from __future__ import annotations

import datetime
import itertools
import os
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from torch import distributed

from bnlab import inference, nn

WORLD = 3
TIMEOUT = datetime.timedelta(seconds=60)
SHAPES = {1: (3,), 2: (3, 4), 3: (3, 4, 2), 4: (3, 2, 3, 2)}  # without N, by the rank of the layer
SPLITS = {
    "even": (3, 3, 3),
    "uneven": (5, 1, 3),
    "one empty": (6, 0, 3),
    "one value each": (1, 1, 1),
}
TOLERANCE = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-9},
    torch.float32: {"rtol": 2e-4, "atol": 2e-5},
    torch.bfloat16: {"rtol": 4e-2, "atol": 6e-2},
}


def normal(*shape, seed=0, dtype=torch.float64):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1 + 2 * drawn).to(dtype)


def part(x, split, rank):
    return x.split(split)[rank].detach().clone().requires_grad_()


def total(t, group=None):
    t = t.detach().double().clone()
    distributed.all_reduce(t, group=group)
    return t


def pair(rank, shape, dtype=torch.float64, **options):
    """Return the synchronized layer and torch's own for the whole batch, in float64."""
    kind = {1: "BatchNorm1d", 2: "BatchNorm1d", 3: "BatchNorm2d", 4: "BatchNorm3d"}[len(shape)]
    layer = nn.SyncBatchNorm(shape[0], dtype=dtype, **options)
    whole = getattr(torch.nn, kind)(shape[0], dtype=torch.float64, **options)
    with torch.no_grad():
        for i, (a, b) in enumerate(zip(layer.parameters(), whole.parameters(), strict=True)):
            a.copy_(normal(*a.shape, seed=50 + i))
            b.copy_(a)
    return layer, whole


def close(a, b, **tolerance):
    torch.testing.assert_close(a, b, check_dtype=False, **tolerance)


def same_as_the_whole_batch(rank, shape, split, dtype, options):
    layer, whole = pair(rank, shape, dtype, **options)
    for step in range(2):
        x, dy = (normal(sum(split), *shape, seed=s, dtype=dtype) for s in (step, step + 9))
        mine, all_of_it = part(x, split, rank), x.double().requires_grad_()
        for it in (layer, whole):
            it.zero_grad()
        y, expected = layer(mine), whole(all_of_it)
        assert y.dtype == dtype
        y.backward(part(dy, split, rank))
        expected.backward(dy.double())
        close(y, expected.split(split)[rank], **TOLERANCE[dtype])
        close(mine.grad, all_of_it.grad.split(split)[rank], **TOLERANCE[dtype])
        sums = {k: v * (10 if dtype == torch.bfloat16 else 1) for k, v in TOLERANCE[dtype].items()}
        for p, q in zip(layer.parameters(), whole.parameters(), strict=True):
            assert p.grad.dtype == dtype
            close(total(p.grad), q.grad, **sums)
        close(layer.state_dict(), whole.state_dict(), **TOLERANCE[dtype])
        for b in layer.buffers():  # the same bits everywhere
            distributed.broadcast(first := b.double(), 0)
            assert torch.equal(first, b.double())


def training(rank):
    for shape, split, dtype in itertools.product(SHAPES.values(), SPLITS.values(), TOLERANCE):
        same_as_the_whole_batch(rank, shape, split, dtype, {"momentum": 0.1})


def options(rank):
    for affine, bias, track, momentum in itertools.product(
        (True, False), (True, False), (True, False), (0.0, 1.0, None)
    ):
        given = {"affine": affine, "bias": bias, "track_running_stats": track, "momentum": momentum}
        same_as_the_whole_batch(rank, (3, 4), SPLITS["one empty"], torch.float64, given)


def second_backward(rank):
    split = SPLITS["one empty"]
    layer, whole = pair(rank, (3, 2))
    x, dy = normal(9, 3, 2), normal(9, 3, 2, seed=1)
    grads = []
    for it, data, weights in (
        (layer, part(x, split, rank), part(dy, split, rank)),
        (whole, x.requires_grad_(), dy),
    ):
        inner = [data, it.weight]
        dx, dgamma = torch.autograd.grad(
            (it(data).pow(3) * weights.detach()).sum(), inner, create_graph=True
        )
        # each process has its part of dgamma, so that only what is linear in it adds up
        (dx.pow(2).sum() + (dgamma * normal(3, seed=7)).sum()).backward()
        grads.append((data.grad, it.weight.grad))
    close(grads[0][0], grads[1][0].split(split)[rank])
    close(total(grads[0][1]), grads[1][1])


def checkpointing(rank):
    split = SPLITS["uneven"]
    layer, whole = pair(rank, (3,))
    x = normal(9, 3)
    mine, all_of_it = part(x, split, rank), x.clone().requires_grad_()
    torch.utils.checkpoint.checkpoint(layer, mine, use_reentrant=False).pow(3).sum().backward()
    whole(all_of_it).pow(3).sum().backward()
    close(mine.grad, all_of_it.grad.split(split)[rank])
    close(layer.state_dict(), whole.state_dict())


def without_gradients(rank):
    layer, whole = pair(rank, (3,))
    x = normal(9, 3)
    with torch.no_grad():
        y = layer(part(x, SPLITS["even"], rank))
    close(y, whole(x).split(3)[rank])
    close(layer.state_dict(), whole.state_dict())


def large_mean(rank):
    """What sums of squares would lose: a mean of a million beside a deviation of one."""
    x = normal(9, 3, dtype=torch.float64) + torch.tensor([1e6, -1e6, 1e6])
    layer, whole = nn.SyncBatchNorm(3), nn.BatchNorm1d(3)
    x = x.float()
    close(
        layer(part(x, SPLITS["uneven"], rank)),
        whole(x).split(SPLITS["uneven"])[rank],
        rtol=1e-5,
        atol=1e-5,
    )


def all_empty(rank):
    layer = nn.SyncBatchNorm(3)
    x = torch.zeros(0, 3, 4, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == x.shape
    assert layer.weight.grad.tolist() == layer.running_mean.tolist() == [0, 0, 0]
    assert layer.running_var.tolist() == [1, 1, 1]


def one_value_in_all(rank):
    layer = nn.SyncBatchNorm(3)
    with pytest.raises(ValueError, match="got 1 in all 3 processes together"):
        layer(torch.zeros(int(rank == 1), 3))
    assert layer.num_batches_tracked == 0


def evaluation_and_frozen_layers_need_nobody(rank):
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    inference.freeze(model)
    inference.synchronize(model)
    if rank == 0:  # others do not call: a message would wait for them
        nn.SyncBatchNorm(3).eval()(torch.randn(2, 3))
        model.train()(torch.randn(2, 3))


def process_groups(rank):
    """Two processes share their batches, and the third one has its own."""
    groups = [distributed.new_group(ranks, timeout=TIMEOUT) for ranks in ([0, 1], [2])]
    layer, whole = pair(rank, (3,))
    layer.process_group = groups[rank // 2]
    x = normal(9, 3)
    both = x[:6] if rank < 2 else x[6:]
    mine, all_of_it = x[3 * rank :][:3].clone().requires_grad_(), both.clone().requires_grad_()
    layer(mine).pow(3).sum().backward()
    whole(all_of_it).pow(3).sum().backward()
    close(mine.grad, all_of_it.grad.split(3)[rank % 2])
    close(layer.state_dict(), whole.state_dict())


def data_parallel(rank):
    """Steps of a model in DistributedDataParallel are those of one process with the whole batch."""
    split = SPLITS["uneven"]
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Tanh(), torch.nn.Linear(5, 1)
    ).double()
    whole = torch.nn.Sequential(
        torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Tanh(), torch.nn.Linear(5, 1)
    ).double()
    whole.load_state_dict(model.state_dict())
    assert inference.synchronize(model) == ("1",)
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, whole)]
    for step in range(3):
        x = normal(9, 4, seed=step)
        # DDP averages the gradients of the processes: this makes the average that of the whole batch
        losses = parallel(x.split(split)[rank]).pow(2).sum() * WORLD / 9, whole(x).pow(2).mean()
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    close(model.state_dict(), whole.state_dict())


def compiled(rank):
    layer, whole = pair(rank, (3,))
    model = torch.nn.Sequential(layer, torch.nn.Tanh())
    x = normal(9, 3)
    y = torch.compile(model, backend="eager")(part(x, SPLITS["uneven"], rank))
    close(y, whole(x).tanh().split(SPLITS["uneven"])[rank])
    close(layer.state_dict(), whole.state_dict())


def torchs_own_needs_a_gpu(rank):
    theirs = torch.nn.SyncBatchNorm(3)
    with pytest.raises(ValueError, match="to be on GPU"):  # else change the docstring
        theirs(torch.randn(4, 3))
    assert theirs.num_batches_tracked == 1  # of a batch that it refused


def pooled_statistics(rank):
    x = normal(9, 3, 4) + torch.arange(9.0)[:, None, None]
    batches = [[x[:2], x[2:5]], [], [x[5:]]]
    found = inference.population_statistics(batches[rank])
    expected = inference.population_statistics(itertools.chain(*batches))
    close(found, expected, rtol=1e-13, atol=1e-13)


def pooled_statistics_of_bad_batches(rank):
    """The process with a bad batch says what is bad, and the others do not wait for it."""
    statistics = inference.population_statistics
    bad = [torch.full((2, 3), torch.nan)] if rank == 1 else [torch.ones(2, 3)]
    says = (
        "^batches.0. holds 6 NaN" if rank == 1 else "^population_statistics failed on rank 1: Val"
    )
    with pytest.raises(ValueError if rank == 1 else RuntimeError, match=says):
        statistics(bad)
    with pytest.raises(ValueError, match="holds no batch"):
        statistics([])
    with pytest.raises(ValueError, match="3 and 4 features"):
        statistics([torch.ones(2, 3 + (rank == 2))])


def recalibration_of_synchronized_layers(rank):
    """Ranks have different numbers of batches, so that the layers must not talk to each other."""
    x = normal(12, 3)
    batches = [[x[:2], x[2:5]], [x[5:8]], [x[8:]]]
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)).double()
    inference.synchronize(model)
    assert inference.recalibrate(model, batches[rank]) == ("0", "1")
    assert [type(layer) for layer in model] == [nn.SyncBatchNorm] * 2
    expected = inference.population_statistics(batches[rank])
    close((model[0].running_mean, model[0].running_var), expected)


def one_that_does_not_answer(rank):
    """The others get an error within the timeout of the group."""
    group = distributed.new_group(timeout=datetime.timedelta(seconds=2))
    if rank == 2:
        time.sleep(4)
        return
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=f"SyncBatchNorm in process {rank} of 3 got no answer"):
        nn.SyncBatchNorm(3, process_group=group)(torch.randn(4, 3))
    assert time.monotonic() - start < 3.5


def one_that_dies(rank):
    """The last case, as it ends a process."""
    layer = nn.SyncBatchNorm(3)
    y = layer(torch.randn(4, 3, requires_grad=True))
    if rank == 2:
        os._exit(0)
    with pytest.raises(RuntimeError, match=f"SyncBatchNorm in process {rank} of 3 got no answer"):
        y.sum().backward()


CASES = (
    training, options, second_backward, checkpointing, without_gradients, large_mean, all_empty,
    one_value_in_all, evaluation_and_frozen_layers_need_nobody, process_groups, data_parallel, compiled,
    torchs_own_needs_a_gpu, pooled_statistics, pooled_statistics_of_bad_batches,
    recalibration_of_synchronized_layers, one_that_does_not_answer, one_that_dies,
)  # fmt: skip


def main(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/store", timeout=TIMEOUT, rank=rank, world_size=WORLD
    )
    for case in CASES:
        try:
            case(rank)
            said = "passed"
        except (Exception, pytest.fail.Exception):
            said = traceback.format_exc()
        (Path(folder) / f"{case.__name__}.{rank}").write_text(said)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
    os._exit(0)  # a group that lost a member cannot be closed
