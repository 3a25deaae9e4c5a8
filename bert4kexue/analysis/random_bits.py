"""Numbers from a seed that are the same on every machine, and wherever they are computed.

Philox is a counter-based generator (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
easy as 1, 2, 3", 2011) on integers alone; NumPy guarantees its stream. What turns its integers into
normal numbers here uses only +, -, *, / and sqrt in float64, which IEEE 754 rounds in one way. The
library's log and cos differ in the last digit between machines, so they have substitutes below.
"""

from __future__ import annotations

import numpy as np


def random_words(seed: int, count: int, stream: int = 0) -> np.ndarray:
    """`count` uint64 words of stream number `stream` of a seed.

    Raises:
        ValueError: the seed is no integer of 8 bytes.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise ValueError(f"a seed is an integer from 0 to 2**64 - 1, got {seed!r}")
    key = (int(stream) << 64) + int(seed)
    return np.random.Philox(key=key).random_raw(count)


def random_signs(seed: int, count: int, stream: int = 0) -> np.ndarray:
    """`count` of -1 and 1, int8; 64 of each word."""
    words = random_words(seed, -(-count // 64), stream)
    bits = words[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
    return (1 - 2 * bits.reshape(-1)[:count].astype(np.int8)).astype(np.int8)


def random_normals(seed: int, count: int, stream: int = 0) -> np.ndarray:
    """`count` standard normal numbers, float64, by Box and Muller's transform.

    The i-th number does not depend on `count`.
    """
    words = random_words(seed, count + count % 2, stream).reshape(-1, 2)
    uniform = ((words[:, 0] >> np.uint64(11)) + np.uint64(1)) * 2.0**-53  # (0, 1]
    radius = np.sqrt(-2 * _log(uniform))
    cosine, sine = _circle(words[:, 1])
    return np.stack([radius * cosine, radius * sine], axis=1).reshape(-1)[:count]


def random_choice(seed: int, population: int, count: int, stream: int = 0) -> np.ndarray:
    """`count` different numbers below `population`, in random order, int64."""
    words = random_words(seed, population, stream)
    return np.argsort(words, kind="stable")[:count]


def _log(x: np.ndarray) -> np.ndarray:
    """ln x for 0 < x <= 1, to about an ulp: 2 artanh of (m - 1) / (m + 1), plus the exponent."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < 0.7071067811865476
    mantissa = np.where(small, mantissa * 2, mantissa)
    exponent = exponent - small
    s = (mantissa - 1) / (mantissa + 1)
    square = s * s
    series = np.zeros_like(s)
    for k in range(12, -1, -1):
        series = series * square + 1.0 / (2 * k + 1)
    return exponent * 0.6931471805599453 + 2 * s * series


def _circle(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cos, sin) of the angle that a word stands for: its top three bits name the octant."""
    octant = (words >> np.uint64(61)).astype(np.int64)
    part = ((words >> np.uint64(8)) & np.uint64(2**53 - 1)) * 2.0**-53
    angle = np.where(octant % 2 == 1, 1 - part, part) * 0.7853981633974483  # [0, pi/4]
    square = angle * angle
    sine, cosine = np.zeros_like(angle), np.zeros_like(angle)
    for k in range(9, -1, -1):  # Horner of the Taylor series
        cosine = 1 - cosine * square / ((2 * k + 1) * (2 * k + 2))
        sine = 1 - sine * square / ((2 * k + 2) * (2 * k + 3))
    sine = sine * angle
    swapped = (octant + 1) // 2 % 2 == 1
    x, y = np.where(swapped, sine, cosine), np.where(swapped, cosine, sine)
    quarter = (octant + 2) // 4 % 2 == 1  # angles from 90 to 270 degrees
    return np.where(quarter, -x, x), np.where(octant >= 4, -y, y)
