"""Each checker of Chapter 10 accepts right answers and rejects every named wrong one."""

import numpy as np
import pytest

from bnlab.chapters.accelerating import exercises


def first_step(accuracy, at, target):
    reached = np.flatnonzero(accuracy >= target)
    return at[reached[0]] if len(reached) else np.inf


def looped(accuracy, at, target):
    for a, t in zip(accuracy, at, strict=True):
        if a >= target:
            return float(t)
    return float("inf")


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
        "the place": lambda a, t, g: float(np.argmax(a >= g)),
        "strictly above": lambda a, t, g: t[np.argmax(a > g)] if (a > g).any() else np.inf,
        "of the best": lambda a, t, g: t[np.argmax(a)] if (a >= g).any() else np.inf,
        "the last below": lambda a, t, g: t[np.flatnonzero(a < g)[-1]] if (a < g).any() else t[0],
        "never is the first": lambda a, t, g: t[np.argmax(a >= g)],
        "never is the last": lambda a, t, g: first_step(a, t, g) if (a >= g).any() else t[-1],
        "never is NaN": lambda a, t, g: first_step(a, t, g) if (a >= g).any() else np.nan,
        "all of them": lambda a, t, g: t[a >= g],
    },
    "speedup_share": {
        "the other share": lambda a, b, c: np.log(b / c) / np.log(a / c),
        "steps saved": lambda a, b, c: (a - b) / (a - c),
        "ratio of factors": lambda a, b, c: (a / b) / (a / c),
        "a factor": lambda a, b, c: a / b,
        "logarithms of steps": lambda a, b, c: np.log(b) / np.log(a),
    },
    "change_interaction": {
        "the mean": lambda p, pc, b, bc: ((bc - b) - (pc - p)).mean(),
        "sign": lambda p, pc, b, bc: (pc - p) - (bc - b),
        "with BN": lambda p, pc, b, bc: bc - b,
        "without BN": lambda p, pc, b, bc: pc - p,
        "changed recipes": lambda p, pc, b, bc: bc - pc,
        "both": lambda p, pc, b, bc: bc - p,
        "ratio": lambda p, pc, b, bc: (bc / b) / (pc / p),
    },
    "shard_shuffle": {
        "everything": lambda shards, rng: rng.permutation(np.concatenate(shards)),
        "shards only": lambda shards, rng: np.concatenate(
            [shards[k] for k in rng.permutation(len(shards))]
        ),
        "within only": lambda shards, rng: np.concatenate([rng.permutation(s) for s in shards]),
        "nothing": lambda shards, rng: np.concatenate(shards),
        "in place": shuffled_in_place,
        "one order for all": one_order,
        "with replacement": lambda shards, rng: np.concatenate(
            [rng.choice(s, len(s)) for s in shards]
        ),
        "a list of shards": lambda shards, rng: [rng.permutation(s) for s in shards],
        "half": lambda shards, rng: epoch(shards, rng)[:24],
    },
}


@pytest.mark.parametrize(("name", "i"), [(n, i) for n in RIGHT for i in range(len(RIGHT[n]))])
def test_right_answers_pass(name, i):
    verdict = getattr(exercises, name)(RIGHT[name][i])
    assert verdict, verdict
    assert repr(verdict).startswith("Correct: ")


@pytest.mark.parametrize(("name", "mistake"), [(n, k) for n, wrong in WRONG.items() for k in wrong])
def test_wrong_answers_fail_with_a_hint(name, mistake):
    verdict = getattr(exercises, name)(WRONG[name][mistake])
    assert not verdict
    assert repr(verdict).startswith("Not yet: ")
    assert len(verdict.message) > 20


@pytest.mark.parametrize("name", WRONG)
def test_named_mistakes_get_hints_of_their_own(name):
    messages = [getattr(exercises, name)(wrong).message for wrong in WRONG[name].values()]
    assert len(set(messages)) >= min(5, len(messages))


@pytest.mark.parametrize("name", RIGHT)
def test_a_stub_is_told_so(name):
    def stub(*_):
        raise NotImplementedError

    assert "still a stub" in getattr(exercises, name)(stub).message


def test_every_checker_of_the_chapter_is_tested():
    from bnlab.chapters.accelerating import exercises as accelerating

    assert set(RIGHT) == set(WRONG) == set(accelerating.__all__)
