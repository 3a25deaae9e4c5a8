"""Spearman's rank correlation as a Keras metric: what sentence similarity is reported in.

The correlation of ranks is no mean over batches, so the metric keeps what it has seen, in a
variable of fixed size. Equal values share the mean of their ranks.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="bert4kexue")
class SpearmanCorrelation(keras.metrics.Metric):
    """Correlation of the ranks of predictions and targets, of everything since the last reset.

    Args:
        capacity: the most values it can hold. Beyond it the result is NaN: a part of the values
            would give a number that looks right.
        name, dtype: as every metric takes them.

    The result is NaN as well where all predictions or all targets are equal, and before there are
    two: such a correlation does not exist.

    Raises:
        ValueError: `capacity` is below 2; sample weights, which ranks have no agreed use for.

    Example::

        model.compile(loss="mse", metrics=[SpearmanCorrelation()])
    """

    def __init__(
        self, capacity: int = 32768, name: str = "spearman_correlation", dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if capacity < 2:
            raise ValueError(f"capacity must be 2 or more, got {capacity}")
        self.capacity = capacity
        self._values = self.add_variable((2, capacity), "zeros", dtype="float32", name="values")
        self._count = self.add_variable((), "zeros", dtype="int32", name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Keep targets and predictions, of any shape but the same number."""
        if sample_weight is not None:
            raise ValueError("SpearmanCorrelation takes no sample weights: leave rows out instead")
        new = ops.stack(
            [
                ops.reshape(ops.cast(ops.convert_to_tensor(y), "float32"), (-1,))
                for y in (y_true, y_pred)
            ]
        )
        # A batch writes itself into its places; places beyond the capacity are nowhere.
        many = ops.shape(new)[1]
        count, values = ops.convert_to_tensor(self._count), ops.convert_to_tensor(self._values)
        place = ops.arange(self.capacity) - count
        mine = ops.logical_and(place >= 0, place < many)
        taken = ops.take(new, ops.clip(place, 0, many - 1), axis=1)
        self._values.assign(ops.where(mine[None], taken, values))
        self._count.assign(count + ops.cast(many, "int32"))

    def result(self) -> Any:
        """The correlation."""
        count, held = ops.convert_to_tensor(self._count), ops.convert_to_tensor(self._values)
        kept = ops.arange(self.capacity) < count
        real = ops.cast(kept, "float32")
        number = ops.maximum(ops.sum(real), 1.0)
        centred = []
        for values in (held[0], held[1]):
            # What is not there is larger than all else, so that it changes no rank.
            ordered = ops.sort(ops.where(kept, values, np.inf))
            ranks = ops.searchsorted(ordered, values, side="left") + ops.searchsorted(
                ordered, values, side="right"
            )
            ranks = ops.cast(ranks, "float32")
            centred.append(real * (ranks - ops.sum(real * ranks) / number))
        a, b = centred
        spread = ops.sqrt(ops.sum(ops.square(a))) * ops.sqrt(ops.sum(ops.square(b)))
        exists = ops.logical_and(spread > 0, count <= self.capacity)
        found = ops.sum(a * b) / ops.where(spread > 0, spread, 1.0)
        return ops.cast(ops.where(exists, found, np.nan), self.dtype)

    def reset_state(self) -> None:
        """Forget everything."""
        self._values.assign(ops.zeros((2, self.capacity)))
        self._count.assign(0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "capacity": self.capacity}
