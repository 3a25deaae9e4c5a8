"""Regular expressions over characters as deterministic automata.

The language is Python's `re` without what is not regular or has no meaning in a whole match:
literals and escapes, `.`, classes `[a-z]` and `[^...]`, `\\d \\w \\s` and their opposites, groups
`(...)` and `(?:...)`, alternatives `|`, and `* + ? {m} {m,} {m,n}`, lazy ones included since they
match the same texts. Look-around, back-references, anchors, flags and named groups are refused.

A text is parsed into a nondeterministic automaton (Thompson 1968), and that is made deterministic
over classes of characters: those that no part of the expression tells apart are one column.
"""

from __future__ import annotations

from collections.abc import Callable
from string import hexdigits
from sys import maxunicode
from typing import NamedTuple

import numpy as np

DEAD, START = 0, 1
LARGEST = 20_000
"""States of an automaton, at most."""

Points = Callable[[np.ndarray], np.ndarray]
"""Which of these code points, (c,) -> (c,) bool."""


class CharacterAutomaton(NamedTuple):
    """A deterministic automaton; state 0 is the one without return, state 1 the first."""

    columns: np.ndarray
    """(alphabet,) the column of each character of the alphabet."""
    table: np.ndarray
    """(states, columns) int32: the next state."""
    accepting: np.ndarray
    """(states,) bool."""


def compile_expression(pattern: str, alphabet: np.ndarray) -> CharacterAutomaton:
    """The automaton of the texts that match as a whole.

    Args:
        pattern: a regular expression in the language above.
        alphabet: (characters,) the code points that texts are made of.

    Raises:
        ValueError: an expression outside that language, or an automaton of too many states.
    """
    parser = _Parser(pattern)
    first, last = parser.parse()
    sets = np.array([points(alphabet) for points in parser.sets], bool)
    sets = sets.reshape(len(parser.sets), len(alphabet))
    if len(alphabet):
        distinct, columns = np.unique(sets, axis=1, return_inverse=True)
    else:
        distinct, columns = sets, np.zeros(0, np.int64)
    moves = parser.moves
    closures = [parser.closure([state]) for state in range(len(parser.empty))]
    numbers: dict[frozenset[int], int] = {frozenset(): DEAD, closures[first]: START}
    pending, table = [closures[first]], [[DEAD] * distinct.shape[1]]
    while pending:
        states = pending.pop(0)
        edges = [moves[state] for state in states if state in moves]
        row = []
        for column in range(distinct.shape[1]):
            targets = [closures[target] for index, target in edges if distinct[index, column]]
            following = frozenset().union(*targets)
            if following not in numbers:
                numbers[following] = len(numbers)
                pending.append(following)
                if len(numbers) > LARGEST:
                    raise ValueError(
                        f"the expression {pattern!r} needs more than {LARGEST} states: use smaller "
                        "counts or fewer alternatives"
                    )
            row.append(numbers[following])
        table.append(row)
    accepting = np.array([last in states for states in numbers], bool)
    shape = (len(table), distinct.shape[1])
    return CharacterAutomaton(
        columns.reshape(-1), np.array(table, np.int32).reshape(shape), accepting
    )


class _Parser:
    """Recursive descent; fragments are pairs of states (first, last)."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.place = pattern, 0
        self.empty: list[list[int]] = []  # transitions without a character, by state
        self.moves: dict[int, tuple[int, int]] = {}  # state -> (set, next state)
        self.sets: list[Points] = []

    def parse(self) -> tuple[int, int]:
        fragment = self.alternatives()
        if self.place < len(self.pattern):
            raise self.error("an unopened ')'")
        return fragment

    def closure(self, states: list[int]) -> frozenset[int]:
        found, pending = set(states), list(states)
        while pending:
            new = [state for state in self.empty[pending.pop()] if state not in found]
            found.update(new)
            pending += new
        return frozenset(found)

    def error(self, what: str) -> ValueError:
        return ValueError(
            f"regular expression {self.pattern!r}, position {self.place}: {what}. Allowed are "
            "literals, ., [...], \\d \\w \\s, groups, |, * + ? and {m,n}"
        )

    def peek(self) -> str:
        return self.pattern[self.place : self.place + 1]

    def next(self) -> str:
        if self.place == len(self.pattern):
            raise self.error("ends too early")
        self.place += 1
        return self.pattern[self.place - 1]

    def state(self) -> int:
        self.empty.append([])
        if len(self.empty) > LARGEST:
            raise self.error(f"needs more than {LARGEST} states: use smaller counts")
        return len(self.empty) - 1

    def alternatives(self) -> tuple[int, int]:
        branches = [self.sequence()]
        while self.peek() == "|":
            self.place += 1
            branches.append(self.sequence())
        if len(branches) == 1:
            return branches[0]
        first, last = self.state(), self.state()
        for begin, end in branches:
            self.empty[first].append(begin)
            self.empty[end].append(last)
        return first, last

    def sequence(self) -> tuple[int, int]:
        first = last = self.state()
        while self.peek() not in ("", "|", ")"):
            start = self.place
            begin, end = self.atom()
            begin, end = self.counted(start, begin, end)
            self.empty[last].append(begin)
            last = end
        return first, last

    def counted(self, start: int, begin: int, end: int) -> tuple[int, int]:
        """The atom that was just read from `start`, as often as what follows it says."""
        while True:
            bounds = self.bounds()
            if bounds is None:
                return begin, end
            if self.peek() == "?":  # lazy: the same texts
                self.place += 1
            elif self.peek() == "+":
                raise self.error("possessive repetition")
            if self.peek() in ("*", "+", "?") or self.braces():
                raise self.error("a repetition of a repetition: put the first into a group")
            after, (low, high) = self.place, bounds
            first = last = self.state()
            for count in range(low if high is None else high):
                self.place = start
                inner, outer = self.atom()
                self.empty[last].append(inner)
                if count >= low:
                    self.empty[inner].append(outer)
                last = outer
            if high is None:
                self.place = start
                inner, outer = self.atom()
                loop, over = self.state(), self.state()
                self.empty[last].append(loop)
                self.empty[loop] += [inner, over]
                self.empty[outer].append(loop)
                last = over
            self.place = after
            begin, end = first, last

    def bounds(self) -> tuple[int, int | None] | None:
        sign = self.peek()
        if sign and sign in "*+?":
            self.place += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        found = self.braces()
        if found is None:
            return None
        self.place, low, high = found
        if high is not None and high < low:
            raise self.error("a count whose first number is larger than its second")
        return low, high

    def braces(self) -> tuple[int, int, int | None] | None:
        """The end of `{m,n}` that begins here, and its numbers; None where it is only a brace."""
        end = self.pattern.find("}", self.place)
        if self.peek() != "{" or end < 0:
            return None
        low, comma, high = self.pattern[self.place + 1 : end].partition(",")
        numbers = (low, high) if comma else (low, low)
        if numbers == ("", "") or not all(
            part == "" or (part.isascii() and part.isdigit()) for part in numbers
        ):
            return None
        first, last = (int(part) if part else None for part in numbers)
        return end + 1, first or 0, last

    def atom(self) -> tuple[int, int]:
        sign = self.next()
        if sign == "(":
            if self.peek() == "?":
                if self.pattern[self.place : self.place + 2] != "?:":
                    raise self.error("an extension of groups other than (?:...)")
                self.place += 2
            fragment = self.alternatives()
            if self.peek() != ")":
                raise self.error("a group that is not closed")
            self.place += 1
            return fragment
        if sign in "*+?":
            raise self.error("nothing to repeat")
        if sign in "^$":
            raise self.error(
                f"{sign!r}: the whole text has to match anyway; leave it out or escape"
            )
        if sign == ".":
            return self.one_of(lambda points: points != ord("\n"))
        if sign == "[":
            return self.one_of(self.character_class())
        if sign == "\\":
            return self.one_of(self.escape()[0])
        return self.one_of(_range(sign, sign))

    def one_of(self, points: Points) -> tuple[int, int]:
        first, last = self.state(), self.state()
        self.moves[first] = (len(self.sets), last)
        self.sets.append(points)
        return first, last

    def character_class(self) -> Points:
        inverted = self.peek() == "^"
        self.place += inverted
        parts: list[Points] = []
        while self.peek() != "]" or not parts:
            points, low = self.class_item()
            if self.peek() == "-" and self.pattern[self.place + 1 : self.place + 2] not in (
                "]",
                "",
            ):
                self.place += 1
                _, high = self.class_item()
                if not low or not high or high < low:
                    raise self.error("a range of characters that does not ascend")
                points = _range(low, high)
            parts.append(points)
        self.place += 1
        return lambda points: np.logical_or.reduce([part(points) for part in parts]) ^ inverted

    def class_item(self) -> tuple[Points, str]:
        sign = self.next()
        return self.escape() if sign == "\\" else (_range(sign, sign), sign)

    def escape(self) -> tuple[Points, str]:
        """What a backslash and the next characters stand for; '' where it is no character."""
        sign = self.next()
        if sign in "dwsDWS":
            kind = _KINDS[sign.lower()]
            return (lambda points: _each(kind, points) ^ sign.isupper()), ""
        if sign in "xuU":
            width = {"x": 2, "u": 4, "U": 8}[sign]
            digits = self.pattern[self.place : self.place + width]
            if len(digits) < width or not set(digits) <= set(hexdigits):
                raise self.error(f"\\{sign} without {width} hexadecimal digits")
            if int(digits, 16) > maxunicode:
                raise self.error(f"\\{sign}{digits} is no code point")
            character = chr(int(digits, 16))
            self.place += len(digits)
        elif sign in _CONTROLS:
            character = _CONTROLS[sign]
        elif sign.isascii() and sign.isalnum():
            raise self.error(f"the escape \\{sign}")
        else:
            character = sign
        return _range(character, character), character


_KINDS: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "w": lambda character: character.isalnum() or character == "_",
    "s": str.isspace,
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}


def _range(low: str, high: str) -> Points:
    return lambda points: (points >= ord(low)) & (points <= ord(high))


def _each(kind: Callable[[str], bool], points: np.ndarray) -> np.ndarray:
    return np.fromiter((kind(chr(point)) for point in points.tolist()), bool, len(points))
