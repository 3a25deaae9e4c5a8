"""In what the weights are stored: float32, bfloat16 or int8.

bfloat16 halves the file; what is computed stays float32, on weights rounded to 8 bits. int8 is
Keras's own `quantize`: Dense kernels with one scale for each output, computed in integers; the
embeddings stay float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import keras

from bert4kexue.serving.task import Task

Precision = Literal["float32", "bfloat16", "int8"]


def forwards(tasks: Mapping[str, Task], precision: Precision) -> dict[str, Callable[..., Any]]:
    """For each task the function from its model's inputs to outputs; one for each model.

    Tasks of different models that share layers share the stored weights in float32 and bfloat16;
    in int8 each model has its own.

    Raises:
        ValueError: another precision.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {get_args(Precision)}, got {precision!r}")
    made: dict[int, Callable[..., Any]] = {}
    rounded: dict[int, Any] = {}
    for task in tasks.values():
        if id(task.model) not in made:
            made[id(task.model)] = _forward(task.model, precision, rounded)
    return {name: made[id(task.model)] for name, task in tasks.items()}


def _forward(
    model: keras.Model, precision: Precision, rounded: dict[int, Any]
) -> Callable[..., Any]:
    if precision == "bfloat16":
        return _from_bfloat16(model, rounded)
    return _call(quantized(model) if precision == "int8" else model)


def quantized(model: keras.Model) -> keras.Model:
    """A copy with int8 kernels; the model itself stays as it is."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    with warnings.catch_warnings():
        # Keras warns of each layer that has no kernel: norms, inputs, additions.
        warnings.filterwarnings("ignore", message=".*does not have a `quantize` method")
        copy.quantize("int8")
    return copy


def _call(model: keras.Model) -> Callable[..., Any]:
    def forward(*ids: Any) -> Any:
        return model(ids[0] if len(ids) == 1 else list(ids), training=False)

    return forward


def _from_bfloat16(model: keras.Model, rounded: dict[int, Any]) -> Callable[..., Any]:
    import tensorflow as tf

    def stored(variable: Any) -> Any:
        if id(variable) not in rounded:
            value = tf.convert_to_tensor(variable.value)
            kept = tf.cast(value, tf.bfloat16) if value.dtype == tf.float32 else value
            rounded[id(variable)] = tf.Variable(kept, trainable=False)
        return rounded[id(variable)]

    groups = [
        [(stored(v), v.value.dtype) for v in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]

    def forward(*ids: Any) -> Any:
        values = [[tf.cast(kept, dtype) for kept, dtype in group] for group in groups]
        inputs = ids[0] if len(ids) == 1 else list(ids)
        return model.stateless_call(*values, inputs, training=False)[0]

    return forward
