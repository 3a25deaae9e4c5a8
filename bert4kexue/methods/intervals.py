"""How far a counted share may lie from the true one."""

from __future__ import annotations

import math


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Both ends of Wilson's interval (1927) of a share of n independent trials.

    Args:
        share: of the trials, 0 to 1.
        n: trials, 1 or more.
        z: quantile of the normal distribution; of 95 % by default.
    """
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half
