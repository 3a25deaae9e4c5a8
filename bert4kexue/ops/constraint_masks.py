"""Pieces that the constraints inside a graph share: masks from columns, rows from samples."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


def constant(values: np.ndarray, name: str) -> keras.Variable:
    """An int32 array as a variable that is not trained: compilers do not fold it into the code."""
    return keras.Variable(
        np.asarray(values, np.int32), dtype="int32", trainable=False, autocast=False, name=name
    )


def empty_mask(rows: Any, vocab_size: int) -> Any:
    """(rows * (v + 1),) False, for `mark`."""
    return ops.zeros((rows * (vocab_size + 1),), dtype="bool")


def mark(mask: Any, columns: Any, vocab_size: int) -> Any:
    """Sets columns of a mask.

    Args:
        mask: (rows * (v + 1),) bool, row after row.
        columns: (rows, c) int32, 0 to v; v stands for no column. Repetitions do no harm.
    """
    rows = ops.shape(columns)[0]
    places = ops.arange(rows, dtype="int32")[:, None] * (vocab_size + 1) + columns
    places = ops.reshape(places, (-1, 1))
    return ops.scatter_update(mask, places, ops.ones_like(places[:, 0], dtype="bool"))


def finish(mask: Any, rows: Any, vocab_size: int) -> Any:
    """The mask (rows, v) without the column for nothing."""
    return ops.reshape(mask, (rows, vocab_size + 1))[:, :vocab_size]


def repeat_rows(values: Any, rows: Any) -> Any:
    """One row per sample -> one per hypothesis: row r belongs to sample r // (rows // samples)."""
    shape = ops.shape(values)
    beams = rows // shape[0]
    tall = ops.broadcast_to(values[:, None], (shape[0], beams, *shape[1:]))
    return ops.reshape(tall, (shape[0] * beams, *shape[1:]))


def with_column(mask: Any, column: int, values: Any) -> Any:
    """The mask (rows, v) with one column replaced by `values`, (rows,) bool."""
    here = ops.arange(mask.shape[1], dtype="int32") == column
    return ops.where(here, values[:, None], mask)


def select(rows: Any, new: Any, old: Any) -> Any:
    """States: `new` where `rows` (rows,) is True, else `old`."""

    def choose(one: Any, other: Any) -> Any:
        return ops.where(ops.reshape(rows, (-1, *[1] * (len(one.shape) - 1))), one, other)

    return keras.tree.map_structure(choose, new, old)
