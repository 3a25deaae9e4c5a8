"""Exact tails of the chi-square distribution, on the standard library and NumPy alone.

|v A|^2 / |v|^2 of a Gaussian projection to n dimensions is chi-square with n degrees of freedom
over n, so these are what the post's bounds (kexue.fm/archives/8679) are bounds of.
"""

from __future__ import annotations

import math

import numpy as np


def log_upper_tail(x: float, n: float) -> float:
    """ln P(chi-square with n degrees of freedom > x)."""
    if x <= 0:
        return 0.0
    a, x = n / 2, x / 2
    if x < a + 1:
        return math.log1p(-math.exp(_log_lower_series(a, x)))
    return _log_upper_fraction(a, x)


def log_lower_tail(x: float, n: float) -> float:
    """ln P(chi-square with n degrees of freedom <= x)."""
    if x <= 0:
        return -math.inf
    a, x = n / 2, x / 2
    if x < a + 1:
        return _log_lower_series(a, x)
    return math.log1p(-math.exp(_log_upper_fraction(a, x)))


def norm_failure(n: int, eps: float) -> float:
    """P(| |v A|^2 / |v|^2 - 1 | >= eps) for one vector and a Gaussian A to n dimensions."""
    lower = math.exp(log_lower_tail(n * (1 - eps), n))
    return lower + math.exp(log_upper_tail(n * (1 + eps), n))


def inner_product_failure(n: int, eps: float, cosine: float = 0.0) -> float:
    """P(|<u A, v A> - <u, v>| >= eps) for unit vectors at `cosine` and a Gaussian A.

    <u A, v A> = ((1 + c) P - (1 - c) Q) / 2n with independent chi-squares P and Q; the integral
    over Q is a trapezoidal sum over 2,000 steps of its square root.
    """
    plus, minus = (1 + cosine) / (2 * n), (1 - cosine) / (2 * n)
    if minus < 1e-15:
        return norm_failure(n, eps)
    if plus < 1e-15:
        return norm_failure(n, eps)
    # Beyond 12 deviations, and a little for few degrees of freedom, nothing is left in float64.
    reach = 12 * math.sqrt(2 * n)
    t = np.linspace(max(0.0, n - reach) ** 0.5, (n + reach + 60) ** 0.5, 2001)
    q = t**2  # in the square root the density is finite at 0
    with np.errstate(divide="ignore"):
        log_density = (n - 1) * np.log(np.maximum(t, 1e-300)) - q / 2
    log_density -= (n / 2 - 1) * math.log(2) + math.lgamma(n / 2)
    high = [math.exp(log_upper_tail((cosine + eps + minus * x) / plus, n)) for x in q]
    low = [math.exp(log_lower_tail((cosine - eps + minus * x) / plus, n)) for x in q]
    values = (np.array(high) + np.array(low)) * np.exp(log_density)
    area = (values[1:] + values[:-1]).sum() / 2 * (t[1] - t[0])
    return float(np.clip(area, 0.0, 1.0))


def _log_front(a: float, x: float) -> float:
    return a * math.log(x) - x - math.lgamma(a)


def _log_lower_series(a: float, x: float) -> float:
    """ln of the regularized lower incomplete gamma function by its power series."""
    term = total = 1 / a
    k = a
    while term > total * 1e-17:
        k += 1
        term *= x / k
        total += term
    return _log_front(a, x) + math.log(total)


def _log_upper_fraction(a: float, x: float) -> float:
    """ln of the regularized upper incomplete gamma function by Lentz's continued fraction."""
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    h = d
    for i in range(1, 10**6):
        step = -i * (i - a)
        b += 2
        d = 1 / (step * d + b or tiny)
        c = b + step / c or tiny
        h *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return _log_front(a, x) + math.log(h)
