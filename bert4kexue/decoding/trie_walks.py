"""What follows from `step`, `allowed` and `is_key` for any prefix tree, edited or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bert4kexue.decoding.trie_vector import Children

ABSENT = -1


class TreeWalks:
    """Finding, listing and beams, on top of the verbs of a tree.

    Attributes:
        root: the node of the empty prefix.
        depth: no key is longer.
    """

    root: int
    depth: int

    def allowed(self, node: int) -> np.ndarray:
        """The tokens that may follow at `node`, ascending, (children,) int32."""
        raise NotImplementedError

    def step(self, node: int, token: int) -> int:
        """The node reached from `node` by `token`, or -1 where there is none."""
        raise NotImplementedError

    def is_key(self, node: int) -> bool:
        """Whether a key ends at `node`."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """All keys in lexicographic order."""
        return self._walk(self.root)

    def children(self, nodes: np.ndarray) -> Children:
        """The edges of several nodes at once, ragged: (b,) nodes; a node of -1 has none."""
        found, nodes = [], np.asarray(nodes)
        for node in nodes.tolist():
            tokens = self.allowed(node) if node != ABSENT else np.zeros(0, np.int32)
            found.append((tokens, [self.step(node, token) for token in tokens.tolist()]))
        counts = np.array([len(tokens) for tokens, _ in found], np.int64)
        tokens = np.concatenate([np.zeros(0, np.int32), *(tokens for tokens, _ in found)])
        return Children(counts, tokens, np.array([n for _, ns in found for n in ns], np.int64))

    def are_keys(self, nodes: np.ndarray) -> np.ndarray:
        """`is_key` of several nodes, (b,) bool."""
        keys = [node != ABSENT and self.is_key(node) for node in np.asarray(nodes).tolist()]
        return np.array(keys, bool)

    def step_many(self, nodes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """`step` for each row of a beam: (b,) nodes and tokens to (b,) int64; -1 stays -1."""
        step = self.step
        pairs = zip(np.asarray(nodes).tolist(), np.asarray(tokens).tolist(), strict=True)
        return np.array(
            [step(node, token) if node != ABSENT else ABSENT for node, token in pairs], np.int64
        )

    def allowed_mask(
        self, nodes: np.ndarray, vocab_size: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Which tokens may follow each node: (b,) nodes to (b, vocab_size) bool.

        Args:
            nodes: of `step_many`; a node of -1 allows nothing.
            vocab_size: the columns.
            out: an array to write into, which saves allocating one a step.

        Raises:
            ValueError: a token is beyond `vocab_size`.
        """
        mask = np.empty((len(nodes), vocab_size), bool) if out is None else out
        mask.fill(False)
        for row, node in enumerate(np.asarray(nodes).tolist()):
            if node != ABSENT:
                tokens = self.allowed(node)
                try:
                    mask[row, tokens] = True
                except IndexError:
                    raise ValueError(
                        f"token {int(tokens[-1])} of the tree is beyond the {vocab_size} columns "
                        "of the mask: use the vocabulary the tree was built with"
                    ) from None
        return mask

    def find(self, prefix: Sequence[int]) -> int:
        """The node of a prefix, or -1 where no key begins with it."""
        node = self.root
        for token in prefix:
            node = self.step(node, token)
            if node == ABSENT:
                break
        return node

    def contains(self, key: Sequence[int]) -> bool:
        """Whether `key` is one of the keys (not only the beginning of one)."""
        node = self.find(key)
        return node != ABSENT and self.is_key(node)

    __contains__ = contains

    def completions(
        self, node: int | None = None, limit: int | None = None
    ) -> list[tuple[int, ...]]:
        """What may follow `node` up to the end of a key, in lexicographic order, `limit` at most.

        The empty tuple stands for the key that ends at `node` itself.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be 0 or more, or None for all, got {limit}")
        found: list = []
        walk = self._walk(self.root if node is None else node)
        while limit is None or len(found) < limit:
            suffix = next(walk, None)
            if suffix is None:
                break
            found.append(suffix)
        return found

    def check_depth(self, level: int) -> None:
        """Refuse to go deeper than any key does.

        Raises:
            ValueError: `level` is beyond the tree's depth.
        """
        if level > self.depth:
            raise ValueError(
                "the tree's edges go deeper than its depth, so its file is damaged: check it with "
                "`bert4kexue trie verify`"
            )

    def _walk(self, node: int) -> Iterator[tuple[int, ...]]:
        pending: list[tuple[int, tuple[int, ...]]] = [(node, ())]
        while pending:
            node, path = pending.pop()
            self.check_depth(len(path))
            if self.is_key(node):
                yield path
            for token in self.allowed(node).tolist()[::-1]:
                pending.append((self.step(node, token), (*path, token)))
