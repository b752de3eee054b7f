"""Two recipes in dispute: normalize before or after the nonlinearity, and decay gamma and beta or not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnlab import data, models, training
from bnlab.chapters.troubleshooting.results import RecipeSearch, RecipeTrial
from bnlab.experiments import Provenance, difference

__all__ = ["BEST", "PAIRS", "RATES", "RECIPES", "rates", "repeat_rates", "repeat_trial", "trial"]

SIZES = (784, 100, 100, 100, 10)
RECIPES = (
    "before the ReLU",
    "after the ReLU",
    "decay 0.0005 of all",
    "decay 0.0005, not of gamma and beta",
    "decay 0.005 of all",
    "decay 0.005, not of gamma and beta",
)
PAIRS = ((0, 1), (2, 3), (4, 5))
"""Which recipes are compared, by their place."""
RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BEST = (0.3, 0.3, 0.3, 0.3, 0.3, 0.1)
"""The rate of each recipe with the best mean in the stored search; a test compares them."""


def rates(
    *,
    steps: int = 300,
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = (100, 101, 102, 103),
) -> RecipeSearch:
    """Train each recipe at each rate, and score it on 1,000 of the training images, left out for that.

    Parameters
    ----------
    steps : int
        Of the training, on the 3,000 other images.
    rates : sequence of float
    seeds : sequence of int
        Other ones than those of :func:`trial`.

    Returns
    -------
    RecipeSearch

    Examples
    --------
    >>> rates(steps=1, rates=(0.1,), seeds=(100,)).accuracy.shape
    (1, 6, 1)
    """
    train, _ = data.mnist_5k().split(test=1000, seed=0)
    learned, chosen = train.split(test=1000, seed=1)
    found = [
        [
            [_accuracy(recipe, lr, steps, seed, learned, chosen) for lr in rates]
            for recipe in RECIPES
        ]
        for seed in seeds
    ]
    return RecipeSearch(
        steps=steps,
        seeds=tuple(seeds),
        recipes=RECIPES,
        rates=tuple(rates),
        accuracy=np.array(found),
    )


def trial(
    *, steps: int = 300, rates: Sequence[float] = BEST, seeds: Sequence[int] = tuple(range(16))
) -> RecipeTrial:
    """Train each recipe at its own rate, and score it on 1,000 images that served for nothing else.

    Parameters
    ----------
    steps : int
        Of the training, on 4,000 images.
    rates : sequence of float
        One for each recipe.
    seeds : sequence of int

    Returns
    -------
    RecipeTrial

    Examples
    --------
    >>> trial(steps=1, seeds=(0,)).accuracy.shape
    (1, 6)
    """
    learned, test = data.mnist_5k().split(test=1000, seed=0)
    found = [
        [_accuracy(r, lr, steps, seed, learned, test) for r, lr in zip(RECIPES, rates, strict=True)]
        for seed in seeds
    ]
    return RecipeTrial(
        steps=steps,
        seeds=tuple(seeds),
        recipes=RECIPES,
        rates=tuple(rates),
        accuracy=np.array(found),
    )


def _accuracy(
    recipe: str, lr: float, steps: int, seed: int, learned: data.Dataset, test: data.Dataset
) -> float:
    model = models.mlp(SIZES, activation="relu", norm=nn.BatchNorm1d, seed=seed)
    if recipe == "after the ReLU":
        model = _swapped(model)
    optimizer = torch.optim.SGD(_groups(model, recipe), lr=lr)
    x, y = training.tensors(learned)
    batches = training.shuffled_batches(len(x), batch_size=60, seed=seed)
    model.train()
    for _ in range(steps):
        rows = next(batches)
        optimizer.zero_grad()
        functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return training.accuracy(model, test)


def _swapped(model: nn.Sequential) -> nn.Sequential:
    """Return the model with each nonlinearity before its normalization."""
    layers = dict(model.named_children())
    order = [f"{kind}{k}" for k in range(1, len(SIZES)) for kind in ("linear", "act", "norm")]
    return nn.Sequential(OrderedDict((name, layers[name]) for name in order if name in layers))


def _groups(model: nn.Module, recipe: str) -> list[dict]:
    """Return the parameters with the weight decay of a recipe."""
    decay = float(recipe.split(",")[0].split()[1]) if recipe.startswith("decay") else 0.0
    exempt = recipe.endswith("not of gamma and beta")
    affine = {
        id(p) for m in model.modules() if isinstance(m, nn.BatchNorm1d) for p in m.parameters()
    }
    free = [p for p in model.parameters() if exempt and id(p) in affine]
    rest = [p for p in model.parameters() if not (exempt and id(p) in affine)]
    return [{"params": rest, "weight_decay": decay}, {"params": free, "weight_decay": 0.0}]


def repeat_rates(stored: RecipeSearch, origin: Provenance) -> dict[str, float]:
    """Run the first seed again at the first rate; return the largest difference of an accuracy."""
    now = rates(**origin.config | {"seeds": stored.seeds[:1], "rates": stored.rates[:1]})
    return {"accuracy": difference(now.accuracy[..., 0], stored.accuracy[:1, :, 0])}


def repeat_trial(stored: RecipeTrial, origin: Provenance) -> dict[str, float]:
    """Run the first seed again; return the largest difference of an accuracy."""
    now = trial(**origin.config | {"seeds": stored.seeds[:1]})
    return {"accuracy": difference(now.accuracy, stored.accuracy[:1])}
