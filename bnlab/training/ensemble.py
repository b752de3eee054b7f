r"""Many networks of one architecture, trained in one batched run, each as if it were alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnlab._validate import integer, number
from bnlab.data import Dataset
from bnlab.inference import recalibrate
from bnlab.nn import BatchNorm1d
from bnlab.training import _layers
from bnlab.training.sgd import shuffled_epochs, tensors

_NORMS = (torch.nn.BatchNorm1d, BatchNorm1d)


class Member(NamedTuple):
    """One network of an ensemble: its learning rate, and the seed of its weights and its shuffles.

    Examples
    --------
    >>> [Member(lr, seed) for lr in (0.1, 1.0) for seed in (0, 1)][2]
    Member(lr=1.0, seed=0)
    """

    lr: float
    seed: int


class Evaluation(NamedTuple):
    """What each member scores on a data set: accuracy and cross-entropy, shape (S,)."""

    accuracy: np.ndarray
    loss: np.ndarray


class Ensemble:
    r"""Networks that are trained together: S members, each with its learning rate and its seed.

    .. math:: \Theta_s \leftarrow \Theta_s - \eta_s\, \frac{1}{m} \sum_{i=1}^{m}
              \frac{\partial \ell(x_{s,i}, \Theta_s)}{\partial \Theta_s}, \qquad s = 1, \dots, S

    Member s does what ``train(build(seed_s), data, lr=lr_s, seed=seed_s, ...)`` does, batch for batch
    and, up to rounding, number for number; one batched multiplication takes the place of S small ones.
    A member that diverges does not disturb the others.

    Parameters
    ----------
    build : callable
        ``build(seed)`` returns a new :func:`bnlab.models.mlp`: linear layers, sigmoid, tanh, ReLU or
        linear nonlinearities, and ``BatchNorm1d`` of ``torch.nn`` or ``bnlab.nn`` or no
        normalization. Its dtype, float32 or float64, is that of the run.
    data : bnlab.data.Dataset
        What to train on.
    members : sequence of Member
        Pairs (lr, seed).
    batch_size : int
        Examples m of a mini-batch, from 1 to all (from 2 with normalization).
    device : str or torch.device
        Where to compute. Nothing but the CPU is used unless asked for.

    Raises
    ------
    TypeError
        If an argument has another type, or a network has a layer that is not supported.
    ValueError
        If a number is out of range, the networks differ in architecture, the data does not fit them,
        or the device is not there.

    Examples
    --------
    >>> from bnlab.data import mnist_5k
    >>> from bnlab.models import mlp
    >>> ensemble = Ensemble(
    ...     lambda seed: mlp([784, 20, 10], norm=nn.BatchNorm1d, seed=seed),
    ...     mnist_5k(), members=[Member(0.1, 0), Member(0.5, 0), Member(0.5, 1)], batch_size=60,
    ... )
    >>> ensemble.advance(30)
    >>> ensemble.loss.shape, bool((ensemble.loss[:, -1] < ensemble.loss[:, 0]).all())
    ((3, 30), True)
    >>> ensemble.evaluate(mnist_5k()).accuracy.shape
    (3,)
    """

    def __init__(
        self,
        build: Callable[[int], nn.Module],
        data: Dataset,
        *,
        members: Sequence[Member],
        batch_size: int,
        device: str | torch.device = "cpu",
    ):
        self.members = _checked_members(members)
        self.device = available(device)
        models = _of_one_architecture(_built(build, self.members))
        dtype = next(models[0].parameters()).dtype
        self._x, self._y = (t.to(self.device) for t in tensors(data, dtype=dtype))
        _require_fit(models[0], data)
        normalized = any(isinstance(layer, _NORMS) for layer in models[0])
        self.batch_size = integer("batch_size", batch_size, low=1 + normalized, high=len(data))
        self._template = copy.deepcopy(models[0])
        self._layers = self._stack(models)
        self._loss_function = _layers.CrossEntropy()
        self._losses = [np.empty((len(models), 0))]
        self.step = 0
        self._batches = self._rows()
        self._input = self._x.new_empty(len(models) * batch_size, self._x.shape[1])

    def _stack(self, models: list[nn.Sequential]) -> dict[str, Any]:
        """Stack the layers of all members, by name."""
        lr = self._x.new_tensor([member.lr for member in self.members])
        stacked: dict[str, Any] = {}
        for name, layer in models[0].named_children():
            same: list[Any] = [model.get_submodule(name).to(self.device) for model in models]
            if isinstance(layer, nn.Linear):
                stacked[name] = _layers.Linear(same, lr, self.batch_size, first=not stacked)
            elif isinstance(layer, _NORMS):
                stacked[name] = _layers.BatchNorm(same, lr, self.batch_size)
            else:
                stacked[name] = _layers.Activation(same)
        return stacked

    def _rows(self) -> Iterator[torch.Tensor]:
        """Yield the row numbers of each step, member after member."""
        n, size = len(self._x), self.batch_size
        epochs = (shuffled_epochs(n, batch_size=size, seed=m.seed) for m in self.members)
        for epoch in zip(*epochs, strict=True):
            yield from torch.stack(epoch, dim=1).flatten(1).to(self.device)

    @torch.no_grad()
    def advance(self, steps: int) -> None:
        """Take `steps` steps with every member.

        Parameters
        ----------
        steps : int
            Number of steps, at least 0.
        """
        integer("steps", steps, low=0)
        shape = len(self.members), self.batch_size
        losses = self._x.new_empty(steps, len(self.members))
        for t in range(steps):
            rows = next(self._batches)
            h = torch.index_select(self._x, 0, rows, out=self._input).view(*shape, -1)
            for layer in self._layers.values():
                h = layer.forward(h)
            losses[t] = self._loss_function.forward(h, self._y.index_select(0, rows).view(shape))
            d = self._loss_function.backward()
            for layer in reversed(self._layers.values()):
                d = layer.backward(d)
            self.step += 1
        self._losses.append(losses.T.double().cpu().numpy())

    @property
    def loss(self) -> np.ndarray:
        """The mini-batch loss before each step, shape (S, steps)."""
        self._losses = [np.concatenate(self._losses, axis=1)]
        return self._losses[0]

    def model(self, i: int) -> nn.Sequential:
        """Return a copy of one member, in evaluation mode.

        Parameters
        ----------
        i : int
            Number of the member, from 0.

        Returns
        -------
        torch.nn.Sequential
            A network as `build` makes them, on the ensemble's device.
        """
        model = copy.deepcopy(self._template)
        own = {name: value[i] for name, value in self._values().items()}
        state = model.state_dict()
        for name, value in state.items():  # a linear layer of torch keeps its weight transposed
            state[name] = (own[name].T if value.ndim == 2 else own[name]).reshape(value.shape)
        model.load_state_dict(state)
        return model.to(self.device).eval()

    def _values(self) -> dict[str, torch.Tensor]:
        """Return all that a step changes, by name: parameters and running statistics."""
        return {
            f"{prefix}.{name}": value
            for prefix, layer in self._layers.items()
            for name, value in layer.state().items()
        }

    def evaluate(self, data: Dataset, *, recalibrate_on: Iterable | None = None) -> Evaluation:
        """Score every member on `data` in evaluation mode; training goes on as if nothing had been.

        Parameters
        ----------
        data : bnlab.data.Dataset
            What to classify.
        recalibrate_on : list of torch.Tensor, optional
            Training batches: normalize by their population statistics, as
            :func:`bnlab.inference.recalibrate` finds them, and not by the running ones.

        Returns
        -------
        Evaluation
            Accuracy and cross-entropy of each member.
        """
        x, y = (t.to(self.device) for t in tensors(data, dtype=self._x.dtype))
        accuracy, loss = np.empty((2, len(self.members)))
        for i in range(len(self.members)):
            model = self.model(i)
            if recalibrate_on is not None:
                recalibrate(model, recalibrate_on)
            with torch.no_grad():
                logits = torch.cat([model(part) for part in x.split(_ROWS)])
                accuracy[i] = (logits.argmax(1) == y).double().mean()
                loss[i] = functional.cross_entropy(logits, y)
        return Evaluation(accuracy, loss)


_ROWS = 2000  # examples in one piece of an evaluation


def available(device: str | torch.device) -> torch.device:
    """Return the device, or say why there is none of that name."""
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device is {device!r}; expected cpu, cuda, cuda:0 (or another number) or mps. Choose one."
        ) from error
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= there.get(device.type, 0):
        found = ", ".join(f"{count} {kind}" for kind, count in there.items() if count)
        raise ValueError(
            f"device is {str(device)!r}, which this machine does not have, or torch {torch.__version__} "
            f"was installed without it; expected one of those that it finds: {found}. Leave it out, or "
            "choose cpu, to use the processor."
        )
    return device


def _built(build: Callable[[int], nn.Module], members: Sequence[Member]) -> list[nn.Module]:
    if isinstance(build, nn.Module) or not callable(build):
        raise TypeError(
            f"build is a {type(build).__name__}; expected a function of the seed that returns a new "
            "network. Write lambda seed: mlp([784, 100, 10], seed=seed)."
        )
    return [build(member.seed) for member in members]


def _checked_members(members: Sequence[Member]) -> tuple[Member, ...]:
    try:
        pairs = [(lr, seed) for lr, seed in members]
    except (TypeError, ValueError):
        pairs = []
    if not pairs:
        raise TypeError(
            f"members is {members!r}; expected at least one pair of a learning rate and a seed, e.g. "
            "[Member(lr=0.1, seed=0)]."
        )
    for i, (lr, _) in enumerate(pairs):
        if not number(f"members[{i}].lr", lr) > 0:
            raise ValueError(
                f"members[{i}].lr is {lr}; expected a finite number above 0. Try lr=0.1."
            )
    return tuple(
        Member(float(lr), integer(f"members[{i}].seed", seed, low=0))
        for i, (lr, seed) in enumerate(pairs)
    )


def _of_one_architecture(built: list[nn.Module]) -> list[nn.Sequential]:
    """Return the networks if their weights can be stacked, else raise."""
    models = [_supported(model) for model in built]
    first = repr(models[0])
    for i, model in enumerate(models):
        dtypes = {p.dtype for p in model.parameters()}
        if not dtypes <= {torch.float32, torch.float64}:
            raise TypeError(
                f"the network's parameters are {', '.join(map(str, dtypes))}; expected float32 or "
                "float64. Convert it in build: model.float() or model.double()."
            )
        if repr(model) != first or dtypes != {next(models[0].parameters()).dtype}:
            raise ValueError(
                f"the networks of members 0 and {i} differ: {first} and {model}; expected one "
                "architecture and dtype, so that their weights can be stacked. Let build(seed) "
                "change nothing but the weights."
            )
    return models


def _supported(model: nn.Module) -> nn.Sequential:
    """Return the network if :mod:`bnlab.training._layers` has each of its layers, else raise."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(
            f"build returned a {type(model).__name__}; expected a torch.nn.Sequential such as "
            "bnlab.models.mlp makes. Train other models one at a time: bnlab.training.train."
        )
    supported = (nn.Linear, *_NORMS, *_layers.ACTIVATIONS)
    for name, layer in model.named_children():
        if type(layer) not in supported:
            raise TypeError(
                f"layer {name!r} is a {type(layer).__name__}; an ensemble supports Linear, "
                "BatchNorm1d of torch.nn or bnlab.nn, Sigmoid, Tanh, ReLU and Identity. Train "
                "other models one at a time: bnlab.training.train."
            )
        if isinstance(layer, _NORMS) and any(
            value is None for value in (layer.weight, layer.bias, layer.running_mean)
        ):
            raise TypeError(
                f"layer {name!r} is {layer}; an ensemble supports normalization with a weight, a bias and "
                "running statistics only, as BatchNorm1d(units) has them. Leave its switches alone, or train "
                "one network at a time: bnlab.training.train."
            )
    if not isinstance(next(iter(model), None), nn.Linear):
        raise TypeError(f"the network is {model}; expected one that begins with a Linear layer.")
    return model


def _require_fit(model: nn.Sequential, data: Dataset) -> None:
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    given = data.x.shape[1], len(data.class_names)
    expected = linear[0].in_features, linear[-1].out_features
    if given[0] != expected[0] or given[1] > expected[1]:
        raise ValueError(
            f"data has {given[0]} features and {given[1]} classes; the network takes {expected[0]} "
            f"and returns {expected[1]}. Build it with sizes that fit: [{given[0]}, ..., {given[1]}]."
        )
