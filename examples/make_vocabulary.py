"""Make a vocabulary for Chinese: characters by frequency, and WordPieces for what has letters.

    BERT4KEXUE_DATA=... python examples/make_vocabulary.py vocab.txt

reads the training side of the openly licensed sets and writes 5 special tokens, every character of
them, and WordPieces (byte-pair merges) for the runs of Latin letters, digits and other alphabets.
The same text always gives the same file.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import ship_sets

from bert4kexue.tokenizers import Tokenizer, save_vocab

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
    texts: Iterable[str], size: int = 13000, merges: int = 1500, min_count: int = 1
) -> list[str]:
    """The tokens of a vocabulary, in the order of their ids.

    Args:
        texts: what to count.
        size: the most tokens it may have; the rarest characters and last merges go first.
        merges: how many pieces longer than a character to make.
        min_count: how often a character must occur; a merged piece at least twice.
    """
    words = count_words(texts)
    alone = Counter({w: n for w, n in words.items() if len(w) == 1})
    inside: Counter[str] = Counter()
    for word, n in words.items():
        if len(word) > 1:
            for character in word:
                inside[character] += n
    by_frequency = sorted(
        {c for c, n in (alone + inside).items() if n >= min_count} | set(ALWAYS),
        key=lambda c: (-alone[c] - inside[c], c),
    )
    starred = [c for c in by_frequency if inside[c] >= min_count or (c.isascii() and c.isalnum())]
    pieces = merge_pieces(words, merges, max(2, min_count))
    tokens = [*SPECIAL, *by_frequency, *("##" + c for c in starred), *pieces]
    return list(dict.fromkeys(tokens))[:size]


def training_text(root: ship_sets.Path) -> Iterable[str]:
    """Every text the model may be trained on."""
    for texts in ship_sets.running_text(root).values():
        yield from texts
    for row in ship_sets.questions(root):
        yield from row
    for first, second, _ in ship_sets.sentence_pairs(root):
        yield from (first, second)


def main() -> None:
    """Write the vocabulary of the shipped model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", help="the vocab.txt to write")
    parser.add_argument("--size", type=int, default=13000, help="the most tokens (default 13000)")
    parser.add_argument("--merges", type=int, default=1500, help="pieces to make (default 1500)")
    parser.add_argument("--min-count", type=int, default=1, help="rarest character kept")
    args = parser.parse_args()
    texts = training_text(ship_sets.data_folder())
    tokens = make_vocabulary(texts, args.size, args.merges, args.min_count)
    save_vocab(args.output, {token: i for i, token in enumerate(tokens)})
    print(f"{args.output}: {len(tokens)} tokens")


if __name__ == "__main__":
    main()
