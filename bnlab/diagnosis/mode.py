"""The family "mode": is each layer in the mode that its owner thinks it is in?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn

from bnlab.diagnosis._case import Case, found
from bnlab.diagnosis._layers import Layer
from bnlab.diagnosis.report import Finding
from bnlab.inference import freeze

__all__: list[str] = []


def train_mode_in_evaluation(case: Case) -> Iterator[Finding]:
    """The model is in evaluation mode, a layer is not."""
    for layer in case.layers.values():
        if layer.plain and layer.training and layer.tracked and not case.root_training:
            yield found(
                "train-mode-in-evaluation", layer.name,
                "The model is in evaluation mode and this layer in training mode: it normalizes by the batch and "
                "moves its statistics.",
                {"model_training": False, "layer_training": True},
                apply=layer.module.eval,
            )  # fmt: skip


def moving_frozen(case: Case) -> Iterator[Finding]:
    """Parameters that need no gradient, and statistics that move."""
    if not case.root_training and not any(p.requires_grad for p in case.model.parameters()):
        return  # a model for predictions: nobody will train it
    for layer in case.layers.values():
        if not (layer.moves and (layer.training or layer.wakes)):
            continue
        if case.ran and layer.name not in case.reached and not layer.hidden:
            continue  # no pass moves it
        owner, parameters = _frozen_by(layer, case)
        if parameters and not any(p.requires_grad for p in parameters):
            now = "move" if layer.training else "would move after train()"
            yield found(
                "moving-frozen", layer.name,
                f"{owner} needs no gradient, yet the running statistics {now}.",
                {"parameters": sum(p.numel() for p in parameters), "layer_training": layer.training},
                apply=partial(freeze, layer.module),
            )  # fmt: skip


def _frozen_by(layer: Layer, case: Case) -> tuple[str, list[nn.Parameter]]:
    """Return whose parameters decide: the layer's own, or those of the smallest part around it that has any."""
    name = layer.name
    own = list(layer.module.parameters())
    if own:
        return "The layer", own
    while name:
        name = name.rpartition(".")[0]
        parameters = list(case.modules[name].parameters())
        if parameters:
            return f"All of {name or 'the model'}", parameters
    return "", []


def frozen_wakes(case: Case) -> Iterator[Finding]:
    """In evaluation mode until the next train()."""
    for layer in case.layers.values():
        if layer.moves and not layer.training and case.root_training and layer.wakes:
            yield found(
                "frozen-wakes", layer.name,
                "The layer is in evaluation mode, and the next train() of the model wakes it.",
                {"model_training": True, "layer_training": False},
                apply=partial(freeze, layer.module),
            )  # fmt: skip


def untracked(case: Case) -> Iterator[Finding]:
    """No running statistics."""
    for layer in case.layers.values():
        if layer.plain and not layer.tracked and not layer.lazy:
            yield found(
                "untracked", layer.name,
                "The layer keeps no running statistics: in evaluation, too, it normalizes by the batch.",
                {"running_statistics": 0},
            )  # fmt: skip
