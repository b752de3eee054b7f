"""Small networks of the shapes that people use, and data for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 4


def images(
    batches: int = 6, n: int = 32, size: int = 12, seed: int = 0, channels: int = 3
) -> list[tuple[Tensor, Tensor]]:
    """Draw batches of images of a few classes, shuffled."""
    rng = torch.Generator().manual_seed(seed)
    kinds = torch.randn(CLASSES, channels, size, size, generator=torch.Generator().manual_seed(99))
    kinds = F.avg_pool2d(kinds, 3, 1, 1) * 2
    y = torch.randint(CLASSES, (batches * n,), generator=rng)
    x = kinds[y] + torch.randn(len(y), channels, size, size, generator=rng)
    return list(zip(x.split(n), y.split(n), strict=True))


def vectors(
    batches: int = 6, n: int = 32, features: int = 12, seed: int = 0
) -> list[tuple[Tensor, Tensor]]:
    """Draw batches of vectors of a few classes, shuffled."""
    rng = torch.Generator().manual_seed(seed)
    kinds = torch.randn(CLASSES, features, generator=torch.Generator().manual_seed(98))
    y = torch.randint(CLASSES, (batches * n,), generator=rng)
    x = 0.7 * kinds[y] + torch.randn(len(y), features, generator=rng)
    return list(zip(x.split(n), y.split(n), strict=True))


def series(
    batches: int = 6, n: int = 32, length: int = 20, seed: int = 0
) -> list[tuple[Tensor, Tensor]]:
    """Draw batches of signals (N, 3, length)."""
    return [(x.flatten(2)[:, :, :length].contiguous(), y) for x, y in images(batches, n, 12, seed)]


class Mlp(nn.Sequential):
    """Linear, norm, ReLU, twice."""

    def __init__(
        self,
        features: int = 12,
        width: int = 24,
        norm: Callable = nn.BatchNorm1d,
        bias: bool = False,
    ) -> None:
        super().__init__(
            nn.Linear(features, width, bias=bias), norm(width), nn.ReLU(),
            nn.Linear(width, width, bias=bias), norm(width), nn.ReLU(),
            nn.Linear(width, CLASSES),
        )  # fmt: skip


class ConvNet(nn.Module):
    """Two convolutions with norms, written out in forward."""

    def __init__(
        self, width: int = 12, norm: Callable = nn.BatchNorm2d, bias: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, stride=2, bias=bias)
        self.norm1, self.norm2 = norm(width), norm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        return self.head(x.mean((2, 3)))


class Block(nn.Module):
    """A residual block; the last gamma may begin at zero."""

    def __init__(self, width: int, out: int, stride: int, norm: Callable, zero: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = norm(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = norm(out)
        self.short = nn.Identity() if stride == 1 and width == out else nn.Sequential(
            nn.Conv2d(width, out, 1, stride, bias=False), norm(out)
        )  # fmt: skip
        if zero:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.short(x), inplace=True)


class ResNet(nn.Module):
    """A stem and three residual blocks."""

    def __init__(self, width: int = 8, norm: Callable = nn.BatchNorm2d, zero: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), norm(width), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(
            Block(width, width, 1, norm, zero),
            Block(width, 2 * width, 2, norm, zero),
            Block(2 * width, 2 * width, 1, norm, zero),
        )  # fmt: skip
        self.fc = nn.Linear(2 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class Inverted(nn.Module):
    """MobileNet's block: expand, depthwise, project."""

    def __init__(self, width: int, out: int, stride: int, norm: Callable) -> None:
        super().__init__()
        mid = 3 * width
        self.body = nn.Sequential(
            nn.Conv2d(width, mid, 1, bias=False), norm(mid), nn.ReLU6(inplace=True),
            nn.Conv2d(mid, mid, 3, stride, 1, groups=mid, bias=False), norm(mid), nn.ReLU6(inplace=True),
            nn.Conv2d(mid, out, 1, bias=False), norm(out),
        )  # fmt: skip
        self.add = stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.add else self.body(x)


class MobileNet(nn.Module):
    """Inverted residuals with the settings of TensorFlow's layers."""

    def __init__(self, width: int = 8, momentum: float = 0.01, eps: float = 1e-3) -> None:
        super().__init__()

        def norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, momentum=momentum, eps=eps)

        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), norm(width), nn.ReLU6(),
            Inverted(width, width, 1, norm), Inverted(width, 2 * width, 2, norm),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * width, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class DenseNet(nn.Module):
    """Norm, ReLU, convolution, and concatenation."""

    def __init__(self, growth: int = 6, layers: int = 3, drop: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, growth, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(growth * (i + 1)) for i in range(layers))
        self.convs = nn.ModuleList(
            nn.Conv2d(growth * (i + 1), growth, 3, padding=1, bias=False) for i in range(layers)
        )
        self.drop = nn.Dropout(drop)
        self.last = nn.BatchNorm2d(growth * (layers + 1))
        self.head = nn.Linear(growth * (layers + 1), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat((x, self.drop(conv(F.relu(norm(x))))), 1)
        return self.head(F.relu(self.last(x)).mean((2, 3)))


class UNet(nn.Module):
    """Down, up, and a connection across."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()

        def double(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(a, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(True),
                nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(True),
            )  # fmt: skip

        self.down, self.mid, self.up = (
            double(3, width),
            double(width, 2 * width),
            double(3 * width, width),
        )
        self.out = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        low = self.mid(F.max_pool2d(high, 2))
        return self.out(self.up(torch.cat((high, F.interpolate(low, scale_factor=2)), 1)))


class Discriminator(nn.Sequential):
    """DCGAN's critic: no norm at the first layer."""

    def __init__(self, width: int = 8, spectral: bool = False) -> None:
        wrap = nn.utils.parametrizations.spectral_norm if spectral else nn.Identity()
        super().__init__(
            nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True),
            wrap(nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False)), nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * width, 1, 6),
        )  # fmt: skip


class FrozenBatchNorm2d(nn.Module):
    """Batch norm of detection libraries: buffers only."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = (self.weight * (self.running_var + self.eps).rsqrt()).view(1, -1, 1, 1)
        return x * scale + (
            self.bias.view(1, -1, 1, 1) - self.running_mean.view(1, -1, 1, 1) * scale
        )


class Detector(nn.Module):
    """A backbone and two heads; the output is a dict."""

    def __init__(self, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone or ResNet()
        self.backbone.fc = nn.Identity()
        self.scores, self.boxes = nn.Linear(16, CLASSES), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.backbone(x)
        return {"scores": self.scores(h), "boxes": self.boxes(h)}


class StayingResNet(ResNet):
    """A backbone whose train() leaves its norms in evaluation mode."""

    def train(self, mode: bool = True) -> StayingResNet:
        super().train(mode)
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eval()
        return self


class Transformer(nn.Module):
    """Two encoder layers with layer norm, on signals as tokens."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(3, width)
        layer = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x.transpose(1, 2))).mean(1))


class Recurrent(nn.Module):
    """1-D convolution with norm, LSTM, norm on the features."""

    def __init__(self, width: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, width, 3, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.lstm = nn.LSTM(width, width, 2, batch_first=True, dropout=0.1)
        self.last = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(F.relu(self.norm(self.conv(x))).transpose(1, 2))
        return self.head(self.last(h[:, -1]))


class Vae(nn.Module):
    """A forward pass that draws random numbers in any mode."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Linear(12, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 8)
        )
        self.decode = nn.Sequential(
            nn.Linear(4, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 12)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log = self.encode(x).chunk(2, 1)
        return self.decode(mean + torch.randn_like(mean) * torch.exp(0.5 * log)), mean


class TwoInputs(nn.Module):
    """Two keyword inputs, as a dict batch gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(12, 16, bias=False), nn.Linear(12, 16, bias=False)
        self.norm, self.head = nn.BatchNorm1d(16), nn.Linear(16, CLASSES)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.left(a) + self.right(b))))


class OnlyInTraining(ConvNet):
    """A model that refuses evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            raise RuntimeError("this model has no evaluation mode")
        return super().forward(x)


def first(batch):
    """Return the input of a batch."""
    return batch[0] if isinstance(batch, tuple | list) else batch


def train(
    model: nn.Module, batches: list, steps: int = 40, lr: float = 0.05, run: Callable | None = None
) -> nn.Module:
    """Train on the class with plain SGD; what it costs a test is a second at most."""
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9
    )
    model.train()
    for i in range(steps):
        x, y = batches[i % len(batches)]
        output = run(model, (x, y)) if run else model(x)
        loss = (
            F.cross_entropy(output, y)
            if output.shape == (len(y), CLASSES)
            else output.square().mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def settle(
    model: nn.Module,
    batches: list,
    passes: int = 30,
    run: Callable | None = None,
    *,
    warm: bool = True,
) -> nn.Module:
    """Run in training mode without a step, so that the running statistics are honest; return in evaluation mode.

    Ten passes first replace the start values; without them, as after few updates, a part of those is left.
    """
    norms = {
        m: m.momentum for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    }
    model.train()
    with torch.no_grad():
        for i in range(-10 * warm, passes):
            for norm, momentum in norms.items():
                norm.momentum = 1 / (i + 11) if i < 0 else momentum
            batch = batches[i % len(batches)]
            if run:
                run(model, batch)
            elif isinstance(batch, dict):
                model(**batch)
            else:
                model(first(batch))
    return model.eval()
