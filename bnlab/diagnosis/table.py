"""The table of what :func:`bnlab.diagnosis.diagnose` looks for: one row for each id, and every text from here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bnlab._validate import did_you_mean

__all__ = ["CHECKS", "FAMILIES", "Check", "chosen"]

SEVERITIES = ("info", "warning", "error")


@dataclass(frozen=True)
class Check:
    """One row of the table: what is found, when, why it happens and what helps."""

    id: str
    """The name of the finding."""
    family: str
    """One of `FAMILIES`."""
    severity: str
    """``"error"``, ``"warning"`` or ``"info"``."""
    when: str
    """When it is found."""
    cause: str
    """Why it happens."""
    fix: str
    """What to do."""
    chapter: int
    """The chapter of the book that explains it."""


_ROWS = (
    Check(
        "stale-statistics", "statistics", "error",
        "the running statistics are far from those of the batches: by more than 0.25 standard deviations, or 0.5 "
        "in log variance, and by 5 standard errors",
        "The weights or the data changed after the statistics were collected, or too few batches moved them.",
        "Take them again: inference.recalibrate(model, batches).",
        7,
    ),
    Check(
        "untrained-statistics", "statistics", "warning",
        "no batch has moved the running statistics (mean 0, variance 1, counter 0), and the data differ from them",
        "The layer never ran in training mode, or a checkpoint was loaded without its buffers.",
        "Load the buffers too, or inference.recalibrate(model, batches).",
        7,
    ),
    Check(
        "start-up-bias", "statistics", "warning",
        "(1 - momentum)^updates of the start value (mean 0, variance 1) is left in the running statistics and matters",
        "The running average has seen too few batches for its momentum.",
        "Train longer, raise momentum, or inference.recalibrate(model, batches).",
        7,
    ),
    Check(
        "nonfinite-statistics", "statistics", "error",
        "NaN or Inf in a running statistic, the weight or the bias",
        "One bad batch is enough: an overflow in half precision, or NaN in the data.",
        "Find the batch, then inference.recalibrate(model, batches); a bad weight needs an older checkpoint.",
        7,
    ),
    Check(
        "negative-variance", "statistics", "error",
        "a running variance below 0",
        "Averaging or extrapolating weights took the buffers along, or a file was converted wrongly.",
        "Take them again: inference.recalibrate(model, batches).",
        7,
    ),
    Check(
        "dead-channels", "statistics", "warning",
        "channels whose input is constant over all batches (variance below 0.001 eps), or some, but not all, "
        "weights exactly 0",
        "Dead units before the layer, a constant input feature, or pruned channels.",
        "Remove these channels, or look at what is before the layer: its rate, its start, its activation.",
        5,
    ),
    Check(
        "eps-dominates", "statistics", "warning",
        "eps is larger than the variance of at least a quarter of the live channels",
        "Inputs of a very small scale, or an eps meant for another layer: these channels are hardly normalized.",
        "Scale the inputs up, or lower eps.",
        5,
    ),
    Check(
        "reversed-momentum", "statistics", "warning",
        "momentum is 0.5 or more, where torch's is the weight of the new batch",
        "A value such as 0.9 or 0.99 of a framework in which momentum is the weight of the old average.",
        "Use 1 - momentum: inference.convert_momentum.",
        7,
    ),
    Check(
        "noisy-statistics", "statistics", "warning",
        "the running average jitters by more than 0.15 standard deviations: "
        "sqrt(momentum / (2 - momentum) / m_eff), with m_eff from the scatter between examples",
        "Too few independent values behind each batch for this momentum.",
        "Lower momentum or enlarge the batch; for a trained model inference.recalibrate(model, batches).",
        7,
    ),
    Check(
        "train-mode-in-evaluation", "mode", "error",
        "the model is in evaluation mode, and a batch norm layer in it is not",
        "train() was called on a part of the model after eval(), or eval() does not reach the layer.",
        "Call model.eval() last.",
        7,
    ),
    Check(
        "moving-frozen", "mode", "warning",
        "weight and bias of the layer, or all of its sub-model, need no gradient, yet its statistics move, or would "
        "after train()",
        "requires_grad_(False) stops the optimizer and not the running average.",
        "inference.freeze(layer): it stays in evaluation mode, whatever the model does.",
        7,
    ),
    Check(
        "frozen-wakes", "mode", "info",
        "the layer is in evaluation mode inside a model in training mode, and the next train() would wake it",
        "eval() on a part of a model lasts until the next train(), often one epoch.",
        "inference.freeze(layer) if it shall stay.",
        7,
    ),
    Check(
        "untracked", "mode", "info",
        "the layer keeps no running statistics, so evaluation uses those of the batch",
        "track_running_stats=False.",
        "Evaluate with batches as in training, or track the statistics.",
        7,
    ),
    Check(
        "few-values", "batches", "warning",
        "the median number of values behind a statistic, m, is 2 to 15 in a layer that normalizes by the batch; "
        "m = 1 in any batch is an error",
        "Small batches, or small maps late in the network.",
        "Larger batches, drop_last=True, SyncBatchNorm, a frozen layer or another norm.",
        8,
    ),
    Check(
        "train-eval-gap", "batches", "warning",
        "outputs with batch norm in training and in evaluation mode (Dropout left out) differ far beyond the spread "
        "between training-mode batches",
        "Running statistics that do not belong to these data or weights, or batches unlike the population.",
        "Look at the other findings first; then inference.recalibrate(model, batches).",
        7,
    ),
    Check(
        "ordered-batches", "batches", "warning",
        "batch means scatter far more than those of random batches of this size could",
        "A loader that is sorted or clustered: by class, by source, by time.",
        "Shuffle: DataLoader(..., shuffle=True).",
        7,
    ),
    Check(
        "shifted-batches", "batches", "warning",
        "other_batches have another distribution at the input of a layer than batches",
        "Another domain, or other preprocessing.",
        "Compare the preprocessing; then recalibrate on data of the domain where the model is used.",
        7,
    ),
    Check(
        "redundant-bias", "structure", "info",
        "a Linear or convolution with a trained bias feeds straight into batch norm",
        "Batch norm subtracts the mean, and with it any constant.",
        "bias=False in the layer before.",
        5,
    ),
    Check(
        "shared-layer", "structure", "warning",
        "one batch norm layer is called more than once in one forward pass",
        "One layer for several inputs: its running statistics mix them, and fit none.",
        "One layer for each place.",
        7,
    ),
    Check(
        "double-update", "structure", "warning",
        "one training step moves the statistics of a layer again in its backward pass",
        "Activation checkpointing runs the forward pass a second time.",
        "Keep batch norm out of the checkpointed block, or set momentum to 1 - sqrt(1 - momentum).",
        7,
    ),
    Check(
        "unused-layer", "structure", "info",
        "no forward pass reaches this batch norm layer",
        "A left-over, or a branch that these batches do not take.",
        "Remove it, or feed batches that reach it.",
        7,
    ),
    Check(
        "dropout-before", "structure", "info",
        "active dropout (p > 0) lies before batch norm with no other normalization between",
        "Dropout changes the variance in training only, so that the running variance does not fit evaluation.",
        "Put Dropout after the last batch norm layer.",
        10,
    ),
    Check(
        "detached-statistics", "structure", "error",
        "the gradient ignores the statistics: a bias before the layer gets a gradient, or a stretch of its weights "
        "does, although the output does not depend on it",
        "Statistics computed under no_grad or with detach().",
        "Let the gradient flow through mean and variance, as torch.nn's and bnlab.nn's layers do.",
        3,
    ),
    Check(
        "decayed-affine", "optimizer", "info",
        "an optimizer group with weight decay holds weight or bias of a batch norm layer",
        "model.parameters() went into one group.",
        "A group of their own with weight_decay=0, if decay is not meant for them.",
        6,
    ),
    Check(
        "averaged-weights", "statistics", "error",
        "averaged weights (AveragedModel, or a copy named ema, swa or averaged) with statistics of other weights",
        "The average of weights took the buffers of the last model along, or none.",
        "torch.optim.swa_utils.update_bn, or inference.recalibrate(model, batches).",
        7,
    ),
    Check(
        "unsynchronized", "distributed", "warning",
        "DataParallel or DistributedDataParallel around plain batch norm, with fewer than 16 values per replica",
        "Each replica normalizes by its own share of the batch.",
        "torch.nn.SyncBatchNorm.convert_sync_batchnorm(model), or larger batches.",
        8,
    ),
)  # fmt: skip

CHECKS = {row.id: row for row in _ROWS}
"""Each row of the table by its id."""

FAMILIES = tuple(dict.fromkeys(row.family for row in _ROWS))
"""The families of checks, which `select` and `ignore` take as well as ids."""


def chosen(
    select: str | Iterable[str] | None = None, ignore: str | Iterable[str] | None = None
) -> frozenset[str]:
    """Return the ids that remain of the table.

    Parameters
    ----------
    select : str or iterable of str, optional
        Ids or families to look for; all of them by default.
    ignore : str or iterable of str, optional
        Ids or families to leave out.

    Returns
    -------
    frozenset of str
        The ids.

    Raises
    ------
    ValueError
        If a name is neither an id nor a family; the message names the nearest.
    TypeError
        If a name is not a string.

    Examples
    --------
    >>> sorted(chosen("mode", ignore="untracked"))
    ['frozen-wakes', 'moving-frozen', 'train-mode-in-evaluation']
    """
    wanted = frozenset(CHECKS) if select is None else _ids("select", select)
    return wanted - (frozenset() if ignore is None else _ids("ignore", ignore))


def _ids(argument: str, names: str | Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for name in [names] if isinstance(names, str) else names:
        if not isinstance(name, str):
            raise TypeError(
                f"{argument} holds {name!r}, a {type(name).__name__}; expected ids or families as text. "
                f"`bnlab diagnose --list` shows them."
            )
        if name in CHECKS:
            found.add(name)
        elif name in FAMILIES:
            found |= {row.id for row in _ROWS if row.family == name}
        else:
            raise ValueError(
                f"{argument} names {name!r}; expected ids or families ({', '.join(FAMILIES)}). "
                f"`bnlab diagnose --list` shows them.{did_you_mean(name, [*CHECKS, *FAMILIES])}"
            )
    return frozenset(found)
