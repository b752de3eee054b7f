"""Models with one planted fault each: at least three for each id, in different architectures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import bnlab
from benchmarks.corpus import nets
from benchmarks.corpus.healthy import Given
from benchmarks.corpus.nets import images, series, settle, train, vectors

PLANTED: dict[tuple[str, str], Callable[[], Given]] = {}


def planted(id: str) -> Callable[[Callable[[], Given]], Callable[[], Given]]:
    """Add a model to the corpus under its id and the name of its function."""

    def add(make: Callable[[], Given]) -> Callable[[], Given]:
        PLANTED[id, make.__name__.replace("_", " ").strip()] = make
        return make

    return add


def norms(model: nn.Module) -> dict[str, nn.Module]:
    """Return the batch norm layers by name."""
    return {
        n: m for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    }


def sound(model: nn.Module, data: Callable = images) -> nn.Module:
    """Return a model with honest statistics."""
    return settle(model, data(20, seed=1))


def new(model: nn.Module, data: Callable, passes: int) -> nn.Module:
    """Return a model that has seen a few batches."""
    return settle(model, data(20, seed=1), passes, warm=False)


# ---- stale-statistics ----


@planted("stale-statistics")
def weights_moved_after_the_statistics() -> Given:
    model = sound(nets.ConvNet())
    with torch.no_grad():
        model.conv1.weight.mul_(2)
    return Given(model, images(seed=2), layers=("norm1",))


@planted("stale-statistics")
def one_layer_of_a_resnet() -> Given:
    model = sound(nets.ResNet())
    model.blocks[1].bn1.running_var *= 4
    return Given(model, images(seed=2), layers=("blocks.1.bn1",))


@planted("stale-statistics")
def means_of_other_data_in_a_mobilenet() -> Given:
    model = sound(nets.MobileNet())
    model.features[1].running_mean += 0.5 * model.features[1].running_var.sqrt()
    return Given(model, images(seed=2), layers=("features.1",))


@planted("stale-statistics")
def the_last_norm_of_a_recurrent_net() -> Given:
    model = sound(nets.Recurrent(), series)
    model.last.running_mean += 1
    return Given(model, series(seed=2), layers=("last",))


@planted("stale-statistics")
def frozen_buffers_of_another_backbone() -> Given:
    plain, frozen = sound(nets.ResNet()), nets.ResNet(norm=nets.FrozenBatchNorm2d)
    frozen.load_state_dict({k: v for k, v in plain.state_dict().items() if "tracked" not in k})
    frozen.stem[1].running_var *= 5
    return Given(nets.Detector(frozen), images(seed=2), layers=("backbone.stem.1",))


# ---- untrained-statistics ----


@planted("untrained-statistics")
def a_fresh_convnet_with_batches() -> Given:
    return Given(nets.ConvNet().eval(), images(), layers=("norm1", "norm2"))


@planted("untrained-statistics")
def buffers_left_out_of_a_checkpoint() -> Given:
    model = nets.ResNet().eval()
    trained = train(nets.ResNet(), images())
    model.load_state_dict(dict(trained.named_parameters()), strict=False)
    return Given(model, images(seed=2), layers=tuple(norms(model)))


@planted("untrained-statistics")
def one_new_layer_in_an_mlp() -> Given:
    model = sound(nets.Mlp(), vectors)
    model[4].reset_running_stats()
    return Given(model, vectors(seed=2), layers=("4",))


@planted("untrained-statistics")
def lazy_layers() -> Given:
    model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.LazyBatchNorm2d(), nn.ReLU())
    return Given(model.eval(), images(), layers=("1",))


# ---- start-up-bias ----


@planted("start-up-bias")
def five_updates_of_an_mlp() -> Given:
    def scaled(*args: Any, **options: Any) -> list:
        return [(5 + 3 * x, y) for x, y in vectors(*args, **options)]

    return Given(new(nets.Mlp(), scaled, 5), scaled(seed=2), layers=("1",))


@planted("start-up-bias")
def momentum_of_tensorflow_and_fifty_updates() -> Given:
    return Given(new(nets.MobileNet(), images, 50), images(seed=2))


@planted("start-up-bias")
def twenty_updates_of_a_slow_average() -> Given:
    def norm(width: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(width, momentum=0.02)

    return Given(new(nets.ResNet(norm=norm), images, 20), images(seed=2))


@planted("start-up-bias")
def three_updates_of_a_recurrent_net() -> Given:
    return Given(new(nets.Recurrent(), series, 3), series(seed=2))


# ---- nonfinite-statistics ----


@planted("nonfinite-statistics")
def nan_in_a_running_mean() -> Given:
    model = sound(nets.ResNet())
    model.stem[1].running_mean[2] = torch.nan
    return Given(model, images(seed=2), layers=("stem.1",))


@planted("nonfinite-statistics")
def inf_in_a_running_variance() -> Given:
    model = sound(nets.Mlp(), vectors)
    model[1].running_var[0] = torch.inf
    return Given(model, vectors(seed=2), layers=("1",))


@planted("nonfinite-statistics")
def nan_in_a_weight_without_batches() -> Given:
    model = nets.UNet()
    with torch.no_grad():
        model.mid[1].weight[0] = torch.nan
    return Given(model, layers=("mid.1",))


# ---- negative-variance ----


@planted("negative-variance")
def extrapolated_weights() -> Given:
    model = sound(nets.ConvNet())
    model.norm2.running_var[:3] -= 3 * model.norm2.running_var[:3]
    return Given(model, images(seed=2), layers=("norm2",))


@planted("negative-variance")
def logs_read_as_variances() -> Given:
    model = sound(nets.MobileNet())
    model.features[1].running_var.log_()
    return Given(model, layers=("features.1",))


@planted("negative-variance")
def one_channel_of_a_frozen_layer() -> Given:
    frozen = nets.ResNet(norm=nets.FrozenBatchNorm2d)
    frozen.blocks[0].bn2.running_var[1] = -0.1
    return Given(nets.Detector(frozen), layers=("backbone.blocks.0.bn2",))


# ---- dead-channels ----


@planted("dead-channels")
def units_that_never_fire() -> Given:
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 4))
    with torch.no_grad():
        model[0].bias[:5] = -100
    return Given(sound(model, vectors), vectors(seed=2), layers=("2",))


@planted("dead-channels")
def a_constant_feature() -> Given:
    model = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 4))
    batches = [(x.clone(), y) for x, y in vectors(20, seed=1)]
    for x, _ in batches:
        x[:, 3] = 7.5
    return Given(settle(model, batches), batches[:6], layers=("0",))


@planted("dead-channels")
def pruned_gammas() -> Given:
    model = sound(nets.ResNet())
    with torch.no_grad():
        model.blocks[2].bn1.weight[::4] = 0
    return Given(model, images(seed=2), layers=("blocks.2.bn1",))


@planted("dead-channels")
def filters_of_zeros() -> Given:
    model = nets.UNet()
    with torch.no_grad():
        model.down[3].weight[:2] = 0
    return Given(sound(model), images(seed=2), layers=("down.4",))


# ---- eps-dominates ----


@planted("eps-dominates")
def inputs_of_a_small_scale() -> Given:
    batches = [(x * 1e-3, y) for x, y in vectors(20, seed=1)]
    model = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 4))
    return Given(settle(model, batches), batches[:6], layers=("0",))


@planted("eps-dominates")
def an_eps_of_another_layer() -> Given:
    def norm(width: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(width, eps=1.0)

    return Given(sound(nets.ConvNet(norm=norm)), images(seed=2), layers=("norm1",))


@planted("eps-dominates")
def tiny_weights_in_a_mobilenet() -> Given:
    model = nets.MobileNet(momentum=0.1)
    with torch.no_grad():
        model.features[0].weight.mul_(0.01)
    return Given(sound(model), images(seed=2), layers=("features.1",))


# ---- reversed-momentum ----


@planted("reversed-momentum")
def momentum_of_keras() -> Given:
    return Given(
        nets.ConvNet(norm=lambda c: nn.BatchNorm2d(c, momentum=0.99)), layers=("norm1", "norm2")
    )


@planted("reversed-momentum")
def momentum_of_flax_in_bnlab() -> Given:
    model = nets.ResNet(norm=lambda c: bnlab.nn.BatchNorm2d(c, momentum=0.9))
    return Given(model.train(), images(), layers=tuple(norms(model)))


@planted("reversed-momentum")
def one_layer_of_a_sequence_net() -> Given:
    model = sound(nets.Recurrent(), series)
    model.last.momentum = 0.9
    return Given(model, series(seed=2), layers=("last",))


# ---- noisy-statistics ----


@planted("noisy-statistics")
def batches_of_two_vectors() -> Given:
    batches = vectors(60, 2, seed=1)
    return Given(settle(nets.Mlp(), batches).train(), batches[:20], layers=("1",))


@planted("noisy-statistics")
def a_fast_average_of_small_batches() -> Given:
    model = nets.Mlp(norm=lambda c: nn.BatchNorm1d(c, momentum=0.4))
    batches = vectors(60, 8, seed=1)
    return Given(settle(model, batches), batches[:20], layers=("1",))


@planted("noisy-statistics")
def large_images_that_differ_as_a_whole() -> Given:
    rng = torch.Generator().manual_seed(5)
    x = images(40, 2, 16, seed=1)
    batches = [(a + 4 * torch.randn(2, 3, 1, 1, generator=rng), y) for a, y in x]
    model = nets.ConvNet(norm=lambda c: nn.BatchNorm2d(c, momentum=0.3))
    return Given(settle(model, batches).train(), batches[:20], layers=("norm1",))


# ---- train-mode-in-evaluation ----


@planted("train-mode-in-evaluation")
def one_layer_woken_after_eval() -> Given:
    model = sound(nets.ResNet())
    model.blocks[0].bn1.train()
    return Given(model, images(seed=2), layers=("blocks.0.bn1",))


@planted("train-mode-in-evaluation")
def a_part_woken_after_eval() -> Given:
    model = sound(nets.UNet())
    model.up.train()
    return Given(model, layers=("up.1", "up.4"))


@planted("train-mode-in-evaluation")
def eval_that_forgets_a_layer() -> Given:
    class Forgets(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> Forgets:
            return super().train(True)

    model = sound(nets.Mlp(norm=Forgets), vectors)
    return Given(model, vectors(seed=2), layers=("1", "4"))


# ---- moving-frozen ----


@planted("moving-frozen")
def a_frozen_backbone_in_training_mode() -> Given:
    model = nets.Detector(sound(nets.ResNet()).requires_grad_(False)).train()
    return Given(model, images(seed=2), layers=tuple(norms(model)))


@planted("moving-frozen")
def frozen_gamma_and_beta_only() -> Given:
    model = sound(nets.ConvNet())
    model.norm1.requires_grad_(False)
    return Given(model, images(seed=2), layers=("norm1",))


@planted("moving-frozen")
def no_affine_in_a_frozen_part() -> Given:
    body = sound(nets.ConvNet(norm=lambda c: nn.BatchNorm2d(c, affine=False))).requires_grad_(False)
    model = nn.Sequential(body, nn.Linear(nets.CLASSES, 2)).train()
    return Given(model, images(seed=2), layers=("0.norm1", "0.norm2"))


# ---- frozen-wakes ----


@planted("frozen-wakes")
def a_backbone_put_to_eval_by_hand() -> Given:
    model = nets.Detector(sound(nets.ResNet())).train()
    model.backbone.eval()
    return Given(model, images(seed=2), layers=tuple(norms(model)))


@planted("frozen-wakes")
def one_layer_put_to_eval() -> Given:
    model = sound(nets.Recurrent(), series).train()
    model.norm.eval()
    return Given(model, layers=("norm",))


@planted("frozen-wakes")
def a_stage_of_a_densenet() -> Given:
    model = sound(nets.DenseNet()).train()
    model.norms.eval()
    return Given(model, images(seed=2), layers=("norms.0", "norms.1", "norms.2"))


# ---- untracked ----


@planted("untracked")
def statistics_switched_off() -> Given:
    model = nets.ConvNet(norm=lambda c: nn.BatchNorm2d(c, track_running_stats=False))
    return Given(model.eval(), images(), layers=("norm1", "norm2"))


@planted("untracked")
def one_untracked_layer() -> Given:
    model = sound(nets.Mlp(), vectors)
    model[4] = nn.BatchNorm1d(24, track_running_stats=False)
    return Given(model.eval(), vectors(seed=2), layers=("4",))


@planted("untracked")
def untracked_layers_of_bnlab() -> Given:
    model = nets.ResNet(norm=lambda c: bnlab.nn.BatchNorm2d(c, track_running_stats=False))
    return Given(model, layers=tuple(norms(model)))


# ---- few-values ----


@planted("few-values")
def vectors_in_fours() -> Given:
    batches = vectors(40, 4, seed=1)
    return Given(settle(nets.Mlp(), batches).train(), batches, layers=("1", "4"))


@planted("few-values")
def a_last_batch_of_one() -> Given:
    batches = [*vectors(20, 32, seed=1), *vectors(1, 1, seed=2)]
    return Given(settle(nets.Mlp(), batches[:-1]).train(), batches, layers=("1", "4"))


@planted("few-values")
def maps_of_one_pixel() -> Given:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    batches = images(20, 8, seed=1)
    return Given(settle(model, batches).train(), batches, layers=("5",))


@planted("few-values")
def one_value_without_running_statistics() -> Given:
    model = nets.Mlp(norm=lambda c: nn.BatchNorm1d(c, track_running_stats=False)).eval()
    return Given(model, [*vectors(4, 32), *vectors(1, 1)], layers=("1",))


# ---- train-eval-gap ----


@planted("train-eval-gap")
def statistics_of_another_domain() -> Given:
    dark = [(0.3 * x - 2, y) for x, y in images(20, seed=1)]
    return Given(settle(train(nets.ResNet(), images()), dark), images(seed=2))


@planted("train-eval-gap")
def a_shared_layer_for_two_sources() -> Given:
    model = train(nets.ConvNet(), images())
    mixed = [
        b
        for a, c in zip(images(10, seed=1), images(10, seed=3), strict=True)
        for b in (a, (4 * c[0] + 3, c[1]))
    ]
    return Given(settle(model, mixed), images(seed=2))


@planted("train-eval-gap")
def a_variance_too_large() -> Given:
    model = sound(train(nets.Mlp(), vectors()), vectors)
    for norm in norms(model).values():
        norm.running_var *= 6
    return Given(model, vectors(seed=2))


# ---- ordered-batches ----


def by_class(batches: list) -> list:
    """Sort the examples by class before they are batched."""
    x, y = (torch.cat(t) for t in zip(*batches, strict=True))
    order = y.argsort(stable=True)
    n = len(batches[0][0])
    return list(zip(x[order].split(n), y[order].split(n), strict=True))


@planted("ordered-batches")
def images_sorted_by_class() -> Given:
    return Given(sound(train(nets.ResNet(), images())), by_class(images(8, seed=2)))


@planted("ordered-batches")
def vectors_sorted_by_class() -> Given:
    return Given(sound(train(nets.Mlp(), vectors()), vectors), by_class(vectors(8, seed=2)))


@planted("ordered-batches")
def each_batch_of_one_scene() -> Given:
    rng = torch.Generator().manual_seed(4)
    mixed = [(x + torch.randn(len(x), 3, 1, 1, generator=rng), y) for x, y in images(20, seed=1)]
    scenes = [(x + torch.randn(1, 3, 1, 1, generator=rng), y) for x, y in images(8, seed=2)]
    return Given(settle(nets.UNet(), mixed), scenes)


# ---- shifted-batches ----


@planted("shifted-batches")
def another_preprocessing() -> Given:
    other = [(x * 0.5 + 0.5, y) for x, y in images(seed=3)]
    return Given(sound(nets.ResNet()), images(seed=2), {"other_batches": other})


@planted("shifted-batches")
def another_contrast() -> Given:
    other = [(x * 2, y) for x, y in vectors(seed=3)]
    return Given(sound(nets.Mlp(), vectors), vectors(seed=2), {"other_batches": other})


@planted("shifted-batches")
def channels_in_another_order() -> Given:
    def colored(batches: list) -> list:
        return [(x + torch.tensor([0.0, 1.0, -1.0])[:, None, None], y) for x, y in batches]

    other = [(x.flip(1), y) for x, y in colored(images(seed=3))]
    model = settle(nets.MobileNet(), colored(images(20, seed=1)))
    return Given(model, colored(images(seed=2)), {"other_batches": other})


# ---- redundant-bias ----


@planted("redundant-bias")
def biases_in_a_sequential() -> Given:
    return Given(nets.Mlp(bias=True), layers=("0", "3"))


@planted("redundant-bias")
def biases_outside_a_sequential() -> Given:
    return Given(nets.ConvNet(bias=True), layers=("conv1", "conv2"))


@planted("redundant-bias")
def biases_seen_in_a_run() -> Given:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.norm = nn.Linear(12, 16), nn.BatchNorm1d(16)

        def forward(self, x: Tensor) -> Tensor:
            if float(x.sum()) == 0:  # torch.fx cannot follow this
                return x
            return self.norm(self.lift(x)).relu()

    return Given(sound(Branches(), vectors), vectors(seed=2), layers=("lift",))


@planted("redundant-bias")
def a_transposed_convolution() -> Given:
    model = nn.Sequential(nn.ConvTranspose2d(3, 6, 2), nn.Identity(), nn.BatchNorm2d(6), nn.ReLU())
    return Given(sound(model), images(seed=2), layers=("0",))


# ---- shared-layer ----


class Shared(nets.ConvNet):
    """One norm after both convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm2 = self.norm1


@planted("shared-layer")
def one_norm_after_two_convolutions() -> Given:
    return Given(sound(Shared()), images(seed=2), layers=("norm1",))


@planted("shared-layer")
def siamese() -> Given:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nets.ConvNet()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) - self.body(x.flip(3))

    return Given(sound(Siamese()), images(seed=2), layers=("body.norm1", "body.norm2"))


@planted("shared-layer")
def one_norm_for_each_time() -> Given:
    class Times(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.norm = nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.zeros_like(x[:, :, 0])
            for t in range(3):
                h = torch.tanh(self.norm(self.cell(x[:, :, t] + h)))
            return h

    return Given(Times(), layers=("norm",))


# ---- double-update ----


class Checkpointed(nn.Module):
    """A network in checkpointed parts."""

    def __init__(self, body: nn.Module, head: nn.Module, *, reentrant: bool) -> None:
        super().__init__()
        self.stem = nn.Identity()
        self.body, self.head, self.reentrant = body, head, reentrant

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.reentrant:
            x = x.requires_grad_()
        h = (
            checkpoint(self.body, x, use_reentrant=self.reentrant)
            if self.training
            else self.body(x)
        )
        return self.head(h)


@planted("double-update")
def a_checkpointed_resnet() -> Given:
    body, head = nets.ResNet(), nn.Linear(nets.CLASSES, 2)
    model = Checkpointed(body, head, reentrant=False)
    return Given(sound(model), images(seed=2), layers=tuple(f"body.{n}" for n in norms(body)))


@planted("double-update")
def a_checkpointed_mlp_of_the_older_kind() -> Given:
    body = nn.Sequential(
        nn.Linear(12, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8)
    )
    model = Checkpointed(body, nn.Linear(8, 4), reentrant=True)
    return Given(sound(model, vectors), vectors(seed=2), layers=("body.1",))


@planted("double-update")
def a_checkpointed_unet() -> Given:
    body, head = nets.UNet(), nn.Conv2d(2, 2, 1)
    return Given(
        sound(Checkpointed(body, head, reentrant=False)).train(),
        images(seed=2),
        layers=("body.down.1",),
    )


# ---- unused-layer ----


@planted("unused-layer")
def a_left_over() -> Given:
    model = sound(nets.ConvNet())
    model.norm3 = nn.BatchNorm2d(12)
    return Given(model.eval(), images(seed=2), layers=("norm3",))


@planted("unused-layer")
def an_expert_that_nobody_asks() -> Given:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([nets.Mlp(), nets.Mlp()])

        def forward(self, x: Tensor) -> Tensor:
            return self.experts[0](x)

    return Given(sound(Experts(), vectors), vectors(seed=2), layers=("experts.1.1", "experts.1.4"))


@planted("unused-layer")
def a_bypassed_shortcut() -> Given:
    model = nets.ResNet()
    model.blocks[0].short = nn.Identity()
    model.blocks[0].old = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    return Given(sound(model), images(seed=2), layers=("blocks.0.old.1",))


# ---- dropout-before ----


@planted("dropout-before")
def dropout_between_linear_and_norm() -> Given:
    model = nn.Sequential(
        nn.Linear(12, 24, bias=False), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(24, 24, bias=False), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 4),
    )  # fmt: skip
    return Given(model, layers=("3",))


@planted("dropout-before")
def dropout_in_a_densenet() -> Given:
    model = nets.DenseNet(drop=0.2)
    return Given(sound(train(model, images())), images(seed=2), layers=("drop",))


@planted("dropout-before")
def dropout_in_front_of_all() -> Given:
    model = nn.Sequential(nn.Dropout2d(0.3), nets.ConvNet())
    return Given(sound(model), images(seed=2), layers=("0",))


# ---- detached-statistics ----


@planted("detached-statistics")
def bnlabs_naive_layer() -> Given:
    model = nets.Mlp(norm=bnlab.nn.DetachedBatchNorm1d)
    return Given(sound(model, vectors), vectors(seed=2), layers=("1", "4"))


class OwnNorm(nn.Module):
    """A hand-written norm that forgets part of its gradient."""

    def __init__(self, channels: int, mean: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
        mean = mean.detach() if self.mean else mean
        return self.scale * (x - mean) / (var.detach() + 1e-5).sqrt() + self.shift


@planted("detached-statistics")
def a_norm_of_ones_own() -> Given:
    return Given(nets.ConvNet(norm=OwnNorm), images(), layers=("norm1", "norm2"))


@planted("detached-statistics")
def only_the_variance_is_cut_off() -> Given:
    return Given(
        nets.ConvNet(norm=lambda c: OwnNorm(c, mean=False)), images(), layers=("norm1", "norm2")
    )


@planted("detached-statistics")
def written_into_the_forward_pass() -> Given:
    class Inline(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.head = nn.Linear(12, 16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.lift(x)
            with torch.no_grad():
                mean, std = h.mean(0), h.std(0) + 1e-5
            return self.head(F.relu((h - mean) / std))

    return Given(Inline(), vectors(), layers=("lift",))


# ---- decayed-affine ----


@planted("decayed-affine")
def all_in_one_group() -> Given:
    model = sound(nets.ConvNet())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=5e-4)
    return Given(model, images(seed=2), {"optimizer": optimizer}, ("norm1", "norm2"))


@planted("decayed-affine")
def adamw_without_batches() -> Given:
    model = nets.ResNet()
    return Given(
        model, None, {"optimizer": torch.optim.AdamW(model.parameters())}, tuple(norms(model))
    )


@planted("decayed-affine")
def one_group_of_two() -> Given:
    model = nets.Mlp()
    first, rest = (
        nn.ModuleList(list(model)[part]).parameters() for part in (slice(3), slice(3, None))
    )
    groups = [{"params": first, "weight_decay": 0.0}, {"params": rest}]
    return Given(
        model, None, {"optimizer": torch.optim.SGD(groups, lr=0.1, weight_decay=0.01)}, ("4",)
    )


# ---- averaged-weights ----


def average_of(model: nn.Module, data: Callable, **options: Any) -> nn.Module:
    """Average the weights along a training, as the documentation shows."""
    average = torch.optim.swa_utils.AveragedModel(train(model, data(), 5), **options)
    for seed in range(6):
        average.update_parameters(train(model, data(seed=seed), 12, lr=0.1))
    return average


@planted("averaged-weights")
def swa_without_update_bn() -> Given:
    return Given(average_of(nets.ConvNet(), images).eval(), images(seed=2))


@planted("averaged-weights")
def ema_of_an_mlp() -> Given:
    ema = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    return Given(
        average_of(nets.Mlp(), vectors, multi_avg_fn=ema, use_buffers=False).eval(), vectors(seed=2)
    )


@planted("averaged-weights")
def a_copy_called_ema() -> Given:
    class Trainer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            live = train(nets.ResNet(), images(), 5)
            self.ema = average_of(live, images).module

        def forward(self, x: Tensor) -> Tensor:
            return self.ema(x)

    return Given(Trainer().eval(), images(seed=2), layers=("ema",))


# ---- unsynchronized ----


@planted("unsynchronized")
def small_batches_in_replicas() -> Given:
    batches = vectors(20, 16, seed=1)
    model = nn.DataParallel(settle(nets.Mlp(), batches).train())
    return Given(model, batches, layers=("module.1", "module.4"))


@planted("unsynchronized")
def pooled_maps_in_replicas() -> Given:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    batches = images(20, 24, seed=1)
    return Given(nn.DataParallel(settle(model, batches).train()), batches, layers=("module.5",))


@planted("unsynchronized")
def a_replicated_part() -> Given:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.DataParallel(nets.Recurrent()), nn.Linear(nets.CLASSES, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x))

    batches = series(20, 20, seed=1)
    return Given(settle(Parts(), batches).train(), batches, layers=("body.module.last",))
