"""Outputs whose text matches a regular expression over characters.

Every token is run through the automaton of the expression from every state, once, when the
constraint is made: the result is a table (states, v) of next states, and a step of decoding is one
row of it. States from which no text of the vocabulary's tokens can be completed are removed, so no
output runs into a dead end.

The text of tokens is their strings one after another, '##' taken from continuations. Where
`spaces` is set, one space stands between two words: between a token that does not continue one and
the token before it, if letters or digits other than Chinese meet there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from bert4kexue.decoding.constraints import check_width
from bert4kexue.decoding.regular import DEAD, START, CharacterAutomaton, compile_expression

MOST_ENTRIES = 2**27
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FA1F))


class TokenAutomaton(NamedTuple):
    """An automaton over tokens; state 0 is dead, state 1 the first."""

    table: np.ndarray
    """(states, v) int32: the next state."""
    accepting: np.ndarray
    """(states,) bool: whether the text so far matches as a whole."""


class RegexConstraint:
    """Only texts that match a regular expression as a whole. The states are the automaton's.

    Args:
        pattern: see `decoding.regular` for its language.
        pieces: the tokens' strings, index = id: a tokenizer's vocabulary, '##' included.
        end_id: allowed where the text matches, to end it. None leaves the end to `Chain`.
        spaces: whether words are joined by a space.
        excluded: ids that are never generated; those of tokens in square brackets (`[CLS]`,
            `[unused1]`) when None. Empty tokens never are.

    Raises:
        ValueError: an expression outside the language, one that no output matches, or one whose
            table would be too large.
    """

    def __init__(
        self,
        pattern: str,
        pieces: Sequence[str],
        end_id: int | None = None,
        *,
        spaces: bool = False,
        excluded: Collection[int] | None = None,
    ) -> None:
        if end_id is not None:
            check_width(end_id, len(pieces))
        out = special_ids(pieces) if excluded is None else set(excluded)
        if end_id is not None:
            out = out | {end_id}
        self.automaton = token_automaton(pattern, pieces, spaces=spaces, excluded=out)
        self.end_id, self.vocab_size = end_id, len(pieces)

    def initial_state(self, rows: int) -> np.ndarray:
        """The first state for each row."""
        return np.full(rows, START, np.int32)

    def allowed(self, state: np.ndarray) -> np.ndarray:
        """The tokens after which the text can still be completed, and the end where it matches."""
        mask = self.automaton.table[state] != DEAD
        if self.end_id is not None:
            mask[:, self.end_id] = self.complete(state)
        return mask

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The next states."""
        return self.automaton.table[state, np.asarray(tokens)]

    def complete(self, state: np.ndarray) -> np.ndarray:
        """Where the text matches."""
        return self.automaton.accepting[state]


def special_ids(pieces: Sequence[str]) -> set[int]:
    """Ids of tokens in square brackets, which stand for no text."""
    return {
        index
        for index, piece in enumerate(pieces)
        if len(piece) > 2 and piece.startswith("[") and piece.endswith("]")
    }


def spell(ids: Sequence[int], pieces: Sequence[str], *, spaces: bool = False) -> str:
    """The text of tokens, as `RegexConstraint` reads it."""
    text = ""
    for index in ids:
        characters, continues = _spelling(pieces[index])
        if spaces and not continues and text and characters:
            text += " " * (_is_word(text[-1]) and _is_word(characters[0]))
        text += characters
    return text


def token_automaton(
    pattern: str, pieces: Sequence[str], *, spaces: bool, excluded: Collection[int]
) -> TokenAutomaton:
    """The automaton over tokens: see `RegexConstraint`."""
    spellings = [_spelling(piece) for piece in pieces]
    alphabet = sorted({*"".join(text for text, _ in spellings), " "})
    characters = compile_expression(pattern, np.array([ord(each) for each in alphabet]))
    # With spaces a state also remembers whether a word has just been written.
    copies = 2 if spaces else 1
    states, v = len(characters.table), len(pieces)
    if states * copies * v > MOST_ENTRIES:
        raise ValueError(
            f"the expression {pattern!r} needs {states * copies} states for {v} tokens, more than "
            f"{MOST_ENTRIES} entries: use a simpler expression"
        )
    place = {character: index for index, character in enumerate(alphabet)}
    glued = _run(characters, [text for text, _ in spellings], place)  # (states, v)
    possible = np.array([bool(text) for text, _ in spellings], bool)
    possible[list(excluded)] = False
    glued[:, ~possible] = DEAD
    if not spaces:
        return _trimmed(glued, characters.accepting, pattern)
    apart = np.array(
        [bool(text) and not continues and _is_word(text[0]) for text, continues in spellings], bool
    )
    after_space = characters.table[:, characters.columns[place[" "]]]
    spaced = np.where(apart, glued[after_space], glued)
    ends_word = np.array([bool(text) and _is_word(text[-1]) for text, _ in spellings], bool)
    # State s after no word is s, after a word states + s.
    table = np.concatenate([glued, spaced])
    table = np.where((table != DEAD) & ends_word, table + states, table)
    return _trimmed(table, np.tile(characters.accepting, 2), pattern)


def _run(characters: CharacterAutomaton, texts: Sequence[str], place: dict[str, int]) -> np.ndarray:
    """The state after each text from each state, (states, texts)."""
    lengths = np.array([len(text) for text in texts])
    result = np.repeat(np.arange(len(characters.table), dtype=np.int32)[:, None], len(texts), 1)
    order = np.argsort(-lengths, kind="stable")
    for column in range(int(lengths.max(initial=0))):
        active = order[: int((lengths > column).sum())]
        points = [place[texts[index][column]] for index in active.tolist()]
        result[:, active] = characters.table[result[:, active], characters.columns[points]]
    return result


def _trimmed(table: np.ndarray, accepting: np.ndarray, pattern: str) -> TokenAutomaton:
    """Without states that are never reached, and dead where no match can be reached any more."""
    targets = [np.unique(row) for row in table]
    reached, pending = {START}, [START]
    while pending:
        new = set(targets[pending.pop()].tolist()) - reached
        reached |= new
        pending += new
    alive = accepting.copy()
    alive[DEAD] = False
    while True:
        grown = alive | np.array([alive[row].any() for row in targets], bool)
        grown[DEAD] = False
        if (grown == alive).all():
            break
        alive = grown
    kept = [state for state in sorted(reached) if alive[state]]
    if START not in kept:
        raise ValueError(
            f"no text of the vocabulary's tokens matches the expression {pattern!r}: check its "
            "characters against the vocabulary (lower case, full-width forms)"
        )
    number = np.zeros(len(table), np.int32)  # everything else is dead
    number[kept] = np.arange(1, len(kept) + 1)
    rows = np.zeros((len(kept) + 1, table.shape[1]), np.int32)
    rows[1:] = number[table[kept]]
    return TokenAutomaton(rows, np.concatenate([[False], accepting[kept]]))


def _spelling(piece: str) -> tuple[str, bool]:
    continues = piece.startswith("##") and len(piece) > 2
    return (piece[2:] if continues else piece), continues


def _is_word(character: str) -> bool:
    point = ord(character)
    return character.isalnum() and not any(low <= point <= high for low, high in _IDEOGRAPHS)
