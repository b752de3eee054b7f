"""Chapter 10: steps to a target, shares of a speed-up, interactions, shuffling in shards."""

import numpy as np


def first_step(accuracy, at, target):
    reached = np.flatnonzero(accuracy >= target)
    return at[reached[0]] if len(reached) else np.inf


def looped(accuracy, at, target):
    for a, t in zip(accuracy, at, strict=True):
        if a >= target:
            return float(t)
    return float("inf")


def or_never(answer):
    return lambda a, t, g: first_step(a, t, g) if (a >= g).any() else answer


def epoch(shards, rng):
    return np.concatenate([rng.permutation(shards[k]) for k in rng.permutation(len(shards))])


def shuffled_in_place(shards, rng):
    for shard in shards:
        rng.shuffle(shard)
    rng.shuffle(shards)
    return np.concatenate(shards)


def one_order(shards, rng):
    order = rng.permutation(len(shards[0]))
    return np.concatenate([shards[k][order] for k in rng.permutation(len(shards))])


RIGHT = {
    "steps_to_target": [first_step, looped],
    "speedup_share": [
        lambda a, b, c: np.log(a / b) / np.log(a / c),
        lambda a, b, c: (np.log2(a) - np.log2(b)) / (np.log2(a) - np.log2(c)),
    ],
    "change_interaction": [
        lambda p, pc, b, bc: (bc - b) - (pc - p),
        lambda p, pc, b, bc: bc - b - pc + p,
    ],
    "shard_shuffle": [
        epoch,
        lambda shards, rng: np.array(
            [x for k in rng.permutation(len(shards)) for x in rng.permutation(shards[k])]
        ),
    ],
}

WRONG = {
    "steps_to_target": {
        "the place": (lambda a, t, g: float(np.argmax(a >= g)), "the place in the array"),
        "strictly above": (
            lambda a, t, g: t[np.argmax(a > g)] if (a > g).any() else np.inf, ">=, not >"),
        "of the best": (
            lambda a, t, g: t[np.argmax(a)] if (a >= g).any() else np.inf, ">=, not >"),
        "the last below": (
            lambda a, t, g: t[np.flatnonzero(a < g)[-1]] if (a < g).any() else t[0],
            "target 0.75 you return 400, expected 200: the first time counts"),
        "never is the first": (
            lambda a, t, g: t[np.argmax(a >= g)], "never reaches the target, and you return 50."),
        "never is the last": (or_never(800), "never reaches the target, and you return 800."),
        "never is NaN": (or_never(np.nan), "never reaches the target, and you return nan."),
        "never is text": (or_never("never"), "never reaches the target, and you return never."),
        "all of them": (lambda a, t, g: t[a >= g], "has shape (2,), expected one number"),
    },
    "speedup_share": {
        "the other share": (lambda a, b, c: np.log(b / c) / np.log(a / c), "the second step"),
        "steps saved": (lambda a, b, c: (a - b) / (a - c), "the steps saved"),
        "ratio of factors": (lambda a, b, c: (a / b) / (a / c), "they do not add up"),
        "a factor": (lambda a, b, c: a / b, "return 2, expected 0.2. From 64 over 32 to 2"),
    },
    "change_interaction": {
        "the mean": (lambda p, pc, b, bc: ((bc - b) - (pc - p)).mean(), "one number a seed"),
        "sign": (lambda p, pc, b, bc: (pc - p) - (bc - b), "the wrong way round"),
        "with BN": (lambda p, pc, b, bc: bc - b, "the effect with BN. Subtract"),
        "without BN": (lambda p, pc, b, bc: pc - p, "half of the answer"),
        "changed recipes": (lambda p, pc, b, bc: bc - pc, "in the changed recipe"),
        "both": (lambda p, pc, b, bc: bc - p, "both together"),
        "ratio": (lambda p, pc, b, bc: (bc / b) / (pc / p), "without BN from its effect with BN"),
    },
    "shard_shuffle": {
        "everything": (
            lambda shards, rng: rng.permutation(np.concatenate(shards)), "shards are mixed"),
        "shards only": (
            lambda shards, rng: np.concatenate([shards[k] for k in rng.permutation(len(shards))]),
            "within a shard nothing is shuffled"),
        "within only": (
            lambda shards, rng: np.concatenate([rng.permutation(s) for s in shards]),
            "in the same order in every epoch"),
        "nothing": (lambda shards, rng: np.concatenate(shards), "in the same order in every epoch"),
        "in place": (shuffled_in_place, "you were given have changed"),
        "one order for all": (one_order, "the same new order"),
        "with replacement": (
            lambda shards, rng: np.concatenate([rng.choice(s, len(s)) for s in shards]),
            "missing or come twice"),
        "a list of shards": (
            lambda shards, rng: [rng.permutation(s) for s in shards],
            "has shape (6, 8), expected an array of shape (48,)"),
        "half": (lambda shards, rng: epoch(shards, rng)[:24], "has shape (24,)"),
    },
}  # fmt: skip
