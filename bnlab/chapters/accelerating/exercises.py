"""Exercise checkers of Chapter 10: steps to a target, shares of a speed-up, interactions, shuffling in shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bnlab.chapters._verdict import Verdict, call, correct, judge, not_yet, numbers

__all__ = ["change_interaction", "shard_shuffle", "speedup_share", "steps_to_target"]


def steps_to_target(function: Callable[[np.ndarray, np.ndarray, float], float]) -> Verdict:
    """Check ``function(accuracy, at, target)``: the first step that reaches the target, or infinity.

    Examples
    --------
    >>> steps_to_target(lambda accuracy, at, target: at[np.argmax(accuracy >= target)])
    Not yet: this curve never reaches the target, and you return 50. Return np.inf.
    """
    at = np.array([50, 100, 200, 400, 800])
    accuracy = np.array([0.25, 0.5, 0.75, 0.625, 0.875])
    cases = ((0.75, 200), (0.6, 200), (0.875, 800), (0.1, 50))
    for target, expected in cases:
        answer = numbers(function, accuracy, at, target, shape=())
        if isinstance(answer, Verdict):
            return answer
        found = float(answer)
        if found == expected:
            continue
        if found in (0, 1, 2, 3, 4):
            return not_yet(
                "that is the place in the array. Return the number of steps, `at` there."
            )
        if target == 0.75 and found == 800:
            return not_yet("a curve that is exactly at the target has reached it: >=, not >.")
        return not_yet(
            f"for accuracies {accuracy.tolist()} after {at.tolist()} steps and target {target} you return "
            f"{found:g}, expected {expected}: the first time counts, even if the curve falls again."
        )
    answer = call(function, accuracy, at, 0.9)
    if isinstance(answer, Verdict):
        return answer
    if np.ndim(answer) or answer != np.inf:
        return not_yet(
            f"this curve never reaches the target, and you return {answer}. Return np.inf."
        )
    return correct("the first time counts, and a run that never gets there is not left out.")


def speedup_share(function: Callable[[float, float, float], float]) -> Verdict:
    """Check ``function(before, between, after)``: which share of a speed-up, as factors, came first."""
    before, between, after = 64.0, 32.0, 2.0
    right = np.log(before / between) / np.log(before / after)
    return judge(
        numbers(function, before, between, after, shape=()),
        right,
        correct("factors multiply, so their logarithms add up to the whole."),
        [
            (1 - right, "that is the share of the second step, from `between` to `after`."),
            ((before - between) / (before - after),
             "that is the share of the steps saved. Factors multiply: use logarithms."),
            ((before / between) / (before / after),
             "factors multiply, they do not add up. Take the logarithm of each."),
        ],
        "From 64 over 32 to 2 is a factor of 2 and then of 16, or 2^1 and 2^4.",
    )  # fmt: skip


def change_interaction(function: Callable[..., np.ndarray]) -> Verdict:
    """Check ``function(plain, plain_changed, bn, bn_changed)``: the interaction, seed by seed."""
    rng = np.random.default_rng(0)
    given = plain, plain_changed, bn, bn_changed = rng.uniform(0.7, 0.9, size=(4, 5)).round(3)
    right = (bn_changed - bn) - (plain_changed - plain)
    answer = call(function, *given)
    if not isinstance(answer, Verdict) and np.ndim(answer) == 0 and answer == right.mean():
        return not_yet(
            "the mean is right. Return one number a seed: an interval needs all of them."
        )
    return judge(
        numbers(function, *given, shape=(5,)),
        right,
        correct("what the change does with BN, beyond what it does without."),
        [
            (-right, "the sign is the wrong way round: with BN less without."),
            (bn_changed - bn, "that is the effect with BN. Subtract the effect without."),
            (plain_changed - plain, "that is the effect without BN, half of the answer."),
            (bn_changed - plain_changed, "that is the effect of BN in the changed recipe."),
            (bn_changed - plain, "that is the effect of both together."),
        ],
        "Subtract the effect of the change without BN from its effect with BN.",
    )  # fmt: skip


def shard_shuffle(
    function: Callable[[Sequence[np.ndarray], np.random.Generator], np.ndarray],
) -> Verdict:
    """Check ``function(shards, rng)``: the examples of one epoch, shards in random order and shuffled within."""
    shards = [np.arange(start, start + 8) for start in range(0, 48, 8)]
    epochs = []
    for seed in range(6):
        given = [s.copy() for s in shards]
        order = numbers(function, given, np.random.default_rng(seed), shape=(48,))
        if isinstance(order, Verdict):
            return order
        if any((a != b).any() for a, b in zip(given, shards, strict=True)):
            return not_yet(
                "the shards you were given have changed. Work on copies: rng.permutation."
            )
        if sorted(order.tolist()) != list(range(48)):
            return not_yet("an epoch holds every example once. Some are missing or come twice.")
        epochs.append(order.astype(int).reshape(6, 8))
    homes = [e // 8 for e in epochs]
    if any((h != h[:, :1]).any() for h in homes):
        return not_yet("examples of different shards are mixed. Read one shard after another.")
    visits = [h[:, 0].tolist() for h in homes]
    if all(v == visits[0] for v in visits):
        return not_yet("the shards come in the same order in every epoch. Shuffle them as well.")
    if all((np.sort(e, axis=1) == e).all() for e in epochs):
        return not_yet("within a shard nothing is shuffled: the same examples always meet.")
    inside = [e[np.argsort(h[:, 0])] % 8 for e, h in zip(epochs, homes, strict=True)]
    if all((i == i[0]).all() for i in inside):
        return not_yet("every shard gets the same new order. Draw a new one for each.")
    return correct("each epoch brings other examples together, and only one shard is in memory.")
