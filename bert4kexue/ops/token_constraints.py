"""Constraints on tokens inside the graph: beginnings that are given, words that are forbidden.

The NumPy ones with the same meaning are in `bert4kexue.decoding.token_constraints`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from bert4kexue.decoding.token_constraints import NONE, choice_rows, prefix_rows, word_arrays
from bert4kexue.ops.constraint_masks import constant, empty_mask, finish, mark, repeat_rows


class GraphPrefix:
    """Outputs begin with a prefix; after it everything is allowed. Implements `GraphConstraint`.

    Args:
        prefix: token ids (l,), or one row for each sample, (b, l), padded at its end with -1. A
            tensor is taken as it is, two axes and int32.
        vocab_size: v.
    """

    def __init__(self, prefix: Any, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.variables: list[Any] = []
        if isinstance(prefix, np.ndarray | Sequence):
            self.prefix = constant(prefix_rows(prefix, vocab_size), "prefix")
            self.variables = [self.prefix]
        else:
            self.prefix = ops.pad(prefix, ((0, 0), (0, 1)), constant_values=NONE)

    def initial_state(self, rows: Any) -> tuple:
        """The prefixes (rows, l + 1), and nothing written (rows,)."""
        prefix = repeat_rows(ops.convert_to_tensor(self.prefix), rows)
        return prefix, ops.zeros_like(prefix[:, 0])

    def allowed(self, state: tuple) -> Any:
        """The prefix's next token, or everything, (rows, v)."""
        expected, alive = _expected(state)
        same = ops.arange(self.vocab_size, dtype="int32") == expected[:, None]
        free = ops.logical_or(same, (expected == NONE)[:, None])
        return ops.logical_and(free, alive[:, None])

    def advance(self, state: tuple, tokens: Any) -> tuple:
        """One token further; -1 written for a row that left the prefix."""
        expected, alive = _expected(state)
        prefix, written = state
        free = expected == NONE
        follows = ops.logical_and(alive, ops.logical_or(free, expected == tokens))
        further = written + ops.cast(ops.logical_not(free), "int32")
        return prefix, ops.where(follows, further, NONE)

    def complete(self, state: tuple) -> Any:
        """Where the whole prefix is written."""
        expected, alive = _expected(state)
        return ops.logical_and(expected == NONE, alive)


class GraphPrefixChoice:
    """Outputs begin with one of some prefixes. Implements `GraphConstraint`.

    Args:
        prefixes: token ids (k, l), or some for each sample, (b, k, l), padded at their ends with
            -1. A prefix of padding alone is none, and a sample without any is free. A tensor is
            taken as it is, three axes and int32.
        vocab_size: v.
    """

    def __init__(self, prefixes: Any, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.variables: list[Any] = []
        if isinstance(prefixes, np.ndarray | Sequence):
            self.prefixes = constant(choice_rows(prefixes, vocab_size), "prefixes")
            self.variables = [self.prefixes]
        else:
            self.prefixes = ops.pad(prefixes, ((0, 0), (0, 0), (0, 2)), constant_values=NONE)

    def initial_state(self, rows: Any) -> tuple:
        """As of `PrefixChoice`."""
        prefixes = repeat_rows(ops.convert_to_tensor(self.prefixes), rows)
        followed = prefixes[:, :, 0] != NONE
        free = ops.logical_not(ops.any(followed, axis=1))
        return prefixes, followed, ops.zeros_like(prefixes[:, 0, 0]), free

    def allowed(self, state: tuple) -> Any:
        """The next tokens of the prefixes that are followed, or everything, (rows, v)."""
        _, followed, _, free = state
        rows, v = ops.shape(free)[0], self.vocab_size
        columns = ops.where(followed, _expected_of(state, 0), v)
        mask = finish(mark(empty_mask(rows, v), columns, v), rows, v)
        return ops.logical_or(mask, free[:, None])

    def advance(self, state: tuple, tokens: Any) -> tuple:
        """One token further."""
        prefixes, followed, written, free = state
        same = _expected_of(state, 0) == ops.cast(tokens, "int32")[:, None]
        followed = ops.logical_and(followed, same)
        ended = ops.logical_and(followed, _expected_of(state, 1) == NONE)
        written = ops.minimum(written + 1, ops.shape(prefixes)[2] - 2)
        followed = ops.logical_and(followed, ops.logical_not(ended))
        return prefixes, followed, written, ops.logical_or(free, ops.any(ended, axis=1))

    def complete(self, state: tuple) -> Any:
        """Where a whole prefix is written."""
        return state[3]


class GraphBannedWords:
    """No output contains one of these token sequences. Implements `GraphConstraint`.

    Args:
        words: token id sequences; of one token or more.
        vocab_size: v.
    """

    def __init__(self, words: Sequence[Sequence[int]], vocab_size: int) -> None:
        before, last = word_arrays(words, vocab_size)
        self.vocab_size, self.longest = vocab_size, before.shape[1]
        self.before, self.last = constant(before, "banned_before"), constant(last, "banned_last")
        self.variables = [self.before, self.last]

    def initial_state(self, rows: Any) -> Any:
        """The last tokens, (rows, longest word - 1): none yet."""
        return ops.full((rows, self.longest), NONE, dtype="int32")

    def allowed(self, state: Any) -> Any:
        """Everything but the last tokens of words whose other tokens are written, (rows, v)."""
        before, rows, v = ops.convert_to_tensor(self.before), ops.shape(state)[0], self.vocab_size
        written = ops.logical_or(before == NONE, before == state[:, None])
        last = ops.convert_to_tensor(self.last)
        columns = ops.where(ops.all(written, axis=2), last, v)  # (rows, words)
        return ops.logical_not(finish(mark(empty_mask(rows, v), columns, v), rows, v))

    def advance(self, state: Any, tokens: Any) -> Any:
        """The window moves on by one token."""
        tokens = ops.cast(tokens, "int32")
        return ops.concatenate([state, tokens[:, None]], axis=1)[:, 1:]

    def complete(self, state: Any) -> Any:
        """Everywhere."""
        return ops.ones((ops.shape(state)[0],), dtype="bool")


def _expected(state: tuple) -> tuple[Any, Any]:
    prefix, written = state
    place = ops.maximum(written, 0)[:, None]
    return ops.take_along_axis(prefix, place, axis=1)[:, 0], written >= 0


def _expected_of(state: tuple, later: int) -> Any:
    """Each prefix's next token, or the one `later` after it, (rows, k)."""
    prefixes, followed, written, _ = state
    place = (written + later)[:, None, None] + ops.zeros_like(followed[:, :, None], dtype="int32")
    return ops.take_along_axis(prefixes, place, axis=2)[:, :, 0]
