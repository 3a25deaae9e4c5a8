"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) of large arrays, with or without a C library.

TensorFlow's checkpoints carry this checksum for every tensor and every block of the index. Where
the package `google-crc32c` is installed with its C part, that computes it. Else NumPy does, by
two facts about polynomials over GF(2), a message being one whose first bit has the highest
degree, and its checksum the remainder modulo P of degree 32.

1. P divides x^5685 + x^1362 + x^426 + 1. Squaring doubles every exponent (the cross terms
   vanish), so P also divides the same polynomial in x^64: a 64-bit word may be moved, by plain
   XOR, onto the three words that lie 5685 - 1362, 5685 - 426 and 5685 places after it, and the
   remainder stays. Long messages shrink to some ten thousand words without a table.
2. The rest is halved again and again: of each pair of 32-bit words the first is multiplied by
   x^32, x^64, x^128, ... modulo P (four look-ups by byte) and added to the second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Extend = Callable[[int, np.ndarray], int]

_MASK_DELTA = 0xA282EAD8
_REVERSED_POLYNOMIAL = 0x82F63B78  # x^0 is the highest bit, as the bytes come
_SHIFTS = (5685 - 1362, 5685 - 426, 5685)  # in 64-bit words
_STEPS = 8
_FOLD_FROM = 12 * _SHIFTS[-1]  # bytes; below this the halving alone is as fast
_LOOP_BELOW = 64


def crc32c_extend() -> Extend:
    """Return the fastest `extend(crc, data)` there is on this machine.

    `crc` is the checksum of what came before (0 at the start), `data` a contiguous array of
    uint8; the result is the checksum of both together.
    """
    try:
        import google_crc32c
    except ImportError:
        return NumpyCrc32c().extend
    # Its pure-Python fallback is a hundred times slower than ours.
    if google_crc32c.implementation != "c":
        return NumpyCrc32c().extend
    # The C part takes an array itself, but no memoryview.
    return google_crc32c.extend


def mask(crc: int) -> int:
    """Return the masked form in which table files store a checksum of data with checksums."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


class NumpyCrc32c:
    """CRC-32C in NumPy alone; holds the look-up tables, which take a millisecond to make."""

    def __init__(self) -> None:
        self._bytes = _byte_table()
        self._powers = [_tables([_times_x32(1 << bit, self._bytes) for bit in range(32)])]
        self._work: np.ndarray | None = None

    def extend(self, crc: int, data: np.ndarray) -> int:
        """Return the checksum of what had checksum `crc`, followed by `data` (uint8, 1-D)."""
        data = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data
        state = crc ^ 0xFFFFFFFF
        if data.size >= _LOOP_BELOW:
            words, data = np.split(data, [data.size & ~7])
            if words.size >= _FOLD_FROM:
                words = self._folded(words, state)
            else:
                words = words.copy().view(np.uint32)
                words[0] ^= np.uint32(state)
            state = self._halved(words)
        for byte in data.tolist():
            state = self._bytes[(state ^ byte) & 0xFF] ^ state >> 8
        return state ^ 0xFFFFFFFF

    def _folded(self, data: np.ndarray, state: int) -> np.ndarray:
        """Move all words but the last few thousand onto later ones, block by block."""
        step, _, reach = _SHIFTS
        block = _STEPS * step
        if self._work is None:
            self._work = np.empty(block + reach, np.uint64)
        work = self._work
        # What earlier words left on those to come; at first the state, on the first 32 bits.
        carry = np.zeros(reach, np.uint64)
        carry[0] = state
        start, stop = 0, data.size // 8
        while stop - start > reach:
            # Stop `reach` words before the end: there must be something to move onto.
            count = min(block, stop - start - reach)
            work[:count].view(np.uint8)[:] = data[8 * start : 8 * (start + count)]
            work[count : count + reach] = 0
            work[:reach] ^= carry
            for begin in range(0, count, step):
                # `step` is the shortest move, so a chunk never moves onto itself.
                chunk = work[begin : min(begin + step, count)]
                for shift in _SHIFTS:
                    work[begin + shift : begin + shift + chunk.size] ^= chunk
            carry[:] = work[count : count + reach]
            start += count
        rest = np.empty(stop - start, np.uint64)
        rest.view(np.uint8)[:] = data[8 * start :]
        rest ^= carry[: rest.size]
        return rest.view(np.uint32)

    def _halved(self, words: np.ndarray) -> int:
        """Return the remainder of the message of these 32-bit words, times x^32."""
        level = 0
        while words.size > 1:
            odd = words.size % 2  # a first word without a partner is kept as it is
            summed = self._times(words[odd::2], level) ^ words[odd + 1 :: 2]
            words = np.concatenate([words[:odd], summed]) if odd else summed
            level += 1
        return int(self._times(words, 0)[0])

    def _times(self, words: np.ndarray, level: int) -> np.ndarray:
        """Multiply every word by x^(32 * 2^level) modulo P."""
        while len(self._powers) <= level:
            last = self._powers[-1]
            basis = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
            self._powers.append(_tables(_look_up(_look_up(basis, last), last).tolist()))
        return _look_up(words, self._powers[level])


def _look_up(words: np.ndarray, tables: np.ndarray) -> np.ndarray:
    parts = np.ascontiguousarray(words, dtype="<u4").view(np.uint8).reshape(-1, 4)
    total = tables[0].take(parts[:, 0])
    for index in (1, 2, 3):
        total ^= tables[index].take(parts[:, index])
    return total


def _tables(basis: list[int]) -> np.ndarray:
    """From the images of the 32 single bits, the images of every value of each byte: (4, 256)."""
    tables = np.zeros((4, 256), np.uint32)
    for bit, image in enumerate(basis):
        row, low = tables[bit // 8], 1 << bit % 8
        row[low : 2 * low] = row[:low] ^ np.uint32(image)
    return tables


def _byte_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_REVERSED_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


def _times_x32(word: int, table: list[int]) -> int:
    for _ in range(4):
        word = table[word & 0xFF] ^ word >> 8
    return word
