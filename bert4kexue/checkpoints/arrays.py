"""A plain dict of arrays as a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .base import CheckpointError, ReaderBase


class DictCheckpoint(ReaderBase):
    """Arrays that are already in memory, by name.

    Args:
        arrays: {variable name: array or what NumPy makes an array of}.

    Raises:
        CheckpointError: A name is not a string, or a value is not an array of numbers.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.description = f"the dict of {len(arrays)} arrays"
        self._arrays: dict[str, np.ndarray] = {}
        for name, value in arrays.items():
            if not isinstance(name, str):
                raise CheckpointError(f"{self.description} must have string keys, got {name!r}")
            array = np.asarray(value)
            if array.dtype == object:
                raise CheckpointError(
                    f"{self.description} must hold arrays of numbers, got {type(value).__name__} "
                    f"under {name!r}"
                )
            self._arrays[name] = array

    def names(self) -> list[str]:
        """Return the variables' names, sorted."""
        return sorted(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one variable."""
        return self._array(name).shape

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of one variable."""
        return self._array(name).dtype

    def read(self, name: str) -> np.ndarray:
        """Return one variable: the caller's own array, not a copy."""
        return self._array(name)

    def _array(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            raise self._absent(name)
        return self._arrays[name]
