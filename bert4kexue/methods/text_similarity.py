"""Similarity of strings without any model: what a model has to beat."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from bert4kexue.methods.near_duplicates import jaccard


def character_jaccard(pairs: Sequence[Sequence[Any]]) -> np.ndarray:
    """(pairs,) shared characters over all characters."""
    return np.array([jaccard(frozenset(row[0]), frozenset(row[1])) for row in pairs])


def tfidf_cosines(
    pairs: Sequence[Sequence[Any]], corpus: Sequence[str], sizes: Sequence[int] = (1, 2)
) -> np.ndarray:
    """(pairs,) cosines of character n-grams, each by count times ln((N + 1) / (n + 1)) + 1.

    Args:
        pairs: two texts each.
        corpus: texts whose document frequencies weigh the n-grams.
        sizes: of the n-grams.
    """

    def grams(text: str) -> Counter[str]:
        return Counter(text[i : i + n] for n in sizes for i in range(len(text) - n + 1))

    documents: Counter[str] = Counter()
    for text in corpus:
        documents.update(set(grams(text)))

    def vector(text: str) -> dict[str, float]:
        found = {
            g: count * (math.log((len(corpus) + 1) / (documents[g] + 1)) + 1)
            for g, count in grams(text).items()
        }
        norm = math.sqrt(sum(x * x for x in found.values())) or 1.0
        return {g: x / norm for g, x in found.items()}

    cosines = []
    for row in pairs:
        a, b = vector(row[0]), vector(row[1])
        cosines.append(sum(x * b[g] for g, x in a.items() if g in b))
    return np.array(cosines)
