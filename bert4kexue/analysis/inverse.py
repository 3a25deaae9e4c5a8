"""Inverses of covariances that say when there is none.

A covariance of too few rows, or with constant or collinear columns, is singular, and rounding
hides it: a direct solve then returns weights of 1e15 without a word.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Singular = Literal["raise", "pinv"]


def inverse_times(
    covariance: np.ndarray,
    right: np.ndarray,
    *,
    rows: int,
    scale: np.ndarray,
    singular: Singular = "raise",
    remedy: str = "shrinkage='auto'",
) -> np.ndarray:
    """covariance^-1 right, for a symmetric covariance.

    Columns are brought to variance one first, so that units of measurement neither look like
    collinearity nor cost digits.

    Args:
        covariance: (d, d).
        right: (d, k).
        rows: how many rows the covariance is of, for the error.
        scale: (d,) the largest size of each column's mean: a variance below its rounding is none.
        singular: "raise", or "pinv" for the pseudo-inverse, which ignores the directions in which
            nothing varies.
        remedy: what the error proposes beside "pinv".

    Raises:
        ValueError: the covariance is singular.
    """
    d = len(covariance)
    variances = np.diag(covariance).clip(0.0)
    deviations = np.sqrt(variances)
    constant = deviations <= 1e-14 * scale
    size = np.where(constant, 1.0, deviations)
    values, vectors = np.linalg.eigh(covariance / size / size[:, None])
    kept = values > values.max(initial=0.0) * d * np.finfo(np.float64).eps * 8
    rank = min(int(kept.sum()), d - int(constant.sum()))
    if rank < d and singular == "raise":
        if constant.any():
            why = f"columns {np.flatnonzero(constant)[:8].tolist()} are constant"
        else:
            why = "there are too few rows" if rows <= d else "some columns are collinear"
        raise ValueError(
            f"the covariance of n_samples={rows} and n_features={d} has rank {rank} ({why}), and a "
            f"direct solve would return noise: pass {remedy}, or singular='pinv' to ignore the "
            "directions without variance"
        )
    if rank < d:  # in the columns' own units, as a pseudo-inverse is understood
        values, vectors = np.linalg.eigh(covariance)
        kept = values > values.max(initial=0.0) * d * np.finfo(np.float64).eps * 8
        size = np.ones(d)
    inverse = np.where(kept, 1 / np.where(kept, values, 1.0), 0.0)
    return vectors @ (inverse[:, None] * (vectors.T @ (right / size[:, None]))) / size[:, None]
