"""The two structural masks as layers, so that a functional model shows them by name."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4kexue.ops.masking import causal_mask, unilm_mask


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


@keras.saving.register_keras_serializable(package="bert4kexue")
class LanguageModelMask(_Mask):
    """Left to right: (b, n) or (b, n, d) -> booleans (n, n); see ``ops.masking.causal_mask``."""

    def call(self, inputs: Any) -> Any:
        """Only the length of the input matters."""
        return causal_mask(ops.shape(inputs)[1])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """(n, n)."""
        return (input_shape[1], input_shape[1])


@keras.saving.register_keras_serializable(package="bert4kexue")
class UnifiedLanguageModelMask(_Mask):
    """UniLM: segment ids (b, n) -> booleans (b, n, n); see ``ops.masking.unilm_mask``."""

    def call(self, inputs: Any) -> Any:
        """From the running sum of the segment ids."""
        return unilm_mask(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """(b, n, n)."""
        return (input_shape[0], input_shape[1], input_shape[1])


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
