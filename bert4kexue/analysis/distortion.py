"""What a projection did to distances and inner products, and how few dimensions would have done.

The lemma's dimension is safe for every set of vectors; a given set often needs far fewer. N
vectors of size m, n dimensions, p pairs.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from bert4kexue.analysis.johnson_lindenstrauss import jl_dim
from bert4kexue.analysis.projections import (
    Kind,
    check_vectors,
    padded_size,
    project,
    projection_matrix,
)


@dataclasses.dataclass(frozen=True)
class Distortion:
    """Over pairs of vectors, before and after.

    Attributes:
        pairs: how many were compared.
        duplicates: pairs at distance 0, whose ratio is undefined; they are left out.
        lowest, highest: the least and the largest ratio of squared distances.
        failing: the share of ratios outside [1 - eps, 1 + eps].
        inner_product: the largest |<u', v'> - <u, v>| in units of (|u|^2 + |v|^2) / 2.
        failing_inner: the share of pairs where that exceeds eps.
        eps: the eps of the report.
    """

    pairs: int
    duplicates: int
    lowest: float
    highest: float
    failing: float
    inner_product: float
    failing_inner: float
    eps: float

    @property
    def holds(self) -> bool:
        """Every distance kept its bound."""
        return self.failing == 0


def distortion_report(
    vectors: np.ndarray,
    projected: np.ndarray,
    eps: float,
    pairs: int = 200_000,
    seed: int = 0,
) -> Distortion:
    """Compare vectors (N, m) with their projections (N, n).

    Args:
        vectors: before.
        projected: after, row by row.
        eps: what is allowed, in (0, 1).
        pairs: the most pairs that are looked at; more are sampled.
        seed: of the sample.

    Raises:
        ValueError: NaN, different numbers of rows, fewer than 2, eps outside (0, 1), or vectors
            that are all equal.
    """
    before, after = check_vectors(vectors), check_vectors(projected)
    if len(before) != len(after):
        raise ValueError(f"{len(before)} vectors and {len(after)} projections: give them in pairs")
    jl_dim(len(before), eps)  # refuses N < 2 and eps
    i, j = sample_pairs(len(before), pairs, seed)
    old, new = squared_distances(before, i, j), squared_distances(after, i, j)
    apart = old > 0
    if not apart.any():
        raise ValueError("all vectors are equal: no ratio of distances is defined")
    ratio = new[apart] / old[apart]
    squares = (before.astype(np.float64) ** 2).sum(1)
    scale = (squares[i] + squares[j]) / 2
    moved = np.abs(_products(after, i, j) - _products(before, i, j))
    relative = moved[scale > 0] / scale[scale > 0]
    return Distortion(
        len(i),
        int((~apart).sum()),
        float(ratio.min()),
        float(ratio.max()),
        float((np.abs(ratio - 1) > eps).mean()),
        float(relative.max()),
        float((relative > eps).mean()),
        eps,
    )


@dataclasses.dataclass(frozen=True)
class Smallest:
    """The answer of `smallest_dimension`.

    Attributes:
        dimension: the smallest n from which on the share of projections that hold stays at
            `level`; None where even the largest n tried does not.
        theory: the lemma's n.
        tried: (t,) the dimensions that were measured.
        success: (t,) the share of projections of which every pair held.
    """

    dimension: int | None
    theory: int
    tried: np.ndarray
    success: np.ndarray


def smallest_dimension(
    vectors: np.ndarray,
    eps: float,
    kind: Kind = "gaussian",
    trials: int = 30,
    level: float = 0.9,
    largest: int | None = None,
    pairs: int = 20_000,
    seed: int = 0,
) -> Smallest:
    """How many dimensions keep all squared distances of these vectors within 1 +- eps.

    One projection to the largest n serves every smaller one: its first columns, rescaled, are a
    projection of their own, so a trial costs one pass over the columns.

    Args:
        vectors: (N, m).
        eps: in (0, 1).
        kind: of projection.
        trials: projections, with seeds `seed`, `seed` + 1, ...
        level: the share of them that must hold.
        largest: the largest n tried; the lemma's when None.
        pairs: the most pairs that are looked at; more are sampled, and then the answer is about
            the sample.
        seed: of the projections and the sample.

    Raises:
        ValueError: what `distortion_report` refuses, or a level outside (0, 1].
    """
    vectors = check_vectors(vectors)
    theory = jl_dim(len(vectors), eps)
    if not 0 < level <= 1 or trials < 1:
        raise ValueError(f"level lies in (0, 1] and trials above 0, got {level} and {trials}")
    largest = theory if largest is None else largest
    if kind == "hadamard":
        largest = min(largest, padded_size(vectors.shape[1]))
    i, j = sample_pairs(len(vectors), pairs, seed)
    old = squared_distances(vectors, i, j)
    i, j, old = i[old > 0], j[old > 0], old[old > 0]
    if not len(old):
        raise ValueError("all vectors are equal: no ratio of distances is defined")
    held = np.zeros(largest)
    for trial in range(trials):
        matrix = projection_matrix(vectors.shape[1], largest, kind, seed + trial)
        columns = (vectors.astype(np.float64) @ matrix).T * np.sqrt(largest)
        total = np.zeros(len(old))
        for n, column in enumerate(columns, 1):
            total += (column[i] - column[j]) ** 2
            ratio = total / (n * old)
            held[n - 1] += ratio.min() >= 1 - eps and ratio.max() <= 1 + eps
    success = held / trials
    enough = success >= level
    below = np.flatnonzero(~enough)
    first = int(below[-1]) + 2 if len(below) else 1
    return Smallest(first if first <= largest else None, theory, np.arange(1, largest + 1), success)


def recall_at(
    queries: np.ndarray,
    corpus: np.ndarray,
    n: int,
    k: int = 10,
    kind: Kind = "gaussian",
    seed: int = 0,
) -> float:
    """The share of each query's k nearest by inner product that n dimensions find too.

    Args:
        queries: (q, m).
        corpus: (N, m); rows of it that are the query itself count as neighbours.
        n: dimensions.
        k: neighbours.
        kind: of projection.
        seed: of the projection.
    """
    queries, corpus = check_vectors(queries), check_vectors(corpus)
    if not 1 <= k <= len(corpus):
        raise ValueError(f"k must lie in 1 .. {len(corpus)}, got {k}")
    truth = _nearest(queries, corpus, k)
    found = _nearest(project(queries, n, kind, seed), project(corpus, n, kind, seed), k)
    shared = [len(np.intersect1d(a, b)) for a, b in zip(truth, found, strict=True)]
    return float(np.mean(shared) / k)


def sample_pairs(count: int, pairs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs i < j below `count`: all where they are no more than `pairs`, else that many drawn."""
    if pairs < 1:
        raise ValueError(f"at least one pair must be looked at, got {pairs}")
    if count * (count - 1) // 2 <= pairs:
        i, j = np.triu_indices(count, 1)
        return i, j
    random = np.random.default_rng(seed)
    i = random.integers(0, count, pairs)
    j = (i + random.integers(1, count, pairs)) % count
    return np.minimum(i, j), np.maximum(i, j)


def squared_distances(vectors: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """|v_i - v_j|^2 (p,), of differences, so that near vectors keep their digits."""
    parts = (((vectors[a].astype(np.float64) - vectors[b]) ** 2).sum(1) for a, b in _blocks(i, j))
    return np.concatenate(list(parts))


def _products(vectors: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    parts = ((vectors[a].astype(np.float64) * vectors[b]).sum(1) for a, b in _blocks(i, j))
    return np.concatenate(list(parts))


def _blocks(i: np.ndarray, j: np.ndarray) -> itertools.chain:
    starts = range(0, len(i), 8192)
    return itertools.chain((i[s : s + 8192], j[s : s + 8192]) for s in starts)


def _nearest(queries: np.ndarray, corpus: np.ndarray, k: int) -> np.ndarray:
    return np.argpartition(-(queries @ corpus.T), k - 1, axis=1)[:, :k]
