"""Questions that nobody would ask: scripts, controls, markup, lengths."""

from __future__ import annotations

import numpy as np

SPANS = [  # of code points: other scripts, controls, private and unassigned ones
    *((0, 32), (32, 127), (127, 160), (0x300, 0x370), (0x370, 0x600), (0x600, 0x700)),
    *((0x900, 0x980), (0xE00, 0xE80), (0x3040, 0x3100), (0xAC00, 0xAD00), (0x4E00, 0x9FFF)),
    *((0xD800, 0xE000), (0xE000, 0xE100), (0xFE00, 0xFE10), (0xFFF0, 0x10000), (0x1F300, 0x1F700)),
    *((0x20000, 0x20100), (0x10FFF0, 0x110000)),
]
SAID = [
    "",
    " ",
    "\x00",
    "'; DROP TABLE facts; --",
    '" OR 1=1 /*',
    "[SEP]",
    "[CLS][MASK][PAD][UNK]",
    "静夜思的作者是谁",
    "李白（唐代诗人）的职业",
    "（）））（",
    "谁" * 10_000,
    "\u202e静夜思\u202c\u200b",
    "../../etc/passwd",
    "<question id=1>\t甲 ||| 乙",
    '{"question": 1}',
    "\ufeff\r\n\t\v",
]


def hostile_questions(count, seed=0):
    """Questions from the list, random ones of every script, and mixtures."""
    rng = np.random.default_rng(seed)

    def random_text():
        first, last = SPANS[rng.integers(len(SPANS))]
        size = 10_000 if rng.random() < 0.002 else int(rng.integers(0, 40))
        return "".join(map(chr, rng.integers(first, last, size).tolist()))

    questions = list(SAID)
    while len(questions) < count:
        parts = [SAID[rng.integers(len(SAID))] if rng.random() < 0.3 else random_text()]
        parts += [random_text() for _ in range(int(rng.integers(0, 3)))]
        questions.append("".join(parts))
    return questions[:count]
