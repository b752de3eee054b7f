"""Chapter 7: networks after training, with running averages, exact statistics, or layers folded."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnlab import data, inference, models, training
from bnlab.chapters.inference_statistics.results import (
    Companions,
    Folding,
    FoldOffsets,
    ModeGradients,
    NetworkGradients,
    StatisticsRace,
)
from bnlab.experiments import Provenance, difference

__all__ = [
    "companions",
    "fold_network",
    "fold_offsets",
    "folding",
    "mode_gradients",
    "network_gradients",
    "repeat",
    "statistics_race",
    "train_networks",
]

SIZES = (784, 100, 100, 100, 10)  # the network of Ioffe & Szegedy 2015, section 4.1


def _digits() -> tuple[data.Dataset, data.Dataset]:
    return data.mnist_5k().split(test=1000, seed=0)


def _network(seed: int = 0, activation: str = "sigmoid") -> nn.Sequential:
    return models.mlp(SIZES, activation=activation, norm=nn.BatchNorm1d, seed=seed)


def _norms(model: nn.Module) -> list[nn.BatchNorm1d]:
    return [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d)]


def train_networks(
    *,
    steps: int = 300,
    batch_size: int = 60,
    lr: float = 0.5,
    seeds: Sequence[int] = tuple(range(16)),
) -> list[nn.Sequential]:
    """Train the paper's sigmoid network on 4,000 digits, once a seed.

    Returns
    -------
    list of torch.nn.Sequential
        In training mode, with running statistics at torch's default momentum.

    Examples
    --------
    >>> len(train_networks(steps=2, seeds=(0, 1)))
    2
    """
    train, _ = _digits()
    networks = [_network(seed) for seed in seeds]
    for seed, model in zip(seeds, networks, strict=True):
        training.train(model, train, lr=lr, steps=steps, batch_size=batch_size, seed=seed)
    return networks


def statistics_race(
    *,
    batch_size: int = 60,
    lr: float = 0.5,
    activation: str = "sigmoid",
    checkpoints: Sequence[int] = (10, 30, 100, 300),
    momenta: Sequence[float] = (0.1, 0.01),
    large_batch: int = 500,
    examples: int = 4000,
    seeds: Sequence[int] = tuple(range(8)),
) -> StatisticsRace:
    """Train once a seed, and test the same weights with running averages and with exact statistics.

    A step of training never reads the running statistics, so one run serves every momentum: beside
    each layer, further layers of torch watch the same inputs with other momenta.

    Parameters
    ----------
    batch_size, lr, activation
        Of the training and the network.
    checkpoints : sequence of int
        Steps after which to test, rising.
    momenta : sequence of float
        Of the running averages, torch's convention.
    large_batch : int
        Batch size for the statistics that are taken in large batches.
    examples : int
        How many training examples the exact statistics are taken from, shuffled.
    seeds : sequence of int

    Returns
    -------
    StatisticsRace
        The methods are each momentum; a single pass in batches of both sizes; layer by layer in
        training's batches; and layer by layer in large ones.

    Examples
    --------
    >>> statistics_race(checkpoints=(1,), momenta=(0.1,), seeds=(0,)).methods[0]
    'running average, momentum 0.1'
    """
    train, test = _digits()
    x, y = training.tensors(test)
    methods = (
        *(f"running average, momentum {a:g}" for a in momenta),
        f"single pass, batches of {batch_size}",
        f"single pass, batches of {large_batch}",
        f"layer by layer, batches of {batch_size}",
        "layer by layer",
    )
    found = np.empty((2, len(seeds), len(checkpoints), len(methods)))
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        shuffled = training.tensors(train)[0][
            torch.randperm(len(train), generator=generator)[:examples]
        ]
        small, large = shuffled.split(batch_size), shuffled.split(large_batch)
        model = _network(seed, activation)
        watchers = [_watch(model, momentum) for momentum in momenta]

        def on_step(t, model, i=i, small=small, large=large, watchers=watchers):
            if t not in checkpoints:
                return
            twin = _network(activation=activation)
            twin.load_state_dict(model.state_dict())
            ways = [lambda w=w: _copy_statistics(w, _norms(twin)) for w in watchers]
            ways += [
                lambda b=b: inference.recalibrate(twin, b, sequential=False) for b in (small, large)
            ]
            ways += [lambda b=b: inference.recalibrate(twin, b) for b in (small, large)]
            for k, way in enumerate(ways):
                way()
                found[:, i, list(checkpoints).index(t), k] = _accuracy_and_loss(twin.eval(), x, y)

        training.train(
            model,
            train,
            lr=lr,
            steps=max(checkpoints),
            batch_size=batch_size,
            seed=seed,
            on_step=on_step,
        )
    return StatisticsRace(
        batch_size=batch_size,
        lr=lr,
        seeds=tuple(seeds),
        checkpoints=tuple(checkpoints),
        methods=methods,
        accuracy=found[0],
        loss=found[1],
    )


RACES = {  # the arguments of `statistics_race` for each race that Chapter 7 shows
    "sigmoid": {"activation": "sigmoid", "batch_size": 60, "lr": 0.5, "examples": 4000}
    | {"checkpoints": (10, 30, 100, 300)},
    "relu": {"activation": "relu", "batch_size": 60, "lr": 0.5, "examples": 4000}
    | {"checkpoints": (10, 100)},
    "small": {"activation": "sigmoid", "batch_size": 4, "lr": 0.1, "examples": 2000}
    | {"checkpoints": (10, 300)},
}


def repeat(race: StatisticsRace, origin: Provenance) -> dict[str, float]:
    """Train the first seed up to the first checkpoint again, and return the relative difference of the losses.

    Training in float32 multiplies rounding errors, and processors round differently, until single
    decisions differ. So the chapter shows stored races, and only their beginning can be compared.
    """
    few = {"checkpoints": race.checkpoints[:1], "seeds": race.seeds[:1]}
    again = statistics_race(**origin.config | few)
    return {"loss": difference(again.loss[0, 0], race.loss[0, 0])}


def _watch(model: nn.Module, momentum: float) -> list[nn.BatchNorm1d]:
    """Put a second layer beside each normalization: same inputs, another momentum."""

    def beside(layer: nn.BatchNorm1d) -> nn.BatchNorm1d:
        watcher = nn.BatchNorm1d(layer.num_features, affine=False, momentum=momentum)

        def watch(_, args):
            watcher(args[0].detach())

        layer.register_forward_pre_hook(watch)
        return watcher

    return [beside(layer) for layer in _norms(model)]


def _copy_statistics(sources: list[nn.BatchNorm1d], targets: list[nn.BatchNorm1d]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.running_mean.copy_(source.running_mean)
        target.running_var.copy_(source.running_var)


@torch.no_grad()
def _accuracy_and_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    logits = model(x)
    return float((logits.argmax(dim=1) == y).float().mean()), float(
        functional.cross_entropy(logits, y)
    )


def companions(
    networks: Sequence[nn.Module], *, batch_sizes: Sequence[int] = (2, 4, 10, 20, 50, 100)
) -> Companions:
    """Judge held-out digits in training mode, in shuffled batches and in batches of one class.

    Parameters
    ----------
    networks : sequence of torch.nn.Module
        One a seed; copies are run, so they stay as they were.
    batch_sizes : sequence of int
        Divisors of 100, the number of held-out digits of each class.

    Returns
    -------
    Companions

    Examples
    --------
    >>> result = companions(train_networks(steps=5, seeds=(0,)), batch_sizes=(100,))
    >>> result.shuffled.shape
    (1, 1)
    """
    _, test = _digits()
    x, y = training.tensors(test)
    orders = [torch.randperm(len(y), generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
    orders.append(torch.argsort(y, stable=True))
    decisions = np.empty((len(networks), len(batch_sizes), 3, len(y)), dtype=int)
    evaluation = np.empty(len(networks))
    for i, network in enumerate(networks):
        twin = copy.deepcopy(network)
        evaluation[i] = _accuracy_and_loss(twin.eval(), x, y)[0]
        twin.train()
        for j, size in enumerate(batch_sizes):
            for k, order in enumerate(orders):
                with torch.no_grad():
                    logits = torch.cat([twin(rows) for rows in x[order].split(size)])
                decisions[i, j, k, order.numpy()] = logits.argmax(dim=1)
    right = (decisions == y.numpy()).mean(axis=-1)
    return Companions(
        batch_sizes=tuple(batch_sizes),
        evaluation=evaluation,
        shuffled=right[:, :, 0],
        sorted=right[:, :, 2],
        changed=(decisions[:, :, 0] != decisions[:, :, 1]).mean(axis=-1),
    )


def fold_network(model: nn.Sequential) -> nn.Sequential:
    """Return a network in which each normalization is folded into the linear layer before it.

    Examples
    --------
    >>> len(fold_network(_network().eval())), len(_network())
    (7, 10)
    """
    folded, layers = [], list(model)
    for layer in layers:
        if isinstance(layer, nn.BatchNorm1d):
            folded[-1] = inference.fold_linear(folded[-1], layer)
        else:
            folded.append(layer)
    return nn.Sequential(*folded)


@torch.no_grad()
def folding(networks: Sequence[nn.Sequential]) -> Folding:
    """Fold each network and compare outputs on held-out digits, both in float32, with float64.

    Examples
    --------
    >>> folding(train_networks(steps=5, seeds=(0,))).layers
    (10, 7)
    """
    x, _ = training.tensors(_digits()[1])
    rows = []
    for network in networks:
        model = copy.deepcopy(network).eval()
        small, exact = fold_network(model), copy.deepcopy(model).double()
        a, b, truth = model(x), small(x), exact(x.double())
        rows.append(
            (
                truth.abs().max(),
                (a - b).abs().max(),
                (a - truth).abs().max(),
                (b - truth).abs().max(),
                (a.argmax(dim=1) != b.argmax(dim=1)).sum(),
            )
        )
    size, difference, unfolded, folded, changed = np.array(rows, dtype=float).T
    return Folding(
        layers=(len(model), len(small)),
        size=size,
        difference=difference,
        unfolded_error=unfolded,
        folded_error=folded,
        changed=changed.astype(int),
    )


@torch.no_grad()
def fold_offsets(
    *,
    offsets: Sequence[float] = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6),
    width: int = 100,
    examples: int = 1000,
    seeds: Sequence[int] = tuple(range(16)),
) -> FoldOffsets:
    r"""Fold one layer whose bias shifts its outputs by many standard deviations.

    Parameters
    ----------
    offsets : sequence of float
        :math:`b / \sigma`, the same for every unit.
    width, examples : int
        Inputs and outputs of the layer; Gaussian examples.
    seeds : sequence of int

    Returns
    -------
    FoldOffsets
        Errors are the largest over outputs of size one, against float64.

    Examples
    --------
    >>> result = fold_offsets(offsets=(1e4,), seeds=(0,))
    >>> bool(result.folded_error[0, 0] < result.unfolded_error[0, 0])
    True
    """
    errors = np.empty((2, len(seeds), len(offsets)))
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(examples, width, generator=generator)
        weight = torch.randn(width, width, generator=generator) / width**0.5
        for j, offset in enumerate(offsets):
            linear = nn.utils.skip_init(nn.Linear, width, width)
            linear.weight.copy_(weight)
            linear.bias.fill_(offset)
            bn = nn.BatchNorm1d(width)
            inference.recalibrate(nn.Sequential(linear, bn), [x])
            bn.eval()
            truth = copy.deepcopy(bn).double()(copy.deepcopy(linear).double()(x.double()))
            outputs = bn(linear(x)), inference.fold_linear(linear, bn)(x)
            errors[:, i, j] = [float((y - truth).abs().max()) for y in outputs]
    return FoldOffsets(
        offsets=np.array(offsets),
        unfolded_error=errors[0],
        folded_error=errors[1],
    )


def mode_gradients(
    *, batch_sizes: Sequence[int] = (2, 3, 5, 10, 30, 100), draws: int = 2000, seed: int = 0
) -> ModeGradients:
    r"""Compare the gradients of one layer in training and evaluation mode at equal statistics.

    The running statistics are set to the batch's own (biased) ones, so both modes return the same
    outputs. For a random gradient :math:`\partial\ell/\partial y` the projection of training mode
    keeps :math:`m - 2` of m directions: a share :math:`(m - 2) / m` of the squared length on average.

    Parameters
    ----------
    batch_sizes : sequence of int
    draws : int
        Features, each an independent draw of inputs and gradients.
    seed : int

    Returns
    -------
    ModeGradients

    Examples
    --------
    >>> mode_gradients(batch_sizes=(4,), draws=2000).kept.mean().round(1).item()
    0.5
    """
    generator = torch.Generator().manual_seed(seed)
    kept, inside, gap = [], [], 0.0
    for m in batch_sizes:
        x, dy = (torch.randn(m, draws, generator=generator, dtype=torch.float64) for _ in range(2))
        x.requires_grad_()
        layer = nn.BatchNorm1d(draws, eps=1e-12, dtype=torch.float64)
        layer.running_var, layer.running_mean = torch.var_mean(x.detach(), dim=0, correction=0)
        # Evaluation first, gradient included: training mode moves the running variance in place, and
        # torch's backward pass would read the moved one.
        y_eval = layer.eval()(x)
        (dx_eval,) = torch.autograd.grad(y_eval, x, dy)
        y_train = layer.train()(x)
        (dx_train,) = torch.autograd.grad(y_train, x, dy)
        gap = max(gap, float((y_eval - y_train).detach().abs().max()))
        squared = dx_eval.square().sum(dim=0)
        kept.append(dx_train.square().sum(dim=0) / squared)
        directions = torch.stack([torch.ones_like(y_eval), y_eval.detach()]) / m**0.5
        inside.append(
            (directions * dx_train).sum(dim=1).square().sum(dim=0).sqrt() / squared.sqrt()
        )
    return ModeGradients(
        batch_sizes=np.array(batch_sizes),
        output_gap=gap,
        kept=torch.stack(kept, dim=1).numpy(),
        inside=torch.stack(inside, dim=1).numpy(),
    )


def network_gradients(
    networks: Sequence[nn.Sequential], *, batch_size: int = 60
) -> NetworkGradients:
    """Compare the gradients of the weights of trained networks in both modes at equal statistics.

    Every running statistic is set to the batch's own, so both modes return the same outputs and the
    same loss. The arithmetic is in float64.

    Parameters
    ----------
    networks : sequence of torch.nn.Sequential
        One a seed; copies are run.
    batch_size : int
        The first training digits of the split, the same for each network.

    Returns
    -------
    NetworkGradients

    Examples
    --------
    >>> network_gradients(train_networks(steps=5, seeds=(0,))).layers
    ('linear1', 'linear2', 'linear3', 'linear4')
    """
    x, y = (t[:batch_size] for t in training.tensors(_digits()[0]))
    rows = []
    for network in networks:
        model = copy.deepcopy(network).double()
        for layer in _norms(model):
            layer.momentum = 1.0
        with torch.no_grad():
            model.train()(x.double())
        for layer in _norms(model):
            layer.running_var *= (batch_size - 1) / batch_size  # torch stores the unbiased variance
        # Evaluation first, for training mode would store the unbiased variance again.
        found = [_weight_gradients(model.train(mode), x.double(), y) for mode in (False, True)]
        (y_eval, eval_), (y_train, train) = found
        gap = float((y_eval - y_train).abs().max())
        weights = {n: p.detach() for n, p in model.named_parameters() if n in train}
        rows.append((gap, [_compare(weights[n], train[n], eval_[n]) for n in train]))
    numbers = np.array([row[1] for row in rows])
    return NetworkGradients(
        layers=tuple(name.removesuffix(".weight") for name in train),
        output_gap=np.array([row[0] for row in rows]),
        difference=numbers[..., 0],
        cosine=numbers[..., 1],
        ratio=numbers[..., 2],
        radial=numbers[..., 3:],
    )


def _weight_gradients(model: nn.Module, x: torch.Tensor, y: torch.Tensor):
    chosen = {n: p for n, p in model.named_parameters() if "linear" in n and n.endswith("weight")}
    logits = model(x)
    gradients = torch.autograd.grad(functional.cross_entropy(logits, y), list(chosen.values()))
    return logits.detach(), dict(zip(chosen, gradients, strict=True))


def _compare(weight: torch.Tensor, train: torch.Tensor, eval_: torch.Tensor) -> list[float]:
    cosine = (train * eval_).sum() / (train.norm() * eval_.norm())
    direction = weight / weight.norm(dim=1, keepdim=True)
    radial = [((direction * g).sum(dim=1).norm() / g.norm()) for g in (train, eval_)]
    difference, ratio = (train - eval_).norm() / train.norm(), eval_.norm() / train.norm()
    return [float(v) for v in (difference, cosine, ratio, *radial)]
