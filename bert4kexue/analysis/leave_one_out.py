"""Leave-one-out predictions of a shared-covariance Gaussian classifier, exactly and at once.

Taking row x out of class c changes the class's mean by a multiple of v = x - mean_c and the pooled
scatter by a rank of one, S' = S - g v v^T. In the eigenvectors of S a shrunk S' is a diagonal less
a rank of one, whatever its trace and intensity became, and Sherman and Morrison invert that. So n
refits cost one eigendecomposition and (n, d) x (d, k) products instead of n factorizations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from bert4kexue.analysis.moments import ClassMoments

# (trace of S'/N', trace of its square, N' less the classes) -> intensities, each (n,)
Intensity = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class LeaveOneOut:
    """What each row was given by the fit to all other rows.

    Attributes:
        log_proba: (n, k) log-probabilities; -inf for a class that lost its only row.
        right: (n,) bool, the true class came first.
        weights: (n,) of the rows.
        own: (n,) the log-probability of the true class.
    """

    log_proba: np.ndarray
    right: np.ndarray
    weights: np.ndarray
    own: np.ndarray

    @property
    def error(self) -> float:
        """The weighted share of rows whose class did not come first."""
        return float(1 - (self.weights * self.right).sum() / self.weights.sum())

    @property
    def log_loss(self) -> float:
        """The weighted mean of -log p(true class), in nats.

        Infinite where a class has one row: without it the class is unknown.
        """
        counted = self.weights > 0
        return float(-(self.weights * self.own)[counted].sum() / self.weights.sum())


class Downdates:
    """The parts of every leave-one-out fit that do not depend on the shrinkage.

    Args:
        rows: (n, d) float64.
        labels: (n,) int.
        weights: (n,).
        moments: of exactly these rows.
    """

    def __init__(
        self, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, moments: ClassMoments
    ) -> None:
        self.labels, self.weights, self.moments = labels, weights, moments
        middle = moments.weights @ moments.means / moments.weights.sum()
        self.values, self.vectors = np.linalg.eigh(moments.scatter)
        self.values = np.maximum(self.values, 0.0)
        self.rows = (rows - middle) @ self.vectors
        self.means = (moments.means - middle) @ self.vectors
        self.apart = self.rows - self.means[labels]  # v
        left = moments.weights[labels] - weights  # the class's weight without the row
        self.alone = left <= 1e-12 * moments.weights[labels]
        self.left = np.where(self.alone, 1.0, left)
        # A class of one row has no scatter to take away: v = 0.
        self.gain = np.where(self.alone, 0.0, moments.weights[labels] * weights / self.left)  # g

    def scores(self, intensity: Intensity, priors: np.ndarray | None) -> LeaveOneOut:
        """Fit without each row, and score it.

        Args:
            intensity: the shrinkage of each fit.
            priors: (k,), or None for the frequencies without the row.

        Raises:
            ValueError: a fit without one of the rows is singular.
        """
        d = self.rows.shape[1]
        total = self.moments.weights.sum() - self.weights  # N'
        square = (self.apart**2).sum(1)
        bent = (self.apart**2) @ self.values
        trace = (self.values.sum() - self.gain * square) / total
        traces = (self.values**2).sum() - 2 * self.gain * bent + (self.gain * square) ** 2
        a = intensity(trace, traces / total**2, total - len(self.moments.weights))
        diagonal = ((1 - a) / total)[:, None] * self.values + (a * trace / d)[:, None]
        step = (1 - a) * self.gain / total
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1 / diagonal
            bow = inverse * self.apart  # D^-1 v
            rest = 1 - step * (bow * self.apart).sum(1)
        if not (np.isfinite(inverse).all() and (rest > 1e-10).all()):
            raise ValueError(
                f"without one of its rows the covariance is singular ({self.moments.rows} rows, "
                f"{d} features): leave-one-out exists with shrinkage='auto' or a float above 0"
            )
        distances = (inverse * self.rows**2).sum(1)[:, None]
        distances = distances - 2 * (inverse * self.rows) @ self.means.T + inverse @ self.means.T**2
        along = (bow * self.rows).sum(1)[:, None] - bow @ self.means.T
        distances = distances + (step / rest)[:, None] * along**2
        # The row's own class: its mean moved away from the row.
        index = np.arange(len(self.labels))
        moved = (1 + self.weights / self.left) ** 2 * (bow * self.apart).sum(1) / rest
        distances[index, self.labels] = moved
        scores = -0.5 * distances + self._log_priors(total, priors)
        scores[index[self.alone], self.labels[self.alone]] = -np.inf
        top = scores.max(1, keepdims=True)
        log_proba = scores - top - np.log(np.exp(scores - top).sum(1, keepdims=True))
        right = log_proba.argmax(1) == self.labels
        return LeaveOneOut(log_proba, right, self.weights, log_proba[index, self.labels])

    def _log_priors(self, total: np.ndarray, priors: np.ndarray | None) -> np.ndarray:
        if priors is not None:
            return np.log(priors)[None]
        shares = np.repeat(self.moments.weights[None], len(self.labels), axis=0)
        shares[np.arange(len(self.labels)), self.labels] = self.left
        return np.log(shares / total[:, None])
