"""Answers that are spans of given passages (kexue.fm/archives/7115, 7148).

The next token must continue a span of the passage that the answer so far is. No suffix tree is
built: a state is the set of places in the passage where the answer's next token could stand, and
one comparison moves all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert4kexue.decoding.constraints import check_width, repeat_rows

OUTSIDE = -1
"""What is no part of a passage: padding, and the border between two passages."""


class SubstringConstraint:
    """Only spans of a passage, each token sequence that stands in it somewhere.

    The state is the passage of each row, (rows, n), where the next token may stand, (rows, n) bool,
    and the length of the answer so far, (rows,), -1 for one that is no span.

    Args:
        passages: token ids (n,), or one row for each sample, (b, n); -1 stands for padding and for
            the border between several passages, which no span crosses.
        vocab_size: v.
        end_id: allowed after a span, to end it. None leaves the end to `Chain`.
        min_length: of the span in tokens.
        max_length: of the span in tokens; None for no limit.
    """

    def __init__(
        self,
        passages: np.ndarray | Sequence,
        vocab_size: int,
        end_id: int | None = None,
        *,
        min_length: int = 1,
        max_length: int | None = None,
    ) -> None:
        self.passages = passage_rows(passages, vocab_size, end_id)
        self.longest = check_lengths(min_length, max_length, self.passages.shape[1])
        self.vocab_size, self.end_id, self.min_length = vocab_size, end_id, min_length

    def initial_state(self, rows: int) -> tuple:
        """A span may begin anywhere."""
        passages = repeat_rows(self.passages, rows, "passages")
        return passages, passages != OUTSIDE, np.zeros(rows, np.int32)

    def allowed(self, state: tuple) -> np.ndarray:
        """The tokens that continue the span somewhere, and the end where it is long enough."""
        passages, places, lengths = state
        rows, columns = np.nonzero(places & (lengths < self.longest)[:, None])
        mask = np.zeros((len(lengths), self.vocab_size), bool)
        mask[rows, passages[rows, columns]] = True
        if self.end_id is not None:
            mask[:, self.end_id] = self.complete(state)
        return mask

    def advance(self, state: tuple, tokens: np.ndarray) -> tuple:
        """Every place moves on by one."""
        passages, places, lengths = state
        found = places & (passages == np.asarray(tokens)[:, None])
        found &= (lengths < self.longest)[:, None]
        lengths = np.where(found.any(axis=1), lengths + 1, -1).astype(np.int32)
        moved = np.concatenate([np.zeros_like(found[:, :1]), found[:, :-1]], axis=1)
        return passages, moved & (passages != OUTSIDE), lengths

    def complete(self, state: tuple) -> np.ndarray:
        """Where the span is long enough."""
        return state[2] >= self.min_length


def passage_rows(
    passages: np.ndarray | Sequence, vocab_size: int, end_id: int | None
) -> np.ndarray:
    """Passages as (b, n) int32, -1 wherever nothing may be taken from.

    Raises:
        ValueError: not one or two axes, or ids out of range.
    """
    rows = np.atleast_2d(np.asarray(passages, np.int32))
    if rows.ndim != 2:
        raise ValueError(f"passages are ids (n,) or (b, n), got the shape {rows.shape}")
    check_width(int(rows.max(initial=OUTSIDE)), vocab_size)
    if end_id is not None:
        check_width(end_id, vocab_size)
        rows = np.where(rows == end_id, OUTSIDE, rows)
    return np.maximum(rows, OUTSIDE).astype(np.int32)


def check_lengths(min_length: int, max_length: int | None, n: int) -> int:
    """The longest span."""
    longest = n if max_length is None else max_length
    if min_length < 0 or (max_length is not None and max_length < min_length):
        raise ValueError(
            f"lengths of a span are 0 <= min_length <= max_length, got {min_length} and "
            f"{max_length}"
        )
    return longest
