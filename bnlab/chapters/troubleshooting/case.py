"""One case from checkpoint to export: a small residual network gone bad, and mended."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bnlab import data, inference, training
from bnlab.chapters.convolutional_batchnorm.small_nets import residual_net
from bnlab.chapters.troubleshooting.faults import hits
from bnlab.chapters.troubleshooting.results import CaseStudy
from bnlab.experiments import Provenance, difference

__all__ = ["STAGES", "case_study", "few_images", "network", "read", "repeat"]

STAGES = ("in batches", "as saved", "recalibrated", "fine-tuned, not frozen", "fine-tuned, frozen")


def network(width: int = 6, seed: int = 0) -> nn.Sequential:
    """Return the residual network of chapter 8 behind layers that make images of 14 by 14 of rows."""
    image = nn.Unflatten(1, (1, 28, 28))
    return nn.Sequential(image, nn.AvgPool2d(2), residual_net(width=width, seed=seed))


def read(checkpoint: np.ndarray, width: int = 6) -> nn.Sequential:
    """Return the network with the numbers that were saved, in evaluation mode.

    Parameters
    ----------
    checkpoint : numpy.ndarray
        `CaseStudy.checkpoint`.
    width : int
        Of the network.

    Returns
    -------
    torch.nn.Sequential

    Examples
    --------
    >>> read(write(network(4)), 4)[1]
    AvgPool2d(kernel_size=2, stride=2, padding=0)
    """
    model = network(width)
    state, values = model.state_dict(), torch.from_numpy(checkpoint)
    sizes = [value.numel() for value in state.values()]
    parts = values.split(sizes)
    model.load_state_dict(
        {
            k: part.view(v.shape).to(v.dtype)
            for (k, v), part in zip(state.items(), parts, strict=True)
        }
    )
    for layer in _norms(model):
        layer.momentum = 0.99  # as in the code that trained it
    return model.eval()


def write(model: nn.Module) -> np.ndarray:
    """Return all numbers of a state, one after another."""
    return torch.cat([v.float().flatten() for v in model.state_dict().values()]).numpy()


def few_images(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the 200 training images that are there for fine-tuning, shuffled, and their classes."""
    train, _ = data.mnist_5k().split(test=1000, seed=0)
    x, y = training.tensors(train)
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(1000 + seed))[:200]
    return x[rows], y[rows]


def case_study(
    *, steps: int = 200, width: int = 6, lr: float = 0.5, seeds: Sequence[int] = tuple(range(16))
) -> CaseStudy:
    """Train, spoil the statistics, recalibrate, and fine-tune the last layer with and without freezing.

    The fault: the momentum 0.99 of Keras in torch, and a validation before saving that forgot
    ``model.eval()``, on images sorted by class. The fine-tuning: 50 steps on batches of four images,
    with all parameters but the last layer's fixed by ``requires_grad``.

    Parameters
    ----------
    steps, lr
        Of the training, in batches of 50.
    width : int
        Channels of the first blocks.
    seeds : sequence of int

    Returns
    -------
    CaseStudy
        Accuracies on 1,000 images, in evaluation but for the first: that one normalizes by batches of 50.

    Examples
    --------
    >>> case_study(steps=1, width=2, seeds=(0,)).accuracy.shape
    (1, 5)
    """
    train, test = data.mnist_5k().split(test=1000, seed=0)
    x, y = training.tensors(test)
    learned, classes = training.tensors(train)
    found: list[list[float]] = []
    saved: np.ndarray | None = None
    for seed in seeds:
        model = network(width, seed)
        training.train(model, train, lr=lr, steps=steps, batch_size=50, seed=seed)
        accuracies = [hits(model.train(), x, y, batch_size=50)]
        for layer in _norms(model):
            layer.momentum = 0.99
        model.train()
        with torch.no_grad():
            for batch in learned[classes.argsort(stable=True)].split(100):
                model(batch)
        saved = write(model) if saved is None else saved
        accuracies.append(hits(model.eval(), x, y))
        inference.recalibrate(model, [few_images(seed)[0]])
        accuracies.append(hits(model, x, y))
        for freeze in (False, True):
            tuned = fine_tune(copy.deepcopy(model), freeze=freeze, seed=seed)
            accuracies.append(hits(tuned.eval(), x, y))
        found.append(accuracies)
    return CaseStudy(
        steps=steps, width=width, seeds=tuple(seeds), stages=STAGES,
        accuracy=np.array(found), checkpoint=np.array(saved),
    )  # fmt: skip


def fine_tune(model: nn.Module, *, freeze: bool, seed: int, steps: int = 50) -> nn.Module:
    """Train the last layer on few images in batches of four, in training mode; return the model."""
    x, y = few_images(seed)
    parameters = list(model.parameters())
    for p in parameters[:-2]:
        p.requires_grad_(False)
    if freeze:
        inference.freeze(model)
    optimizer = torch.optim.SGD(parameters[-2:], lr=0.01)
    batches = training.shuffled_batches(len(x), batch_size=4, seed=seed)
    model.train()
    for _ in range(steps):
        rows = next(batches)
        optimizer.zero_grad()
        functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model


def _norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def repeat(stored: CaseStudy, origin: Provenance) -> dict[str, float]:
    """Read the stored checkpoint again; return the difference of its accuracy as saved."""
    _, test = data.mnist_5k().split(test=1000, seed=0)
    now = hits(read(stored.checkpoint, stored.width), *training.tensors(test))
    return {"as saved": difference(now, stored.accuracy[0, 1])}
