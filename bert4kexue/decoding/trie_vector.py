"""Many nodes of a prefix tree at once: their edges, the whole tree as arrays, keys in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from bert4kexue.decoding.trie_build import DIRECTORY, LEAF

TAIL = 2**32
PLACE = TAIL - 1


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


class Children(NamedTuple):
    """The edges of several nodes, ragged: those of the first node, then those of the next."""

    counts: np.ndarray
    """(nodes,) edges of each node."""
    tokens: np.ndarray
    """(edges,) int32, ascending within a node."""
    nodes: np.ndarray
    """(edges,) int64, where the edges lead."""


class Edges(NamedTuple):
    """`Children` with the ends of keys among them."""

    rows: np.ndarray  # (edges,) which of the nodes
    ranks: np.ndarray  # (edges,) 0 where a key ends
    nodes: np.ndarray  # (edges,) where they lead; for rank 0 the edge of the key


def edges_of(arrays: Mapping[str, np.ndarray], nodes: np.ndarray) -> Edges:
    """All edges of (b,) nodes; a node of -1 has none.

    Raises:
        IndexError: a node that the tree does not have.
    """
    in_tail, absent = nodes >= TAIL, nodes < 0
    inner = np.where(in_tail | absent, 0, nodes)
    firsts = arrays["offsets"][inner].astype(np.int64)
    counts = arrays["offsets"][inner + 1] - firsts
    counts[in_tail], counts[absent] = 1, 0
    if len(nodes) and not (
        counts.min() >= 0 and (firsts + counts).max() <= len(arrays["ranks"]) + 1
    ):
        raise IndexError("a damaged offset")
    rows = np.repeat(np.arange(len(nodes)), counts)
    edges = np.arange(len(rows)) + (firsts - np.cumsum(counts) + counts)[rows]
    from_tail = in_tail[rows]
    ranks = np.empty(len(rows), np.int64)
    targets = np.empty(len(rows), np.int64)
    outer = edges[~from_tail]
    ranks[~from_tail] = arrays["ranks"][outer]
    found = arrays["targets"][outer].astype(np.int64)
    leaf = found >= LEAF
    found[leaf] += ((outer[leaf] + 1) << 32) - LEAF
    targets[~from_tail] = found
    ranks[from_tail] = arrays["tails"][nodes[in_tail] & PLACE]
    targets[from_tail] = nodes[in_tail] + 1
    return Edges(rows, ranks, targets)


def children(arrays: Mapping[str, np.ndarray], nodes: np.ndarray) -> Children:
    """The edges that carry a token."""
    rows, ranks, targets = edges_of(arrays, nodes)
    real = ranks != 0
    counts = np.bincount(rows[real], minlength=len(nodes))
    return Children(counts, arrays["ids"][ranks[real]], targets[real])


def are_keys(arrays: Mapping[str, np.ndarray], nodes: np.ndarray) -> np.ndarray:
    """Whether a key ends at each of (b,) nodes; none does at -1."""
    result = np.zeros(len(nodes), bool)
    in_tail = nodes >= TAIL
    result[in_tail] = arrays["tails"][nodes[in_tail] & PLACE] == 0
    inner = np.flatnonzero((nodes >= 0) & ~in_tail)
    firsts, lasts = arrays["offsets"][nodes[inner]], arrays["offsets"][nodes[inner] + 1]
    some = firsts < lasts
    result[inner[some]] = arrays["ranks"][firsts[some]] == 0
    return result


def leaves_before(arrays: Mapping[str, np.ndarray], edges: np.ndarray) -> np.ndarray:
    """How many edges before each of (n,) edges are leaves: for a leaf, the number of its key."""
    blocks = edges // DIRECTORY
    places = blocks[:, None] * DIRECTORY + np.arange(DIRECTORY)
    targets = arrays["targets"]
    inner = targets[np.minimum(places, max(len(targets) - 1, 0))] < LEAF
    inner &= places < edges[:, None]
    return edges - arrays["inner"][blocks] - inner.sum(axis=1)


def as_arrays(arrays: Mapping[str, np.ndarray], depth: int) -> TreeArrays:
    """The whole tree with its tails written out."""
    level = np.zeros(1, np.int64)
    counts, tokens = [], [np.zeros(0, np.int32)]
    ends, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    first = 0
    for _ in range(depth + 1):
        rows, ranks, targets = edges_of(arrays, level)
        end = ranks == 0
        ends.append(first + rows[end])
        keys.append(leaves_before(arrays, (targets[end] >> 32) - 1))
        counts.append(np.bincount(rows[~end], minlength=len(level)))
        tokens.append(arrays["ids"][ranks[~end]])
        first += len(level)
        level = targets[~end]
    offsets = np.zeros(first + 1, np.int32)
    np.cumsum(np.concatenate(counts), out=offsets[1:])
    every = (tokens, ends, keys)
    return TreeArrays(offsets, *(np.concatenate(each).astype(np.int32) for each in every))


def key_blocks(
    arrays: Mapping[str, np.ndarray], depth: int, width: int = 2**17
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All keys, some at a time: (tokens laid end to end, lengths, numbers of the keys).

    A wide level is divided, so that at most some times `width` keys are in memory.
    """
    pending = [(np.zeros(1, np.int64), np.zeros((1, 0), np.int32))]
    while pending:
        nodes, paths = pending.pop()
        if paths.shape[1] > depth:
            raise ValueError("the tree's edges go deeper than its depth: its file is damaged")
        rows, ranks, targets = edges_of(arrays, nodes)
        end = ranks == 0
        if end.any():
            done = paths[rows[end]]
            numbers = leaves_before(arrays, (targets[end] >> 32) - 1)
            yield done.reshape(-1), np.full(len(done), done.shape[1], np.int64), numbers
        nodes = targets[~end]
        tokens = arrays["ids"][ranks[~end]]
        paths = np.concatenate([paths[rows[~end]], tokens[:, None]], axis=1)
        pending += [
            (nodes[place : place + width], paths[place : place + width])
            for place in range(0, len(nodes), width)
        ]
