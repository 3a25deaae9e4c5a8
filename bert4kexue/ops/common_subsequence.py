"""The longest common subsequence of a question and a sequence that grows, as bits of whole numbers.

For a question Q of n tokens a sequence has the row L of its dynamic program,

    L[j] = the length of its longest common subsequence with Q[:j],    j = 0 ... n,

which rises by 0 or 1 at each place. Where it rises is n bits: V has 1 where L does not rise. One
token t further, with M the bits of the places where Q has t,

    V' = (V + (V and M)) or (V and not M)

and L[n] is how many bits of V are 0 (H. Hyyro, Bit-parallel LCS-length computation revisited,
2004). A word holds `BITS` places, the first ones lowest; a sum carries into the next word.

Axis letters: W words of a question.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from bert4kexue.decoding.lookahead import PADDING

BITS = 30
"""Places of a word: twice its largest number and a carry fit into int32."""

ALL = 2**BITS - 1


def question_words(questions: Any, longest: int) -> Any:
    """Questions (..., n) int32 as words, (..., W, BITS), filled up with `PADDING`.

    Args:
        questions: -1 for padding.
        longest: where the shape does not tell n: as many tokens count, and what a question has
            beyond its last word does not.
    """
    n = questions.shape[-1]
    words = -(-max(longest if n is None else n, 1) // BITS)
    before = [[0, 0]] * (len(questions.shape) - 1)
    filled = ops.pad(questions, [*before, [0, words * BITS]], constant_values=PADDING)
    filled = filled[..., : words * BITS]
    return ops.reshape(filled, (*ops.shape(filled)[:-1], words, BITS))


def nothing_written(words: Any) -> Any:
    """V of the empty sequence, (..., W), for `question_words` (..., W, BITS)."""
    return ops.full_like(words[..., 0], ALL)


def one_token_more(bits: Any, words: Any, tokens: Any) -> Any:
    """V of the sequences with one token more.

    Args:
        bits: V, (..., W) int32.
        words: the questions, (..., W, BITS).
        tokens: (...,) int32; -1 is in no question.
    """
    tokens = tokens[..., None, None]
    same = ops.logical_and(words == tokens, tokens != PADDING)
    powers = ops.left_shift(1, ops.arange(BITS, dtype="int32"))
    matches = ops.sum(ops.where(same, powers, 0), axis=-1)
    carry: Any = 0
    following = []
    for word in range(bits.shape[-1]):
        v, m = bits[..., word], matches[..., word]
        total = v + ops.bitwise_and(v, m) + carry
        carry = ops.right_shift(total, BITS)
        kept = ops.bitwise_and(v, ALL - m)
        following.append(ops.bitwise_or(ops.bitwise_and(total, ALL), kept))
    return ops.stack(following, axis=-1)


def common_length(bits: Any) -> Any:
    """L[n], (...,) int32, of V (..., W)."""
    return ops.sum(BITS - _ones(bits), axis=-1)


def _ones(x: Any) -> Any:
    """How many bits of each number are 1: in pairs, fours and eights, then their sum."""

    def low(x: Any, mask: int, shift: int) -> Any:
        return ops.bitwise_and(ops.right_shift(x, shift), mask)

    x = x - low(x, 0x15555555, 1)
    x = low(x, 0x33333333, 0) + low(x, 0x33333333, 2)
    x = low(x + ops.right_shift(x, 4), 0x0F0F0F0F, 0)
    x = x + ops.right_shift(x, 8)
    return low(x + ops.right_shift(x, 16), 0x3F, 0)
