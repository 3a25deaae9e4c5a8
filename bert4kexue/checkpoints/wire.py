"""The protocol-buffer wire format, as much of it as a checkpoint's index needs.

A message is a run of fields, each a varint `number << 3 | kind` followed by a varint (kind 0),
8 bytes (1), a varint length and as many bytes (2), or 4 bytes (5).
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """Bytes that are no message."""


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the unsigned number at `position` and the position after it.

    Raises:
        WireError: The data end inside it, or it is longer than 64 bits.
    """
    value = shift = 0
    while True:
        if position >= len(data):
            raise WireError("a number runs past the end")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise WireError("a number is longer than ten bytes")
    if value >> 64:
        raise WireError("a number has more than 64 bits")
    return value, position


def write_varint(value: int) -> bytes:
    """Return the bytes of an unsigned number."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed64(value: int) -> int:
    """Return what an int64 field means by this varint."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yield (number, kind, value) of every field in order.

    Raises:
        WireError: The bytes are no message.
    """
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, position = read_varint(data, position)
            yield number, kind, value
            continue
        if kind == BYTES:
            length, position = read_varint(data, position)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"a field has the unknown wire type {kind}")
        if length > len(data) - position:
            raise WireError("a field runs past the end")
        chunk = data[position : position + length]
        position += length
        yield number, kind, chunk if kind == BYTES else int.from_bytes(chunk, "little")


def varint_field(number: int, value: int) -> bytes:
    """Return a number's field; nothing for 0, which is what an absent field means."""
    return write_varint(number << 3 | VARINT) + write_varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """Return the field of a string or of an inner message, empty ones too."""
    return write_varint(number << 3 | BYTES) + write_varint(len(value)) + value


def fixed32_field(number: int, value: int) -> bytes:
    """Return the field of a fixed 32-bit number."""
    return write_varint(number << 3 | FIXED32) + value.to_bytes(4, "little")
