"""What a tokenizer needs to know of Unicode, frozen at version 14.

Two tables, both written by tools/make_codepoints.py from Python 3.11's `unicodedata`, so that token
ids are the same on every Python:

- general categories (unicode14.py) say where words end: `is_space`, `is_punctuation`, `is_control`,
  `is_cjk`, and `character_kinds` for all code points at once;
- `Folding` (unicode14.npz) is `strip_marks(NFD(lower(text)))`, the normalisation of uncased
  vocabularies. Nearly every character folds by itself. Two things look at neighbours: a capital
  sigma becomes a final sigma at the end of a word, and combining marks are put into canonical
  order (which shows only for the few marks that are not of category Mn, since Mn is removed).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from importlib import resources

import numpy as np

from bert4kexue.text import unicode14

POINTS = 0x110000

# What a code point does to the text around it.
WORD, SINGLE, SPACE, DROP = 0, 1, 2, 3  # part of a word; a token alone; between words; removed
# What folding may say besides: becomes several characters, or depends on its neighbours.
EXPAND, EXACT = 4, 5

# The blocks that BERT's basic tokenizer calls CJK. Extensions F and later (2CEB0...) are not in it.
CJK = (
    *(0x3400, 0x4DC0, 0x4E00, 0xA000, 0xF900, 0xFB00, 0x20000, 0x2A6E0),
    *(0x2A700, 0x2B740, 0x2B740, 0x2B820, 0x2B820, 0x2CEB0, 0x2F800, 0x2FA20),
)
REPLACEMENT = 0xFFFD  # removed like a control character
_SPACED_CONTROLS = (0x09, 0x0A, 0x0D)  # control characters that separate words instead
_ASCII_SYMBOLS = (0x21, 0x30, 0x3A, 0x41, 0x5B, 0x61, 0x7B, 0x7F)  # punctuation to BERT, all of it

_SIGMA, _SMALL_SIGMA, _FINAL_SIGMA = 0x3A3, 0x3C3, 0x3C2
_HANGUL, _HANGUL_COUNT = 0xAC00, 11172


def _inside(bounds: Sequence[int], point: int) -> bool:
    return bool(bisect_right(bounds, point) & 1)


def is_space(character: str) -> bool:
    """Whether BERT reads the character as a space: space, tab, line ends and category Zs."""
    point = ord(character)
    return point in _SPACED_CONTROLS or _inside(unicode14.SPACE, point)


def is_separator(character: str) -> bool:
    """Whether a word ends at the character: spaces, and line and paragraph separators."""
    return is_space(character) or _inside(unicode14.LINE, ord(character))


def is_punctuation(character: str) -> bool:
    """Whether the character is punctuation to BERT: category P* and every ASCII symbol."""
    point = ord(character)
    return _inside(_ASCII_SYMBOLS, point) or _inside(unicode14.PUNCTUATION, point)


def is_cjk(character: str) -> bool:
    """Whether the character is a CJK ideograph, which is always a token by itself."""
    return _inside(CJK, ord(character))


def is_control(character: str) -> bool:
    """Whether the character is of category Cc or Cf."""
    return _inside(unicode14.CONTROL, ord(character))


def is_removed(character: str) -> bool:
    """Whether the tokenizer drops the character: controls and the replacement character."""
    return character == chr(REPLACEMENT) or is_control(character)


def character_kinds() -> np.ndarray:
    """WORD, SINGLE, SPACE or DROP for every code point: uint8 (0x110000,).

    Later assignments win; the order is that in which BERT asks.
    """
    kinds = np.full(POINTS, WORD, np.uint8)
    kinds[REPLACEMENT] = DROP
    for kind, bounds in (
        (DROP, unicode14.CONTROL),
        (SPACE, unicode14.LINE),
        (SPACE, unicode14.SPACE),
        (SINGLE, unicode14.PUNCTUATION),
        (SINGLE, _ASCII_SYMBOLS),
        (SINGLE, CJK),
    ):
        for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
            kinds[start:stop] = kind
    kinds[list(_SPACED_CONTROLS)] = SPACE
    return kinds


class Folding:
    """Lower-case, decompose canonically (NFD), remove marks (Mn): the uncased normalisation.

    Reads the frozen table once, at construction (about 2 ms). `fold(text)` gives the string,
    `fold_aligned(text)` also says which character each result came from, `simple` is the folding of
    single code points, and `tables` that of all of them at once.
    """

    def __init__(self) -> None:
        source = resources.files("bert4kexue.text").joinpath("unicode14.npz")
        with source.open("rb") as file, np.load(file) as archive:
            table = {name: archive[name] for name in archive.files}
        ends = np.cumsum(table["fold_length"], dtype=np.int64).tolist()
        target = "".join(map(chr, table["fold_target"].tolist()))
        self._decomposed = {
            point: target[start:end]
            for point, start, end in zip(
                table["fold_source"].tolist(), [0, *ends], ends, strict=False
            )
        }
        self._classes = dict(
            zip(table["combining"].tolist(), table["combining_class"].tolist(), strict=True)
        )
        self._marks = table["marks"].tolist()
        self._cased = table["cased"].tolist()
        self._ignorable = table["ignorable"].tolist()
        # Marks that survive (not Mn) and take part in canonical ordering.
        movable = {chr(point) for point in self._classes if not _inside(self._marks, point)}
        movers = [p for p, text in self._decomposed.items() if not movable.isdisjoint(text)]
        self._exact = frozenset([chr(_SIGMA), *movable, *map(chr, movers)])
        self.simple = SimpleFolds(self._decomposed, self._marks)

    @property
    def exact(self) -> frozenset[str]:
        """The characters whose folding depends on their neighbours."""
        return self._exact

    def fold(self, text: str) -> str:
        """The normalised text."""
        if self._exact.isdisjoint(text):
            return text.translate(self.simple)
        return self.fold_aligned(text)[0]

    def fold_aligned(self, text: str) -> tuple[str, list[int]]:
        """The normalised text, and for each of its characters the index of its source in `text`."""
        points: list[int] = []
        origin: list[int] = []
        for index, character in enumerate(text):
            folded = self._decompose(text, index, character)
            points += map(ord, folded)
            origin += [index] * len(folded)
        order = self._canonical_order(points)
        kept = [i for i in order if not _inside(self._marks, points[i])]
        return "".join(chr(points[i]) for i in kept), [origin[i] for i in kept]

    def tables(self, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The folding of every code point at once.

        Args:
            kinds: `character_kinds()`.

        Returns:
            int32 (0x110000,), the code point that each one becomes, and uint8 (0x110000,), the
            kind of the result, with EXPAND and EXACT where one code point does not say it.
        """
        folded = np.arange(POINTS, dtype=np.int32)
        result = kinds.copy()
        for start, stop in zip(self._marks[::2], self._marks[1::2], strict=True):
            result[start:stop] = DROP
        sources, targets, expanded = [], [], []
        for point in self._decomposed:
            text = self.simple[point]
            if len(text) == 1:
                sources.append(point)
                targets.append(ord(text))
            elif text:
                expanded.append(point)
            else:
                result[point] = DROP
        folded[sources] = targets
        result[sources] = kinds[targets]
        result[expanded] = EXPAND
        result[_HANGUL : _HANGUL + _HANGUL_COUNT] = EXPAND
        result[[ord(character) for character in self._exact]] = EXACT
        return folded, result

    def _decompose(self, text: str, index: int, character: str) -> str:
        point = ord(character)
        if point == _SIGMA:
            return chr(_FINAL_SIGMA if self._ends_word(text, index) else _SMALL_SIGMA)
        folded = self._decomposed.get(point)
        return folded if folded is not None else _decompose_hangul(point) or character

    def _ends_word(self, text: str, index: int) -> bool:
        """Unicode's Final_Sigma: a cased letter before, none after, ignorables looked through."""
        before = self._next_letter(text, range(index - 1, -1, -1))
        after = self._next_letter(text, range(index + 1, len(text)))
        return _inside(self._cased, before) and not _inside(self._cased, after)

    def _next_letter(self, text: str, indices: Iterable[int]) -> int:
        for index in indices:
            if not _inside(self._ignorable, ord(text[index])):
                return ord(text[index])
        return 0  # not cased

    def _canonical_order(self, points: list[int]) -> list[int]:
        """Stable sort by combining class within each run of non-zero classes."""
        order: list[int] = []
        run: list[int] = []
        for index, point in enumerate(points):
            if point in self._classes:
                run.append(index)
                continue
            order += sorted(run, key=lambda i: self._classes[points[i]])
            order.append(index)
            run = []
        return order + sorted(run, key=lambda i: self._classes[points[i]])


class SimpleFolds(dict[int, str]):
    """Code point -> folded string, for `str.translate`; filled as characters are met."""

    def __init__(self, decomposed: dict[int, str], marks: list[int]) -> None:
        super().__init__()
        self._decomposed, self._marks = decomposed, marks

    def __missing__(self, point: int) -> str:
        text = self._decomposed.get(point) or _decompose_hangul(point) or chr(point)
        text = "".join(c for c in text if not _inside(self._marks, ord(c)))
        self[point] = text
        return text


def _decompose_hangul(point: int) -> str:
    """The two or three letters of a precomposed Hangul syllable; '' for anything else."""
    index = point - _HANGUL
    if not 0 <= index < _HANGUL_COUNT:
        return ""
    lead, rest = divmod(index, 588)  # 21 vowels x 28 tails
    vowel, tail = divmod(rest, 28)
    letters = chr(0x1100 + lead) + chr(0x1161 + vowel)
    return letters + chr(0x11A7 + tail) if tail else letters
