"""Scale and offset, layer normalization, and both conditioned on a vector."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4kexue.layers.rematerialization import Rematerializable
from bert4kexue.ops.activations import (
    Activation,
    deserialize_activation,
    resolve_activation,
    serialize_activation,
)
from bert4kexue.ops.normalization import at_least_float32, normalize


@keras.saving.register_keras_serializable(package="bert4kexue")
class ScaleOffset(Rematerializable):
    """x * gamma + beta over the last axis, computed in float32 at least.

    Args:
        scale: True for a trainable gamma, False or None for none, a number for a constant.
        offset: the same for beta.
        conditional: inputs are [x, condition (b, c)]; projections of the condition, which start at
            zero, are added to gamma and beta (kexue.fm/archives/7124).
        hidden_units: width of a layer between condition and projections, or None.
        hidden_activation: its activation.
        hidden_initializer: its kernel's initializer.
    """

    def __init__(
        self,
        scale: bool | float | None = True,
        offset: bool | float | None = True,
        conditional: bool = False,
        hidden_units: int | None = None,
        hidden_activation: Activation = "linear",
        hidden_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.conditional = conditional
        self.hidden_units = hidden_units
        self.hidden_activation = deserialize_activation(hidden_activation)
        self.hidden_initializer = keras.initializers.get(hidden_initializer)
        self.supports_masking = True
        self.autocast = False  # gamma and beta stay in the variables' precision

    def build(self, input_shape: Any) -> None:
        """Make beta, then gamma: the order of the original checkpoints."""
        x_shape = input_shape[0] if self.conditional else input_shape
        units = x_shape[-1]
        if self.offset is True:
            self.beta = self.add_weight(name="beta", shape=(units,), initializer="zeros")
        if self.scale is True:
            self.gamma = self.add_weight(name="gamma", shape=(units,), initializer="ones")
        if self.conditional:
            self._build_conditional(input_shape[1], units)

    def _build_conditional(self, shape: Any, units: int) -> None:
        def project(name: str) -> keras.layers.Dense:
            return keras.layers.Dense(
                units,
                use_bias=False,
                kernel_initializer="zeros",
                name=name,
                dtype=self.dtype_policy,
            )

        if self.hidden_units is not None:
            self.hidden_dense = keras.layers.Dense(
                self.hidden_units,
                activation=resolve_activation(self.hidden_activation),
                use_bias=False,
                kernel_initializer=self.hidden_initializer,
                name="hidden_dense",
                dtype=self.dtype_policy,
            )
            self.hidden_dense.build(shape)
            shape = (*shape[:-1], self.hidden_units)
        if self.offset not in (False, None):
            self.beta_dense = project("beta_dense")
            self.beta_dense.build(shape)
        if self.scale not in (False, None):
            self.gamma_dense = project("gamma_dense")
            self.gamma_dense.build(shape)

    def call(self, inputs: Any) -> Any:
        """(..., d) -> (..., d)."""
        x, condition = inputs if self.conditional else (inputs, None)
        x = self.transform(at_least_float32(x))
        if condition is not None:
            if self.hidden_units is not None:
                condition = self.hidden_dense(condition)
            for _ in range(len(x.shape) - len(condition.shape)):
                condition = ops.expand_dims(condition, 1)
        gamma = self._coefficient("scale", "gamma", condition, x.dtype)
        beta = self._coefficient("offset", "beta", condition, x.dtype)
        if gamma is not None:
            x = x * gamma
        if beta is not None:
            x = x + beta
        return ops.cast(x, self.compute_dtype)

    def transform(self, x: Any) -> Any:
        """What happens to x before scale and offset: nothing here."""
        return x

    def _coefficient(self, option: str, weight: str, condition: Any, dtype: Any) -> Any:
        given = getattr(self, option)
        if given is False or given is None:
            return None
        value = ops.cast(getattr(self, weight), dtype) if given is True else given
        if condition is None:
            return value
        return value + ops.cast(getattr(self, f"{weight}_dense")(condition), dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of x."""
        return mask[0] if self.conditional and isinstance(mask, list | tuple) else mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        """x's shape."""
        return tuple(input_shape[0] if self.conditional else input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "scale": self.scale,
            "offset": self.offset,
            "conditional": self.conditional,
            "hidden_units": self.hidden_units,
            "hidden_activation": serialize_activation(self.hidden_activation),
            "hidden_initializer": keras.initializers.serialize(self.hidden_initializer),
        }


@keras.saving.register_keras_serializable(package="bert4kexue")
class LayerNormalization(ScaleOffset):
    """Layer normalization (Ba et al., 2016) over the last axis; optionally conditional, optionally
    RMS.

    Args:
        zero_mean: subtract the mean; False gives root mean square normalization.
        unit_variance: divide by the standard deviation.
        epsilon: added to the mean square; 1e-7 when None. Checkpoints differ: BERT 1e-12, RoFormer
            1e-7.
        **kwargs: as in :class:`ScaleOffset`.
    """

    def __init__(
        self,
        zero_mean: bool = True,
        unit_variance: bool = True,
        epsilon: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.zero_mean = zero_mean
        self.unit_variance = unit_variance
        self.epsilon = 1e-7 if epsilon is None else epsilon

    def transform(self, x: Any) -> Any:
        """Normalize."""
        return normalize(
            x, epsilon=self.epsilon, zero_mean=self.zero_mean, unit_variance=self.unit_variance
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "zero_mean": self.zero_mean,
            "unit_variance": self.unit_variance,
            "epsilon": self.epsilon,
        }
