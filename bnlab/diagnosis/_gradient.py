"""One step of training on a few examples: does the gradient know of the statistics, and do they move twice?

What normalizes does not care whether its input is shifted or stretched as a whole, so its gradient has no part in
these directions. Where the output is the same after a shift and the gradient along it is not 0, the statistics
were cut out of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from bnlab.diagnosis._layers import AFFINE, Layer

_CUT = 0.1
"""Share of a gradient along a direction that is too much: honest statistics make it 0, and chance about 1."""
_SAME = 0.02
"""Relative change of an output that counts as none, as eps leaves some."""
_KINDS = ("shift", "stretch")
"""A norm ignores both; what rounds or takes signs may ignore one."""


class Gradients:
    """Hooks for one forward and backward pass."""

    def __init__(
        self, model: nn.Module | None = None, layers: dict[str, Layer] | None = None
    ) -> None:
        self.detached: dict[str, dict[str, Any]] = {}
        """Layers whose gradient ignores their statistics, with the evidence."""
        self.twice: set[str] = set()
        """Layers whose statistics the backward pass moved again."""
        self.reached: set[str] = set()
        self.taken = False
        self._model, self._layers = model, layers or {}
        self._handles: list[Any] = []
        self._suspects: dict[str, tuple[nn.Module, tuple, dict, dict[str, float]]] = {}
        self._outputs: dict[str, tuple[Tensor, Tensor]] = {}
        self._calls: dict[str, int] = {}
        self._asleep = False

    def __enter__(self) -> None:
        assert self._model is not None
        for name, module in self._model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            if name in self._layers or _of_ones_own(module):
                self._handles.append(
                    module.register_forward_pre_hook(self._enter(name), with_kwargs=True)
                )
            elif isinstance(module, AFFINE):
                self._handles.append(module.register_forward_hook(self._leave(name)))

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    # ---- hooks ----

    def _enter(self, name: str) -> Callable[..., Any]:
        def alias(module: nn.Module, args: tuple, kwargs: dict) -> Any:
            if self._asleep:
                return None
            if name in self._layers:
                self.reached.add(name)
            leaves, spec = pytree.tree_flatten((args, kwargs))
            at = next((i for i, v in enumerate(leaves) if isinstance(v, Tensor)), None)
            if at is None or not torch.is_grad_enabled():
                return None
            x = leaves[at]
            if not _of_ones_own(module):  # torch's own know of their statistics
                return None
            if x.dim() < 2 or not x.is_floating_point():
                return None
            # A copy of its own, because other parts of the model may use x too.
            own = (x if x.requires_grad else x.detach().requires_grad_()).clone()
            before = x.detach()
            leaves[at] = own
            given = pytree.tree_unflatten([before if v is own else v for v in leaves], spec)

            def look(g: Tensor) -> None:
                shares = _shares(before, g)
                if max(shares.values(), default=0) > _CUT:
                    self._suspects[name] = (module, *given, shares)

            own.register_hook(look)
            return pytree.tree_unflatten(leaves, spec)

        return alias

    def _leave(self, name: str) -> Callable[..., Any]:
        def alias(_: nn.Module, __: tuple, output: Any) -> Any:
            if self._asleep or not isinstance(output, Tensor) or not output.requires_grad:
                return None
            self._calls[name] = self._calls.get(name, 0) + 1
            own = output.clone()
            own.register_hook(lambda g: self._outputs.__setitem__(name, (output.detach(), g)))
            return own

        return alias

    # ---- the step ----

    def backward(self, loss: Tensor) -> None:
        """Take the gradients of a loss, and see which running statistics that moved."""
        running = {n: b for n, b in self._running()}
        before = {n: b.clone() for n, b in running.items()}
        loss.backward()
        self.twice = {n for n, b in running.items() if not _same_bits(b, before[n])}
        self.taken = True
        with torch.no_grad():
            self._judge()

    def _running(self) -> Iterator[tuple[str, Tensor]]:
        for name, layer in self._layers.items():
            buffer = getattr(layer.module, "running_mean", None)
            if layer.module.training and isinstance(buffer, Tensor) and not is_lazy(buffer):
                yield name, buffer

    def _judge(self) -> None:
        self._asleep = True
        for name, (module, args, kwargs, shares) in self._suspects.items():
            for family, evidence in _by_family(shares):
                if all(_ignores(module, args, kwargs, f"{kind} {family}") for kind in _KINDS):
                    self.detached[name] = evidence
                    break
        self._asleep = False

    def affine_suspects(self, skip: set[str]) -> dict[str, dict[str, float]]:
        """Return the Linear and convolutions whose gradient has a part along a shift or stretch of channels."""
        found = {}
        for name, (h, g) in self._outputs.items():
            if name in skip or self._calls[name] > 1:  # the parts of several calls may cancel
                continue
            shares = {w: s for w, s in _shares(h, g, families=("channel",)).items() if s > _CUT}
            if shares:
                found[name] = shares
        return found

    def slope(self, directions: dict[str, Tensor]) -> float:
        """Return the derivative of the loss along a change of the outputs of some layers."""
        return sum(
            float((self._outputs[n][1].double() * d.double()).sum()) for n, d in directions.items()
        )

    def goes_around(self, name: str) -> bool:
        """Tell whether a shift of a layer's output changes the loss: then not only a normalization uses it."""
        if name not in self._outputs or self._calls[name] > 1:
            return False
        return _shares(*self._outputs[name], families=("channel",)).get("shift channel", 0) > _CUT

    def told(self, name: str, move: Tensor) -> float:
        """Return how much the loss changes by the gradient if a layer's output moves, channel by channel."""
        product = self._outputs[name][1].double() * move.double()
        return float(product.movedim(1, 0).flatten(1).sum(1).abs().sum())

    def output(self, name: str) -> Tensor:
        """Return the output of a Linear or convolution."""
        return self._outputs[name][0]


def _of_ones_own(module: nn.Module) -> bool:
    """Tell whether a module could be somebody's own normalization: one without parts, and not of torch."""
    return not type(module).__module__.startswith("torch.") and not any(
        True for _ in module.children()
    )


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a.nan_to_num(), b.nan_to_num()))


def _by_family(shares: dict[str, float]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each family with too large a share, with the evidence."""
    for way, share in sorted(shares.items(), key=lambda pair: -pair[1]):
        kind, family = way.split(" ")
        if share > _CUT:
            yield family, {"direction": kind, "gradient_share": round(share, 3)}


# ---- directions: each value of an axis shifted by its own constant, or stretched around its own mean ----


def _axes(x: Tensor, families: tuple[str, ...]) -> dict[str, int]:
    named = {"channel": 1, "last": x.dim() - 1, "example": 0}
    return {f: named[f] for f in families if not (f == "last" and x.dim() == 2)}


def _shares(
    x: Tensor, g: Tensor, families: tuple[str, ...] = ("channel", "last", "example")
) -> dict[str, float]:
    """Return the part of a gradient along each shift and stretch, about 1 by chance."""
    found = {}
    x, g = x.double(), g.detach().double()
    if (
        x.numel() < 4 * x.shape[1]
    ):  # of three values, a norm leaves one degree of freedom, and rounding
        return found
    for family, axis in _axes(x, families).items():
        rows_x, rows_g = (t.movedim(axis, 0).flatten(1) for t in (x, g))
        if rows_x.shape[1] < 4:
            continue
        rest = rows_x - rows_x.mean(1, keepdim=True)
        width = rest.square().mean(1, keepdim=True).sqrt()
        wide = (width > 0.03 * width.max()) & (
            width > 0.03
        )  # elsewhere eps has a part in the gradient
        size = rows_g.norm()
        if not torch.isfinite(size) or size == 0 or not bool(wide.any()):
            continue
        found[f"shift {family}"] = float(rows_g.sum(1).norm() / size)
        unit = torch.where(wide, rest / width.clamp(min=1e-30), 0.0)
        kept = (rows_g * wide).norm()
        if kept > 0:
            found[f"stretch {family}"] = float((rows_g * unit).sum(1).norm() / kept)
    return found


def changed(x: Tensor, way: str) -> Tensor:
    """Shift or stretch each value of an axis by an amount of its own."""
    kind, family = way.split(" ")
    axis = _axes(x, (family,)).get(family, 1)
    axes = [a for a in range(x.dim()) if a != axis]
    shape = [1] * x.dim()
    shape[axis] = -1
    k = torch.arange(x.shape[axis], device=x.device)
    pattern = (1 + k % 3).to(x.dtype).view(shape)
    if kind == "shift":
        sign = (1 - 2 * (k % 2)).to(x.dtype).view(shape)
        return x + sign * pattern * x.std(axes, keepdim=True, correction=0)
    mean = x.mean(axes, keepdim=True)
    return mean + (1 + 0.25 * pattern) * (x - mean)


def same_output(a: list[Tensor], b: list[Tensor]) -> bool:
    """Tell whether outputs are equal but for what eps leaves."""
    if not a or len(a) != len(b):
        return False
    for one, other in zip(a, b, strict=True):
        if one.shape != other.shape:
            return False
        one, other = one.double(), other.double()
        width = (one - one.mean()).norm() if one.numel() > 1 else one.norm()
        if not bool((one - other).norm() <= _SAME * width):
            return False
    return True


def _ignores(module: nn.Module, args: tuple, kwargs: dict, way: str) -> bool:
    """Tell whether a module's output is the same after a change of its input."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    at = next(i for i, v in enumerate(leaves) if isinstance(v, Tensor))

    def run(x: Tensor) -> list[Tensor]:
        again, more = pytree.tree_unflatten([*leaves[:at], x, *leaves[at + 1 :]], spec)
        output = module(*again, **more)
        return [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]

    x = leaves[at]
    try:
        return same_output(run(x.clone()), run(changed(x, way)))
    except Exception:  # it does not take another input: nothing is known
        return False


def loss_of(outputs: list[Tensor]) -> Tensor:
    """Make one number of the outputs of a model, that depends on each of them and is no sum that cancels."""
    total: Any = None
    for i, output in enumerate(outputs):
        if output.dim() == 0:
            part = output
        else:
            flat = output.flatten()
            k = torch.arange(1, flat.numel() + 1, device=flat.device, dtype=torch.float64)
            weights = torch.sin(k * k * 0.7 + i).to(flat.dtype)
            part = (flat * weights).sum() / flat.numel() ** 0.5
        total = part if total is None else total + part
    if total is None or not total.requires_grad:
        raise ValueError("no output depends on a parameter by a gradient")
    return total


def inline_detached(
    gradients: Gradients, run: Callable[[], list[Tensor]], model: nn.Module, skip: set[str]
) -> dict[str, dict[str, Any]]:
    """Find normalization written into a forward pass that cuts its statistics off.

    Two more forward passes compare the derivative along a change of all suspects at once with the gradient; only
    where they differ is each suspect looked at alone.
    """
    suspects = gradients.affine_suspects(skip)
    if not suspects:
        return {}
    modules = dict(model.named_modules())
    h = 1e-3
    directions = {n: _direction(gradients.output(n)) for n in suspects}

    def along(step: float) -> float:
        return loss_value(_with(modules, {n: step * d for n, d in directions.items()}, run))

    numeric = (along(h) - along(-h)) / (2 * h)
    exact = gradients.slope(directions)
    if abs(numeric - exact) <= 0.02 * max(abs(numeric), abs(exact)):
        return {}
    plain = run()
    found = {}
    for name, shares in list(suspects.items())[:40]:
        output = gradients.output(name)
        for family, evidence in _by_family(shares):
            moves = [changed(output, f"{kind} {family}") - output for kind in _KINDS]
            # What the gradient says the moves would do must itself be visible, else "same" means nothing.
            widths = sum(float((p.double() - p.double().mean()).norm()) for p in plain)
            told = max(gradients.told(name, move) for move in moves)
            if told > _SAME * widths and all(
                same_output(plain, _with(modules, {name: move}, run)) for move in moves
            ):
                found[name] = evidence
                break
    return found


def _direction(h: Tensor) -> Tensor:
    """Shift every channel by its own amount and stretch it a little."""
    return (changed(h, "shift channel") - h) + (changed(h, "stretch channel") - h)


def _with(
    modules: dict[str, nn.Module], values: dict[str, Tensor], run: Callable[[], list[Tensor]]
) -> list[Tensor]:
    """Run the model with something added to the outputs of some layers."""
    handles = []
    for name, value in values.items():

        def add(_: Any, __: Any, output: Any, value: Any = value) -> Any:
            return output + value if output.shape == value.shape else None

        handles.append(modules[name].register_forward_hook(add))
    try:
        return run()
    finally:
        for handle in handles:
            handle.remove()


def loss_value(outputs: list[Tensor]) -> float:
    """Return the number that `loss_of` makes, without a gradient."""
    total = 0.0
    for i, output in enumerate(outputs):
        if output.dim() == 0:
            total += float(output)
            continue
        flat = output.flatten().double()
        k = torch.arange(1, flat.numel() + 1, device=flat.device, dtype=torch.float64)
        total += float((flat * torch.sin(k * k * 0.7 + i)).sum() / flat.numel() ** 0.5)
    return total
