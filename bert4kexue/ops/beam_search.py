"""One step of beam search over a batch of samples, as a function of its state.

Shapes: b samples, w hypotheses, c candidates of a hypothesis, T steps, m outputs wanted. A score of
-inf marks a hypothesis that does not exist.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from keras import ops

from bert4kexue.ops.rows import take_beams
from bert4kexue.ops.sampling import NEVER

BeamMode = Literal["full", "shrink", "bert4keras"]


class Beams(NamedTuple):
    """The hypotheses that go on, and the outputs that have ended."""

    sequences: Any
    """(b, w, T) int32, padded."""
    sums: Any
    """(b, w) float32, sums of log-probabilities."""
    ends: Any
    """(b, w) int32, how many end tokens each has."""
    width: Any
    """(b,) int32, how many hypotheses a sample may still have."""
    pool_sequences: Any
    """(b, m, T)."""
    pool_scores: Any
    """(b, m) float32, descending; -inf where there is none."""
    pool_lengths: Any
    """(b, m) int32."""
    done: Any
    """(b,) booleans: nothing that goes on can change the outputs any more."""


def empty_beams(b: Any, w: int, m: int, steps: int, pad: int) -> Beams:
    """Before the first token: one hypothesis a sample, the others do not exist yet."""
    first = ops.arange(w, dtype="int32")[None] == 0
    return Beams(
        sequences=ops.full((b, w, steps), pad, dtype="int32"),
        sums=ops.where(first, 0.0, NEVER) + ops.zeros((b, w)),
        ends=ops.zeros((b, w), dtype="int32"),
        width=ops.full((b,), w, dtype="int32"),
        pool_sequences=ops.full((b, m, steps), pad, dtype="int32"),
        pool_scores=ops.full((b, m), NEVER, dtype="float32"),
        pool_lengths=ops.zeros((b, m), dtype="int32"),
        done=ops.zeros((b,), dtype="bool"),
    )


def advance_beams(
    beams: Beams,
    log_probs: Any,
    candidates: Any,
    t: Any,
    limit: Any,
    *,
    end_ids: tuple[int, ...],
    min_ends: int,
    min_length: int,
    length_penalty: Any,
    mode: BeamMode,
) -> tuple[Beams, Any, Any]:
    """Every hypothesis one token further.

    Args:
        beams: the state.
        log_probs: (b, w, c); -inf where a token is impossible.
        candidates: (b, w, c) int32, the tokens they belong to; None where c is the vocabulary.
        t: how many tokens the hypotheses have.
        limit: how many they may have at most.
        end_ids: tokens that end an output; none, and outputs end at the limit.
        min_ends: how many of them it takes.
        min_length: the shortest output that may end.
        length_penalty: scores are sums divided by length to this power.
        mode: ``'full'`` keeps w hypotheses going until the m best outputs are certain.
            ``'shrink'`` takes an ended one off the beam's width. ``'bert4keras'`` does so as well,
            drops it unless it is the best, and is done when the best one ends.

    Returns:
        The new state, the chosen tokens (b, w), and their hypotheses (b, w), those that ended
        included under ``'shrink'`` and ``'bert4keras'`` with a sum of -inf.
    """
    w, c = log_probs.shape[1], log_probs.shape[2]
    m, steps = beams.pool_scores.shape[1], beams.sequences.shape[2]
    count = w * (1 + len(end_ids)) if mode == "full" else w
    count = min(count, w * c)
    totals = ops.reshape(beams.sums[..., None] + log_probs, (-1, w * c))
    sums, places = largest(totals, count)  # (b, count)
    parents = places // c
    if candidates is None:
        tokens = places - parents * c
    else:
        flat = ops.reshape(candidates, (-1, w * c, 1))
        tokens = take_beams(flat, places)[..., 0]
    rank = ops.arange(count, dtype="int32")[None]
    if mode != "full":
        sums = ops.where(rank < beams.width[:, None], sums, NEVER)
    alive = sums > NEVER
    here = ops.arange(steps, dtype="int32") == t
    sequences = ops.where(here, tokens[..., None], take_beams(beams.sequences, parents))
    is_end = _one_of(tokens, end_ids)
    ends = take_beams(beams.ends[..., None], parents)[..., 0] + ops.cast(is_end, "int32")
    ended = ops.logical_and(is_end, ops.logical_and(ends >= min_ends, t + 1 >= min_length))
    ended = ops.logical_and(ended, alive)
    counted = ops.logical_and(ended, ops.logical_not(beams.done)[:, None])
    if mode == "full":
        # Only what would have been on the beam: so a beam of one is greedy.
        counted = ops.logical_and(counted, rank < w)
    elif mode == "bert4keras":
        counted = ops.logical_and(counted, rank == 0)
    scores = ops.where(counted, sums / _length_factor(t + 1, length_penalty), NEVER)
    lengths = ops.full_like(tokens, 0) + t + 1
    pool = _merge(
        (beams.pool_scores, beams.pool_sequences, beams.pool_lengths),
        (scores, sequences, lengths),
        m,
    )
    width = beams.width
    if mode != "full":
        width = width - ops.sum(ops.cast(ended, "int32"), axis=1)
    live = ops.where(ended, NEVER, sums)
    if count > w:
        live, kept = ops.top_k(live, w)
        kept = ops.cast(kept, "int32")
        parents, tokens, ends, sequences = (
            take_beams(x[..., None], kept)[..., 0] if len(x.shape) == 2 else take_beams(x, kept)
            for x in (parents, tokens, ends, sequences)
        )
    elif count < w:  # fewer candidates than hypotheses: the first ones stand in for the missing
        short = w - count
        live = ops.pad(live, [[0, 0], [0, short]], constant_values=NEVER)
        parents, tokens, ends = (ops.pad(x, [[0, 0], [0, short]]) for x in (parents, tokens, ends))
        sequences = ops.pad(sequences, [[0, 0], [0, short], [0, 0]])
    best = ops.max(live, axis=1)
    done = ops.logical_or(beams.done, ops.logical_not(best > NEVER))
    if mode == "bert4keras":
        done = ops.logical_or(done, counted[:, 0])
    else:
        # What goes on only loses: its sum falls, and the divisor is at best that of the length
        # which favours it.
        favourable = ops.maximum(
            _length_factor(limit, length_penalty), _length_factor(t + 2, length_penalty)
        )
        done = ops.logical_or(
            done, ops.logical_and(pool[0][:, -1] > NEVER, pool[0][:, -1] >= best / favourable)
        )
    return (
        Beams(sequences, live, ends, width, pool[1], pool[0], pool[2], done),
        tokens,
        parents,
    )


def largest(x: Any, k: int) -> tuple[Any, Any]:
    """The k largest of each row of x (b, n), descending, and their places (b, k) int32.

    Of many numbers the largest lie in the k blocks with the largest maxima, and a maximum is what
    compilers compute fast.
    """
    n = x.shape[1]
    block = next((size for size in range(128, 513) if n % size == 0), None)
    if block is None or n // block < 4 * k:
        values, places = ops.top_k(x, k)
        return values, ops.cast(places, "int32")
    blocks = ops.reshape(x, (-1, n // block, block))
    _, chosen = ops.top_k(ops.max(blocks, axis=-1), k)
    chosen = ops.cast(chosen, "int32")  # (b, k)
    values, places = ops.top_k(ops.reshape(take_beams(blocks, chosen), (-1, k * block)), k)
    places = ops.cast(places, "int32")
    first = take_beams((chosen * block)[..., None], places // block)[..., 0]
    return values, first + places % block


def finish_beams(
    beams: Beams, t: Any, *, length_penalty: Any, mode: BeamMode, unfinished: bool
) -> tuple[Any, Any, Any, Any]:
    """The outputs, best first: sequences (b, m, T), lengths (b, m), scores (b, m), finished (b, m).

    Args:
        beams: the last state.
        t: how many tokens its hypotheses have.
        length_penalty: as before.
        mode: as before.
        unfinished: whether hypotheses that the limit cut are outputs, compared with the others.
    """
    m = beams.pool_scores.shape[1]
    finished = ops.cast(beams.pool_scores > NEVER, "int32")
    pool = (beams.pool_scores, beams.pool_sequences, beams.pool_lengths, finished)
    if unfinished:
        scores = beams.sums / _length_factor(t, length_penalty)
        scores = ops.where(beams.done[:, None], NEVER, scores)
        lengths = ops.zeros_like(beams.ends) + t
        cut = (scores, beams.sequences, lengths, ops.zeros_like(beams.ends))
        pool = _merge(pool, cut, m)
    scores, sequences, lengths, finished = pool
    return sequences, lengths, scores, finished > 0


def _merge(pool: tuple, more: tuple, m: int) -> tuple:
    """The m best of two lists of (scores, ...), as one list, best first."""
    joined = [ops.concatenate([a, b], axis=1) for a, b in zip(pool, more, strict=True)]
    scores, places = ops.top_k(joined[0], m)
    places = ops.cast(places, "int32")
    rest = [
        take_beams(x, places) if len(x.shape) == 3 else take_beams(x[..., None], places)[..., 0]
        for x in joined[1:]
    ]
    return (scores, *rest)


def _length_factor(length: Any, penalty: Any) -> Any:
    return ops.power(ops.cast(length, "float32"), penalty)


def _one_of(tokens: Any, ids: tuple[int, ...]) -> Any:
    found = ops.zeros_like(tokens, dtype="bool")
    for token in ids:
        found = ops.logical_or(found, tokens == token)
    return found
