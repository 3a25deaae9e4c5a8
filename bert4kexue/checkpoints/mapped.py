"""A read-only file as memory: arrays are views, bytes come from the disk when they are touched."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress

import numpy as np


class MappedFile:
    """A memory map whose views stay valid after it is closed.

    Args:
        path: The file; an empty one is allowed (and not mapped, which no system can).

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        with open(path, "rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            self._map: mmap.mmap | bytes | None = b""
            if self.size:
                self._map = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)

    def copy(self, offset: int, length: int) -> bytes:
        """Return some bytes; the caller has checked the bounds."""
        return bytes(self._memory()[offset : offset + length])

    def array(
        self, offset: int, length: int, dtype: np.dtype, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Return a read-only view of `length` bytes at `offset`, which need not be aligned.

        The caller has checked the bounds and that shape and dtype make `length` bytes.
        """
        if length == 0:
            empty = np.zeros(shape, dtype)
            empty.flags.writeable = False
            return empty
        raw = np.frombuffer(self._memory(), np.uint8, count=length, offset=offset)
        return raw.view(dtype).reshape(shape)

    def close(self) -> None:
        """Let go of the map: at once where nobody holds a view, else with the last view."""
        if isinstance(self._map, mmap.mmap):
            with suppress(BufferError):
                self._map.close()
        self._map = None

    def _memory(self) -> mmap.mmap | bytes:
        if self._map is None:
            raise ValueError(f"{self.path} was closed: read before leaving the `with` block")
        return self._map
