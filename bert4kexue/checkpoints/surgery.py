"""Cut a vocabulary axis down to the tokens that are kept, and append compound tokens.

A pruned vocabulary (`keep_tokens`: original ids in their new order) and tokens made of several
old ones (`compound_tokens`: each the average of some rows) change every variable that has a
vocabulary axis: the embedding table, the bias of the prediction head, an untied output kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Compound = Sequence[int] | tuple[Sequence[int], Sequence[float]]


def select_tokens(
    array: np.ndarray,
    keep_tokens: Sequence[int] | None = None,
    compound_tokens: Sequence[Compound] | None = None,
    axis: int = 0,
) -> np.ndarray:
    """Keep the rows of `keep_tokens`, in their order, then append the averages.

    Args:
        array: A variable with a vocabulary axis of size v.
        keep_tokens: Original ids, each in [0, v); None keeps all of them.
        compound_tokens: Each item is a list of ids, or a pair (ids, weights). The ids refer to
            the table *after* `keep_tokens`; the row is the (weighted) average of theirs.
        axis: The vocabulary axis.

    Returns:
        The array itself where both are None; else a new array of the same dtype whose axis has
        len(keep_tokens) + len(compound_tokens) entries.

    Raises:
        ValueError: An id outside the table, a compound of nothing, weights of another length or
            of sum zero.

    Example:
        >>> select_tokens(np.array([0.0, 10.0, 20.0]), [2, 0], [[0, 1], ([0, 1], [3, 1])])
        array([20.,  0., 10., 15.])
    """
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"the vocabulary axis must be one of the {array.ndim} axes, got {axis}")
    if keep_tokens is not None:
        ids = _token_ids(keep_tokens, array.shape[axis], "keep_tokens")
        array = np.take(array, ids, axis=axis)
    if compound_tokens is not None and len(compound_tokens) > 0:
        table = np.moveaxis(array, axis, 0)
        rows = [_average(table, index, item) for index, item in enumerate(compound_tokens)]
        added = np.moveaxis(np.stack(rows), 0, axis)
        array = np.concatenate([array, added], axis=axis)
    return array


def _average(table: np.ndarray, index: int, item: Compound) -> np.ndarray:
    name = f"compound_tokens[{index}]"
    weights = None
    if len(item) == 2 and not any(np.ndim(part) == 0 for part in item):
        item, weights = item  # type: ignore[assignment]
    ids = _token_ids(item, table.shape[0], name)  # type: ignore[arg-type]
    if ids.size == 0:
        raise ValueError(f"{name} must name at least one id, got {item!r}")
    rows = table[ids].astype(np.float64)
    if weights is None:
        return rows.mean(axis=0).astype(table.dtype)
    scale = np.asarray(weights, dtype=np.float64)
    if scale.shape != ids.shape:
        raise ValueError(
            f"{name} is a pair (ids, weights) of equal length, got {ids.size} ids and "
            f"weights of shape {scale.shape}"
        )
    if not np.isfinite(scale).all() or scale.sum() == 0:
        raise ValueError(f"the weights of {name} must be finite with a sum other than 0, "
                         f"got {list(scale)}")  # fmt: skip
    return (np.tensordot(scale, rows, axes=1) / scale.sum()).astype(table.dtype)


def _token_ids(ids: Sequence[int], size: int, name: str) -> np.ndarray:
    array = np.asarray(ids)
    if array.size == 0:
        return np.zeros((0,), np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a list of integer ids, got {ids!r:.120}")
    outside = array[(array < 0) | (array >= size)]
    if outside.size:
        raise ValueError(
            f"{name} holds ids outside the table of {size} tokens: {outside[:5].tolist()}; "
            "was it made for another vocabulary?"
        )
    return array.astype(np.int64)
