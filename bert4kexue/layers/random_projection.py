"""A random projection as a layer that is kept as a seed: (..., m) -> (..., n).

Distances and inner products survive to within the Johnson-Lindenstrauss lemma
(kexue.fm/archives/8679), so sentence vectors take less room in an index. The layer has no weights:
its matrix is made anew from 8 bytes, the same bits on every backend and machine. A Hadamard
projection never has one.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from bert4kexue.analysis.projections import (
    Kind,
    check_sizes,
    hadamard_parts,
    padded_size,
    projection_matrix,
    warn_without_reduction,
)
from bert4kexue.analysis.random_bits import random_words


@keras.saving.register_keras_serializable(package="bert4kexue")
class RandomProjection(keras.layers.Layer):
    """Project the last axis to `units` dimensions.

    Args:
        units: n.
        kind: "gaussian", "sign", "sparse", or "hadamard": m log m additions in place of m n
            products, up to the next power of 2 dimensions.
        seed: 0 .. 2**64 - 1; layers of one seed, kind and size are the same projection.

    Raises:
        ValueError: an unknown kind, a seed or size that makes no matrix.

    Warns:
        UserWarning: n is not below m, so nothing is reduced.

    Example:
        >>> small = keras.Model(encoder.inputs, RandomProjection(128, seed=7)(encoder.outputs[0]))
    """

    def __init__(self, units: int, kind: Kind = "gaussian", seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_sizes(max(int(units), 1), units, kind)
        random_words(seed, 1)  # refuses what is no seed
        self.units = int(units)
        self.kind = kind
        self.seed = int(seed)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Make the matrix, or the signs and rows that stand for it."""
        m = input_shape[-1]
        if m is None:
            raise ValueError("RandomProjection needs the size of the last axis, got None")
        check_sizes(m, self.units, self.kind)
        warn_without_reduction(m, self.units)
        if self.kind == "hadamard":
            signs, self._rows = hadamard_parts(m, self.units, self.seed)
            self._signs = signs[:m].astype(np.float32) / np.float32(np.sqrt(self.units))
        else:
            self._matrix = projection_matrix(m, self.units, self.kind, self.seed)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """One product with the matrix, or the butterflies of the transform."""
        if self.kind != "hadamard":
            return ops.matmul(inputs, ops.convert_to_tensor(self._matrix, inputs.dtype))
        m = inputs.shape[-1]
        size = padded_size(m)
        leading = ops.shape(inputs)[:-1]
        x = inputs * ops.convert_to_tensor(self._signs, inputs.dtype)
        x = ops.pad(ops.reshape(x, (-1, m)), [[0, 0], [0, size - m]])
        width = 1
        while width < size:
            pairs = ops.reshape(x, (-1, size // (2 * width), 2, width))
            first, second = pairs[:, :, 0], pairs[:, :, 1]
            x = ops.reshape(ops.stack([first + second, first - second], axis=2), (-1, size))
            width *= 2
        x = ops.take(x, ops.convert_to_tensor(self._rows.astype("int32")), axis=1)
        return ops.reshape(x, (*leading, self.units))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask passes."""
        return mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(..., m) -> (..., n)."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """What makes the layer again: the seed is all that is kept of the matrix."""
        config = {"units": self.units, "kind": self.kind, "seed": self.seed}
        return {**super().get_config(), **config}
