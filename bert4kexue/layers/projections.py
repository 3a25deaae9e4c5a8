"""Dense layers that read the same tokens: one after another, or as one product of few rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import keras
from keras import ops
from keras.layers import Dense

from bert4kexue.ops.products import few_rows_pay, few_rows_product
from bert4kexue.ops.rows import each_token


class Projections(Protocol):
    """How layers apply their Dense layers: ``(layers, x (b, n, d)) -> [(b, n, units), ...]``."""

    def __call__(self, layers: Sequence[Dense], x: Any) -> list[Any]:
        """The output of each layer."""


def one_by_one(layers: Sequence[Dense], x: Any) -> list[Any]:
    """Each layer as it is."""
    return [each_token(layer, x) for layer in layers]


class PackedProjections:
    """Copies of Dense kernels (units, d), turned for the few rows of a step of decoding.

    Kernels of a group stand in one matrix, so that a group is one product. What has no copy here,
    has many rows, or rows whose number is not known, is computed by the layers themselves.

    Args:
        groups: layers that read the same input, built. Quantized ones are left out.
    """

    def __init__(self, groups: Iterable[Sequence[Dense]]) -> None:
        # Groups are kept beside their copies, so that no other layer gets their ids.
        self._held: dict[tuple[int, ...], tuple[Sequence[Dense], keras.Variable]] = {}
        for group in groups:
            if any(layer.quantization_mode is not None for layer in group):
                continue
            copy = keras.Variable(_turned(group), trainable=False, dtype=group[0].compute_dtype)
            self._held[_key(group)] = (group, copy)

    @property
    def variables(self) -> list[keras.Variable]:
        """The copies."""
        return [copy for _, copy in self._held.values()]

    def update(self) -> None:
        """Copy the kernels as they are now."""
        for group, copy in self._held.values():
            copy.assign(_turned(group))

    def __call__(self, layers: Sequence[Dense], x: Any) -> list[Any]:
        """See :class:`Projections`."""
        _, copy = self._held.get(_key(layers), (None, None))
        if copy is None or not few_rows_pay(x.shape, copy.shape):
            return one_by_one(layers, x)
        rows = ops.reshape(ops.cast(x, copy.dtype), (-1, x.shape[-1]))
        product = few_rows_product(rows, ops.convert_to_tensor(copy))
        outputs, begin = [], 0
        for layer in layers:
            y, begin = product[:, begin : begin + layer.units], begin + layer.units
            if layer.use_bias:
                y = y + ops.cast(layer.bias, y.dtype)
            if layer.activation is not None:
                y = layer.activation(y)
            outputs.append(ops.reshape(y, (*x.shape[:-1], layer.units)))
        return outputs


def _key(layers: Sequence[Dense]) -> tuple[int, ...]:
    return tuple(id(layer) for layer in layers)


def _turned(group: Sequence[Dense]) -> Any:
    """The kernels of a group as one (units, d), in the precision that the layers compute in."""
    kernels = [ops.convert_to_tensor(layer.kernel) for layer in group]
    return ops.cast(ops.transpose(ops.concatenate(kernels, axis=1)), group[0].compute_dtype)
