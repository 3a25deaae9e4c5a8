"""A set of token sequences as a compact prefix tree, with strings attached to its keys.

The arrays are those of `trie_build`: nodes and edges level by level as far as keys share their
beginnings, and what remains of each key as a tail in a pool where equal tails are one. So a node is
one of two things, both plain integers that a decoder holds per hypothesis:

    inner   its number, 0 for the root
    tail    ``(edge + 1) << 32 | place``, the edge that left the shared part (it says which key
            this is) and the place in the pool of the token that comes next

A key must carry its own terminator where one key may begin with another and both are to be decoded
(`S [SEP] P [SEP] M [SEP]`, not `S [SEP] P [SEP] M`): a decoder stops at the terminator and would
otherwise never choose between stopping and going on.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from bert4kexue.decoding import sections, trie_vector
from bert4kexue.decoding.trie_build import LEAF, MAX_TOKEN, build_arrays
from bert4kexue.decoding.trie_check import check_sections
from bert4kexue.decoding.trie_vector import PLACE, TAIL, Children, TreeArrays
from bert4kexue.decoding.trie_walks import ABSENT, TreeWalks
from bert4kexue.decoding.values import columns_of, encode_texts, texts_of, value_arrays

KIND = b"B4KTREE\n"
VERSION = 2


class PrefixTree(TreeWalks):
    """A set of token sequences (keys); each key may carry several strings (values).

    Build one with `PrefixTree.from_keys`, or map a saved one into memory with `PrefixTree.load`.
    Nodes are plain integers: start at `root` and go on with `step`.

        >>> tree = PrefixTree.from_keys([[7, 9, 1], [7, 1], [7, 1]], ["a", "b", "c"])
        >>> tree.allowed(tree.step(tree.root, 7)).tolist()
        [1, 9]
        >>> tree.values(tree.find([7, 1]))
        ['b', 'c']

    Attributes:
        vocabulary: the `vocabulary_hash` of the tokens behind the ids, '' if none was given.
        node_count: the number of nodes, one for each different beginning of a key.
        depth: the length of the longest key.
    """

    root = 0

    def __init__(self, arrays: Mapping[str, np.ndarray], about: Mapping[str, object]) -> None:
        self.vocabulary = str(about.get("vocabulary", ""))
        self.node_count = int(about["nodes"])  # type: ignore[call-overload]
        self.depth = int(about["depth"])  # type: ignore[call-overload]
        self._count = int(about["keys"])  # type: ignore[call-overload]
        self._arrays = dict(arrays)
        ids = arrays["ids"]
        if len(ids) > 1 and not 0 <= ids[1:].min() <= ids.max() <= MAX_TOKEN:
            raise ValueError(f"the tree's token ids must be 0 to {MAX_TOKEN}: build it again")
        ranks_of = np.zeros(int(ids.max(initial=-1)) + 1, np.int32)
        ranks_of[ids[1:]] = np.arange(1, len(ids), dtype=np.int32)
        self._ids = ids
        self._ranks = arrays["ranks"]
        self._tails = arrays["tails"]
        # A number read through a memoryview is a Python integer, several times as fast as NumPy's.
        self._rank_of = ranks_of.data
        self._offset_at = arrays["offsets"].data
        self._rank_at = arrays["ranks"].data
        self._target_at = arrays["targets"].data
        self._tail_at = arrays["tails"].data
        self._file: sections.MappedFile | None = None

    @classmethod
    def from_keys(
        cls,
        keys: Iterable[Sequence[int]],
        values: Sequence[str] | None = None,
        *,
        vocabulary: str = "",
    ) -> PrefixTree:
        """The tree of these keys.

        Args:
            keys: token id sequences, in any order; duplicates are one key. Ids are 0 to 2^20.
            values: one string per given key. Duplicated keys gather theirs, in the order given.
            vocabulary: what `vocabulary_hash` says of the vocabulary behind the ids.

        Raises:
            ValueError: an id out of range, or another number of values than of keys.
        """
        keys = list(keys)
        starts = np.zeros(len(keys) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)), out=starts[1:])
        flat = np.fromiter(chain.from_iterable(keys), np.int64, int(starts[-1]))
        return cls.from_arrays(flat, starts, values, vocabulary=vocabulary)

    @classmethod
    def from_arrays(
        cls,
        tokens: np.ndarray,
        starts: np.ndarray,
        values: Sequence[str] | tuple[np.ndarray, np.ndarray] | None = None,
        *,
        owners: np.ndarray | None = None,
        vocabulary: str = "",
    ) -> PrefixTree:
        """`from_keys` for keys laid end to end: key ``i`` is ``tokens[starts[i]:starts[i + 1]]``.

        Twenty million keys are a matter of a minute; see `trie_build.build_arrays` for the memory.

        Args:
            tokens: (tokens,) of any integer dtype; may be a memory map.
            starts: (keys + 1,)
            values: strings, or (UTF-8 bytes laid end to end, where each begins (values + 1,)).
            owners: which given key each value is of, (values,); one value a key when None.
            vocabulary: as in `from_keys`.
        """
        tokens, count = np.asarray(tokens), len(starts) - 1
        if values is not None:
            text, bounds = values if isinstance(values, tuple) else encode_texts(values)
            wanted = count if owners is None else len(owners)
            if len(bounds) != wanted + 1:
                raise ValueError(
                    f"one value per key is needed, got {len(bounds) - 1} values for {wanted} keys: "
                    "repeat a key for each further value"
                )
        plan = build_arrays(tokens, starts)
        leaves = int((plan.arrays["targets"] >= LEAF).sum())
        arrays = plan.arrays
        if values is not None:
            numbers = plan.numbers if owners is None else plan.numbers[owners]
            arrays |= value_arrays(numbers, leaves, text, bounds)
        about = {"keys": leaves, "nodes": plan.nodes, "depth": plan.depth}
        return cls(arrays, about | {"vocabulary": vocabulary})

    def __len__(self) -> int:
        """The number of different keys."""
        return self._count

    def allowed(self, node: int) -> np.ndarray:
        """The tokens that may follow at `node`, ascending, (children,) int32."""
        try:
            if node >= TAIL:
                rank = self._tail_at[node & PLACE]
                return self._ids[rank : rank + 1] if rank else self._ids[:0]
            first, last = self._offset_at[node], self._offset_at[node + 1]
            if first < last and not self._rank_at[first]:
                first += 1  # the end of a key
            return self._ids.take(self._ranks[first:last])
        except IndexError:
            raise self._no_node(node) from None

    def step(self, node: int, token: int) -> int:
        """The node reached from `node` by `token`, or -1 where there is none."""
        try:
            rank = self._rank_of[token] if token >= 0 else 0
        except IndexError:
            return ABSENT
        if not rank:
            return ABSENT
        try:
            if node >= TAIL:
                return node + 1 if self._tail_at[node & PLACE] == rank else ABSENT
            last = self._offset_at[node + 1]
            edge = bisect_left(self._rank_at, rank, self._offset_at[node], last)
            if edge >= last or self._rank_at[edge] != rank:
                return ABSENT
            target = self._target_at[edge]
        except IndexError:
            raise self._no_node(node) from None
        if target >= LEAF:
            return (edge + 1) << 32 | target - LEAF
        if target <= node:  # a node leads to later ones: so no walk is endless
            raise self._no_node(target)
        return target

    def children(self, nodes: np.ndarray) -> Children:
        """The edges of several nodes at once, ragged: (b,) nodes; a node of -1 has none."""
        try:
            return trie_vector.children(self._arrays, np.asarray(nodes, np.int64))
        except IndexError:
            raise self._no_node(nodes) from None

    def are_keys(self, nodes: np.ndarray) -> np.ndarray:
        """`is_key` of several nodes, (b,) bool."""
        try:
            return trie_vector.are_keys(self._arrays, np.asarray(nodes, np.int64))
        except IndexError:
            raise self._no_node(nodes) from None

    def is_key(self, node: int) -> bool:
        """Whether a key ends at `node`."""
        try:
            if node >= TAIL:
                return not self._tail_at[node & PLACE]
            first = self._offset_at[node] if node >= 0 else 0
            return node >= 0 and first < self._offset_at[node + 1] and not self._rank_at[first]
        except IndexError:
            raise self._no_node(node) from None

    def number(self, node: int) -> int:
        """The number of the key that ends at `node`, 0 to ``len(tree) - 1``; -1 where none does."""
        if not self.is_key(node):
            return ABSENT
        try:
            return self._leaves((node >> 32) - 1 if node >= TAIL else self._offset_at[node])
        except IndexError:
            raise self._no_node(node) from None

    def count(self, node: int = root) -> int:
        """The exact number of keys at and below `node`; some sums per level, visits no node."""
        if node == self.root or node >= TAIL or node == ABSENT:
            return {self.root: self._count, ABSENT: 0}.get(node, 1)
        first, last, total = node, node + 1, 0
        try:
            for _ in range(self.depth + 1):
                begin, end = self._offset_at[first], self._offset_at[last]
                leaves, more = self._leaves(begin), self._leaves(end)
                total += more - leaves
                # The edges to nodes lead to nodes 1, 2, 3 ... in their order.
                first, last = begin - leaves + 1, end - more + 1
                if first >= last:
                    break
        except IndexError:
            raise self._no_node(node) from None
        return total

    def values(self, node: int) -> list[str]:
        """The strings of the key that ends at `node`; none where no key ends there."""
        number = self.number(node)
        return [] if number == ABSENT else self.values_of(number)

    def values_of(self, number: int) -> list[str]:
        """The strings of key `number`, 0 to ``len(tree) - 1``."""
        if not 0 <= number < len(self):
            raise ValueError(f"keys are numbered 0 to {len(self) - 1}, got {number}")
        try:
            return texts_of(self._arrays, number) if "text" in self._arrays else []
        except IndexError:
            raise self._no_node(f"of key {number}") from None

    def value_counts(self) -> np.ndarray:
        """How many strings each key has, (keys,)."""
        if "text" not in self._arrays:
            return np.zeros(len(self), np.int64)
        return np.diff(self._arrays["value_offsets"])

    def value_columns(
        self, numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The strings of (n,) keys: how many each has, UTF-8 laid end to end, sizes in bytes."""
        return columns_of(self._arrays, numbers) if "text" in self._arrays else None

    def as_arrays(self) -> TreeArrays:
        """The whole tree as plain arrays, tails written out, for trees that a graph should hold."""
        return trie_vector.as_arrays(self._arrays, self.depth)

    def key_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """All keys in blocks, in no particular order.

        Yields:
            tokens: keys laid end to end, (tokens,) int32
            lengths: of the keys, (keys,)
            numbers: of the keys, for `values_of`, (keys,)
        """
        return trie_vector.key_blocks(self._arrays, self.depth)

    def section_sizes(self) -> dict[str, int]:
        """The arrays of the tree and of its values, in bytes."""
        return {name: array.nbytes for name, array in self._arrays.items()}

    def save(self, path: str | Path) -> None:
        """Write the tree as one file, complete or not at all."""
        about = {"keys": len(self), "nodes": self.node_count, "depth": self.depth}
        sections.write(path, KIND, VERSION, about | {"vocabulary": self.vocabulary}, self._arrays)

    @classmethod
    def load(
        cls, path: str | Path, *, vocabulary: str | None = None, verify: bool = False
    ) -> PrefixTree:
        """Map a saved tree into memory; pages are read when they are used.

        Header, sizes and table of sections are always checked, and no damage elsewhere makes a
        call read outside the file.

        Args:
            path: a file that `save` wrote.
            vocabulary: the `vocabulary_hash` of the tokenizer in use; another one is refused.
            verify: check the checksum of every section first, which reads the whole file once.

        Raises:
            ValueError: no tree file, a damaged one, or one of another vocabulary.
        """
        file = sections.MappedFile(path, KIND, VERSION, verify=verify)
        try:
            check_sections(file)
            tree = cls(file.arrays, file.about)
            if vocabulary is not None and vocabulary != tree.vocabulary:
                raise ValueError(
                    f"{path}: the tree was built with another vocabulary "
                    f"({tree.vocabulary[:12] or 'unknown'}..., not {vocabulary[:12]}...): build "
                    "it again with this tokenizer, or use the tokenizer it was built with"
                )
        except BaseException:
            tree = None
            file.close()
            raise
        assert tree is not None
        tree._file = file
        return tree

    def close(self) -> None:
        """Let go of the file of a loaded tree; the tree is empty afterwards."""
        if self._file is None:
            return
        empty = PrefixTree.from_keys([])
        file, self._file = self._file, None
        self.__dict__.update(empty.__dict__)
        file.close()

    def __enter__(self) -> PrefixTree:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _leaves(self, edge: int) -> int:
        """How many edges before `edge` are leaves; for a leaf that is the number of its key."""
        return int(trie_vector.leaves_before(self._arrays, np.array([edge]))[0])

    def _no_node(self, node: object) -> ValueError:
        return ValueError(
            f"the tree has no node {node}, or its file is damaged: take nodes from `step` of this "
            "tree, and check the file with `bert4kexue trie verify`"
        )


def vocabulary_hash(token_dict: Mapping[str, int]) -> str:
    """A fingerprint of a vocabulary {token: id}: the same for equal dictionaries in any order."""
    digest = hashlib.sha256()
    for token, index in sorted(token_dict.items(), key=lambda item: (item[1], item[0])):
        digest.update(f"{index}\t{token}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
