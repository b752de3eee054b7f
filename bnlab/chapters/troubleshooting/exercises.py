"""Exercise checkers of Chapter 13: momentum of several updates, masked statistics, and folding before a layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnlab.chapters._verdict import Verdict, correct, judge, not_yet, numbers, pair

__all__ = ["fold_before", "masked_statistics", "shared_momentum"]


def shared_momentum(function: Callable[[float, int], float]) -> Verdict:
    """Check ``function(momentum, updates)``: what to set so that several updates weigh like one.

    Examples
    --------
    >>> shared_momentum(lambda momentum, updates: momentum / updates)
    Not yet: for 0.5 and 2 updates: that is near, but the updates overlap: (1 - a)^2 must be 1 - momentum.
    """
    momentum, updates = 0.5, 2
    return judge(
        numbers(function, momentum, updates, shape=()),
        1 - (1 - momentum) ** (1 / updates),
        correct("each update multiplies what is left of the past."),
        [
            (momentum / updates,
             "that is near, but the updates overlap: (1 - a)^2 must be 1 - momentum."),
            (momentum, "then the past keeps (1 - momentum)^2, less than it should."),
            ((1 - momentum) ** (1 / updates),
             "that is what the past keeps at each update. Take one minus that."),
        ],
        "After two updates with a, the past has weight (1 - a)^2.",
        given="for 0.5 and 2 updates",
    )  # fmt: skip


def masked_statistics(
    function: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Verdict:
    """Check ``function(x, valid)``: mean and biased variance of each feature over valid positions only.

    ``x`` has shape (N, C, L), ``valid`` (N, L); the padding is not always zero.

    Examples
    --------
    >>> masked_statistics(lambda x, valid: (x.mean((0, 2)), x.var((0, 2))))
    Not yet: the mean counts the padding. Divide the sum of the valid values by their number.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(1, 2, (3, 2, 4))
    valid = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=bool)
    rows = np.moveaxis(x, 1, -1)
    kept = rows[valid]
    answer = pair(function, x.copy(), valid.copy(), shapes=((2,), (2,)), names=("mean", "var"))
    if isinstance(answer, Verdict):
        return answer
    mean, var = answer
    if np.allclose(mean, x.mean((0, 2))):
        return not_yet(
            "the mean counts the padding. Divide the sum of the valid values by their number."
        )
    if not np.allclose(mean, kept.mean(0)):
        return not_yet(
            "the mean is off. Sum the valid values of a feature, divide by their number."
        )
    zeroed = np.where(valid[:, None], x, 0.0)
    n = valid.sum()
    spilled = ((zeroed - mean[:, None]) ** 2).sum((0, 2)) / n
    return judge(
        var,
        kept.var(0),
        correct("the layer sees as many values as there are valid positions."),
        [
            (x.var((0, 2)), "it counts the padding."),
            (kept.var(0, ddof=1), "the one that normalizes is divided by m."),
            (
                spilled,
                "each padded zero adds mean^2. Mask after the subtraction.",
            ),
        ],
        "Subtract the mean, square, and sum over valid positions only.",
        given="the mean is right; the variance",
    )


def fold_before(
    function: Callable[..., tuple[np.ndarray, np.ndarray]],
) -> Verdict:
    """Check ``function(W, b, scale, shift)``: one linear layer for ``W (scale * x + shift) + b``.

    Examples
    --------
    >>> fold_before(lambda W, b, scale, shift: (W * scale, b))
    Not yet: the weight is right; the bias is off. The shift goes through W, too.
    """
    rng = np.random.default_rng(1)
    W, b = rng.normal(size=(2, 3)), rng.normal(size=2)
    scale, shift = rng.uniform(0.5, 2, 3), rng.normal(size=3)
    answer = pair(
        function,
        W.copy(),
        b.copy(),
        scale.copy(),
        shift.copy(),
        shapes=((2, 3), (2,)),
        names=("W", "b"),
    )
    if isinstance(answer, Verdict):
        return answer
    weight, bias = answer
    if not np.allclose(weight, W * scale):
        return not_yet("the weight is off. Each *column* of W meets one feature: scale that.")
    if not np.allclose(bias, W @ shift + b):
        return not_yet("the weight is right; the bias is off. The shift goes through W, too.")
    return correct("a layer after the normalization takes it up as well, if it does not pad.")
