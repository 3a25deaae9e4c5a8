"""Rows: hypotheses of a sample, tokens of a sequence, all tokens of a batch as one matrix.

Axis letters: b samples, w hypotheses, k picked, n sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops


def each_token(function: Callable[[Any], Any], x: Any) -> Any:
    """What acts on each token alone, (b n, d) -> (b n, e), applied to x (b, n, d): (b, n, e).

    A product of one matrix (b n, d) instead of b of (n, d): only so does TensorFlow fuse it with
    its bias and activation.
    """
    shape = ops.shape(x)
    flat = function(ops.reshape(x, (-1, shape[-1])))
    return ops.reshape(flat, (*shape[:-1], flat.shape[-1]))


def take_beams(x: Any, parents: Any) -> Any:
    """x (b, w, ...) at parents (b, k) of each sample: (b, k, ...)."""
    shape = ops.shape(x)
    flat = ops.take(ops.reshape(x, (-1, *shape[2:])), flat_rows(parents, shape[1]), axis=0)
    return ops.reshape(flat, (-1, parents.shape[1], *shape[2:]))


def flat_rows(parents: Any, width: Any) -> Any:
    """Parents (b, k), counted within their sample, as rows of (b * width, ...): (b * k,)."""
    samples = ops.arange(ops.shape(parents)[0], dtype="int32")[:, None]
    return ops.reshape(samples * width + parents, (-1,))


def take_tokens(x: Any, places: Any) -> Any:
    """x (b, n, ...) at places (b,): (b, 1, ...)."""
    shape = ops.shape(x)
    rows = ops.arange(shape[0], dtype="int32") * shape[1] + places
    flat = ops.take(ops.reshape(x, (-1, *shape[2:])), rows, axis=0)
    return ops.reshape(flat, (-1, 1, *shape[2:]))
