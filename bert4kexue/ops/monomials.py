"""Tensor powers with equal entries merged: every monomial of some variables up to a degree.

    sum over i of c_i / i! (x . y)^i = sum over monomials of weight * monomial(x) * monomial(y)

In the order used, the monomials of degree i whose smallest factor is x_j or a later one are a run
at the end. So those of degree i + 1 that begin with x_j are x_j times that run: slices, no
gathering.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops


def monomials(x: Any, order: int) -> Any:
    """Every monomial (..., C(d + order, order)) of x (..., d) of degree 0 to order."""
    parts, level = [ops.ones_like(x[..., :1]), x], x
    for degree in range(2, order + 1):
        if degree > 2:
            level = ops.concatenate(parts[-x.shape[-1] :], axis=-1)
        runs = _runs(x.shape[-1], degree)
        parts += [x[..., j : j + 1] * level[..., runs[0] - run :] for j, run in enumerate(runs)]
    return ops.concatenate(parts, axis=-1)


def monomial_weights(d: int, coefficients: Sequence[float]) -> np.ndarray:
    """The weight of each monomial of d variables: c_i over the factorials of its powers.

    Args:
        d: variables.
        coefficients: c_0 to c_order, order 1 or more.
    """
    powers = np.eye(d, dtype=int)  # of each monomial of a degree
    weights = [np.full(1, coefficients[0]), np.full(d, coefficients[1])]
    for degree in range(2, len(coefficients)):
        runs, one = _runs(d, degree), np.eye(d, dtype=int)
        powers = np.concatenate([one[j] + powers[runs[0] - run :] for j, run in enumerate(runs)])
        factorials = np.array([float(math.factorial(i)) for i in range(degree + 1)])
        weights.append(coefficients[degree] / np.prod(factorials[powers], axis=1))
    return np.concatenate(weights)


def _runs(d: int, degree: int) -> list[int]:
    """How many monomials of a degree begin with each of the d variables."""
    return [math.comb(d - j + degree - 2, degree - 1) for j in range(d)]
