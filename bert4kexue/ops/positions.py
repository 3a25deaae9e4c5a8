"""Where a token stands: sinusoids, rotation of queries and keys, and tables longer than trained.

Sinusoids (Vaswani et al., 2017) are interleaved, [sin t0, cos t0, sin t1, cos t1, ...], and the
rotation (RoPE; Su et al., 2021, kexue.fm/archives/8265) turns adjacent channels (x0, x1), (x2, x3),
...
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def sinusoidal_embeddings(positions: Any, dim: int, base: float = 10000.0) -> Any:
    """Sinusoids of positions.

    Args:
        positions: (..., n), any numeric dtype; computed in float32 at least.
        dim: channels, even.
        base: wavelengths run from 2 pi to ``base`` * 2 pi.

    Returns:
        (..., n, dim), interleaved sine and cosine of ``positions * base ** (-2 i / dim)``.
    """
    if dim % 2:
        raise ValueError(f"sinusoidal embeddings need an even number of channels, not {dim}")
    positions = ops.convert_to_tensor(positions)
    given = keras.backend.standardize_dtype(positions.dtype)
    dtype = "float64" if given == "float64" else "float32"
    positions = ops.cast(positions, dtype)
    steps = ops.arange(0, dim, 2, dtype=dtype) / dim
    angles = positions[..., None] * ops.power(ops.cast(base, dtype), -steps)  # (..., n, dim / 2)
    pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)  # (..., n, dim / 2, 2)
    return ops.reshape(pairs, (*ops.shape(angles)[:-1], dim))


def apply_rotary_position_embeddings(sinusoidal: Any, *tensors: Any) -> Any:
    """Turn each pair of adjacent channels by its position's angle.

    Args:
        sinusoidal: (b or 1, n, d), interleaved as :func:`sinusoidal_embeddings` gives.
        *tensors: one or more of shape (b, n, d) or (b, n, h, d).

    Returns:
        One tensor, or a list of tensors, of the shapes given. The inner product of a query rotated
        at i with a key rotated at j depends on i - j alone.
    """
    sine = ops.repeat(sinusoidal[..., 0::2], 2, axis=-1)
    cosine = ops.repeat(sinusoidal[..., 1::2], 2, axis=-1)
    rotated = [_rotate(x, sine, cosine) for x in tensors]
    return rotated[0] if len(rotated) == 1 else rotated


def _rotate(x: Any, sine: Any, cosine: Any) -> Any:
    for _ in range(len(x.shape) - len(sine.shape)):
        sine, cosine = sine[:, :, None], cosine[:, :, None]  # (b, n, 1, d)
    sine, cosine = ops.cast(sine, x.dtype), ops.cast(cosine, x.dtype)
    turned = ops.stack([-x[..., 1::2], x[..., 0::2]], axis=-1)  # (..., d / 2, 2)
    return x * cosine + ops.reshape(turned, ops.shape(x)) * sine


def hierarchical_positions(table: Any, positions: Any, alpha: float = 0.4) -> Any:
    """Position vectors beyond a trained table (kexue.fm/archives/7947).

    Position p of a table E with N rows gets ``a * u[p // N] + (1 - a) * u[p % N]`` with
    ``u = (E - a * E[0]) / (1 - a)``, so that the first N positions keep their trained vectors.

    Args:
        table: (N, d).
        positions: integers of any shape, below N * N.
        alpha: a, between 0 and 1, not 0.5.

    Returns:
        positions' shape + (d,).
    """
    size = table.shape[0]
    base = (table - alpha * table[:1]) / (1.0 - alpha)
    coarse = ops.take(base, ops.floor_divide(positions, size), axis=0)
    fine = ops.take(base, ops.mod(positions, size), axis=0)
    return alpha * coarse + (1.0 - alpha) * fine
