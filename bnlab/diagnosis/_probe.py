"""Run a borrowed model over batches, and write down what its Batch Normalization layers meet."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from bnlab.diagnosis._flow import Flow, Marks
from bnlab.diagnosis._gradient import Gradients, inline_detached, loss_of
from bnlab.diagnosis._layers import (
    DROPOUT,
    REPLICATED,
    Layer,
    is_batch_norm,
    processes,
    synchronized,
)
from bnlab.diagnosis._moments import Inputs, Moments
from bnlab.diagnosis._state import seeded

Call = Callable[[nn.Module, Any], Any]


class Run:
    """What layers met over several forward passes in one mode."""

    def __init__(self) -> None:
        self.moments: dict[str, Moments] = {}
        self.calls: dict[str, int] = {}  # most calls of a layer in one forward pass
        self.batches = 0
        self._now: dict[str, int] = {}

    def begin_pass(self, *_: Any) -> None:
        self._now = {}

    def count(self, name: str) -> None:
        self._now[name] = self._now.get(name, 0) + 1
        self.calls[name] = max(self.calls.get(name, 0), self._now[name])

    def inputs(self) -> dict[str, Inputs]:
        found = {name: moments.summary() for name, moments in self.moments.items()}
        return {name: inputs for name, inputs in found.items() if inputs is not None}


class Outputs:
    """Outputs of a model in training and in evaluation mode of batch norm, batch by batch."""

    def __init__(self) -> None:
        self._rows: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, train: list[Tensor], evaluation: list[Tensor]) -> None:
        """Take in the outputs of one batch: for each unit two means, and two standard deviations over examples."""
        rows = [
            _summary(a, b)
            for a, b in zip(train, evaluation, strict=False)
            if a.shape == b.shape and a.numel()
        ]
        if rows:
            self._rows.append(tuple(map(torch.cat, zip(*rows, strict=True))))  # pyright: ignore[reportArgumentType]

    def stacked(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return means in training, means in evaluation and both widths, first axis batches."""
        width = {len(row[0]) for row in self._rows}
        if len(width) != 1:
            return None
        train, evaluation, widths = (torch.stack(x) for x in zip(*self._rows, strict=True))
        return train, evaluation, widths


def _summary(train: Tensor, evaluation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pair = torch.stack((train, evaluation)).detach().double().cpu()
    if pair.dim() == 1:  # a loss
        return pair[:1], pair[1:], torch.full((1, 2), torch.nan, dtype=torch.float64)
    if pair.dim() == 2:
        pair = pair.unsqueeze(2)
    units = pair.movedim(2, 0).flatten(2)  # (units, 2, values)
    mean, std = units.mean(2), units.std(2, correction=0)
    return mean[:, 0], mean[:, 1], std


class Probe:
    """A borrowed model with hooks on it."""

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, Layer],
        modes: dict[nn.Module, bool],
        call: Call | None,
    ) -> None:
        self.model, self.layers, self.modes = model, layers, modes
        self.call = call or _call_first
        self.notes: list[str] = []
        self.flow: Flow | None = None
        self.gradients = Gradients()
        self.outputs = Outputs()
        self.evaluated, self.trained, self.others = Run(), Run(), Run()
        self.reached: set[str] = set()
        self.lone: dict[str, int] = {}  # batches in which a layer that uses the batch had one value
        self._run: Run | None = None
        self._units = 0  # examples of the batch in hand
        self._single = False  # whether a layer met one value for each channel
        self._plans = [self._evaluation, self._evaluation_of_norms]
        self._modules = list(model.modules())
        self._norms = {m for m in self._modules if is_batch_norm(m)}
        roots = [model.module] if isinstance(model, REPLICATED) else [model]
        inner = getattr(model, "_orig_mod", None)
        roots += [inner] if isinstance(inner, nn.Module) else []
        for root in roots:
            if not isinstance(root, torch.jit.ScriptModule):
                root.register_forward_pre_hook(self._begin)
        for name, layer in layers.items():
            if not isinstance(layer.module, torch.jit.ScriptModule):
                layer.module.register_forward_pre_hook(self._observer(name), with_kwargs=True)

    # ---- hooks ----

    def _begin(self, *_: Any) -> None:
        if self._run is not None:
            self._run.begin_pass()

    def _observer(self, name: str) -> Callable[..., None]:
        layer = self.layers[name]
        channels = None if layer.lazy or layer.mean is None else len(layer.mean)

        def observe(_: nn.Module, args: tuple, kwargs: dict) -> None:
            self.reached.add(name)
            x = first_tensor((args, kwargs))
            if self._run is None or x is None or x.dim() < 2 or not x.is_floating_point():
                return
            self._run.count(name)
            self._single |= x.numel() == x.shape[1]
            if layer.uses_batch and x.numel() == x.shape[1]:
                self.lone[name] = self.lone.get(name, 0) + 1
            self._run.moments.setdefault(name, Moments()).add(x, channels, self._units)

        return observe

    # ---- modes ----

    def _set(self, modes: Callable[[nn.Module], bool]) -> None:
        for module in self._modules:
            mode = modes(module)
            if module.training != mode:
                module.training = mode

    def _evaluation(self, _: nn.Module) -> bool:
        return False

    def _evaluation_of_norms(self, module: nn.Module) -> bool:
        return not (module in self._norms or isinstance(module, DROPOUT))

    def _training_of_norms(self, module: nn.Module) -> bool:
        if module in self._norms:
            return self.modes.get(module, True) and not _synchronizes(module)
        return self._plans[0](module)

    def _training(self, module: nn.Module) -> bool:
        if isinstance(module, DROPOUT) or _synchronizes(module):
            return False
        return self.modes.get(module, True)

    # ---- passes ----

    def evaluate(self, batch: Any, i: int, run: Run) -> Any:
        """Run one batch in evaluation mode; one without that mode keeps its own around the norms."""
        first: Exception | None = None
        self._single = False
        for plan in list(self._plans):
            self._set(plan)
            lone = dict(self.lone)
            try:
                output = self._forward(batch, i, run)
            except Exception as error:
                if self.lone != lone:  # one value for each channel: that is a finding
                    return None
                first = first or error
                continue
            if first is not None:
                self.notes.append(
                    f"It does not run in evaluation mode ({_line(first)}): all but batch norm and "
                    f"Dropout were left in training mode."
                )
            self._plans = [plan]
            run.batches += 1
            return output
        assert first is not None
        raise first

    def train(self, batch: Any, i: int, evaluated: Any) -> None:
        """Run one batch with batch norm in training mode and all else as in evaluation."""
        if self._single:  # no layer can be trained on that
            return
        self._set(self._training_of_norms)
        try:
            with unmoved(self.model):
                output = self._forward(batch, i, self.trained)
        except Exception as error:
            self.note(f"Batch norm could not be run in training mode: {_line(error)}.")
            return
        self.trained.batches += 1
        self.outputs.add(float_tensors(output), float_tensors(evaluated))

    def step(self, batch: Any) -> None:
        """Run forward and backward once on a few examples, as in training but without Dropout."""
        for module in self.model.modules():
            if not isinstance(module, torch.jit.ScriptModule):
                for p in module._parameters.values():
                    if (
                        p is not None
                        and not is_lazy(p)
                        and (p.is_floating_point() or p.is_complex())
                    ):
                        p.requires_grad_(True)
        failed: Exception | None = None
        for examples in few(batch):
            self._set(self._training)
            marks = Marks(self.model)
            self.gradients = Gradients(self.model, self.layers)
            try:
                with (
                    unmoved(self.model),
                    quiet(),
                    seeded(0),
                    torch.enable_grad(),
                    marks,
                    self.gradients,
                ):
                    output = self.call(self.model, copied(examples))
                    self.gradients.backward(loss_of(float_tensors(output)))
            except Exception as error:
                failed = error
                continue
            self.flow = marks.flow(self.layers)
            self.reached |= self.gradients.reached
            self._look_between_layers(examples)
            return
        self.gradients = Gradients()
        self.note(
            f"No step of training could be taken, so gradients were not looked at: {_line(failed)}."
        )

    def _look_between_layers(self, examples: Any) -> None:
        """Look for normalization that is no module, where no module was found to be at fault."""

        def run() -> list[Tensor]:
            with unmoved(self.model), quiet(), seeded(0), torch.no_grad():
                return float_tensors(self.call(self.model, copied(examples)))

        if not self.gradients.detached:
            known = set(self.flow.straight.values()) if self.flow else set()
            self.gradients.detached = inline_detached(self.gradients, run, self.model, known)

    def _forward(self, batch: Any, i: int, run: Run) -> Any:
        self._run = run
        first = first_tensor(batch)
        self._units = len(first) if first is not None and first.dim() else 0
        run.begin_pass()
        model = (
            self.model.module
            if isinstance(self.model, REPLICATED) and self.call is _call_first
            else self.model
        )
        try:
            with quiet(), seeded(i), torch.no_grad():
                return self.call(model, copied(batch))
        finally:
            self._run = None

    def note(self, text: str) -> None:
        """Write down once what could not be seen."""
        if text not in self.notes:
            self.notes.append(text)


def _synchronizes(module: nn.Module) -> bool:
    """Tell whether a layer would wait for other processes."""
    return processes() > 1 and synchronized(module)


@contextmanager
def unmoved(model: nn.Module) -> Iterator[None]:
    """Put the buffers back after a run in training mode, so that the next in evaluation mode meets the owner's."""
    kept = [(b, b.clone()) for b in model.buffers() if not is_lazy(b)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the warnings of the model to itself: they are not about this run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def eager(model: nn.Module) -> AbstractContextManager[Any]:
    """Run compiled parts as they were written, because a compiled graph calls no hooks."""
    compiled = any(
        hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) is not None
        for m in model.modules()
    )
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def _call_first(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**_on_device(model, dict(batch)))
    if isinstance(batch, tuple | list) and batch:
        batch = batch[0]
    return model(_on_device(model, batch))


def _on_device(model: nn.Module, value: Any) -> Any:
    device = next((t.device for t in [*model.parameters(), *model.buffers()]), None)
    if device is None:
        return value
    return pytree.tree_map_only(Tensor, lambda t: t.to(device), value)


def copied(batch: Any) -> Any:
    """Copy the tensors of a batch, because a model may write into its input."""
    return pytree.tree_map_only(Tensor, torch.clone, batch)


def few(batch: Any) -> Iterator[Any]:
    """Yield an eighth of the examples if there is a way to cut, then the whole batch."""
    tensors = [t for t in pytree.tree_leaves(batch) if isinstance(t, Tensor) and t.dim()]
    sizes = {len(t) for t in tensors}
    strided = all(t.layout == torch.strided and not t.is_nested for t in tensors)
    if strided and len(sizes) == 1 and (n := sizes.pop()) > 4:
        part = max(4, n // 8)
        yield pytree.tree_map_only(Tensor, lambda t: t[:part] if t.dim() else t, batch)
    yield batch


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor in a structure."""
    return next((t for t in pytree.tree_leaves(value) if isinstance(t, Tensor)), None)


def float_tensors(value: Any) -> list[Tensor]:
    """Return the tensors of floats in an output, also in those objects that hold them as attributes."""
    found: list[Tensor] = []
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, Mapping):
            found += float_tensors(list(leaf.values()))
        elif isinstance(leaf, Tensor):
            found += [leaf] if leaf.is_floating_point() else []
        elif hasattr(leaf, "__dict__") and not isinstance(leaf, nn.Module | type):
            found += [
                t for t in vars(leaf).values() if isinstance(t, Tensor) and t.is_floating_point()
            ]
    return found


def _line(error: Exception | None) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200].rstrip(".")


def iterable(name: str, batches: Any) -> Iterable[Any]:
    """Return batches that can be iterated over and are neither one tensor nor one dict, else raise."""
    if isinstance(batches, Tensor | str | Mapping) or not hasattr(type(batches), "__iter__"):
        raise TypeError(
            f"{name} is a {type(batches).__name__}; expected an iterable of batches. Put a single batch in a "
            f"list: [x]."
        )
    return batches
