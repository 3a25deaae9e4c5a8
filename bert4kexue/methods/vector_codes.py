"""Sentence vectors in fewer bytes: fewer dimensions, halves, int8, signs.

A cosine does not ask how long a vector is, so an int8 code needs no scale beside it: the vector is
stretched until its largest entry is 127, and rounded. A binary code keeps the signs; the cosine of
two sign vectors is 1 - 2 t / pi for an angle t where directions are evenly spread, which
`analysis.sign_hash.cosine_of_agreement` turns back.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from bert4kexue.analysis.sign_hash import agreement, cosine_of_agreement

Precision = Literal["float32", "float16", "int8", "binary"]


def unit(vectors: np.ndarray) -> np.ndarray:
    """(n, d) float32 of length one; a zero vector stays zero."""
    vectors = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, np.finfo(np.float32).tiny)


def truncated(vectors: np.ndarray, dimensions: int | None) -> np.ndarray:
    """(n, d) to (n, dimensions): the first ones.

    Raises:
        ValueError: more dimensions than there are, or none.
    """
    d = vectors.shape[1]
    if dimensions is None:
        return vectors
    if not 1 <= dimensions <= d:
        raise ValueError(f"dimensions must lie in 1 .. {d}, got {dimensions}")
    return vectors[:, :dimensions]


def encoded(vectors: np.ndarray, precision: Precision) -> np.ndarray:
    """(n, d) in another precision: float32, float16 or int8 (n, d), binary uint8 (n, d / 8).

    Raises:
        ValueError: an unknown precision, or signs of a number of dimensions that is no multiple of
            8.
    """
    check_precision(precision, vectors.shape[1])
    if precision == "int8":
        largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
        stretched = 127 * (vectors / np.maximum(largest, np.finfo(np.float32).tiny))
        return np.rint(np.clip(stretched, -127, 127)).astype(np.int8)
    if precision == "binary":
        return np.packbits(vectors > 0, axis=1)
    return vectors.astype(precision)


def code_width(dimensions: int, precision: Precision) -> tuple[int, np.dtype]:
    """Columns and dtype of the codes of so many dimensions."""
    check_precision(precision, dimensions)
    if precision == "binary":
        return dimensions // 8, np.dtype(np.uint8)
    return dimensions, np.dtype(precision)


def check_precision(precision: Precision, dimensions: int) -> None:
    """Refuse what is no precision, or has no whole bytes."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r}: choose one of {', '.join(get_args(Precision))}")
    if precision == "binary" and dimensions % 8:
        raise ValueError(
            f"signs are packed by eight, and {dimensions} dimensions are no multiple of it: keep "
            f"{dimensions - dimensions % 8}"
        )


def code_cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(a, c) cosines of two sets of codes of one precision; of signs an estimate."""
    if one.dtype == np.uint8:
        return cosine_of_agreement(agreement(one, other)).astype(np.float32)
    return unit(one) @ unit(other).T
