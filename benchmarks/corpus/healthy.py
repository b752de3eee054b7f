"""Healthy models: a finding of severity warning or error on one of them is a false alarm, and most infos are too."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

import bnlab
from benchmarks.corpus import nets
from benchmarks.corpus.nets import images, series, settle, train, vectors


@dataclass
class Given:
    """What is passed to a tool: a model, batches, options of `bnlab.diagnose`, and where the fault is."""

    model: nn.Module
    batches: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ()


HEALTHY: dict[str, Callable[[], Given]] = {}


def healthy(make: Callable[[], Given]) -> Callable[[], Given]:
    """Add a model to the corpus under the name of its function."""
    HEALTHY[make.__name__.replace("_", " ")] = make
    return make


@healthy
def mlp() -> Given:
    return Given(settle(train(nets.Mlp(), vectors()), vectors(20, seed=1)), vectors(seed=2))


@healthy
def mlp_in_training() -> Given:
    return Given(settle(train(nets.Mlp(), vectors()), vectors(20, seed=1)).train(), vectors(seed=2))


@healthy
def convnet() -> Given:
    return Given(settle(train(nets.ConvNet(), images()), images(20, seed=1)), images(seed=2))


@healthy
def resnet() -> Given:
    return Given(settle(train(nets.ResNet(), images()), images(20, seed=1)), images(seed=2))


@healthy
def resnet_of_zero_initialized_branches() -> Given:
    return Given(settle(nets.ResNet(zero=True), images(20, seed=1)), images(seed=2))


@healthy
def resnet_without_batches() -> Given:
    return Given(nets.ResNet())


@healthy
def resnet_of_bnlab() -> Given:
    return Given(
        settle(train(nets.ResNet(norm=bnlab.nn.BatchNorm2d), images()), images(20, seed=1)),
        images(seed=2),
    )


@healthy
def resnet_that_synchronizes() -> Given:
    return Given(settle(nets.ResNet(norm=nn.SyncBatchNorm), images(20, seed=1)), images(seed=2))


@healthy
def mobilenet_with_the_settings_of_tensorflow() -> Given:
    model = settle(train(nets.MobileNet(), images()), images(20, seed=1))
    return Given(model, images(seed=2))


@healthy
def densenet() -> Given:
    return Given(settle(train(nets.DenseNet(), images()), images(20, seed=1)), images(seed=2))


@healthy
def unet() -> Given:
    return Given(settle(train(nets.UNet(), images()), images(20, seed=1)), images(seed=2))


@healthy
def discriminator() -> Given:
    return Given(
        settle(train(nets.Discriminator(), images(), lr=1e-3), images(20, seed=1)).train(),
        images(seed=2),
    )


@healthy
def discriminator_with_spectral_norm() -> Given:
    return Given(settle(nets.Discriminator(spectral=True), images(20, seed=1)), images(seed=2))


@healthy
def detector_with_frozen_buffers() -> Given:
    plain = settle(nets.ResNet(), images(20, seed=1))
    frozen = nets.ResNet(norm=nets.FrozenBatchNorm2d)
    frozen.load_state_dict(
        {k: v for k, v in plain.state_dict().items() if not k.endswith("tracked")}
    )
    return Given(nets.Detector(frozen).train(), images(seed=2))


@healthy
def detector_whose_backbone_stays_in_evaluation() -> Given:
    backbone = settle(nets.StayingResNet(), images(20, seed=1))
    settle(plain := nets.ResNet(), images(20, seed=1))
    backbone.load_state_dict(plain.state_dict())
    model = nets.Detector(backbone.requires_grad_(False))
    return Given(model.train(), images(seed=2))


@healthy
def detector_frozen_by_bnlab() -> Given:
    backbone = settle(nets.ResNet(), images(20, seed=1)).requires_grad_(False)
    bnlab.inference.freeze(backbone)
    return Given(nets.Detector(backbone).train(), images(seed=2))


@healthy
def no_batch_norm_at_all() -> Given:
    return Given(nets.Mlp(norm=nn.LayerNorm, bias=True), vectors())


@healthy
def transformer() -> Given:
    return Given(nets.Transformer(), series())


@healthy
def few_but_large_images() -> Given:
    batches = [images(1, 2, 64, seed)[0] for seed in range(8)]
    return Given(settle(nets.ConvNet(), batches).train(), batches)


@healthy
def one_large_image_a_batch() -> Given:
    batches = [images(1, 1, 64, seed)[0] for seed in range(12)]
    return Given(settle(nets.ResNet(), batches).train(), batches)


@healthy
def signals() -> Given:
    return Given(settle(train(nets.Recurrent(), series()), series(20, seed=1)), series(seed=2))


@healthy
def fresh_and_without_batches() -> Given:
    return Given(nets.MobileNet())


@healthy
def random_forward_pass() -> Given:
    return Given(settle(nets.Vae(), vectors(20, seed=1)), vectors(seed=2))


@healthy
def a_generator_that_is_read_once() -> Given:
    return Given(settle(nets.Mlp(), vectors(20, seed=1)), (batch for batch in vectors(seed=2)))


@healthy
def dict_batches() -> Given:
    def both(seed: int, batches: int) -> list:
        pairs = zip(vectors(batches, seed=seed), vectors(batches, seed=seed + 50), strict=True)
        return [{"a": a, "b": b} for (a, _), (b, _) in pairs]

    return Given(settle(nets.TwoInputs(), both(1, 20)), both(2, 6))


@healthy
def a_call_with_keywords() -> Given:
    def run(model: nn.Module, batch: Any) -> torch.Tensor:
        return model(a=batch[0], b=batch[0].flip(1))

    model = settle(nets.TwoInputs(), vectors(20, seed=1), run=run)
    return Given(model, vectors(seed=2), {"call": run})


@healthy
def only_in_training_mode() -> Given:
    return Given(settle(nets.OnlyInTraining(), images(20, seed=1)).train(), images(seed=2))


@healthy
def pruned() -> Given:
    model = nets.ConvNet()
    prune.l1_unstructured(model.conv2, "weight", 0.3)
    return Given(settle(model, images(20, seed=1)), images(seed=2))


@healthy
def weight_norm() -> Given:
    model = nets.ConvNet()
    nn.utils.parametrizations.weight_norm(model.conv1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older kind, which keeps a computed weight
        nn.utils.weight_norm(model.conv2)
    return Given(settle(model, images(20, seed=1)), images(seed=2))


@healthy
def in_double_precision() -> Given:
    batches = [(x.double(), y) for x, y in images(20, seed=1)]
    return Given(settle(nets.ResNet().double(), batches), batches[:6])


@healthy
def in_bfloat16() -> Given:
    batches = [(x.bfloat16(), y) for x, y in images(20, seed=1)]
    return Given(settle(nets.ConvNet().bfloat16(), batches), batches[:6])


@healthy
def averaged_and_updated() -> Given:
    model = train(nets.ConvNet(), images())
    average = torch.optim.swa_utils.AveragedModel(model)
    for seed in range(3):
        average.update_parameters(train(model, images(seed=seed), 10))
    torch.optim.swa_utils.update_bn(images(20, seed=1), average)
    return Given(average.eval(), images(seed=2))


@healthy
def in_replicas_with_many_values() -> Given:
    return Given(
        nn.DataParallel(settle(nets.ConvNet(), images(20, seed=1))).train(), images(seed=2)
    )


@healthy
def recalibrated() -> Given:
    model = train(nets.ResNet(), images(), lr=0.1)
    bnlab.inference.recalibrate(model, images(20, seed=1))
    return Given(model.eval(), images(seed=2))


@healthy
def small_batches_averaged_alike() -> Given:
    def norm(width: int) -> nn.BatchNorm1d:
        return nn.BatchNorm1d(width, momentum=None)

    batches = vectors(60, 8, seed=1)
    return Given(settle(nets.Mlp(norm=norm), batches), vectors(8, 8, seed=2))


@healthy
def two_kinds_of_images_from_one_source() -> Given:
    model = settle(nets.ResNet(), images(20, seed=1))
    return Given(model, images(seed=2), {"other_batches": images(seed=3)})


@healthy
def decay_only_on_weights() -> Given:
    model = settle(nets.ConvNet(), images(20, seed=1))
    norms = [p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    rest = [p for p in model.parameters() if not any(p is q for q in norms)]
    groups = [{"params": rest, "weight_decay": 1e-4}, {"params": norms, "weight_decay": 0.0}]
    return Given(model, images(seed=2), {"optimizer": torch.optim.SGD(groups, lr=0.1)})


@healthy
def dropout_after_the_last_norm() -> Given:
    model = nets.Mlp()
    model.insert(6, nn.Dropout(0.5))
    return Given(settle(model, vectors(20, seed=1)), vectors(seed=2))


@healthy
def own_norm_with_its_gradient() -> Given:
    class Own(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - x.mean(0)) * (x.var(0, correction=0) + 1e-5).rsqrt()

    model = nn.Sequential(nn.Linear(12, 16), Own(), nn.ReLU(), nn.Linear(16, 4))
    return Given(model, vectors())
