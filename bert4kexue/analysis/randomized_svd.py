"""A matrix's leading singular vectors by a random range finder.

kexue.fm/archives/8706 projects M by a random Q and back. Q Q^T has rank k and is no identity, so
with a Q that does not know M nearly all of M is lost. Q must span what M does to random vectors,
Q = qr(M G), sharpened by a few rounds of M M^T (Halko, Martinsson and Tropp, "Finding structure
with randomness", 2011).
"""

from __future__ import annotations

import numpy as np

from bert4kexue.analysis.projections import check_vectors
from bert4kexue.analysis.random_bits import random_normals


def randomized_svd(
    matrix: np.ndarray, rank: int, oversampling: int = 10, power: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U (r, k), s (k,), V^T (k, c) of a matrix (r, c), largest singular value first.

    Args:
        matrix: (r, c).
        rank: k.
        oversampling: further random vectors that make the range safe.
        power: rounds of M M^T; more for slowly falling singular values.
        seed: of the random vectors.

    Raises:
        ValueError: k outside 1 .. min(r, c), negative counts, or NaN.
    """
    matrix = check_vectors(matrix).astype(np.float64)
    r, c = matrix.shape
    if not 1 <= rank <= min(r, c):
        raise ValueError(f"rank must lie in 1 .. {min(r, c)} for a {r} x {c} matrix, got {rank}")
    if oversampling < 0 or power < 0:
        raise ValueError(f"oversampling and power are 0 or more, got {oversampling} and {power}")
    width = min(rank + oversampling, r, c)
    basis, _ = np.linalg.qr(matrix @ random_normals(seed, c * width).reshape(c, width))
    for _ in range(power):
        back, _ = np.linalg.qr(matrix.T @ basis)
        basis, _ = np.linalg.qr(matrix @ back)
    u, s, vt = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    return (basis @ u)[:, :rank], s[:rank], vt[:rank]
