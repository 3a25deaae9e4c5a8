"""Activations by the names that Chinese checkpoints use.

The string ``'gelu'`` means the exact, error-function form here as in bert4keras; Google's own
TensorFlow code used the tanh approximation. The two differ by at most 5e-4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

Activation = str | Callable[[Any], Any] | None


@keras.saving.register_keras_serializable(package="bert4kexue")
def gelu_erf(x: Any) -> Any:
    """The exact Gaussian error linear unit, x * Phi(x)."""
    return 0.5 * x * (1.0 + ops.erf(x / math.sqrt(2.0)))


@keras.saving.register_keras_serializable(package="bert4kexue")
def gelu_tanh(x: Any) -> Any:
    """The tanh approximation of the Gaussian error linear unit (Hendrycks and Gimpel, 2016)."""
    return 0.5 * x * (1.0 + ops.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


_BY_NAME: dict[str, Callable[[Any], Any]] = {
    "gelu": gelu_erf,
    "gelu_erf": gelu_erf,
    "gelu_tanh": gelu_tanh,
    "gelu_new": gelu_tanh,
}


def resolve_activation(activation: Activation) -> Callable[[Any], Any]:
    """The function behind an activation's name; a callable is returned as it is.

    Names of this module win over Keras's. Raises ValueError for a name that neither knows.
    """
    if isinstance(activation, str) and activation in _BY_NAME:
        return _BY_NAME[activation]
    return keras.activations.get(activation)


def serialize_activation(activation: Activation) -> Any:
    """What ``get_config`` stores: the name as it was given, or Keras's form of a callable."""
    if activation is None or isinstance(activation, str):
        return activation
    return keras.saving.serialize_keras_object(activation)


def deserialize_activation(stored: Any) -> Activation:
    """The inverse of :func:`serialize_activation`."""
    if isinstance(stored, dict):
        return keras.saving.deserialize_keras_object(stored)
    return stored
