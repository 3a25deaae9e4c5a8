"""An answer by overlap alone: the sliding window of Richardson et al. (MCTest, 2013), extractive.

The window of the passage that shares most with the question is found, each character counted by
log(1 + 1 / its frequency in the passage). The answer is the longest run in it, between marks, of
which no two neighbouring characters stand in the question.
"""

from __future__ import annotations

import math
from collections import Counter


def overlap_answer(question: str, passage: str, width: int = 30) -> str:
    """A span of the passage; '' for an empty one.

    Args:
        question: any text.
        passage: any text.
        width: characters of the window.

    Raises:
        ValueError: `width` below 1.
    """
    if width < 1:
        raise ValueError(f"width must be 1 or more, got {width}")
    if not passage:
        return ""
    text, asked = passage.lower(), question.lower()
    if len(text) != len(passage):  # a letter whose small form is two
        text = passage
    counts = Counter(text)
    wanted = {c for c in asked if c.isalnum()}
    gain = [math.log1p(1 / counts[c]) if c in wanted else 0.0 for c in text]
    total = best = sum(gain[:width])
    at = 0
    for start in range(1, len(text) - width + 1):
        total += gain[start + width - 1] - gain[start - 1]
        if total > best + 1e-9:
            best, at = total, start
    low, high = _to_marks(text, at, min(at + width, len(text)))
    pairs = {asked[i : i + 2] for i in range(len(asked) - 1)}
    known = [False] * (len(text) + 1)
    for i in range(low, high - 1):
        if text[i : i + 2] in pairs:
            known[i] = known[i + 1] = True
    run, longest = low, (low, low)
    for i in range(low, high + 1):
        if i == high or known[i] or not _inside(text[i]):
            if i - run > longest[1] - longest[0]:
                longest = (run, i)
            run = i + 1
    first, last = longest
    return passage[first:last] if last > first else passage[low:high]


def _inside(character: str) -> bool:
    return character not in "，。！？；、：,!?;\n"


def _to_marks(text: str, low: int, high: int) -> tuple[int, int]:
    """The window, grown to where a mark stands on either side."""
    while low > 0 and _inside(text[low - 1]):
        low -= 1
    while high < len(text) and _inside(text[high]):
        high += 1
    return low, high
