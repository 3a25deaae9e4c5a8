"""Attention: scores, their normalization, and the weighted sum, for one set of heads.

Shapes: queries (b, n, h, d), keys (b, m, h, d), values (b, m, h, e), scores (b, h, n, m).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from bert4kexue.ops.masking import to_rank_four
from bert4kexue.ops.normalization import at_least_float32
from bert4kexue.ops.products import few_rows_product


def attention_scores(
    query: Any, key: Any, *, scale: bool = True, keys_by_head: bool = False
) -> Any:
    """Inner products of queries and keys, divided by sqrt(d) when ``scale``: (b, h, n, m).

    With ``keys_by_head`` keys are (b, h, m, d), as caches hold them: one query at a time is as fast
    as the keys can be read, and they are read twice as fast in this order.

    The query is divided before the product: in float16 the product itself could overflow.
    """
    if scale:
        query = query / math.sqrt(query.shape[-1])
    query = ops.transpose(query, (0, 2, 1, 3))  # (b, h, n, d)
    if keys_by_head:
        return few_rows_product(query, key)
    return ops.matmul(query, ops.transpose(key, (0, 2, 3, 1)))  # (b, h, d, m) on the right


def attention_normalize(
    scores: Any,
    mask: Any = None,
    bias: Any = None,
    method: str = "softmax",
    *,
    trained_length: int | None = None,
) -> Any:
    """Scores to weights over the last axis, with nothing where the mask is False.

    Args:
        scores: (b, h, n, m); half precisions are normalized in float32.
        mask: booleans that broadcast to the scores, True where attention is allowed, or None.
        bias: added to the scores first; shape (n, m), (b, n, m) or (b, h, n, m), or None.
        method: ``'softmax'``; ``'squared_relu'``, relu(s)^2 / l (kexue.fm/archives/8934);
            ``'softmax_plus'``, softmax(s * log_512 max(l, 16)) (kexue.fm/archives/8823), where l is
            the number of keys that the query sees.
        trained_length: scores, bias included, are multiplied by :func:`log_length_scale` of it.

    Returns:
        Weights of the scores' shape and dtype. A row that sees no key gets finite numbers, never
        NaN.

    Raises:
        ValueError: the method is not one of the three.
    """
    if method not in NORMALIZATIONS:
        raise ValueError(
            f"normalization={method!r} is unknown: choose one of {sorted(NORMALIZATIONS)}"
        )
    dtype = scores.dtype
    scores = at_least_float32(scores)
    if keras.backend.standardize_dtype(dtype) == "float16":
        # A product beyond float16 arrives as infinity, and infinity less infinity is no number.
        scores = ops.clip(scores, -65504.0, 65504.0)
    if bias is not None:
        scores = scores + ops.cast(to_rank_four(bias), scores.dtype)
    if trained_length is not None:
        scores = scores * log_length_scale(_visible(scores, mask), trained_length)
    return ops.cast(NORMALIZATIONS[method](scores, mask), dtype)


def log_length_scale(visible: Any, trained_length: int) -> Any:
    """max(1, log l / log N) of the keys that a query sees: kexue.fm/archives/8823.

    Attention over l keys, l above the N of training, would spread its weight thinner than the model
    has learned; scores that grow with log l keep its entropy. Up to N nothing changes, so that a
    model trained without this factor computes there what it always did.

    Args:
        visible: l, a tensor of numbers of 1 or more.
        trained_length: N, 2 or more.
    """
    return ops.maximum(ops.log(visible) / math.log(trained_length), 1.0)


def fused_attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    *,
    scale: bool = True,
    trained_length: int | None = None,
) -> Any:
    """Softmax attention by Keras's own operation, which a backend may compute in one kernel.

    Equal to :func:`attention_scores`, :func:`attention_normalize` and :func:`weighted_values` one
    after the other in float32, bfloat16 and float64, for every boolean mask, rows that see nothing
    included. Not in float16: JAX has no such product on CPUs, TensorFlow's overflows inside, and
    torch does not hide a whole row evenly.

    Whether it pays is the machine's matter; ``benchmarks/bench_long_attention.py --kinds softmax
    fused`` measures it.

    Args:
        query: (b, n, h, d).
        key: (b, m, h, d).
        value: (b, m, h, e).
        mask: booleans that broadcast to (b, h, n, m), or None.
        scale: divide scores by sqrt(d).
        trained_length: see :func:`attention_normalize`.

    Returns:
        (b, n, h, e).
    """
    if trained_length is not None:
        visible = ops.transpose(visible_keys(mask, ops.shape(key)[1]), (0, 2, 1, 3))
        query = query * ops.cast(log_length_scale(visible, trained_length), query.dtype)
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale else 1.0
    return ops.dot_product_attention(query, key, value, mask=mask, scale=factor)


def _hide(scores: Any, mask: Any) -> Any:
    # Finite: exp() of it is exactly zero beside any real score, and a row that is hidden whole
    # becomes uniform instead of NaN.
    return scores if mask is None else ops.where(mask, scores, -1e30)


def visible_keys(mask: Any, keys: Any, dtype: str = "float32") -> Any:
    """How many of ``keys`` keys each query sees, at least 1: (b or 1, h or 1, n or 1, 1)."""
    if mask is None:
        return ops.ones((1, 1, 1, 1), dtype) * ops.cast(keys, dtype)
    return ops.maximum(ops.sum(ops.cast(mask, dtype), axis=-1, keepdims=True), 1.0)


def _visible(scores: Any, mask: Any) -> Any:
    return visible_keys(mask, ops.shape(scores)[-1], scores.dtype)


def _softmax(scores: Any, mask: Any) -> Any:
    if scores.shape[-1] == 1:  # one key takes all; Keras would warn of a softmax over one entry
        return ops.ones_like(scores)
    return ops.softmax(_hide(scores, mask), axis=-1)


def _squared_relu(scores: Any, mask: Any) -> Any:
    weights = ops.square(ops.relu(scores)) / _visible(scores, mask)
    return weights if mask is None else ops.where(mask, weights, 0.0)


def _softmax_plus(scores: Any, mask: Any) -> Any:
    stretch = ops.log(ops.maximum(_visible(scores, mask), 16.0)) / math.log(512.0)
    return _softmax(scores * stretch, mask)


NORMALIZATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "softmax": _softmax,
    "squared_relu": _squared_relu,
    "softmax_plus": _softmax_plus,
}


def weighted_values(weights: Any, value: Any, *, values_by_head: bool = False) -> Any:
    """Weights (b, h, n, m) times values (b, m, h, e), or (b, h, m, e): (b, n, h, e)."""
    if not values_by_head:
        value = ops.transpose(value, (0, 2, 1, 3))
    return ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))


def check_long_attention(
    query_chunk: int | None, log_n_scaling: int | None, scores_returned: bool
) -> None:
    """Raise ValueError for values of these options that are out of range or contradict."""
    for name, value, least in (
        ("query_chunk", query_chunk, 1),
        ("log_n_scaling", log_n_scaling, 2),
    ):
        if value is not None and (isinstance(value, bool) or value != int(value) or value < least):
            raise ValueError(f"{name}={value!r} must be None or a whole number of {least} or more")
    if query_chunk is not None and scores_returned:
        raise ValueError(
            f"query_chunk={query_chunk} never holds all scores, and residual attention "
            "(return_attention_scores) hands all of them on: take one of the two"
        )
