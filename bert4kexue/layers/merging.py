"""Joining tensors without losing masks, and taking one vector out."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="bert4kexue")
class Add(keras.layers.Layer):
    """Sum of tensors; its mask is the conjunction of the masks that exist.

    Keras's own Add drops the mask when one input has none, and ORs two masks: in BERT, where
    segment embeddings carry no mask, padding would become visible everywhere.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: list[Any]) -> Any:
        """Sum a list of tensors of one shape, or shapes that broadcast."""
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total

    def compute_mask(self, inputs: list[Any], mask: Any = None) -> Any:
        """The conjunction of the masks that are not None."""
        return _conjunction(mask)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> Any:
        """The broadcast shape."""
        shape = tuple(input_shape[0])
        for other in input_shape[1:]:
            shape = tuple(
                a if b in (1, None) else b for a, b in zip(shape, tuple(other), strict=True)
            )
        return shape


@keras.saving.register_keras_serializable(package="bert4kexue")
class Concatenate1D(keras.layers.Layer):
    """Joins sequences (b, n_i, d) along the time axis; a missing mask counts as all visible."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: list[Any]) -> Any:
        """(b, n_1, d), (b, n_2, d), ... -> (b, sum of n_i, d)."""
        return ops.concatenate(inputs, axis=1)

    def compute_mask(self, inputs: list[Any], mask: Any = None) -> Any:
        """Masks joined as the tensors are."""
        if mask is None or all(m is None for m in mask):
            return None
        parts = [
            ops.ones_like(x[:, :, 0], dtype="bool") if m is None else m
            for x, m in zip(inputs, mask, strict=True)
        ]
        return ops.concatenate(parts, axis=1)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> Any:
        """The sum of the lengths, None where one is unknown."""
        lengths = [shape[1] for shape in input_shape]
        total = None if any(n is None for n in lengths) else sum(n for n in lengths if n)
        return (input_shape[0][0], total, *input_shape[0][2:])


@keras.saving.register_keras_serializable(package="bert4kexue")
class FirstToken(keras.layers.Layer):
    """The vector of the first token, [CLS]: (b, n, d) -> (b, d)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Position 0."""
        return inputs[:, 0]

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """A vector has no time axis to mask."""

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """The time axis goes."""
        return (input_shape[0], *input_shape[2:])


def _conjunction(masks: Any) -> Any:
    present = [m for m in (masks or ()) if m is not None]
    if not present:
        return None
    joined = present[0]
    for m in present[1:]:
        joined = ops.logical_and(joined, m)
    return joined
