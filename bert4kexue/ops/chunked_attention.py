"""Exact attention over a few queries at a time: long inputs in bounded memory.

The weights of attention take h n m numbers; those of c queries take h c m. Every query's row is
normalized by itself, so that computing the rows c at a time changes nothing but the memory. It is
exact for any normalization and any mask; no running maximum is needed as when keys are cut.

Shapes: queries (b, n, h, d), keys (b, m, h, d), values (b, m, h, e).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from bert4kexue.ops.masking import order_mask, to_rank_four

Attend = Callable[[Any, Any, Any, Any, Any], Any]


def by_query_chunks(
    attend: Attend,
    query: Any,
    key: Any,
    value: Any,
    *,
    chunk: int,
    allowed: Any = None,
    bias: Any = None,
    order: Any = None,
    recompute: bool = False,
) -> Any:
    """Attention of `chunk` queries at a time.

    Args:
        attend: ``attend(query, key, value, visible, bias)`` gives the outputs (b, c, h, e) of
            queries (b, c, h, d) under a structural mask (booleans) and a bias of these queries,
            both of rank 4 or None.
        query: (b, n, h, d).
        key: (b, m, h, d).
        value: (b, m, h, e).
        chunk: c; the last chunk may be smaller, and so may n be.
        allowed: booleans (n, m), (b, n, m) or (b, h, n, m), or None.
        bias: numbers of such a shape, or None.
        order: the structural mask in short, (b or 1, n) integers of queries and keys alike; see
            :func:`bert4kexue.ops.masking.order_mask`. None for none.
        recompute: keep nothing of a chunk for the backward pass but what went in, and compute it
            again there, so that training is bounded as well.

    Returns:
        (b, n, h, e).
    """
    n, b = ops.shape(query)[1], ops.shape(query)[0]
    size = ops.minimum(chunk, n) if query.shape[1] is None else min(chunk, n)
    count = -(-n // size)
    allowed, bias = (None if x is None else to_rank_four(x) for x in (allowed, bias))

    def of_rows(earlier: Any, start: Any) -> tuple[Any, Any]:
        # Rows past the end repeat the last one, and are cut off below.
        rows = ops.minimum(start + ops.arange(size, dtype="int32"), n - 1)
        visible = None if allowed is None else _take(allowed, rows)
        if order is not None:
            visible = order_mask(ops.take(order, rows, axis=1), order)[:, None]
        # What gradients go to are arguments: recomputation does not see what it closes over.
        tensors = [ops.take(query, rows, axis=1), key, value]
        if bias is not None:
            tensors.append(_take(bias, rows))

        def part(q: Any, k: Any, v: Any, added: Any = None) -> Any:
            return attend(q, k, v, visible, added)

        done = (keras.remat(part) if recompute else part)(*tensors)
        return done, done

    # A scan, since it takes one step after the other: TensorFlow would run several steps of a map
    # at a time, and hold the weights of all of them.
    h, e = value.shape[2:]
    starts = ops.arange(count, dtype="int32") * size
    _, parts = ops.scan(of_rows, ops.zeros((b, size, h, e), query.dtype), starts)  # (., b, c, h, e)
    whole = ops.reshape(ops.transpose(parts, (1, 0, 2, 3, 4)), (b, count * size, h, e))
    return whole[:, :n]


def _take(x: Any, rows: Any) -> Any:
    """The rows of (b, h, n, m); of (b, h, 1, m), which is the same for every query, that one."""
    return x if x.shape[2] == 1 else ops.take(x, rows, axis=2)
