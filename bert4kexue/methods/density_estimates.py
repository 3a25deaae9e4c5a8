"""What importance weights say of log p(x): value, error, effective samples, convergence.

Pure NumPy on log weights w_i = log q(x|z_i) + log q(z_i) - log p(z_i|x), z_i drawn from p(z|x), in
the symbols of kexue.fm/archives/8791. The estimate is logsumexp(w) - log M: from below, and from
nearer with every further sample.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class DensityEstimate:
    """Estimates of log p(x), one a row, in nats.

    Attributes:
        log_prob: (N,) float64.
        standard_error: (N,) of `log_prob` from the finite number of samples, by the delta method:
            the spread of the weights over their mean and sqrt(M). NaN for one sample. Trust it
            where `effective_samples` is large.
        effective_samples: (N,) from 1 to M: (sum of weights)^2 / sum of squared weights. Near 1,
            one draw decides, and the estimate is still too low.
        samples: M.
        curve_samples: (k,) numbers of samples m, from 1 to M, each a divisor of the next.
        curve: (k, N): the same estimate from m samples, averaged over the M / m groups of m. It
            never falls from a row to the next; where it still rises at the end, take more samples.
    """

    log_prob: np.ndarray
    standard_error: np.ndarray
    effective_samples: np.ndarray
    samples: int
    curve_samples: np.ndarray
    curve: np.ndarray

    @property
    def mean(self) -> float:
        """Mean log p(x) of the rows."""
        return float(self.log_prob.mean())

    @property
    def mean_error(self) -> float:
        """Standard error of `mean` from the finite number of samples alone."""
        return float(np.sqrt(np.square(self.standard_error).sum()) / len(self.log_prob))

    @property
    def data_error(self) -> float:
        """Standard error of `mean` from the finite number of rows; it holds the other in it."""
        return float(self.log_prob.std(ddof=1) / math.sqrt(len(self.log_prob)))


def estimate(log_weights: np.ndarray) -> DensityEstimate:
    """The estimate from log weights (N, M).

    Raises:
        ValueError: M is 0, or a weight is NaN.
    """
    log_weights = np.asarray(log_weights, np.float64)
    rows, samples = log_weights.shape
    if samples < 1:
        raise ValueError("samples must be 1 or more, got 0")
    if np.isnan(log_weights).any():
        raise ValueError(
            "a log weight is NaN: the encoder or the decoder gave NaN or infinite numbers for "
            f"{int(np.isnan(log_weights).any(axis=1).sum())} of {rows} rows; look at its weights"
        )
    sizes = np.array(divisor_chain(samples))
    curve = np.stack(
        [_log_mean_exp(log_weights.reshape(rows, samples // m, m)).mean(axis=1) for m in sizes]
    )
    largest = log_weights.max(axis=1, keepdims=True, initial=-np.inf)
    largest = np.where(np.isfinite(largest), largest, 0.0)
    weights = np.exp(log_weights - largest)
    total, squares = weights.sum(axis=1), np.square(weights).sum(axis=1)
    # total is 1 at least, except where every weight is 0: log p = -inf, nothing effective.
    share = np.divide(squares, np.square(total), out=np.ones(rows), where=total > 0)
    if samples == 1:
        error = np.full(rows, np.nan)
    else:
        error = np.sqrt(np.maximum(share - 1 / samples, 0) * samples / (samples - 1))
    return DensityEstimate(curve[-1], error, 1 / share, samples, sizes, curve)


def concatenate(estimates: list[DensityEstimate]) -> DensityEstimate:
    """The rows of several estimates of the same number of samples, one after the other."""
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in estimates], axis=-1)
        for name in ("log_prob", "standard_error", "effective_samples", "curve")
    }
    return dataclasses.replace(estimates[0], **joined)


def divisor_chain(samples: int) -> list[int]:
    """1, ..., samples, each a divisor of the next, by taking off the smallest prime factors last.

    >>> divisor_chain(1000)
    [1, 5, 25, 125, 250, 500, 1000]
    """
    chain, rest, factor = [samples], samples, 2
    while rest > 1:
        if rest % factor:
            factor = factor + 1 if factor * factor <= rest else rest
        else:
            rest //= factor
            chain.append(rest)
    return chain[::-1]


def bits_per_dimension(
    log_prob: np.ndarray, dimensions: int, log_jacobian: float | np.ndarray = 0.0
) -> np.ndarray:
    """Bits that one element of the original data costs.

    Args:
        log_prob: nats of the preprocessed data, any shape.
        dimensions: elements of a sample: 784 for an image of MNIST.
        log_jacobian: log |d preprocessed / d original|, summed over the elements, in nats:
            `Preprocessing` gives it. Without it the figure depends on the scale of the pixels.

    Raises:
        ValueError: dimensions is below 1.
    """
    if dimensions < 1:
        raise ValueError(f"dimensions must be 1 or more, got {dimensions}")
    return -(np.asarray(log_prob) + log_jacobian) / (dimensions * math.log(2))


def rarity(log_prob: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """An anomaly score: the share of reference data that is likelier than each sample.

    Args:
        log_prob: (N,) of the samples.
        reference: (R,) of data held out in training, from the same model.

    Returns:
        (N,) from 1 / (R + 1), likelier than all, to 1, rarer than all. With an alarm above
        1 - a, a share a of ordinary data raises it, whatever the density.
    """
    ordered = np.sort(_checked(reference))
    above = len(ordered) - np.searchsorted(ordered, np.asarray(log_prob), side="right")
    return (above + 1) / (len(ordered) + 1)


def atypicality(log_prob: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """An anomaly score on both sides: |log p(x) - mean| in standard deviations of the reference.

    A blank image is likelier than any digit, and yet is none: density alone passes it
    (Nalisnick et al., 2019).
    """
    reference = _checked(reference)
    spread = reference.std(ddof=1)
    if not spread > 0:
        raise ValueError("the reference's log densities are all the same: give more data")
    return np.abs(np.asarray(log_prob) - reference.mean()) / spread


def _checked(reference: np.ndarray) -> np.ndarray:
    reference = np.asarray(reference)
    if reference.ndim != 1 or len(reference) < 2 or np.isnan(reference).any():
        raise ValueError(
            f"the reference must be 2 or more numbers, got shape {reference.shape}"
            f"{' with NaN' if np.isnan(reference).any() else ''}: log_prob of held-out data"
        )
    return reference


def _log_mean_exp(x: np.ndarray) -> np.ndarray:
    largest = x.max(axis=-1, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):  # all weights 0: log p is -inf
        return np.log(np.exp(x - largest).mean(axis=-1)) + largest[..., 0]
