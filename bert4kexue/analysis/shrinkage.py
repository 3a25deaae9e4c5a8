"""How far to shrink a covariance towards a multiple of the identity.

(1 - a) S + a t I with t = trace(S) / d. With few rows the small eigenvalues of S are too small and
its inverse runs wild; shrinking mends that. Two estimates of the a that costs least:

* OAS: Chen, Wiesel, Eldar and Hero, "Shrinkage algorithms for MMSE covariance estimation" (2010),
  eq. 23. It assumes Gaussian rows and needs no more than S and the number of rows, so it is
  available wherever statistics were merged.
* Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004).
  It assumes no distribution and needs the rows' fourth moments, so it needs the rows.
"""

from __future__ import annotations

import numpy as np


def oas_intensity(trace: float, trace_of_square: float, rows: float, features: int) -> float:
    """The a of OAS, in [0, 1].

    Args:
        trace: of S.
        trace_of_square: trace(S S), the sum of the squares of S.
        rows: how many rows S comes from, less the means that were estimated.
        features: d.
    """
    return float(oas_intensities(np.array(trace), np.array(trace_of_square), rows, features))


def oas_intensities(
    trace: np.ndarray, trace_of_square: np.ndarray, rows: float | np.ndarray, features: int
) -> np.ndarray:
    """`oas_intensity` of many matrices at once; the arguments broadcast."""
    spread = trace_of_square - trace**2 / features
    above = (1 - 2 / features) * trace_of_square + trace**2
    below = (np.maximum(rows, 1) + 1 - 2 / features) * spread
    # Without a spread S already is a multiple of the identity: any a gives the same matrix.
    rounding = 1e-14 * trace_of_square
    a = np.where(spread > rounding, above / np.where(spread > rounding, below, 1.0), 1.0)
    return np.clip(a, 0.0, 1.0)


def ledoit_wolf_intensity(centred: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The a of Ledoit and Wolf, in [0, 1].

    Args:
        centred: (n, d) rows less the mean of their class.
        weights: (n,); a weight of 2 counts as the row twice.
    """
    weights = np.ones(len(centred)) if weights is None else weights
    n, d = float(weights.sum()), centred.shape[1]
    covariance = (centred * weights[:, None]).T @ centred / n
    norm = float((covariance**2).sum())
    spread = norm - np.trace(covariance) ** 2 / d
    if spread <= 1e-14 * norm:
        return 1.0
    fourth = float((weights * (centred**2).sum(1) ** 2).sum()) / n
    error = (fourth - norm) / n
    return float(np.clip(error / spread, 0.0, 1.0))
