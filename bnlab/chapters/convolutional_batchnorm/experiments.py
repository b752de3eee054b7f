"""Chapter 8: which values share a mean, what shifts do, two libraries side by side, folded networks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import bnlab.nn
from bnlab import data, inference, models, training
from bnlab.chapters.convolutional_batchnorm.results import (
    EffectiveBatch,
    FoldedNets,
    LibraryTwins,
    ShiftedDigits,
    ShiftTest,
)
from bnlab.chapters.convolutional_batchnorm.small_nets import mobile_net, residual_net
from bnlab.experiments import Provenance, difference
from bnlab.nn.functional import batch_norm

__all__ = [
    "PerActivation",
    "effective_batch",
    "folded_nets",
    "library_twins",
    "repeat_folding",
    "repeat_shifted",
    "repeat_twins",
    "shift_test",
    "shifted_digits",
]

PRECISIONS = {"float64": torch.float64, "float32": torch.float32}
TWINS = ("torch and bnlab", "torch and torch, one weight moved to the next number")
NORMALIZATIONS = ("none", "per map", "per activation")
SHIFT_CASES = (
    "training, all images moved, gamma 1, beta 0",
    "training, all images moved",
    "training, one image moved",
    "evaluation, one image moved",
)


def _digits() -> tuple[data.Dataset, data.Dataset]:
    return data.mnist_5k().split(test=1000, seed=0)


def _images(dataset: data.Dataset, dtype: torch.dtype = torch.float32) -> Tensor:
    return training.tensors(dataset, dtype=dtype)[0].reshape(-1, 1, 28, 28)


class PerActivation(nn.Module):
    """Batch Normalization with a pair gamma, beta and statistics for *each position of each map*.

    Parameters
    ----------
    channels, side : int
        Of inputs (N, channels, side, side).

    Examples
    --------
    >>> sum(p.numel() for p in PerActivation(16, 28).parameters())
    25088
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels * side * side)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize over the examples alone."""
        return self.norm(x.flatten(1)).reshape(x.shape)


def shift_test(
    *,
    shift: tuple[int, int] = (3, 2),
    channels: int = 4,
    batch_size: int = 60,
    seeds: Sequence[int] = tuple(range(8)),
) -> ShiftTest:
    r"""Move images of a batch, and see whether the normalized convolution moves its maps alike.

    .. math:: \text{error} = \frac{\lVert f(S x) - S f(x) \rVert}{\lVert f(x) \rVert}

    with f a random 3x3 convolution and its normalization, and S a cyclic shift. The convolution
    pads cyclically too, so that borders play no part. Gamma and beta are random, as after training.
    The statistics of evaluation are those of 1,000 digits; others are moved.

    Parameters
    ----------
    shift : tuple of int
        Rows and columns.
    channels, batch_size : int
    seeds : sequence of int
        Each draws a kernel, gamma, beta and a batch.

    Returns
    -------
    ShiftTest
        In float64, so that a true zero is below 1e-12.

    Examples
    --------
    >>> result = shift_test(seeds=(0,))
    >>> (result.error[0] < 1e-12).tolist()
    [[True, True, True, True], [True, True, True, True], [True, False, False, False]]
    """
    train, test = (_images(part, torch.float64)[:1000] for part in _digits())
    error = np.empty((len(seeds), len(NORMALIZATIONS), len(SHIFT_CASES)))
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        kernel = torch.randn(channels, 1, 3, 3, generator=generator, dtype=torch.float64)
        x = test[torch.randperm(len(test), generator=generator)[:batch_size]]
        for j, name in enumerate(NORMALIZATIONS):
            f = _normalized_convolution(name, kernel, train, generator)
            for k, case in enumerate(SHIFT_CASES):
                error[i, j, k] = _shift_error(f, x, shift, case)
    return ShiftTest(shift=shift, normalizations=NORMALIZATIONS, cases=SHIFT_CASES, error=error)


def _normalized_convolution(name: str, kernel: Tensor, train: Tensor, generator) -> Callable:
    """Return f(x, training, affine) for one kind of normalization, with population statistics."""

    def convolve(x: Tensor) -> Tensor:
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="circular"), kernel)

    if name == "none":
        return lambda x, training, affine: convolve(x)
    shape = (len(kernel), 28 * 28) if name == "per map" else (len(kernel) * 28 * 28,)
    z = convolve(train).reshape(-1, *shape)
    axes = (0, 2) if name == "per map" else 0
    var, mean = torch.var_mean(z, axes, correction=0)
    gamma, beta = 1 + 0.3 * torch.randn(2, shape[0], generator=generator, dtype=z.dtype)

    def f(x: Tensor, training: bool, affine: bool) -> Tensor:
        maps = convolve(x)
        pair = (gamma, beta) if affine else (None, None)
        statistics = (None, None) if training else (mean, var)
        y = batch_norm(maps.reshape(-1, *shape), *statistics, *pair, training=training)
        return y.reshape(maps.shape)

    return f


def _shift_error(f: Callable, x: Tensor, shift: tuple[int, int], case: str) -> float:
    training, affine = case.startswith("training"), "gamma 1" not in case
    some = slice(None) if "all" in case else slice(0, 1)
    moved = x.clone()
    moved[some] = x[some].roll(shift, (2, 3))
    before, after = (f(v, training, affine)[some] for v in (x, moved))
    return float((after - before.roll(shift, (2, 3))).norm() / before.norm())


def shifted_digits(
    *,
    normalizations: Sequence[str] = NORMALIZATIONS,
    shifts: Sequence[int] = (0, 1, 2, 3),
    channels: Sequence[int] = (8, 16),
    steps: int = 200,
    batch_size: int = 60,
    rates: Sequence[float] = (0.03, 0.1, 0.3),
    seeds: Sequence[int] = tuple(range(8)),
) -> ShiftedDigits:
    """Train convolutional networks on 4,000 digits in place, and test them on 1,000 moved digits.

    Parameters
    ----------
    normalizations : sequence of {"none", "per map", "per activation"}
    shifts : sequence of int
        Pixels, in each of the four directions; digits have a border of about four.
    channels : sequence of int
        Feature maps of the network.
    steps, batch_size
        Of training.
    rates : sequence of float
        Learning rates, all tried with every normalization.
    seeds : sequence of int
        Each draws weights and the order of the batches.

    Returns
    -------
    ShiftedDigits

    Examples
    --------
    >>> shifted_digits(steps=1, shifts=(0,), rates=(0.1,), seeds=(0,)).accuracy.shape
    (1, 3, 1, 1)
    """
    train, test = _digits()
    x, y = _images(test), training.tensors(test)[1]
    accuracy = np.empty((len(seeds), len(normalizations), len(rates), len(shifts)))
    for i, j, k in np.ndindex(accuracy.shape[:3]):
        model = models.convnet(channels=channels, norm=_factory(normalizations[j]), seed=seeds[i])
        training.train(model, train, lr=rates[k], steps=steps, batch_size=batch_size, seed=seeds[i])
        model.eval()
        for t, pixels in enumerate(shifts):
            moved = [x.roll(d * pixels, axis) for d in (-1, 1) for axis in (2, 3)][
                : 4 if pixels else 1
            ]
            with torch.no_grad():
                right = [(model(v).argmax(1) == y).double().mean() for v in moved]
            accuracy[i, j, k, t] = float(torch.stack(right).mean())
    return ShiftedDigits(
        normalizations=tuple(normalizations), seeds=tuple(seeds), steps=steps, rates=np.array(rates),
        shifts=np.array(shifts), accuracy=accuracy,
    )  # fmt: skip


def _factory(normalization: str) -> Callable[[int], nn.Module] | None:
    sides = (28 // 2**k for k in itertools.count())  # of the maps of a convnet, layer by layer
    return {
        "none": None,
        "per map": nn.BatchNorm2d,
        "per activation": lambda maps: PerActivation(maps, next(sides)),
    }[normalization]


def effective_batch(
    *,
    channels: Sequence[int] = (8, 16, 32),
    images: int = 60,
    draws: int = 2000,
    digits: int = 500,
    seeds: Sequence[int] = tuple(range(6)),
) -> EffectiveBatch:
    r"""Measure how many independent values the batch mean of a feature map is worth.

    .. math:: m_\text{eff} = \frac{\sigma^2}{\operatorname{Var}[\mu_B]} = \frac{N}{\rho},

    with N images a batch and :math:`\rho` the share of the variance that lies between images. The
    maps are the inputs of the normalizations of an untrained network.

    Parameters
    ----------
    channels : sequence of int
        Feature maps of the network.
    images : int
        Images in a batch, N above.
    draws : int
        Batches, with replacement, to measure the variance of the mean.
    digits : int
        The population.
    seeds : sequence of int
        Each draws weights and batches.

    Returns
    -------
    EffectiveBatch

    Examples
    --------
    >>> effective_batch(channels=(2, 3), draws=10, digits=50, seeds=(0,)).positions.tolist()
    [784, 196]
    """
    x = _images(_digits()[1])[:digits]
    rows = []
    for seed in seeds:
        model = models.convnet(channels=channels, norm=bnlab.nn.BatchNorm2d, seed=seed)
        chosen = np.random.default_rng(seed).integers(len(x), size=(draws, images))
        rows.append([_worth(maps, chosen) for maps in _inputs_of_norms(model, x)])
    positions, intraclass, pattern, theory, measured = np.array(rows).transpose(2, 0, 1)
    return EffectiveBatch(
        layers=tuple(f"norm{k}" for k, _ in enumerate(channels, start=1)),
        images=images,
        positions=positions[0].astype(int),
        intraclass=intraclass,
        pattern=pattern,
        theory=theory,
        measured=measured,
    )


def _inputs_of_norms(model: nn.Sequential, x: Tensor) -> list[np.ndarray]:
    """Return what each normalization gets, (N, C, positions), all images being one batch."""
    found = []
    with torch.no_grad():
        for name, layer in model.train().named_children():
            if name.startswith("norm"):
                found.append(x.flatten(2).double().numpy())
            x = layer(x)
    return found


def _worth(maps: np.ndarray, chosen: np.ndarray) -> tuple[float, ...]:
    means, total = maps.mean(axis=2), maps.var(axis=(0, 2))
    rho = means.var(axis=0) / total
    pattern = maps.mean(axis=0).var(axis=1) / total
    measured = total / means[chosen].mean(axis=1).var(axis=0)
    theory, measured = (np.exp(np.log(v).mean()) for v in (chosen.shape[1] / rho, measured))
    return maps.shape[2], rho.mean(), pattern.mean(), theory, measured


def library_twins(
    *,
    channels: Sequence[int] = (8, 16),
    steps: int = 100,
    batch_size: int = 60,
    lr: float = 0.05,
    kinks: bool = True,
    seeds: Sequence[int] = tuple(range(12)),
) -> LibraryTwins:
    """Train one convolutional network with torch's layers and with ours, and follow the difference.

    The measure of how much difference rounding alone makes is a third run: torch's layers again,
    with a single weight of the first kernel moved to the next number of its precision.

    Parameters
    ----------
    channels : sequence of int
        Feature maps of the network.
    steps, batch_size, lr
        Of plain stochastic gradient descent on 4,000 digits.
    kinks : bool
        False for tanh instead of the ReLU and no maxima: a smooth network, on images of half the size.
    seeds : sequence of int
        Each draws weights and batches, the same for all three runs.

    Returns
    -------
    LibraryTwins

    Examples
    --------
    >>> result = library_twins(steps=3, seeds=(0,))
    >>> bool(result.loss_gap[0, 0, 0].max() < 1e-12)
    True
    """
    shape = (len(seeds), len(TWINS), len(PRECISIONS), steps)
    loss, loss_gap, weight_gap = (
        np.empty((*shape[:1], *shape[2:])),
        np.empty(shape),
        np.empty(shape),
    )
    for (i, seed), (k, dtype) in itertools.product(
        enumerate(seeds), enumerate(PRECISIONS.values())
    ):
        runs = [
            _run(norm, nudge, dtype, channels, batch_size, lr, kinks, seed)
            for norm, nudge in (
                (nn.BatchNorm2d, False), (bnlab.nn.BatchNorm2d, False), (nn.BatchNorm2d, True)
            )
        ]  # fmt: skip
        for t in range(steps):
            (base, weights), *others = (next(run) for run in runs)
            loss[i, k, t] = base
            for j, (other, moved) in enumerate(others):
                loss_gap[i, j, k, t] = abs(other - base)
                weight_gap[i, j, k, t] = (moved - weights).norm() / weights.norm()
    return LibraryTwins(
        twins=TWINS, precisions=tuple(PRECISIONS), seeds=tuple(seeds), batch_size=batch_size, lr=lr, kinks=kinks,
        loss=loss, loss_gap=loss_gap, weight_gap=weight_gap,
    )  # fmt: skip


def _run(norm, nudge: bool, dtype, channels, batch_size, lr, kinks: bool, seed):
    """Train, and yield after each step the loss before it and all weights, in float64."""
    train, _ = _digits()
    x, y = training.tensors(train, dtype=dtype)
    if kinks:
        model = models.convnet(channels=channels, norm=norm, seed=seed).to(dtype)
    else:
        x = functional.avg_pool2d(x.reshape(-1, 1, 28, 28), 2)
        model = models.convnet(
            (1, 14, 14),
            channels,
            norm=norm,
            activation="tanh",
            pool=1,
            init_std="xavier",
            seed=seed,
        ).to(dtype)
    weight = model.conv1.weight.data.view(-1)
    if nudge:
        weight[0] = torch.nextafter(weight[0], weight[0].new_tensor(torch.inf))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for chosen in training.shuffled_batches(len(x), batch_size=batch_size, seed=seed):
        loss = functional.cross_entropy(model(x[chosen]), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        weights = torch.cat([p.detach().double().flatten() for p in model.parameters()])
        yield loss.item(), weights


def folded_nets(
    *, batch_sizes: Sequence[int] = (1, 32), repeats: int = 150, width: int = 32, seed: int = 0
) -> FoldedNets:
    """Fold three kinds of networks, and time a call before and after, in turns.

    Parameters
    ----------
    batch_sizes : sequence of int
        Images a call.
    repeats : int
        Calls of each; 0 to time nothing.
    width : int
        Channels of the first layers.
    seed : int
        Of all weights and statistics.

    Returns
    -------
    FoldedNets

    Examples
    --------
    >>> result = folded_nets(batch_sizes=(2,), repeats=0, width=4)
    >>> dict(zip(result.networks, result.left.tolist()))
    {'plain': 0, 'residual': 3, 'mobile': 0}
    """
    networks = {
        "plain": models.convnet(channels=(width, 2 * width), norm=nn.BatchNorm2d, seed=seed).eval(),
        "residual": residual_net(width=width, seed=seed),
        "mobile": mobile_net(width=width, seed=seed),
    }
    x = _images(_digits()[1])[: max(batch_sizes)]
    results = [inference.fold(model, x) for model in networks.values()]
    pairs = [
        (model, result.model) for model, result in zip(networks.values(), results, strict=True)
    ]
    seconds = np.empty((repeats, len(networks), len(batch_sizes), 2))
    with torch.no_grad():
        for r, i, k, j in np.ndindex(seconds.shape):
            seconds[r, i, k, j] = _seconds(pairs[i][j], x[: batch_sizes[k]])
    return FoldedNets(
        networks=tuple(networks),
        batch_sizes=np.array(batch_sizes),
        folded=np.array([len(result.folded) for result in results]),
        left=np.array([len(result.left) for result in results]),
        numbers=np.array([[_size(model) for model in pair] for pair in pairs]),
        error=np.array([result.max_error / result.max_output for result in results]),
        seconds=seconds,
    )


def _seconds(model: nn.Module, x: Tensor) -> float:
    start = time.perf_counter()
    model(x)
    return time.perf_counter() - start


def _size(model: nn.Module) -> int:
    return sum(v.numel() for v in itertools.chain(model.parameters(), model.buffers()))


def repeat_shifted(result: ShiftedDigits, origin: Provenance) -> dict[str, float]:
    """Train the network with one pair a map and the first seed again, and return the difference of accuracies."""
    rate = result.best[result.normalizations.index("per map")]
    again = shifted_digits(
        normalizations=("per map",),
        shifts=result.shifts.tolist(),
        steps=result.steps,
        rates=result.rates[[rate]].tolist(),
        seeds=result.seeds[:1],
    )
    stored = result.accuracy[0, result.normalizations.index("per map"), rate]
    return {"accuracy": float(np.abs(again.accuracy[0, 0, 0] - stored).max())}


def repeat_twins(result: LibraryTwins, origin: Provenance, *, steps: int = 5) -> dict[str, float]:
    """Train the first seed for a few steps again, and return the relative difference of the losses."""
    again = library_twins(**origin.config | {"steps": steps, "seeds": result.seeds[:1]})
    return {"loss": difference(again.loss[0], result.loss[0, :, :steps])}


def repeat_folding(result: FoldedNets, origin: Provenance) -> dict[str, float]:
    """Fold again without the clock, and return the differences of all counts, and the largest error."""
    again = folded_nets(**origin.config | {"repeats": 0})
    counts = {
        name: difference(getattr(again, name), getattr(result, name))
        for name in ("folded", "left", "numbers")
    }
    return counts | {"error": float(again.error.max())}
