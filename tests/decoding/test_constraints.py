"""Constraints against sets of sequences made by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.decoding import (
    AutoRegressiveDecoder,
    BannedWords,
    Chain,
    Constraint,
    ForcedPrefix,
    Intersection,
    PrefixChoice,
    PrefixTree,
    SubstringConstraint,
    TreeConstraint,
    accepts,
)
from bert4kexue.decoding.constraints import as_constraint

END, VOCAB, LONGEST = 1, 5, 4
OUTPUTS = [ids for n in range(LONGEST + 1) for ids in itertools.product(range(VOCAB), repeat=n)]

tokens = st.integers(0, VOCAB - 1)
sequences = st.lists(tokens, max_size=LONGEST).map(tuple)
passages = st.lists(st.integers(-1, VOCAB - 1), min_size=1, max_size=7)


def outputs(rule, *, whole=True):
    """What the rule accepts; with `whole` what it also calls complete."""
    found = set()
    state = rule.initial_state(1)
    pending = [((), state)]
    while pending:
        ids, state = pending.pop()
        if not whole or rule.complete(state)[0]:
            found.add(ids)
        if len(ids) < LONGEST:
            for token in np.flatnonzero(rule.allowed(state)[0]).tolist():
                pending.append(((*ids, token), rule.advance(state, np.array([token]))))
    return found


def spans(passage, low=1, high=99):
    """All spans of a passage, by their definition."""
    return {
        tuple(passage[i:j])
        for i in range(len(passage) + 1)
        for j in range(i, len(passage) + 1)
        if low <= j - i <= high and -1 not in passage[i:j] and j - i <= LONGEST
    }


def contains(ids, word):
    return any(ids[i : i + len(word)] == word for i in range(len(ids)))


@settings(deadline=None)
@given(keys=st.lists(sequences, min_size=1, max_size=9))
def test_a_tree_accepts_its_keys(keys):
    rule = TreeConstraint(PrefixTree.from_keys(keys), VOCAB)
    assert outputs(rule) == set(keys)
    assert isinstance(rule, Constraint)


@settings(deadline=None)
@given(passage=passages, low=st.integers(0, 2), more=st.integers(0, 2))
def test_a_span_stands_in_the_passage(passage, low, more):
    rule = SubstringConstraint(passage, VOCAB, min_length=low, max_length=low + more)
    assert outputs(rule) == spans(passage, low, low + more)
    closed = SubstringConstraint(passage, VOCAB, END, min_length=low)
    inside = [token if token != END else -1 for token in passage]
    for ids in OUTPUTS:
        assert accepts(closed, [*ids, END]) == (ids in spans(inside, low))


@settings(deadline=None)
@given(words=st.lists(sequences.filter(len), max_size=4), prefix=sequences)
def test_words_are_banned_and_prefixes_forced(words, prefix):
    banned = outputs(BannedWords(words, VOCAB))
    assert banned == {ids for ids in OUTPUTS if not any(contains(ids, word) for word in words)}
    forced = outputs(ForcedPrefix(prefix, VOCAB))
    assert forced == {ids for ids in OUTPUTS if ids[: len(prefix)] == prefix}


def choice(prefixes):
    longest = max(map(len, prefixes), default=0)
    rows = [[*prefix, *[-1] * (longest - len(prefix))] for prefix in prefixes]
    return PrefixChoice(np.array(rows, int).reshape(1, len(rows), longest), VOCAB)


@settings(deadline=None)
@given(prefixes=st.lists(sequences.filter(len), max_size=4))
def test_an_output_begins_with_one_of_its_prefixes(prefixes):
    found = outputs(choice(prefixes))
    right = [ids for ids in OUTPUTS if any(ids[: len(p)] == p for p in prefixes)]
    assert found == (set(right) if prefixes else set(OUTPUTS)), "without prefixes a row is free"


rules = st.one_of(
    st.lists(sequences, min_size=1, max_size=30).map(
        lambda keys: TreeConstraint(PrefixTree.from_keys(keys), VOCAB)
    ),
    passages.map(lambda passage: SubstringConstraint(passage, VOCAB)),
    st.lists(sequences.filter(len), max_size=2).map(lambda words: BannedWords(words, VOCAB)),
    sequences.map(lambda prefix: ForcedPrefix(prefix, VOCAB)),
)


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(rules, min_size=1, max_size=3))
def test_an_intersection_is_one(parts):
    assert outputs(Intersection(*parts)) == set.intersection(*map(outputs, parts))


@settings(max_examples=40, deadline=None)
@given(first=rules, last=rules, open_end=st.booleans())
def test_a_chain_is_one_after_another(first, last, open_end):
    heads = {ids for ids in outputs(first) if END not in ids}
    tails = {ids for ids in outputs(last) if open_end or END not in ids}
    closing = () if open_end else (END,)
    expected = {(*head, END, *tail, *closing) for head in heads for tail in tails}
    found = outputs(Chain([first, last], [END, None if open_end else END]))
    assert found == {ids for ids in expected if len(ids) <= LONGEST}


class Uniform(AutoRegressiveDecoder):
    """Gives every token the same, or what `answer` says."""

    answer = np.full(VOCAB, 1 / VOCAB)

    @AutoRegressiveDecoder.wraps()
    def predict(self, inputs, output_ids, states):
        return np.repeat(self.answer[None], len(output_ids), axis=0)


def test_a_decoder_writes_a_span_then_a_key():
    tree = PrefixTree.from_keys([[2, 0, END], [3, END]])
    span = SubstringConstraint([2, 3, 4, -1, 4, 2], VOCAB)
    decoder = Uniform(None, END, 9, constraint=Chain([span, as_constraint(tree)], [END, None]))
    found = decoder.beam_search([], 200, min_ends=2, n_best=200)
    expected = {
        (*ids, END, *key) for ids in spans([2, 3, 4, -1, 4, 2]) for key in [(2, 0, END), (3, END)]
    }
    assert {tuple(each.ids.tolist()) for each in found} == expected
    assert np.exp([each.score for each in found]).sum() == pytest.approx(1)


def test_a_beam_wider_than_the_tree_finds_all_keys_and_no_other():
    keys = {(2, END), (2, 3, END), (4, END)}
    decoder = Uniform(None, END, 5, constraint=PrefixTree.from_keys(sorted(keys)))
    found = decoder.beam_search([], 50, n_best=50)
    assert {tuple(each.ids.tolist()) for each in found} == keys


@pytest.mark.parametrize("constraint", [None, PrefixTree.from_keys([[2, END]])])
def test_nan_is_named(constraint):
    decoder = Uniform(None, END, 3, constraint=constraint)
    decoder.answer = np.full(VOCAB, np.nan)
    with pytest.raises(ValueError, match="gave NaN for the next token"):
        decoder.beam_search([], 2)
    with pytest.raises(ValueError, match="gave NaN for the next token"):
        decoder.random_sample([], 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AutoRegressiveDecoder(0, 1, 9, constraint=PrefixTree.from_keys([])), "no key"),
        (lambda: as_constraint([[2, 3]]), "a constraint is a PrefixTree or has"),
        (lambda: BannedWords([[]], 5), "one token id or more"),
        (lambda: BannedWords([[7]], 5), "allows token 7, the model scores 5"),
        (lambda: ForcedPrefix([[-1, 2]], 5), "padded with -1 at the end"),
        (lambda: PrefixChoice([[-1, 2]], 5), "padded with -1 at their ends"),
        (lambda: PrefixChoice([[7, 2]], 5), "allows token 7, the model scores 5"),
        (lambda: SubstringConstraint([9], 5), "allows token 9, the model scores 5"),
        (lambda: SubstringConstraint([2], 5, min_length=3, max_length=1), "min_length"),
        (lambda: SubstringConstraint([[2], [3]], 5).initial_state(3), "no multiple of 2"),
        (lambda: Intersection(), "at least one"),
        (lambda: Chain([], []), "one separator for each"),
        (lambda: Chain([BannedWords([], 5)] * 2, [None, 1]), "only the last part"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
