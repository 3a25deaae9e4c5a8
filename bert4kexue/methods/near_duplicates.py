"""Sentences that are nearly the same, found among many: for splits that share nothing.

Two sentences are near where the sets of their character bigrams, letters folded and everything but
letters and digits left out, have a Jaccard index of 0.8 or more. Candidates come from MinHash bands
(Broder, 1997) and each is checked exactly; what is near to a near one counts as near.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Sequence

import numpy as np

_BANDS, _ROWS = 16, 4  # at 0.8 a candidate is missed with probability (1 - 0.8 ** 4) ** 16 = 0.0002


def folded(text: str) -> str:
    """Letters and digits alone, compatibility forms unified, lower case."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in text if c.isalnum()) or text.strip()


def bigrams(text: str) -> frozenset[str]:
    """Every two characters in a row of the folded text; the character itself where there is one."""
    text = folded(text)
    return frozenset(text[i : i + 2] for i in range(max(1, len(text) - 1)))


def jaccard(one: frozenset[Hashable], other: frozenset[Hashable]) -> float:
    """Shared elements over all elements; 1 for two empty sets."""
    return len(one & other) / len(one | other) if one or other else 1.0


def near_groups(sentences: Sequence[str], least: float = 0.8, seed: int = 0) -> np.ndarray:
    """(sentences,) numbers: equal where sentences are nearly the same.

    Args:
        sentences: any number.
        least: Jaccard index from which two are near.
        seed: of the hash functions.
    """
    sets = [bigrams(sentence) for sentence in sentences]
    parents = list(range(len(sets)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    for candidates in _buckets(sets, seed):
        first = candidates[0]
        for other in candidates[1:]:
            a, b = root(first), root(other)
            if a != b and jaccard(sets[first], sets[other]) >= least:
                parents[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(len(sets))], np.int64)


def _buckets(sets: list[frozenset[str]], seed: int) -> list[np.ndarray]:
    """Rows of equal band, those of two or more sentences."""
    if not sets:
        return []
    numbers: dict[str, int] = {}
    flat = np.array([numbers.setdefault(g, len(numbers)) for s in sets for g in s], np.int64)
    starts = np.cumsum([0, *(len(s) for s in sets[:-1])])
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_BANDS):
        key = np.zeros(len(sets), np.uint64)
        for _ in range(_ROWS):
            hashed = rng.integers(0, 2**62, len(numbers), dtype=np.uint64)[flat]
            lowest = np.minimum.reduceat(hashed, starts)
            key = (key * np.uint64(0x9E3779B97F4A7C15)) ^ lowest
        order = np.argsort(key, kind="stable")
        cuts = np.flatnonzero(np.diff(key[order])) + 1
        found += [rows for rows in np.split(order, cuts) if len(rows) > 1]
    return found


def pair_keys(pairs: Sequence[tuple[str, str]], groups: dict[str, int]) -> list[tuple[int, int]]:
    """What a pair is, whichever comes first: the groups of its sentences in order."""
    keys = [(groups[a], groups[b]) for a, b in pairs]
    return [(min(key), max(key)) for key in keys]
