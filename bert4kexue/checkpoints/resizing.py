"""A checkpoint in a model of another width, near what it computed (kexue.fm/archives/9071).

A wider model begins as a narrower one repeated: neighbouring channels are copied in small groups,
and each tensor keeps its Frobenius norm.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .base import CheckpointError


def orthogonally_resize(array: np.ndarray, shape: Sequence[int], window: int = 2) -> np.ndarray:
    """Grow or cut every axis, and keep the Frobenius norm.

    An axis of size d becomes one of size e: it is cut into groups of ``window``, each group is
    repeated ceil(e / d) times in place, and the first e entries stay.

    Args:
        array: any rank.
        shape: the sizes wanted, as many as the array has axes.
        window: the size of a group; divides every axis that grows.

    Returns:
        An array of ``shape`` and the dtype given.

    Raises:
        ValueError: the ranks differ, or an axis that grows is not a multiple of ``window``.

    Example:
        >>> orthogonally_resize(np.array([1.0, 2.0, 3.0, 4.0]), [8]) * np.sqrt(2)
        array([1., 2., 1., 2., 3., 4., 3., 4.])
    """
    if len(shape) != array.ndim:
        raise ValueError(f"an array of shape {array.shape} cannot be resized to {tuple(shape)}")
    resized = array.astype(np.float64)
    for axis, (old, new) in enumerate(zip(array.shape, shape, strict=True)):
        if new > old and old % window:
            raise ValueError(
                f"axis {axis} of size {old} cannot grow to {new}: it is no multiple of {window}"
            )
        if new > old:
            groups = np.arange(old).reshape(-1, window)
            index = np.tile(groups, -(-new // old)).ravel()[:new]
        else:
            index = np.arange(new)
        resized = np.take(resized, index, axis=axis)
    norm = np.linalg.norm(resized)
    if norm > 0:
        resized *= np.linalg.norm(array.astype(np.float64)) / norm
    return resized.astype(array.dtype)


def resize_weight(
    weight: str, array: np.ndarray, shape: Sequence[int], *, homogeneous: bool
) -> np.ndarray:
    """Resize one weight of a model, with the factor that keeps its layer's output in size.

    Queries and keys are multiplied by (new width / old width) ** 0.25, for the division by the
    square root of the head's size; a feed-forward layer's first part by the square root of its
    growth and its second by the inverse, unless the activation is homogeneous, as relu is.

    Args:
        weight: our path, as in a :class:`~bert4kexue.checkpoints.Row`.
        array: the checkpoint's value, in our order of axes.
        shape: the model's shape.
        homogeneous: whether the activation satisfies f(a x) = a f(x) for a > 0.

    Raises:
        CheckpointError: the weight cannot take that shape.
    """
    try:
        resized = orthogonally_resize(array, shape)
    except ValueError as error:
        raise CheckpointError(f"{weight} cannot be resized: {error}") from error
    shrink = np.sqrt(array.shape[0] / shape[0])
    factor = 1.0
    if re.search(r"Attention/[qk]_dense/", weight):
        factor = (shape[-1] / array.shape[-1]) ** 0.25
    elif re.search(r"FeedForward/i\d_dense/", weight):
        factor = shrink if homogeneous else np.sqrt(shape[-1] / array.shape[-1])
    elif re.search(r"FeedForward/o_dense/", weight):
        factor = shrink
    return (resized * factor).astype(array.dtype)
