"""A loss as a layer: for losses that look at several inputs and outputs of a model."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="bert4kexue")
class Loss(keras.layers.Layer):
    """Adds ``compute_loss(inputs, mask)`` to the model's loss and passes inputs on.

    Subclass it, define ``compute_loss(self, inputs, mask=None) -> scalar``, apply it to a list of
    tensors and compile the model with an optimizer alone.

    Args:
        output_axis: which inputs to return: None for all, an index for one, a list of indices for
            some.
    """

    def __init__(self, output_axis: int | list[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_axis = output_axis
        self.supports_masking = True

    def call(self, inputs: list[Any], mask: Any = None) -> Any:
        """Add the loss, return the selection."""
        self.add_loss(self.compute_loss(inputs, mask))
        return self._select(inputs)

    def compute_loss(self, inputs: list[Any], mask: Any = None) -> Any:
        """The scalar loss; ``mask`` is a list aligned with the inputs, or None."""
        raise NotImplementedError(f"{type(self).__name__} defines no compute_loss(inputs, mask)")

    def compute_output_spec(self, inputs: list[Any], mask: Any = None) -> Any:
        """The selection, as it comes in."""
        specs = [keras.KerasTensor(x.shape, dtype=x.dtype) for x in inputs]
        return self._select(specs)

    def compute_mask(self, inputs: list[Any], mask: Any = None) -> Any:
        """The selection's masks."""
        return None if mask is None else self._select(mask)

    def _select(self, items: list[Any]) -> Any:
        if self.output_axis is None:
            return list(items)
        if isinstance(self.output_axis, list | tuple):
            return [items[k] for k in self.output_axis]
        return items[self.output_axis]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "output_axis": self.output_axis}
