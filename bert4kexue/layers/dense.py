"""A Dense layer that can read a second copy of its kernel, turned for few rows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

from bert4kexue.ops.products import few_rows_product

#: Up to so many rows a turned kernel is the faster one.
FEW_ROWS = 64

_TURNED: ContextVar[Mapping[int, Any]] = ContextVar("turned kernels", default={})  # noqa: B039


@keras.saving.register_keras_serializable(package="bert4kexue")
class Dense(keras.layers.Dense):
    """Keras's Dense, (..., d) -> (..., units); see :func:`turned_kernels`."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The product, the bias and the activation."""
        turned = _TURNED.get().get(id(self))
        if turned is None or None in inputs.shape or math.prod(inputs.shape[:-1]) > FEW_ROWS:
            return super().call(inputs, training=training)
        x = ops.reshape(ops.cast(inputs, self.compute_dtype), (-1, inputs.shape[-1]))
        x = few_rows_product(x, ops.convert_to_tensor(turned))
        x = ops.reshape(x, (*inputs.shape[:-1], self.units))
        if self.use_bias:
            x = ops.add(x, ops.cast(self.bias, self.compute_dtype))
        return x if self.activation is None else self.activation(x)

    def turned_kernel(self) -> Any:
        """The kernel as (units, d), in the precision that the layer computes in."""
        return ops.cast(ops.transpose(ops.convert_to_tensor(self.kernel)), self.compute_dtype)


@contextlib.contextmanager
def turned_kernels(kernels: Mapping[int, Any]) -> Iterator[None]:
    """Within it the layers with these ids multiply few rows by these turned kernels (units, d)."""
    token = _TURNED.set(kernels)
    try:
        yield
    finally:
        _TURNED.reset(token)
