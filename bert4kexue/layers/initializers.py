"""Initializers that several kernels of one layer share."""

from __future__ import annotations

from typing import Any

import keras


def fresh(initializer: Any) -> Any:
    """A copy with a seed of its own: one Keras initializer gives every kernel the same numbers."""
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.clone()
    return initializer
