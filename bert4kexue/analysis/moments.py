"""Sufficient statistics that add up: what a closed form needs of any number of rows.

Means and scatters about the means, merged by the pairwise rule of Chan, Golub and LeVeque, so that
rows read in any split, in any order and by any number of workers give the statistics of one pass.
Sums of squares about zero would lose the digits that a large mean takes; these do not.

n rows, d features, k classes; everything is float64 whatever the rows were.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
    """Weight, mean and scatter of rows.

    Attributes:
        weight: sum of the rows' weights.
        mean: (d,).
        scatter: (d, d), the weighted sum of (x - mean)(x - mean)^T.
        rows: how many rows had a weight above 0.
    """

    weight: float
    mean: np.ndarray
    scatter: np.ndarray
    rows: int

    @classmethod
    def of(cls, rows: np.ndarray, weights: np.ndarray | None = None) -> Moments:
        """Statistics of `rows` (n, d) with `weights` (n,), 1 each when None."""
        rows = np.asarray(rows, np.float64)
        weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
        one = ClassMoments.of(rows, np.zeros(len(rows), np.int64), 1, weights)
        return cls(float(one.weights[0]), one.means[0], one.scatter, one.rows)

    def merged(self, other: Moments) -> Moments:
        """The statistics of both sets of rows together."""
        mine, theirs = (
            ClassMoments(np.array([m.weight]), m.mean[None], m.scatter, m.rows)
            for m in (self, other)
        )
        both = mine.merged(theirs)
        return Moments(float(both.weights[0]), both.means[0], both.scatter, both.rows)


@dataclasses.dataclass(frozen=True)
class ClassMoments:
    """Weight and mean of every class, and the scatter within the classes, pooled.

    Attributes:
        weights: (k,), the weight of each class's rows; a soft label shares a row's weight out.
        means: (k, d); zeros for a class without rows.
        scatter: (d, d), the sum over rows and classes of r (x - mean)(x - mean)^T, where r is the
            row's share in the class.
        rows: how many rows had a weight above 0.

    Example:
        >>> parts = [ClassMoments.of(x, y, 3) for x, y in batches]
        >>> whole = functools.reduce(ClassMoments.merged, parts)
    """

    weights: np.ndarray
    means: np.ndarray
    scatter: np.ndarray
    rows: int

    @classmethod
    def of(
        cls,
        rows: np.ndarray,
        labels: np.ndarray,
        classes: int,
        weights: np.ndarray | None = None,
    ) -> ClassMoments:
        """Statistics of rows with labels.

        Args:
            rows: (n, d).
            labels: (n,) int class numbers, or (n, k) float shares that sum to 1 in each row.
            classes: k.
            weights: (n,), not negative; 1 each when None.

        Raises:
            ValueError: the squares overflow float64.
        """
        rows = np.asarray(rows, np.float64)
        weights = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
        soft = np.ndim(labels) == 2
        if soft:
            shares = np.asarray(labels, np.float64) * weights[:, None]
        else:
            shares = np.zeros((len(rows), classes))
            shares[np.arange(len(rows)), labels] = weights
        total = shares.sum(0)
        with np.errstate(over="ignore", invalid="ignore"):
            middle = rows.mean(0) if len(rows) else np.zeros(rows.shape[1])
            centred = rows - middle
            means = _divided(shares.T @ centred, total)
            if soft:  # total scatter less what lies between the classes
                scatter = (centred * shares.sum(1)[:, None]).T @ centred
                scatter -= (means * total[:, None]).T @ means
            else:
                within = centred - means[labels]
                scatter = (within * weights[:, None]).T @ within
        if not np.isfinite(scatter).all():
            raise ValueError(
                f"the squares of the features overflow float64 (largest value "
                f"{np.abs(rows).max():.3g}): divide the features by a constant"
            )
        means = np.where(total[:, None] > 0, means + middle, 0.0)
        return cls(total, means, scatter, int(np.count_nonzero(weights)))

    @classmethod
    def empty(cls, classes: int, features: int) -> ClassMoments:
        """The statistics of no rows."""
        return cls(
            np.zeros(classes), np.zeros((classes, features)), np.zeros((features, features)), 0
        )

    def merged(self, other: ClassMoments) -> ClassMoments:
        """The statistics of both sets of rows together.

        Raises:
            ValueError: they differ in classes or features.
        """
        if self.means.shape != other.means.shape:
            raise ValueError(
                f"statistics of (classes, features) {self.means.shape} and {other.means.shape} "
                "do not add up: name the same classes and use one encoder everywhere"
            )
        total = self.weights + other.weights
        apart = other.means - self.means
        # A class that one side has not seen moves nothing.
        reduced = _divided((self.weights * other.weights)[:, None], total)[:, 0]
        means = self.means + _divided(apart * other.weights[:, None], total)
        scatter = self.scatter + other.scatter + (apart * reduced[:, None]).T @ apart
        return ClassMoments(total, means, scatter, self.rows + other.rows)

    def arrays(self) -> dict[str, np.ndarray]:
        """As arrays by name, for an .npz file or a message to another worker."""
        return {
            "weights": self.weights,
            "means": self.means,
            "scatter": self.scatter,
            "rows": np.array(self.rows, np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ClassMoments:
        """What `arrays` gave."""
        return cls(arrays["weights"], arrays["means"], arrays["scatter"], int(arrays["rows"]))


def _divided(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """`values` (k, d) divided by (k,), 0 where that is 0."""
    return values / np.where(by > 0, by, 1.0)[:, None] * (by > 0)[:, None]
