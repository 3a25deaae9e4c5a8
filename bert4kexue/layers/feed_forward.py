"""The position-wise feed-forward layer, plain or gated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras.layers import Dense

from bert4kexue.layers.initializers import fresh
from bert4kexue.layers.projections import project
from bert4kexue.layers.rematerialization import Rematerializable
from bert4kexue.ops.activations import (
    Activation,
    deserialize_activation,
    resolve_activation,
    serialize_activation,
)


@keras.saving.register_keras_serializable(package="bert4kexue")
class FeedForward(Rematerializable):
    """Dense, activation, Dense back to the input's width: (..., d) -> (..., d).

    Args:
        units: inner width.
        activation: one activation, or a list of them: a gated layer (Shazeer, 2020), the product of
            one Dense per activation.
        use_bias: whether the Dense layers have biases.
        kernel_initializer: of every kernel.
    """

    def __init__(
        self,
        units: int,
        activation: Activation | Sequence[Activation] = "relu",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation = (
            [deserialize_activation(a) for a in activation]
            if isinstance(activation, list | tuple)
            else deserialize_activation(activation)
        )
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_masking = True

    @property
    def activations(self) -> list[Activation]:
        """The activations, one per inner Dense."""
        return self.activation if isinstance(self.activation, list) else [self.activation]

    def build(self, input_shape: Any) -> None:
        """Make i0_dense, i1_dense, ..., o_dense."""
        inner = (*input_shape[:-1], self.units)
        for k, activation in enumerate(self.activations):
            dense = self._dense(self.units, f"i{k}_dense", resolve_activation(activation))
            dense.build(input_shape)
            setattr(self, f"i{k}_dense", dense)
        self.o_dense = self._dense(input_shape[-1], "o_dense", None)
        self.o_dense.build(inner)

    def _dense(self, units: int, name: str, activation: Any) -> Dense:
        return Dense(
            units,
            activation=activation,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            name=name,
            dtype=self.dtype_policy,
        )

    def call(self, inputs: Any) -> Any:
        """(..., d) -> (..., d)."""
        inner, outer = self.projections()
        x, *gates = project(inner, inputs)
        for gate in gates:
            x = x * gate
        return project(outer, x)[0]

    def projections(self) -> list[list[Dense]]:
        """The Dense layers, in groups that read the same input."""
        inner = [getattr(self, f"i{k}_dense") for k in range(len(self.activations))]
        return [inner, [self.o_dense]]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        stored = [serialize_activation(a) for a in self.activations]
        return {
            **super().get_config(),
            "units": self.units,
            "activation": stored if isinstance(self.activation, list) else stored[0],
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
