"""What every checkpoint reader offers, whatever the format of the file."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import numpy as np


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, with the file, the rule it breaks and the remedy."""


@runtime_checkable
class Checkpoint(Protocol):
    """Named arrays that are read one at a time.

    `read` is lazy: nothing but names, shapes and dtypes is held until it is asked for, and what
    it returns may be a read-only view of a memory map, valid also after `close`.
    """

    @property
    def description(self) -> str:
        """What and where this is, in words for an error message."""
        ...

    def names(self) -> list[str]:
        """Return the variables' names, sorted."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one variable, without reading it."""
        ...

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of one variable, without reading it (bfloat16 as of ml_dtypes)."""
        ...

    def read(self, name: str) -> np.ndarray:
        """Return one variable."""
        ...

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Compare stored checksums with the bytes; nothing where the format has none.

        Args:
            names: The variables to check; None for all.

        Raises:
            CheckpointError: The bytes of a variable are not those that were written.
        """
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class ReaderBase:
    """What the readers share: closing as a context manager, and words for an absent name."""

    description: str

    def names(self) -> list[str]:
        """Return the variables' names, sorted."""
        raise NotImplementedError

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one variable."""
        raise NotImplementedError

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of one variable."""
        raise NotImplementedError

    def read(self, name: str) -> np.ndarray:
        """Return one variable."""
        raise NotImplementedError

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Check that the names exist; this format keeps no checksums."""
        present = set(self.names())
        for name in names or ():
            if name not in present:
                raise self._absent(name)

    def close(self) -> None:
        """Let go of the files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _absent(self, name: str) -> CheckpointError:
        from .nearest import nearest_names

        near = nearest_names(name, self.names())
        hint = f"; the nearest names are {', '.join(near)}" if near else ""
        return CheckpointError(f"{self.description} has no variable {name!r}{hint}")
