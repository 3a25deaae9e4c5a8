"""From logits to the next token: what changes the distribution, what cuts it, and the draw.

Shapes: rows r, vocabulary v, candidates c, sequences (r, T) of which the first t are filled.
"""

from __future__ import annotations

from typing import Any

from keras import ops

NEVER = float("-inf")


def log_softmax(logits: Any) -> Any:
    """log p over the last axis; a row of -inf alone stays as it is."""
    highest = ops.max(logits, axis=-1, keepdims=True)
    shifted = logits - ops.where(highest > NEVER, highest, 0.0)
    total = ops.sum(ops.exp(shifted), axis=-1, keepdims=True)
    return shifted - ops.log(ops.where(total > 0, total, 1.0))


def renormalize(log_probs: Any, valid: Any) -> Any:
    """log p over the valid entries alone, -inf elsewhere; all of them impossible means all equal.

    Args:
        log_probs: (r, c).
        valid: (r, c) booleans; a row without any gives -inf throughout.
    """
    kept = ops.where(valid, log_probs, NEVER)
    impossible = ops.logical_not(ops.any(kept > NEVER, axis=-1, keepdims=True))
    even = ops.where(valid, 0.0, NEVER)
    return log_softmax(ops.where(impossible, even, kept))


def penalize_repetition(logits: Any, tokens: Any, valid: Any, penalty: Any) -> Any:
    """CTRL's penalty (Keskar et al., 2019): logits of tokens that occur are divided by ``penalty``
    where positive, multiplied where negative.

    Args:
        logits: (r, v).
        tokens: (r, m) tokens that occurred.
        valid: (r, m) booleans, which of them count.
        penalty: above 1 makes repetition rarer.
    """
    v = logits.shape[-1]
    tokens = ops.where(valid, tokens, v)
    wide = ops.pad(logits, [[0, 0], [0, 1]])  # one more column for what does not count
    found = gather(wide, tokens)
    changed = ops.where(found > 0, found / penalty, found * penalty)
    return _scatter(wide, tokens, changed)[:, :v]


def ban_repeated_ngrams(logits: Any, sequences: Any, t: Any, n: int) -> Any:
    """-inf for every token that would complete an n-gram which the sequence already has.

    Args:
        logits: (r, v).
        sequences: (r, T).
        t: how many tokens of a sequence are filled, an integer or scalar tensor.
        n: length of the n-grams, 1 or more.
    """
    v, length = logits.shape[-1], sequences.shape[1]
    if length < n:
        return logits
    starts = ops.arange(length - n + 1, dtype="int32")
    matches = ops.broadcast_to(
        (starts + n - 1 < t)[None], (ops.shape(sequences)[0], length - n + 1)
    )
    for j in range(n - 1):
        recent = ops.take(sequences, ops.maximum(t - n + 1 + j, 0), axis=1)  # (r,)
        window = sequences[:, j : length - n + 1 + j]
        matches = ops.logical_and(matches, window == recent[:, None])
    last = ops.where(matches, sequences[:, n - 1 :], v)
    wide = ops.pad(logits, [[0, 0], [0, 1]])
    return _scatter(wide, last, ops.full(ops.shape(last), NEVER, dtype=logits.dtype))[:, :v]


def ban_tokens(logits: Any, token_ids: tuple[int, ...], when: Any) -> Any:
    """-inf for these tokens where ``when``, a scalar or (r, 1)."""
    places = ops.arange(logits.shape[-1], dtype="int32")
    banned = places == token_ids[0]
    for token in token_ids[1:]:
        banned = ops.logical_or(banned, places == token)
    return ops.where(ops.logical_and(banned[None], when), NEVER, logits)


def draw(
    log_probs: Any, uniforms: Any, *, topk: int | None = None, topp: Any = None, min_p: Any = None
) -> Any:
    """One entry of each row, by inverting the cumulative distribution.

    Args:
        log_probs: (r, c), normalised; -inf entries are never drawn.
        uniforms: (r,) in [0, 1).
        topk: keep so many of the most probable entries.
        topp: of these, renormalised, keep the fewest, most probable first, that reach it together.
        min_p: keep entries at least so probable as this times the most probable one.

    Returns:
        (r,) int32 places among the c.
    """
    order = None
    if topk is not None or topp is not None:
        k = log_probs.shape[-1] if topk is None else min(topk, log_probs.shape[-1])
        log_probs, order = ops.top_k(log_probs, k)
    probs = ops.exp(log_probs)
    if topp is not None:
        probs = probs / ops.maximum(ops.sum(probs, axis=-1, keepdims=True), 1e-30)
        probs = ops.where(ops.cumsum(probs, axis=-1) - probs < topp, probs, 0.0)
    if min_p is not None:
        highest = ops.max(probs, axis=-1, keepdims=True)
        probs = ops.where(probs >= min_p * highest, probs, 0.0)
    totals = ops.cumsum(probs, axis=-1)
    reached = totals <= uniforms[:, None] * totals[:, -1:]
    place = ops.sum(ops.cast(reached, "int32"), axis=-1)
    # Rounding may push the draw beyond the last entry that is possible.
    c = probs.shape[-1]
    possible = ops.where(probs > 0, ops.arange(c, dtype="int32")[None], 0)
    place = ops.minimum(place, ops.max(possible, axis=-1))
    if order is None:
        return place
    return ops.sum(
        ops.where(
            ops.arange(c, dtype="int32")[None] == place[:, None], ops.cast(order, "int32"), 0
        ),
        axis=-1,
    )


def gather(x: Any, places: Any) -> Any:
    """x (r, c) at places (r, m): (r, m)."""
    shape = ops.shape(x)
    rows = ops.arange(shape[0], dtype="int32")[:, None] * shape[1]
    return ops.take(ops.reshape(x, (-1,)), rows + places)


def _scatter(x: Any, places: Any, values: Any) -> Any:
    shape = ops.shape(x)
    rows = ops.arange(shape[0], dtype="int32")[:, None] * shape[1]
    flat = ops.scatter_update(
        ops.reshape(x, (-1,)),
        ops.reshape(rows + places, (-1, 1)),
        ops.reshape(values, (-1,)),
    )
    return ops.reshape(flat, shape)
