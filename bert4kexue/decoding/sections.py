"""One file of named arrays: magic, version, a table of sections, checksums; read by memory map.

magic            8 bytes, says what the file is
version          uint32
sections         uint32, their number
file size        uint64
about            uint32, length of a JSON object (UTF-8) that follows the table
header checksum  uint32, CRC-32 of the header with this field zero, table and JSON included
table            per section: name (16 bytes), dtype (8 bytes), offset, items (uint64 each),
                 CRC-32 of its bytes (uint32), zero (uint32)
sections         each begins at a multiple of 64 bytes; one-dimensional, little-endian
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from bert4kexue._files import atomic_write

_HEADER = struct.Struct("<8sIIQII")
_ENTRY = struct.Struct("<16s8sQQII")
_ALIGN = 64
_DTYPES = ("<i4", "<u2", "<u4", "<i8", "|u1")


def write(
    path: str | Path, magic: bytes, version: int, about: dict, arrays: Mapping[str, np.ndarray]
) -> None:
    """Write one-dimensional arrays under their names; the file appears complete or not at all."""
    note = json.dumps(about, ensure_ascii=False, sort_keys=True).encode("utf-8")
    little = {name: _little(array) for name, array in arrays.items()}
    place = _aligned(_HEADER.size + _ENTRY.size * len(little) + len(note))
    table = b""
    for name, array in little.items():
        entry = (name.encode("ascii"), array.dtype.str.encode("ascii"), place, array.size)
        table += _ENTRY.pack(*entry, zlib.crc32(array.data), 0)
        place = _aligned(place + array.nbytes)
    fields = (magic, version, len(little), place, len(note))
    checksum = zlib.crc32(_HEADER.pack(*fields, 0) + table + note)
    with atomic_write(path) as file:
        file.write(_HEADER.pack(*fields, checksum) + table + note)
        for array in little.values():
            file.write(b"\0" * (-file.tell() % _ALIGN))
            file.write(array.data)
        file.write(b"\0" * (-file.tell() % _ALIGN))


def fingerprint(path: str | Path) -> str:
    """SHA-256 of the header of a file of `write`, which holds the checksum of every section."""
    with open(path, "rb") as file:
        header = file.read(_HEADER.size)
        count, note = _HEADER.unpack(header)[2], _HEADER.unpack(header)[4]
        return hashlib.sha256(header + file.read(count * _ENTRY.size + note)).hexdigest()


class MappedFile:
    """A file of `write` mapped into memory: `arrays` (read-only views) and `about`.

    Raises:
        ValueError: not such a file, another version, cut short, or a checksum that does not hold.
    """

    def __init__(
        self, path: str | Path, magic: bytes, version: int, *, verify: bool = True
    ) -> None:
        self.path = Path(path)
        self.arrays: dict[str, np.ndarray] = {}
        with open(self.path, "rb") as file:
            if os.fstat(file.fileno()).st_size < _HEADER.size:
                raise self._broken("is too short to hold a header")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self._read(magic, version, verify)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unmap the file (needed on Windows before it can be replaced)."""
        self.arrays = {}
        with suppress(BufferError):  # a caller still holds an array: the map goes with the last one
            self._map.close()

    def _read(self, magic: bytes, version: int, verify: bool) -> None:
        found, its_version, count, size, note_size, checksum = _HEADER.unpack_from(self._map)
        if found != magic:
            raise self._broken(
                f"begins with {found!r} where {magic!r} belongs", "use the right file"
            )
        if its_version != version:
            remedy = "write it again with this version of bert4kexue"
            raise self._broken(f"has format version {its_version}, not {version}", remedy)
        if size != len(self._map):
            raise self._broken(f"should have {size} bytes and has {len(self._map)}")
        body = count * _ENTRY.size + note_size
        if _HEADER.size + body > size:
            raise self._broken("has a header larger than the file")
        rest = self._map[_HEADER.size : _HEADER.size + body]
        if zlib.crc32(_HEADER.pack(magic, version, count, size, note_size, 0) + rest) != checksum:
            raise self._broken("has a damaged header (its checksum does not hold)")
        self.about = json.loads(rest[count * _ENTRY.size :].decode("utf-8"))
        for index in range(count):
            self._read_section(_ENTRY.unpack_from(rest, index * _ENTRY.size), verify)

    def _read_section(self, entry: tuple, verify: bool) -> None:
        name, dtype = (part.rstrip(b"\0").decode("ascii") for part in entry[:2])
        place, items, checksum = entry[2:5]
        if dtype not in _DTYPES or place + items * np.dtype(dtype).itemsize > len(self._map):
            raise self._broken(f"has a section {name!r} that reaches outside the file")
        array = np.frombuffer(self._map, dtype, items, place)
        if verify and zlib.crc32(array.data) != checksum:
            del array
            raise self._broken(f"has a damaged section {name!r} (its checksum does not hold)")
        self.arrays[name] = array

    def _broken(self, fault: str, remedy: str = "write the file again") -> ValueError:
        return ValueError(f"{self.path}: the file {fault}: {remedy}")


def _little(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array)
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _aligned(place: int) -> int:
    return -(-place // _ALIGN) * _ALIGN
