"""Vectors as bits: the signs of a random projection (kexue.fm/archives/8706; Charikar, 2002).

Two vectors at angle t differ in a bit with probability t / pi, so the cosine of their sign vectors
has the expectation 1 - 2 t / pi. That is monotone in the cosine of the vectors but is not it: 0.70
becomes 0.494. `cosine_of_agreement` inverts it.
"""

from __future__ import annotations

import numpy as np

from bert4kexue.analysis.projections import check_vectors, projection_matrix


def sign_hash(vectors: np.ndarray, bits: int, seed: int = 0) -> np.ndarray:
    """vectors (b, m) -> (b, bits / 8) uint8: bit j is set where <v, a_j> > 0, Gaussian a_j.

    Raises:
        ValueError: `bits` is no positive multiple of 8, or NaN.
    """
    if bits < 8 or bits % 8:
        raise ValueError(f"bits are packed by eight, got {bits}: take a multiple of 8")
    vectors = check_vectors(vectors)
    matrix = projection_matrix(vectors.shape[1], bits, "gaussian", seed)
    return np.packbits(vectors @ matrix > 0, axis=1)


def agreement(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The cosine of sign vectors, (a, c), of hashes (a, bits / 8) and (c, bits / 8)."""
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            f"hashes of {8 * one.shape[1]} and {8 * other.shape[1]} bits do not compare: make both "
            "with the same bits and seed"
        )
    signs = [1.0 - 2.0 * np.unpackbits(h, axis=1).astype(np.float32) for h in (one, other)]
    return signs[0] @ signs[1].T / signs[0].shape[1]


def expected_agreement(cosine: np.ndarray) -> np.ndarray:
    """1 - 2 arccos(c) / pi: what `agreement` is on average for vectors with that cosine."""
    return 1 - 2 * np.arccos(np.clip(cosine, -1, 1)) / np.pi


def cosine_of_agreement(value: np.ndarray) -> np.ndarray:
    """cos(pi (1 - s) / 2): the cosine that an agreement s stands for."""
    return np.cos(np.pi / 2 * (1 - np.asarray(value)))
