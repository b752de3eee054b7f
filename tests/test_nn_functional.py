"""batch_norm against torch's own over the whole product of options, and where torch is not enough."""

import contextlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from bnlab import kernels, nn, reference
from bnlab.nn import functional as ours

# Forward-mode derivatives of torch script some of its own decompositions at first use.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

theirs = torch.nn.functional


@pytest.fixture(params=["eager", "kernels"], autouse=True, scope="module")
def arithmetic(request):
    """Run every test with the kernels, too."""
    if request.param == "kernels" and not kernels.available():
        pytest.skip("the kernels need numba: pip install numba")
    with kernels.enable(request.param == "kernels"):
        yield


TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
U32 = 2.0**-23

SHAPES = {
    "NC": (6, 3),
    "NCL": (4, 3, 5),
    "NCHW": (2, 3, 4, 3),
    "NCDHW": (2, 3, 2, 2, 3),
    "6-D": (2, 3, 2, 1, 2, 2),
    "m=2": (2, 3),
    "N=1": (1, 3, 4),
    "C=1": (5, 1),
    "no rows": (0, 3),
    "no positions": (4, 3, 0),
}
TOLERANCE = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-9},
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
    torch.float16: {"rtol": 1e-2, "atol": 1e-2},
    torch.bfloat16: {"rtol": 5e-2, "atol": 5e-2},
}


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def statistics(channels, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    return (
        torch.randn(channels, generator=generator, dtype=torch.float64).to(dtype),
        (torch.rand(channels, generator=generator, dtype=torch.float64) + 0.5).to(dtype),
    )


def run(module, shape, dtype, params, *, weight, bias, tracked, training, momentum=0.1, eps=1e-5):
    """Return everything a call produces: output, gradients and moved statistics."""
    channels = shape[1]
    x = (2 + 3 * normal(*shape)).to(dtype).requires_grad_()
    gamma = normal(channels, seed=1).to(params).requires_grad_() if weight else None
    beta = normal(channels, seed=2).to(params).requires_grad_() if bias else None
    mean, var = statistics(channels, params) if tracked else (None, None)
    y = module.batch_norm(x, mean, var, gamma, beta, training, momentum, eps)
    leaves = [leaf for leaf in (x, gamma, beta) if leaf is not None]
    grads = torch.autograd.grad(y, leaves, normal(*shape, seed=3).to(dtype))
    return [y.detach(), *grads, *([mean, var] if tracked else [])]


@pytest.mark.parametrize(
    ("dtype", "params"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
    ids=lambda dtype: str(dtype).removeprefix("torch."),
)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("weight", [True, False], ids=["weight", "no weight"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    ("training", "tracked"), [(True, True), (True, False), (False, True)],
    ids=["train", "train untracked", "eval"],
)  # fmt: skip
def test_everything_equals_torch(dtype, params, shape, weight, bias, training, tracked):
    options = {"weight": weight, "bias": bias, "training": training, "tracked": tracked}
    mine = run(ours, shape, dtype, params, **options)
    right = run(theirs, shape, dtype, params, **options)
    for a, b in zip(mine, right, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, **TOLERANCE[dtype])


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.9, 1.0, 1])
@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.5, 2])
@pytest.mark.parametrize("training", [True, False])
def test_momentum_and_eps_mean_what_torch_means(momentum, eps, training):
    options = {"weight": True, "bias": True, "tracked": True, "training": training}
    results = [
        run(f, (4, 3, 5), torch.float64, torch.float64, momentum=momentum, eps=eps, **options)
        for f in (ours, theirs)
    ]
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 4), st.integers(0, 99))
def test_agrees_with_the_independent_numpy_reference(n, channels, length, seed):
    shape = (n, channels, length) if length else (n, channels)
    x, dy = normal(*shape, seed=seed), normal(*shape, seed=seed + 1)
    gamma, beta = normal(channels, seed=seed + 2), normal(channels, seed=seed + 3)
    y, cache = reference.batch_norm_forward(x.numpy(), gamma.numpy(), beta.numpy())
    expected = reference.batch_norm_backward(dy.numpy(), cache)
    leaves = [t.clone().requires_grad_() for t in (x, gamma, beta)]
    mine = ours.batch_norm(leaves[0], None, None, *leaves[1:], training=True)
    np.testing.assert_allclose(mine.detach(), y, rtol=1e-9, atol=1e-9)
    for a, b in zip(torch.autograd.grad(mine, leaves, dy), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


# ---- values worked out by hand ------------------------------------------------------------------


def test_the_variance_inside_is_biased_and_eps_is_inside_the_root():
    y = ours.batch_norm(torch.tensor([[0.0], [2.0]]), None, None, training=True, eps=3.0)
    assert y.flatten().tolist() == [-0.5, 0.5]  # 1 / sqrt(1 + 3)
    mean, var = torch.zeros(1), torch.ones(1)
    y = ours.batch_norm(torch.tensor([[1.0]]), mean, var, eps=3.0)
    assert y.item() == 0.5


def test_the_stored_variance_is_unbiased_and_momentum_weighs_the_new_batch():
    mean, var = torch.tensor([10.0]), torch.tensor([4.0])
    ours.batch_norm(torch.tensor([[0.0], [2.0]]), mean, var, training=True, momentum=0.25)
    assert mean.item() == 0.75 * 10 + 0.25 * 1
    assert var.item() == 0.75 * 4 + 0.25 * 2


def test_the_statistics_carry_gradient():
    x = normal(8, 3).requires_grad_()
    dx = torch.autograd.grad(ours.batch_norm(x, None, None, training=True), x, normal(8, 3, seed=1))
    torch.testing.assert_close(dx[0].sum(0), torch.zeros(3, dtype=torch.float64))


def test_features_are_axis_1_also_of_sequences():
    x = normal(4, 3, 3) * torch.tensor([1.0, 10.0, 100.0])[:, None]
    y = ours.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(y.mean((0, 2)), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(
        y.var((0, 2), correction=0), torch.ones(3, dtype=torch.float64), rtol=1e-4, atol=0
    )


# ---- derivatives --------------------------------------------------------------------------------

CASES = [
    (shape, training, weight, bias)
    for shape in [(5, 2), (2, 2, 3)]
    for training in (True, False)
    for weight, bias in itertools.product((True, False), repeat=2)
]


@pytest.mark.parametrize(("shape", "training", "weight", "bias"), CASES)
def test_first_and_second_derivatives_in_every_mode(shape, training, weight, bias):
    present = (True, weight, bias)
    tensors = [normal(*shape), 1 + normal(2, seed=1) / 4, normal(2, seed=2)]
    inputs = [t.requires_grad_() for t, there in zip(tensors, present, strict=True) if there]
    running = (None, None) if training else statistics(2)

    def f(x, *rest):
        rest = list(rest)
        gamma = rest.pop(0) if weight else None
        beta = rest.pop(0) if bias else None
        return ours.batch_norm(x, *running, gamma, beta, training, eps=1e-3)

    batched = {"check_batched_grad": True}
    assert gradcheck(f, inputs, check_forward_ad=True, **batched)
    assert gradgradcheck(f, inputs, check_fwd_over_rev=True, **batched)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "requires", [r for r in itertools.product((True, False), repeat=3) if any(r)]
)
def test_gradients_of_some_arguments_only(requires, training):
    results = []
    for module in (ours, theirs):
        leaves = [normal(6, 3), normal(3, seed=1), normal(3, seed=2)]
        leaves = [t.requires_grad_(r) for t, r in zip(leaves, requires, strict=True)]
        module.batch_norm(leaves[0], *statistics(3), *leaves[1:], training).backward(
            normal(6, 3, seed=4)
        )
        results.append([t.grad for t in leaves])
    for mine, right in zip(*results, strict=True):
        assert (mine is None) == (right is None)
        if mine is not None:
            torch.testing.assert_close(mine, right)


def by_definition(x):
    var, mean = torch.var_mean(x, 0, correction=0)
    return (x - mean) / (var + 1e-5).sqrt()


@pytest.mark.parametrize(
    "transform",
    [
        torch.func.grad,
        torch.func.jacrev,
        torch.func.jacfwd,
        torch.func.hessian,
        lambda f: torch.func.jacrev(torch.func.jacrev(f)),
        lambda f: torch.func.jacrev(torch.func.jacfwd(f)),  # torch's own layer is wrong here
    ],
    ids=["grad", "jacrev", "jacfwd", "hessian", "rev of rev", "rev of fwd"],
)
def test_function_transforms_equal_those_of_the_definition(transform):
    x = normal(5, 2)
    mine = transform(lambda x: ours.batch_norm(x, None, None, training=True).pow(3).sum())(x)
    right = transform(lambda x: by_definition(x).pow(3).sum())(x)
    torch.testing.assert_close(mine, right)


@pytest.mark.parametrize("create_graph", [True, False])
def test_the_gradient_of_a_dual_number_carries_its_tangent(create_graph):
    x, v, dy = normal(5, 2), normal(5, 2, seed=1), normal(5, 2, seed=2)

    def loss(x):
        return (dy * by_definition(x)).sum()

    expected = torch.func.jvp(torch.func.grad(loss), (x,), (v,))[1]
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.clone().requires_grad_(), v)
        y = ours.batch_norm(dual, None, None, training=True)
        (dx,) = torch.autograd.grad(y, dual, dy, create_graph=create_graph)
        tangent = torch.autograd.forward_ad.unpack_dual(dx).tangent
    torch.testing.assert_close(tangent, expected)


@pytest.mark.parametrize("training", [True, False])
def test_forward_mode_twice_is_refused_because_pytorch_would_get_it_wrong(training):
    running = (None, None) if training else statistics(2)

    def f(x):
        return ours.batch_norm(x, *running, training=training).pow(3).sum()

    with pytest.raises(NotImplementedError, match=r"Use torch.func.hessian"):
        torch.func.jacfwd(torch.func.jacfwd(f))(normal(5, 2))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mapped", [m for m in itertools.product((0, None), repeat=3) if any(
    axis == 0 for axis in m)])  # fmt: skip
def test_vmap_over_any_arguments_with_and_without_gradient(mapped, training):
    shapes = [(5, 3), (3,), (3,)]
    args = [
        normal(*((4,) if axis == 0 else ()), *shape, seed=i)
        for i, (axis, shape) in enumerate(zip(mapped, shapes, strict=True))
    ]
    running = (None, None) if training else statistics(3)
    results = []
    for module in (ours, theirs):

        def f(x, w, b, module=module):
            return module.batch_norm(x, *running, w, b, training)

        def loss(*args, f=f):
            return f(*args).pow(3).sum()

        results.append(
            (
                torch.vmap(f, in_dims=mapped)(*args),
                torch.vmap(torch.func.grad(loss, (0, 1, 2)), in_dims=mapped)(*args),
            )
        )
    torch.testing.assert_close(*results)


def test_a_tensor_that_outlives_its_transform_is_normalized_like_any_other():
    leaked = []

    def f(x):
        leaked.append(x * 1)
        return leaked[0].sum()

    torch.func.grad(f)(normal(5, 3))
    y = ours.batch_norm(leaked[0], None, None, training=True)
    torch.testing.assert_close(y, by_definition(normal(5, 3)))


def test_vmap_that_would_move_one_statistic_for_many_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"batched tensor.*stack_module_state"):
        torch.vmap(lambda x: ours.batch_norm(x, torch.zeros(3), torch.ones(3), training=True))(
            torch.randn(2, 5, 3)
        )


def test_a_later_training_step_does_not_change_an_earlier_evaluation_gradient():
    mean, var = statistics(3)
    x = normal(6, 3).requires_grad_()
    y = ours.batch_norm(x, mean, var)
    expected = 1 / (var + 1e-5).sqrt()
    ours.batch_norm(x, mean, var, training=True)
    (dx,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(dx, expected.expand(6, 3))


# ---- precision ----------------------------------------------------------------------------------


def exact(x, dy):
    """Return x_hat and dx by float64 arithmetic on exactly the same numbers."""
    x, dy = x.double(), dy.double()
    axes = [0, *range(2, x.dim())]
    c = x - x.mean(axes, keepdim=True)
    c = c - c.mean(axes, keepdim=True)
    inv_std = (c.square().mean(axes, keepdim=True) + 1e-5).rsqrt()
    x_hat, dy = c * inv_std, dy - dy.mean(axes, keepdim=True)
    return x_hat, inv_std * (dy - x_hat * (dy * x_hat).mean(axes, keepdim=True))


@pytest.mark.parametrize("mean", [0.0, 1.0, -1e3, 1e4, 1e5, 1e6])
@pytest.mark.parametrize("shape", [(2, 16), (4096, 4), (65536, 2), (10**6, 1), (32, 4, 28, 28)])
def test_error_is_a_few_units_in_the_last_place_whatever_the_mean(mean, shape):
    x = (normal(*shape, seed=1) + mean).float().requires_grad_()
    dy = normal(*shape, seed=2).float()
    x_hat, dx = exact(x.detach(), dy)
    y = ours.batch_norm(x, None, None, training=True)
    (mine,) = torch.autograd.grad(y, x, dy)
    assert (y - x_hat).abs().max() <= 8 * U32 * x_hat.abs().max()
    # At m = 2 dx is 1e-5 of its terms, so their size is what rounding errors are measured by.
    terms = (x_hat.var() / x.detach().double().var()).sqrt() * dy.abs().max()
    assert (mine - dx).abs().max() <= 32 * U32 * max(dx.abs().max(), terms)


@pytest.mark.parametrize("mean", [0.0, -1e3, 1e6])
@pytest.mark.parametrize("shape", [(2, 16), (4096, 4), (32, 4, 28, 28)])
def test_what_torch_maps_over_is_as_exact(mean, shape):
    x, dy = (normal(*shape, seed=1) + mean).float(), normal(*shape, seed=2).float()
    x_hat, dx = exact(x, dy)

    def both(x):
        y, back = torch.func.vjp(lambda x: ours.batch_norm(x, None, None, training=True), x)
        return y, back(dy)[0]

    y, mine = (v[0] for v in torch.vmap(both)(x[None]))
    assert (y - x_hat).abs().max() <= 8 * U32 * x_hat.abs().max()
    terms = (x_hat.var() / x.double().var()).sqrt() * dy.abs().max()
    assert (mine - dx).abs().max() <= 32 * U32 * max(dx.abs().max(), terms)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("order", ["sorted", "outlier", "skewed"])
def test_the_bound_holds_for_awkward_data(order, scale):
    x = normal(50_000, 1).exp() if order == "skewed" else normal(50_000, 1)
    if order == "sorted":
        x = x.sort(0).values
    if order == "outlier":
        x[17] = 1e4
    x = (scale * (x + 1e3)).float()
    x_hat, _ = exact(x, x)
    y = ours.batch_norm(x, None, None, training=True)
    assert (y - x_hat).abs().max() <= 8 * U32 * x_hat.abs().max()


@pytest.mark.parametrize("mean", [0.0, 1e4, 1e6])
def test_running_statistics_are_as_exact(mean):
    x = (normal(65536, 2) + mean).float()
    stored = torch.zeros(2), torch.ones(2)
    ours.batch_norm(x, *stored, training=True, momentum=1.0)
    torch.testing.assert_close(stored[0].double(), x.double().mean(0), rtol=U32, atol=U32)
    torch.testing.assert_close(stored[1].double(), x.double().var(0), rtol=2 * U32, atol=0)


class NoFloat64(TorchDispatchMode):
    """Refuse float64 tensors, as Apple's devices do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, tuple | list) else [results]:
            if isinstance(result, torch.Tensor) and result.dtype is torch.float64:
                raise TypeError(f"{func} makes a float64 tensor, which this device does not have")
        return results


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mean", [0.0, -1e3, 1e6])
@pytest.mark.parametrize("shape", [(20, 16), (4096, 4), (32, 4, 28, 28)])
def test_devices_without_float64_get_the_same_precision(shape, mean, training, monkeypatch):
    x, dy = (3 * normal(*shape, seed=1) + mean).float(), normal(*shape, seed=2).float()
    x[0] += 100  # the first value of a feature is far from the others
    gamma, beta = normal(shape[1], seed=3).float(), normal(shape[1], seed=4).float()

    def results():
        leaves = [t.clone().requires_grad_() for t in (x, gamma, beta)]
        running = (mean + torch.zeros(shape[1]), 9 * torch.ones(shape[1]))
        y = ours.batch_norm(leaves[0], *running, *leaves[1:], training, 1.0)
        return y, *torch.autograd.grad(y, leaves, dy), *running

    right = results()
    monkeypatch.setattr("bnlab.nn._tensors.WITHOUT_FLOAT64", ("cpu",))
    with NoFloat64():
        found = results()
    for a, b in zip(found, right, strict=True):
        assert a.dtype is torch.float32
        assert (a - b).abs().max() <= 2.0**-18 * b.abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_layers_do_without_float64(dtype, monkeypatch):
    monkeypatch.setattr("bnlab.nn._tensors.WITHOUT_FLOAT64", ("cpu",))
    x, results = normal(60, 3).to(dtype), []
    for layer in (nn.BatchNorm1d(3, momentum=None), torch.nn.BatchNorm1d(3, momentum=None)):
        with NoFloat64() if isinstance(layer, nn.BatchNorm1d) else contextlib.nullcontext():
            for batch in x.split(20):
                y = layer(batch)
            assert y.dtype is dtype
            results.append([y, layer.eval()(x), layer.running_mean, layer.running_var])
    torch.testing.assert_close(*results, **TOLERANCE[dtype])


def test_the_mode_of_the_two_tests_above_does_refuse():
    with NoFloat64(), pytest.raises(TypeError, match="makes a float64 tensor"):
        ours.batch_norm(torch.randn(4, 3), None, None, training=True)


def layouts(x):
    """Yield the same values in other orders of memory."""
    yield "transposed", x.transpose(0, 1).contiguous().transpose(0, 1)
    yield "every second", torch.repeat_interleave(x, 2, dim=0)[::2]
    yield (
        "reversed axes",
        x.permute(*reversed(range(x.dim()))).contiguous().permute(*reversed(range(x.dim()))),
    )
    if x.dim() == 4:
        yield "channels last", x.to(memory_format=torch.channels_last)
    if x.dim() == 5:
        yield "channels last", x.to(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(300, 7), (40, 3, 50), (16, 5, 20, 30), (4, 3, 5, 20, 10)])
def test_layouts_agree_bit_for_bit_and_come_out_as_torch_lays_them_out(shape, training):
    x = 100 + normal(*shape).float()
    dy = normal(*shape, seed=5).float()

    def results(module, x):
        x = x.detach().requires_grad_()
        mean, var = statistics(shape[1], torch.float32)
        y = module.batch_norm(x, mean, var, training=training)
        return y, *torch.autograd.grad(y, x, dy), mean, var

    plain = results(ours, x)
    for a, b in zip(plain, results(ours, x), strict=True):
        assert torch.equal(a, b)
    for name, other in layouts(x):
        mine = results(ours, other)
        for a, b in zip(mine, plain, strict=True):
            assert torch.equal(a, b), name
        right = results(theirs, other)
        assert [t.stride() for t in mine[:2]] == [t.stride() for t in right[:2]], name


def test_thread_counts_agree_bit_for_bit():
    x = (1e3 + normal(20_000, 8)).float().requires_grad_()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            y = ours.batch_norm(x, None, None, training=True)
            results.append((y, *torch.autograd.grad(y, x, normal(20_000, 8, seed=1).float())))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_a_constant_feature_gives_exactly_beta_and_no_gradient():
    x = torch.full((1000, 2), 0.1).requires_grad_()
    y = ours.batch_norm(x, None, None, None, torch.tensor([3.0, 4.0]), training=True)
    assert torch.equal(y, torch.tensor([3.0, 4.0]).expand(1000, 2))
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(dx, torch.zeros_like(x))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("training", [True, False])
def test_nan_and_inf_pass_through_where_torch_lets_them(bad, training):
    x = normal(6, 3)
    x[2, 1] = bad
    results = []
    for module in (ours, theirs):
        running = statistics(3)
        results.append((module.batch_norm(x, *running, training=training), *running))
    torch.testing.assert_close(*results, equal_nan=True)


# ---- refusals -----------------------------------------------------------------------------------

X = torch.ones(4, 3)
ONE, ZERO = torch.ones(3), torch.zeros(3)
SAME_ERRORS = {
    "one value": ((torch.ones(1, 3), None, None), {"training": True}, "Expected more than 1 value"),
    "one pixel": ((torch.ones(1, 3, 1, 1), None, None), {"training": True}, "Expected more than 1 v"),
    "eps 0": ((X, None, None), {"training": True, "eps": 0}, "eps must be positive during training"),
    "eps -1": ((X, ZERO, ONE), {"eps": -1}, "eps must be non-negative"),
    "eps text": ((X, None, None), {"training": True, "eps": "a"}, "eps|supported between instances"),
    "momentum None": ((X, ZERO, ONE), {"training": True, "momentum": None}, "must be float, not None"),
    "momentum text": ((X, ZERO, ONE), {"training": True, "momentum": "a"}, "must be float, not str"),
    "no statistics": ((X, None, None), {}, "running_mean must be defined in evaluation mode"),
    "no variance": ((X, ZERO, None), {}, "running_var must be defined in evaluation mode"),
    "mean alone": ((X, ZERO, None), {"training": True}, "must either both be None or neither"),
    "variance alone": ((X, None, ONE), {"training": True}, "must either both be None or neither"),
    "2 weights": ((X, None, None, ONE[:2]), {"training": True}, "weight should contain 3 elements not 2"),
    "2 biases": ((X, None, None, None, ONE[:2]), {"training": True}, "bias should contain 3 elements not 2"),
    "2 means": ((X, ZERO[:2], ONE), {"training": True}, "running_mean should contain 3 elements not 2"),
    "2 variances": ((X, ZERO, ONE[:2]), {}, "running_var should contain 3 elements not 2"),
    "integers": ((X.long(), None, None), {"training": True}, "\"batch_norm\" not implemented for 'Long|int64'"),
    "bools": ((X.bool(), ZERO, ONE), {}, "\"batch_norm\" not implemented for"),
    "complex": ((X.cfloat(), ZERO, ONE), {}, "\"batch_norm\" not implemented for"),
    "sparse": ((X.to_sparse(), ZERO, ONE), {}, "native_batch_norm|layout"),
    "no axis 1": ((torch.ones(3), None, None), {"training": True}, "Dimension out of range"),
    "double input": ((X.double(), ZERO, ONE), {}, "mixed dtype"),
    "double weight": ((X, ZERO, ONE, ONE.double(), ZERO.double()), {}, "mixed dtype"),
    "half weight": ((X, ZERO, ONE, ONE.half(), ZERO.half()), {}, "mixed dtype"),
    "half and bfloat16": ((X.half(), ZERO.bfloat16(), ONE.bfloat16()), {}, "mixed dtype"),
    "half, half, float": ((X.half(), ZERO, ONE, ONE.half(), ZERO.half()), {}, "mixed dtype|expected scalar type"),
    "double statistics": ((X, ZERO.double(), ONE.double(), ONE, ZERO), {}, "mixed dtype|expected scalar type"),
    "meta input": ((X.to("meta"), ZERO, ONE), {}, "not on the expected device"),
    "mean with gradient": ((X, ZERO.clone().requires_grad_(), ONE), {}, "not differentiable with respect to"),
    "weight a list": ((X, None, None, [1.0, 1.0, 1.0]), {"training": True}, "weight"),
}  # fmt: skip


@pytest.mark.skipif(TORCH < (2, 13), reason="older releases raise fewer errors, and of other types")
@pytest.mark.parametrize(
    ("args", "options", "message"), SAME_ERRORS.values(), ids=SAME_ERRORS.keys()
)
def test_what_torch_refuses_is_refused_by_the_same_type_and_key_phrase(args, options, message):
    for module in (theirs, ours):
        with pytest.raises((Exception), match=message) as caught:
            module.batch_norm(*args, **options)
        if module is theirs:
            expected = type(caught.value)
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("input", "error", "message"),
    [
        ([[1.0], [2.0]], TypeError, r"input is a list; expected a torch.Tensor.*torch.tensor\("),
        (np.ones((4, 3)), TypeError, r"input is a ndarray; expected a torch.Tensor"),
        (torch.ones(4, 0), ValueError, r"shape \(4, 0\), no features on axis 1; expected at least"),
        (torch.tensor(1.0), IndexError, r"shape \(\), expected \(N, C\)"),
    ],
)
def test_where_torch_is_unclear_we_are_not(input, error, message):
    with pytest.raises(error, match=message):
        ours.batch_norm(input, None, None, training=True)


@pytest.mark.parametrize("training", [True, False])
def test_an_empty_tensor_of_one_axis_comes_back_as_in_torch(training):
    for module in (ours, theirs):
        x = torch.empty(0, requires_grad=True)
        y = module.batch_norm(x, None, None, training=training)
        assert y.shape == (0,)
        assert y is not x
        y.sum().backward()
        assert x.grad.shape == (0,)


def test_refused_batches_move_nothing():
    mean, var = statistics(3)
    kept = mean.clone(), var.clone()
    for bad in (torch.ones(1, 3).double(), torch.ones(4, 3)):
        with pytest.raises((ValueError, RuntimeError)):
            ours.batch_norm(bad, mean, var, training=True)
    assert torch.equal(mean, kept[0])
    assert torch.equal(var, kept[1])


def test_parameters_of_other_shapes_with_as_many_values_do():
    flat = normal(3, seed=1).requires_grad_()
    column = flat.detach().reshape(3, 1).requires_grad_()
    outputs, grads = [], []
    for weight in (flat, column):
        y = ours.batch_norm(normal(6, 3), None, None, weight, training=True)
        outputs.append(y)
        grads.append(torch.autograd.grad(y, weight, normal(6, 3, seed=2))[0].flatten())
    assert torch.equal(*outputs)
    assert torch.equal(*grads)


def test_subclasses_of_tensor_are_asked_first():
    asked = []

    class Logged(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            asked.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    x = normal(6, 3)
    y = ours.batch_norm(x.as_subclass(Logged), None, None, training=True)
    assert ours.batch_norm in asked
    assert type(y) is Logged
    assert torch.equal(y.as_subclass(torch.Tensor), ours.batch_norm(x, None, None, training=True))


def test_does_not_lean_on_torchs_own_layers():
    seen = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.add(str(func))
            return func(*args, **(kwargs or {}))

    x = normal(6, 3).requires_grad_()
    with Watch():
        ours.batch_norm(x, *statistics(3), training=True).pow(3).sum().backward()
        ours.batch_norm(x, *statistics(3)).pow(3).sum().backward()
    assert seen
    assert not [name for name in seen if "norm" in name]
