"""Layers that may compute what is inside them again for the gradient, instead of keeping it.

Under `keras.RematScope` a layer becomes rematerialized (Chen et al., 2016, "Training Deep Nets with
Sublinear Memory Cost"). Keras's own way fails where a layer is called with masks or other keyword
arguments, and where dropout would draw another mask the second time. Here a layer is first made a
function of tensors alone: its inputs and its variables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


class Rematerializable(keras.layers.Layer):
    """A layer that obeys `keras.RematScope` on every backend."""

    def seed_generators(self) -> list[keras.random.SeedGenerator]:
        """What the call draws from, once each while training."""
        return []

    def rematerialized_call(self, layer_call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The call that Keras makes in place of ``layer_call`` under a scope."""
        chosen = super().rematerialized_call(layer_call, *args, **kwargs)
        if chosen is layer_call or self._remat_mode.mode == "activations":
            return chosen
        return lambda *args, **kwargs: self._recomputed(layer_call, args, kwargs)

    def _recomputed(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        flat = keras.tree.flatten((args, kwargs))
        places = [i for i, x in enumerate(flat) if _is_float(x)]
        variables = self.variables
        weights = [i for i, v in enumerate(variables) if _is_float(v)]
        # Copied: a seed generator holds another seed by the time the gradient is computed.
        held = [v.value if _is_float(v) else keras.ops.copy(v.value) for v in variables]

        def pure(*tensors: Any) -> Any:
            given, values = list(flat), list(held)
            for place, tensor in zip(places, tensors[: len(places)], strict=True):
                given[place] = tensor
            for place, tensor in zip(weights, tensors[len(places) :], strict=True):
                values[place] = tensor
            args_again, kwargs_again = keras.tree.pack_sequence_as((args, kwargs), given)
            # Reads find the values given; what a seed generator writes is dropped with the scope.
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function(*args_again, **kwargs_again)

        output = keras.remat(pure)(*(flat[i] for i in places), *(held[i] for i in weights))
        if kwargs.get("training"):
            for generator in self.seed_generators():
                generator.next()
        return output


def _is_float(x: Any) -> bool:
    if not (keras.ops.is_tensor(x) or isinstance(x, keras.Variable)):
        return False
    return "float" in keras.backend.standardize_dtype(x.dtype)
