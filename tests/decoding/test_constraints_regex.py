"""Regular expressions against Python's `re`, on all texts of tiny vocabularies."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.decoding import RegexConstraint, accepts
from bert4kexue.decoding.automaton import spell
from bert4kexue.decoding.regular import compile_expression

LETTERS = "ab1_ 中\n"
ALPHABET = np.array([ord(letter) for letter in LETTERS])
LONGEST = 4

atoms = st.sampled_from(
    [
        "a",
        "b",
        "1",
        "中",
        ".",
        r"\d",
        r"\w",
        r"\s",
        r"\D",
        r"\W",
        r"\S",
        "[ab]",
        "[^a中]",
        "[a-c]",
        r"[\d_]",
        r"[^\w]",
        "[]a]",
        "[a-]",
        r"\.",
        r"\u4e2d",
        r"\x61",
        " ",
        r"\n",
        "{",
        "a{x}",
    ]
)
repeats = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "{,1}", "*?", "+?", "??"])
expressions = st.recursive(
    st.builds("{}{}".format, atoms.filter(lambda atom: atom != "a{x}"), repeats),
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("({}|{}){}".format, inner, inner, repeats),
        st.builds("(?:{}){}".format, inner, repeats),
        st.builds("{}|{}".format, inner, inner),
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(pattern=expressions)
def test_an_expression_matches_what_re_matches(pattern):
    try:
        compiled = re.compile(pattern)
    except re.error:
        return
    automaton = compile_expression(pattern, ALPHABET)
    table, columns = automaton.table.tolist(), automaton.columns.tolist()
    for length in range(LONGEST + 1):
        for text in itertools.product(range(len(LETTERS)), repeat=length):
            state = 1
            for character in text:
                state = table[state][columns[character]]
            written = "".join(LETTERS[character] for character in text)
            assert automaton.accepting[state] == bool(compiled.fullmatch(written)), written


PIECES = ["[PAD]", "[SEP]", "a", "ab", "##b", "中", "1", "##12", "中国", "."]


def outputs(rule, longest):
    """The ids of all outputs of at most `longest` tokens before the end, level by level."""
    found, written, state = set(), [()], rule.initial_state(1)
    for length in range(longest + 1):
        allowed = rule.allowed(state)
        found |= {ids for ids, row in zip(written, allowed, strict=True) if row[1]}
        if length == longest or not written:
            return found
        rows, tokens = np.nonzero(allowed[:, 2:])
        written = [(*written[row], int(token) + 2) for row, token in zip(rows, tokens, strict=True)]
        state = rule.advance(state[rows], tokens + 2)
    return found


@settings(max_examples=60, deadline=None)
@given(pattern=expressions, spaces=st.booleans())
def test_outputs_are_the_token_sequences_whose_text_matches(pattern, spaces):
    try:
        compiled = re.compile(pattern)
    except re.error:
        return
    words = range(2, len(PIECES))
    truth = {
        ids
        for length in range(4)
        for ids in itertools.product(words, repeat=length)
        if compiled.fullmatch(spell(ids, PIECES, spaces=spaces))
    }
    try:
        rule = RegexConstraint(pattern, PIECES, 1, spaces=spaces)
    except ValueError as error:
        assert "no text" in str(error)  # noqa: PT017
        assert not truth
        return
    assert outputs(rule, 3) == truth


@settings(max_examples=40, deadline=None)
@given(pattern=expressions, seed=st.integers(0, 999))
def test_no_output_runs_into_a_dead_end(pattern, seed):
    try:
        rule = RegexConstraint(pattern, PIECES, 1)
    except ValueError:
        return
    rng, state = np.random.default_rng(seed), rule.initial_state(1)
    for _ in range(20):
        allowed = np.flatnonzero(rule.allowed(state)[0])
        assert len(allowed)
        token = rng.choice(allowed)
        if token == 1:
            return
        state = rule.advance(state, np.array([token]))


@pytest.mark.parametrize(
    ("ids", "spaces", "text"),
    [
        ([2, 4, 5], True, "ab中"),
        ([2, 3, 4], True, "a abb"),
        ([6, 7, 9, 6], True, "112.1"),
        ([6, 7, 6], False, "1121"),
        ([6, 6], True, "1 1"),
        ([5, 2, 8], True, "中a中国"),
    ],
)
def test_tokens_are_spelled(ids, spaces, text):
    assert spell(ids, PIECES, spaces=spaces) == text
    assert accepts(RegexConstraint(re.escape(text), PIECES, 1, spaces=spaces), [*ids, 1])


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)",
        r"(a)\1",
        "^a",
        "a$",
        "(a",
        "a)",
        "*a",
        "a**",
        "[b-a]",
        "a{2,1}",
        "[a",
        "\\",
        r"\b",
        "a++",
        "(?P<n>a)",
        r"\u12",
        r"\U00110000",
        "a{2}{3}",
        "(a{200}){200}",
    ],
)
def test_what_is_not_in_the_language_is_refused(pattern):
    with pytest.raises(ValueError, match=r"expression|states"):
        compile_expression(pattern, ALPHABET)


def test_an_expression_without_any_output_is_refused():
    with pytest.raises(ValueError, match="no text of the vocabulary's tokens matches"):
        RegexConstraint("ABC", PIECES, 1)
