"""The detached layer: torch's own outputs and errors, the bug's gradients."""

import pytest
import torch

from bnlab import nn


def pair(*args, seed=0, **kwargs):
    """Return bnlab's detached layer and torch's layer with the same non-trivial parameters."""
    torch.manual_seed(seed)
    right = torch.nn.BatchNorm1d(*args, **kwargs).double()
    detached = nn.DetachedBatchNorm1d(*args, **kwargs).double()
    if right.affine:
        torch.nn.init.normal_(right.weight)
        torch.nn.init.normal_(right.bias)
    detached.load_state_dict(right.state_dict())
    return detached, right


SHAPES = [(6, 3), (6, 3, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize("track", [True, False])
def test_outputs_and_buffers_equal_torch_in_both_modes(shape, affine, momentum, track):
    detached, right = pair(3, affine=affine, momentum=momentum, track_running_stats=track)
    for _ in range(3):
        x = 2 + 3 * torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(detached(x), right(x))
    torch.testing.assert_close(detached.state_dict(), right.state_dict())
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(detached.eval()(x), right.eval()(x))
    torch.testing.assert_close(detached.state_dict(), right.state_dict())


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_the_incoming_one_times_gamma_over_std(shape):
    detached, _ = pair(3)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(shape, dtype=torch.float64)
    detached(x).backward(dy)
    axes = [0, *range(2, len(shape))]
    std = (x.detach().var(axes, correction=0) + detached.eps).sqrt()
    tail = (1,) * (len(shape) - 2)
    expected = dy * (detached.weight / std).detach().reshape(1, 3, *tail)
    torch.testing.assert_close(x.grad, expected)


def test_projecting_out_the_mean_and_x_hat_repairs_the_gradient():
    detached, right = pair(3, eps=1e-12)
    dy = torch.randn(8, 3, dtype=torch.float64)
    data = torch.randn(8, 3, dtype=torch.float64)
    grads = []
    for layer in (detached, right):
        x = data.clone().requires_grad_()
        layer(x).backward(dy)
        grads.append(x.grad)
    x_hat = (data - data.mean(0)) / data.std(0, correction=0)
    repaired = grads[0] - grads[0].mean(0) - x_hat * (grads[0] * x_hat).mean(0)
    torch.testing.assert_close(repaired, grads[1], rtol=1e-8, atol=1e-10)
    assert not torch.allclose(grads[0], grads[1], atol=0.05)


def test_parameter_gradients_equal_torch():
    layers = pair(3)
    x, dy = torch.randn(2, 8, 3, dtype=torch.float64)
    for layer in layers:
        layer(x).backward(dy)
    for mine, theirs in zip(*(layer.parameters() for layer in layers), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_evaluation_gradients_equal_torch_because_those_constants_are_constants():
    detached, right = pair(3)
    grads = []
    data, dy = torch.randn(2, 8, 3, dtype=torch.float64)
    for layer in (detached, right):
        x = data.clone().requires_grad_()
        layer.eval()(x).backward(dy)
        grads.append(x.grad)
    torch.testing.assert_close(*grads)


def test_without_running_statistics_evaluation_has_the_bug_too():
    detached, right = pair(3, track_running_stats=False)
    grads = []
    data, dy = torch.randn(2, 8, 3, dtype=torch.float64)
    for layer in (detached, right):
        x = data.clone().requires_grad_()
        layer.eval()(x).backward(dy)
        grads.append(x.grad.mean(0).abs().max())
    assert grads[0] > 1e-2 > 1e-12 > grads[1]


def test_a_bias_in_front_gets_a_gradient_only_when_detached():
    sizes = []
    for layer in pair(4):
        torch.manual_seed(1)
        linear = torch.nn.Linear(5, 4).double()
        target = torch.randn(16, 4, dtype=torch.float64)
        x = torch.randn(16, 5, dtype=torch.float64)
        torch.nn.functional.mse_loss(layer(linear(x)), target).backward()
        sizes.append(linear.bias.grad.abs().max().item())
    assert sizes[0] > 1e-2
    assert sizes[1] < 1e-15


@pytest.mark.parametrize("shape", [(1, 3), (6,), (6, 3, 4, 4), (6, 4)])
def test_bad_shapes_raise_torchs_own_error(shape):
    detached, right = pair(3)
    x = torch.randn(shape, dtype=torch.float64)
    with pytest.raises((ValueError, RuntimeError)) as theirs:
        right(x)
    with pytest.raises(type(theirs.value)) as mine:
        detached(x)
    assert str(mine.value) == str(theirs.value)


def test_importing_bnlab_does_not_load_torch():
    import subprocess
    import sys

    code = "import bnlab, bnlab.chapters.naive_failure.naive, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
