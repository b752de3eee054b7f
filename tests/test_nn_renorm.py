"""Batch Renormalization against the paper's algorithm and gradient in NumPy, and against Keras."""

import math
import os

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from bnlab import nn

os.environ.setdefault("KERAS_BACKEND", "jax")
# Forward-mode derivatives of torch script some of its own decompositions at first use.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


def normal(*shape, seed=0, dtype=torch.float64):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1 + 2 * drawn).to(dtype)


def layer_of(shape, dtype=torch.float64, **options):
    kind = nn.BatchRenorm2d if len(shape) == 4 else nn.BatchRenorm1d
    layer = kind(shape[1], dtype=dtype, **options)
    with torch.no_grad():
        for i, p in enumerate(layer.parameters()):
            p.copy_(normal(*p.shape, seed=50 + i))
    return layer


def paper(x, dy, gamma, beta, mu, sigma, *, eps, r_max, d_max):
    """Algorithm 1 of Ioffe 2017 and its gradients, in NumPy; the features are axis 1."""
    axes, tail = (0, *range(2, x.ndim)), (1, -1, *(1,) * (x.ndim - 2))
    m = x.size // x.shape[1]
    mu_B = x.mean(axes)
    sigma_B = np.sqrt(eps + ((x - mu_B.reshape(tail)) ** 2).mean(axes))
    r = np.clip(sigma_B / sigma, 1 / r_max, r_max)
    d = np.clip((mu_B - mu) / sigma, -d_max, d_max)
    plain = (x - mu_B.reshape(tail)) / sigma_B.reshape(tail)
    x_hat = plain * r.reshape(tail) + d.reshape(tail)
    y = gamma.reshape(tail) * x_hat + beta.reshape(tail)
    dx_hat = dy * gamma.reshape(tail)
    dsigma_B = (dx_hat * (x - mu_B.reshape(tail))).sum(axes) * -r / sigma_B**2
    dmu_B = dx_hat.sum(axes) * -r / sigma_B
    dx = (
        dx_hat * (r / sigma_B).reshape(tail)
        + dsigma_B.reshape(tail) * (x - mu_B.reshape(tail)) / (m * sigma_B.reshape(tail))
        + dmu_B.reshape(tail) / m
    )
    return y, dx, (dy * x_hat).sum(axes), dy.sum(axes), mu_B, sigma_B


SHAPES = [(6, 3), (4, 3, 5), (3, 3, 4, 2)]
LIMITS = [(1.0, 0.0), (1.3, 0.4), (3.0, 5.0), (math.inf, math.inf)]
TOLERANCE = {
    torch.float64: {"rtol": 1e-8, "atol": 1e-9},
    torch.float32: {"rtol": 1e-4, "atol": 2e-5},
    torch.bfloat16: {"rtol": 4e-2, "atol": 6e-2},
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("momentum", [0.1, 0.7, 0.0, 1.0, None])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: str(d).removeprefix("torch."))
def test_steps_are_those_of_the_paper(shape, limits, momentum, dtype):
    eps, (r_max, d_max) = 1e-2, limits
    options = {"eps": eps, "momentum": momentum, "r_max": r_max, "d_max": d_max}
    layer = layer_of(shape, dtype, **options)
    gamma, beta = (p.detach().double().numpy() for p in layer.parameters())
    mu, sigma = np.zeros(3), np.sqrt(np.ones(3) + eps)
    for step in range(4):
        x = normal(*shape, seed=step, dtype=dtype).requires_grad_()
        dy = normal(*shape, seed=step + 90, dtype=dtype)
        layer.zero_grad()
        y = layer(x)
        y.backward(dy)
        assert y.dtype == x.grad.dtype == layer.weight.grad.dtype == dtype
        *expected, mu_B, sigma_B = paper(
            x.detach().double().numpy(), dy.double().numpy(), gamma, beta, mu, sigma,
            eps=eps, r_max=r_max, d_max=d_max,
        )  # fmt: skip
        alpha = 1 / (step + 1) if momentum is None else momentum
        mu, sigma = mu + alpha * (mu_B - mu), sigma + alpha * (sigma_B - sigma)
        found = [y, x.grad, layer.weight.grad, layer.bias.grad]
        stored = [layer.running_mean, (layer.running_var.double() + eps).sqrt()]
        for mine, right in zip(found + stored, [*expected, mu, sigma], strict=True):
            scale = {"atol": TOLERANCE[dtype]["atol"] * max(np.abs(right).max(), 1)}
            tolerance = TOLERANCE[dtype] | scale
            torch.testing.assert_close(mine.detach().double(), torch.tensor(right), **tolerance)
        if dtype == torch.bfloat16:  # go on from the rounded state
            mu, sigma = (t.double().numpy() for t in stored)
    assert layer.num_batches_tracked == 4


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_without_limits_training_gives_what_evaluation_gives(affine, bias, shape):
    layer = layer_of(shape, affine=affine, bias=bias, r_max=math.inf, d_max=math.inf)
    for step in range(3):
        before = layer_of(shape, affine=affine, bias=bias).eval()
        before.load_state_dict(layer.state_dict())
        x = normal(*shape, seed=step)
        torch.testing.assert_close(layer(x), before(x))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_with_r_max_1_and_d_max_0_it_is_batch_normalization(shape):
    layer = layer_of(shape, r_max=1, d_max=0)
    right = torch.nn.BatchNorm1d(3).double() if len(shape) < 4 else torch.nn.BatchNorm2d(3).double()
    right.load_state_dict(layer.state_dict())
    results = []
    for it in (layer, right):
        x = normal(*shape, seed=1).requires_grad_()
        y = it(x)
        y.backward(normal(*shape, seed=2))
        results.append([y, x.grad, *(p.grad for p in it.parameters())])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("far", [True, False])
def test_the_gradient_is_right_where_the_corrections_are_at_their_limits(far):
    """There they are true constants, so that a numerical derivative agrees."""
    limits = {"r_max": 1.5, "d_max": 0.5} if far else {"r_max": 1, "d_max": 0}
    layer = layer_of((5, 3), momentum=0.0, **limits)
    if far:
        layer.running_mean.fill_(100.0)
        layer.running_var.fill_(1e-4)
    x = normal(5, 3).requires_grad_()
    gamma, beta = (p.detach().requires_grad_() for p in layer.parameters())

    def call(x, gamma, beta):
        return torch.func.functional_call(layer, {"weight": gamma, "bias": beta}, (x,))

    assert gradcheck(call, (x, gamma, beta), check_forward_ad=True)


def test_the_gradient_takes_r_and_d_as_constants():
    """Without limits y is an affine map of x, whose true derivative has no projections."""
    layer = layer_of((6, 3), r_max=math.inf, d_max=math.inf)
    x = normal(6, 3).requires_grad_()
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.zeros_like(x))


def test_the_schedule_is_the_papers():
    steps = (0, 5000, 15_000, 22_500, 25_000, 40_000, 10**6)
    limits = [nn.renorm_limits(step) for step in steps]
    assert limits[0] == limits[1] == (1, 0)
    assert limits[2][1] == 2.5
    assert limits[3][0] == 2
    assert limits[4][1] == limits[6][1] == 5
    assert limits[5] == limits[6] == (3, 5)
    with pytest.raises(ValueError, match="step is -1"):
        nn.renorm_limits(-1)


def test_the_limits_may_change_between_steps():
    layer = layer_of((6, 3))
    changed, x = layer_of((6, 3)), normal(6, 3)
    changed.r_max, changed.d_max = 1.0, 0.0
    expected = torch.nn.functional.batch_norm(
        x, None, None, layer.weight, layer.bias, training=True
    )
    torch.testing.assert_close(changed(x), expected)
    assert not torch.allclose(layer(x), expected)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"r_max": 0.5}, ValueError, "r_max is 0.5"),
        ({"d_max": -1}, ValueError, "d_max is -1"),
        ({"d_max": math.nan}, ValueError, "d_max is nan"),
        ({"r_max": "3"}, TypeError, "r_max is '3'"),
        ({"track_running_stats": False}, ValueError, "For none of them use BatchNorm"),
    ],
)
def test_bad_settings_are_refused(options, error, says):
    with pytest.raises(error, match=says):
        nn.BatchRenorm1d(3, **options)


def test_missing_statistics_are_refused():
    layer = nn.BatchRenorm1d(3)
    layer.running_mean = layer.running_var = None
    with pytest.raises(RuntimeError, match="has no running_mean"):
        layer(torch.randn(6, 3))


# ---- Keras --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    keras = pytest.importorskip("keras", reason="install keras to compare with it")
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 13):
        pytest.skip("this version of Keras has no renorm: pip install -U keras")
    if keras.backend.backend() != "jax":
        pytest.skip("the gradient of Keras is taken through JAX: KERAS_BACKEND=jax")
    return keras


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("shape", [(6, 3), (3, 3, 4, 2)], ids=str)
def test_outputs_gradients_and_averages_are_those_of_keras(keras, limits, shape):
    import jax

    r_max, d_max = limits
    clipping = {"rmax": r_max, "rmin": 1 / r_max, "dmax": d_max}
    settings = {"momentum": 0.7, "renorm_momentum": 0.7, "epsilon": 1e-2, "axis": 1}
    theirs = keras.layers.BatchNormalization(renorm=True, renorm_clipping=clipping, **settings)
    theirs.build(shape)
    mine = layer_of(shape, torch.float32, eps=1e-2, momentum=0.3, r_max=r_max, d_max=d_max)
    start = {"gamma": mine.weight.detach().numpy(), "beta": mine.bias.detach().numpy()}
    start |= dict.fromkeys(("moving_stddev", "renorm_stddev"), np.full(3, math.sqrt(1.01)))
    for weight in theirs.weights:
        weight.assign(start.get(weight.name, weight.value))
    assert set(start) <= {weight.name for weight in theirs.weights}
    trained = [w.value for w in theirs.trainable_variables]
    state = [w.value for w in theirs.non_trainable_variables]
    for step in range(3):
        x, dy = (normal(*shape, seed=s, dtype=torch.float32) for s in (step, step + 9))

        def loss(trained, x, state=state, dy=dy):
            y, moved = theirs.stateless_call(trained, state, x, training=True)
            return (y * dy.numpy()).sum(), (y, moved)

        grads, (y, state) = jax.grad(loss, (0, 1), has_aux=True)(trained, x.numpy())
        mine.zero_grad()
        x.requires_grad_()
        ours = mine(x)
        ours.backward(dy)
        names = [w.name for w in theirs.non_trainable_variables]
        moved = dict(zip(names, state, strict=True))
        pairs = [
            (ours, y), (x.grad, grads[1]), (mine.weight.grad, grads[0][0]), (mine.bias.grad, grads[0][1]),
            (mine.running_mean, moved["moving_mean"]), (mine.running_mean, moved["renorm_mean"]),
            (mine.running_var, moved["moving_variance"]),
        ]  # fmt: skip
        for a, b in pairs:
            np.testing.assert_allclose(a.detach(), b, rtol=2e-4, atol=2e-5)
