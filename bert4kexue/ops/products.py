"""Products of few rows with a large table, which is as fast as the table can be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import ml_dtypes
from keras import ops

#: Up to so many rows the product below is the faster one with any table,
FEW_ROWS = 16
#: and up to so many with a table of this size or more (measured on CPUs, 312 to 21,128 rows).
MORE_ROWS, LARGE = 128, 2**19


def few_rows_pay(x_shape: Sequence[int | None], table_shape: Sequence[int]) -> bool:
    """Whether :func:`few_rows_product` is the faster way for x (..., d) and a table (v, d)."""
    if None in x_shape:
        return False
    rows = math.prod(x_shape[:-1])  # type: ignore[arg-type]
    return rows <= FEW_ROWS or (rows <= MORE_ROWS and math.prod(table_shape) >= LARGE)


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
