"""Many texts to token ids at once: the character work of `encode_batch`, in NumPy.

All texts become one array of code points with a space between them, so that no word crosses from
one text into the next. One look-up per code point says what it does (stand alone, belong to a word,
separate, vanish), another which id it has by itself; that settles Chinese and punctuation. Words
are looked up whole in the vocabulary, and spelled piece by piece only where that fails. A text is
left to the exact path (`exact_rows`) where its normalisation depends on neighbouring characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import NamedTuple

import numpy as np

from bert4kexue.text.codepoints import (
    DROP,
    EXACT,
    EXPAND,
    POINTS,
    SINGLE,
    SPACE,
    WORD,
    Folding,
    character_kinds,
)

UNKNOWN = -1

# Words whose pieces are remembered: names and numbers come again. Some megabytes at the most.
_MOST_SPELLED, _LONGEST_SPELLED = 20_000, 32


class Scan(NamedTuple):
    """The tokens of b texts, end to end."""

    ids: np.ndarray  # int32 (tokens,), UNKNOWN where the vocabulary has no token
    counts: np.ndarray  # intp (b,), tokens of each text
    spans: np.ndarray | None  # int32 (tokens, 2), first character in its text and one past the last
    exact_rows: list[int]  # texts that were not scanned (count 0) and need the exact path


class Scanner:
    """Per-vocabulary tables, and the scan over them.

    Args:
        token_dict: {token: id}.
        folding: the normalisation of an uncased vocabulary, None for a cased one.
        word_maxlen: longer words are not spelled.
    """

    def __init__(
        self,
        token_dict: Mapping[str, int],
        folding: Folding | None,
        word_maxlen: int,
    ) -> None:
        self._token_dict, self._size = token_dict, len(token_dict)
        self._word_maxlen = word_maxlen
        self._spelled: dict[str, tuple[list[int], list[int]]] = {}
        self._tails = {t[2:]: i for t, i in token_dict.items() if t.startswith("##")}
        self._lengths, self._tail_lengths = _lengths(token_dict), _lengths(self._tails)
        self._kinds = character_kinds()
        self._ids = np.full(POINTS, UNKNOWN, np.int32)
        singles = [token for token in token_dict if len(token) == 1]
        self._ids[[ord(token) for token in singles]] = [token_dict[token] for token in singles]
        self._folded: np.ndarray | None = None
        self._folding = folding
        if folding is not None:
            self._folded, self._kinds = folding.tables(self._kinds)
            changed = np.flatnonzero(self._folded != np.arange(POINTS, dtype=np.int32))
            self._ids[changed] = self._ids[self._folded[changed]]

    def serves(self, token_dict: Mapping[str, int], word_maxlen: int) -> bool:
        """Whether the tables were made of this vocabulary as it is now."""
        return (
            token_dict is self._token_dict
            and len(token_dict) == self._size
            and word_maxlen == self._word_maxlen
        )

    def scan(self, texts: list[str], spans: bool = False) -> Scan:
        """The token ids of all texts, without start and end tokens; see `Scan`."""
        joined = " " + " ".join(texts) + " "
        points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.intp)
        lengths = np.fromiter(map(len, texts), np.intp, len(texts))
        text_ends = (lengths + 1).cumsum()  # where the space after each text is
        ends = text_ends
        kinds = self._kinds.take(points)
        exact_rows: list[int] = []
        origin: np.ndarray | None = None  # where in `joined` each of `points` came from
        if kinds.max() >= DROP:
            special = (kinds >= DROP).nonzero()[0]
            if (exact := special[kinds.take(special) == EXACT]).size:
                exact_rows = np.unique(np.searchsorted(text_ends, exact)).tolist()
                for row in exact_rows:
                    blank = slice(text_ends[row] - lengths[row], text_ends[row])
                    points[blank], kinds[blank] = 0x20, SPACE
            if _changes_words(kinds, special):
                points, kinds, origin = self._expand_and_drop(points, kinds)
                ends = np.searchsorted(origin, text_ends)

        word = kinds == WORD
        edges = (word[1:] != word[:-1]).nonzero()[0]
        edges += 1
        starts, stops = edges[0::2], edges[1::2]  # of the words
        heads = kinds == SINGLE
        values = self._ids.take(points)
        if starts.size:
            heads[starts] = True
            word[stops], points[stops] = True, 0x20
            self._look_up_words(points[word], starts, heads, values)
        where = heads.nonzero()[0]
        counts = where.searchsorted(ends)
        counts[1:] -= counts[:-1].copy()
        found = None
        if spans:
            borders = np.flatnonzero(heads | (kinds >= SPACE))
            token_ends = borders[1:][heads.take(borders[:-1])]
            first, last = where, token_ends - 1
            if origin is not None:
                first, last = origin.take(first), origin.take(last)
            text_starts = np.repeat(text_ends - lengths, counts)
            found = np.stack([first - text_starts, last + 1 - text_starts], axis=1)
            found = found.astype(np.int32)
        return Scan(values.take(where), counts, found, exact_rows)

    def _expand_and_drop(
        self, points: np.ndarray, kinds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Replace characters that fold to several and remove those that fold to nothing."""
        origin = np.arange(len(points))
        if (expand := np.flatnonzero(kinds == EXPAND)).size:
            assert self._folding is not None  # without folding nothing expands
            texts = [self._folding.simple[point] for point in points[expand].tolist()]
            repeats = np.ones(len(points), np.intp)
            repeats[expand] = list(map(len, texts))
            origin = np.repeat(origin, repeats)
            # What a character folds to folds to itself, so it can be looked up like any other.
            points = points[origin]
            points[kinds[origin] == EXPAND] = list(map(ord, "".join(texts)))
            kinds = self._kinds.take(points)
        keep = np.flatnonzero(kinds != DROP)
        return points[keep], kinds[keep], origin[keep]

    def _look_up_words(
        self,
        letters: np.ndarray,
        starts: np.ndarray,
        heads: np.ndarray,
        values: np.ndarray,
    ) -> None:
        """Set `values` at the first character of every piece of every word, and mark it a head.

        Args:
            letters: the code points of the words, a space after each.
            starts: where the words begin in `heads` and `values`.
        """
        if self._folded is not None:
            letters = self._folded.take(letters)
        text = letters.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        words = text.split(" ")
        words.pop()  # what is after the last space: nothing
        known = map(self._token_dict.get, words, repeat(UNKNOWN))
        ids = np.fromiter(known, np.int32, len(words))
        values[starts] = ids
        missed = (ids == UNKNOWN).nonzero()[0]
        if not missed.size:
            return
        piece_at: list[int] = []
        piece_ids: list[int] = []
        counts: list[int] = []
        spelled = self._spelled
        if len(spelled) > _MOST_SPELLED:
            spelled.clear()
        for index in missed.tolist():
            one = words[index]
            pieces = spelled.get(one)
            if pieces is None:
                pieces = self._pieces(one)
                if len(one) <= _LONGEST_SPELLED:
                    spelled[one] = pieces
            piece_at += pieces[0]
            piece_ids += pieces[1]
            counts.append(len(pieces[0]))
        where = np.array(piece_at, np.intp)
        where += starts[missed].repeat(counts)
        heads[where] = True
        values[where] = piece_ids

    def _pieces(self, word: str) -> tuple[list[int], list[int]]:
        """Where the word's pieces start, and their ids; nothing where it cannot be spelled."""
        size = len(word)
        if size > self._word_maxlen:
            return [], []
        starts: list[int] = []
        ids: list[int] = []
        start, pieces, lengths = 0, self._token_dict, self._lengths
        while start < size:
            for length in lengths.get(word[start : start + 3], (2, 1)):
                # Near the word's end this is all that is left of it, and then the longest match.
                text = word[start : start + length]
                if (piece := pieces.get(text)) is not None:
                    break
            else:
                return [], []
            starts.append(start)
            ids.append(piece)
            start += len(text)
            pieces, lengths = self._tails, self._tail_lengths
        return starts, ids


def _changes_words(kinds: np.ndarray, special: np.ndarray) -> bool:
    """Whether a character expands, or one that vanishes has letters of one word at both sides.

    The others that vanish may stay: a character that neither stands alone nor belongs to a word
    gives no token, whatever it is.
    """
    here = kinds.take(special)
    if (here == EXPAND).any():
        return True
    before, after = kinds.take(special - 1), kinds.take(special + 1)
    inside = (before == WORD) | (before == DROP)
    inside &= (after == WORD) | (after == DROP)
    inside &= here == DROP
    return bool(inside.any())


def _lengths(pieces: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """By its first three characters, how long a piece can be that begins with them, longest first.

    Where they begin no piece, the word's next piece has two characters or one.
    """
    found: dict[str, set[int]] = {}
    for piece in pieces:
        if len(piece) > 2:
            found.setdefault(piece[:3], {1, 2}).add(len(piece))
    return {begin: tuple(sorted(lengths, reverse=True)) for begin, lengths in found.items()}
