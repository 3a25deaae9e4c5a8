"""Read TensorFlow checkpoints (prefix.index, prefix.data-00000-of-00001, ...) without TensorFlow.

The .index is a sorted table of where every variable lies (see sstable.py, tf_index.py); the
.data files are the bare bytes, which are memory-mapped. Opening reads the index, compares its
checksums, and checks that every .data file is there and long enough; the values' checksums are
compared by `verify`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from .base import CheckpointError, ReaderBase
from .crc32c import Extend, crc32c_extend, mask
from .mapped import MappedFile
from .sstable import MAGIC, read_table
from .tf_index import (
    DTYPES,
    STRING,
    Entry,
    Header,
    data_name,
    parse_entry,
    parse_header,
    slice_key,
)
from .tf_writer import write_tf_checkpoint as write_tf_checkpoint
from .wire import WireError, read_varint

_CHUNK = 1 << 22


class TFCheckpoint(ReaderBase):
    """A checkpoint in TensorFlow's own format.

    Args:
        prefix: The path without '.index'.

    Raises:
        CheckpointError: The index is damaged, or a .data file is missing or cut off.
        OSError: A file cannot be opened.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self.prefix = os.fspath(prefix)
        self.description = f"TensorFlow checkpoint {self.prefix}"
        self._extend: Extend = crc32c_extend()
        self._maps: dict[int, MappedFile] = {}
        self._closed = False
        index = Path(self.prefix + ".index").read_bytes()
        try:
            self._header, self._entries, self._slices = self._parse(index)
        except WireError as error:
            raise CheckpointError(
                f"{self.prefix}.index is damaged: {error}; fetch or write the checkpoint again"
            ) from error
        self._check_sizes()

    @staticmethod
    def refuse_single_file(path: Path) -> None:
        """Raise where the file is a checkpoint of TensorFlow's first format (before 0.12)."""
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8))
            if file.read() != MAGIC:
                return
        if path.name.endswith(".index"):
            return
        raise CheckpointError(
            f"{path} is a single-file checkpoint of TensorFlow's first format (V1), which is not "
            "read; restore it with tf.compat.v1.train.Saver and save it with write_version=V2"
        )

    def names(self) -> list[str]:
        """Return the variables' names, sorted; a partitioned one is one name."""
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one variable."""
        return self._entry(name).shape

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of one variable; object for strings (arrays of bytes).

        Raises:
            CheckpointError: No such variable, or a type that NumPy has not.
        """
        entry = self._entry(name)
        if entry.code == STRING:
            return np.dtype(object)
        if entry.code not in DTYPES:
            raise CheckpointError(
                f"{self.description}: {name!r} has TensorFlow's dtype number {entry.code}, which "
                "is no array of numbers; leave it out"
            )
        return DTYPES[entry.code]

    def read(self, name: str) -> np.ndarray:
        """Return one variable.

        Numbers come as a read-only view of the map (partitioned or byte-swapped ones as a new
        array), strings as a new array of bytes objects.

        Raises:
            CheckpointError: No such variable, or one that cannot be read.
        """
        entry = self._entry(name)
        self.dtype(name)
        if entry.slices:
            return self._assembled(name, entry)
        if entry.code == STRING:
            return self._strings(name, entry)
        return self._numbers(entry)

    def layout(self) -> list[str]:
        """Return the names in the order in which the values lie in the .data files."""
        return sorted(self._entries, key=lambda name: self._place(name)[:2])

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Compare the checksums of the values; memory stays flat.

        Args:
            names: The variables to check; None for all.

        Raises:
            CheckpointError: Names every variable whose bytes are not those that were written.
        """
        wanted = list(self._entries) if names is None else list(names)
        damaged = []
        files: dict[int, IO[bytes]] = {}
        buffer = np.empty(_CHUNK, np.uint8)
        with ExitStack() as stack:
            for name in sorted(wanted, key=lambda name: self._place(name)[:2]):
                for entry in self._parts(name):
                    if entry.shard not in files:
                        path = self._shard_path(entry.shard)
                        files[entry.shard] = stack.enter_context(open(path, "rb", buffering=0))
                    if self._checksum(files[entry.shard], entry, buffer) != entry.crc:
                        damaged.append(name)
                        break
        if damaged:
            shown = ", ".join(damaged[:20]) + (", ..." if len(damaged) > 20 else "")
            raise CheckpointError(
                f"{self.description} is damaged: the checksums of {len(damaged)} of {len(wanted)} "
                f"variables are wrong ({shown}); fetch the .data files again"
            )

    def close(self) -> None:
        """Let go of the maps; what was read stays valid."""
        for mapped in self._maps.values():
            mapped.close()
        self._maps.clear()
        self._closed = True

    # -- opening

    def _parse(self, index: bytes) -> tuple[Header, dict[str, Entry], dict[bytes, Entry]]:
        header: Header | None = None
        entries: dict[str, Entry] = {}
        slices: dict[bytes, Entry] = {}
        for key, value in read_table(index, self._extend):
            if header is None:
                if key != b"":
                    raise WireError("it has no header")
                header = parse_header(value)
                continue
            try:
                entry = parse_entry(value)
                if key.startswith(b"\0"):
                    slices[key] = entry
                else:
                    entries[key.decode("utf-8")] = entry
            except UnicodeDecodeError as error:
                raise WireError(f"the name {key!r} is not UTF-8") from error
            except WireError as error:
                raise WireError(f"entry {key!r}: {error}") from error
            if entry.shard >= header.shards:
                raise WireError(f"{key!r} lies in shard {entry.shard} of {header.shards}")
        if header is None:
            raise WireError("it is empty")
        for name, entry in entries.items():
            if entry.slices:
                self._check_slices(name, entry, slices)
        return header, entries, slices

    @staticmethod
    def _check_slices(name: str, entry: Entry, slices: dict[bytes, Entry]) -> None:
        total = 0
        for extents in entry.slices:
            part = slices.get(slice_key(name.encode("utf-8"), extents))
            if part is None:
                raise WireError(f"a slice of {name!r} is missing")
            lengths = tuple(
                size if length < 0 else length
                for (_, length), size in zip(extents, entry.shape, strict=True)
            )
            inside = all(
                start >= 0 and start + length <= size
                for (start, _), length, size in zip(extents, lengths, entry.shape, strict=True)
            )
            if not inside or part.shape != lengths or part.code != entry.code or part.slices:
                raise WireError(f"a slice of {name!r} does not fit it")
            total += math.prod(lengths)
        if total != math.prod(entry.shape):
            raise WireError(f"the slices of {name!r} do not make it up")

    def _check_sizes(self) -> None:
        needed: dict[int, int] = {}
        for entry in (*self._entries.values(), *self._slices.values()):
            if not entry.slices:
                end = entry.offset + entry.size
                needed[entry.shard] = max(end, needed.get(entry.shard, 0))
        self._needed = needed
        for shard, size in sorted(needed.items()):
            path = self._shard_path(shard)
            if not os.path.isfile(path):
                raise CheckpointError(
                    f"{self.prefix}.index needs the file {path}, which is missing; a checkpoint "
                    f"of {self._header.shards} shards is {self._header.shards} .data files and "
                    "the .index"
                )
            self._check_length(path, os.path.getsize(path), size)

    @staticmethod
    def _check_length(path: str, found: int, needed: int) -> None:
        if found < needed:
            raise CheckpointError(
                f"{path} is cut off: it has {found} bytes, its index needs {needed}; fetch it again"
            )

    # -- reading

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            raise self._absent(name)
        return self._entries[name]

    def _parts(self, name: str) -> list[Entry]:
        """The entries that have bytes: the variable's own, or those of its slices."""
        entry = self._entry(name)
        if not entry.slices:
            return [entry]
        return [self._slices[slice_key(name.encode("utf-8"), one)] for one in entry.slices]

    def _place(self, name: str) -> tuple[int, int, str]:
        return min((part.shard, part.offset, name) for part in self._parts(name))

    def _shard_path(self, shard: int) -> str:
        return data_name(self.prefix, shard, self._header.shards)

    def _map(self, shard: int) -> MappedFile:
        if self._closed:
            raise ValueError(f"{self.description} was closed: read before leaving the `with` block")
        if shard not in self._maps:
            mapped = MappedFile(self._shard_path(shard))
            # It may have been replaced since it was opened.
            self._check_length(mapped.path, mapped.size, self._needed[shard])
            self._maps[shard] = mapped
        return self._maps[shard]

    def _numbers(self, entry: Entry) -> np.ndarray:
        dtype = DTYPES[entry.code]
        array = self._map(entry.shard).array(entry.offset, entry.size, dtype, entry.shape)
        if self._header.big_endian == (sys.byteorder == "big"):
            return array
        width = dtype.itemsize // (2 if dtype.kind == "c" else 1)
        if width == 1 or array.size == 0:
            return array
        flat = array.reshape(-1).view(np.dtype(f"u{width}"))
        return flat.byteswap().view(dtype).reshape(entry.shape)

    def _assembled(self, name: str, entry: Entry) -> np.ndarray:
        if entry.code == STRING:
            raise CheckpointError(
                f"{self.description}: {name!r} is a partitioned variable of strings, which is "
                "not read; leave it out"
            )
        whole = np.empty(entry.shape, DTYPES[entry.code])
        filled = np.zeros(entry.shape, bool)
        for extents, part in zip(entry.slices, self._parts(name), strict=True):
            place = tuple(
                slice(start, None if length < 0 else start + length) for start, length in extents
            )
            whole[place] = self._numbers(part)
            filled[place] = True
        if not filled.all():
            raise CheckpointError(
                f"{self.description}: the slices of {name!r} overlap and leave holes; write the "
                "checkpoint again"
            )
        return whole

    def _strings(self, name: str, entry: Entry) -> np.ndarray:
        mapped = self._map(entry.shard)
        data = mapped.copy(entry.offset, entry.size)
        try:
            lengths, position = _string_lengths(data, math.prod(entry.shape))
        except WireError as error:
            raise CheckpointError(
                f"{self.description}: the strings of {name!r} are damaged ({error})"
            ) from error
        values = np.empty(len(lengths), object)
        position += 4
        for index, length in enumerate(lengths):
            values[index] = data[position : position + length]
            position += length
        return values.reshape(entry.shape)

    # -- checksums

    def _checksum(self, file: IO[bytes], entry: Entry, buffer: np.ndarray) -> int:
        """The masked checksum of an entry's bytes as they are on the disk; -1 if not to be had."""
        file.seek(entry.offset)
        if entry.code == STRING:
            data = file.read(entry.size)
            return self._string_checksum(data, math.prod(entry.shape))
        crc, left = 0, entry.size
        while left:
            count = file.readinto(buffer[: min(left, _CHUNK)])  # type: ignore[attr-defined]
            if not count:
                return -1  # the file was cut after it was opened
            crc = self._extend(crc, buffer[:count])
            left -= count
        return mask(crc)

    def _string_checksum(self, data: bytes, count: int) -> int:
        # Of the lengths as 32-bit numbers, then of the stored checksum of the lengths, then of
        # the strings.
        try:
            lengths, position = _string_lengths(data, count)
        except WireError:
            return -1
        sizes = np.array(lengths, "<u4").view(np.uint8)
        crc = self._extend(0, sizes) if sizes.size else 0
        if data[position : position + 4] != mask(crc).to_bytes(4, "little"):
            return -1
        return mask(self._extend(crc, np.frombuffer(data[position:], np.uint8)))


def _string_lengths(data: bytes, count: int) -> tuple[list[int], int]:
    """Return the lengths of the strings and where the four bytes of their checksum begin."""
    if count > len(data):
        raise WireError(f"{len(data)} bytes cannot hold {count} strings")
    lengths, position = [], 0
    for _ in range(count):
        length, position = read_varint(data, position)
        lengths.append(length)
    if position + 4 + sum(lengths) != len(data) or max(lengths, default=0) >> 32:
        raise WireError("their lengths do not make up their bytes")
    return lengths, position
