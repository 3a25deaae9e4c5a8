"""The sorted table of keys and values that a checkpoint's .index file is (LevelDB's format).

    data block ... | metaindex block | index block | footer (48 bytes)

A block is entries, an array of 32-bit restart offsets, and their count; a trailer of five bytes
gives its compression (0 none, 1 Snappy) and the masked CRC-32C of both. An entry is three
varints (bytes shared with the previous key, further bytes of the key, bytes of the value), then
the rest of the key, then the value; at a restart nothing is shared. The index block maps a key
not below a data block's last one to the block's offset and size (its handle); the footer holds
the handles of metaindex and index, zeros up to 40 bytes, and a magic number.

The writer follows TensorFlow's builder (blocks of 256 KiB, a restart every 16 entries, no
compression) to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .crc32c import Extend, mask
from .snappy import decompress
from .wire import WireError, read_varint, write_varint

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_FOOTER = 48
_TRAILER = 5
_BLOCK_SIZE = 262144
_RESTART_INTERVAL = 16


def read_table(data: bytes, extend: Extend) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a table in the order of their keys.

    Args:
        data: The whole file.
        extend: What `crc32c_extend` returned.

    Raises:
        WireError: The table is cut off or damaged; every block's checksum is compared.
    """
    if len(data) < _FOOTER or data[-8:] != MAGIC:
        raise WireError("it does not end as a table does (cut off, or no TensorFlow index)")
    footer = data[-_FOOTER:-8]
    _, position = _handle(footer, 0)
    (offset, size), _ = _handle(footer, position)
    previous: bytes | None = None
    for _, value in _entries(_block(data, offset, size, extend)):
        handle, end = _handle(value, 0)
        if end != len(value):
            raise WireError("a block's handle has bytes too many")
        for key, content in _entries(_block(data, *handle, extend)):
            # So a block that is named twice is refused, not read again and again.
            if previous is not None and key <= previous:
                raise WireError("its keys are not in order")
            previous = key
            yield key, content


def write_table(entries: Iterable[tuple[bytes, bytes]], extend: Extend) -> bytes:
    """Return the file of a table.

    Args:
        entries: Keys and values, keys strictly ascending.
        extend: What `crc32c_extend` returned.
    """
    out = bytearray()
    data, index = _BlockBuilder(_RESTART_INTERVAL), _BlockBuilder(1)

    def flush(builder: _BlockBuilder) -> bytes:
        content = builder.finish() + b"\0"
        handle = write_varint(len(out)) + write_varint(len(content) - 1)
        out.extend(content + mask(extend(0, _array(content))).to_bytes(4, "little"))
        return handle

    last, pending = b"", None
    for key, value in entries:
        if pending is not None:
            index.add(_between(last, key), pending)
            pending = None
        data.add(key, value)
        last = key
        if data.size >= _BLOCK_SIZE:
            pending = flush(data)
            data = _BlockBuilder(_RESTART_INTERVAL)
    if data.size > 8:
        pending = flush(data)
    metaindex = flush(_BlockBuilder(_RESTART_INTERVAL))
    if pending is not None:
        index.add(_successor(last), pending)
    footer = metaindex + flush(index)
    return bytes(out) + footer.ljust(40, b"\0") + MAGIC


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _block(data: bytes, offset: int, size: int, extend: Extend) -> bytes:
    if offset + size + _TRAILER > len(data) - _FOOTER:
        raise WireError("a block lies outside the file")
    end = offset + size
    stored = int.from_bytes(data[end + 1 : end + _TRAILER], "little")
    if mask(extend(0, _array(data[offset : end + 1]))) != stored:
        raise WireError("the checksum of a block is wrong")
    content, compression = data[offset:end], data[end]
    if compression == 1:
        return decompress(content)
    if compression != 0:
        raise WireError(f"a block has the unknown compression {compression}")
    return content


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise WireError("a block is too short")
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if end < 0:
        raise WireError("a block has more restarts than bytes")
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        further, position = read_varint(block, position)
        length, position = read_varint(block, position)
        if shared > len(key) or further + length > end - position:
            raise WireError("an entry runs past its block")
        key = key[:shared] + block[position : position + further]
        position += further
        yield key, block[position : position + length]
        position += length
    if position != end:
        raise WireError("an entry runs into the restarts")


def _array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


class _BlockBuilder:
    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._out = bytearray()
        self._restarts = [0]
        self._since = 0
        self._last = b""

    @property
    def size(self) -> int:
        return len(self._out) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._since < self._interval:
            shared = _common(self._last, key)
        else:
            self._restarts.append(len(self._out))
            self._since = 0
        for number in (shared, len(key) - shared, len(value)):
            self._out += write_varint(number)
        self._out += key[shared:] + value
        self._last = key
        self._since += 1

    def finish(self) -> bytes:
        numbers = [*self._restarts, len(self._restarts)]
        return bytes(self._out) + b"".join(number.to_bytes(4, "little") for number in numbers)


def _common(a: bytes, b: bytes) -> int:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


def _between(low: bytes, high: bytes) -> bytes:
    """Return a short key that is not below `low` and is below `high`."""
    at = _common(low, high)
    if at < min(len(low), len(high)) and low[at] < 0xFF and low[at] + 1 < high[at]:
        return low[:at] + bytes([low[at] + 1])
    return low


def _successor(key: bytes) -> bytes:
    """Return a short key that is not below `key`."""
    for at, byte in enumerate(key):
        if byte != 0xFF:
            return key[:at] + bytes([byte + 1])
    return key
