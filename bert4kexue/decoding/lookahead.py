"""Look-ahead over a knowledge base's keys (kexue.fm/archives/8802).

A key `S [SEP] P [SEP] M [SEP]` is generated for a question Q. Once the first [SEP] is written, a
token is worth more if a key that goes on with it repeats more of the question. For every completion
k of what is written, let

    gain(k) = LCS(key k, Q) - LCS(what is written, Q)

with LCS the length of the longest common subsequence of token ids, and for every next token t let
d_t be the largest gain of the keys that go on with t. Where more than one token is allowed,

    p_t  ->  p_t ^ (1 / (d_t + 1))

on the model's own probabilities, which are then renormalised over what is allowed.

The subsequences are measured by rapidfuzz (the extra `fast`) where it is installed and by one
dynamic program over all completions in NumPy where it is not, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert4kexue.decoding.constraints import TreeConstraint, repeat_rows
from bert4kexue.decoding.trie import ABSENT, PrefixTree

PADDING = -1


class LookAhead(TreeConstraint):
    """Keys of a prefix tree, with the look-ahead of post 8802 on the scores.

    The state is the nodes (rows,), the questions (rows, n), what is written (rows, depth of the
    tree), padded with -1, and its length (rows,).

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
        written = np.full((rows, self.tree.depth), PADDING, np.int32)
        return super().initial_state(rows), questions, written, np.zeros(rows, np.int32)

    def allowed(self, state: tuple) -> np.ndarray:  # type: ignore[override]
        """The tokens on the edges of the nodes."""
        return super().allowed(state[0])

    def advance(self, state: tuple, tokens: np.ndarray) -> tuple:  # type: ignore[override]
        """The nodes behind the edges."""
        nodes, questions, written, lengths = state
        here = np.arange(written.shape[1]) == lengths[:, None]
        written = np.where(here, np.asarray(tokens, np.int32)[:, None], written)
        return super().advance(nodes, tokens), questions, written, lengths + 1

    def complete(self, state: tuple) -> np.ndarray:  # type: ignore[override]
        """Where a key ends."""
        return super().complete(state[0])

    def rescore(self, state: tuple, log_probs: np.ndarray) -> np.ndarray:
        """log p_t / (d_t + 1) where the rule applies; log_probs (rows, v) over all tokens."""
        nodes, questions, written, lengths = state
        log_probs = np.array(log_probs)
        begun = (written == self.end_id).any(axis=1) & (nodes != ABSENT)
        for row in np.flatnonzero(begun).tolist():
            node = int(nodes[row])
            tokens = self.tree.allowed(node)
            if len(tokens) < 2 or (self.limit is not None and self.tree.count(node) > self.limit):
                continue
            prefix = written[row, : lengths[row]].tolist()
            question = questions[row][questions[row] != PADDING].tolist()
            suffixes = [suffix for suffix in self.tree.completions(node) if suffix]
            keys = [[*prefix, *suffix] for suffix in suffixes]
            gains = lcs_lengths(keys, question) - lcs_lengths([prefix], question)
            largest = np.zeros(log_probs.shape[1], np.int64)
            np.maximum.at(largest, [suffix[0] for suffix in suffixes], gains)
            log_probs[row, tokens] /= largest[tokens] + 1
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
    target = np.asarray(question, np.int64)
    table = np.zeros((len(sequences), len(target) + 1), np.int64)
    lengths = np.array([len(sequence) for sequence in sequences], int)
    for place in range(int(lengths.max(initial=0))):
        active = np.flatnonzero(lengths > place)
        tokens = np.array([sequences[index][place] for index in active.tolist()], np.int64)
        longer = table[active, :-1] + (target == tokens[:, None])
        best = np.maximum(table[active, 1:], longer)
        table[active, 1:] = np.maximum.accumulate(best, axis=1)
    return table[:, -1]
