"""Networks that are well in training and bad in evaluation, for eight reasons, and their repairs."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bnlab import data, diagnosis, inference, models, training
from bnlab.chapters.troubleshooting.results import Faults
from bnlab.experiments import Provenance, difference

__all__ = ["CAUSES", "IDS", "evaluation_faults", "hits", "pale", "repeat"]

SIZES = (784, 50, 50, 50, 10)
CAUSES = (
    "momentum 0.001: late",
    "momentum 0.99: one batch",
    "one batch with Inf",
    "validated in training mode, sorted",
    "one layer left in training mode",
    "averaged weights",
    "Dropout before the layer",
    "other camera",
)


IDS = (
    "start-up-bias",
    "reversed-momentum",
    "nonfinite-statistics",
    "stale-statistics",
    "train-mode-in-evaluation",
    "averaged-weights",
    "dropout-before",
    "shifted-batches",
)
"""What `bnlab.diagnose` may find, each the name of the fault at its place in `CAUSES`."""


def pale(x: Tensor) -> Tensor:
    """Return what a camera with less contrast sees: from 0.3 to 0.8 instead of 0 to 1."""
    return 0.5 * x + 0.3


@torch.no_grad()
def hits(model: nn.Module, x: Tensor, y: Tensor, *, batch_size: int | None = None) -> float:
    """Return the share of examples that a model gets right, in the modes that its layers have.

    Parameters
    ----------
    model : torch.nn.Module
        It is copied, so its statistics stay.
    x, y : torch.Tensor
        Examples and their classes.
    batch_size : int, optional
        All at once by default.

    Returns
    -------
    float
        From 0 to 1.

    Examples
    --------
    >>> hits(nn.Identity(), torch.eye(3), torch.tensor([0, 1, 1]))
    0.6666666865348816
    """
    model = copy.deepcopy(model)
    chunks = x.split(batch_size or len(x))
    return float((torch.cat([model(c) for c in chunks]).argmax(1) == y).float().mean())


def norms(model: nn.Module) -> list[nn.BatchNorm1d]:
    """List the normalizations of a model."""
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]


def evaluation_faults(
    *,
    steps: int = 300,
    batch_size: int = 60,
    lr: float = 0.5,
    seeds: Sequence[int] = tuple(range(16)),
) -> Faults:
    """Train once a seed, plant each fault in a copy, and repair it.

    Only Dropout needs a training of its own: a step of training never reads the running statistics, so
    other faults can be planted in the same weights.

    Parameters
    ----------
    steps, batch_size, lr
        Of the training, on 4,000 digits.
    seeds : sequence of int

    Returns
    -------
    Faults
        On 1,000 other digits; those of another camera are the same ones, paler.

    Examples
    --------
    >>> evaluation_faults(steps=2, seeds=(0,)).before.shape
    (1, 8)
    """
    rows = [_one(seed, steps, batch_size, lr) for seed in seeds]
    by_batch, before, after, found, healthy = (np.array(v) for v in zip(*rows, strict=True))
    return Faults(
        steps=steps, seeds=tuple(seeds), causes=CAUSES, ids=IDS,
        by_batch=by_batch, before=before, after=after, found=found, healthy=healthy,
    )  # fmt: skip


def _one(seed: int, steps: int, batch_size: int, lr: float) -> tuple:
    """Return the three accuracies of each cause and what is found, and the accuracy without a fault."""
    train, test = data.mnist_5k().split(test=1000, seed=0)
    x, y = training.tensors(test)
    learned, classes = training.tensors(train)
    order = torch.randperm(len(learned), generator=torch.Generator().manual_seed(seed))
    shuffled = learned[order]
    model = models.mlp(SIZES, activation="relu", norm=nn.BatchNorm1d, seed=seed)
    watchers = {a: _watch(model, a) for a in (0.001, 0.99)}
    averaged = AveragedModel(model)

    def on_step(t: int, model: nn.Module) -> None:
        if t >= steps / 2 and t % 10 == 0:
            averaged.update_parameters(model)

    options = {"lr": lr, "steps": steps, "batch_size": batch_size, "seed": seed}
    training.train(model, train, on_step=on_step, **options)
    dropped = _with_dropout(models.mlp(SIZES, activation="relu", norm=nn.BatchNorm1d, seed=seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        training.train(dropped, train, **options)
    for layer in norms(model):
        layer._forward_pre_hooks.clear()

    def other_statistics(momentum: float) -> nn.Module:
        twin = copy.deepcopy(model)
        for layer, watcher in zip(norms(twin), watchers[momentum], strict=True):
            layer.load_state_dict(layer.state_dict() | _statistics(watcher))
            layer.momentum = momentum
        return twin

    def after_batches(batches: Sequence[Tensor]) -> nn.Module:
        twin = copy.deepcopy(model).train()
        with torch.no_grad():
            for batch in batches:
                twin(batch)
        return twin

    by_class = learned[classes.argsort(stable=True)].split(batch_size)
    broken = shuffled[:batch_size].clone()
    broken[0] = torch.inf
    one_awake = copy.deepcopy(model)
    dim = pale(x)

    def again(twin: nn.Module, images: Tensor = shuffled) -> None:
        inference.recalibrate(twin, images.split(500))

    def left_awake(twin: nn.Module) -> nn.Module:
        norms(twin.eval())[0].train()
        return twin

    plain: Callable[[nn.Module], nn.Module] = nn.Module.eval
    cases = (  # the model, how it is put to use, the repair, and the images that it meets, in batches of
        (other_statistics(0.001), plain, again, x, None),
        (other_statistics(0.99), plain, again, x, None),
        (after_batches([broken]), plain, again, x, None),
        (after_batches(by_class), plain, again, x, None),
        (one_awake, left_awake, nn.Module.eval, x, 2),
        (copy.deepcopy(averaged.module), plain, again, x, None),
        (dropped, plain, again, x, None),
        (copy.deepcopy(model), plain, lambda m: again(m, pale(shuffled)), dim, None),
    )
    looked_at = shuffled[:800].split(100)
    found = []
    for k, (twin, use, repair, images, size) in enumerate(cases):
        judged = AveragedModel(twin) if CAUSES[k] == "averaged weights" else twin
        others = images.split(100) if CAUSES[k] == "other camera" else None
        options = {"batch_size": batch_size, "size": size}
        report = diagnosis.diagnose(use(judged), looked_at, other_batches=others)
        ids = [name in report.ids for name in IDS]
        found.append((*_three(twin, use, repair, images, y, **options), ids))
    healthy = hits(model.eval(), x, y)
    return (*(list(v) for v in zip(*found, strict=True)), healthy)


def _three(
    model: nn.Module,
    use: Callable[[nn.Module], nn.Module],
    repair: Callable[[nn.Module], object],
    x: Tensor,
    y: Tensor,
    *,
    size: int | None,
    batch_size: int,
) -> tuple[float, float, float]:
    """Return the accuracy by batches, as it is used, and after the repair."""
    awake = copy.deepcopy(model).eval()
    for layer in norms(awake):
        layer.train()
    by_batch = hits(awake, x, y, batch_size=batch_size)
    before = hits(use(model), x, y, batch_size=size)
    repair(model)
    return by_batch, before, hits(model.eval(), x, y, batch_size=size)


def _statistics(layer: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in layer.state_dict().items() if k.startswith("running")}


def _watch(model: nn.Module, momentum: float) -> list[nn.BatchNorm1d]:
    """Let other layers keep running statistics of the same inputs, at another momentum."""
    watchers = [nn.BatchNorm1d(m.num_features, momentum=momentum) for m in norms(model)]
    for layer, watcher in zip(norms(model), watchers, strict=True):

        def look(layer: nn.Module, args: tuple, watcher: nn.Module = watcher) -> None:
            with torch.no_grad():
                watcher(args[0])

        layer.register_forward_pre_hook(look)
    return watchers


def _with_dropout(model: nn.Sequential, p: float = 0.5) -> nn.Sequential:
    """Put Dropout behind each nonlinearity, and so before the next normalization."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in model.named_children():
        layers[name] = layer
        if name.startswith("act"):
            layers[f"dropout{name[3:]}"] = nn.Dropout(p)
    return nn.Sequential(layers)


def repeat(stored: Faults, origin: Provenance) -> dict[str, float]:
    """Run the first seed again; return the largest difference of each accuracy."""
    now = evaluation_faults(**origin.config | {"seeds": stored.seeds[:1]})
    return {
        name: difference(getattr(now, name), getattr(stored, name)[:1])
        for name in ("by_batch", "before", "after", "found", "healthy")
    }
