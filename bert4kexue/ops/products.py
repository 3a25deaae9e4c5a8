"""Products of few rows with a large table, which is as fast as the table can be read."""

from __future__ import annotations

from typing import Any

import keras
import ml_dtypes
from keras import ops


def few_rows_product(x: Any, table: Any) -> Any:
    """x (..., r, d) times the rows of a table (..., v, d): (..., r, v).

    The table stands on the left of the product, which then reads it once and in order: with few
    rows of x much faster than the other way round.
    """
    product = ops.matmul(table, _turned(x))  # (..., v, r)
    # Compilers turn the transpose of a product into the product of transposes, and so back into
    # the slow one; not with something in between, here a bound that changes no number.
    dtype = keras.backend.standardize_dtype(product.dtype)
    return _turned(ops.maximum(product, float(ml_dtypes.finfo(dtype).min)))


def _turned(x: Any) -> Any:
    return ops.swapaxes(x, -1, -2)
