"""Files and folders that are either whole or absent: write under a temporary name, then rename."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(
    path: str | os.PathLike[str], mode: Literal["wb", "w"] = "wb"
) -> Iterator[IO[Any]]:
    r"""Open a file that takes the name `path` only when the block ends without an exception.

    The bytes go to a temporary name in the same folder (so that the rename never crosses a file
    system), reach the disk, and replace whatever `path` was. After an exception the temporary
    file is gone and `path` is as it was before.

    Args:
        path: The file to write; its folder must exist.
        mode: "wb" for bytes, "w" for text (UTF-8, "\n" line ends on every system).

    Yields:
        The open file.

    Raises:
        OSError: The folder is absent or not writable, the disk is full, or (on Windows) `path` is
            open or memory-mapped by somebody: close it first.

    Example:
        >>> with atomic_write("vocab.txt", "w") as file:
        ...     file.write("[PAD]\n")
    """
    path = Path(path)
    temporary = _temporary_beside(path)
    text = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    try:
        with open(temporary, mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(FileNotFoundError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            free = shutil.disk_usage(path.parent).free
            raise OSError(
                error.errno,
                f"{path} could not be written ({error.strerror}; without it {free:,} bytes are "
                "free there): make room and run the same again",
            ) from error
        raise


def write_array(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write a .npy file that is whole or absent.

    `np.save` hands a file to `ndarray.tofile`, which on a full disk tells two numbers and nothing
    else.

    Raises:
        OSError: as of :func:`atomic_write`.
    """
    array = np.asarray(array, order="C")
    with atomic_write(path) as file:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data)


@contextmanager
def atomic_folder(
    path: str | os.PathLike[str], inside: str | os.PathLike[str] | None = None
) -> Iterator[Path]:
    """Fill a folder that takes the name `path` only when the block ends without an exception.

    An older folder of that name is moved aside, replaced and then removed: a reader sees the old
    content or the new, never a mixture. (A folder cannot replace a full one in one step, so for
    the moment between two renames the name is absent.)

    Args:
        path: The folder to make; its parent must exist.
        inside: A folder on the same file system for what is temporary; the parent when None. What
            a kill leaves there is the caller's to remove.

    Yields:
        The temporary folder to write into.

    Raises:
        OSError: The parent is absent or not writable, or `path` is a file.

    Example:
        >>> with atomic_folder("export") as folder:
        ...     (folder / "vocab.txt").write_text("[PAD]", encoding="utf-8")
    """
    path = Path(path)
    if path.is_file():
        raise FileExistsError(f"a folder is written here, but {path} is a file: remove it first")
    beside = path if inside is None else Path(inside, path.name)
    temporary = _temporary_beside(beside)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            old = _temporary_beside(beside)
            os.rename(path, old)
            try:
                os.rename(temporary, path)
            except BaseException:
                os.rename(old, path)
                raise
            shutil.rmtree(old)
        else:
            os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _temporary_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
