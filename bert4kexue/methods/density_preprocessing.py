"""Whole numbers made continuous, and what that does to their bits.

A density on integers is unbounded, so uniform noise u in [0, 1) is added first:
y = (x + u) * scale + shift. By Jensen, log P(x) >= E_u log p(y) + D log|scale| (Theis et al.,
2016): the second term is the Jacobian without which bits per dimension mean nothing.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from bert4kexue.methods.density_estimates import bits_per_dimension


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """y = (x + u) * scale + shift for x of 0 ... levels - 1.

    Args:
        levels: how many values x has; 256 for bytes.
        dequantize: add the noise; without it u is 0 and x is taken as continuous already.
        scale: 1 / levels when None, so that y lies in [0, 1).
        shift: added last.
    """

    levels: int = 256
    dequantize: bool = True
    scale: float | None = None
    shift: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what has no inverse."""
        if self.levels < 2:
            raise ValueError(f"levels must be 2 or more, got {self.levels}")
        if self.scale is not None and (self.scale == 0 or not math.isfinite(self.scale)):
            raise ValueError(
                f"scale must be finite and not 0, got {self.scale}: the data could not be had back"
            )

    @property
    def factor(self) -> float:
        """`scale`, or its default."""
        return 1 / self.levels if self.scale is None else self.scale

    def forward(self, x: np.ndarray, seed: int = 0) -> np.ndarray:
        """The data that a model sees, float32."""
        x = np.asarray(x)
        if self.dequantize:
            bad = x.size and (x.min() < 0 or x.max() >= self.levels or (x != np.round(x)).any())
            if bad:
                raise ValueError(
                    f"dequantizing takes whole numbers from 0 to {self.levels - 1}, got values "
                    f"from {x.min()} to {x.max()}: pass the original levels"
                )
            x = x + np.random.default_rng(seed).random(x.shape)
        return (x * self.factor + self.shift).astype(np.float32)

    def backward(self, y: np.ndarray) -> np.ndarray:
        """The level that a y comes from (or the real number, where nothing was dequantized)."""
        x = (np.asarray(y, np.float64) - self.shift) / self.factor
        return np.clip(np.floor(x), 0, self.levels - 1) if self.dequantize else x

    def log_jacobian(self, dimensions: int) -> float:
        """log |dy / dx| of a whole sample, in nats."""
        return dimensions * math.log(abs(self.factor))

    def bits_per_dimension(self, log_prob: np.ndarray, dimensions: int) -> np.ndarray:
        """Bits per element of x, from the nats of y."""
        return bits_per_dimension(log_prob, dimensions, self.log_jacobian(dimensions))
