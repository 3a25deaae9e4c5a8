"""Pooling over time that leaves padding out."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class _Pooling(keras.layers.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """A vector has no time axis to mask."""

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """(b, n, d) -> (b, d)."""
        return (input_shape[0], input_shape[2])


@keras.saving.register_keras_serializable(package="bert4kexue")
class GlobalAveragePooling1D(_Pooling):
    """Mean over the real tokens: (b, n, d) -> (b, d); a row without any gives zeros."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Sum over real tokens divided by their number."""
        if mask is None:
            return ops.mean(inputs, axis=1)
        real = ops.cast(mask, inputs.dtype)[:, :, None]
        return ops.sum(inputs * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1.0)


@keras.saving.register_keras_serializable(package="bert4kexue")
class GlobalMaxPooling1D(_Pooling):
    """Maximum over the real tokens: (b, n, d) -> (b, d); without any, the lowest number."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Padding counts as lower than everything."""
        if mask is None:
            return ops.max(inputs, axis=1)
        low = -3e4 if keras.backend.standardize_dtype(inputs.dtype) == "float16" else -1e30
        hidden = ops.where(mask[:, :, None], inputs, ops.cast(low, inputs.dtype))
        return ops.max(hidden, axis=1)
