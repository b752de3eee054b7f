r"""Layers of many networks at once, forward and backward side by side, derived by hand.

Axis 0 is the member: activations are (S, m, units), weights (S, inputs, units), vectors (S, 1, units).
A layer's `forward` keeps what its `backward` needs, in buffers made once; `backward` takes the gradient of the loss
with respect to the layer's output, moves the parameters one step and returns the gradient with respect to its input.
`state` holds what a step changes, under the names that the layer's `state_dict` uses.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

aten = torch.ops.aten


class Parameter:
    """One parameter of every member, stacked, and the learning rate of each: p <- p - lr * gradient."""

    def __init__(self, values: list[Tensor], lr: Tensor):
        self.value, self.minus_lr = torch.stack(values).contiguous(), -lr[:, None, None]

    def step(self, gradient: Tensor) -> None:
        """Descend along a gradient of the parameter's shape."""
        self.value.addcmul_(gradient, self.minus_lr)

    def step_product(self, x: Tensor, dz: Tensor) -> None:
        """Descend along x^T dz, the gradient of a weight; dz is overwritten."""
        self.value.baddbmm_(x.mT, dz.mul_(self.minus_lr))


class Linear:
    """z = x W + b"""

    def __init__(self, layers: list[nn.Linear], lr: Tensor, batch_size: int, *, first: bool):
        self.weight = Parameter([layer.weight.detach().T for layer in layers], lr)
        self.bias = None
        if layers[0].bias is not None:
            self.bias = Parameter([layer.bias.detach()[None] for layer in layers], lr)
        members, inputs, units = self.weight.value.shape
        self.z = lr.new_empty(members, batch_size, units)
        self.dx = None if first else lr.new_empty(members, batch_size, inputs)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        if self.bias is None:
            return torch.bmm(x, self.weight.value, out=self.z)
        return torch.baddbmm(self.bias.value, x, self.weight.value, out=self.z)

    def backward(self, dz: Tensor) -> Tensor | None:
        if self.dx is not None:
            torch.bmm(dz, self.weight.value.mT, out=self.dx)
        if self.bias is not None:
            self.bias.step(dz.sum(1, keepdim=True))
        self.weight.step_product(self.x, dz)
        return self.dx

    def state(self) -> dict[str, Tensor]:
        weight = {"weight": self.weight.value}
        return weight if self.bias is None else weight | {"bias": self.bias.value}


class BatchNorm:
    """y = gamma * x_hat + beta, x_hat = (x - mu_B) / sqrt(var_B + eps)"""

    def __init__(self, layers: list[nn.BatchNorm1d], lr: Tensor, batch_size: int):
        self.eps, self.momentum, self.m = layers[0].eps, layers[0].momentum, batch_size
        self.gamma = Parameter([layer.weight.detach()[None] for layer in layers], lr)
        self.beta = Parameter([layer.bias.detach()[None] for layer in layers], lr)
        self.running_mean = torch.stack(
            [layer.get_buffer("running_mean")[None] for layer in layers]
        )
        self.running_var = torch.stack([layer.get_buffer("running_var")[None] for layer in layers])
        self.batches = torch.stack([layer.get_buffer("num_batches_tracked") for layer in layers])
        self.y = lr.new_empty(len(layers), batch_size, layers[0].num_features)

    def forward(self, x: Tensor) -> Tensor:
        mu = x.mean(1, keepdim=True)
        x_hat = x.sub_(mu)
        var = torch.mul(x_hat, x_hat, out=self.y).mean(1, keepdim=True)
        self.inv_std = (var + self.eps).rsqrt_()
        self.x_hat = x_hat.mul_(self.inv_std)
        self._track(mu, var)
        return torch.addcmul(self.beta.value, x_hat, self.gamma.value, out=self.y)

    def _track(self, mu: Tensor, var: Tensor) -> None:
        self.batches += 1
        alpha = 1 / int(self.batches[0]) if self.momentum is None else self.momentum
        self.running_mean.mul_(1 - alpha).add_(mu, alpha=alpha)
        # The biased variance would fall short of the population's by (m - 1) / m on average.
        self.running_var.mul_(1 - alpha).add_(var, alpha=alpha * self.m / (self.m - 1))

    def backward(self, dy: Tensor) -> Tensor:
        # dx = gamma / s * (dy - mean(dy) - x_hat * mean(dy * x_hat)),  s = sqrt(var_B + eps)
        dbeta = dy.sum(1, keepdim=True)
        dgamma = torch.mul(dy, self.x_hat, out=self.y).sum(1, keepdim=True)
        dx = dy.addcmul_(self.x_hat, dgamma, value=-1 / self.m).sub_(dbeta, alpha=1 / self.m)
        dx = dx.mul_(self.inv_std * self.gamma.value)
        self.gamma.step(dgamma)
        self.beta.step(dbeta)
        return dx

    def state(self) -> dict[str, Tensor]:
        return {
            "weight": self.gamma.value,
            "bias": self.beta.value,
            "running_mean": self.running_mean,
            "running_var": self.running_var,
            "num_batches_tracked": self.batches,
        }


class Activation:
    """h = g(y), written over y; the derivative follows from h."""

    def __init__(self, layers: list[nn.Module]):
        self.g, self.dg = ACTIVATIONS[type(layers[0])]

    def forward(self, y: Tensor) -> Tensor:
        self.h = self.g(y)
        return self.h

    def backward(self, dh: Tensor) -> Tensor:
        return self.dg(dh, self.h)

    def state(self) -> dict[str, Tensor]:
        return {}


ACTIVATIONS = {
    nn.Sigmoid: (Tensor.sigmoid_, lambda d, h: aten.sigmoid_backward(d, h, grad_input=d)),
    nn.Tanh: (Tensor.tanh_, lambda d, h: aten.tanh_backward(d, h, grad_input=d)),
    nn.ReLU: (Tensor.relu_, lambda d, h: aten.threshold_backward(d, h, 0, grad_input=d)),
    nn.Identity: (lambda y: y, lambda d, h: d),
}


class CrossEntropy:
    """loss = -mean over the batch of log softmax(z)[y], one for each member."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        # Classes go to axis 1: across the last axis torch takes six times as long.
        self.log_p, self.y = torch.log_softmax(z.mT.contiguous(), dim=1), y[:, None]
        return -self.log_p.gather(1, self.y).mean(2).squeeze(1)

    def backward(self) -> Tensor:
        dz = self.log_p.exp_()
        dz.scatter_add_(1, self.y, dz.new_full((), -1.0).expand_as(self.y))
        return dz.div_(dz.shape[2]).mT.contiguous()
