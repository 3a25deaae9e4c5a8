"""Random projections out of a seed: v -> v A for a matrix A (m, n) with E |v A|^2 = |v|^2.

* gaussian: entries N(0, 1/n), the matrix of the Johnson-Lindenstrauss lemma (kexue.fm/8679);
* sign: entries +-1/sqrt(n);
* sparse: two thirds of the entries 0, the others +-sqrt(3/n) (Achlioptas, "Database-friendly
  random projections", 2003);
* hadamard: random signs, the Walsh-Hadamard transform, n of its outputs (Ailon and Chazelle, "The
  fast Johnson-Lindenstrauss transform", 2009): m log m additions and no matrix.

The seed is all there is to keep. m input size, n output size, b rows.
"""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import numpy as np

from bert4kexue.analysis.random_bits import (
    random_choice,
    random_normals,
    random_signs,
    random_words,
)

Kind = Literal["gaussian", "sign", "sparse", "hadamard"]


def projection_matrix(m: int, n: int, kind: Kind = "gaussian", seed: int = 0) -> np.ndarray:
    """A (m, n) float32, the same bits on every machine.

    Column j depends on the seed and j, and n only scales it: a projection to more dimensions begins
    with one to fewer, but for the scale.

    Args:
        m: size of the vectors.
        n: dimensions to project to.
        kind: as above.
        seed: 0 .. 2**64 - 1.

    Raises:
        ValueError: an unknown kind, sizes below 1, or a Hadamard projection to more dimensions than
            the transform has.
    """
    check_sizes(m, n, kind)
    if kind == "hadamard":
        return _hadamard_project(np.eye(m), n, seed).astype(np.float32)
    if kind == "gaussian":
        unit = random_normals(seed, m * n)
    elif kind == "sign":
        unit = random_signs(seed, m * n).astype(np.float64)
    else:
        # A word below 1/6 of the range gives -sqrt(3), the next sixth sqrt(3).
        words, sixth = random_words(seed, m * n), np.uint64(2**64 // 6)
        unit = np.where(words < 2 * sixth, np.sqrt(3.0), 0.0)
        unit = np.where(words < sixth, -unit, unit)
    return (unit.reshape(n, m).T / np.sqrt(n)).astype(np.float32)


def project(vectors: np.ndarray, n: int, kind: Kind = "gaussian", seed: int = 0) -> np.ndarray:
    """vectors (b, m) -> (b, n) in their float dtype.

    Raises:
        ValueError: what `projection_matrix` refuses, NaN or infinity.

    Warns:
        UserWarning: n is not below m, so nothing is reduced.
    """
    vectors = check_vectors(vectors)
    m = vectors.shape[1]
    check_sizes(m, n, kind)
    warn_without_reduction(m, n)
    if kind != "hadamard":
        return (vectors @ projection_matrix(m, n, kind, seed)).astype(vectors.dtype)
    return _hadamard_project(vectors, n, seed).astype(vectors.dtype)


def _hadamard_project(vectors: np.ndarray, n: int, seed: int) -> np.ndarray:
    signs, rows = hadamard_parts(vectors.shape[1], n, seed)
    padded = np.zeros((len(vectors), len(signs)), np.float64)
    padded[:, : vectors.shape[1]] = vectors
    return hadamard(padded * signs)[:, rows] / np.sqrt(n)


def hadamard(vectors: np.ndarray) -> np.ndarray:
    """The Walsh-Hadamard transform (b, 2**p) without its scale, in Sylvester's order."""
    b, size = vectors.shape
    width = 1
    while width < size:
        pairs = vectors.reshape(b, size // (2 * width), 2, width)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        vectors = np.stack([first + second, first - second], axis=2).reshape(b, size)
        width *= 2
    return vectors


def hadamard_parts(m: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(signs (2**p,) int8, output rows (n,) int64) of a Hadamard projection; 2**p >= m."""
    size = padded_size(m)
    return random_signs(seed, size, stream=1), random_choice(seed, size, n, stream=2)


def padded_size(m: int) -> int:
    """The smallest power of 2 that is not below m."""
    return 1 << (m - 1).bit_length()


def check_sizes(m: int, n: int, kind: str) -> None:
    """Refuse an unknown kind and sizes that make no matrix."""
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {get_args(Kind)}, got {kind!r}")
    if m < 1 or n < 1:
        raise ValueError(f"a projection needs sizes of 1 or more, got {m} -> {n}")
    if kind == "hadamard" and n > padded_size(m):
        raise ValueError(
            f"a Hadamard projection of {m} numbers has {padded_size(m)} outputs, not {n}: ask for "
            "fewer, or take another kind"
        )


def check_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors as a finite float array (b, m)."""
    vectors = np.asarray(vectors)
    if vectors.dtype.kind != "f":
        vectors = vectors.astype(np.float64)
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be (b, m), got the shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        row = int(np.argwhere(~np.isfinite(vectors))[0, 0])
        raise ValueError(f"vectors must be finite, got NaN or infinity in row {row}: drop the row")
    return vectors


def warn_without_reduction(m: int, n: int) -> None:
    """Warn where a projection has as many dimensions as the vectors, or more."""
    if n >= m:
        warnings.warn(
            f"a projection from {m} to {n} dimensions reduces nothing: keep the vectors",
            stacklevel=3,
        )
