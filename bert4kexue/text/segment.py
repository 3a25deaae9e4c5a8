"""Chinese word segmentation, for models whose vocabulary holds words (word-based RoFormer, WoBERT).

Such a tokenizer first cuts the text into words with jieba and keeps those that are in the
vocabulary whole: `Tokenizer(vocab, do_lower_case=True, pre_tokenize=word_segmenter())`. The words
are those of jieba's dictionary without its hidden Markov model (HMM off), as these models were
trained. rjieba, the same dictionary and algorithm in Rust, gives the same words ten times faster,
but cannot be given words of one's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal


def word_segmenter(
    vocab_words: Iterable[str] | None = None,
    backend: Literal["auto", "jieba", "rjieba"] = "auto",
) -> Callable[[str], list[str]]:
    """A function that cuts a text into words, to be used as `pre_tokenize`.

    Args:
        vocab_words: words to add to jieba's dictionary, for instance the vocabulary itself: of its
            tokens only those of two or more characters without '##' and brackets are added.
        backend: 'jieba' or 'rjieba'; 'auto' takes rjieba where it is installed and `vocab_words`
            is not given, else jieba.

    Returns:
        text -> list of words; joined they are the text.

    Raises:
        ImportError: the backend is not installed.
        ValueError: an unknown backend, or `vocab_words` with rjieba.
    """
    if backend not in ("auto", "jieba", "rjieba"):
        raise ValueError(f"backend must be 'auto', 'jieba' or 'rjieba', not {backend!r}")
    words = None if vocab_words is None else [w for w in vocab_words if _is_word(w)]
    if backend == "rjieba" and words is not None:
        raise ValueError(
            "rjieba has no user dictionary, so vocab_words cannot be added; use backend='jieba', "
            "or leave vocab_words out"
        )
    if backend == "rjieba" or (backend == "auto" and words is None):
        try:
            import rjieba
        except ImportError:
            if backend == "rjieba":
                raise ImportError("rjieba is not installed: `pip install rjieba`") from None
        else:
            return lambda text: _cut_between_surrogates(rjieba.cut, text)
    return _jieba_segmenter(words or [])


def _jieba_segmenter(words: Iterable[str]) -> Callable[[str], list[str]]:
    try:
        import jieba
    except ImportError:
        raise ImportError("word segmentation needs jieba or rjieba: `pip install jieba`") from None
    # A segmenter of its own: words added to jieba's shared one would change other people's words.
    segmenter = jieba.Tokenizer()
    for word in words:
        segmenter.add_word(word)
    return lambda text: segmenter.lcut(text, HMM=False)


def _cut_between_surrogates(cut: Callable[[str, bool], list[str]], text: str) -> list[str]:
    """Rust's strings hold no lone surrogates; jieba gives each of them as a word."""
    words: list[str] = []
    for part in re.split("([\ud800-\udfff])", text):
        words += [part] if "\ud800" <= part <= "\udfff" else cut(part, False)
    return words


def _is_word(token: str) -> bool:
    return len(token) > 1 and not token.startswith("##") and not token.startswith("[")
