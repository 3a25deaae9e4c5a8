"""Sequences cut into blocks that a scan goes through: (b, h, n, d) <-> (blocks, b, h, size, d).

Lengths may be known in the graph alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops


def joined(*arrays: Any) -> tuple[Any, Callable[[Any], list[Any]]]:
    """Arrays (b, h, n, ...) as one, and what takes them apart again.

    On TensorFlow a scan of unknown length takes a single array.
    """
    widths = [x.shape[-1] for x in arrays]
    b, h, n = ops.shape(arrays[0])[:3]
    spread = [ops.broadcast_to(x, (b, h, n, w)) for x, w in zip(arrays, widths, strict=True)]
    ends = np.cumsum(widths)[:-1].tolist()
    return ops.concatenate(spread, axis=-1), lambda whole: ops.split(whole, ends, axis=-1)


def in_blocks(x: Any, size: Any) -> Any:
    """(b, h, n, d) -> (blocks, b, h, size, d), zeros at the end."""
    b, h, n = ops.shape(x)[:3]
    whole = rounded_up(n, size)
    x = ops.pad(x, [[0, 0], [0, 0], [0, whole - n], [0, 0]])
    x = ops.reshape(x, (b, h, whole // size, size, x.shape[-1]))
    return ops.transpose(x, (2, 0, 1, 3, 4))


def in_line(blocks: Any, n: Any) -> Any:
    """(blocks, b, h, size, d) -> (b, h, n, d)."""
    count, b, h, size = ops.shape(blocks)[:4]
    x = ops.transpose(blocks, (1, 2, 0, 3, 4))
    return ops.reshape(x, (b, h, count * size, blocks.shape[-1]))[:, :, :n]


def rounded_up(n: Any, multiple: Any) -> Any:
    """The next multiple at or above n."""
    return (n + multiple - 1) // multiple * multiple


def smaller(limit: int, n: Any) -> Any:
    """The smaller of a limit and a length that may be known in the graph alone; 1 at least."""
    if isinstance(n, int):
        return max(1, min(limit, n))
    return ops.maximum(ops.minimum(n, limit), 1)


def even(limit: int, n: Any, multiple: Any = 1) -> Any:
    """The size of as few blocks as `limit` allows, all of one size: less is padded at the end.

    Both are multiples of ``multiple``. 2,048 tokens in blocks of 1,920 would be 3,840.
    """
    whole = smaller(limit, rounded_up(n, multiple))
    blocks = rounded_up(n, whole) // whole
    if not isinstance(blocks, int):
        blocks = ops.maximum(blocks, 1)
    return smaller(limit, rounded_up(rounded_up(n, blocks) // blocks, multiple))
