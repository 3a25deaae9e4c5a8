"""Look-ahead over a knowledge base's keys (kexue.fm/archives/8802).

A key `S [SEP] P [SEP] M [SEP]` is generated for a question Q. Once the first [SEP] is written, a
token is worth more if a key that goes on with it repeats more of the question. For every completion
k of what is written, let

    gain(k) = LCS(key k, Q) - LCS(what is written, Q)

with LCS the length of the longest common subsequence of token ids, and for every next token t let
d_t be the largest gain of the keys that go on with t. Where more than one token is allowed,

    p_t  ->  p_t ^ (1 / (d_t + 1))

on the model's own probabilities, which are then renormalised over what is allowed.

The gains are measured by one dynamic program that descends the tree from all hypotheses at once, so
that what keys share is done once. `lcs_lengths` of single sequences is rapidfuzz's (the extra
`fast`) where it is installed, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert4kexue.decoding.constraints import Choices, TreeConstraint, check_width, repeat_rows
from bert4kexue.decoding.trie import PrefixTree

PADDING = -1

WIDTH = 2**13
"""Nodes of a level that are looked at together; below a node there may be millions."""


class LookAhead(TreeConstraint):
    """Keys of a prefix tree, with the look-ahead of post 8802 on the scores.

    The state is the nodes (rows,), the questions (rows, n), the last row of the table of their
    common subsequences with what is written (rows, n + 1), and whether `end_id` is, (rows,) bool.

    Args:
        tree: keys end with `end_id`, and hold it inside, between their parts.
        questions: token ids (n,), or one row for each sample, (b, n), -1 for padding. The post
            gives the model's whole input, [CLS] and [SEP] included.
        end_id: re-weighting begins once it is written.
        vocab_size: as of `TreeConstraint`.
        limit: below more keys than these nothing is re-weighted; None looks at any number of them.
    """

    def __init__(
        self,
        tree: PrefixTree,
        questions: np.ndarray | Sequence,
        end_id: int,
        vocab_size: int | None = None,
        *,
        limit: int | None = None,
        vocabulary: str | None = None,
    ) -> None:
        super().__init__(tree, vocab_size, vocabulary=vocabulary)
        self.questions = np.atleast_2d(np.asarray(questions, np.int32))
        self.end_id, self.limit = end_id, limit

    def initial_state(self, rows: int) -> tuple:  # type: ignore[override]
        """The root, and nothing written."""
        questions = repeat_rows(self.questions, rows, "questions")
        table = np.zeros((rows, questions.shape[1] + 1), np.int32)
        return super().initial_state(rows), questions, table, np.zeros(rows, bool)

    def allowed(self, state: tuple) -> np.ndarray:  # type: ignore[override]
        """The tokens on the edges of the nodes."""
        return super().allowed(state[0])

    def choices(self, state: tuple) -> Choices:  # type: ignore[override]
        """The same as lists, with d_t + 1 where the rule applies."""
        nodes, questions, table, begun = state
        counts, tokens, below = self.tree.children(nodes)
        if self.vocab_size is not None:
            check_width(int(tokens.max(initial=-1)), self.vocab_size)
        divisors, applies = np.ones(len(tokens), np.int64), begun & (counts > 1)
        if self.limit is not None:
            few = [self.tree.count(node) <= self.limit for node in nodes[applies].tolist()]
            applies[applies] = few
        rows, here = np.repeat(np.arange(len(nodes)), counts), np.repeat(applies, counts)
        if here.any():
            rows = rows[here]
            tables = lcs_rows(table[rows], questions[rows], tokens[here])
            best = self._best_below(below[here], questions[rows], tables)
            divisors[here] += best - table[rows, -1]
        return Choices(counts, tokens, divisors)

    def _best_below(
        self, nodes: np.ndarray, questions: np.ndarray, tables: np.ndarray
    ) -> np.ndarray:
        """The longest common subsequence of a key below each node with its question, (nodes,)."""
        best = np.zeros(len(nodes), np.int64)
        pending = [(0, nodes, np.arange(len(nodes)), tables)]
        while pending:
            level, nodes, origins, tables = pending.pop()
            self.tree.check_depth(level)
            ends = self.tree.are_keys(nodes)
            np.maximum.at(best, origins[ends], tables[ends, -1])
            counts, tokens, nodes = self.tree.children(nodes)
            for first in range(0, len(nodes), WIDTH):
                part = slice(first, first + WIDTH)
                rows = np.repeat(np.arange(len(counts)), counts)[part]
                origin = origins[rows]
                table = lcs_rows(tables[rows], questions[origin], tokens[part])
                pending.append((level + 1, nodes[part], origin, table))
        return best

    def advance(self, state: tuple, tokens: np.ndarray) -> tuple:  # type: ignore[override]
        """The nodes behind the edges."""
        nodes, questions, table, begun = state
        tokens = np.asarray(tokens, np.int32)
        table = lcs_rows(table, questions, tokens)
        return super().advance(nodes, tokens), questions, table, begun | (tokens == self.end_id)

    def complete(self, state: tuple) -> np.ndarray:  # type: ignore[override]
        """Where a key ends."""
        return super().complete(state[0])

    def rescore(self, state: tuple, log_probs: np.ndarray) -> np.ndarray:
        """log p_t / (d_t + 1) where the rule applies; log_probs (rows, v) over all tokens."""
        counts, tokens, divisors = self.choices(state)
        log_probs = np.array(log_probs)
        log_probs[np.repeat(np.arange(len(counts)), counts), tokens] /= divisors
        return log_probs


def lcs_lengths(sequences: Sequence[Sequence[int]], question: Sequence[int]) -> np.ndarray:
    """The length of the longest common subsequence of each sequence and the question, (sequences,).

    By rapidfuzz where it is installed, by `lcs_table` otherwise.
    """
    try:
        from rapidfuzz.distance import LCSseq
    except ImportError:
        return lcs_table(sequences, question)
    target = list(question)
    return np.array([LCSseq.similarity(list(sequence), target) for sequence in sequences], np.int64)


def lcs_table(sequences: Sequence[Sequence[int]], question: Sequence[int]) -> np.ndarray:
    """`lcs_lengths` by the dynamic program, all sequences at once.

    With L[j] = LCS(tokens so far, question[:j]), a token t gives
    L'[j] = max over i <= j of max(L[i], L[i - 1] + [question[i] = t]).
    """
    target = np.asarray(question, np.int64)[None]
    table = np.zeros((len(sequences), target.shape[1] + 1), np.int64)
    lengths = np.array([len(sequence) for sequence in sequences], int)
    for place in range(int(lengths.max(initial=0))):
        active = np.flatnonzero(lengths > place)
        tokens = np.array([sequences[index][place] for index in active.tolist()], np.int64)
        table[active] = lcs_rows(table[active], target, tokens)
    return table[:, -1]


def lcs_rows(table: np.ndarray, questions: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The next row of each table of the longest common subsequence, one token further.

    Args:
        table: (rows, n + 1), `L` of the tokens so far.
        questions: (rows, n) or (1, n), -1 for padding.
        tokens: (rows,)
    """
    longer = table[:, :-1] + (questions == tokens[:, None])
    result = np.zeros_like(table)
    np.maximum.accumulate(np.maximum(table[:, 1:], longer), axis=1, out=result[:, 1:])
    return result
