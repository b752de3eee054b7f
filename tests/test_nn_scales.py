"""Every way to compute the layer gives the same numbers, and the right ones, however large x is."""

import pytest
import torch

from bnlab import kernels
from bnlab.nn.functional import batch_norm

# Of the largest value; half precision is computed in float32 and rounded once.
CLOSE = {
    torch.float64: 2.0**-44,
    torch.float32: 2.0**-18,
    torch.bfloat16: 2.0**-8,
    torch.float16: 2.0**-10,
}
SCALES = {
    torch.float32: (1e-30, 1e-25, 1e-20, 1e-19, 1e-10, 1.0, 1e10, 1e18, 1e19, 1e20, 1e25, 1e30),
    torch.bfloat16: (1e-30, 1e-20, 1e-19, 1.0, 1e18, 1e19, 1e20, 1e30),
    torch.float16: (1e-3, 1.0, 1e3),
    torch.float64: (1e-145, 1e-20, 1.0, 1e20, 1e145),
}


def call(x, gamma, beta, running, eps):
    return batch_norm(x, *running, gamma, beta, True, 1.0, eps)


def mapped(x, gamma, beta, running, eps):
    """Compute as inside torch.vmap, which neither the kernels nor operations in place can do."""
    stacked = [t[None] for t in running]
    return torch.vmap(lambda x, *r: call(x, gamma, beta, r, eps))(x[None], *stacked)[0]


def compiled(*args):
    torch.compiler.reset()  # or it gives up after a few values of eps
    return torch.compile(call, fullgraph=True, backend="aot_eager")(*args)


WAYS = {"in place": call, "kernels": call, "mapped": mapped, "compiled": compiled}


def run(way, x, dy, eps):
    """Return y, dx, dgamma, dbeta and the running statistics, which are those of the batch here."""
    if way == "kernels" and not kernels.available():
        pytest.skip("the kernels need numba: pip install numba")
    x, channels = x.clone().requires_grad_(), x.shape[1]
    gamma, beta = (
        torch.linspace(0.5, 2, channels).to(x.dtype),
        torch.linspace(-1, 1, channels).to(x.dtype),
    )
    leaves = x, gamma.requires_grad_(), beta.requires_grad_()
    running = torch.zeros(channels, dtype=x.dtype), torch.ones(channels, dtype=x.dtype)
    with kernels.enable(way == "kernels"):
        y = WAYS[way](x, gamma, beta, running, eps)
        return y.detach(), *torch.autograd.grad(y, leaves, dy), *running


def exact(x, dy, eps):
    """Return the same by the definition in float64, on the same numbers divided by their size."""
    dtype, channels = x.dtype, x.shape[1]
    size = x.double().abs().max()
    x, dy, eps = x.double() / size, dy.double(), eps / size / size
    gamma, beta = (
        torch.linspace(0.5, 2, channels).to(dtype),
        torch.linspace(-1, 1, channels).to(dtype),
    )
    gamma, beta = gamma.double(), beta.double()
    axes, tail = [0, *range(2, x.dim())], (1,) * (x.dim() - 2)
    gamma_, beta_ = (v.reshape(-1, *tail) for v in (gamma, beta))
    var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    inv_std = (var + eps).rsqrt()
    x_hat = (x - mean) * inv_std
    dgamma, dbeta = (dy * x_hat).sum(axes), dy.sum(axes)
    rest = dy - dy.mean(axes, keepdim=True) - x_hat * (dy * x_hat).mean(axes, keepdim=True)
    unbiased = torch.var(x, axes, correction=1)
    dx = gamma_ * inv_std / size * rest
    return gamma_ * x_hat + beta_, dx, dgamma, dbeta, mean.flatten() * size, unbiased * size * size


def assert_right(found, expected):
    for name, a, b in zip(
        ("y", "dx", "dgamma", "dbeta", "mean", "var"), found, expected, strict=True
    ):
        b = b.to(a.dtype).double()  # a variance of 1e40 is infinite in float32
        a, tolerance, tiny = a.double(), CLOSE[a.dtype], torch.finfo(a.dtype).tiny
        largest = b[b.isfinite()].abs().max() if b.isfinite().any() else 0.0
        # Below `tiny` numbers have fewer digits.
        assert ((a == b) | ((a - b).abs() <= tolerance * max(largest, tiny))).all(), (name, a, b)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler about itself
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", SCALES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("small_eps", [False, True], ids=["eps=1e-5", "eps as small as x"])
def test_every_scale(way, dtype, small_eps):
    source = torch.Generator().manual_seed(0)
    scales, shapes = SCALES[dtype], ((50, 3), (4, 3, 5, 2))
    if way == "compiled":  # each takes a second
        scales, shapes = scales[::5], shapes[:1]
    for scale in scales:
        for shape in shapes:
            x = (scale * (3 + torch.randn(shape, generator=source, dtype=torch.float64))).to(dtype)
            dy = torch.randn(shape, generator=source, dtype=torch.float64).to(dtype)
            eps = 1e-3 * scale * scale if small_eps else 1e-5
            assert_right(run(way, x, dy, eps), exact(x, dy, eps))


@pytest.mark.parametrize("way", ["in place", "kernels", "mapped"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_of_different_scales_do_not_touch_each_other(way, dtype):
    scale = torch.tensor([1e-30, 1.0, 1e30], dtype=torch.float64)
    x = (scale * torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double()).to(dtype)
    y = run(way, x, torch.ones_like(x), 1e-70)[0].double()
    expected = torch.cat([exact(x[:, [i]], x[:, [i]], 1e-70)[0] for i in range(3)], 1)
    gamma, beta = torch.linspace(0.5, 2, 3).to(dtype), torch.linspace(-1, 1, 3).to(dtype)
    expected = (expected + 1) / 0.5 * gamma + beta  # one feature has gamma 0.5 and beta -1
    assert ((y - expected).abs() <= CLOSE[dtype] * expected.abs().max()).all()


@pytest.mark.parametrize("way", ["in place", "kernels", "mapped"])
@pytest.mark.parametrize("scale", [1e160, 1e300])
def test_a_variance_that_float64_cannot_hold_gives_beta_in_every_way_as_in_torch(way, scale):
    x = torch.tensor([[1.0, 2.0], [-1.0, 5.0], [3.0, 8.0]], dtype=torch.float64) * scale
    y, dx, dgamma, dbeta, _, var = run(way, x, torch.ones_like(x), 1e-5)
    right = torch.nn.functional.batch_norm(x, None, None, training=True)
    assert torch.equal(y, torch.tensor([-1.0, 1.0]).double().expand(3, 2))
    assert torch.equal(right, torch.zeros_like(x))
    assert not dx.any()
    assert not dgamma.any()
    assert torch.equal(dbeta, torch.full((2,), 3.0).double())
    assert var.isinf().all()


@pytest.mark.parametrize("way", ["in place", "kernels"])
def test_a_running_variance_that_overflows_stays_infinite_as_in_torch(way):
    results = []
    for module in (batch_norm, torch.nn.functional.batch_norm):
        running = torch.zeros(1), torch.ones(1)
        with kernels.enable(way == "kernels" and kernels.available()):
            for scale in (1e25, 1.0):
                module(scale * torch.tensor([[1.0], [-1.0], [3.0]]), *running, training=True)
            results.append([*running, module(torch.ones(2, 1), *running)])
    torch.testing.assert_close(*results)
    assert results[0][1].isinf().all()
