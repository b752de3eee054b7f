r"""Layers of many networks at once, forward and backward side by side, derived by hand.

Axis 0 is the member: activations are (S, m, units), weights (S, inputs, units), vectors (S, 1, units).
A layer's `forward` keeps what its `backward` needs, in buffers made once; `backward` takes the gradient
of the loss by the layer's output, moves the parameters one step and returns the gradient by its input.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bnlab.training._products import add_product, laid_out, multiply

aten = torch.ops.aten


class Descent:
    r"""The rule of :class:`torch.optim.SGD`, with a learning rate for each member.

    .. math:: g \leftarrow g + \lambda p, \qquad v \leftarrow \mu v + g, \qquad p \leftarrow p - \eta v
    """

    def __init__(self, lr: Tensor, *, momentum: float, weight_decay: float):
        self.minus_lr = -lr[:, None, None]
        self.momentum, self.weight_decay = momentum, weight_decay
        self.keep = 1 - weight_decay * lr[:, None, None]


class Parameter:
    """One parameter of every member, stacked, and its velocity if there is momentum."""

    def __init__(self, values: list[Tensor], rule: Descent):
        self.value, self.rule = laid_out(torch.stack(values)), rule
        self.velocity = torch.zeros_like(self.value) if rule.momentum else None

    def step(self, gradient: Tensor) -> None:
        """Descend along a gradient of the parameter's shape."""
        if self.velocity is None:
            self._decay(self.value, self.rule.keep)
            self.value.addcmul_(gradient, self.rule.minus_lr)
        else:
            self.velocity.mul_(self.rule.momentum).add_(gradient)
            self._follow()

    def step_product(self, x: Tensor, dz: Tensor) -> None:
        """Descend along the product of x transposed and dz; dz is overwritten."""
        if self.velocity is None:
            self._decay(self.value, self.rule.keep)
            add_product(self.value, x, dz.mul_(self.rule.minus_lr))
        else:
            add_product(self.velocity, x, dz, keep=self.rule.momentum)
            self._follow()

    def _follow(self) -> None:
        if self.rule.weight_decay:
            self.velocity.add_(self.value, alpha=self.rule.weight_decay)
        self.value.addcmul_(self.velocity, self.rule.minus_lr)

    def _decay(self, value: Tensor, keep: Tensor) -> None:
        if self.rule.weight_decay:
            value.mul_(keep)


class Linear:
    """z = x W + b"""

    def __init__(self, layers: list[nn.Linear], rule: Descent, *, first: bool):
        self.weight = Parameter([layer.weight.detach().T for layer in layers], rule)
        self.bias = None
        if layers[0].bias is not None:
            self.bias = Parameter([layer.bias.detach()[None] for layer in layers], rule)
        self.first = first

    def allocate(self, batch_size: int) -> None:
        members, inputs, units = self.weight.value.shape
        self.z = self.weight.value.new_empty(members, batch_size, units)
        self.dx = None if self.first else self.z.new_empty(members, batch_size, inputs)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        bias = None if self.bias is None else self.bias.value
        return multiply(x, self.weight.value, bias, out=self.z)

    def backward(self, dz: Tensor) -> Tensor | None:
        if not self.first:
            torch.bmm(dz, self.weight.value.mT, out=self.dx)
        if self.bias is not None:
            self.bias.step(dz.sum(1, keepdim=True))
        self.weight.step_product(self.x, dz)
        return self.dx

    def state(self) -> Iterator[tuple[str, Parameter | Tensor]]:
        yield "weight", self.weight
        if self.bias is not None:
            yield "bias", self.bias


class BatchNorm:
    """y = gamma * x_hat + beta, x_hat = (x - mu_B) / sqrt(var_B + eps)"""

    def __init__(self, layers: list[nn.BatchNorm1d], rule: Descent):
        layer = layers[0]
        self.eps, self.momentum = layer.eps, layer.momentum
        self.gamma = self.beta = self.running_mean = None
        if layer.weight is not None:
            self.gamma = Parameter([layer.weight.detach()[None] for layer in layers], rule)
        if layer.bias is not None:
            self.beta = Parameter([layer.bias.detach()[None] for layer in layers], rule)
        if layer.running_mean is not None:
            self.running_mean = torch.stack([layer.running_mean[None] for layer in layers])
            self.running_var = torch.stack([layer.running_var[None] for layer in layers])
            self.batches = torch.stack([layer.num_batches_tracked for layer in layers])

    def allocate(self, batch_size: int) -> None:
        self.m = batch_size

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "y"):
            self.y = torch.empty_like(x)
        mu = x.mean(1, keepdim=True)
        x_hat = x.sub_(mu)
        var = torch.mul(x_hat, x_hat, out=self.y).mean(1, keepdim=True)
        self.inv_std = (var + self.eps).rsqrt_()
        self.x_hat = x_hat.mul_(self.inv_std)
        if self.running_mean is not None:
            self._track(mu, var)
        if self.gamma is None:
            self.y.copy_(x_hat)
            return self.y if self.beta is None else self.y.add_(self.beta.value)
        if self.beta is None:
            return torch.mul(x_hat, self.gamma.value, out=self.y)
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
        scale = self.inv_std if self.gamma is None else self.inv_std * self.gamma.value
        dx = dy.addcmul_(self.x_hat, dgamma, value=-1 / self.m)
        dx = dx.sub_(dbeta, alpha=1 / self.m).mul_(scale)
        if self.gamma is not None:
            self.gamma.step(dgamma)
        if self.beta is not None:
            self.beta.step(dbeta)
        return dx

    def state(self) -> Iterator[tuple[str, Parameter | Tensor]]:
        if self.gamma is not None:
            yield "weight", self.gamma
        if self.beta is not None:
            yield "bias", self.beta
        if self.running_mean is not None:
            yield "running_mean", self.running_mean
            yield "running_var", self.running_var
            yield "num_batches_tracked", self.batches


class Activation:
    """h = g(y), written over y; the derivative follows from h."""

    def __init__(self, layers: list[nn.Module]):
        self.g, self.dg = ACTIVATIONS[type(layers[0])]

    def allocate(self, batch_size: int) -> None:
        pass

    def forward(self, y: Tensor) -> Tensor:
        self.h = self.g(y)
        return self.h

    def backward(self, dh: Tensor) -> Tensor:
        return self.dg(dh, self.h)

    def state(self) -> Iterator[tuple[str, Parameter | Tensor]]:
        return iter(())


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
