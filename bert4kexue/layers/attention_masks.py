"""The two structural masks as layers, so that a functional model shows them by name."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4kexue.ops.masking import causal_mask, causal_order, unilm_mask, unilm_order


class _Mask(keras.layers.Layer):
    """Gives booleans, whatever the policy computes in."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.autocast = False  # running sums of segment ids stop at 256 in bfloat16

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """A mask carries no mask."""

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Booleans of the mask's shape."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype="bool")


class _Ordered(_Mask):
    """A mask that numbers say as well: a query sees the keys of its own number or less.

    Args:
        as_order: give these numbers, int32 (b or 1, n), in place of the booleans, which take n^2;
            attention takes them with ``a_bias='order'``.
    """

    def __init__(self, as_order: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.as_order = as_order

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Booleans, or numbers."""
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype="int32" if self.as_order else "bool")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "as_order": self.as_order}


@keras.saving.register_keras_serializable(package="bert4kexue")
class LanguageModelMask(_Ordered):
    """Left to right: (b, n) or (b, n, d) -> booleans (n, n); see ``ops.masking.causal_mask``."""

    def call(self, inputs: Any) -> Any:
        """Only the length of the input matters."""
        return (causal_order if self.as_order else causal_mask)(ops.shape(inputs)[1])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """(n, n); (1, n) of numbers."""
        return (1 if self.as_order else input_shape[1], input_shape[1])


@keras.saving.register_keras_serializable(package="bert4kexue")
class UnifiedLanguageModelMask(_Ordered):
    """UniLM: segment ids (b, n) -> booleans (b, n, n); see ``ops.masking.unilm_mask``."""

    def call(self, inputs: Any) -> Any:
        """From the running sum of the segment ids."""
        return (unilm_order if self.as_order else unilm_mask)(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """(b, n, n); (b, n) of numbers."""
        b, n = input_shape[:2]
        return (b, n) if self.as_order else (b, n, n)


@keras.saving.register_keras_serializable(package="bert4kexue")
class DocumentMask(_Mask):
    """Packed rows: document numbers (b, n) -> booleans (b, n, n), True within a document."""

    def call(self, inputs: Any) -> Any:
        """Equal numbers see each other."""
        return ops.equal(inputs[:, :, None], inputs[:, None, :])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """(b, n, n)."""
        return (input_shape[0], input_shape[1], input_shape[1])


@keras.saving.register_keras_serializable(package="bert4kexue")
class MaskScores(keras.layers.Layer):
    """Structure and earlier scores in one additive bias, for residual attention (RealFormer).

    Inputs [mask (n, n) or (b, n, n) booleans, scores (b, h, n, n)] -> scores, -1e30 where the mask
    is False (-3e4 in float16, which ends at 6.5e4).
    """

    def call(self, inputs: list[Any]) -> Any:
        """Scores where allowed, far below every score elsewhere."""
        mask, scores = inputs
        if len(mask.shape) == 3:
            mask = mask[:, None]
        low = -3e4 if self.compute_dtype == "float16" else -1e30
        return ops.where(mask, scores, ops.cast(low, scores.dtype))

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """A bias carries no mask."""

    def compute_output_shape(self, input_shape: list[Any]) -> Any:
        """The scores' shape."""
        return input_shape[1]
