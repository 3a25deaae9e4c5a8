"""The arrays of a compact prefix tree from all its keys at once, by sorting integers.

A key is distinguished from all others by a beginning of it; what follows, its *tail*, branches no
more. Only beginnings become nodes and edges, level by level. The tails go to one pool, equal tails
once: many subjects have the same predicate, and so the same end of the key.

    ids      (ranks,)     token ids; rank 0 stands for the end of a key, its id is -1
    offsets  (nodes + 1,) the edges of a node are ``offsets[node]:offsets[node + 1]``
    ranks    (edges,)     the token on an edge, as rank, ascending within a node
    targets  (edges,)     the node an edge leads to, or LEAF + the place of a tail in the pool
    tails    (pool,)      ranks; each tail ends with rank 0
    inner    (blocks,)    how many edges before each 64th lead to a node

A key that ends at a node with further keys below has an edge of rank 0 there. So each key has one
edge of its own, a leaf; the number of the key is the number of leaves before it. Edges that lead to
nodes lead to nodes 1, 2, 3 ... in their order (0 is the root).
"""

from __future__ import annotations

import numpy as np

from bert4kexue.decoding.trie_rows import blocks, first_equal, gather

MAX_TOKEN = 2**20
LEAF = 2**31
MAX_EDGES = 2**29
DIRECTORY = 64


class Plan:
    """What `build_arrays` found out: arrays for the tree, and which key each given one became."""

    def __init__(
        self, arrays: dict[str, np.ndarray], numbers: np.ndarray, nodes: int, depth: int
    ) -> None:
        self.arrays, self.numbers, self.nodes, self.depth = arrays, numbers, nodes, depth


def build_arrays(tokens: np.ndarray, starts: np.ndarray) -> Plan:
    """The tree of keys ``tokens[starts[i]:starts[i + 1]]``, in any order, duplicates allowed.

    Memory: about 100 bytes a key and 2 (4 with more than 65,534 different tokens) a token, beside
    the arguments, which may be memory maps.

    Raises:
        ValueError: an id out of range, or too many keys for the format.
    """
    starts = np.asarray(starts, np.int64)
    ids, ranks_of = _rank_tokens(tokens)
    count = len(starts) - 1
    lengths = np.diff(starts)
    begins = starts[:-1] + np.arange(count)  # in `flat`, where an end follows each key
    flat = _with_ends(tokens, starts, ranks_of)
    same = first_equal(flat, begins, lengths)
    kept = np.flatnonzero(same == np.arange(count))

    shape = _levels(flat, begins, kept, max(1, len(ids) - 1).bit_length())
    offsets, ranks, targets, leaf_keys, leaf_depths = shape
    if len(ranks) >= MAX_EDGES:
        raise ValueError(
            f"a tree holds fewer than {MAX_EDGES} edges, these {count} keys need {len(ranks)}: "
            "split them into several trees"
        )
    leaves = np.flatnonzero(targets == LEAF)
    # An edge of rank 0 consumes nothing: its tail is the end itself.
    consumed = leaf_depths + (ranks[leaves] != 0)
    tails, places = _pool(flat, begins[leaf_keys] + consumed, lengths[leaf_keys] + 1 - consumed)
    targets[leaves] += places
    numbers = np.empty(count, np.int32)
    numbers[leaf_keys] = np.arange(len(leaf_keys), dtype=np.int32)
    numbers = numbers[same]
    rest = lengths[leaf_keys] - leaf_depths  # nodes of a key that no other key shares
    arrays = {
        "ids": ids,
        "offsets": offsets,
        "ranks": ranks,
        "targets": targets,
        "tails": tails,
        "inner": _directory(targets),
    }
    nodes = len(offsets) - 1 + int(rest.sum())
    return Plan(arrays, numbers, nodes, int(lengths.max(initial=0)))


def _rank_tokens(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids by rank, and ranks by id."""
    used = np.zeros(MAX_TOKEN + 1, bool)
    for block in blocks(len(tokens)):
        part = tokens[block]
        low, high = int(part.min()), int(part.max())
        if low < 0 or high > MAX_TOKEN:
            raise ValueError(
                f"token ids of a key must be 0 to {MAX_TOKEN}, got {low} to {high}: pass ids of a "
                "tokenizer"
            )
        used[part] = True
    ids = np.concatenate([[-1], np.flatnonzero(used)]).astype(np.int32)
    dtype = np.uint16 if len(ids) <= 2**16 else np.uint32
    ranks_of = np.zeros(MAX_TOKEN + 1, dtype)
    ranks_of[ids[1:]] = np.arange(1, len(ids))
    return ids, ranks_of


def _with_ends(tokens: np.ndarray, starts: np.ndarray, ranks_of: np.ndarray) -> np.ndarray:
    """The ranks of all keys with a 0 after each key, and some more zeros at the end."""
    count = len(starts) - 1
    flat = np.zeros(int(starts[-1] - starts[0]) + count + 8, ranks_of.dtype)
    for block in blocks(count):
        bounds = starts[block.start : block.stop + 1]
        part = ranks_of.take(tokens[bounds[0] : bounds[-1]])
        where = np.repeat(np.arange(block.start, block.stop), np.diff(bounds))
        where += np.arange(bounds[0], bounds[-1])
        flat[where] = part
    return flat


def _levels(
    flat: np.ndarray, begins: np.ndarray, active: np.ndarray, bits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, ranks, targets (LEAF at each leaf), and the keys and depths of the leaves.

    `active` are the different keys that are not alone yet; ``parent << bits | rank`` sorts the
    edges of a level by parent first, and its different values are the edges in their final order.
    """
    ranks, targets, degrees, leaf_keys, leaf_depths = ([] for _ in range(5))
    mask = (1 << bits) - 1
    parents = np.zeros(len(active), np.int64)
    width, next_node, depth = 1, 1, 0
    while width:
        codes = parents << bits
        codes |= flat.take(begins[active] + depth)
        if not (codes[1:] >= codes[:-1]).all():
            codes, active = _sorted(codes, active, flat, begins, depth, width, bits)
        firsts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]])[: len(codes)])
        sizes = np.diff(firsts, append=len(codes))
        codes = codes[firsts]
        ranks.append((codes & mask).astype(flat.dtype))
        degrees.append(np.bincount(codes >> bits, minlength=width).astype(np.uint32))
        shared = sizes > 1
        alone = active[firsts[~shared]]
        leaf_keys.append(alone)
        leaf_depths.append(np.full(len(alone), depth, np.int32))
        nodes = np.cumsum(shared)
        targets.append(np.where(shared, next_node - 1 + nodes, LEAF).astype(np.uint32))
        sizes[~shared] = 0
        active = active[np.repeat(shared, np.diff(firsts, append=len(active)))]
        parents = np.repeat(nodes - 1, sizes)
        width = int(nodes[-1]) if len(nodes) else 0
        next_node, depth = next_node + width, depth + 1
    offsets = np.zeros(next_node + 1, np.uint32)
    np.cumsum(np.concatenate(degrees), out=offsets[1:])
    parts = (ranks, targets, leaf_keys, leaf_depths)
    return offsets, *(np.concatenate(part) for part in parts)  # type: ignore[return-value]


def _sorted(
    codes: np.ndarray,
    active: np.ndarray,
    flat: np.ndarray,
    begins: np.ndarray,
    depth: int,
    width: int,
    bits: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Codes and keys in order, by as many further ranks as fit, so that next levels are sorted.

    A key that has ended is read beyond its end: it is alone then, and its place the same.
    """
    more = (63 - width.bit_length() - bits) // bits
    for further in range(1, more + 1):
        codes <<= bits
        codes |= flat.take(begins[active] + (depth + further), mode="clip")
    order = np.argsort(codes)
    active = active[order]
    codes = codes[order]
    codes >>= bits * max(more, 0)
    return codes, active


def _pool(
    flat: np.ndarray, begins: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """All different tails laid end to end, and the place of each leaf's."""
    same = first_equal(flat, begins, lengths)
    kept = np.flatnonzero(same == np.arange(len(same)))
    tails = gather(flat, begins[kept], lengths[kept])
    if len(tails) >= LEAF:
        raise ValueError(
            f"tails of the keys need {len(tails)} tokens, fewer than {LEAF} fit: split the keys "
            "into several trees"
        )
    places = np.empty(len(same), np.uint32)
    places[kept] = np.cumsum(lengths[kept]) - lengths[kept]
    return tails, places[same]


def _directory(targets: np.ndarray) -> np.ndarray:
    """How many edges before each 64th lead to a node."""
    padded = -(-len(targets) // DIRECTORY) * DIRECTORY
    inner = np.zeros(padded, np.uint8)
    inner[: len(targets)] = targets < LEAF
    counts = inner.reshape(-1, DIRECTORY).sum(axis=1, dtype=np.uint32)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
