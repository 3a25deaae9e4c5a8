"""Semantic textual similarity in the posts' protocol: Spearman of cosines and scores, set by set.

Sentences are encoded once each; the cosine of a pair is compared by rank with its score, set by set
and never pooled; the five Chinese sets are ATEC, BQ, LCQMC, PAWSX and STS-B (kexue.fm/archives/8541
reports the test split alone; 8454 and 8321 all splits together: the two do not compare). The
interval is a percentile bootstrap over pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bert4kexue.methods.similarity_data import ScoredPair

Encode = Callable[[list[str]], np.ndarray]


class StsScore(NamedTuple):
    """Spearman's correlation with its interval."""

    spearman: float
    low: float
    high: float
    pairs: int


def ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """(n,) ranks from 1; equal values share the mean of theirs."""
    values = np.asarray(values, np.float64)
    ordered = np.sort(values)
    left = np.searchsorted(ordered, values, side="left")
    right = np.searchsorted(ordered, values, side="right")
    return (left + right + 1) / 2


def spearman(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> float:
    """Correlation of the ranks.

    Raises:
        ValueError: different lengths, fewer than two values, NaN, or one side without any
            difference: the correlation does not exist.
    """
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(
            f"a correlation is of two rows of the same two or more values, got {a.shape} and "
            f"{b.shape}"
        )
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("a value is NaN: its rank does not exist; find what computed it")
    for name, values in (("first", a), ("second", b)):
        if (values == values[0]).all():
            raise ValueError(
                f"all {len(a)} values of the {name} row are {values[0]:g}: without differences "
                "Spearman's correlation does not exist (vectors that collapsed, or a file of one "
                "label)"
            )
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def bootstrap_interval(
    one: Sequence[float] | np.ndarray,
    other: Sequence[float] | np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentiles of Spearman's correlation over pairs drawn with replacement.

    Args:
        one, other: values by pair.
        confidence: share of the resamples inside.
        resamples: how many; those without any difference on a side are left out.
        seed: of the draws.
    """
    if not 0 < confidence < 1 or resamples < 2:
        raise ValueError(
            f"confidence lies between 0 and 1 and resamples is 2 or more, got {confidence} and "
            f"{resamples}"
        )
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        rows = rng.integers(0, len(a), len(a))
        x, y = a[rows], b[rows]
        if (x != x[0]).any() and (y != y[0]).any():
            found.append(np.corrcoef(ranks(x), ranks(y))[0, 1])
    if not found:
        raise ValueError("no resample has two different values: there is no interval")
    edges = np.percentile(found, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(edges[0]), float(edges[1])


def cosines_of(encode: Encode, pairs: Sequence[ScoredPair]) -> np.ndarray:
    """(pairs,) cosines; each sentence is encoded once."""
    texts = list(dict.fromkeys(x for pair in pairs for x in pair[:2]))
    vectors = np.asarray(encode(texts), np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    row = {text: i for i, text in enumerate(texts)}
    first = vectors[[row[pair.first] for pair in pairs]]
    second = vectors[[row[pair.second] for pair in pairs]]
    return np.einsum("ij,ij->i", first, second)


def evaluate_sts(
    encode: Encode,
    sets: Mapping[str, Sequence[ScoredPair]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, StsScore]:
    """Spearman of every set, with a 95 % bootstrap interval.

    Args:
        encode: sentences to vectors (sentences, d) of any length: `SentenceEncoder.encode`, say.
        sets: rows by name.
        resamples, seed: of the interval.

    Raises:
        ValueError: a set without differences in its scores or in the model's cosines.
    """
    found = {}
    for name, pairs in sets.items():
        cosines = cosines_of(encode, pairs)
        scores = [pair.score for pair in pairs]
        try:
            value = spearman(cosines, scores)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        low, high = bootstrap_interval(cosines, scores, resamples=resamples, seed=seed)
        found[name] = StsScore(value, low, high, len(pairs))
    return found
