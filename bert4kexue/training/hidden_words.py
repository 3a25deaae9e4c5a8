"""Which words of a batch are hidden, and behind what: BERT's masked words, hidden whole."""

from __future__ import annotations

import numpy as np

from bert4kexue.training.special import Special


def hide_words(
    token_ids: np.ndarray,
    words: np.ndarray,
    special: Special,
    rng: np.random.Generator,
    rate: float,
) -> dict[str, np.ndarray]:
    """Hide whole words of (b, n) `token_ids`; `words` is True where one begins.

    Words are taken in random order until `rate` of the row's ordinary tokens is reached, at least
    one a row that has any; the number of places m depends on the shape alone. Special tokens are
    neither asked for nor drawn.
    """
    b, n = token_ids.shape
    m = max(1, int(np.ceil(n * rate)))
    known = special.ordinary()
    ordinary = known[token_ids]
    # Words are numbered over the whole batch; a special token ends the word before it.
    number = np.cumsum((words | ~ordinary).ravel()).reshape(b, n) - 1
    draw = rng.random(int(number[-1, -1]) + 1)[number]
    draw = np.where(ordinary, draw, 2.0)
    order = np.argsort(draw, axis=1, kind="stable")
    wanted = np.maximum(np.rint(ordinary.sum(1) * rate).astype(int), 1)
    places = np.arange(n)[None]
    chosen_words = np.take_along_axis(number, order, 1)
    last = np.minimum(wanted, m)[:, None]
    taken = (places < last) & (np.take_along_axis(draw, order, 1) < 1)
    # A word is hidden whole or not at all: the one that the limit cuts is left out, unless alone.
    cut = np.take_along_axis(chosen_words, np.minimum(last, n - 1), 1)
    whole = taken & ((chosen_words != cut) | (last >= n))
    taken = np.where(whole.any(1, keepdims=True), whole, taken)[:, :m]
    positions = np.where(taken, order[:, :m], 0).astype(np.int32)
    labels = np.where(taken, np.take_along_axis(token_ids, positions, 1), 0).astype(np.int32)
    fate = rng.random(len(draw.ravel()) + 1)[np.take_along_axis(number, positions, 1)]
    replacements = np.flatnonzero(known)
    drawn = replacements[rng.integers(0, len(replacements), positions.shape)]
    hidden = np.where(fate < 0.8, special.mask, np.where(fate < 0.9, drawn, labels))
    masked = token_ids.copy()
    lines = np.broadcast_to(np.arange(b)[:, None], positions.shape)
    masked[lines[taken], positions[taken]] = hidden[taken]
    return {
        "token_ids": masked,
        "positions": positions,
        "labels": labels,
        "weights": taken.astype(np.float32),
    }
