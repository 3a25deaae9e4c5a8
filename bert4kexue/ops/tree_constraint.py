"""A prefix tree inside the graph: outputs are its keys.

The tree is two arrays (see `PrefixTree.as_arrays`): edge i leads to node i + 1, the edges of a node
are `offsets[node]:offsets[node + 1]`, and their tokens ascend. They are held as variables.

* `allowed` writes a node's tokens into a mask, a block of `BLOCK` at a time and as many blocks as
  the widest node at hand needs: any number of children costs what it has to and none is cut.
* `advance` is a search that narrows the edges by `FAN` at each round: two rounds for a thousand
  children, three for thirty thousand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from bert4kexue.decoding.constraints import check_tree, check_width
from bert4kexue.decoding.trie import PrefixTree
from bert4kexue.ops.constraint_masks import constant, empty_mask, finish, mark

BLOCK = 512
FAN = 32
LARGEST = 2**31 - 2


class GraphTree:
    """Only keys of a prefix tree; implements `GraphConstraint`.

    The states are nodes, (rows,) int32; `dead` is the one behind a token that no key goes on with.

    Args:
        tree: keys end with the end id of the output.
        vocab_size: v.
        vocabulary: the `vocabulary_hash` of the tokenizer in use; a tree of another is refused.
        cap: `candidates` gives lists of the widest node's length up to this one, None beyond.

    Raises:
        ValueError: an empty tree, one of another vocabulary or with ids beyond v, or one with more
            than 2^31 - 2 edges.
    """

    def __init__(
        self,
        tree: PrefixTree,
        vocab_size: int,
        *,
        vocabulary: str | None = None,
        cap: int = 256,
    ) -> None:
        check_tree(tree, vocabulary)
        arrays = tree.as_arrays()
        edges = len(arrays.tokens)
        if edges > LARGEST:
            raise ValueError(
                f"a tree inside a graph has at most {LARGEST} edges, got {edges}: leave it mapped "
                "and let TreeConstraint drive the step from outside"
            )
        check_width(int(arrays.tokens.max(initial=-1)), vocab_size)
        self.vocab_size, self.cap, self.edges = vocab_size, cap, edges
        self.dead = len(arrays.offsets) - 1
        self.widest = int(np.diff(arrays.offsets).max())
        # One more node without edges, the dead one; one token at least, so that a gather has one.
        self.offsets = constant(np.append(arrays.offsets, edges), "tree_offsets")
        self.tokens = constant(arrays.tokens if edges else np.zeros(1), "tree_tokens")
        is_key = np.zeros(self.dead + 1, bool)
        is_key[arrays.ends] = True
        # Whether a key ends at a node: with the number of keys before it, for values as well.
        self.key_ranks = constant(np.concatenate([[0], np.cumsum(is_key)]), "tree_key_ranks")
        self.variables = [self.offsets, self.tokens, self.key_ranks]

    def initial_state(self, rows: Any) -> Any:
        """The root for each row."""
        return ops.zeros((rows,), dtype="int32")

    def edges_of(self, state: Any) -> tuple[Any, Any]:
        """The first edge of each node and the first that is no longer its own, (rows,) int32."""
        return ops.take(self.offsets, state), ops.take(self.offsets, state + 1)

    def allowed(self, state: Any) -> Any:
        """The tokens on the edges of the nodes, (rows, v) bool."""
        first, last = self.edges_of(state)
        rows, v = ops.shape(state)[0], self.vocab_size
        block = max(1, min(BLOCK, self.widest))

        def write(start: Any, mask: Any) -> Any:
            tokens, valid = self._block(start, last, block)
            return mark(mask, ops.where(valid, tokens, v), v)

        mask = empty_mask(rows, v)
        if self.widest <= block:
            mask = write(first, mask)
        else:
            _, mask = ops.while_loop(
                lambda start, mask: ops.any(start < last),
                lambda start, mask: (start + block, write(start, mask)),
                (first, mask),
            )
        return finish(mask, rows, v)

    def candidates(self, state: Any) -> tuple[Any, Any] | None:
        """The same as lists (rows, widest node), or None beyond `cap`."""
        if self.widest > self.cap:
            return None
        first, last = self.edges_of(state)
        return self._block(first, last, max(1, self.widest))

    def advance(self, state: Any, tokens: Any) -> Any:
        """The nodes behind the edges."""
        tokens = ops.cast(tokens, "int32")
        first, last = self.edges_of(state)
        rounds = 1
        while FAN**rounds < self.widest:
            rounds += 1
        place = first
        for exponent in reversed(range(rounds)):
            # How many of the steps from here still stand at a token not beyond the one sought.
            step = FAN**exponent
            pivots = place[:, None] + step * ops.arange(1, FAN, dtype="int32")
            ahead = ops.take(self.tokens, ops.minimum(pivots, self.edges - 1))
            below = ops.logical_and(pivots < last[:, None], ahead <= tokens[:, None])
            place = place + step * ops.sum(ops.cast(below, "int32"), axis=1)
        here = ops.take(self.tokens, ops.clip(place, 0, max(self.edges - 1, 0)))
        found = ops.logical_and(place < last, here == tokens)
        return ops.where(found, place + 1, self.dead)

    def complete(self, state: Any) -> Any:
        """Where a key ends."""
        return ops.take(self.key_ranks, state + 1) > ops.take(self.key_ranks, state)

    def find(self, ids: Any, lengths: Any) -> Any:
        """The number of the key in `ids`, in the order of `as_arrays().keys`; -1 for no key.

        Args:
            ids: (rows, n) int32.
            lengths: (rows,) int32, of which this many belong to the output.
        """

        ids, lengths = ops.convert_to_tensor(ids), ops.convert_to_tensor(lengths)

        def body(column: Any, state: Any) -> tuple[Any, Any]:
            moved = GraphTree.advance(self, state, ops.take(ids, column, axis=1))
            return column + 1, ops.where(column < lengths, moved, state)

        state = GraphTree.initial_state(self, ops.shape(ids)[0])
        n = ops.shape(ids)[1]
        _, state = ops.while_loop(
            lambda column, _: column < n, body, (ops.array(0, "int32"), state)
        )
        return ops.where(GraphTree.complete(self, state), ops.take(self.key_ranks, state), -1)

    def _block(self, start: Any, last: Any, width: int) -> tuple[Any, Any]:
        """Tokens of `width` edges from `start`, (rows, width), and which are the node's own."""
        places = start[:, None] + ops.arange(width, dtype="int32")
        tokens = ops.take(self.tokens, ops.clip(places, 0, max(self.edges - 1, 0)))
        return tokens, places < last[:, None]
