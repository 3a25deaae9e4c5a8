"""Dense layers that read the same tokens: one after another, or as one product of few rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops
from keras.layers import Dense

from bert4kexue.ops.products import few_rows_pay, few_rows_product
from bert4kexue.ops.rows import each_token


def project(layers: Sequence[Dense], x: Any) -> list[Any]:
    """The outputs (b, n, units) of Dense layers for x (b, n, d): of the layers one by one, or of
    their copies where :func:`projecting` says so."""
    packed, most = _WAY.get() or (None, None)
    outputs = None if packed is None else packed(layers, x, most)
    return [each_token(layer, x) for layer in layers] if outputs is None else outputs


@contextmanager
def projecting(packed: PackedProjections | None, rows: int | None = None) -> Iterator[None]:
    """Within it, :func:`project` multiplies with copies of the kernels where these are faster.

    Args:
        packed: the copies; None for the layers as they are.
        rows: how many rows, b n, there are at most, where shapes are not known.
    """
    token = _WAY.set((packed, rows))
    try:
        yield
    finally:
        _WAY.reset(token)


class PackedProjections:
    """Copies of Dense kernels (units, d), turned for few rows: for short inputs, or the steps of
    decoding.

    Kernels of a group stand in one matrix, so that a group is one product.

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

    @classmethod
    def of_layers(cls, layers: Iterable[Any]) -> PackedProjections:
        """Of those layers that have ``projections()``, each counted once."""
        unique = dict.fromkeys(layer for layer in layers if hasattr(layer, "projections"))
        return cls(group for layer in unique for group in layer.projections())

    @property
    def variables(self) -> list[keras.Variable]:
        """The copies."""
        return [copy for _, copy in self._held.values()]

    def update(self) -> None:
        """Copy the kernels as they are now."""
        for group, copy in self._held.values():
            copy.assign(_turned(group))

    def __call__(
        self, layers: Sequence[Dense], x: Any, rows: int | None = None
    ) -> list[Any] | None:
        """The outputs of a group; None where the layers themselves are to be called: they have no
        copy, or x has many rows, or nobody knows how many."""
        _, copy = self._held.get(_key(layers), (None, None))
        shape = x.shape if rows is None or None not in x.shape else (rows, x.shape[-1])
        if copy is None or not few_rows_pay(shape, copy.shape):
            return None
        flat = ops.reshape(ops.cast(x, copy.dtype), (-1, x.shape[-1]))
        product = few_rows_product(flat, ops.convert_to_tensor(copy))
        outputs, begin = [], 0
        for layer in layers:
            y, begin = product[:, begin : begin + layer.units], begin + layer.units
            if layer.use_bias:
                y = y + ops.cast(layer.bias, y.dtype)
            if layer.activation is not None:
                y = layer.activation(y)
            outputs.append(ops.reshape(y, (*ops.shape(x)[:-1], layer.units)))
        return outputs


#: The copies, and the most rows.
_WAY: ContextVar[tuple[PackedProjections | None, int | None] | None] = ContextVar(
    "projections", default=None
)


def _key(layers: Sequence[Dense]) -> tuple[int, ...]:
    return tuple(id(layer) for layer in layers)


def _turned(group: Sequence[Dense]) -> Any:
    """The kernels of a group as one (units, d), in the precision that the layers compute in."""
    kernels = [ops.convert_to_tensor(layer.kernel) for layer in group]
    return ops.cast(ops.transpose(ops.concatenate(kernels, axis=1)), group[0].compute_dtype)
