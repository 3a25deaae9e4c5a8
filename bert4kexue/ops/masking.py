"""Which key may a query see: masks as booleans, True where attention is allowed."""

from __future__ import annotations

from typing import Any

from keras import ops


def causal_mask(n: Any, m: Any = None, offset: Any = 0) -> Any:
    """Language-model mask: query i, which stands at position ``offset + i``, sees keys up to
    itself.

    Args:
        n: number of queries.
        m: number of keys; ``n`` when None.
        offset: position of the first query among the keys.

    Returns:
        Booleans of shape (n, m).
    """
    queries = ops.arange(n, dtype="int32") + offset
    keys = ops.arange(n if m is None else m, dtype="int32")
    return keys[None, :] <= queries[:, None]


def unilm_mask(segment_ids: Any) -> Any:
    """UniLM's mask (Dong et al., 2019): segment 0 sees itself, segment 1 sees what stands before
    it.

    With c the running sum of the segment ids, query i sees key j where c_j <= c_i.

    Args:
        segment_ids: (b, n), zeros and then ones; any numeric dtype.

    Returns:
        Booleans of shape (b, n, n).
    """
    order = unilm_order(segment_ids)
    return order_mask(order, order)


def causal_order(n: Any) -> Any:
    """The left-to-right mask as numbers, (1, n): a query sees the keys of its own number or less.

    What :func:`order_mask` makes of them is :func:`causal_mask`, in n numbers rather than n * n.
    """
    return ops.arange(n, dtype="int32")[None]


def unilm_order(segment_ids: Any) -> Any:
    """UniLM's mask as numbers, the running sum of the segment ids: (b, n) -> (b, n) int32."""
    # Integers: a running sum in bfloat16 stops counting at 256.
    return ops.cumsum(ops.cast(segment_ids, "int32"), axis=1)


def order_mask(queries: Any, keys: Any) -> Any:
    """Which keys (b, m) do not come after a query (b, n): booleans (b, n, m)."""
    return keys[:, None, :] <= queries[:, :, None]


def first_group(order: Any) -> Any:
    """Whom the first query sees: of UniLM's numbers (b, n) the prefix, booleans (b, n)."""
    return order <= order[:, :1]


def attention_mask(key_mask: Any = None, allowed: Any = None) -> Any:
    """Padding and structure in one mask that broadcasts to (b, h, n, m).

    Args:
        key_mask: (b, m), True for real tokens, or None.
        allowed: booleans (n, m), (b, n, m) or (b, h, n, m), or None.

    Returns:
        Booleans of rank 4 that broadcast to (b, h, n, m), or None when everything is visible.
    """
    masks = []
    if key_mask is not None:
        masks.append(ops.cast(key_mask, "bool")[:, None, None, :])  # (b, 1, 1, m)
    if allowed is not None:
        masks.append(to_rank_four(ops.cast(allowed, "bool")))
    if not masks:
        return None
    return masks[0] if len(masks) == 1 else ops.logical_and(masks[0], masks[1])


def to_rank_four(x: Any) -> Any:
    """(n, m) or (b, n, m) with the missing axes of (b, h, n, m) put in; rank 4 as it is."""
    rank = len(x.shape)
    if rank == 2:
        return x[None, None]
    if rank == 3:
        return x[:, None]
    if rank == 4:
        return x
    raise ValueError(
        f"an attention bias has shape (n, m), (b, n, m) or (b, h, n, m), not {tuple(x.shape)}"
    )
