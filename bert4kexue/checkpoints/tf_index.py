"""What the .index table of a TensorFlow checkpoint says: its header and one entry per variable.

The header stands under the empty key, every variable under its name. A partitioned variable has
an entry without bytes that lists its slices, and each slice an entry of its own under a key that
begins with a zero byte (tensorflow/core/protobuf/tensor_bundle.proto, saved_tensor_slice_util).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from .wire import (
    BYTES,
    FIXED32,
    VARINT,
    WireError,
    bytes_field,
    fields,
    fixed32_field,
    signed64,
    varint_field,
)

#: TensorFlow's DataType numbers and what they are in NumPy.
DTYPES: dict[int, np.dtype] = {
    code: np.dtype(kind)
    for code, kind in {
        1: np.float32,
        2: np.float64,
        3: np.int32,
        4: np.uint8,
        5: np.int16,
        6: np.int8,
        8: np.complex64,
        9: np.int64,
        10: np.bool_,
        14: ml_dtypes.bfloat16,
        17: np.uint16,
        18: np.complex128,
        19: np.float16,
        22: np.uint32,
        23: np.uint64,
        24: ml_dtypes.float8_e5m2,
        25: ml_dtypes.float8_e4m3fn,
    }.items()
}
CODES: dict[np.dtype, int] = {dtype: code for code, dtype in DTYPES.items()}
STRING = 7

_MOST_AXES = 32
_MOST_BYTES = 1 << 62


@dataclass(frozen=True)
class Header:
    """The bundle's header.

    Attributes:
        shards: Number of .data files.
        big_endian: Whether the values' bytes are in that order.
    """

    shards: int
    big_endian: bool


@dataclass(frozen=True)
class Entry:
    """Where one variable (or one slice) lies.

    Attributes:
        code: TensorFlow's number of the dtype.
        shape: Its shape.
        shard: Which .data file.
        offset: First byte in that file.
        size: Number of bytes.
        crc: Masked CRC-32C of the bytes.
        slices: For a partitioned variable the (start, length) of each axis of each slice, -1 for
            the whole axis; else empty.
    """

    code: int
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: tuple[tuple[tuple[int, int], ...], ...] = ()


def data_name(prefix: str, shard: int, shards: int) -> str:
    """Return the name of a .data file."""
    return f"{prefix}.data-{shard:05d}-of-{shards:05d}"


def parse_header(data: bytes) -> Header:
    """Return the header.

    Raises:
        WireError: Not a header, or of a later version of the format.
    """
    shards = endianness = least = 0
    for number, kind, value in fields(data):
        if number == 1:
            shards = _number(kind, value)
        elif number == 2:
            endianness = _number(kind, value)
        elif number == 3:
            for inner, inner_kind, inner_value in fields(_message(kind, value)):
                if inner == 2:
                    least = _number(inner_kind, inner_value)
    if not 0 < shards < 1 << 31 or endianness not in (0, 1):
        raise WireError("its header makes no sense")
    if least > 1:
        raise WireError(f"it asks for version {least} of the format, 1 is known")
    return Header(shards, endianness == 1)


def header_bytes(shards: int) -> bytes:
    """Return the header of a little-endian bundle, version 1."""
    return varint_field(1, shards) + bytes_field(3, varint_field(1, 1))


def parse_entry(data: bytes) -> Entry:
    """Return an entry.

    Raises:
        WireError: Not an entry, or sizes that make no sense.
    """
    numbers = dict.fromkeys((1, 3, 4, 5, 6), 0)
    shape: tuple[int, ...] = ()
    slices = []
    for number, kind, value in fields(data):
        if number in (1, 3, 4, 5):
            numbers[number] = _number(kind, value)
        elif number == 6:
            if kind != FIXED32:
                raise WireError("a checksum is of the wrong type")
            numbers[6] = value  # type: ignore[assignment]
        elif number == 2:
            shape = _parse_shape(_message(kind, value))
        elif number == 7:
            slices.append(_parse_slice(_message(kind, value)))
    code, shard, offset, size, crc = numbers.values()
    if max(offset, size) >= _MOST_BYTES or shard >= 1 << 31:
        raise WireError("an entry has an impossible place")
    if slices and any(len(one) != len(shape) for one in slices):
        raise WireError("a slice has another number of axes than its variable")
    dtype = DTYPES.get(code)
    if dtype is not None and not slices and size != math.prod(shape) * dtype.itemsize:
        raise WireError(f"{size} bytes are no array of shape {list(shape)} and dtype {dtype}")
    return Entry(code, shape, shard, offset, size, crc, tuple(slices))


def entry_bytes(entry: Entry) -> bytes:
    """Return the bytes of an entry without slices."""
    axes = b"".join(bytes_field(2, varint_field(1, size)) for size in entry.shape)
    return (
        varint_field(1, entry.code)
        + bytes_field(2, axes)
        + varint_field(3, entry.shard)
        + varint_field(4, entry.offset)
        + varint_field(5, entry.size)
        + fixed32_field(6, entry.crc)
    )


def slice_key(name: bytes, extents: tuple[tuple[int, int], ...]) -> bytes:
    """Return the key under which a slice of a partitioned variable stands.

    It is a sequence in an order-preserving code: the number 0, the name, the number of axes,
    then start and length of every axis.
    """
    escape = {0x00: b"\0\xff", 0xFF: b"\xff\0"}
    escaped = b"".join(escape.get(byte, bytes([byte])) for byte in name)
    out = _ordered_unsigned(0) + escaped + b"\0\1" + _ordered_unsigned(len(extents))
    for start, length in extents:
        out += _ordered_signed(start) + _ordered_signed(length)
    return out


def _parse_shape(data: bytes) -> tuple[int, ...]:
    shape = []
    for number, kind, value in fields(data):
        if number == 2:
            size = 0
            for inner, inner_kind, inner_value in fields(_message(kind, value)):
                if inner == 1:
                    size = signed64(_number(inner_kind, inner_value))
            shape.append(size)
        elif number == 3 and value:
            raise WireError("a shape is unknown")
    largest = math.prod(size for size in shape if size)
    if len(shape) > _MOST_AXES or min(shape, default=0) < 0 or abs(largest) >= _MOST_BYTES // 16:
        raise WireError("a shape is impossible")
    return tuple(shape)


def _parse_slice(data: bytes) -> tuple[tuple[int, int], ...]:
    extents = []
    for number, kind, value in fields(data):
        if number != 1:
            continue
        start, length = 0, -1
        for inner, inner_kind, inner_value in fields(_message(kind, value)):
            if inner == 1:
                start = signed64(_number(inner_kind, inner_value))
            elif inner == 2:
                length = signed64(_number(inner_kind, inner_value))
        extents.append((start, length))
    return tuple(extents)


def _number(kind: int, value: int | bytes) -> int:
    if kind != VARINT or not isinstance(value, int):
        raise WireError("a number is of the wrong type")
    return value


def _message(kind: int, value: int | bytes) -> bytes:
    if kind != BYTES or not isinstance(value, bytes):
        raise WireError("an inner message is of the wrong type")
    return value


def _ordered_unsigned(value: int) -> bytes:
    digits = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(digits)]) + digits


def _ordered_signed(value: int) -> bytes:
    """Two's complement in n bytes, its top bits flipped so that longer and larger sort later.

    n is the least that leaves 7n - 1 bits beside the sign.
    """
    magnitude = ~value if value < 0 else value
    length = magnitude.bit_length() // 7 + 1
    raw = bytearray((value & (1 << 8 * length) - 1).to_bytes(length, "big"))
    header = (0xFF << 8 - length if length < 8 else 0xFF) & 0xFF
    raw[0] ^= header
    if length > 8:
        raw[1] ^= 0x80 if length == 9 else 0xC0
    return bytes(raw)
