"""Ragged rows of integers laid end to end: which are equal, and picking some of them.

Rows are given by where they begin in a flat array and by their length, so they may overlap and
stand in any order. Work goes in blocks, and memory beyond the result stays small.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 1 << 21
_ODD = 0x9E3779B97F4A7C15
_SPREAD = 0xD6E8FEB86659FD93


def first_equal(flat: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The number of the first row that equals each row, (rows,) int64.

    Rows are sorted by a 64-bit hash and compared with the first of the same hash. Where two
    different rows share a hash, it is drawn anew.
    """
    for attempt in range(8):
        found = _first_of_same_hash(flat, begins, lengths, _ODD + 2 * attempt)
        if _all_equal(flat, begins, lengths, found):
            return found
    raise AssertionError("eight hash functions of 64 bits collided")


def gather(flat: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The rows one after the other, (sum of lengths,)."""
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    result = np.empty(total, flat.dtype)
    for block in blocks(len(begins)):
        first = int(ends[block.start - 1]) if block.start else 0
        shift = begins[block] - (ends[block] - lengths[block])
        places = np.repeat(shift, lengths[block])
        last = first + len(places)
        places += np.arange(first, last)
        flat.take(places, out=result[first:last], mode="clip")
    return result


def blocks(count: int) -> Iterator[slice]:
    """Slices that cover ``0:count``."""
    return (slice(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK))


def _first_of_same_hash(
    flat: np.ndarray, begins: np.ndarray, lengths: np.ndarray, factor: int
) -> np.ndarray:
    hashes = np.empty(len(begins), np.uint64)
    for block in blocks(len(begins)):
        hashes[block] = _hash(flat, begins[block], lengths[block], np.uint64(factor))
    order = np.argsort(hashes)
    hashes = hashes[order]
    starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]])[: len(hashes)])
    del hashes
    found = np.empty(len(begins), np.int64)
    if len(begins):
        sizes = np.diff(np.append(starts, len(order)))
        found[order] = np.repeat(np.minimum.reduceat(order, starts), sizes)
    return found


def _hash(
    flat: np.ndarray, begins: np.ndarray, lengths: np.ndarray, factor: np.uint64
) -> np.ndarray:
    """A hash of each row: multiply and fold, one column of all rows at a time."""
    order = np.argsort(-lengths, kind="stable")  # rows that reach a column are a leading part
    begins = begins[order]
    reach = np.searchsorted(-lengths[order], -np.arange(int(lengths.max(initial=0))), "left")
    # High bits from the start: a token, which has low ones, cannot make the state 0.
    state = (lengths[order].astype(np.uint64) + np.uint64(1)) * np.uint64(_SPREAD)
    for column, rows in enumerate(reach.tolist()):
        part = state[:rows]
        part ^= flat.take(begins[:rows] + column)
        part *= factor
        part ^= part >> np.uint64(29)
    result = np.empty_like(state)
    result[order] = state * factor
    return result


def _all_equal(
    flat: np.ndarray, begins: np.ndarray, lengths: np.ndarray, found: np.ndarray
) -> bool:
    for block in blocks(len(begins)):
        rows = np.flatnonzero(found[block] != np.arange(block.start, block.stop)) + block.start
        same = found[rows]
        if not np.array_equal(lengths[rows], lengths[same]):
            return False
        mine, theirs = begins[rows], begins[same]
        if not np.array_equal(
            gather(flat, mine, lengths[rows]), gather(flat, theirs, lengths[rows])
        ):
            return False
    return True
