"""Keras .weights.h5 files as checkpoints: names are the paths inside the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from .base import CheckpointError, ReaderBase


class KerasH5Checkpoint(ReaderBase):
    """An HDF5 file of weights; needs the package h5py.

    Args:
        path: The file.

    Raises:
        CheckpointError: Not an HDF5 file, or h5py is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.description = f"Keras weights file {os.fspath(path)}"
        try:
            import h5py
        except ImportError as error:
            raise CheckpointError(
                f"{self.description} is HDF5, which needs the package h5py: pip install h5py"
            ) from error
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise CheckpointError(
                f"{self.description} is no readable HDF5 file ({error}); save it again with "
                "model.save_weights"
            ) from error
        self._sets = {
            name: item
            for name, item in _datasets(self._file, h5py.Group)
            if item.dtype.kind in "fiubcV" and item.shape is not None
        }

    def names(self) -> list[str]:
        """Return the paths of the arrays, sorted."""
        return sorted(self._sets)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one variable."""
        return tuple(self._set(name).shape)

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of one variable; what Keras marked as bfloat16 is that."""
        array = self._set(name)
        if array.attrs.get("dtype") == "bfloat16":
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16)
        return array.dtype

    def read(self, name: str) -> np.ndarray:
        """Read one variable into memory."""
        array = self._set(name)
        try:
            value = np.asarray(array[()])
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{self.description}: {name!r} cannot be read ({error})"
            ) from error
        # Keras stores bfloat16 as two opaque bytes beside an attribute that says so.
        wanted = self.dtype(name)
        return value if value.dtype == wanted else value.view(wanted)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _set(self, name: str) -> Any:
        if name not in self._sets:
            raise self._absent(name)
        return self._sets[name]


def _datasets(group: Any, group_type: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in group.items():
        if isinstance(item, group_type):
            yield from _datasets(item, group_type, f"{prefix}{name}/")
        else:
            yield prefix + name, item
