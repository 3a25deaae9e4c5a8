"""Read .safetensors files: eight bytes of header length, a JSON header, then raw tensors.

Format (https://github.com/huggingface/safetensors, README, "Format"): a little-endian 64-bit
length N; N bytes of JSON {name: {"dtype", "shape", "data_offsets": [begin, end]}} with an
optional "__metadata__"; then the bytes that the offsets count from. The offsets must tile those
bytes without hole or overlap; a file that breaks this is refused, never guessed at.
"""

from __future__ import annotations

import json
import math
import os

import ml_dtypes
import numpy as np

from .base import CheckpointError, ReaderBase
from .mapped import MappedFile

_DTYPES: dict[str, type] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}

_LONGEST_HEADER = 100_000_000


class SafetensorsCheckpoint(ReaderBase):
    """A .safetensors file, memory-mapped.

    Args:
        path: The file.

    Raises:
        CheckpointError: The header is damaged, or the file is shorter or longer than it says.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.description = f"safetensors file {os.fspath(path)}"
        self._file = MappedFile(path)
        try:
            self._entries, self._start = self._parse()
        except BaseException:
            self._file.close()
            raise

    def names(self) -> list[str]:
        """Return the variables' names, sorted."""
        return sorted(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one variable."""
        return self._entry(name)[1]

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of one variable."""
        return self._entry(name)[0]

    def read(self, name: str) -> np.ndarray:
        """Return one variable as a read-only view of the map."""
        dtype, shape, begin, end = self._entry(name)
        return self._file.array(self._start + begin, end - begin, dtype, shape)

    def close(self) -> None:
        """Let go of the map."""
        self._file.close()

    def _entry(self, name: str) -> tuple[np.dtype, tuple[int, ...], int, int]:
        if name not in self._entries:
            raise self._absent(name)
        return self._entries[name]

    def _refuse(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self.description} is damaged: {reason}; fetch it again")

    def _parse(self) -> tuple[dict[str, tuple[np.dtype, tuple[int, ...], int, int]], int]:
        size = self._file.size
        if size < 8:
            raise self._refuse(f"it has {size} bytes, and the header's length alone takes 8")
        length = int.from_bytes(self._file.copy(0, 8), "little")
        if length > min(size - 8, _LONGEST_HEADER):
            raise self._refuse(f"its header would have {length} bytes, the file has {size}")
        try:
            header = json.loads(self._file.copy(8, length).decode("utf-8"))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise self._refuse(f"its header is not JSON ({error})") from error
        if not isinstance(header, dict):
            raise self._refuse("its header is not a JSON object")
        header.pop("__metadata__", None)
        entries = {name: self._parse_entry(name, value) for name, value in header.items()}
        end = 0
        for name, (_, _, begin, stop) in sorted(entries.items(), key=lambda item: item[1][2:]):
            if begin != end:
                raise self._refuse(f"{name!r} begins at byte {begin}, {end} was due")
            end = stop
        if 8 + length + end != size:
            raise self._refuse(f"its tensors end at byte {8 + length + end}, the file at {size}")
        return entries, 8 + length

    def _parse_entry(self, name: str, value: object) -> tuple[np.dtype, tuple[int, ...], int, int]:
        try:
            kind, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]  # type: ignore[index]
        except (KeyError, TypeError, ValueError) as error:
            raise self._refuse(f"the entry of {name!r} lacks dtype, shape or offsets") from error
        if not isinstance(kind, str) or kind not in _DTYPES:
            raise CheckpointError(
                f"{self.description}: {name!r} has dtype {kind!r}, which is none of "
                f"{', '.join(_DTYPES)}; convert it to one of them"
            )
        whole = [begin, end, *shape] if isinstance(shape, list) else [None]
        if any(type(number) is not int or number < 0 for number in whole):
            raise self._refuse(f"the entry of {name!r} holds sizes that are no whole numbers")
        dtype = np.dtype(_DTYPES[kind])
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise self._refuse(
                f"{name!r} has {end - begin} bytes, its shape {shape} of {kind} needs "
                f"{math.prod(shape) * dtype.itemsize}"
            )
        if len(shape) > 32:
            raise self._refuse(f"{name!r} has {len(shape)} axes")
        return dtype, tuple(shape), begin, end
