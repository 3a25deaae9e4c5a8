"""Strings to break a tokenizer with: from a seed, as bytes, not all of them UTF-8."""

from __future__ import annotations

import random
from collections.abc import Sequence

import _tokenizer_cases as cases

POINTS = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
# What a graph could get wrong: its own marks, final sigmas, marks that change places, long words.
KNOTS = [
    "\x01",
    "\x02",
    "\x00",
    "\ufffd",
    "ΑΣ",
    "Σ\u0301'",
    "\u00ad.ΣΣ",
    "\u302e\U0001d165",
    "\U0001d15e\u0301\U0001d16d",
    "a\u0323\u302e\u16ff\u0307",
    "\u1b44\u302f\u0301\u1715",
    "각\u1bf2",
    "x" * 199,
    "x" * 200,
    "x" * 201,
    "ing" * 70,
    "12345678901234567890",
]


def fuzzed(count: int, seed: int, tokens: Sequence[str] = ()) -> list[bytes]:
    """`count` strings; some are made of the vocabulary's tokens, some are damaged."""
    draw = random.Random(seed)
    groups = [*cases.HOSTILE.values(), cases.CHINESE, "abcdefghijklmnopqrstuvwxyz0123456789 "]
    stems = [token.removeprefix("##") for token in tokens] or cases.WORDS

    def piece() -> str:
        kind = draw.random()
        if kind < 0.5:
            return draw.choice(draw.choice(groups))
        if kind < 0.7:
            return draw.choice(stems)
        if kind < 0.8:
            return draw.choice(stems).upper()
        if kind < 0.9:
            return draw.choice(KNOTS) if draw.random() < 0.3 else " "
        return chr(draw.choice(POINTS))

    result = []
    for _ in range(count):
        text = "".join(piece() for _ in range(draw.choice((0, 1, 2, 4, 8, 16, 32))))
        content = text.encode("utf-8", "surrogatepass")
        if content and draw.random() < 0.1:
            damaged = bytearray(content)
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
            content = bytes(damaged)
        result.append(content)
    return result
