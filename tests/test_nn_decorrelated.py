"""The decorrelated layer against the NumPy whitening of Chapter 4, which was derived on its own."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from bnlab import nn, whitening

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


def normal(*shape, seed=0, dtype=torch.float64):
    """Correlated features: each is also a part of the one before it."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1 + drawn + 0.7 * drawn.roll(1, dims=1)).to(dtype)


def made(*args, **options):
    layer = nn.DecorrelatedBatchNorm1d(*args, **options)
    with torch.no_grad():
        for i, p in enumerate(layer.parameters()):
            p.copy_(1 + torch.randn(p.shape, generator=torch.Generator().manual_seed(50 + i)))
    return layer


TOLERANCE = {
    torch.float64: {"rtol": 1e-8, "atol": 1e-9},
    torch.float32: {"rtol": 1e-4, "atol": 2e-5},
    torch.bfloat16: {"rtol": 4e-2, "atol": 6e-2},
}


@pytest.mark.parametrize("shape", [(9, 6), (5, 6, 4)], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, None])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: str(d).removeprefix("torch."))
def test_steps_are_those_of_whitening_in_numpy(shape, groups, momentum, dtype):
    eps, parts = 1e-3, np.split(np.arange(6), groups)
    layer = made(6, groups, eps=eps, momentum=momentum, dtype=dtype)
    gamma, beta = (p.detach().double().numpy()[:, None] for p in layer.parameters())
    means, matrices = np.zeros(6), np.stack([np.eye(6 // groups)] * groups)
    for step in range(3):
        x = normal(*shape, seed=step, dtype=dtype).requires_grad_()
        dy = normal(*shape, seed=step + 90, dtype=dtype)
        layer.zero_grad()
        y = layer(x)
        y.backward(dy)
        assert y.dtype == x.grad.dtype == layer.weight.grad.dtype == dtype
        given, dy_np = (t.detach().double().numpy().reshape(*shape[:2], -1) for t in (x, dy))
        done = [whitening.whitening_forward(given[:, p], eps=eps) for p in parts]
        z = np.concatenate([z for z, _ in done], 1)
        dz = gamma * dy_np
        backward = whitening.whitening_backward
        dx = [backward(dz[:, p], cache) for p, (_, cache) in zip(parts, done, strict=True)]
        alpha = 1 / (step + 1) if momentum is None else momentum
        means = means + alpha * (np.concatenate([cache.mean for _, cache in done]) - means)
        matrices = matrices + alpha * (np.stack([cache.matrix for _, cache in done]) - matrices)
        pairs = [
            (y, gamma * z + beta), (x.grad, np.concatenate(dx, 1)),
            (layer.weight.grad, (dy_np * z).sum((0, 2))), (layer.bias.grad, dy_np.sum((0, 2))),
            (layer.running_mean, means), (layer.running_whitening, matrices),
        ]  # fmt: skip
        for mine, right in pairs:
            expected = torch.tensor(right).reshape(mine.shape)
            scale = {"atol": TOLERANCE[dtype]["atol"] * max(expected.abs().max().item(), 1)}
            torch.testing.assert_close(mine.detach().double(), expected, **TOLERANCE[dtype] | scale)
    assert layer.num_batches_tracked == 3
    x = normal(*shape, seed=5, dtype=dtype)
    given = x.double().numpy().reshape(*shape[:2], -1) - means[:, None]
    z = [np.einsum("npl,pq->nql", given[:, p], w) for p, w in zip(parts, matrices, strict=True)]
    expected = torch.tensor(gamma * np.concatenate(z, 1) + beta).reshape(shape)
    tolerance = TOLERANCE[dtype] | {"atol": TOLERANCE[dtype]["atol"] * 10}
    torch.testing.assert_close(layer.eval()(x).detach().double(), expected, **tolerance)


def test_a_group_for_each_feature_is_batch_normalization():
    layer, right = made(4, 4).double(), torch.nn.BatchNorm1d(4).double()
    right.load_state_dict(
        {k: v for k, v in layer.state_dict().items() if "g_wh" not in k}, strict=False
    )
    results = []
    for it in (layer, right):
        x = normal(8, 4).requires_grad_()
        y = it(x)
        y.backward(normal(8, 4, seed=1))
        results.append([y, x.grad, *(p.grad for p in it.parameters())])
    torch.testing.assert_close(*results)


def test_outputs_have_the_identity_as_covariance():
    z = nn.DecorrelatedBatchNorm1d(4, eps=1e-12, dtype=torch.float64)(normal(20, 4))
    torch.testing.assert_close(z.mean(0), torch.zeros(4, dtype=z.dtype))
    torch.testing.assert_close(z.T @ z / 20, torch.eye(4, dtype=z.dtype))


EQUAL = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)


@pytest.mark.parametrize("x", [normal(6, 4), EQUAL], ids=["correlated", "equal eigenvalues"])
@pytest.mark.parametrize("groups", [1, 2])
def test_derivatives_of_both_orders_are_numerical_ones(x, groups):
    layer = made(x.shape[1], groups, dtype=torch.float64, track_running_stats=False)
    x = x.clone().requires_grad_()
    assert gradcheck(layer, x, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(layer, x)


def test_third_derivatives_come_from_the_same_two_functions():
    layer = made(2, dtype=torch.float64, track_running_stats=False, eps=1e-2)

    def third(f, t):
        return torch.func.grad(torch.func.grad(torch.func.grad(f)))(t)

    def along(t):
        return layer(EQUAL + t * normal(4, 2)).pow(3).sum()

    t, h = torch.tensor(0.2, dtype=torch.float64), 1e-4
    second = torch.func.grad(torch.func.grad(along))
    torch.testing.assert_close(
        third(along, t), (second(t + h) - second(t - h)) / (2 * h), rtol=1e-5, atol=1e-6
    )


def test_two_derivatives_in_forward_mode_are_refused():
    layer = made(2, dtype=torch.float64, track_running_stats=False)
    with pytest.raises(NotImplementedError, match="forward-mode"):
        torch.func.jacfwd(torch.func.jacfwd(layer))(EQUAL)


def test_nan_passes_through_its_own_group_only():
    x = normal(8, 6)
    x[0, :3] = torch.nan
    y = nn.DecorrelatedBatchNorm1d(6, 2, dtype=torch.float64)(x)
    assert y[:, :3].isnan().all()
    assert y[:, 3:].isfinite().all()


def test_evaluation_amplifies_what_small_batches_cannot_see():
    """What the docstring warns of: as many values as features leave a direction without variance."""
    layer = nn.DecorrelatedBatchNorm1d(8, momentum=None)
    for seed in range(50):
        batch = layer(normal(8, 8, seed=seed, dtype=torch.float32))
    evaluated = layer.eval()(normal(500, 8, seed=99, dtype=torch.float32))
    assert batch.std() < 1.1
    assert evaluated.std() > 10


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="Choose a divisor of 6"):
        nn.DecorrelatedBatchNorm1d(6, 4)
    with pytest.raises(TypeError, match="groups is"):
        nn.DecorrelatedBatchNorm1d(6, 1.5)
    with pytest.raises(ValueError, match="num_features is 0"):
        nn.DecorrelatedBatchNorm1d(0)
    with pytest.raises(ValueError, match=r"input.flatten\(2\)"):
        nn.DecorrelatedBatchNorm1d(3)(torch.randn(2, 3, 4, 4))


def test_without_running_statistics_evaluation_takes_the_batch():
    layer = nn.DecorrelatedBatchNorm1d(3, track_running_stats=False)
    x = normal(8, 3, dtype=torch.float32)
    assert list(layer.state_dict()) == ["weight", "bias"]
    torch.testing.assert_close(layer.eval()(x), layer.train()(x))


def test_the_layer_shows_its_settings():
    assert repr(nn.DecorrelatedBatchNorm1d(6, 2)) == (
        "DecorrelatedBatchNorm1d(6, groups=2, eps=1e-05, momentum=0.1, affine=True, "
        "track_running_stats=True)"
    )
