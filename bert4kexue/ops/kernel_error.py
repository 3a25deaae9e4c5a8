"""How far linear attention is from softmax attention: measured, and bounded where that can be.

A kernel with |kappa(q, k) / exp(q . k) - 1| <= eps on every pair gives rows of weights that differ
from softmax's by at most 2 eps / (1 - eps) in sum, and by 2 at most whatever eps is, since both sum
to 1. The relative error of the kernels (kexue.fm/archives/8601), x being q . k:

- taylor of order n: at most |x|^(n+1) exp(max(x, 0)) / (n+1)! / exp(x);
- limit of order n: at most 1 - exp(-x^2 / (2 n) / (1 - |x| / n)) for |x| < n;
- performer with m independent frequencies: 0 in the mean, with the deviation
  sqrt((exp(|q + k|^2) - 1) / m), less when they are orthogonal.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from bert4kexue.ops.feature_maps import FeatureMap, feature_map


class KernelError(NamedTuple):
    """What :func:`kernel_error` found.

    Args:
        output: |linear - softmax| / |softmax| of the outputs, Frobenius norms.
        rows: the largest sum over a row of |linear - softmax| of the weights.
        bound: of ``rows``; None where the kernel stands for no exponential, or only in the mean.
        deviation: root mean square of performer's relative deviation over the pairs; else None.
        rank: of the matrix of linear weights.
        softmax_rank: of softmax's.
    """

    output: float
    rows: float
    bound: float | None
    deviation: float | None
    rank: int
    softmax_rank: int


def kernel_error(
    query: Any,
    key: Any,
    value: Any,
    spec: Any,
    *,
    causal: bool = False,
    seed: int = 0,
) -> KernelError:
    """Compare one head's linear attention with its softmax attention.

    Args:
        query: (n, d), not yet scaled.
        key: (n, d).
        value: (n, e).
        spec: a feature map, see :func:`bert4kexue.ops.feature_maps.feature_map`.
        causal: whether query i sees keys up to i alone.
        seed: of the frequencies, where the map has none.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, or a map that cannot be.
    """
    fmap = feature_map(spec)
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    if query.ndim != 2 or query.shape != key.shape or value.shape[:1] != query.shape[:1]:
        raise ValueError(
            "kernel_error compares one head: query (n, d), key (n, d), value (n, e), not "
            f"{query.shape}, {key.shape}, {value.shape}"
        )
    if not all(np.isfinite(x).all() for x in (query, key, value)):
        raise ValueError("query, key or value holds NaN or infinity: no error can be measured")
    query, key = (x / x.shape[-1] ** 0.25 for x in (query, key))
    dots = query @ key.T
    visible = np.tri(len(dots), dtype=bool) if causal else np.ones(dots.shape, bool)
    exact = _softmax(np.where(visible, dots, -np.inf))
    products = _products(fmap, query, key, visible, seed)
    # No kernel is negative: what is, is rounding. Cut off, it would count in the rank.
    clipped = np.maximum(products, 0.0) if fmap.signed else products
    totals = np.maximum(clipped.sum(1, keepdims=True), 1e-30)
    linear = clipped / totals
    wanted = exact @ value
    return KernelError(
        output=float(np.linalg.norm(linear @ value - wanted) / np.linalg.norm(wanted)),
        rows=float(np.abs(linear - exact).sum(1).max()),
        bound=_bound(fmap, dots[visible]),
        deviation=_deviation(fmap, query, key, visible),
        rank=attention_rank(products / totals),
        softmax_rank=attention_rank(exact),
    )


def attention_rank(weights: Any) -> int:
    """The numerical rank of weights (n, m): singular values above n eps of the largest, in float64.

    Linear attention that sees every key has at most as many as it has features; the triangle of a
    causal mask lifts that.
    """
    return int(np.linalg.matrix_rank(np.asarray(weights, np.float64)))


def _products(
    fmap: FeatureMap, query: np.ndarray, key: np.ndarray, visible: np.ndarray, seed: int
) -> np.ndarray:
    """Linear weights (n, n) before rows are normalized, from the features, which are float32.

    JAX has no float64 unless told so; errors below 1e-7 are the features' rounding.
    """
    frequencies = None
    if fmap.random:
        drawn = fmap.draw(query.shape[-1], seed if fmap.seed is None else fmap.seed)
        frequencies = ops.convert_to_tensor(drawn)
    left, right = (
        np.asarray(
            ops.convert_to_numpy(fmap.expand(ops.convert_to_tensor(x, "float32"), frequencies)),
            np.float64,
        )
        for x in (query, key)
    )
    if fmap.exponential:
        peak = right.max(0)
        left, right = left if fmap.by_feature else left + peak, np.exp(right - peak)
        left = np.exp(left - left.max(1, keepdims=True))
    if fmap.by_feature:
        left = left / left.sum(1, keepdims=True) / (visible @ right)
    return (left @ right.T) * visible


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _bound(fmap: FeatureMap, dots: np.ndarray) -> float | None:
    n, size = fmap.order or 0, np.abs(dots)
    if fmap.kind == "taylor":
        remainder = size ** (n + 1) * np.exp(np.maximum(dots, 0.0)) / math.factorial(n + 1)
        eps = float((remainder / np.exp(dots)).max())
    elif fmap.kind == "limit":
        inside = np.minimum(size / n, 1 - 1e-12)
        eps = float((1.0 - np.exp(-(dots**2) / (2 * n) / (1.0 - inside))).max())
    else:
        return None
    return min(2.0, 2 * eps / (1 - eps)) if eps < 1 else 2.0


def _deviation(
    fmap: FeatureMap, query: np.ndarray, key: np.ndarray, visible: np.ndarray
) -> float | None:
    if not fmap.random:
        return None
    squares = (query**2).sum(1)[:, None] + (key**2).sum(1)[None] + 2 * query @ key.T
    relative = np.expm1(squares[visible]) / fmap.size(query.shape[-1])
    return float(np.sqrt(relative.mean()))
