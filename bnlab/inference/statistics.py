"""Algorithm 2: the statistics of the population, for one layer or a whole network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, reduce
from itertools import pairwise
from operator import add
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map_only

from bnlab.inference.freezing import Frozen, batch_norm_layers
from bnlab.inference.pooling import of_all_ranks
from bnlab.nn import SyncBatchNorm


def population_statistics(batches: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Estimate the mean and variance of the population from mini-batches.

    .. math::

       \mathrm{E}[x] = \frac{\sum_i m_i \, \mu_i}{\sum_i m_i}, \qquad
       \mathrm{Var}[x] = \frac{\sum_i m_i \, \sigma_i^2}{\sum_i (m_i - 1)}

    For batches of one size m this is the paper's :math:`\mathrm{E}_B[\mu_B]` and
    :math:`\frac{m}{m - 1} \mathrm{E}_B[\sigma_B^2]`. The variance is the one *within* batches: it is
    unbiased when the values of a batch are independent draws, so shuffle before you batch.

    Parameters
    ----------
    batches : iterable of torch.Tensor
        Floats of shape (N, C) or (N, C, \*spatial) with one C for all, and m > 1 values per feature in
        each. Each is read once and only one is held, so a generator works. With
        :mod:`torch.distributed` initialized, every rank passes its own share of the batches, which may
        be empty, and all get the statistics of all shares.

    Returns
    -------
    mean, var : torch.Tensor
        Shape (C,), float64.

    Raises
    ------
    TypeError
        If `batches` is one tensor or not iterable, or a batch is not a tensor of floats.
    ValueError
        If there is no batch, or a batch is empty, has one value per feature, holds NaN or Inf, or has
        another number of features.
    RuntimeError
        If another rank failed.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 2, line 10.

    Examples
    --------
    >>> batches = [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [9.0]])]
    >>> [value.tolist() for value in population_statistics(batches)]
    [[4.5], [5.0]]
    """
    moments, error = _Moments(), None
    try:
        for i, batch in enumerate(_iterable(batches)):
            moments.add(f"batches[{i}]", batch)
    except Exception as failure:
        error = failure
    shares = [m for m in of_all_ranks("population_statistics", moments, error) if m.count]
    if not shares:
        raise _no_batch()
    total = reduce(add, shares)
    return total.mean, total.var


def recalibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    call: Callable[[Any, Any], Any] | None = None,
    sequential: bool = True,
) -> tuple[str, ...]:
    r"""Replace running statistics by population statistics, layer by layer, in place.

    .. math::

       \text{for } k = 1, \dots, K: \quad
       \big(\mathrm{E}[x^{(k)}], \mathrm{Var}[x^{(k)}]\big) \leftarrow
       \text{Algorithm 2 on the inputs of layer } k
       \text{ while layers } 1, \dots, k-1 \text{ are in evaluation mode}

    Each layer thus gets the statistics of exactly those inputs that it will meet at inference, where
    all earlier layers use their new statistics. The passes run in evaluation mode otherwise (Dropout
    is off), without gradients, and eagerly where the model is compiled. Modes and all other buffers are
    left as they were, and after an error the running statistics are too.

    Parameters
    ----------
    model : torch.nn.Module
        A layer that is called several times in a pass pools all its inputs, and normalizes each by
        its own batch until it has its statistics. Layers that keep no running statistics, are frozen,
        or are never reached stay as they are; a batch of which a layer gets no rows does not count for
        it. With ``torch.distributed`` initialized, every rank passes its own share of the batches, and
        all get the statistics of all shares.
    batches : iterable
        Tensors, or tuples whose first item is one; anything with `call`. Tensors in tuples, lists and
        dicts are moved to the model's device. Shuffled batches of the training set, as large as you
        like. Read K times, so a list or a DataLoader and not a generator. Uneven sizes are weighted as
        in :func:`population_statistics`.
    call : callable, optional
        ``call(model, batch)`` runs the model on one batch. Without it, ``model(x)`` with the tensor, or
        the first item. Several inputs: ``lambda model, batch: model(batch[0], batch[1])``; a dict:
        ``lambda model, batch: model(**batch)``.
    sequential : bool
        False takes all statistics in a single pass in which every layer normalizes by its own batch,
        as in training. It costs 1 pass instead of K and lets `batches` be a generator, but statistics
        after the first layer then belong to the noisier inputs that layers meet in training.

    Returns
    -------
    tuple of str
        Names of the layers that got new statistics, in order of execution.

    Raises
    ------
    TypeError
        If `model` is not a module, `batches` is one tensor, not iterable or can be read only once,
        or a batch holds no tensor in front and there is no `call`.
    ValueError
        If no layer was reached or there is no batch, or the inputs of a layer have one value per
        feature or hold NaN or Inf; the message names the layer.
    RuntimeError
        If another rank failed.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, Algorithm 2, lines 7 to 12. Line 11 replaces one layer after another
    in the inference network; the paper does not say in which network line 10 collects. `sequential`
    offers both readings. ``torch.optim.swa_utils.update_bn`` is the second, with Dropout on and every
    batch weighted alike.

    Examples
    --------
    >>> model = nn.Sequential(nn.BatchNorm1d(1), nn.ReLU(), nn.BatchNorm1d(1))
    >>> recalibrate(model, [torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [7.0]])])
    ('0', '2')
    >>> model[0].running_mean.tolist(), model[0].running_var.tolist()
    ([3.0], [13.0])
    """
    layers = {layer: name for name, layer in batch_norm_layers(model) if _keeps_statistics(layer)}
    if isinstance(_iterable(batches), Iterator) and sequential:
        raise TypeError(
            f"batches is a {type(batches).__name__}, which can be read once; expected a list or a "
            f"DataLoader, because each layer needs its own pass. Pass list(batches), or "
            f"sequential=False for a single pass."
        )
    run = _runner(model, call)
    with (
        _borrowed(model, layers) as done,
        torch.no_grad(),
        _uncompiled(),
    ):
        for layer in layers:
            layer.training = True
        found = _collect(run, batches, layers)
        if not found:
            raise ValueError(
                f"no Batch Normalization layer with running statistics was reached: the model has "
                f"{len(layers)} that could be. Expected at least one; is its running average "
                f"switched off (track_running_stats=False), is it frozen, or is every batch empty?"
            )
        _store(layers, found)
        if sequential:  # the first layer has nothing before it, so its statistics stand
            for earlier, layer in pairwise(found):
                earlier.training = False
                _store(layers, _collect(run, batches, {layer: layers[layer]}))
        done.update(found)
    return tuple(layers[layer] for layer in found)


class _Moments:
    """The sums over batches that Algorithm 2 needs, in float64."""

    def __init__(self) -> None:
        self.count = self.degrees = 0
        self._sums = self._squares = torch.zeros(())

    def add(self, name: str, x: Any) -> None:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            given = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
            raise TypeError(f"{name} is {given}; expected a tensor of floats. Convert it first.")
        if x.dim() < 2 or x.numel() == 0:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; expected (N, C) or (N, C, *spatial) with at "
                f"least one value. Put the features on axis 1 and skip empty batches."
            )
        if self.count and x.shape[1] != len(self._sums):
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; expected {len(self._sums)} features on axis 1, "
                f"like the batches before it. Take all batches from one layer."
            )
        m = x.numel() // x.shape[1]
        if m == 1:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}, one value a feature; expected at least 2, "
                f"because one value has no variance. Use larger batches; with a DataLoader, drop "
                f"the last incomplete one (drop_last=True)."
            )
        axes = [axis for axis in range(x.dim()) if axis != 1]
        # Each batch is centered on its own mean before it is squared, so a large mean costs no digits.
        x = x.detach().cpu() if x.device.type == "mps" else x.detach()  # which has no float64
        var, mean = torch.var_mean(x.double(), dim=axes, correction=0)
        if not (mean.isfinite().all() and var.isfinite().all()):
            raise ValueError(
                f"{name} holds {int((~x.isfinite()).sum())} NaN or Inf value(s) or overflows; "
                f"expected finite numbers, because one bad value poisons a whole statistic. Drop "
                f"or repair those examples first."
            )
        self.count, self.degrees = self.count + m, self.degrees + m - 1
        self._sums, self._squares = self._sums + m * mean, self._squares + m * var

    def __reduce__(self):  # on the CPU, where every rank can read them
        state = vars(self) | {"_sums": self._sums.cpu(), "_squares": self._squares.cpu()}
        return object.__new__, (_Moments,), state

    def __add__(self, other: _Moments) -> _Moments:
        if self._sums.shape != other._sums.shape:
            raise ValueError(
                f"the batches of different ranks have {len(self._sums)} and {len(other._sums)} features on "
                f"axis 1; expected one number. Take all batches from one layer."
            )
        total = _Moments()
        total.count, total.degrees = self.count + other.count, self.degrees + other.degrees
        total._sums, total._squares = self._sums + other._sums, self._squares + other._squares
        return total

    @property
    def mean(self) -> torch.Tensor:
        return self._sums / self.count

    @property
    def var(self) -> torch.Tensor:
        return self._squares / self.degrees


def _runner(model: nn.Module, call: Callable[[Any, Any], Any] | None) -> Callable[[Any, int], None]:
    """Return a function that runs the model on one batch, of which it is told the number."""
    device = next((p.device for p in model.parameters()), None)
    while isinstance(model, nn.DataParallel | DistributedDataParallel):
        model = (
            model.module
        )  # these talk to other devices at each call; the statistics are pooled once

    def moved(batch: Any) -> Any:
        to_device = partial(torch.Tensor.to, device=device)
        return batch if device is None else tree_map_only(torch.Tensor, to_device, batch)

    def run(batch: Any, i: int) -> None:
        if call is not None:
            call(model, moved(batch))
            return
        x = batch[0] if isinstance(batch, tuple | list) and batch else batch
        if not isinstance(x, torch.Tensor):
            raise TypeError(
                f"batches[{i}] is a {type(batch).__name__} without a tensor in front; expected a "
                f"tensor or (input, target). Say how to run the model on it, for a dict of its "
                f"arguments: call=lambda model, batch: model(**batch)."
            )
        model(moved(x))

    return run


def _collect(
    run: Callable[[Any, int], None], batches: Iterable[Any], layers: dict[_BatchNorm, str]
) -> dict[_BatchNorm, _Moments]:
    """Run the model over all batches; return the moments of each layer's inputs, in order of execution."""
    found: dict[_BatchNorm, _Moments] = {}
    i = -1

    def observe(layer: _BatchNorm, args: tuple, kwargs: dict) -> None:
        x = args[0] if args else kwargs["input"]
        if isinstance(x, torch.Tensor) and x.numel() == 0:
            return  # a head that gets no rows of this batch
        moments = found.setdefault(layer, _Moments())
        moments.add(f"the input of layer {layers[layer]!r} at batches[{i}]", x)

    handles = [layer.register_forward_pre_hook(observe, with_kwargs=True) for layer in layers]
    error = None
    try:
        for i, batch in enumerate(batches):
            run(batch, i)
        if i < 0:
            raise _no_batch()
    except Exception as failure:
        error = failure
    finally:
        for handle in handles:
            handle.remove()
    return _pooled(found, layers, error)


def _pooled(
    found: dict[_BatchNorm, _Moments], layers: dict[_BatchNorm, str], error: Exception | None
) -> dict[_BatchNorm, _Moments]:
    """Add up the moments of all ranks, in the same order on each; raise if any rank had an error."""
    mine = {layers[layer]: moments for layer, moments in found.items()}
    by_name = {name: layer for layer, name in layers.items()}
    pooled: dict[_BatchNorm, _Moments] = {}
    for share in of_all_ranks("recalibrate", mine, error):
        for name, moments in share.items():
            layer = by_name[name]
            pooled[layer] = pooled[layer] + moments if layer in pooled else moments
    return pooled


def _store(layers: dict[_BatchNorm, str], found: dict[_BatchNorm, _Moments]) -> None:
    """Write the moments into the running statistics of their layers."""
    for layer, moments in found.items():
        mean, var = layer.get_buffer("running_mean"), layer.get_buffer("running_var")
        mean.copy_(moments.mean.to(mean.dtype))
        var.copy_(moments.var.to(var.dtype))
        if not (mean.isfinite().all() and var.isfinite().all()):
            raise ValueError(
                f"the statistics of layer {layers[layer]!r} do not fit its {var.dtype}: "
                f"the variance reaches {float(moments.var.max()):.3g}. Expected values that fit; "
                f"scale the inputs down, or keep the layer in a wider dtype."
            )


@contextmanager
def _borrowed(model: nn.Module, layers: Iterable[nn.Module]) -> Iterator[set[nn.Module]]:
    """Put a model into evaluation mode for a while, and then back as it was.

    Layers in the set that this yields keep their new running statistics. Those among `layers` that
    synchronize stop doing so meanwhile: ranks may have different numbers of batches.
    """
    modes = {module: module.training for module in model.modules()}
    kept = {
        module: {name: (b, b.clone()) for name, b in module.named_buffers(recurse=False)}
        for module in model.modules()
    }
    classes: dict[Any, type] = {
        layer: type(layer)
        for layer in layers
        if isinstance(layer, nn.SyncBatchNorm | SyncBatchNorm)
    }
    done: set[nn.Module] = set()
    model.eval()
    for layer in classes:
        layer.__class__ = _Local
    try:
        yield done
    finally:
        for layer, kind in classes.items():
            layer.__class__ = kind
        for module, mode in modes.items():
            module.training = mode
        for module, buffers in kept.items():
            new = ("running_mean", "running_var") if module in done else ()
            for name in buffers.keys() - new:
                buffer, values = buffers[name]
                module._buffers[name] = buffer.copy_(values)


class _Local(_BatchNorm):
    """Takes the place of a SyncBatchNorm that must not talk to other ranks."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Take inputs of any rank, as SyncBatchNorm does."""


def _keeps_statistics(layer: _BatchNorm) -> bool:
    return layer.running_mean is not None and not isinstance(layer, Frozen)


def _iterable(batches: Any) -> Iterable[Any]:
    """Return batches that can be iterated over and are not one tensor, else raise."""
    if isinstance(batches, torch.Tensor) or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches is a {type(batches).__name__}; expected an iterable of batches. Put a single "
            f"batch in a list: [x]."
        )
    return batches


def _no_batch() -> ValueError:
    return ValueError(
        "batches holds no batch; expected at least one. A generator that was read once is empty: "
        "make a new one, or pass a list."
    )


def _uncompiled() -> AbstractContextManager[Any]:
    """Run compiled models as they are written, with hooks; torch 2.6 and newer can."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and loading it takes seconds
        return nullcontext()
    stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if stance is None else stance("force_eager")
