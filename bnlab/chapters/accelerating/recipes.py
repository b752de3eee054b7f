"""A convolutional network and everything around it that the paper changed along with adding normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnlab import models
from bnlab.data import Dataset

__all__ = [
    "CHANGES",
    "Images",
    "Recipe",
    "ResponseNorm",
    "Run",
    "batch_order",
    "checkpoints",
    "distort",
]


@dataclass(frozen=True)
class Recipe:
    """Everything about a training run that the paper's section 4.2.1 changes; the values here are the baseline's.

    Parameters
    ----------
    lr : float
        The learning rate at the start.
    normalized : bool
        Batch Normalization before each nonlinearity.
    halvings : float
        How often the learning rate halves over the run, little by little at every step.
    dropout : float
        Probability with which each input of the last layer is dropped.
    l2 : float
        Weight of the penalty on the squared weights of all layers, halved, in the loss.
    lrn : bool
        Local response normalization after each nonlinearity.
    shuffled : bool
        Shuffle the examples of each shard before every epoch, so that mini-batches are not always of the same
        examples; see `batch_order`.
    distortion : float
        Strength of the changes of contrast and brightness; see `distort`.
    activation : {"relu", "sigmoid", "tanh"}
        The nonlinearity.
    """

    lr: float
    normalized: bool = False
    halvings: float = 1.0
    dropout: float = 0.4
    l2: float = 5e-4
    lrn: bool = True
    shuffled: bool = False
    distortion: float = 0.5
    activation: str = "relu"


CHANGES: dict[str, Callable[[Recipe], Recipe]] = {
    "rate x 5": lambda r: replace(r, lr=5 * r.lr),
    "no Dropout": lambda r: replace(r, dropout=0.0),
    "L2 / 5": lambda r: replace(r, l2=r.l2 / 5),
    "decay x 6": lambda r: replace(r, halvings=6 * r.halvings),
    "no LRN": lambda r: replace(r, lrn=False),
    "shuffled": lambda r: replace(r, shuffled=True),
    "distortion / 5": lambda r: replace(r, distortion=r.distortion / 5),
}
"""The seven changes of Ioffe & Szegedy 2015, section 4.2.1. The factors 5, 5 and 6 of the first, third and fourth are
theirs; by how much they distorted less they do not say."""


@dataclass(frozen=True)
class Images:
    """Images, average-pooled to ``side`` by ``side``, and their classes."""

    x: torch.Tensor  # (N, side, side), between 0 and 1
    y: torch.Tensor  # (N,)
    mean: float  # of all pixels of the training images, and their standard deviation
    std: float

    @classmethod
    def of(cls, data: Dataset, *, side: int, like: Images | None = None, device="cpu") -> Images:
        """Pool the images of a data set; take mean and std from `like`, if given."""
        full = round(data.x.shape[1] ** 0.5)
        x = torch.tensor(data.x).reshape(-1, 1, full, full)
        x = functional.avg_pool2d(x, full // side)[:, 0]
        mean, std = (like.mean, like.std) if like else (float(x.mean()), float(x.std()))
        return cls(x.to(device), torch.tensor(data.y, dtype=torch.int64).to(device), mean, std)

    def standardized(self, x: torch.Tensor) -> torch.Tensor:
        """Return images with zero mean and unit variance over all training pixels."""
        return (x - self.mean) / self.std


def distort(x: torch.Tensor, u: torch.Tensor, v: torch.Tensor, *, strength: float) -> torch.Tensor:
    r"""Change the contrast and the brightness of each image.

    .. math:: x' = \bar x + e^{s u} (x - \bar x) + \tfrac{s}{2} v

    Parameters
    ----------
    x : torch.Tensor, shape (N, side, side)
        Images with pixels between 0 and 1; :math:`\bar x` is the mean of one image.
    u, v : torch.Tensor, shape (N,)
        Between -1 and 1, one draw an image.
    strength : float
        s, from 0 for no change.

    Returns
    -------
    torch.Tensor
        Pixels may leave the range from 0 to 1.

    Examples
    --------
    >>> x = torch.tensor([[[0.25, 0.75]]])
    >>> distort(x, torch.zeros(1), torch.ones(1), strength=0.5).tolist()
    [[[0.5, 1.0]]]
    """
    mean = x.mean(dim=(1, 2), keepdim=True)
    u, v = u[:, None, None], v[:, None, None]
    return mean + torch.exp(strength * u) * (x - mean) + strength / 2 * v


def batch_order(
    n: int, *, batch_size: int, shard: int, shuffled: bool, seed: int, epoch: int
) -> np.ndarray:
    """Return the row numbers of each mini-batch of one epoch, over data that lies in shards.

    The examples are dealt out to shards once, at random. Each epoch visits the shards in a new random order. With
    `shuffled` the examples *within* each shard are put into a new order as well; without, a mini-batch
    is of the same examples every time.

    Parameters
    ----------
    n, batch_size, shard : int
        Number of examples, of examples in a mini-batch, and of examples in a shard, a multiple of the mini-batch.
    shuffled : bool
    seed, epoch : int

    Returns
    -------
    numpy.ndarray of shape (n // batch_size, batch_size)

    Examples
    --------
    >>> settings = {"n": 100, "batch_size": 5, "shard": 20, "seed": 0}
    >>> def company(epoch, shuffled):
    ...     batches = batch_order(**settings, epoch=epoch, shuffled=shuffled)
    ...     return {frozenset(b.tolist()) for b in batches}
    >>> company(0, False) == company(1, False), company(0, True) == company(1, True)
    (True, False)
    """
    dealt = np.random.default_rng([seed, 0]).permutation(n)[: n - n % batch_size]
    shards = np.split(dealt, np.arange(shard, len(dealt), shard))
    rng = np.random.default_rng([seed, 1, epoch])
    visited = [shards[k] for k in rng.permutation(len(shards))]
    if shuffled:
        visited = [rng.permutation(s) for s in visited]
    return np.concatenate(visited).reshape(-1, batch_size)


def checkpoints(steps: int) -> np.ndarray:
    """Return the numbers of steps after which accuracy is measured: more often in the first eighth.

    Examples
    --------
    >>> checkpoints(6400).tolist()[:11]
    [100, 200, 300, 400, 500, 600, 700, 800, 1200, 1600, 2000]
    """
    early, late = np.arange(1, 9) * steps / 64, np.arange(3, 17) * steps / 16
    return np.unique(np.concatenate([early, late]).round().astype(int).clip(1))


class ResponseNorm(nn.Module):
    r"""Local response normalization over 5 neighboring maps, as a 1 by 1 convolution.

    .. math:: y_c = x_c \Big/ \Big(2 + 10^{-4} \sum_{|j - c| \le 2} x_j^2 \Big)^{3/4}

    The same function as ``torch.nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)``, in a fraction of the time.

    Parameters
    ----------
    channels : int
        Number of maps.

    Notes
    -----
    Krizhevsky, Sutskever & Hinton 2012, section 3.3.

    Examples
    --------
    >>> x = torch.linspace(-9, 9, 12).reshape(1, 6, 1, 2)
    >>> theirs = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    >>> torch.allclose(ResponseNorm(6)(x), theirs(x))
    True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = torch.arange(channels)
        near = ((c[:, None] - c).abs() <= 2).float()
        self.register_buffer("near", 1e-4 * near[:, :, None, None], persistent=False)
        self.register_buffer("two", torch.full((channels,), 2.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalized maps."""
        root = functional.conv2d(x * x, self.near, self.two).rsqrt()
        return x * (root * root.sqrt())


class Run:
    """One training run by one recipe.

    Every random draw follows from the seed and the number of the epoch or step alone, never from a generator
    that remembers.

    Parameters
    ----------
    recipe : Recipe
    train, test : Images
    steps : int
        Length of the whole run, over which the learning rate decays.
    batch_size, shard, channels, momentum
        Settings that all recipes share.
    seed : int
        Sets the weights and every random draw. Two recipes with one seed start from the same convolutions and see
        the same images.

    Examples
    --------
    >>> from bnlab.data import load
    >>> digits = Images.of(load("mnist-5k"), side=14)
    >>> run = Run(Recipe(lr=0.02), digits, digits, steps=60, channels=(4,), seed=0)
    >>> run.advance(4); run.done
    4
    """

    def __init__(
        self,
        recipe: Recipe,
        train: Images,
        test: Images,
        *,
        steps: int,
        seed: int,
        batch_size: int = 32,
        shard: int = 320,
        channels: Sequence[int] = (8, 16, 32),
        momentum: float = 0.9,
    ) -> None:
        self.recipe, self.train, self.test = recipe, train, test
        self.steps, self.seed, self.batch_size, self.shard = steps, seed, batch_size, shard
        self.model = models.convnet(
            (1, *train.x.shape[1:]),
            channels,
            activation=recipe.activation,
            norm=nn.BatchNorm2d if recipe.normalized else None,
            lrn=recipe.lrn,
            dropout=recipe.dropout,
            init_std="he" if recipe.activation == "relu" else "xavier",
            seed=seed,
        )
        for k, maps in enumerate(channels if recipe.lrn else (), start=1):
            self.model.set_submodule(f"lrn{k}", ResponseNorm(maps))
        self.model.to(train.x.device)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim == 1]
        self.optimizer = torch.optim.SGD(
            [{"params": matrices, "weight_decay": recipe.l2}, {"params": vectors}],
            lr=recipe.lr,
            momentum=momentum,
        )
        self.at = checkpoints(steps)
        self.accuracy, self.loss = (np.full(len(self.at), np.nan) for _ in range(2))
        self.done, self.total, self.epoch = 0, 0.0, (-1, np.empty((0, 0), dtype=int))

    @property
    def finite(self) -> bool:
        """Whether every loss so far was finite."""
        return bool(np.isfinite(self.total))

    def advance(self, until: int) -> None:
        """Train up to step number `until`, measuring at each checkpoint; stop at a loss that is not finite."""
        with torch.random.fork_rng(devices=[]):
            while self.done < until and self.finite:
                self._step()
                self._measure()
        if not self.finite:  # what a network of NaN says is what it will say
            late = self.at >= self.done
            self.accuracy[late] = self._accuracy()
            self.done = until

    def outcome(self) -> dict[str, np.ndarray]:
        """Return the curves."""
        return {"accuracy": self.accuracy, "loss": self.loss, "finite": np.array(self.finite)}

    def _step(self) -> None:
        x, y = self._batch()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * 0.5 ** (self.recipe.halvings * self.done / self.steps)
        torch.manual_seed(self.seed * 1_000_003 + self.done)  # for Dropout
        loss = functional.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.total += loss.item()
        self.done += 1

    def _batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        number, place = divmod(self.done, len(self.train.x) // self.batch_size)
        if number != self.epoch[0]:
            order = batch_order(
                len(self.train.x), batch_size=self.batch_size, shard=self.shard,
                shuffled=self.recipe.shuffled, seed=self.seed, epoch=number,
            )  # fmt: skip
            self.epoch = (number, order)
        rows = torch.from_numpy(self.epoch[1][place])
        draws = np.random.default_rng([self.seed, 2, self.done]).uniform(-1, 1, (2, len(rows)))
        u, v = torch.tensor(draws, dtype=torch.float32, device=self.train.x.device)
        x = distort(self.train.x[rows], u, v, strength=self.recipe.distortion)
        return self.train.standardized(x), self.train.y[rows]

    def _measure(self) -> None:
        k = int(np.searchsorted(self.at, self.done))
        if k < len(self.at) and self.at[k] == self.done:
            self.loss[k] = self.total / (self.at[k] - (self.at[k - 1] if k else 0))
            self.accuracy[k] = self._accuracy()
            self.total = 0.0 * self.total  # stays NaN if it is

    def _accuracy(self) -> float:
        self.model.eval()
        with torch.no_grad():
            right = [
                (self.model(self.test.standardized(x)).argmax(dim=1) == y).sum()
                for x, y in zip(self.test.x.split(500), self.test.y.split(500), strict=True)
            ]
        self.model.train()
        return float(sum(right)) / len(self.test.y)
