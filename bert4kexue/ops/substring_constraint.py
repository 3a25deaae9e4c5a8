"""Answers that are spans of given passages, inside the graph (kexue.fm/archives/7115, 7148).

The NumPy one with the same meaning is in `bert4kexue.decoding.substring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from bert4kexue.decoding.constraints import check_width
from bert4kexue.decoding.substring import OUTSIDE, check_lengths, passage_rows
from bert4kexue.ops.constraint_masks import (
    constant,
    empty_mask,
    finish,
    mark,
    repeat_rows,
    with_column,
)


class GraphSubstring:
    """Only spans of a passage. Implements `GraphConstraint`.

    Args:
        passages: token ids (n,), or one row for each sample, (b, n); -1 stands for padding and for
            the border between several passages. A tensor is taken with two axes and int32.
        vocab_size: v.
        end_id: allowed after a span, to end it. None leaves the end to a chain.
        min_length: of the span in tokens.
        max_length: of the span in tokens; None for no limit.
    """

    def __init__(
        self,
        passages: Any,
        vocab_size: int,
        end_id: int | None = None,
        *,
        min_length: int = 1,
        max_length: int | None = None,
    ) -> None:
        self.vocab_size, self.end_id, self.min_length = vocab_size, end_id, min_length
        self.longest = check_lengths(min_length, max_length, 2**31 - 1)
        self.variables: list[Any] = []
        if isinstance(passages, np.ndarray | Sequence):
            self.passages = constant(passage_rows(passages, vocab_size, end_id), "passages")
            self.variables = [self.passages]
            return
        if end_id is not None:
            check_width(end_id, vocab_size)
            passages = ops.where(passages == end_id, OUTSIDE, passages)
        self.passages = passages

    def initial_state(self, rows: Any) -> tuple:
        """The passages (rows, n), where the next token may stand (rows, n), lengths (rows,)."""
        passages = repeat_rows(ops.convert_to_tensor(self.passages), rows)
        return passages, passages != OUTSIDE, ops.zeros_like(passages[:, 0])

    def allowed(self, state: tuple) -> Any:
        """The tokens that continue the span somewhere, and the end where it is long enough."""
        passages, places, lengths = state
        rows, v = ops.shape(lengths)[0], self.vocab_size
        places = ops.logical_and(places, (lengths < self.longest)[:, None])
        columns = ops.where(places, passages, v)
        mask = finish(mark(empty_mask(rows, v), columns, v), rows, v)
        return mask if self.end_id is None else with_column(mask, self.end_id, self.complete(state))

    def advance(self, state: tuple, tokens: Any) -> tuple:
        """Every place moves on by one."""
        passages, places, lengths = state
        found = ops.logical_and(places, passages == ops.cast(tokens, "int32")[:, None])
        found = ops.logical_and(found, (lengths < self.longest)[:, None])
        lengths = ops.where(ops.any(found, axis=1), lengths + 1, -1)
        moved = ops.concatenate([ops.zeros_like(found[:, :1]), found[:, :-1]], axis=1)
        return passages, ops.logical_and(moved, passages != OUTSIDE), lengths

    def complete(self, state: tuple) -> Any:
        """Where the span is long enough."""
        return state[2] >= self.min_length
