"""Where functions are compiled: the one place that knows how each backend does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras


def compiled(
    function: Callable[..., Any], variables: Sequence[Any], *, jit_compile: bool = True
) -> Callable[..., Any]:
    """The function compiled for the backend; each new shape of its arguments is compiled anew.

    Args:
        function: pure, of trees of tensors; it may read Keras variables.
        variables: the variables that it reads. Their values are looked up at each call.
        jit_compile: use XLA on TensorFlow, else a graph. JAX always uses XLA; torch runs the
            function as it is, without gradients.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(
            function, jit_compile=jit_compile, autograph=False, reduce_retracing=not jit_compile
        )
    if backend == "jax":
        import jax

        @jax.jit
        def pure(values: list[Any], *arguments: Any) -> Any:
            scope = keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True)))
            with scope:
                return function(*arguments)

        return lambda *arguments: pure([v.value for v in variables], *arguments)

    def plain(*arguments: Any) -> Any:
        import torch

        with torch.no_grad():
            return function(*arguments)

    return plain if backend == "torch" else function


def shapes_are_static(jit_compile: bool) -> bool:
    """Whether each shape costs a compilation."""
    backend = keras.backend.backend()
    return backend == "jax" or (backend == "tensorflow" and jit_compile)
