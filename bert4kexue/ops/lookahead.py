"""Look-ahead over a tree's keys inside the graph (kexue.fm/archives/8802).

What it computes is written in `bert4kexue.decoding.lookahead`. Here the longest common subsequences
are a dynamic program that descends the tree: the state carries its row for what is written, as bits
(`ops.common_subsequence`). Below a node the keys share beginnings, and on each level of the tree
its descendants are one interval of nodes: level after level, the row of every descendant follows
from its parent's. Below a node there are no more descendants on a level than keys: those of a batch
are laid end to end, each hypothesis's as many as its node has keys, at most `limit`, so the shapes
are static.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from keras import ops

from bert4kexue.decoding.trie import PrefixTree
from bert4kexue.ops.common_subsequence import (
    common_length,
    nothing_written,
    one_token_more,
    question_words,
)
from bert4kexue.ops.constraint_masks import constant, repeat_rows
from bert4kexue.ops.tree_constraint import GraphTree

FEW = 32
"""Where the rows have no more keys below them than these on average, a narrow pass does: the usual
case, for a batch too, where few rows have many."""

LONGEST = 512
"""How many tokens of a question count, where nothing tells how many it has."""


class GraphLookAhead(GraphTree):
    """Keys of a prefix tree with the look-ahead on the scores. Implements `GraphConstraint`.

    Args:
        tree: keys end with `end_id`, and hold it inside, between their parts.
        questions: token ids (n,) or (b, n), -1 for padding. A tensor is taken with two axes and
            int32.
        end_id: re-weighting begins once it is written.
        vocab_size: v.
        limit: below more keys than these nothing is re-weighted.
    """

    def __init__(
        self,
        tree: PrefixTree,
        questions: Any,
        end_id: int,
        vocab_size: int,
        *,
        limit: int = 256,
        vocabulary: str | None = None,
    ) -> None:
        super().__init__(tree, vocab_size, vocabulary=vocabulary)
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, got {limit}")
        self.end_id, self.limit, self.depth = end_id, limit, tree.depth
        self.longest = LONGEST
        if isinstance(questions, np.ndarray | list | tuple):
            self.questions = constant(np.atleast_2d(np.asarray(questions, np.int32)), "questions")
            self.variables = [*self.variables, self.questions]
        else:
            self.questions = questions

    def with_questions(self, questions: Any, longest: int = LONGEST) -> GraphLookAhead:
        """The same tree for other questions, a tensor (b, n) int32; nothing is copied.

        Args:
            questions: -1 for padding.
            longest: how many tokens of a question count, where the shape does not tell n.
        """
        other = copy.copy(self)
        other.questions, other.longest = questions, longest
        return other

    def initial_state(self, rows: Any) -> tuple:
        """Nodes (rows,), questions (rows, W, BITS), V (rows, W), whether the end id is written."""
        questions = question_words(ops.convert_to_tensor(self.questions), self.longest)
        questions = repeat_rows(questions, rows)
        bits = nothing_written(questions)
        begun = ops.zeros_like(bits[:, 0], dtype="bool")
        return super().initial_state(rows), questions, bits, begun

    def allowed(self, state: tuple) -> Any:
        """The tokens on the edges of the nodes."""
        return super().allowed(state[0])

    def candidates(self, state: tuple) -> tuple[Any, Any] | None:
        """The same as lists, or None."""
        return super().candidates(state[0])

    def complete(self, state: tuple) -> Any:
        """Where a key ends."""
        return super().complete(state[0])

    def advance(self, state: tuple, tokens: Any) -> tuple:
        """The nodes behind the edges, and the next V."""
        nodes, questions, bits, begun = state
        tokens = ops.cast(tokens, "int32")
        bits = one_token_more(bits, questions, tokens)
        begun = ops.logical_or(begun, tokens == self.end_id)
        return super().advance(nodes, tokens), questions, bits, begun

    def rescore(self, state: tuple, log_probs: Any) -> Any:
        """log p_t / (d_t + 1) where the rule applies; log_probs (rows, v) over all tokens."""
        nodes, _, bits, begun = state
        first, last = self.edges_of(nodes)
        # Intervals of descendants: the children, then theirs; node = edge + 1.
        low, high = first + 1, last + 1
        keys = ops.take(self.key_ranks, nodes + 1) - ops.take(self.key_ranks, nodes)
        bounds = (low, high, keys)
        for _ in range(self.depth):
            bounds = self._below(*bounds)
        few = ops.logical_and(bounds[2] <= self.limit, last - first > 1)
        applies = ops.logical_and(begun, few)
        low, high = ops.where(applies, low, 0), ops.where(applies, high, 0)
        gains = ops.cond(
            ops.any(applies),
            lambda: self._gains_below(state, low, high, ops.where(applies, bounds[2], 0)),
            lambda: ops.zeros((ops.shape(nodes)[0], self.limit), dtype="int32"),
        )
        return self._divide(log_probs, first, last, gains - common_length(bits)[:, None], applies)

    def _below(self, low: Any, high: Any, keys: Any) -> tuple[Any, Any, Any]:
        """The next level's interval, and how many keys end on the levels so far."""
        ranks, offsets = self.key_ranks, self.offsets
        keys = keys + ops.take(ranks, high) - ops.take(ranks, low)
        return ops.take(offsets, low) + 1, ops.take(offsets, high) + 1, keys

    def _gains_below(self, state: tuple, low: Any, high: Any, keys: Any) -> Any:
        """The longest LCS of the keys below each child, (rows, limit); `keys` are how many."""
        rows = ops.shape(keys)[0]
        if self.limit <= FEW:
            return self._gains(state, low, high, keys, rows * self.limit)
        return ops.cond(
            ops.sum(keys) <= rows * FEW,
            lambda: self._gains(state, low, high, keys, rows * FEW),
            lambda: self._gains(state, low, high, keys, rows * self.limit),
        )

    def _gains(self, state: tuple, low: Any, high: Any, keys: Any, count: Any) -> Any:
        """The longest LCS of the keys below each child, (rows, limit).

        A level of the tree has `count` slots: first those of the first row, one for each of its
        keys, then those of the next.
        """
        _, questions, bits, _ = state
        lasts = ops.cumsum(keys, dtype="int32")
        firsts = lasts - keys
        slots = ops.arange(count, dtype="int32")
        rows = ops.minimum(_how_many(lasts, slots), ops.shape(keys)[0] - 1)
        places, questions = slots - ops.take(firsts, rows), ops.take(questions, rows, axis=0)

        def level(low: Any, high: Any, bits: Any, parents: Any, origin: Any, best: Any) -> tuple:
            nodes = ops.take(low, rows) + places
            real = nodes < ops.take(high, rows)
            safe = ops.where(real, nodes, self.dead)
            tokens = ops.take(self.tokens, ops.clip(safe - 1, 0, max(self.edges - 1, 0)))
            bits = one_token_more(ops.take(bits, parents, axis=0), questions, tokens)
            # Which child a descendant comes from; and the best key below each child.
            origin = ops.take(origin, parents)
            ends = ops.logical_and(real, GraphTree.complete(self, safe))
            found = ops.segment_max(ops.where(ends, common_length(bits), 0), origin, count)
            best = ops.maximum(best, found)
            below, beyond = ops.take(self.offsets, low) + 1, ops.take(self.offsets, high) + 1
            # Where the children of a node begin on the next level. A slot without a node has none,
            # and stands as if after all of its row.
            begins = ops.where(real, ops.take(self.offsets, safe) + 1, ops.take(beyond, rows))
            begins = begins - ops.take(below - firsts, rows)
            parents = ops.maximum(_how_many(begins, slots) - 1, 0)
            return below, beyond, bits, parents, origin, best

        begin = (low, high, ops.take(bits, rows, axis=0), slots, slots, ops.zeros_like(slots))
        *_, best = ops.while_loop(
            lambda low, high, *_: ops.any(low < high),
            level,
            begin,
            maximum_iterations=self.depth + 1,
        )
        children = firsts[:, None] + ops.arange(self.limit, dtype="int32")
        return ops.take(best, ops.minimum(children, count - 1))

    def _divide(self, log_probs: Any, first: Any, last: Any, gains: Any, applies: Any) -> Any:
        """Scores of the first `limit` edges over their gains + 1, where the rule applies."""
        v = self.vocab_size
        tokens, own = self._block(first, last, self.limit)
        own = ops.logical_and(own, applies[:, None])
        rows = ops.shape(tokens)[0]
        columns = ops.where(own, tokens, v)
        places = ops.arange(rows, dtype="int32")[:, None] * (v + 1) + columns
        weights = ops.scatter_update(
            ops.ones((rows * (v + 1),), dtype=log_probs.dtype),
            ops.reshape(places, (-1, 1)),
            ops.reshape(ops.cast(ops.where(own, gains + 1, 1), log_probs.dtype), (-1,)),
        )
        return log_probs / ops.reshape(weights, (rows, v + 1))[:, :v]


def _how_many(ascending: Any, slots: Any) -> Any:
    """How many of the numbers, 0 or more, are no larger than each slot, 0 ... n - 1; (n,) int32."""
    n = ops.shape(slots)[0]
    # What lies beyond the last slot falls into one bin more.
    bins = ops.minimum(ascending, n)
    return ops.cumsum(ops.segment_sum(ops.ones_like(bins), bins, n + 1), dtype="int32")[:n]
