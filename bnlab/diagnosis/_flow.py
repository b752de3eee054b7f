"""Which layers feed a Batch Normalization layer: read from the graph of a backward pass, or of torch.fx."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.utils import _pytree as pytree

from bnlab.diagnosis._layers import AFFINE, DROPOUT, Layer, is_batch_norm, is_norm
from bnlab.inference.tracing import LeafTracer

_VIEWS = (
    "Alias", "Clone", "Flatten", "Permute", "ReshapeAlias", "Squeeze", "Transpose", "Unsafe", "Unsqueeze", "View", "T",
)  # fmt: skip


@dataclass
class Flow:
    """The layers before each Batch Normalization layer."""

    straight: dict[str, str] = field(default_factory=dict)
    """The Linear or convolution whose output is the input of a layer."""
    dropouts: dict[str, set[str]] = field(default_factory=dict)
    """Active Dropout that reaches a layer with no normalization between."""
    calls: dict[str, int] = field(default_factory=dict)
    """How often a layer is called, as far as the source of the graph knows."""


def _reached(
    start: Iterable[Any],
    parents: Callable[[Any], Iterable[Any]],
    label: Callable[[Any], str | None],
) -> set[str]:
    """Walk up a graph from some nodes to the nearest that have a label, and return the labels."""
    found: set[str] = set()
    seen: set[Any] = set()
    open_ = list(start)
    while open_:
        node = open_.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = label(node)
        if name is None:
            open_ += parents(node)
        else:
            found.add(name)
    return found


class Marks:
    """Hooks that note which node of the backward graph is the output of which module."""

    def __init__(self, model: nn.Module) -> None:
        self._names = {
            module: name
            for name, module in model.named_modules()
            if isinstance(module, (*AFFINE, DROPOUT)) or is_norm(module)
        }
        self._handles: list[Any] = []
        self._marks: dict[Any, nn.Module] = {}
        self._inputs: dict[str, list[Any]] = {}

    def __enter__(self) -> None:
        for module, name in self._names.items():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            if is_batch_norm(module):
                self._handles.append(
                    module.register_forward_pre_hook(
                        self._enter(name), prepend=True, with_kwargs=True
                    )
                )
            self._handles.append(module.register_forward_hook(self._leave))

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def note(_: nn.Module, args: tuple, kwargs: dict) -> None:
            tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            self._inputs.setdefault(name, []).extend(t.grad_fn for t in tensors[:1])

        return note

    def _leave(self, module: nn.Module, _: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        if isinstance(module, DROPOUT):  # inactive, it gives back its input: make a node
            output = (output if output.requires_grad else output.detach().requires_grad_()).clone()
        if output.grad_fn is None:
            return None
        self._marks[output.grad_fn] = module
        return output

    def flow(self, layers: dict[str, Layer]) -> Flow:
        """Read the marks."""
        found = Flow()
        for name in layers:
            starts = [node for node in self._inputs.get(name, ()) if node is not None]
            for node in starts:
                while node not in self._marks and node.name().startswith(_VIEWS):
                    node = node.next_functions[0][0]
                module = self._marks.get(node)
                if isinstance(module, AFFINE):
                    found.straight[name] = self._names[module]
            before = _reached(starts, lambda node: (n for n, _ in node.next_functions), self._stop)
            found.dropouts[name] = before - {""}
        return found

    def _stop(self, node: Any) -> str | None:
        module = self._marks.get(node)
        if module is None or isinstance(module, AFFINE):
            return None
        if isinstance(module, DROPOUT):
            return self._names[module] if module.p > 0 else None
        return ""


def traced(model: nn.Module, layers: dict[str, Layer]) -> Flow | None:
    """Read the flow without running the model: by torch.fx, or else from each Sequential."""
    modules = dict(model.named_modules())
    try:
        graph = _Tracer().trace(model)
    except Exception:  # many models cannot be traced
        return _of_sequentials(modules, layers)
    found = Flow()

    def module_of(node: Node) -> nn.Module | None:
        return modules.get(str(node.target)) if node.op == "call_module" else None

    def stop(node: Node) -> str | None:
        module = module_of(node)
        if isinstance(module, DROPOUT):
            return str(node.target) if module.p > 0 else None
        return "" if module is not None and is_norm(module) else None

    for node in graph.nodes:
        module = module_of(node)
        if module is None or str(node.target) not in layers or not node.all_input_nodes:
            continue
        name = str(node.target)
        found.calls[name] = found.calls.get(name, 0) + 1
        before = node.all_input_nodes[0]
        while len(before.users) == 1 and _changes_nothing(before, module_of(before)):
            before = before.all_input_nodes[0]
        if isinstance(module_of(before), AFFINE) and len(before.users) == 1:
            found.straight[name] = str(before.target)
        found.dropouts.setdefault(name, set()).update(
            _reached(node.all_input_nodes, lambda n: n.all_input_nodes, stop) - {""}
        )
    return found


class _Tracer(LeafTracer):
    """Tracer to which every normalization is one node."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether module `m` becomes one node."""
        return is_norm(m) or super().is_leaf_module(m, module_qualified_name)


def _changes_nothing(node: Node, module: nn.Module | None) -> bool:
    views = (
        "view",
        "reshape",
        "flatten",
        "permute",
        "transpose",
        "contiguous",
        "squeeze",
        "unsqueeze",
    )
    if not node.all_input_nodes:
        return False
    if node.op == "call_module":
        return isinstance(module, nn.Identity | nn.Flatten) or (
            isinstance(module, DROPOUT) and module.p == 0
        )
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_method", "call_function") and name in views


def _of_sequentials(modules: dict[str, nn.Module], layers: dict[str, Layer]) -> Flow:
    found = Flow()
    for name, module in modules.items():
        if not isinstance(module, nn.Sequential):
            continue
        before, dropouts = "", set()
        for part, child in module.named_children():
            path = f"{name}.{part}".lstrip(".")
            if path in layers:
                if isinstance(modules.get(before), AFFINE):
                    found.straight[path] = before
                found.dropouts[path] = set(dropouts)
            if is_norm(child):
                dropouts = set()
            elif isinstance(child, DROPOUT) and child.p > 0:
                dropouts.add(path)
            if not isinstance(child, nn.Identity):
                before = path
    return found
