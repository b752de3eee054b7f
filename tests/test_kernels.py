"""The fused kernels against the NumPy reference and float64, and the switch that turns them on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from bnlab import kernels, nn, reference

pytestmark = pytest.mark.skipif(
    not kernels.available(), reason="the kernels need numba: pip install numba"
)

U = {np.float32: 2.0**-23, np.float64: 2.0**-48}  # float64 sums in float64: a few digits less
SHAPES = [(2, 3), (60, 100), (1000, 1), (5000, 7), (4, 3, 5), (1, 2, 9), (8, 3, 20, 10), (70000, 3)]


def data(shape, dtype=np.float64, seed=0, mean=5.0):
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(mean, 2, shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    gamma, beta = rng.normal(size=(2, shape[1])).astype(dtype)
    return x, dy, gamma, beta


def wide(*arrays):
    return [a.astype(np.float64) for a in arrays]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", [np.float32, np.float64], ids=["gamma32", "gamma64"])
def test_the_functions_on_arrays_equal_the_reference(shape, dtype, kind):
    x, dy, gamma, beta = data(shape, dtype)
    kept = x.copy(), dy.copy()
    gamma, beta = gamma.astype(kind), beta.astype(kind)
    y, cache = reference.batch_norm_forward(*wide(x, gamma, beta))
    expected = reference.batch_norm_backward(dy.astype(np.float64), cache)
    mine, saved = kernels.batch_norm_forward(x, gamma, beta)
    assert (mine.dtype, saved.dtype, saved.m, saved.eps) == (dtype, dtype, cache.m, cache.eps)
    np.testing.assert_allclose(saved.mu_B, cache.mu_B, rtol=1e-12)
    np.testing.assert_allclose(saved.var_B, cache.var_B, rtol=1e-10)
    np.testing.assert_allclose(saved.inv_std, cache.inv_std, rtol=1e-10)
    np.testing.assert_allclose(mine, y, rtol=0, atol=8 * U[dtype] * abs(y).max())
    grads = kernels.batch_norm_backward(dy, saved)
    assert [a.dtype for a in grads] == [dtype, kind, kind]
    for a, b in zip(grads, expected, strict=True):
        u = max(U[dtype], U[a.dtype.type])
        np.testing.assert_allclose(a, b, rtol=0, atol=64 * u * abs(b).max() + 1e-5 * u)
    again = kernels.batch_norm_inference(x, gamma, beta, saved.mu_B, saved.var_B)
    assert np.array_equal(again, mine)
    assert np.array_equal((x, dy), kept)


def test_their_cache_serves_the_reference():
    x, dy, gamma, beta = data((6, 3, 4))
    caches = [m.batch_norm_forward(x, gamma, beta)[1] for m in (kernels, reference)]
    for function in (
        lambda c: reference.batch_norm_backward(dy, c),
        lambda c: reference.update_running_statistics(np.zeros(3), np.ones(3), c),
        lambda c: (c.x_hat, c.inv_std),
    ):
        for a, b in zip(*map(function, caches), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@settings(max_examples=30)
@given(st.integers(2, 70), st.integers(1, 40), st.integers(0, 6), st.integers(0, 99))
def test_any_shape_equals_the_reference(n, channels, length, seed):
    shape = (n, channels, length) if length else (n, channels)
    x, dy, gamma, beta = data(shape, seed=seed)
    y, cache = reference.batch_norm_forward(x, gamma, beta)
    mine, saved = kernels.batch_norm_forward(x, gamma, beta)
    np.testing.assert_allclose(mine, y, rtol=1e-9, atol=1e-9)
    expected = reference.batch_norm_backward(dy, cache)
    for a, b in zip(kernels.batch_norm_backward(dy, saved), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "shape", [(60, 100), (3000, 50), (5000, 7), (8, 3, 70, 90), (4, 40, 30, 30)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_number_of_threads_gives_the_same_bits(shape, dtype):
    x, dy, gamma, beta = data(shape, dtype)
    results = []
    for threads in (1, 2, 3, 2):
        y, c = kernels.batch_norm_forward(x, gamma, beta, threads=threads)
        fixed = kernels.batch_norm_inference(x, gamma, beta, c.mu_B, c.var_B, threads=threads)
        results.append((y, c.mu_B, c.var_B, *kernels.batch_norm_backward(dy, c), fixed))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(a, b)


def test_threads_are_those_of_torch():
    from bnlab.kernels._entry import parallel

    if sys.platform == "linux" and "OpenMP" in torch.__config__.parallel_info():
        assert parallel() is not None


@pytest.mark.parametrize("first", [1e4, -1e6, 3e8])
@pytest.mark.parametrize("shape", [(50_000, 3), (50, 3, 1000)])
def test_a_first_value_far_from_all_others_costs_no_digits(first, shape):
    x = data(shape, np.float32, mean=1e3)[0]
    x[0, :, ...] = first
    exact = x.astype(np.float64)
    axes = (0, *range(2, x.ndim))
    keep = exact - exact.mean(axes, keepdims=True)
    x_hat = keep / np.sqrt((keep**2).mean(axes, keepdims=True) + 1e-5)
    y, _ = kernels.batch_norm_forward(x, np.ones(3), np.zeros(3))
    assert abs(y - x_hat).max() <= 8 * U[np.float32] * abs(x_hat).max()


X, ONE, ZERO = np.arange(12, dtype=np.float32).reshape(4, 3), np.ones(3), np.zeros(3)
BAD = X.copy()
BAD[1, 2] = np.nan


def forward(x=X, gamma=ONE, beta=ZERO, **options):
    return kernels.batch_norm_forward(x, gamma, beta, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: forward([[1.0]]), TypeError, "x is a list; expected a NumPy array"),
        (lambda: forward(X.astype(int)), TypeError, "x has dtype int64; expected a floating"),
        (lambda: forward(X.astype("f2")), TypeError, "x has dtype float16; expected float32"),
        (lambda: forward(X.astype(">f4")), TypeError, "x has dtype >f4; expected float32"),
        (lambda: forward(X.T, np.ones(4), np.ones(4)), ValueError, "Use np.ascontiguousarray"),
        (lambda: forward(X[:0]), ValueError, r"shape \(0, 3\), which holds no values"),
        (lambda: forward(X[0]), ValueError, r"shape \(3,\); expected \(N, C\)"),
        (lambda: forward(X[:1]), ValueError, r"shape \(1, 3\), one value per feature"),
        (lambda: forward(gamma=np.ones(2)), ValueError, r"gamma has shape \(2,\); expected \(3"),
        (lambda: forward(beta=[1.0, 2.0, 3.0]), TypeError, "beta is a list"),
        (lambda: forward(eps=-1), ValueError, "eps is -1; expected a finite number of at least 0"),
        (lambda: forward(BAD), ValueError, r"x contains 1 NaN .* index \(1, 2\)"),
        (lambda: forward(X.astype(float) * 1e200), ValueError, r"overflow float64 .*\[0, 1, 2\]"),
        (
            lambda: forward(0 * X + X[0], eps=0),
            ValueError,
            r"variance is 0 for feature\(s\) \[0, 1, 2",
        ),
        (
            lambda: kernels.batch_norm_backward(X.astype(float), forward()[1]),
            ValueError,
            r"dy is float64 of shape \(4, 3\); expected C-contiguous float32",
        ),
        (lambda: kernels.batch_norm_backward(X[:2], forward()[1]), ValueError, r"shape \(2, 3\)"),
        (
            lambda: kernels.batch_norm_backward(np.asfortranarray(X), forward()[1]),
            ValueError,
            "Use np.ascontiguousarray",
        ),
        (lambda: kernels.batch_norm_backward(X.tolist(), forward()[1]), TypeError, "dy is a list"),
        (lambda: kernels.batch_norm_backward(BAD, forward()[1]), ValueError, "dy contains 1 NaN"),
        (
            lambda: kernels.batch_norm_backward(X, reference.batch_norm_forward(X, ONE, ZERO)[1]),
            TypeError,
            "cache is a BatchNormCache; expected the KernelCache .* second",
        ),
        (
            lambda: kernels.batch_norm_inference(X, ONE, ZERO, np.ones(3), np.ones(1)),
            ValueError,
            r"var has shape \(1,\)",
        ),
        (
            lambda: kernels.batch_norm_inference(X, ONE, ZERO, ONE, -ONE),
            ValueError,
            "var is negative",
        ),
        (
            lambda: kernels.batch_norm_inference(X, ONE, ZERO, ONE, ZERO, eps=0),
            ValueError,
            "var is 0",
        ),
    ],
)
def test_bad_arrays_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- the switch ---------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch):
    """Record which kernels run."""
    run, seen = kernels.runner(), []

    def watched(kind, *args, **fields):
        seen.append(kind)
        run(kind, *args, **fields)

    monkeypatch.setattr(kernels, "runner", lambda: watched)
    return seen


def test_the_switch_works_as_a_call_and_as_a_block():
    with kernels.enable(False):
        assert not kernels.enabled()
        kernels.enable()
        assert kernels.enabled()
        with kernels.enable(False):
            assert not kernels.enabled()
        assert kernels.enabled()
        kernels.enable(False)
        assert not kernels.enabled()


def test_a_layer_runs_the_kernels_only_when_enabled(calls):
    layer, x = nn.BatchNorm1d(3), torch.randn(6, 3, requires_grad=True)
    with kernels.enable(False):
        layer(x).sum().backward()
    assert calls == []
    with kernels.enable():
        layer(x).sum().backward()
        layer.eval()(x)
    assert calls == ["forward", "backward", "inference"]


@pytest.mark.parametrize("on", [True, False])
def test_the_switch_may_be_turned_between_the_passes(on):
    x, grads = torch.randn(6, 3, dtype=torch.float64, requires_grad=True), []
    for later in (True, False):
        with kernels.enable(on):
            y = nn.BatchNorm1d(3, dtype=torch.float64)(x)
        with kernels.enable(later):
            grads.append(torch.autograd.grad(y.pow(3).sum(), x))
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(
    "use",
    [
        lambda layer, x: torch.vmap(layer)(torch.stack([x, x])),
        lambda layer, x: torch.jit.trace(layer, x, check_trace=False),
        lambda layer, x: torch.export.export(layer, (x,)).module()(x),
        lambda layer, x: torch.compile(layer, fullgraph=True, backend="aot_eager")(x),
        lambda layer, x: layer.to(torch.bfloat16)(x.bfloat16()),
        lambda layer, x: layer(x[:0]),
        lambda layer, x: layer.to("meta")(x.to("meta")),
        lambda layer, x: torch.func.vmap(lambda v: v * layer(x).sum(0))(torch.ones(2, 3)),
    ],
    ids=["vmap", "trace", "export", "compile", "bfloat16", "empty", "meta", "a constant in vmap"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_other_uses_fall_back(use, calls):
    with kernels.enable():
        use(nn.BatchNorm1d(3, affine=False, track_running_stats=False), torch.randn(6, 3))
    assert calls == []


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script:DeprecationWarning"
)  # of torch, in forward mode
@pytest.mark.parametrize(
    "derivative",
    [
        lambda layer, x: torch.func.grad(lambda x: layer(x).pow(3).sum())(x),
        lambda layer, x: torch.func.jvp(layer, (x,), (x.cos(),))[1],
        lambda layer, x: torch.autograd.grad(
            layer(x.requires_grad_()).pow(3).sum(), x, create_graph=True
        )[0],
    ],
    ids=["grad", "jvp", "create_graph"],
)
def test_only_the_forward_pass_of_other_derivatives_runs_a_kernel(derivative, calls):
    layer = nn.BatchNorm1d(3, track_running_stats=False, dtype=torch.float64)
    x, results = torch.randn(6, 3, dtype=torch.float64), []
    for on in (True, False):
        with kernels.enable(on):
            results.append(derivative(layer, x))
    assert calls == ["forward"]
    torch.testing.assert_close(*results)


def test_what_records_the_operations_of_torch_gets_operations_and_no_kernel(calls):
    layer = nn.BatchNorm1d(3, track_running_stats=False).requires_grad_(False)
    x, other = torch.randn(2, 6, 3)
    with kernels.enable():
        recorded = make_fx(layer)(x)
        assert calls == []
        torch.testing.assert_close(recorded(other), layer(other))


def test_running_statistics_that_changed_are_noticed_by_autograd():
    layer, x = nn.BatchNorm1d(3), torch.randn(6, 3)
    w = torch.randn(3, requires_grad=True)
    loss = (w * layer.running_mean).sum()
    with kernels.enable():
        layer(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_values_with_a_pending_minus_sign_are_read_with_it():
    x = torch.view_as_complex(torch.randn(6, 3, 2)).conj().imag
    assert x.is_neg()
    layer = nn.BatchNorm1d(3)
    with kernels.enable():
        torch.testing.assert_close(layer(x), layer(x.clone()))


def python(code, **environment):
    """Run code where these variables are set, or not there if None."""
    variables = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=variables
    )


@pytest.mark.parametrize(("value", "on"), [(None, True), ("1", True), ("0", False)])
def test_they_are_on_by_default_and_the_environment_switches_them(value, on):
    code = "from bnlab import kernels; print(kernels.enabled())"
    assert python(code, BNLAB_KERNELS=value).stdout == f"{on}\n"


@pytest.mark.parametrize("value", ["", "yes", "2", "true"])
def test_another_value_in_the_environment_is_refused(value):
    for module in ("bnlab.kernels", "bnlab.nn"):
        error = python(f"import {module}", BNLAB_KERNELS=value).stderr
        assert f"ValueError: BNLAB_KERNELS is {value!r} in the environment; expected 0" in error
        assert "Set one of these, or unset it" in error


def test_without_numba_all_works_but_the_switch_which_says_what_to_install():
    hidden = "import sys; sys.modules['numba'] = None; "
    code = hidden + "import torch; from bnlab import nn; nn.BatchNorm1d(2)(torch.randn(3, 2))"
    for value in (None, "0"):
        assert python(code, BNLAB_KERNELS=value).stderr == ""
    for code, value in (("kernels.enable()", None), ("", "1")):
        error = python(hidden + f"from bnlab import kernels; {code}", BNLAB_KERNELS=value).stderr
        assert "ImportError: numba is not" in error
        assert "pip install numba" in error


def test_a_numba_that_cannot_be_loaded_costs_a_warning_unless_it_was_asked_for(tmp_path):
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise ImportError('Numba needs NumPy 1.0')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import torch; from bnlab import nn; "
    )
    code += "nn.BatchNorm1d(2)(torch.randn(3, 2)); print(nn.BatchNorm1d(2)(torch.eye(2)).shape)"
    found = python(code, BNLAB_KERNELS=None)
    assert found.stdout == "torch.Size([2, 2])\n"
    assert (
        found.stderr.count("Warning: bnlab.nn computes without its kernels: Numba needs NumPy") == 1
    )
    assert "set BNLAB_KERNELS=0" in found.stderr
    assert "Numba needs NumPy 1.0" in python(code, BNLAB_KERNELS="1").stderr


def test_importing_the_layers_neither_loads_nor_compiles():
    code = "import sys; from bnlab import nn; print('numba' in sys.modules)"
    assert python(code, BNLAB_KERNELS=None).stdout == "False\n"


def test_importing_them_loads_neither_numba_nor_torch():
    code = "import sys; from bnlab import kernels; print({'numba', 'torch'} & set(sys.modules))"
    assert python(code).stdout == "set()\n"


def test_compiled_code_is_kept_in_caches_only():
    folder = Path(kernels.__file__).parent
    forward()
    assert {path.suffix for path in folder.iterdir() if path.name != "__pycache__"} == {".py"}


def test_where_no_folder_can_be_written_they_are_compiled_without_a_cache(monkeypatch):
    from numba.core.caching import CacheImpl

    from bnlab.kernels import _entry

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])  # as for a package and a home of others
    with pytest.raises(RuntimeError, match="no locator available"):
        _entry.cfunc("void(voidptr)", cache=True)(lambda pointer: None)
    run, address = _entry.entry.__wrapped__(np.float32)
    assert callable(run)
    assert address
