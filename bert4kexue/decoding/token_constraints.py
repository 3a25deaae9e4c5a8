"""Constraints on the tokens themselves: beginnings that are given, words that are forbidden."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert4kexue.decoding.constraints import check_width, repeat_rows

NONE = -1
"""No token: padding of prefixes, words and windows."""


class ForcedPrefix:
    """Outputs begin with a prefix; after it everything is allowed.

    The state is the prefix of each row, (rows, l), and how much of it is written, (rows,).

    Args:
        prefix: token ids (l,), or one row for each sample, (b, l), padded at its end with -1.
        vocab_size: v.
    """

    def __init__(self, prefix: np.ndarray | Sequence, vocab_size: int) -> None:
        self.prefix = prefix_rows(prefix, vocab_size)
        self.vocab_size = vocab_size

    def initial_state(self, rows: int) -> tuple:
        """Nothing written."""
        return repeat_rows(self.prefix, rows, "prefixes"), np.zeros(rows, np.int32)

    def allowed(self, state: tuple) -> np.ndarray:
        """The prefix's next token, or everything."""
        expected, alive = self._expected(state)
        mask = np.arange(self.vocab_size) == expected[:, None]
        return (mask | (expected == NONE)[:, None]) & alive[:, None]

    def advance(self, state: tuple, tokens: np.ndarray) -> tuple:
        """One token further; -1 written for a row that left the prefix."""
        expected, alive = self._expected(state)
        prefix, written = state
        follows = alive & ((expected == NONE) | (expected == np.asarray(tokens)))
        return prefix, np.where(follows, written + (expected != NONE), NONE).astype(np.int32)

    def complete(self, state: tuple) -> np.ndarray:
        """Where the whole prefix is written."""
        expected, alive = self._expected(state)
        return (expected == NONE) & alive

    @staticmethod
    def _expected(state: tuple) -> tuple[np.ndarray, np.ndarray]:
        prefix, written = state
        place = np.maximum(written, 0)[:, None]
        return np.take_along_axis(prefix, place, axis=1)[:, 0], written >= 0


class PrefixChoice:
    """Outputs begin with one of some prefixes; after it everything is allowed.

    The state is the prefixes of each row, (rows, k, l), which of them are followed so far, (rows,
    k) bool, the tokens written, (rows,), and whether everything is allowed, (rows,) bool.

    Args:
        prefixes: token ids (k, l), or some for each sample, (b, k, l), padded at their ends with
            -1. A prefix of padding alone is none, and a sample without any is free.
        vocab_size: v.
    """

    def __init__(self, prefixes: np.ndarray | Sequence, vocab_size: int) -> None:
        self.prefixes = choice_rows(prefixes, vocab_size)
        self.vocab_size = vocab_size

    def initial_state(self, rows: int) -> tuple:
        """Nothing written."""
        prefixes = repeat_rows(self.prefixes, rows, "prefixes")
        followed = prefixes[:, :, 0] != NONE
        return prefixes, followed, np.zeros(rows, np.int32), ~followed.any(axis=1)

    def allowed(self, state: tuple) -> np.ndarray:
        """The next tokens of the prefixes that are followed, or everything."""
        _, followed, _, free = state
        expected = _expected_of(state, 0)
        mask = np.zeros((len(free), self.vocab_size + 1), bool)
        np.put_along_axis(mask, np.where(followed, expected, self.vocab_size), True, axis=1)
        return mask[:, :-1] | free[:, None]

    def advance(self, state: tuple, tokens: np.ndarray) -> tuple:
        """One token further."""
        prefixes, followed, written, free = state
        followed = followed & (_expected_of(state, 0) == np.asarray(tokens)[:, None])
        ended = followed & (_expected_of(state, 1) == NONE)
        written = np.minimum(written + 1, prefixes.shape[2] - 2).astype(np.int32)
        return prefixes, followed & ~ended, written, free | ended.any(axis=1)

    def complete(self, state: tuple) -> np.ndarray:
        """Where a whole prefix is written."""
        return state[3]


class BannedWords:
    """No output contains one of these token sequences.

    The state is the last tokens of each row, (rows, longest word - 1), -1 where there is none yet.

    Args:
        words: token id sequences; of one token or more.
        vocab_size: v.
    """

    def __init__(self, words: Sequence[Sequence[int]], vocab_size: int) -> None:
        self.before, self.last = word_arrays(words, vocab_size)
        self.vocab_size = vocab_size

    def initial_state(self, rows: int) -> np.ndarray:
        """Nothing written."""
        return np.full((rows, self.before.shape[1]), NONE, np.int32)

    def allowed(self, state: np.ndarray) -> np.ndarray:
        """Everything but the last tokens of words whose other tokens are written."""
        written = (self.before == NONE) | (self.before == state[:, None])  # (rows, words, l)
        rows, words = np.nonzero(written.all(axis=2))
        mask = np.ones((len(state), self.vocab_size), bool)
        mask[rows, self.last[words]] = False
        return mask

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The window moves on by one token."""
        tokens = np.asarray(tokens, np.int32)
        return np.concatenate([state, tokens[:, None]], axis=1)[:, 1:]

    def complete(self, state: np.ndarray) -> np.ndarray:
        """Everywhere."""
        return np.ones(len(state), bool)


def prefix_rows(prefix: np.ndarray | Sequence, vocab_size: int) -> np.ndarray:
    """Prefixes as (b, l + 1) int32 that end with -1.

    Raises:
        ValueError: ids out of range, or padding before the end.
    """
    rows = np.atleast_2d(np.asarray(prefix, np.int32))
    padding = rows == NONE
    if rows.ndim != 2 or (rows < NONE).any() or (padding[:, :-1] & ~padding[:, 1:]).any():
        raise ValueError(
            f"a prefix is token ids (l,), or (b, l) padded with -1 at the end, got {prefix!r}"
        )
    check_width(int(rows.max(initial=NONE)), vocab_size)
    return np.pad(rows, ((0, 0), (0, 1)), constant_values=NONE)


def choice_rows(prefixes: np.ndarray | Sequence, vocab_size: int) -> np.ndarray:
    """Prefixes as (b, k, l + 2) int32 that end with -1.

    Raises:
        ValueError: ids out of range, or padding before the end.
    """
    rows = np.asarray(prefixes, np.int32)
    rows = rows[None] if rows.ndim == 2 else rows
    padding = rows == NONE
    if rows.ndim != 3 or (rows < NONE).any() or (padding[..., :-1] & ~padding[..., 1:]).any():
        raise ValueError(
            "prefixes are token ids (k, l), or (b, k, l), padded with -1 at their ends, got shape "
            f"{rows.shape}: {prefixes!r}"
        )
    check_width(int(rows.max(initial=NONE)), vocab_size)
    return np.pad(rows, ((0, 0), (0, 0), (0, 2)), constant_values=NONE)


def _expected_of(state: tuple, later: int) -> np.ndarray:
    """Each prefix's next token, or the one `later` after it, (rows, k)."""
    prefixes, _, written, _ = state
    place = (written + later)[:, None, None]
    return np.take_along_axis(prefixes, place, axis=2)[:, :, 0]


def word_arrays(words: Sequence[Sequence[int]], vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of words before their last, (words, l) padded with -1 in front, and the last.

    Raises:
        ValueError: an empty word, or ids out of range.
    """
    words = [list(map(int, word)) for word in words]
    for word in words:
        if not word or min(word) < 0:
            raise ValueError(f"a banned word is one token id or more, got {word}")
        check_width(max(word), vocab_size)
    longest = max(map(len, words), default=1)
    before = np.full((len(words), longest - 1), NONE, np.int32)
    for row, word in zip(before, words, strict=True):
        row[len(row) - len(word) + 1 :] = word[:-1]
    return before, np.array([word[-1] for word in words], np.int32)
