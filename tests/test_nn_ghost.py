"""Ghost batches against torch's own layer that is called with one ghost batch after another."""

import itertools

import numpy as np
import pytest
import torch

from bnlab import nn


def normal(*shape, seed=0, dtype=torch.float64):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1 + 2 * drawn).to(dtype)


def pair(kind, *args, ghost_size, dtype=torch.float64, **options):
    """Return our layer and torch's plain one, with the same non-trivial parameters."""
    mine = getattr(nn, f"Ghost{kind}")(*args, ghost_size, dtype=dtype, **options)
    right = getattr(torch.nn, kind)(*args, dtype=dtype, **options)
    for i, (a, b) in enumerate(zip(mine.parameters(), right.parameters(), strict=True)):
        with torch.no_grad():
            a.copy_(normal(*a.shape, seed=50 + i))
            b.copy_(a)
    return mine, right


def one_after_another(layer, x, ghost_size):
    """Call a layer with each ghost batch, of sizes that differ by at most one."""
    if not layer.training and layer.running_mean is not None:
        return layer(x)
    parts = np.array_split(np.arange(len(x)), max(len(x) // ghost_size, 1))
    return torch.cat([layer(x[part[0] : part[-1] + 1]) for part in parts])


CASES = {  # kind, shape, ghost_size
    "even": ("BatchNorm1d", (12, 3), 4),
    "uneven": ("BatchNorm1d", (11, 3), 3),
    "one ghost": ("BatchNorm1d", (5, 3), 4),
    "larger than the batch": ("BatchNorm1d", (5, 3), 64),
    "sequences": ("BatchNorm1d", (5, 3, 4), 2),
    "images": ("BatchNorm2d", (7, 3, 4, 2), 3),
    "each image alone": ("BatchNorm2d", (4, 3, 2, 2), 1),
}
OPTIONS = [
    {"affine": affine, "bias": bias, "track_running_stats": track, "momentum": momentum}
    for affine, bias, track, momentum in itertools.product(
        (True, False), (True, False), (True, False), (0.1, 0.0, 1.0, None)
    )
    if affine or bias
]
TOLERANCE = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-9},
    torch.float32: {"rtol": 1e-4, "atol": 2e-5},
    torch.bfloat16: {"rtol": 5e-2, "atol": 0.15},
}


@pytest.mark.parametrize(("kind", "shape", "ghost_size"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_everything_is_that_of_one_ghost_batch_after_another(
    kind, shape, ghost_size, dtype, options
):
    mine, right = pair(kind, 3, ghost_size=ghost_size, dtype=dtype, **options)
    for step, training in enumerate((True, True, False, True)):
        results = []
        for layer in (mine, right):
            layer.train(training).zero_grad()
            x = normal(*shape, seed=step, dtype=dtype).requires_grad_()
            y = layer(x) if layer is mine else one_after_another(layer, x, ghost_size)
            y.backward(normal(*shape, seed=step + 90, dtype=dtype))
            assert y.dtype == x.grad.dtype == dtype
            results.append([y, x.grad, *(p.grad for p in layer.parameters()), layer.state_dict()])
        torch.testing.assert_close(*results, **TOLERANCE[dtype])


def test_a_ghost_batch_is_neighbors_on_axis_0():
    x = torch.tensor([[1.0], [3.0], [100.0], [300.0], [500.0]])
    y = nn.GhostBatchNorm1d(1, 2)(x).flatten()
    torch.testing.assert_close(y[:3].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(y[3:], torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize("shape", [(1, 3), (3, 3)])
def test_ghost_batches_of_one_value_are_refused(shape):
    layer = nn.GhostBatchNorm1d(3, 1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(torch.randn(shape))
    assert layer.num_batches_tracked == 0
    layer.eval()(torch.randn(shape))


def test_the_error_about_ghost_batches_of_one_value_says_what_to_pass():
    with pytest.raises(ValueError, match=r"ghost batches of 1 .* Pass a ghost_size of 2 or more"):
        nn.GhostBatchNorm1d(3, 1)(torch.randn(8, 3))


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (2.5, TypeError), (True, TypeError)])
def test_a_bad_ghost_size_is_refused(size, error):
    with pytest.raises(error, match="ghost_size is"):
        nn.GhostBatchNorm1d(3, size)


def test_the_layer_shows_its_ghost_size():
    assert repr(nn.GhostBatchNorm1d(3, 2)).endswith("track_running_stats=True, ghost_size=2)")
