"""What a constraint outside the graph leaves of a step's scores.

A rule that gives lists (`choices`) is asked about the hypotheses that go on, and only the best
tokens of each return to the compiled step: as many as it can take from one. Other rules give masks
over all tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from bert4kexue.decoding.constraints import Choices, Constraint, take
from bert4kexue.models.search import Settings
from bert4kexue.ops.beam_search import Beams


def ruled(
    host: Constraint, settings: Settings, state: Any, rules: Any, log_probs: np.ndarray
) -> tuple[Any, Any]:
    """Scores (b, w, c) under a constraint outside the graph, and their tokens, or () for all.

    Args:
        host: the constraint.
        settings: of the search.
        state: of the search.
        rules: states of the constraint, b * w.
        log_probs: (b, w, v).

    Raises:
        ValueError: the constraint allows a token beyond v.
    """
    if settings.sampling is None and hasattr(host, "choices"):
        sums, stop = map(ops.convert_to_numpy, (Beams(*state["beams"]).sums, state["stop"]))
        live = np.flatnonzero((sums > -np.inf) & ~stop[:, None])
        choices = host.choices(take(rules, live))
        if choices is not None:
            best, tokens = _candidates(settings, live, choices, log_probs)
            return ops.convert_to_tensor(best), ops.convert_to_tensor(tokens)
    return ops.convert_to_tensor(_permitted(host, settings, rules, log_probs)), ()


def _candidates(
    s: Settings, live: np.ndarray, choices: Choices, log_probs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best choices of the rows `live` and their tokens, (b, w, c); the others have none.

    c is as many as a step of beam search can take from one hypothesis.
    """
    b, w, v = log_probs.shape
    counts, tokens, divisors = choices
    _check_vocabulary(int(tokens.max(initial=-1)), v)
    rows = np.repeat(np.arange(len(live)), counts)
    places = np.arange(len(tokens)) - np.repeat(np.cumsum(counts) - counts, counts)
    scores = np.full((len(live), max(1, int(counts.max(initial=0)))), -np.inf)
    flat = log_probs.reshape(-1, v)[live[rows], tokens].astype(np.float64)
    scores[rows, places] = np.where(np.isnan(flat), -np.inf, flat / divisors)  # the search tells
    valid = np.arange(scores.shape[1]) < counts[:, None]
    if s.renormalize:
        scores = _renormalized(scores, valid)
    c = w * (1 + len(s.end_ids))
    kept = first_largest(scores, c)
    best, ids = np.full((b * w, c), -np.inf, np.float32), np.zeros((b * w, c), np.int32)
    at = np.broadcast_to(live[:, None], kept.shape), np.arange(kept.shape[1])
    best[at] = np.take_along_axis(scores, kept, axis=1)
    table = np.zeros(scores.shape, np.int32)
    table[rows, places] = tokens
    ids[at] = np.take_along_axis(table, kept, axis=1)
    return best.reshape(b, w, c), ids.reshape(b, w, c)


def first_largest(x: np.ndarray, count: int) -> np.ndarray:
    """Places of the largest numbers of each row, ascending; of equal ones the first. (rows, c)"""
    rows, width = x.shape
    if width <= count:
        return np.broadcast_to(np.arange(width), x.shape)
    least = np.partition(x, width - count, axis=1)[:, width - count, None]
    above, equal = x > least, x == least
    room = count - above.sum(axis=1, keepdims=True)
    return np.nonzero(above | (equal & (np.cumsum(equal, axis=1) <= room)))[1].reshape(rows, count)


def _renormalized(kept: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """log p over what is valid, (rows, c); all of it impossible means all equal."""
    impossible = ~(kept > -np.inf).any(axis=1, keepdims=True)
    kept = np.where(impossible, np.where(valid, 0.0, -np.inf), kept)
    highest = np.where(valid.any(axis=1), kept.max(axis=1), 0.0)[:, None]
    total = np.exp(kept - highest).sum(axis=1, keepdims=True)
    return kept - highest - np.log(np.where(total > 0, total, 1.0))


def _check_vocabulary(largest: int, vocab_size: int) -> None:
    if largest >= vocab_size:
        raise ValueError(
            f"the constraint allows ids beyond the model's vocabulary of {vocab_size} tokens: it "
            "was made with another vocabulary"
        )


def _permitted(
    host: Constraint, settings: Settings, rules: Any, log_probs: np.ndarray
) -> np.ndarray:
    """log-probabilities (b, w, v) under a constraint outside the graph."""
    shape = log_probs.shape
    flat = log_probs.reshape(-1, shape[-1]).astype(np.float64)
    rescore = getattr(host, "rescore", None)
    if rescore is not None:
        flat = np.asarray(rescore(rules, flat), np.float64)
    mask = np.asarray(host.allowed(rules))
    if mask[:, shape[-1] :].any():
        _check_vocabulary(mask.shape[1] - 1, shape[-1])
    valid = np.zeros(flat.shape, bool)
    valid[:, : mask.shape[1]] = mask[:, : shape[-1]]
    kept = np.where(valid, flat, -np.inf)
    if settings.renormalize:
        kept = _renormalized(kept, valid)
    return kept.reshape(shape).astype(np.float32)
