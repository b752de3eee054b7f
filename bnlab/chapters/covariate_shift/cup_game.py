"""Chapter 2: the cup game, a message through a chain of cups that each change it a little."""

from __future__ import annotations

import numpy as np

from bnlab.chapters.covariate_shift.results import CupGame

__all__ = ["STANDARDS", "play", "theory"]

STANDARDS = ("nobody", "listener", "everyone")


def play(
    *,
    standard: str = "nobody",
    cups: int = 20,
    messages: int = 100,
    noise: float = 0.3,
    gain: float = 1.0,
    spread: float = 0.3,
    change: float = 0.1,
    ceiling: float = np.inf,
    chains: int = 200,
    seed: int = 0,
) -> CupGame:
    r"""Pass messages through a chain of cups, each with a gain, an offset and noise of its own.

    .. math:: x_k = \mathrm{clip}\left(g_k\, f(x_{k-1}) + o_k + \text{noise}\right), \qquad
              x_0 \sim \mathcal N(0, 1)

    where f standardizes over the batch of messages if `standard` is ``"everyone"``. A listener after
    cup k learns the best line from :math:`x_k` back to the message :math:`x_0`. Then every player changes its gain and
    offset a little, new messages are sent, and the listener uses the line it learned.

    Parameters
    ----------
    standard : {"nobody", "listener", "everyone"}
        Who standardizes what they hear: nobody, the decoding listener only, or every cup as well.
    cups, messages, chains : int
        Length of a chain, size of a batch, and number of chains, each with players of its own.
    seed : int
        Seed of everything random; equal seeds give every `standard` the same players and noise.
    noise : float
        Standard deviation of the noise each cup adds; the messages' own is 1.
    gain, spread : float
        Gains are `gain` times exp of a Gaussian with standard deviation `spread`, so always positive;
        offsets are Gaussian with standard deviation `spread`.
    change : float
        Standard deviation of the change of each log gain and offset after the listener learned.
    ceiling : float
        A cup is never louder than this: what it says is clipped to [-ceiling, ceiling].

    Returns
    -------
    CupGame

    Raises
    ------
    ValueError
        If `standard` is none of the three words.

    Examples
    --------
    >>> plain, agreed = (play(standard=s, chains=20) for s in ("nobody", "everyone"))
    >>> bool(np.median(agreed.stale_error[:, -1]) < np.median(plain.stale_error[:, -1]))
    True
    """
    if standard not in STANDARDS:
        raise ValueError(f"standard is {standard!r}; expected one of {', '.join(STANDARDS)}.")
    rng = np.random.default_rng(seed)
    log_gain, offset = spread * rng.normal(size=(2, chains, cups, 1))
    d_log_gain, d_offset = change * rng.normal(size=(2, chains, cups, 1))
    said = rng.normal(size=(2, chains, messages))
    hiss = noise * rng.normal(size=(2, chains, cups, messages))

    def chain(when: int) -> np.ndarray:
        gains = gain * np.exp(log_gain + when * d_log_gain)
        offsets = offset + when * d_offset
        heard, h = np.empty((chains, cups, messages)), said[when]
        for k in range(cups):
            h = _standardize(h) if standard == "everyone" else h
            h = np.clip(gains[:, k] * h + offsets[:, k] + hiss[when][:, k], -ceiling, ceiling)
            heard[:, k] = h
        return heard

    before, after = chain(0), chain(1)
    loudness = before.std(axis=-1)
    if standard != "nobody":
        before, after = _standardize(before), _standardize(after)
    s, s_after = said[0][:, None], said[1][:, None]
    slope, intercept = _line(before, s)
    error, stale = (
        ((slope * h + intercept - t) ** 2).mean(-1) / t.var(-1)
        for h, t in ((before, s), (after, s_after))
    )
    return CupGame(
        standard=standard,
        correlation=_correlation(before, s) ** 2,
        rank_correlation=_correlation(_ranks(before), _ranks(s)),
        error=error,
        stale_error=stale,
        loudness=loudness,
    )


def theory(
    gains: np.ndarray,
    offsets: np.ndarray,
    gains_later: np.ndarray,
    offsets_later: np.ndarray,
    *,
    noise: float,
    standard: str,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Solve the cup game in closed form, for batches without end and cups without a ceiling.

    After k cups :math:`x_k = A_k x_0 + B_k + \sqrt{V_k}\,\xi` with a Gaussian :math:`\xi`,
    :math:`A_k = g_k A_{k-1}/d_k,\; B_k = g_k (B_{k-1} - c_k)/d_k + o_k,\; V_k = g_k^2 V_{k-1}/d_k^2 +
    v`, where a standardizing cup has :math:`c_k = B_{k-1}`, :math:`d_k^2 = A_{k-1}^2 +
    V_{k-1}` and any other has 0 and 1.

    Parameters
    ----------
    gains, offsets : arrays of shape (cups,)
        While the listener learns.
    gains_later, offsets_later : arrays of shape (cups,)
        While it decodes.
    noise : float
        Standard deviation :math:`\sqrt v` of what each cup adds.
    standard : {"nobody", "listener", "everyone"}

    Returns
    -------
    correlation, stale_error : arrays of shape (cups,)
        The squared correlation with the message before the change, and the decoder's mean squared
        error after it (1 is as bad as knowing nothing).

    Examples
    --------
    >>> one = np.ones(2), np.zeros(2)
    >>> r2, error = theory(*one, *one, noise=1.0, standard="nobody")
    >>> r2.round(3).tolist(), error.round(3).tolist()
    ([0.5, 0.333], [0.5, 0.667])
    """
    a, b, v = _propagate(gains, offsets, noise, standard)
    a2, b2, v2 = _propagate(gains_later, offsets_later, noise, standard)
    slope = a / (a**2 + v)
    stale = (slope * a2 - 1) ** 2 + (slope * (b2 - b)) ** 2 + slope**2 * v2
    return a**2 / (a**2 + v), stale


def _propagate(gains, offsets, noise, standard):
    a, b, v, states = 1.0, 0.0, 0.0, []
    for g, o in zip(gains, offsets, strict=True):
        if standard == "everyone":
            a, b, v = a / np.hypot(a, v**0.5), 0.0, v / (a**2 + v)
        a, b, v = g * a, g * b + o, g**2 * v + noise**2
        states.append((a, b, v))
    a, b, v = np.array(states).T
    if standard != "nobody":
        a, b, v = a / np.sqrt(a**2 + v), np.zeros_like(b), v / (a**2 + v)
    return a, b, v


def _standardize(h: np.ndarray) -> np.ndarray:
    return (h - h.mean(-1, keepdims=True)) / h.std(-1, keepdims=True)


def _line(h: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centered = h - h.mean(-1, keepdims=True)
    slope = (centered * s).mean(-1, keepdims=True) / h.var(-1, keepdims=True)
    return slope, s.mean(-1, keepdims=True) - slope * h.mean(-1, keepdims=True)


def _correlation(h: np.ndarray, s: np.ndarray) -> np.ndarray:
    return (_standardize(h) * _standardize(s)).mean(-1)


def _ranks(h: np.ndarray) -> np.ndarray:
    return h.argsort(-1).argsort(-1).astype(float)
