"""From class means and a covariance to the weights of a softmax (kexue.fm/archives/8578).

If the features of class i are normal with mean m_i and one covariance S for all, the quadratic
terms cancel and p(i | x) = softmax(x w_i + b_i) with

    w_i = S^-1 m_i,    b_i = ln p_i - m_i S^-1 m_i / 2.

S is the covariance within the classes, divided by N. Here m_i stands for the class mean less the
mean of all rows: that adds one vector to all w_i, which the softmax does not see, and keeps the
weights small enough for a float32 head.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bert4kexue.analysis.inverse import Singular, inverse_times
from bert4kexue.analysis.moments import ClassMoments


@dataclasses.dataclass(frozen=True)
class SoftmaxHead:
    """softmax(x @ weights + bias): weights (d, k), bias (k,), float64."""

    weights: np.ndarray
    bias: np.ndarray


def softmax_head(
    moments: ClassMoments,
    shrinkage: float = 0.0,
    priors: np.ndarray | None = None,
    singular: Singular = "raise",
) -> SoftmaxHead:
    """The closed form out of sufficient statistics.

    Args:
        moments: of all rows; every class has some.
        shrinkage: a in (1 - a) S + a trace(S) / d I.
        priors: (k,); the frequencies when None.
        singular: what to do without an inverse: "raise", or "pinv".

    Raises:
        ValueError: a class has no rows, or S has no inverse.
    """
    total = moments.weights.sum()
    if not (moments.weights > 0).all():
        absent = np.flatnonzero(moments.weights <= 0).tolist()
        raise ValueError(
            f"classes number {absent[:8]} have no rows, so they have no mean: add rows or leave "
            "these classes out"
        )
    d = moments.means.shape[1]
    covariance = moments.scatter / total
    if shrinkage:
        covariance = (1 - shrinkage) * covariance
        covariance[np.diag_indices(d)] += shrinkage * np.trace(moments.scatter) / total / d
    middle = moments.weights @ moments.means / total
    apart = moments.means - middle
    scale = np.abs(moments.means).max(0)
    weights = inverse_times(covariance, apart.T, rows=moments.rows, scale=scale, singular=singular)
    priors = moments.weights / total if priors is None else priors
    bias = np.log(priors) - 0.5 * (apart * weights.T).sum(1) - middle @ weights
    return SoftmaxHead(weights, bias)
