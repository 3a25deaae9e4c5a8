"""A set of token sequences as a compact prefix tree, with strings attached to its keys.

The tree is two flat arrays. Its nodes are numbered level by level, the root is 0, and the children
of one node follow each other, sorted by token. So the edge that leads to node ``i + 1`` is edge
``i``, and a node needs one number only, where its edges begin:

    ``offsets[node] : offsets[node + 1]``   the edges of a node
    ``tokens[edge]``                        the token on an edge, which leads to node ``edge + 1``

Two consequences carry everything else. A tree is built one level at a time by sorting integers,
without a Python object per node. And on each level the descendants of a node are one interval of
nodes, so keys below a prefix are counted without visiting them.

A key must carry its own terminator where one key may begin with another and both are to be decoded
(`S [SEP] P [SEP] M [SEP]`, not `S [SEP] P [SEP] M`): a decoder stops at the terminator and would
otherwise never choose between stopping and going on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert4kexue.decoding import sections

KIND = b"B4KTREE\n"
VERSION = 1
ABSENT = -1
MAX_TOKEN = 2**31 - 1


class TreeArrays(NamedTuple):
    """A tree as plain arrays, nodes numbered breadth-first: edge ``i`` leads to node i + 1."""

    offsets: np.ndarray
    """(nodes + 1,) int32: the edges of node ``i`` are ``offsets[i]:offsets[i + 1]``."""
    tokens: np.ndarray
    """(edges,) int32: the token on an edge; ascending within a node."""
    ends: np.ndarray
    """(keys,) int32: the nodes where a key ends, ascending."""
    keys: np.ndarray
    """(keys,) int32: which key ends there, as a number for `PrefixTree.values_of`."""


class PrefixTree:
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
    """

    root = 0

    def __init__(self, arrays: Mapping[str, np.ndarray], vocabulary: str = "") -> None:
        self.vocabulary = vocabulary
        self._arrays = dict(arrays)
        self._tokens = arrays["tokens"]  # (edges,)
        self._offsets = arrays["offsets"]  # (nodes + 1,)
        self._ends = arrays["ends"]  # (keys,) nodes where a key ends, ascending
        self._value_offsets = arrays["value_offsets"]  # (keys + 1,) into the values
        self._text_offsets = arrays["text_offsets"]  # (values + 1,) into the bytes
        self._text = arrays["text"]  # (bytes,) UTF-8
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
            keys: token id sequences, in any order; duplicates are one key. Ids are 0 to 2^31 - 1.
            values: one string per given key. Duplicated keys gather theirs, in the order given.
            vocabulary: what `vocabulary_hash` says of the vocabulary behind the ids.

        Raises:
            ValueError: an id out of range, or another number of values than of keys.
        """
        keys = list(keys)
        lengths = np.fromiter((len(key) for key in keys), np.int64, len(keys))
        flat = np.fromiter(chain.from_iterable(keys), np.int64, int(lengths.sum()))
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return cls.from_arrays(flat, starts, values, vocabulary=vocabulary)

    @classmethod
    def from_arrays(
        cls,
        tokens: np.ndarray,
        starts: np.ndarray,
        values: Sequence[str] | None = None,
        *,
        vocabulary: str = "",
    ) -> PrefixTree:
        """`from_keys` for keys laid end to end: key ``i`` is ``tokens[starts[i]:starts[i + 1]]``.

        Fastest when the keys are sorted; correct in any order.
        """
        tokens, starts = np.asarray(tokens, np.int64), np.asarray(starts, np.int64)
        if tokens.size and not (tokens.min() >= 0 and tokens.max() <= MAX_TOKEN):
            raise ValueError(
                f"token ids of a key must be 0 to {MAX_TOKEN}, got {tokens.min()} to "
                f"{tokens.max()}: pass ids of a tokenizer"
            )
        count = len(starts) - 1
        if values is not None and len(values) != count:
            raise ValueError(
                f"one value per key is needed, got {len(values)} values for {count} keys: repeat "
                "a key for each further value"
            )
        edges, offsets, end_of_key = _build_levels(tokens, starts)
        ends = np.unique(end_of_key)
        arrays = {
            "tokens": edges.astype(np.int32),
            "offsets": _narrow(offsets),
            "ends": _narrow(ends),
            **_value_arrays(np.searchsorted(ends, end_of_key), len(ends), values),
        }
        return cls(arrays, vocabulary)

    def __len__(self) -> int:
        """The number of different keys."""
        return len(self._ends)

    @property
    def node_count(self) -> int:
        """The number of nodes, the root included."""
        return len(self._offsets) - 1

    @property
    def depth(self) -> int:
        """The length of the longest key."""
        first, last, depth = 0, 1, -1
        while first < last:
            first, last = int(self._offsets[first]) + 1, int(self._offsets[last]) + 1
            depth += 1
        return depth

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """All keys in lexicographic order."""
        return self._walk(self.root)

    def allowed(self, node: int) -> np.ndarray:
        """The tokens that may follow at `node`, ascending: a read-only view, (children,) int32."""
        return self._tokens[self._offsets[node] : self._offsets[node + 1]]

    def step(self, node: int, token: int) -> int:
        """The node reached from `node` by `token`, or -1 where there is none."""
        tokens = self.allowed(node)
        if not 0 <= token <= MAX_TOKEN:
            return ABSENT
        place = _place(tokens, token)
        if place == len(tokens) or tokens[place] != token:
            return ABSENT
        return int(self._offsets[node]) + place + 1

    def find(self, prefix: Sequence[int]) -> int:
        """The node of a prefix, or -1 where no key begins with it."""
        node = self.root
        for token in prefix:
            node = self.step(node, token)
            if node == ABSENT:
                break
        return node

    def is_key(self, node: int) -> bool:
        """Whether a key ends at `node`."""
        return self._rank(node) != ABSENT

    def contains(self, key: Sequence[int]) -> bool:
        """Whether `key` is one of the keys (not only the beginning of one)."""
        node = self.find(key)
        return node != ABSENT and self.is_key(node)

    __contains__ = contains

    def count(self, node: int = root) -> int:
        """The number of keys at and below `node`; takes one search per level, visits no node."""
        first, last, total = node, node + 1, 0
        while first < last:
            total += _place(self._ends, last) - _place(self._ends, first)
            first, last = int(self._offsets[first]) + 1, int(self._offsets[last]) + 1
        return total

    def completions(self, node: int = root, limit: int | None = None) -> list[tuple[int, ...]]:
        """What may follow `node` up to the end of a key, in lexicographic order, `limit` at most.

        The empty tuple stands for the key that ends at `node` itself.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be 0 or more, or None for all, got {limit}")
        found: list = []
        walk = self._walk(node)
        while limit is None or len(found) < limit:
            suffix = next(walk, None)
            if suffix is None:
                break
            found.append(suffix)
        return found

    def values(self, node: int) -> list[str]:
        """The strings of the key that ends at `node`; none where no key ends there."""
        rank = self._rank(node)
        return [] if rank == ABSENT else self.values_of(rank)

    def values_of(self, rank: int) -> list[str]:
        """The strings of key number `rank`, 0 to ``len(tree) - 1`` (`TreeArrays.keys`)."""
        if not 0 <= rank < len(self):
            raise ValueError(f"keys are numbered 0 to {len(self) - 1}, got {rank}")
        first, last = int(self._value_offsets[rank]), int(self._value_offsets[rank + 1])
        bounds = self._text_offsets[first : last + 1].tolist()
        return [self._text[begin:end].tobytes().decode("utf-8") for begin, end in pairwise(bounds)]

    def as_arrays(self) -> TreeArrays:
        """The whole tree as plain arrays, for trees that a graph should hold."""
        keys = np.arange(len(self), dtype=np.int32)
        ends = self._ends.astype(np.int32, copy=False)
        return TreeArrays(self._offsets.astype(np.int32, copy=False), self._tokens, ends, keys)

    def save(self, path: str | Path) -> None:
        """Write the tree as one file, complete or not at all."""
        about = {"vocabulary": self.vocabulary}
        sections.write(path, KIND, VERSION, about, self._arrays)

    @classmethod
    def load(
        cls, path: str | Path, *, vocabulary: str | None = None, verify: bool = True
    ) -> PrefixTree:
        """Map a saved tree into memory; pages are read when they are used.

        Args:
            path: a file that `save` wrote.
            vocabulary: the `vocabulary_hash` of the tokenizer in use; another one is refused.
            verify: check the checksum of every section first, which reads the whole file once.

        Raises:
            ValueError: no tree file, a damaged one, or one of another vocabulary.
        """
        file = sections.MappedFile(path, KIND, VERSION, verify=verify)
        try:
            tree = cls(file.arrays, file.about.get("vocabulary", ""))
            tree._check(path)
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

    def _rank(self, node: int) -> int:
        """The place among the keys (by node) of the key that ends at `node`."""
        rank = _place(self._ends, node)
        return rank if rank < len(self._ends) and self._ends[rank] == node else ABSENT

    def _walk(self, node: int) -> Iterator[tuple[int, ...]]:
        path: list[int] = []
        if self.is_key(node):
            yield ()
        pending = [(int(self._offsets[node]), int(self._offsets[node + 1]))]
        while pending:
            edge, last = pending.pop()
            if edge == last:
                if pending:
                    path.pop()
                continue
            pending.append((edge + 1, last))
            path.append(int(self._tokens[edge]))
            if self.is_key(edge + 1):
                yield tuple(path)
            pending.append((int(self._offsets[edge + 1]), int(self._offsets[edge + 2])))

    def _check(self, path: str | Path) -> None:
        ends_at = {
            "offsets": (self._offsets, len(self._tokens)),
            "value_offsets": (self._value_offsets, len(self._text_offsets) - 1),
            "text_offsets": (self._text_offsets, len(self._text)),
        }
        for name, (array, last) in ends_at.items():
            if len(array) == 0 or array[0] != 0 or array[-1] != last:
                raise ValueError(
                    f"{path}: section {name!r} of the tree does not fit the others: write the "
                    "file again"
                )
        if len(self._offsets) != len(self._tokens) + 2 or len(self._value_offsets) != len(self) + 1:
            raise ValueError(f"{path}: the tree's sections differ in size: write the file again")


def vocabulary_hash(token_dict: Mapping[str, int]) -> str:
    """A fingerprint of a vocabulary {token: id}: the same for equal dictionaries in any order."""
    digest = hashlib.sha256()
    for token, index in sorted(token_dict.items(), key=lambda item: (item[1], item[0])):
        digest.update(f"{index}\t{token}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _build_levels(
    tokens: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges, offsets and the end node of each key, one level of the tree at a time.

    The key ``parent * span + token`` sorts the edges of a level by parent first; its different
    values are the level's edges in their final order.
    """
    lengths = np.diff(starts)
    end_of_key = np.zeros(len(lengths), np.int64)
    span = int(tokens.max()) + 1 if tokens.size else 1
    active = np.flatnonzero(lengths > 0)  # the keys that reach this level
    parents = np.zeros(len(active), np.int64)  # their nodes, counted within the level above
    first, width, depth = 0, 1, 0  # the level above: its first node, its number of nodes
    edges, child_counts = [], []
    while width:
        codes = parents * span + tokens[starts[active] + depth]
        if not (codes[1:] >= codes[:-1]).all():
            order = np.argsort(codes, kind="stable")
            codes, active = codes[order], active[order]
        fresh = np.ones(len(codes), bool)
        fresh[1:] = codes[1:] != codes[:-1]
        level = codes[fresh]
        edges.append(level % span)
        child_counts.append(np.bincount(level // span, minlength=width))
        first, width, depth = first + width, len(level), depth + 1
        nodes = np.cumsum(fresh) - 1
        ended = lengths[active] == depth
        end_of_key[active[ended]] = first + nodes[ended]
        active, parents = active[~ended], nodes[~ended]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(child_counts))])
    return np.concatenate(edges), offsets, end_of_key


def _value_arrays(
    ranks: np.ndarray, key_count: int, values: Sequence[str] | None
) -> dict[str, np.ndarray]:
    """Values laid end to end as UTF-8, those of one key together and in the order given."""
    if values is None:
        ranks, values = ranks[:0], []
    order = np.argsort(ranks, kind="stable")
    encoded = [values[i].encode("utf-8") for i in order]
    sizes = np.fromiter((len(text) for text in encoded), np.int64, len(encoded))
    per_key = np.bincount(ranks, minlength=key_count)
    return {
        "value_offsets": _narrow(np.concatenate([[0], np.cumsum(per_key)])),
        "text_offsets": _narrow(np.concatenate([[0], np.cumsum(sizes)])),
        "text": np.frombuffer(b"".join(encoded), np.uint8),
    }


def _place(ascending: np.ndarray, number: int) -> int:
    """Where `number` stands; asked in the array's own dtype, or NumPy would copy the array."""
    return int(ascending.searchsorted(ascending.dtype.type(number)))


def _narrow(numbers: np.ndarray) -> np.ndarray:
    """Four bytes a number where they suffice."""
    fits = numbers.size == 0 or numbers.max() < 2**31
    return numbers.astype(np.int32 if fits else np.int64)
