"""CRC-32C against the definition bit by bit, the vectors of RFC 3720, and the C library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.checkpoints.crc32c import NumpyCrc32c, crc32c_extend, mask


def bitwise(data: bytes, crc: int = 0) -> int:
    """The definition: one bit at a time, reflected polynomial, ones at both ends."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


RFC_3720 = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (
        bytes.fromhex(
            "01c00000000000000000000000000000140000000000040000000014"
            "000000182800000000000000020000000000000000"
        )[:48],
        0xD9963A56,
    ),
]


@pytest.mark.parametrize(("data", "expected"), RFC_3720)
def test_vectors_of_rfc_3720(data, expected):
    assert bitwise(data) == expected
    assert NumpyCrc32c().extend(0, array(data)) == expected
    assert crc32c_extend()(0, array(data)) == expected


@pytest.mark.parametrize("size", [0, 1, 7, 8, 63, 64, 65, 71, 72, 1000, 4096, 20_001])
def test_every_length_equals_the_definition(size):
    data = np.random.default_rng(size).bytes(size)
    assert NumpyCrc32c().extend(0, array(data)) == bitwise(data)
    assert NumpyCrc32c().extend(bitwise(b"before"), array(data)) == bitwise(b"before" + data)


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_pieces_give_what_the_whole_gives(pieces):
    engine = NumpyCrc32c()
    crc = 0
    for piece in pieces:
        crc = engine.extend(crc, array(piece))
    assert crc == bitwise(b"".join(pieces))


@pytest.mark.parametrize("size", [68_219, 68_220, 68_227, 100_000, 300_007, 2_000_003, 9_999_999])
def test_long_arrays_equal_the_c_library(size):
    google = pytest.importorskip("google_crc32c")
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    for start in (0, 0xDEADBEEF):
        assert NumpyCrc32c().extend(start, data) == google.extend(start, data)


def test_long_array_equals_the_definition():
    data = np.random.default_rng(0).bytes(150_001)
    assert NumpyCrc32c().extend(7, array(data)) == bitwise(data, 7)


def test_unaligned_array_equals_the_definition():
    data = np.random.default_rng(1).bytes(100_003)
    assert NumpyCrc32c().extend(0, array(data)[3:]) == bitwise(data[3:])


def test_the_sparse_polynomial_is_a_multiple_of_the_checksums():
    polynomial = 0x11EDC6F41
    sparse = 1 << 5685 | 1 << 1362 | 1 << 426 | 1
    while sparse.bit_length() >= polynomial.bit_length():
        sparse ^= polynomial << sparse.bit_length() - polynomial.bit_length()
    assert sparse == 0


def test_mask_is_undone_by_its_inverse():
    for crc in (0, 1, 0x12345678, 0xFFFFFFFF):
        rotated = mask(crc) - 0xA282EAD8 & 0xFFFFFFFF
        assert (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == crc
