"""Chapter 2: covariate shift between two data sets, and inside a network that learns."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnlab import data, models, probes, training
from bnlab.chapters.covariate_shift.results import DriftRun, LearningRates, ShiftedFit
from bnlab.chapters.covariate_shift.signal_depth import saturated_share
from bnlab.experiments import Provenance, difference

__all__ = ["drift_run", "learning_rates", "repeat", "repeat_rates", "shifted_fit"]

SIZES = (784, 100, 100, 100, 10)  # the network of Ioffe & Szegedy 2015, section 4.1
BATCH_SIZE = 60  # and its batch size
INIT_STD = 0.1  # our choice: the paper gives none
SITES = ("linear2", "act1", "act2", "act3")  # we look at the inputs of these layers
ARMS = {"plain": None, "BN": nn.BatchNorm1d}
# What Chapter 2 compares. Each has the best rate of its arm by `learning_rates`, and "bn" that of the other arm.
RUNS = {
    "plain": {"arm": "plain", "init_std": INIT_STD, "lr": 1},
    "bn": {"arm": "BN", "init_std": INIT_STD, "lr": 1},
    "bn_own": {"arm": "BN", "init_std": INIT_STD, "lr": 2},
    "better_plain": {"arm": "plain", "init_std": 0.4, "lr": 2},
    "better_bn": {"arm": "BN", "init_std": 0.4, "lr": 4},
}


def shifted_fit(*, n: int = 100, noise: float = 0.3, seeds: int = 200) -> ShiftedFit:
    r"""Fit a line and a cubic on one input distribution and use them on another.

    The truth is :math:`y = x^3 - x` plus noise everywhere; only the inputs move, from
    :math:`\mathcal N(0.5, 0.5^2)` in training to :math:`\mathcal N(0, 0.3^2)` later. The weighted
    line gives each training point the weight :math:`p_\text{new}(x) / p_\text{train}(x)`. The mean of
    the new points, used everywhere, is what a model that ignores x can do.

    Parameters
    ----------
    n : int
        Training points, and new points.
    noise : float
        Standard deviation of the noise on y.
    seeds : int
        Seeds 0, 1, ... are run.

    Returns
    -------
    ShiftedFit

    Notes
    -----
    After Shimodaira 2000, who introduced the weights.

    Examples
    --------
    >>> result = shifted_fit(seeds=20)
    >>> line, _, best_line, *_ = result.error.mean(axis=0)[:, 1]  # on the new inputs
    >>> bool(line > 10 * best_line)
    True
    """
    fits = ("line", "weighted line", "line for new inputs", "mean of new points", "cubic")
    grid = np.linspace(-1.2, 1.8, 121)
    errors = np.empty((seeds, len(fits), 2))
    for seed in reversed(range(seeds)):  # the first seed comes last, and stays for the figure
        rng = np.random.default_rng(seed)
        train, new = rng.normal(0.5, 0.5, n), rng.normal(0.0, 0.3, n)
        y_train, y_new = (_truth(x) + rng.normal(0, noise, n) for x in (train, new))
        weight = 0.5 / 0.3 * np.exp(((train - 0.5) / 0.5) ** 2 / 2 - (train / 0.3) ** 2 / 2)
        coefficients = (
            np.polyfit(train, y_train, 1),
            np.polyfit(train, y_train, 1, w=np.sqrt(weight)),  # polyfit squares its weights
            np.polyfit(new, y_new, 1),
            np.polyfit(new, y_new, 0),
            np.polyfit(train, y_train, 3),
        )
        fresh = rng.normal(size=1000)
        for side, x in enumerate((0.5 + 0.5 * fresh, 0.3 * fresh)):
            for i, c in enumerate(coefficients):
                errors[seed, i, side] = np.mean((np.polyval(c, x) - _truth(x)) ** 2)
    curves = np.stack([np.polyval(c, grid) for c in coefficients])
    return ShiftedFit(fits, errors, train, y_train, new, y_new, grid, _truth(grid), curves)


def _truth(x: np.ndarray) -> np.ndarray:
    return x**3 - x


def learning_rates(
    arm: str,
    *,
    lrs: Sequence[float] = (0.5, 1, 2, 4),
    init_std: float = INIT_STD,
    steps: int = 300,
    seeds: Sequence[int] = (100, 101),
) -> LearningRates:
    """Train the digit network for a few steps at each learning rate.

    The seeds are none of those that `drift_run` uses, so choosing by this table favours no reported run.

    Parameters
    ----------
    arm : {"plain", "BN"}
        Without normalization, or with it.
    lrs : sequence of float
    init_std : float
        Standard deviation of the first weights.
    steps : int
    seeds : sequence of int

    Returns
    -------
    LearningRates
    """
    digits, _ = _digits()
    loss = np.empty((len(seeds), len(lrs)))
    for i, seed in enumerate(seeds):
        for j, lr in enumerate(lrs):
            model = _network(arm, seed, init_std)
            history = training.train(
                model, digits, lr=lr, steps=steps, batch_size=BATCH_SIZE, seed=seed
            )
            loss[i, j] = history.loss[-steps // 6 :].mean()
    return LearningRates(lr=np.array(lrs, dtype=float), loss=loss)


def drift_run(
    arm: str,
    *,
    lr: float,
    init_std: float = INIT_STD,
    steps: int = 600,
    every: int = 20,
    one_step_at: Sequence[int] = (0, 20, 100, 600),
    probe_size: int = 500,
    seeds: Sequence[int] = tuple(range(6)),
) -> DriftRun:
    r"""Train the digit network and record how the inputs of its layers move.

    What a layer receives is observed on one fixed set of training digits, in training mode as one
    batch, so that Batch Normalization acts as it does while learning. Drift since the start compares
    with step 0; one-step drift compares with the same model one gradient step earlier, for a step of
    all layers and for a step of layer 1 alone (its weights and, if any, bias or :math:`\gamma, \beta`).
    As a yardstick, the same distance between two batches of 60 digits, before the first step: what a
    layer receives differs by that much from batch to batch anyway.

    Parameters
    ----------
    arm : {"plain", "BN"}
        Without normalization, or with it.
    lr : float
    init_std : float
        Standard deviation of the first weights.
    steps, every : int
        Length of the run, and steps between two records.
    one_step_at : sequence of int
        Records at which single steps are tried on copies.
    probe_size : int
        Digits observed.
    seeds : sequence of int
        Each sets the weights and the order of the batches.

    Returns
    -------
    DriftRun

    Raises
    ------
    ValueError
        If a time in `one_step_at` is not one of the records.
    """
    times = np.arange(0, steps + 1, every)
    if not set(one_step_at) <= set(times.tolist()):
        raise ValueError(
            f"one_step_at is {tuple(one_step_at)}; expected multiples of every={every} up to "
            f"steps={steps}."
        )
    digits, held_out = _digits()
    x, y = training.tensors(digits, dtype=torch.float64)
    probe, batch = x[:probe_size], slice(probe_size, probe_size + BATCH_SIZE)
    runs, losses, accuracies, scatters = [], [], [], []
    for seed in seeds:
        rows: list[dict[str, np.ndarray]] = []
        first: dict[str, np.ndarray] = {}
        tried: dict[str, list[np.ndarray]] = {"one_step_all": [], "one_step_first": []}

        model = _network(arm, seed, init_std)
        scatters.append(_scatter(model, x))

        def record(t: int, model: nn.Module, rows=rows, first=first, tried=tried) -> None:
            if t % every:
                return
            seen = probes.observe(model, probe, SITES)
            first.update(seen if t == 0 else {})
            rows.append(_row(seen, first))
            if t in one_step_at:
                for name, only in (("one_step_all", ""), ("one_step_first", "1")):
                    moved = _stepped(model, x[batch], y[batch], lr, only)
                    drifts = _drifts(seen, probes.observe(moved, probe, SITES))
                    tried[name].append(drifts["wasserstein"])

        history = training.train(
            model, digits, lr=lr, steps=steps, batch_size=BATCH_SIZE, seed=seed, on_step=record
        )
        runs.append(
            {name: np.stack([row[name] for row in rows]) for name in rows[0]}
            | {name: np.reshape(values, (-1, len(SITES))) for name, values in tried.items()}
        )
        losses.append(history.loss)
        accuracies.append(training.accuracy(model, held_out))
    return DriftRun(
        label=f"{arm}, rate {lr:g}",
        lr=float(lr),
        normalized=arm != "plain",
        seeds=tuple(seeds),
        layers=SITES,
        steps=times,
        loss=np.stack(losses),
        accuracy=np.array(accuracies),
        one_step_times=np.array(sorted(one_step_at), dtype=int),
        scatter=np.stack(scatters),
        **{name: np.stack([run[name] for run in runs]) for name in runs[0]},
    )


def repeat_rates(table: LearningRates, origin: Provenance) -> dict[str, float]:
    """Train the first run of a stored table again, and return the relative difference of its loss."""
    few = {"lrs": table.lr[:1].tolist(), "seeds": origin.seeds[:1]}
    again = learning_rates(**origin.config | few)
    return {"loss": difference(again.loss, table.loss[:1, :1])}


def repeat(run: DriftRun, origin: Provenance, *, steps: int = 20) -> dict[str, float]:
    """Train the first steps of the first seed again, and return the relative difference of each quantity."""
    again = drift_run(
        **origin.config | {"steps": steps, "one_step_at": (0,), "seeds": run.seeds[:1]}
    )
    found = {"loss": difference(again.loss[0], run.loss[0, :steps])}
    for name in (
        "wasserstein",
        "distance",
        "unit",
        "std",
        "one_step_all",
        "one_step_first",
        "scatter",
    ):
        now = getattr(again, name)[0]
        found[name] = difference(now, getattr(run, name)[0, : len(now)], floor=2e-6)
    return found


def _scatter(model: nn.Module, x: torch.Tensor, pairs: int = 10) -> np.ndarray:
    """Return the mean distance between two batches at each site; no digit is used twice."""
    seen = [probes.observe(model, b, SITES) for b in x[: 2 * pairs * BATCH_SIZE].split(BATCH_SIZE)]
    drifts = [_drifts(*seen[2 * j : 2 * j + 2])["wasserstein"] for j in range(pairs)]
    return np.mean(drifts, axis=0)


def _network(arm: str, seed: int, init_std: float = INIT_STD) -> nn.Sequential:
    # In float64: hundreds of steps would carry float32's rounding, which differs between machines,
    # into digits that the book prints.
    return models.mlp(SIZES, norm=ARMS[arm], init_std=init_std, seed=seed).double()


def _digits() -> tuple[data.Dataset, data.Dataset]:
    return data.mnist_5k().split(test=1000, seed=0)


def _row(seen: dict[str, np.ndarray], first: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Summarize one observation, and compare it with the first."""
    last = seen[SITES[-1]]
    return {
        **_drifts(first, seen),
        "unit": probes.summarize(last[:, :1]).percentiles[:, 0],
        "pooled": probes.summarize(last.reshape(-1, 1)).percentiles[:, 0],
        "mean": np.array([seen[name].mean() for name in SITES]),
        "std": np.array([np.sqrt(seen[name].var(axis=0).mean()) for name in SITES]),
        "saturated": np.array(
            [saturated_share(seen[name]) if name.startswith("act") else np.nan for name in SITES]
        ),
    }


def _drifts(before, after) -> dict[str, np.ndarray]:
    """Return the median unit's drift at each site."""
    moved = [vars(probes.drift(before[name], after[name])) for name in SITES]
    return {measure: np.array([np.median(d[measure]) for d in moved]) for measure in moved[0]}


def _stepped(model: nn.Module, x: torch.Tensor, y: torch.Tensor, lr: float, only: str) -> nn.Module:
    """Return a copy after one gradient step of the layers whose name ends in `only`."""
    twin = copy.deepcopy(model)
    chosen = {n: p for n, p in twin.named_parameters() if n.split(".")[0].endswith(only)}
    gradients = torch.autograd.grad(functional.cross_entropy(twin(x), y), list(chosen.values()))
    with torch.no_grad():
        for parameter, gradient in zip(chosen.values(), gradients, strict=True):
            parameter -= lr * gradient
    return twin
