"""Look-ahead over a tree's keys inside the graph (kexue.fm/archives/8802).

What it computes is written in `bert4kexue.decoding.lookahead`. Here the longest common subsequences
are a dynamic program that descends the tree. With Q the question and

    L[j] = LCS(tokens so far, Q[:j]),    j = 0 ... n,

a token t gives L'[j] = max over i <= j of max(L[i], L[i - 1] + [Q[i] = t]), so a state carries L of
what is written. Below a node the keys share beginnings, and on each level of the tree its
descendants are one interval of nodes: level after level, L of every descendant follows from its
parent's. Of at most `limit` keys there are at most `limit` descendants on a level, which makes the
shapes static.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from keras import ops

from bert4kexue.decoding.lookahead import PADDING
from bert4kexue.decoding.trie import PrefixTree
from bert4kexue.ops.constraint_masks import constant, repeat_rows
from bert4kexue.ops.tree_constraint import GraphTree

FEW = 32
"""Where no row has more keys below it than these, a narrow pass does: the usual case."""

LONGEST = 2**13
"""Tokens of a question whose length is not known when the graph is made, at most."""


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
        if isinstance(questions, np.ndarray | list | tuple):
            self.questions = constant(np.atleast_2d(np.asarray(questions, np.int32)), "questions")
            self.variables = [*self.variables, self.questions]
        else:
            self.questions = questions

    def with_questions(self, questions: Any) -> GraphLookAhead:
        """The same tree for other questions, a tensor (b, n) int32; nothing is copied."""
        other = copy.copy(self)
        other.questions = questions
        return other

    def initial_state(self, rows: Any) -> tuple:
        """Nodes (rows,), questions (rows, n), L (rows, n + 1), whether the end id is written."""
        questions = repeat_rows(ops.convert_to_tensor(self.questions), rows)
        table = ops.pad(ops.zeros_like(questions), ((0, 0), (1, 0)))
        begun = ops.zeros_like(questions[:, 0], dtype="bool")
        return super().initial_state(rows), questions, table, begun

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
        """The nodes behind the edges, and the next L."""
        nodes, questions, table, begun = state
        tokens = ops.cast(tokens, "int32")
        table = lcs_row(table[:, None], questions[:, None], tokens[:, None])[:, 0]
        begun = ops.logical_or(begun, tokens == self.end_id)
        return super().advance(nodes, tokens), questions, table, begun

    def rescore(self, state: tuple, log_probs: Any) -> Any:
        """log p_t / (d_t + 1) where the rule applies; log_probs (rows, v) over all tokens."""
        nodes, _, table, begun = state
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
        return self._divide(log_probs, first, last, gains - table[:, -1:], applies)

    def _below(self, low: Any, high: Any, keys: Any) -> tuple[Any, Any, Any]:
        """The next level's interval, and how many keys end on the levels so far."""
        ranks, offsets = self.key_ranks, self.offsets
        keys = keys + ops.take(ranks, high) - ops.take(ranks, low)
        return ops.take(offsets, low) + 1, ops.take(offsets, high) + 1, keys

    def _gains_below(self, state: tuple, low: Any, high: Any, keys: Any) -> Any:
        """The longest LCS of the keys below each child, (rows, limit); `keys` are how many."""
        if self.limit <= FEW:
            return self._gains(state, low, high, self.limit)
        more = [[0, 0], [0, self.limit - FEW]]
        return ops.cond(
            ops.max(keys) <= FEW,
            lambda: ops.pad(self._gains(state, low, high, FEW), more),
            lambda: self._gains(state, low, high, self.limit),
        )

    def _gains(self, state: tuple, low: Any, high: Any, width: int) -> Any:
        """The longest LCS of the keys below each child, (rows, width), no more keys than that."""
        _, questions, table, _ = state
        slots = ops.arange(width, dtype="int32")
        nodes = low[:, None] + slots  # (rows, width)
        tables = ops.broadcast_to(table[:, None], (*ops.shape(nodes), ops.shape(table)[1]))
        # Which child a descendant comes from; and the best key below each child.
        origin = ops.broadcast_to(slots, ops.shape(nodes))
        parents = origin
        best = ops.zeros_like(nodes)

        def level(low: Any, high: Any, tables: Any, parents: Any, origin: Any, best: Any) -> tuple:
            nodes = low[:, None] + slots
            real = nodes < high[:, None]
            safe = ops.where(real, nodes, self.dead)
            tokens = ops.take(self.tokens, ops.clip(safe - 1, 0, max(self.edges - 1, 0)))
            tables = ops.take_along_axis(tables, parents[:, :, None], axis=1)
            tables = lcs_row(tables, questions[:, None], tokens)
            origin = ops.take_along_axis(origin, parents, axis=1)
            ends = ops.logical_and(real, GraphTree.complete(self, safe))
            found = ops.where(ends, tables[:, :, -1], 0)
            comes = ops.logical_and(origin[:, None] == slots[:, None], ends[:, None])
            best = ops.maximum(best, ops.max(ops.where(comes, found[:, None], 0), axis=2))
            below, beyond = ops.take(self.offsets, low) + 1, ops.take(self.offsets, high) + 1
            # The parent of a node of the next level: the slot whose edges hold it.
            begins = ops.take(self.offsets, safe) + 1  # (rows, width)
            begins = ops.where(real, begins, self.edges + 2)
            following = below[:, None] + slots
            parents = ops.sum(ops.cast(begins[:, None] <= following[:, :, None], "int32"), axis=2)
            return below, beyond, tables, ops.maximum(parents - 1, 0), origin, best

        *_, best = ops.while_loop(
            lambda low, high, *_: ops.any(low < high),
            level,
            (low, high, tables, parents, origin, best),
            maximum_iterations=self.depth + 1,
        )
        return best

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


def lcs_row(table: Any, questions: Any, tokens: Any) -> Any:
    """The next row of the table of the longest common subsequence.

    Args:
        table: (..., n + 1) int32, `L` above.
        questions: (..., n) int32, -1 for padding.
        tokens: (...,) int32.
    """
    same = ops.logical_and(questions == tokens[..., None], questions != PADDING)
    longer = table[..., :-1] + ops.cast(same, "int32")
    best = ops.maximum(table[..., 1:], longer)
    # The running maximum, over twice as many places at each round.
    n = ops.shape(best)[-1]
    longest, reach = best.shape[-1] or LONGEST, 1
    while reach < longest:
        shifted = ops.pad(best, [[0, 0]] * (len(best.shape) - 1) + [[reach, 0]])[..., :n]
        best = ops.maximum(best, shifted)
        reach *= 2
    return ops.concatenate([table[..., :1], best], axis=-1)
