"""Train an ensemble on a schedule of evaluations, and stop and resume it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from bnlab._validate import integer
from bnlab.data import Dataset
from bnlab.training._percentiles import PERCENTILES
from bnlab.training.ensemble import Ensemble, Member
from bnlab.training.history import EnsembleHistory

Report = Callable[[int, int, Callable[[], dict[str, Any]]], None]

_PIECE = 500  # steps between two reports


def train_ensemble(
    build: Callable[[int], nn.Module],
    data: Dataset,
    *,
    members: Sequence[Member],
    steps: int,
    batch_size: int,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    eval_data: Dataset | None = None,
    eval_at: Sequence[int] = (),
    recalibrate_on: Iterable[torch.Tensor] | None = None,
    watch: str | None = None,
    watch_every: int = 1,
    histogram_at: Sequence[int] = (),
    histogram_edges: np.ndarray | None = None,
    report: Report | None = None,
    state: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> EnsembleHistory:
    """Train many networks of one architecture in one batched run, each as if it were alone.

    Member i is trained as ``train(build(seed_i), data, lr=lr_i, seed=seed_i, ...)`` would train it:
    the same batches and, up to rounding, the same numbers. What is evaluated and recorded changes
    nothing in the training.

    Parameters
    ----------
    build, data, members, batch_size, momentum, weight_decay, watch, watch_every, device
        As for :class:`Ensemble`.
    steps : int
        Number of steps, at least 0.
    eval_data : bnlab.data.Dataset, optional
        What to evaluate on.
    eval_at : sequence of int
        After how many steps, from 0 to `steps`.
    recalibrate_on : list of torch.Tensor, optional
        Training batches: evaluate a second time with their population statistics.
    histogram_at, histogram_edges
        After how many steps to count, on `eval_data` in evaluation mode, what each unit of the layer
        `watch` receives, and the edges of the bins; values outside count in the outer bins.
    report : callable, optional
        Called as ``report(done, total, snapshot)`` every 500 steps; ``snapshot()`` returns a state.
    state : mapping, optional
        A state to go on from, by the same call with the same arguments: the result is the same, bit
        for bit.

    Returns
    -------
    EnsembleHistory
        A loss that is not finite is recorded as it is; nothing stops the run, and no other member
        is disturbed.

    Raises
    ------
    TypeError, ValueError
        As :class:`Ensemble`, and if `eval_at` or `histogram_at` is out of range or has no data or
        no layer to work with, or `state` comes from another run.

    Examples
    --------
    >>> from bnlab.data import mnist_5k
    >>> from bnlab.models import mlp
    >>> train, test = mnist_5k().split(test=1000)
    >>> history = train_ensemble(
    ...     lambda seed: mlp([784, 20, 10], norm=nn.BatchNorm1d, seed=seed), train,
    ...     members=[Member(lr, seed) for lr in (0.1, 0.5) for seed in (0, 1)], steps=40,
    ...     batch_size=60, eval_data=test, eval_at=(0, 20, 40), watch="act1",
    ... )
    >>> history.accuracy.shape, history.percentiles.shape
    ((4, 3), (4, 40, 3, 20))
    """
    steps = integer("steps", steps, low=0)
    settings = {
        "members": members,
        "batch_size": batch_size,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "watch": watch,
        "watch_every": watch_every,
    }
    records = _Records(
        eval_data=eval_data,
        eval_at=_schedule("eval_at", eval_at, steps, eval_data),
        recalibrate_on=recalibrate_on,
        watch=watch,
        histogram_at=_schedule("histogram_at", histogram_at, steps, eval_data),
        edges=_checked_edges(histogram_at, histogram_edges, watch),
    )
    ensemble = Ensemble(build, data, **settings, device=device)
    if state is not None:
        ensemble.restore(state)
        records.restore(state)
    stops = {*range(_PIECE, steps, _PIECE), *records.eval_at, *records.histogram_at, steps}
    records.take(ensemble)
    for stop in sorted(stop for stop in stops if stop > ensemble.step):
        ensemble.advance(stop - ensemble.step)
        records.take(ensemble)
        if report is not None and (stop % _PIECE == 0 or stop == steps):
            report(stop, steps, lambda: ensemble.state() | records.state())
    return EnsembleHistory(
        lr=np.array([m.lr for m in ensemble.members]),
        seed=np.array([m.seed for m in ensemble.members]),
        steps=steps,
        batch_size=ensemble.batch_size,
        momentum=ensemble.momentum,
        weight_decay=ensemble.weight_decay,
        loss=ensemble.loss,
        eval_at=np.array(records.eval_at, dtype=int),
        watch=watch or "",
        watch_at=np.arange(0, steps if watch else 0, ensemble.watch_every),
        q=PERCENTILES,
        percentiles=ensemble.percentiles,
        histogram_at=np.array(records.histogram_at, dtype=int),
        histogram_edges=records.edges,
        **records.state(),
    )


class _Records:
    """Evaluations and histograms, taken when their step has come."""

    def __init__(self, *, eval_data, eval_at, recalibrate_on, watch, histogram_at, edges):
        self.eval_data, self.eval_at, self.recalibrate_on = eval_data, eval_at, recalibrate_on
        self.watch, self.histogram_at, self.edges = watch, histogram_at, edges
        self.found: dict[str, list[np.ndarray]] = {name: [] for name in _AXES}

    def take(self, ensemble: Ensemble) -> None:
        """Record what is due after the steps taken so far, once."""
        done = len(self.found["accuracy"])
        if done < len(self.eval_at) and self.eval_at[done] == ensemble.step:
            scores = ensemble.evaluate(self.eval_data)
            self.found["accuracy"].append(scores.accuracy)
            self.found["eval_loss"].append(scores.loss)
            if self.recalibrate_on is not None:
                scores = ensemble.evaluate(self.eval_data, recalibrate_on=self.recalibrate_on)
                self.found["recalibrated_accuracy"].append(scores.accuracy)
        done = len(self.found["histograms"])
        if done < len(self.histogram_at) and self.histogram_at[done] == ensemble.step:
            seen = ensemble.observe(self.eval_data, self.watch)
            self.found["histograms"].append(_histograms(seen, self.edges))
        self.members = len(ensemble.members)

    def state(self) -> dict[str, np.ndarray]:
        """Return what was recorded, member by member."""
        return {
            name: np.stack(values, axis=1) if values else np.zeros((self.members, 0, *(0,) * more))
            for (name, more), values in zip(_AXES.items(), self.found.values(), strict=True)
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, values in self.found.items():
            if name not in state:
                raise ValueError(
                    f"the state has no {name}; expected what report's snapshot returned."
                )
            values.extend(np.moveaxis(np.asarray(state[name]), 1, 0))


# What is recorded, and the number of its axes after (S, records).
_AXES = {"accuracy": 0, "eval_loss": 0, "recalibrated_accuracy": 0, "histograms": 2}


def _histograms(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count (S, examples, units) into (S, units, bins)."""
    bins = len(edges) - 1
    which = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
    members, _, units = values.shape
    offset = np.arange(members)[:, None, None] * units + np.arange(units)
    counts = np.bincount((offset * bins + which).ravel(), minlength=members * units * bins)
    return counts.reshape(members, units, bins).astype(np.int32)


def _schedule(name: str, at: Sequence[int], steps: int, data: Dataset | None) -> tuple[int, ...]:
    if not isinstance(at, Iterable):
        raise TypeError(f"{name} is {at!r}; expected a sequence of steps. Write [{at!r}].")
    found = tuple(sorted({integer(f"{name}[{i}]", t, low=0, high=steps) for i, t in enumerate(at)}))
    if found and data is None:
        raise ValueError(f"{name} is {at!r} but there is no eval_data. Pass a bnlab.data.Dataset.")
    if found and not isinstance(data, Dataset):
        raise TypeError(f"eval_data is a {type(data).__name__}; expected a bnlab.data.Dataset.")
    return found


def _checked_edges(at: Sequence[int], edges: np.ndarray | None, watch: str | None) -> np.ndarray:
    if len(at) == 0:
        return np.empty(0)
    edges = np.asarray([] if edges is None else edges, dtype=float)
    if watch is None or edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(
            f"histogram_at needs a layer to watch and increasing edges; watch is {watch!r}, "
            f"histogram_edges {edges}. Pass e.g. watch='act3', histogram_edges=np.linspace(-5, 5, 51)."
        )
    return edges
