"""NumPy's .npz archives as checkpoints: one member is read at a time, pickles never."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import IO, TypeVar

import numpy as np

from .base import CheckpointError, ReaderBase

_T = TypeVar("_T")


class NpzCheckpoint(ReaderBase):
    """An .npz file; shapes and dtypes come from the members' headers.

    Args:
        path: The file.

    Raises:
        CheckpointError: Not a zip archive, a damaged member, or one that would need pickle.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.description = f"NumPy archive {os.fspath(path)}"
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise CheckpointError(
                f"{self.description} is no readable .npz ({error}): was the download cut off?"
            ) from error
        self._headers: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        try:
            for member in self._zip.namelist():
                if member.endswith(".npy"):
                    self._headers[member[: -len(".npy")]] = self._header(member)
        except BaseException:
            self._zip.close()
            raise

    def names(self) -> list[str]:
        """Return the variables' names, sorted."""
        return sorted(self._headers)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one variable, from the member's header."""
        return self._known(name)[0]

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of one variable, from the member's header."""
        return self._known(name)[1]

    def read(self, name: str) -> np.ndarray:
        """Unpack one variable; the archive's own CRC-32 is checked on the way."""
        self._known(name)
        return self._guarded(name, lambda file: np.lib.format.read_array(file, allow_pickle=False))

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Read every named member to its end, which checks the archive's CRC-32.

        Args:
            names: The variables to check; None for all.

        Raises:
            CheckpointError: A member is damaged.
        """
        for name in self.names() if names is None else names:
            self._known(name)
            self._guarded(name, _drain)

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()

    def _known(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        if name not in self._headers:
            raise self._absent(name)
        return self._headers[name]

    def _header(self, member: str) -> tuple[tuple[int, ...], np.dtype]:
        def parse(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(file)
            if dtype.hasobject:
                raise ValueError("it holds Python objects, which only pickle could read")
            return shape, dtype

        return self._guarded(member[: -len(".npy")], parse)

    def _guarded(self, name: str, use: Callable[[IO[bytes]], _T]) -> _T:
        try:
            with self._zip.open(name + ".npy") as file:
                return use(file)
        except (
            ValueError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise CheckpointError(
                f"{self.description}: member {name!r} cannot be read ({error})"
            ) from error


def _drain(file: IO[bytes]) -> None:
    while file.read(1 << 20):
        pass
