"""The Snappy decoder against a step-by-step reading of the format, and against hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.checkpoints.snappy import decompress
from bert4kexue.checkpoints.wire import WireError, write_varint


def literal(data: bytes) -> bytes:
    length = len(data) - 1
    if length < 60:
        return bytes([length << 2]) + data
    width = (length.bit_length() + 7) // 8
    return bytes([(59 + width) << 2]) + length.to_bytes(width, "little") + data


def copy(offset: int, length: int, kind: int) -> bytes:
    if kind == 1:
        return bytes([offset >> 8 << 5 | (length - 4) << 2 | 1, offset & 0xFF])
    return bytes([(length - 1) << 2 | kind]) + offset.to_bytes(2 if kind == 2 else 4, "little")


@st.composite
def blocks(draw):
    """A compressed block, and what it means, made one byte at a time."""
    out, encoded = bytearray(), b""
    for _ in range(draw(st.integers(0, 12))):
        if not out or draw(st.booleans()):
            data = draw(st.binary(min_size=1, max_size=300))
            out += data
            encoded += literal(data)
        else:
            kind = draw(st.sampled_from([1, 2, 3]))
            length = draw(st.integers(4, 11) if kind == 1 else st.integers(1, 64))
            offset = draw(st.integers(1, min(len(out), 2047 if kind == 1 else 65535)))
            for _ in range(length):
                out.append(out[-offset])
            encoded += copy(offset, length, kind)
    return write_varint(len(out)) + encoded, bytes(out)


@given(blocks())
def test_a_block_decompresses_to_what_it_means(block):
    encoded, expected = block
    assert decompress(encoded) == expected


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_refused_or_make_what_they_announce(data):
    try:
        result = decompress(data)
    except WireError:
        return
    assert write_varint(len(result)) == data[: len(write_varint(len(result)))]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05\x00a",  # shorter than announced
        b"\x01\x04ab",  # longer
        b"\x04\x00a\x09\x02",  # a copy from before the beginning
        b"\x04\x00a\x09\x00",  # a copy from nowhere
        write_varint(1 << 40) + b"\x00a",  # a bomb
        b"\x04\xf0",  # a length that is not there
    ],
)
def test_damage_is_refused(data):
    with pytest.raises(WireError):
        decompress(data)
