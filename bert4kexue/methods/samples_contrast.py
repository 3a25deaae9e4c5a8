"""Samples-contrast: labels from the order of scores, for pairs whose scores are not calibrated.

The scores of NSP-BERT order pairs well (contradiction < neutral < entailment) and say little by
themselves. So the samples are compared with one another (arXiv 2109.03564, section 3): sorted by
score and cut into k groups, the lowest group is label 0. The paper's groups are of equal size,
floor(n / k), the remainder in the last; `priors` make them floor(n p_i) instead, for classes of
known and unequal frequency. No label of any sample is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np


class SamplesContrast:
    """Cuts sorted scores into k groups.

    Args:
        k: number of labels, ordered from the lowest score to the highest.
        priors: (k,) share of each label, summing to 1; None for equal groups.

    Attributes:
        thresholds_: (k - 1,) after :meth:`fit`.

    Raises:
        ValueError: fewer than two labels, or priors that are no distribution over them.

    Example:
        >>> SamplesContrast(2).predict([.3, .9, .8, .1]).tolist()
        [0, 1, 1, 0]
    """

    def __init__(self, k: int, priors: Sequence[float] | None = None) -> None:
        if k < 2:
            raise ValueError(f"samples are contrasted between two labels or more, got k={k}")
        shares = np.full(k, 1 / k) if priors is None else np.asarray(priors, np.float64)
        if shares.shape != (k,) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
            raise ValueError(
                f"priors must be {k} numbers above 0 that sum to 1, got {np.asarray(priors)}"
            )
        self.k, self.priors = k, shares
        self.thresholds_: np.ndarray | None = None

    def predict(self, scores: Sequence[float] | np.ndarray, batch: int | None = None) -> np.ndarray:
        """(n,) int labels of scores that are compared with one another.

        Args:
            scores: (n,), the whole set. Equal scores get the same label, the lower one, so that the
                order of the samples does not matter.
            batch: compare within batches of so many samples, in their order, as a stream would
                have to; what is left over at the end joins the last. None compares all.

        Raises:
            ValueError: fewer samples than labels (each would get the last), scores that are no
                numbers, or all the same.
        """
        values = self._checked(scores)
        if batch is None:
            return self._cut(values)
        if batch < self.k:
            raise ValueError(
                f"batches of {batch} cannot be cut into {self.k} labels, all would get the last: "
                f"take batches of {self.k} or more, or thresholds from `fit`"
            )
        labels = np.zeros(len(values), np.int64)
        starts = list(range(0, max(1, len(values) - batch + 1), batch))
        for start, stop in zip(starts, [*starts[1:], len(values)], strict=True):
            labels[start:stop] = self._cut(values[start:stop])
        return labels

    def fit(
        self,
        scores: Sequence[float] | np.ndarray,
        boundary: Literal["midpoint", "paper"] = "midpoint",
    ) -> SamplesContrast:
        """Thresholds from the scores of a development set, whose labels are not needed.

        Args:
            scores: (n,).
            boundary: 'midpoint' halfway between two groups; 'paper' the score of a group's last
                sample, which itself then falls into the next group.

        Raises:
            ValueError: as `predict`, or another boundary.
        """
        if boundary not in ("midpoint", "paper"):
            raise ValueError(f"boundary must be 'midpoint' or 'paper', got {boundary!r}")
        ordered = np.sort(self._checked(scores))
        ends = self._ends(len(ordered))
        last = ordered[np.maximum(ends - 1, 0)]
        following = ordered[np.minimum(ends, len(ordered) - 1)]
        self.thresholds_ = last if boundary == "paper" else (last + following) / 2
        return self

    def threshold(self, scores: Sequence[float] | np.ndarray) -> np.ndarray:
        """(n,) int labels by the thresholds: the first i with s < t_i, else the last label.

        Raises:
            ValueError: `fit` was not called, or scores that are no numbers.
        """
        if self.thresholds_ is None:
            raise ValueError(
                "there are no thresholds yet: call fit with a development set's scores"
            )
        return np.searchsorted(self.thresholds_, _numbers(scores), side="right")

    def _ends(self, n: int) -> np.ndarray:
        """(k - 1,) where all groups but the last end in the sorted order."""
        return np.cumsum(np.floor(n * self.priors[:-1] + 1e-9).astype(np.int64))

    def _cut(self, values: np.ndarray) -> np.ndarray:
        ranks = np.searchsorted(np.sort(values), values, side="left")
        return np.searchsorted(self._ends(len(values)), ranks, side="right")

    def _checked(self, scores: Sequence[float] | np.ndarray) -> np.ndarray:
        values = _numbers(scores)
        if len(values) < self.k:
            raise ValueError(
                f"{len(values)} samples cannot be cut into {self.k} labels: samples are compared "
                "with one another, give more of them, or thresholds from `fit`"
            )
        if values.min() == values.max():
            raise ValueError(f"all {len(values)} scores are {values[0]}: there is no order to cut")
        return values


def _numbers(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(
            f"scores must be finite numbers (n,), got shape {values.shape} with "
            f"{np.sum(~np.isfinite(values))} that are not"
        )
    return values
