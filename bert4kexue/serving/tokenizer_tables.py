"""A tokenizer as arrays: what the tokenizer inside a graph gathers from. NumPy alone.

Every code point becomes a **symbol**, a small number that stands for all code points that the
tokenizer cannot tell apart. Symbols are ordered by what they do, so that one comparison asks:

    [0, words)         part of a word; 0 for those that no token holds
    [words, start)     SPACE, then characters that are tokens alone, first the unknown one
    start, end         the marks put around each text (U+0001 and U+0002)
    DROPPED_MARK ...   irregular: removed, expanded, or dependent on neighbours (from `exact` on)

Words are spelled by the longest match in a tree of the vocabulary. The tree is stored for jumps of
1, 2, 4, ... symbols ("binary lifting"), so that the longest path from every position is found in
log2(longest token) look-ups instead of one for each character: blocks of 2**k symbols that occur in
the vocabulary have names, made from the names of their halves, and a node is reached from the node
`d & -d` symbols above it, where d is its depth, by the name of the block between.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from bert4kexue.text import codepoints
from bert4kexue.text.codepoints import DROP, EXPAND, POINTS, SINGLE, SPACE, WORD, Folding
from bert4kexue.text.wordpiece import _SCANNED, Tokenizer

START_MARK, END_MARK = "\x01", "\x02"  # removed by every tokenizer, so no text loses anything
NO_TOKEN = -1
_SIGMA, _SMALL_SIGMA, _FINAL_SIGMA = "Σσς"
NO_UNKNOWN = 2**31 - 1  # the id of unknown words where the vocabulary has none: an error later

# A node is (1 + depth) * 2**DEPTH_SHIFT + index * 2**NAME_BITS, so that deeper nodes are larger
# numbers; node + name is the key of the node that a block leads to. The key of a name is
# (name of its first half) * 2**NAME_BITS + (name of its second half), smaller than any node.
NAME_BITS = 21
DEPTH_SHIFT = 44
FIRST_ROOT, TAIL_ROOT = 1 << DEPTH_SHIFT, (1 << DEPTH_SHIFT) + (1 << NAME_BITS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pieces:
    """The vocabulary's tree, for longest matches by jumps."""

    keys: np.ndarray  # int64 (entries,)
    values: np.ndarray  # int64 (entries,), a node, or the name of a block; 0 stands for neither
    levels: int  # jumps are of 2**levels, ..., 2, 1 symbols
    best: np.ndarray  # int32 (nodes, 2): length and id of the longest token on the path; 0, -1
    longest: int  # symbols of the longest piece


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerTables:
    """All that the graph knows of a tokenizer."""

    symbols: np.ndarray  # uint16 or int32 (0x110000,): code point -> symbol
    words: int  # the first symbol that is not part of a word
    start: int  # the symbol of START_MARK; that of END_MARK is the next
    exact: int  # the first symbol whose meaning depends on its neighbours
    sigma: tuple[int, int, int]  # symbols of the capital sigma, the small one, the final one
    ids: np.ndarray  # int32 (start + 4,): symbol -> id of the token that it is alone, or NO_TOKEN
    expansion_starts: np.ndarray  # int32 (symbols + 1,): where each symbol's expansion begins
    expansions: np.ndarray  # int32: symbols that replace a symbol, end to end
    combining: np.ndarray  # int32 (symbols,): class of canonical ordering
    cased: np.ndarray  # int32, ranges of code points, flat: for the final sigma
    ignorable: np.ndarray
    pieces: Pieces
    unknown: int  # id of words that cannot be spelled, or NO_UNKNOWN
    word_maxlen: int

    @property
    def space(self) -> int:
        """The symbol of what separates words."""
        return self.words

    @property
    def dropped(self) -> int:
        """The symbol of what is removed but stands between marks that would change places."""
        return self.start + 3

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = [*vars(self).values(), *vars(self.pieces).values()]
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))


def build_tables(tokenizer: Tokenizer) -> TokenizerTables:
    """The tables of a tokenizer as it is now; later changes of its vocabulary are not seen.

    Raises:
        ValueError: the tokenizer does what no graph here can: it cuts texts with a Python function,
            is a subclass with methods of its own, or translates words outside its vocabulary.
    """
    _check(tokenizer)
    unknown = getattr(tokenizer, "_token_unk_id", NO_UNKNOWN)
    ids = _translated_ids(tokenizer)
    kinds = codepoints.character_kinds()
    folding = tokenizer._folding
    raw_kinds = kinds
    folded = np.arange(POINTS, dtype=np.int32)
    if folding is not None:
        folded, kinds = folding.tables(kinds)

    # Characters of tokens that can occur; a token of several characters is spelled inside words.
    spelled = {t: i for t, i in ids.items() if _occurs(t, raw_kinds, folding)}
    singles = [t for t in spelled if len(t) == 1 and raw_kinds[ord(t)] == SINGLE]
    in_words = [t for t in spelled if len(t) > 1 or raw_kinds[ord(t)] == WORD]
    letters = sorted({c for t in in_words for c in t.removeprefix("##")})
    letter_symbols = {c: s for s, c in enumerate(letters, start=1)}
    words = 1 + len(letters)
    start = words + 2 + len(singles)

    by_kind = np.zeros(4, np.int32)
    by_kind[[WORD, SPACE, SINGLE, DROP]] = [0, words, words + 1, start + 3]
    symbols = by_kind[raw_kinds]
    symbols[[ord(c) for c in letters]] = range(1, words)
    symbols[[ord(c) for c in singles]] = range(words + 2, start)
    symbols = symbols[folded]
    symbols[kinds == DROP] = start + 3
    irregular = _Irregular([(s,) for s in range(start + 2)] + [(), ()])
    exact, sigma = irregular.count, (-1, -1, -1)
    if folding is not None:
        exact, sigma = _add_irregular(irregular, symbols, kinds, folding, letter_symbols, start)
    symbols[[ord(START_MARK), ord(END_MARK)]] = start, start + 1

    alone = np.full(start + 4, NO_TOKEN, np.int32)
    alone[words + 1] = unknown
    alone[words + 2 : start] = [ids[t] for t in singles]
    for offset, token in enumerate((tokenizer._token_start, tokenizer._token_end)):
        if token is not None:
            alone[start + offset] = tokenizer.token_to_id(token)
    lengths = np.array([0, *map(len, irregular.expansions)])
    none = np.zeros(0, np.int32)
    return TokenizerTables(
        symbols=symbols.astype(np.uint16 if irregular.count < 2**16 else np.int32),
        words=words,
        start=start,
        exact=exact,
        sigma=sigma,
        ids=alone,
        expansion_starts=np.cumsum(lengths).astype(np.int32),
        expansions=np.array([s for target in irregular.expansions for s in target], np.int32),
        combining=np.array(irregular.combining, np.int32),
        cased=none if folding is None else np.array(folding._cased, np.int32),
        ignorable=none if folding is None else np.array(folding._ignorable, np.int32),
        pieces=_pieces({t: ids[t] for t in in_words}, letter_symbols, irregular.count),
        unknown=unknown,
        word_maxlen=tokenizer._word_maxlen,
    )


class _Irregular:
    """Symbols that stand for others: what each becomes, and its class of canonical ordering."""

    def __init__(self, expansions: list[tuple[int, ...]]) -> None:
        self.expansions = expansions
        self.combining = [0] * len(expansions)

    @property
    def count(self) -> int:
        return len(self.expansions)

    def add(self, expansion: Iterable[int], combining: int = 0) -> int:
        """A new symbol."""
        self.expansions.append(tuple(expansion))
        self.combining.append(combining)
        return self.count - 1


def _add_irregular(
    irregular: _Irregular,
    symbols: np.ndarray,
    kinds: np.ndarray,
    folding: Folding,
    letters: Mapping[str, int],
    start: int,
) -> tuple[int, tuple[int, int, int]]:
    """Give symbols to what folds to several characters, or by its neighbours; changes `symbols`.

    Returns:
        The first symbol of the second sort, and those of the capital sigma, the small one and the
        final one.
    """
    classes = folding._classes
    irregular.combining[start + 2] = 1
    # A removed mark with a class lets other marks pass it in canonical ordering; nothing else does.
    for point in np.flatnonzero(kinds == DROP).tolist():
        if all(q in classes for q in map(ord, folding._decomposed.get(point, chr(point)))):
            symbols[point] = start + 2
    known: dict[tuple[int, ...], int] = {}
    for point in np.flatnonzero(kinds == EXPAND).tolist():
        target = tuple(symbols[[ord(c) for c in folding.simple[point]]].tolist())
        if target not in known:
            known[target] = irregular.add(target)
        symbols[point] = known[target]
    exact = irregular.count
    small = letters.get(_SMALL_SIGMA, 0)
    symbols[ord(_SIGMA)] = irregular.add((small,))
    sigma = (exact, small, letters.get(_FINAL_SIGMA, 0))
    others = folding.exact - {_SIGMA}
    movable = sorted(c for c in others if ord(c) in classes)
    for c in movable:  # all of them are parts of words
        symbols[ord(c)] = irregular.add((letters.get(c, 0),), classes[ord(c)])
    for c in sorted(others.difference(movable)):
        # Becomes marks that may change places, and then what those stand for.
        becomes = symbols[[ord(q) for q in folding.simple[ord(c)]]]
        symbols[ord(c)] = irregular.add(becomes.tolist())
    return exact, sigma


def _check(tokenizer: Tokenizer) -> None:
    refused = None
    if tokenizer._pre_tokenize is not None:
        refused = (
            "it cuts texts into words with a Python function (pre_tokenize; jieba for word-based "
            "models), which a graph cannot run"
        )
    elif own := [n for n in _SCANNED if getattr(type(tokenizer), n) is not getattr(Tokenizer, n)]:
        refused = f"{type(tokenizer).__name__} has its own {', '.join(own)}, which is Python"
    else:
        lost = [t for t in tokenizer._token_translate if t not in tokenizer._token_dict]
        if lost:
            refused = (
                f"token_translate names {lost[:5]}, which its vocabulary does not have: the graph "
                "knows tokens by their ids"
            )
    if refused:
        raise ValueError(
            f"this tokenizer cannot work inside a graph: {refused}. Tokenize in the client and "
            "send token_ids"
        )


def _translated_ids(tokenizer: Tokenizer) -> dict[str, int]:
    ids = dict(tokenizer._token_dict)
    for token, other in tokenizer._token_translate.items():
        ids[token] = tokenizer.token_to_id(other or token)
    return ids


def _occurs(token: str, kinds: np.ndarray, folding: Folding | None) -> bool:
    """Whether running text can give the token."""
    body = token.removeprefix("##")
    if folding is not None and any(folding.simple[ord(c)] != c for c in body):
        return False
    if len(token) == 1 and kinds[ord(token)] == SINGLE:
        return True
    return bool(body) and all(kinds[ord(c)] == WORD for c in body)


def _pieces(ids: Mapping[str, int], letters: Mapping[str, int], first_name: int) -> Pieces:
    keys: list[int] = []
    values: list[int] = []
    names: dict[str, int] = dict(letters)

    def name(block: str) -> int:
        if block not in names:
            half = len(block) // 2
            keys.append((name(block[:half]) << NAME_BITS) + name(block[half:]))
            names[block] = first_name + len(names) - len(letters)
            values.append(names[block])
        return names[block]

    best = [(0, NO_TOKEN), (0, NO_TOKEN)]
    longest = 1
    for root, prefix in ((FIRST_ROOT, ""), (TAIL_ROOT, "##")):
        tokens = {
            t.removeprefix("##"): i for t, i in ids.items() if t.startswith("##") == bool(prefix)
        }
        nodes = {"": root}
        reached = {"": (0, NO_TOKEN)}
        for token in tokens:
            longest = max(longest, len(token))
            for depth in range(1, len(token) + 1):
                path = token[:depth]
                if path in nodes:
                    continue
                above = depth - (depth & -depth)
                nodes[path] = ((1 + depth) << DEPTH_SHIFT) + (len(best) << NAME_BITS)
                keys.append(nodes[path[:above]] + name(path[above:]))
                values.append(nodes[path])
                found = (depth, tokens[path]) if path in tokens else reached[path[:-1]]
                reached[path] = found
                best.append(found)
    if first_name + len(names) >= 1 << NAME_BITS:
        raise ValueError(
            f"{len(ids):,} tokens are too many for a tokenizer inside a graph: its numbers for "
            f"parts of tokens go to {1 << NAME_BITS:,}. Tokenize in the client and send token_ids"
        )
    return Pieces(
        keys=np.array(keys or [0], np.int64),  # a table may not be empty
        values=np.array(values or [0], np.int64),
        levels=longest.bit_length() - 1,
        best=np.array(best, np.int32),
        longest=longest,
    )
