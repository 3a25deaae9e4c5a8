"""From tokens to readable text: where the spaces go."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bert4kexue.text.codepoints import is_cjk, is_punctuation

# Punctuation after which written Chinese has no space: first and last code points.
_CJK_PUNCTUATION_RANGES = (
    *((0x00B7, 0x00B7), (0x2013, 0x2014), (0x2018, 0x2019), (0x201B, 0x201F), (0x2026, 0x2027)),
    *((0x3000, 0x3003), (0x3008, 0x3011), (0x3014, 0x301F), (0x3030, 0x3030), (0x303E, 0x303F)),
    *((0xFE4F, 0xFE4F), (0xFE51, 0xFE51), (0xFE54, 0xFE54), (0xFF01, 0xFF0D), (0xFF0F, 0xFF0F)),
    *((0xFF1A, 0xFF20), (0xFF3B, 0xFF40), (0xFF5B, 0xFF64)),
)
CJK_PUNCTUATION = "".join(
    chr(point) for first, last in _CJK_PUNCTUATION_RANGES for point in range(first, last + 1)
)
_NO_SPACE_AFTER = CJK_PUNCTUATION + "+-/={(<["


def join_tokens(tokens: Iterable[str]) -> str:
    """WordPiece tokens as text: continuations and CJK glued, words apart.

    Special tokens are the caller's to remove. Punctuation is followed by a space, except where
    Chinese or mathematics would have none; English clitics ("it ' s ") and decimals are closed up.
    """
    pieces: list[str] = []
    last = None  # the last character written
    for token in tokens:
        if token.startswith("##"):
            piece = token[2:]
        elif len(token) == 1 and is_cjk(token):
            piece = token
        elif len(token) == 1 and is_punctuation(token):
            piece = token + " "
        elif last is not None and is_cjk(last):
            piece = token
        else:
            piece = " " + token
        pieces.append(piece)
        last = piece[-1] if piece else last
    text = re.sub(" +", " ", "".join(pieces))
    text = re.sub(r"' (re|m|s|t|ve|d|ll) ", r"'\1 ", text)
    text = re.sub(f"([{re.escape(_NO_SPACE_AFTER)}]) ", r"\1", text)
    return re.sub(r"(\d\.) (\d)", r"\1\2", text).strip()
