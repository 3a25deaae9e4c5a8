"""BART-like corruption of a source, by whole words (kexue.fm/archives/8454).

A word is asked for with probability `rate`. Of those words 80 % have all of their pieces masked,
10 % stay as they are, 10 % have all of their pieces drawn at random. Nothing is to be guessed: the
target of the row is the clean paraphrase.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bert4kexue.text.wordpiece import Tokenizer
from bert4kexue.training.preparation import marked_tokens
from bert4kexue.training.records import ID_MASK, WORD
from bert4kexue.training.special import Special


def corrupt_words(
    marked: np.ndarray, special: Special, rng: np.random.Generator, rate: float = 0.15
) -> np.ndarray:
    """(tokens,) ids of a corrupted sentence, of the same length.

    Args:
        marked: (tokens,) uint32 ids with the bit `WORD` where a word begins.
        special: ids; random ones are drawn from 1 to the vocabulary's last.
        rng: what is drawn.
        rate: probability of a word to be asked for.

    Raises:
        ValueError: `rate` is no probability.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is a word's probability, 0 to 1; got {rate}")
    ids = (marked & ID_MASK).astype(np.int64)
    number = np.cumsum(marked & WORD != 0)
    words = int(number[-1]) + 1 if len(number) else 1
    asked, fate = rng.random(words) < rate, rng.random(words)
    drawn = rng.integers(1, special.vocabulary, len(ids))
    masked, replaced = asked & (fate < 0.8), asked & (fate >= 0.9)
    return np.where(masked[number], special.mask, np.where(replaced[number], drawn, ids))


def tokens_by_word(
    tokenizer: Tokenizer,
    cut: Callable[[str], list[str]],
    texts: Sequence[str],
    longest: int,
    block: int = 1024,
) -> list[np.ndarray]:
    """Each text's ids, without [CLS] and [SEP], with `WORD` set where a word of `cut` begins.

    Args:
        tokenizer: with the model's vocabulary.
        cut: a text's words; `text.segment.word_segmenter()`.
        texts: sentences; an empty one has no tokens.
        longest: tokens kept of each.
        block: texts worked on together.
    """
    found: list[np.ndarray] = []
    for start in range(0, len(texts), block):
        part = list(texts[start : start + block])
        found += [ids[:longest].copy() for ids in marked_tokens(tokenizer, cut, part)]
    return found
