"""BERT-whitening: vectors without their common direction, in fewer dimensions.

Source: kexue.fm/archives/8069.

y = (x - mean) W with W = U / sqrt(L) for the covariance U L U^T, largest eigenvalues first, so that
the covariance of y is the identity; the first k columns keep k dimensions. Nothing is trained: it
changes which vectors a cosine calls near, and helps where they fill a narrow cone (SimBERT's
siblings that were trained by cosine have little left to gain, or lose: 8454 measures both).

n vectors, d dimensions, k kept.
"""

from __future__ import annotations

import os

import numpy as np

from bert4kexue._files import atomic_write
from bert4kexue.analysis.moments import Moments


class Whitening:
    """An affine map fitted to vectors.

    Args:
        mean: (d,).
        kernel: (d, k).
    """

    def __init__(self, mean: np.ndarray, kernel: np.ndarray) -> None:
        self.mean, self.kernel = np.asarray(mean, np.float64), np.asarray(kernel, np.float64)

    @classmethod
    def fit(cls, vectors: np.ndarray | Moments, dimensions: int | None = None) -> Whitening:
        """Of vectors (n, d), or of their statistics, which may have been merged.

        Args:
            vectors: float, or `Moments`.
            dimensions: k; None keeps d. Directions without any spread are never kept.

        Raises:
            ValueError: NaN, fewer than two vectors, vectors that are all one, or more dimensions
                than there are.
        """
        if not isinstance(vectors, Moments):
            vectors = np.asarray(vectors, np.float64)
            if vectors.ndim != 2 or not np.isfinite(vectors).all():
                raise ValueError(
                    f"whitening takes finite vectors (n, d), got {vectors.shape} with NaN or "
                    "infinity"
                )
        if (vectors.rows if isinstance(vectors, Moments) else len(vectors)) < 2:
            raise ValueError("whitening needs two vectors or more: one has no covariance")
        moments = vectors if isinstance(vectors, Moments) else Moments.of(vectors)
        d = len(moments.mean)
        if dimensions is not None and not 1 <= dimensions <= d:
            raise ValueError(f"dimensions must lie in 1 .. {d}, got {dimensions}")
        values, basis = np.linalg.eigh(moments.scatter / moments.weight)
        values, basis = values[::-1], basis[:, ::-1]
        kept = (
            int((values > values[0] * d * np.finfo(np.float64).eps).sum()) if values[0] > 0 else 0
        )
        if not kept:
            raise ValueError("all vectors are one: there is nothing to whiten")
        k = min(kept, dimensions or d)
        return cls(moments.mean, basis[:, :k] / np.sqrt(values[:k]))

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """(n, d) to (n, k) of length one, in float32.

        Raises:
            ValueError: vectors of another width.
        """
        vectors = np.asarray(vectors)
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise ValueError(
                f"the whitening was fitted to {len(self.mean)} dimensions, got {vectors.shape}"
            )
        y = (vectors - self.mean) @ self.kernel
        return (y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-300)).astype(np.float32)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz."""
        with atomic_write(path) as file:
            np.savez(file, mean=self.mean, kernel=self.kernel)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Whitening:
        """What `save` wrote."""
        with np.load(path) as archive:
            return cls(archive["mean"], archive["kernel"])
