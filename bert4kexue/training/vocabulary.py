"""Make a vocabulary for Chinese: characters by frequency, and WordPieces for what has letters.

5 special tokens, every character of the corpus, frequent words if asked, and WordPieces (byte-pair
merges) for the runs of Latin letters, digits and other alphabets. The same text always gives the
same vocabulary.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from bert4kexue.text.segment import word_segmenter
from bert4kexue.text.wordpiece import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ALWAYS = (
    "0123456789abcdefghijklmnopqrstuvwxyz!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    "，。、；：？！“”‘’（）《》〈〉【】「」『』—…·～￥％＋－／＝"
)


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Count what the tokenizer would look up: single characters and runs of letters."""
    # With no pieces to match, WordPiece gives each word back whole.
    split = Tokenizer(dict.fromkeys(SPECIAL, 0), do_lower_case=True)
    words: Counter[str] = Counter()
    for text in texts:
        words.update(split.tokenize(text)[1:-1])
    return words


def merge_pieces(words: Counter[str], merges: int, min_count: int) -> list[str]:
    """Byte-pair merges over the words, most frequent first, continuations marked `##`."""
    spelled = {w: (w[0], *("##" + c for c in w[1:])) for w in sorted(words) if len(w) > 1}
    pairs: Counter[tuple[str, str]] = Counter()
    where: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def account(word: str, sign: int) -> None:
        spelling = spelled[word]
        for pair in itertools.pairwise(spelling):
            pairs[pair] += sign * words[word]
            where[pair].add(word)

    for word in spelled:
        account(word, +1)
    made: list[str] = []
    while len(made) < merges and pairs:
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        if pairs[best] < min_count:
            break
        piece = best[0] + best[1].removeprefix("##")
        made.append(piece)
        for word in sorted(where[best]):
            account(word, -1)
            spelled[word] = _joined(spelled[word], best, piece)
            account(word, +1)
        del pairs[best], where[best]
    return made


def _joined(spelling: Sequence[str], pair: tuple[str, str], piece: str) -> tuple[str, ...]:
    out: list[str] = []
    for part in spelling:
        if out and (out[-1], part) == pair:
            out[-1] = piece
        else:
            out.append(part)
    return tuple(out)


def make_vocabulary(
    texts: Iterable[str],
    size: int = 13000,
    merges: int = 1500,
    min_count: int = 1,
    words: int = 0,
) -> list[str]:
    """The tokens of a vocabulary, in the order of their ids.

    Args:
        texts: what to count; read once, and not kept.
        size: the most tokens it may have; the rarest characters and last merges go first.
        merges: how many pieces longer than a character to make.
        min_count: how often a character must occur; a merged piece at least twice.
        words: how many of jieba's most frequent words of two or more characters to add, for
            word-based models; 0 for a vocabulary of characters.

    Raises:
        ValueError: there is no text, or no room for the special tokens.
    """
    if size < len(SPECIAL):
        raise ValueError(f"size must be at least {len(SPECIAL)}, the special tokens; got {size}")
    whole: Counter[str] = Counter()
    counted = count_words(_watched(texts, whole) if words else texts)
    if not counted:
        raise ValueError("there is no text to make a vocabulary of")
    alone = Counter({w: n for w, n in counted.items() if len(w) == 1})
    inside: Counter[str] = Counter()
    for word, n in counted.items():
        if len(word) > 1:
            for character in word:
                inside[character] += n
    by_frequency = sorted(
        {c for c, n in (alone + inside).items() if n >= min_count} | set(ALWAYS),
        key=lambda c: (-alone[c] - inside[c], c),
    )
    starred = [c for c in by_frequency if inside[c] >= min_count or (c.isascii() and c.isalnum())]
    pieces = merge_pieces(counted, merges, max(2, min_count))
    frequent = sorted(whole, key=lambda word: (-whole[word], word))[:words]
    tokens = [*SPECIAL, *by_frequency, *("##" + c for c in starred), *frequent, *pieces]
    return list(dict.fromkeys(tokens))[:size]


def _watched(texts: Iterable[str], found: Counter[str]) -> Iterator[str]:
    """`texts`, whose words of two or more Chinese characters (jieba's) are counted as they pass."""
    cut = word_segmenter()
    for text in texts:
        found.update(w for w in cut(text) if len(w) > 1 and all(c >= "\u3400" for c in w))
        yield text
