"""Decompress one Snappy block (format_description.txt of google/snappy).

A varint holds the length of the result; then come elements whose lowest two bits tell a literal
(0) from a copy of earlier output with a 1-, 2- or 4-byte offset (1, 2, 3).
"""

from __future__ import annotations

from .wire import WireError, read_varint

# A copy element of 3 bytes makes at most 64: nothing honest grows by more.
_MOST_GROWTH = 64


def decompress(data: bytes) -> bytes:
    """Return the decompressed block.

    Args:
        data: The whole compressed block.

    Raises:
        WireError: The block is damaged, or claims a length that its bytes cannot make.
    """
    size, position = read_varint(data, 0)
    if size > _MOST_GROWTH * len(data):
        raise WireError(f"{len(data)} compressed bytes cannot make {size}")
    out = bytearray()
    while position < len(data):
        tag = data[position]
        position += 1
        kind = tag & 3
        if kind == 0:
            length = tag >> 2
            if length >= 60:
                extra = length - 59
                length = int.from_bytes(_take(data, position, extra), "little")
                position += extra
            length += 1
            out += _take(data, position, length)
            position += length
        else:
            if kind == 1:
                length = (tag >> 2 & 7) + 4
                offset = tag >> 5 << 8 | _take(data, position, 1)[0]
                position += 1
            else:
                width = 2 if kind == 2 else 4
                length = (tag >> 2) + 1
                offset = int.from_bytes(_take(data, position, width), "little")
                position += width
            if not 0 < offset <= len(out):
                raise WireError("a copy reaches before the beginning")
            # The source may overlap what is being written: its pattern then repeats.
            source = bytes(out[-offset:][:length])
            out += (source * (length // len(source) + 1))[:length]
        if len(out) > size:
            raise WireError(f"the block grows beyond the {size} bytes it announced")
    if len(out) != size:
        raise WireError(f"the block ends at {len(out)} bytes of the {size} it announced")
    return bytes(out)


def _take(data: bytes, position: int, length: int) -> bytes:
    if length > len(data) - position:
        raise WireError("an element runs past the end")
    return data[position : position + length]
