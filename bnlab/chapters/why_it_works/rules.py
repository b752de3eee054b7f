"""Chapter 11: the rules, written before the runs, that turn what was measured into verdicts.

Every interval holds jointly with all others of the chapter: `JUDGED` of them share an error of 5 %. A claim that some
`part` explains the advantage of Batch Normalization is judged by its share of that advantage, as a logarithm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnlab.chapters.why_it_works.results import Arms, Decay, Depth, Smoothness
from bnlab.stats import Interval, t_interval

JUDGED = 44
"""How many intervals the rules of this chapter look at, all together; a test counts them.

Seven of them belong to `noise`, whose runs were planned and not made: to leave them in is the cautious side.
"""

CONFIDENCE = 1 - 0.05 / JUDGED
MOST, LITTLE = 0.5, 0.1  # shares of the advantage
GHOSTS, NOISES = (2, 4, 8, 16), (4, 8, 16)  # the groups within batches of 64


@dataclass(frozen=True)
class Ruling:
    """A verdict and the intervals it rests on."""

    verdict: str  # holds, partly, false or open
    intervals: dict[str, Interval]

    def __getitem__(self, name: str) -> Interval:
        return self.intervals[name]


def share_interval(part: np.ndarray, whole: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    r"""Return the ratio of two means over the same seeds and its interval after Fieller.

    .. math:: \{ r : |\overline{p - r w}| \le t_{n-1}\, \mathrm{se}(p - r w) \}

    Parameters
    ----------
    part, whole : numpy.ndarray
        One entry for each seed, (n,).
    confidence : float
        Between 0 and 1.

    Returns
    -------
    Interval
        Unbounded where the whole itself cannot be told from zero.

    Examples
    --------
    >>> whole = np.array([1.9, 2.0, 2.1, 2.0])
    >>> share_interval(whole / 2, whole, 0.95)
    0.5 [0.5, 0.5]
    """
    n = len(part)
    unit = np.concatenate([np.full(n // 2, -1.0), np.zeros(n % 2), np.full(n // 2, 1.0)])
    half = t_interval(unit, confidence=confidence).high  # t times the standard error of `unit`
    t2 = (half / unit.std(ddof=1)) ** 2  # t^2 / n
    (pp, pw), (_, ww) = np.cov(part, whole)
    a, b, c = (
        whole.mean() ** 2 - t2 * ww,
        part.mean() * whole.mean() - t2 * pw,
        part.mean() ** 2 - t2 * pp,
    )
    root = np.sqrt(max(b * b - a * c, 0.0))
    low, high = ((b - root) / a, (b + root) / a) if a > 0 else (-np.inf, np.inf)
    return Interval(*(np.asarray(v) for v in (part.mean() / whole.mean(), low, high)))


def explains(share: Interval) -> str:
    """Say whether a share is most of the advantage, some, or next to nothing."""
    if share.low > MOST:
        return "holds"
    if share.high < LITTLE:
        return "false"
    return "partly" if share.low > LITTLE else "open"


def together(*words: str) -> str:
    """Say one verdict for several: theirs if they agree, "partly" if some part of the claim holds, else "open"."""
    if len(set(words)) == 1:
        return words[0]
    return "partly" if {"holds", "partly"} & set(words) else "open"


def ratio(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """Return the geometric mean of a ratio, paired by seed."""
    return t_interval(ours / theirs, confidence=CONFIDENCE, geometric=True)


def log_rate(runs: Arms, above: str, below: str) -> np.ndarray:
    """Return the logarithm of the ratio of two arms' largest stable rates, for each seed."""
    return np.log(runs.largest_stable(above) / runs.largest_stable(below))


def end_loss(search: Arms, runs: Arms, arm: str) -> np.ndarray:
    """Return an arm's loss at the rate that the search found for it; a run that failed counts as guessing."""
    at = int(
        np.flatnonzero(np.isclose(_rates(runs, arm), _rates(search, arm)[search.best(arm)]))[0]
    )
    return np.minimum(runs.loss[:, runs.arms.index(arm), at], np.log(10))


def _rates(runs: Arms, arm: str) -> np.ndarray:
    return runs.lr[runs.arms.index(arm)]


def log_loss(search: Arms, runs: Arms, above: str, below: str) -> np.ndarray:
    """Return by how much the first arm's loss is above the second's, as a logarithm, for each seed."""
    return np.log(end_loss(search, runs, above) / end_loss(search, runs, below))


# ---- the rules ----------------------------------------------------------------------------------------


def effect(search: Arms, parts: Arms) -> Ruling:
    """There is something to explain if BN has the larger stable rate and the smaller loss, raw and centred."""
    found = {}
    for name in ("", ", centred"):
        found[f"rate{name}"] = ratio(*(parts.largest_stable(arm + name) for arm in ("BN", "plain")))
        found[f"loss{name}"] = ratio(
            *(end_loss(search, parts, arm + name) for arm in ("plain", "BN"))
        )
    return Ruling(together(*("holds" if v.low > 1 else "open" for v in found.values())), found)


def inputs(search: Arms, parts: Arms) -> Ruling:
    """BN conditions the inputs: a plain net with centred inputs has most of its advantage, in rate and in loss."""
    rate = share_interval(
        log_rate(parts, "plain, centred", "plain"), log_rate(parts, "BN", "plain")
    )
    loss = share_interval(
        log_loss(search, parts, "plain", "plain, centred"), log_loss(search, parts, "plain", "BN")
    )
    return Ruling(together(explains(rate), explains(loss)), {"rate": rate, "loss": loss})


def shift(runs: Arms) -> Ruling:
    """BN stops distributions from moving: false if noisy BN moves more than the plain net and yet ends lower."""
    drift = ratio(runs.of("noisy BN", "drift"), runs.of("plain", "drift"))
    loss = ratio(runs.of("plain"), runs.of("noisy BN"))
    logs = {arm: np.log(runs.of(arm)) for arm in ("plain", "noisy BN", "BN")}
    kept = share_interval(logs["plain"] - logs["noisy BN"], logs["plain"] - logs["BN"])
    verdict = "false" if loss.low > 1 else "holds" if loss.high < 1 else "open"
    return Ruling(
        verdict if drift.low > 1 else "open", {"drift": drift, "loss": loss, "kept": kept}
    )


def constants(search: Arms, parts: Arms) -> Ruling:
    """Constants are enough: nets with frozen or running statistics have most of the advantage of BN."""
    return _kept(search, parts, ("frozen", "running"))


def detached(search: Arms, parts: Arms) -> Ruling:
    """Statistics of the batch are enough without their gradient: the detached net has most of the advantage."""
    return _kept(search, parts, ("detached",))


def _kept(search: Arms, parts: Arms, arms: tuple[str, ...]) -> Ruling:
    found = {}
    for arm in arms:
        for name in ("", ", centred"):
            own, whole = (log_rate(parts, a + name, f"plain{name}") for a in (arm, "BN"))
            found[f"{arm}: rate{name}"] = share_interval(own, whole)
        own, whole = (log_loss(search, parts, "plain", a) for a in (arm, "BN"))
        found[f"{arm}: loss"] = share_interval(own, whole)
    return Ruling(together(*map(explains, found.values())), found)


def rows(parts: Arms, held: Arms) -> Ruling:
    """Weights grow and so slow themselves down: BN whose rows keep their length loses most of its advantage."""
    top = np.log(parts.largest_stable("BN") / held.largest_stable("BN, rows held"))
    usual = share_interval(top, log_rate(parts, "BN", "plain"))
    top = log_rate(held, "BN, last fixed", "BN, last fixed, rows held")
    fixed = share_interval(top, log_rate(held, "BN, last fixed", "plain, last fixed"))
    return Ruling(
        together(explains(usual), explains(fixed)), {"lost": usual, "lost, last fixed": fixed}
    )


def smooth_as_trained(found: Smoothness) -> Ruling:
    """BN nets are smoother along their own steps: range and change are smaller for each input."""
    logs = np.log(found.own[:, :, :, 1:]).mean(axis=3)  # over the checkpoints after the first
    ratios = np.exp(logs[:, :, 0] - logs[:, :, 1])  # plain over BN, (seeds, inputs, 2)
    return _smoother({(name,): ratios[:, i] for i, name in enumerate(found.inputs)})


def smooth_twins(found: Smoothness) -> Ruling:
    """The layer itself is what smooths: with one function and equal weights, range and change are smaller with BN."""
    logs = np.log(found.twin[:, :, :, 1:]).mean(axis=3)
    ratios = np.exp(logs[:, :, :, 0] - logs[:, :, :, 1])
    return _smoother(
        {
            (a, b): ratios[:, i, j]
            for i, a in enumerate(found.inputs)
            for j, b in enumerate(found.origins)
        }
    )


def _smoother(ratios: dict[tuple[str, ...], np.ndarray]) -> Ruling:
    found = {
        ", ".join((measure, *name)): t_interval(value[:, k], confidence=CONFIDENCE, geometric=True)
        for name, value in ratios.items()
        for k, measure in enumerate(("range", "change"))
    }
    words = ["holds" if v.low > 1 else "false" if v.high < 1 else "open" for v in found.values()]
    return Ruling(together(*words), found)


def noise(runs: Arms) -> Ruling:
    """Noise regularizes: some ghost size, and its noise, ends with a smaller held-out loss than the whole batch."""
    whole = runs.of("ghost 64", "held_out")
    sizes = [(kind, n) for kind, chosen in (("ghost", GHOSTS), ("noise", NOISES)) for n in chosen]
    found = {f"{kind} {n}": ratio(whole, runs.of(f"{kind} {n}", "held_out")) for kind, n in sizes}
    gains = {name for name, gain in found.items() if gain.low > 1}
    if any({f"ghost {n}", f"noise {n}"} <= gains for n in NOISES):
        return Ruling("holds", found)
    if any(name.startswith("ghost") for name in gains):
        return Ruling("partly", found)
    return Ruling(
        "false" if all(gain.high < 1 + LITTLE for gain in found.values()) else "open", found
    )


def rank_kept(signal: Depth) -> Ruling:
    """BN keeps the rank: at the last of fifty layers the effective rank is more than twice the plain net's."""
    last = {arm: signal.rank[:, signal.arms.index(arm), -1] for arm in ("BN", "plain")}
    found = ratio(last["BN"], last["plain"])
    return Ruling(
        "holds" if found.low > 2 else "false" if found.high < 2 else "open", {"rank": found}
    )


def rank_enough(runs: Arms) -> Ruling:
    """The rank at the start is why: a deep net with frozen statistics, which has it too, has most of the advantage."""
    return _deep(runs, "plain", "frozen", "BN")


def skip_growth(signal: Depth) -> Ruling:
    """With shortcuts the signal grows by 1 a block under BN, and doubles without: both to a tenth."""
    with_bn, without = (
        signal.square[:, signal.arms.index(f"residual {a}")] for a in ("BN", "plain")
    )
    blocks = signal.square.shape[2] - 1
    found = {
        "added": t_interval((with_bn[:, -1] - with_bn[:, 0]) / blocks, confidence=CONFIDENCE),
        "doublings": t_interval(
            np.log2(without[:, -1] / without[:, 0]) / blocks, confidence=CONFIDENCE
        ),
    }
    inside = [abs(v.low - 1) < LITTLE and abs(v.high - 1) < LITTLE for v in found.values()]
    return Ruling("holds" if all(inside) else "open", found)


def skip_enough(runs: Arms) -> Ruling:
    """Quiet branches are why: shortcuts beside branches that begin at zero have most of the advantage of BN."""
    return _deep(runs, "residual plain", "residual from zero", "residual BN")


def _deep(runs: Arms, plain: str, part: str, whole: str) -> Ruling:
    logs = [np.log(np.minimum(runs.of(arm), np.log(10))) for arm in (plain, part, whole)]
    share = share_interval(logs[0] - logs[1], logs[0] - logs[2])
    return Ruling(explains(share), {"loss": share})


def decay_is_a_rate(found: Decay) -> str:
    """Weight decay equals a growing rate: to a millionth at eps = 0, and at the usual eps it ends 1 % away or more."""
    exact, usual = found.gap("growing rate").swapaxes(0, 1)
    if exact.max() > 1e-6:
        return "false"
    return "partly" if usual[:, -20:].mean(axis=1).min() > 0.01 else "holds"


RULES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "effect": (effect, ("parts_rates", "parts")),
    "inputs": (inputs, ("parts_rates", "parts")),
    "shift": (shift, ("drift",)),
    "constants": (constants, ("parts_rates", "parts")),
    "detached": (detached, ("parts_rates", "parts")),
    "rows": (rows, ("parts", "rows")),
    "smooth_as_trained": (smooth_as_trained, ("smoothness",)),
    "smooth_twins": (smooth_twins, ("smoothness",)),
    "noise": (noise, ("ghosts",)),
    "rank_kept": (rank_kept, ("signal",)),
    "rank_enough": (rank_enough, ("depth",)),
    "skip_growth": (skip_growth, ("signal",)),
    "skip_enough": (skip_enough, ("depth",)),
}
"""Each rule that looks at intervals, with the stored results it reads: why_parts.npz and so on."""


KINDS = ("plain", "frozen", "running", "detached", "BN")
JOINED = {
    "parts_rates": ("raw_rates", "centred_rates"),
    "parts": (*KINDS, *(f"{kind}_centred" for kind in KINDS)),
    "rows": ("BN_rows_held", "plain_last_fixed", "BN_last_fixed", "BN_last_fixed_rows_held"),
}
"""What stands in several stored results, one for each arm, and is judged together."""

FILES = (
    *(name for names in JOINED.values() for name in names),
    "drift_rates", "drift", "smoothness", "decay", "signal", "depth_rates", "depth",
)  # fmt: skip
"""Every stored result of the chapter: why_raw_rates.npz and so on."""


def gather(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results by the names that the rules use, with arms of several files joined."""
    joined = {name: Arms.join([results[part] for part in parts]) for name, parts in JOINED.items()}
    alone = set(results) - {part for parts in JOINED.values() for part in parts}
    return joined | {name: results[name] for name in alone}


def judge_all(found: Mapping[str, Any]) -> dict[str, Ruling]:
    """Return each rule's ruling on the results that are there, by name."""
    return {
        name: rule(*(found[key] for key in needs))
        for name, (rule, needs) in RULES.items()
        if set(needs) <= set(found)
    }


def summary(ruled: Mapping[str, Ruling]) -> dict[str, tuple[Interval | None, Interval | None]]:
    """Return, for each net that keeps or lacks one thing, its share of BN's advantage in stable rate and in loss."""
    lost = ruled["rows"]["lost"]
    kept = Interval(*(np.asarray(1 - v) for v in (lost.mean, lost.high, lost.low)))
    constants = ruled["constants"].intervals
    return {
        "plain net, centred pixels": (ruled["inputs"]["rate"], ruled["inputs"]["loss"]),
        "BN, then noise": (None, ruled["shift"]["kept"]),
        "frozen statistics": (constants["frozen: rate"], constants["frozen: loss"]),
        "running statistics": (constants["running: rate"], constants["running: loss"]),
        "BN, statistics detached": (ruled["detached"]["detached: rate"], ruled["detached"]["detached: loss"]),
        "BN, rows held": (kept, None),
        "20 layers: frozen statistics": (None, ruled["rank_enough"]["loss"]),
        "20 layers: quiet branches": (None, ruled["skip_enough"]["loss"]),
    }  # fmt: skip
