"""Normalization of the last axis, in float32 whatever the layer computes in."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def at_least_float32(x: Any) -> Any:
    """Half precisions cast up; float32 and float64 as they are."""
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return ops.cast(x, "float32") if half else x


def normalize(x: Any, *, epsilon: float, zero_mean: bool = True, unit_variance: bool = True) -> Any:
    """Subtract the mean (``zero_mean``) and divide by sqrt(mean square + epsilon)
    (``unit_variance``).

    Without ``zero_mean`` this is root mean square normalization (Zhang and Sennrich, 2019). Epsilon
    is as small as 1e-12 in BERT, which float16 cannot hold: give float32 or float64.
    """
    if zero_mean:
        x = x - ops.mean(x, axis=-1, keepdims=True)
    if unit_variance:
        x = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + epsilon)
    return x
