"""The look-ahead of post 8802: its definition written out, NumPy, rapidfuzz and the graph agree."""

from __future__ import annotations

import sys
from functools import cache

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from bert4kexue.decoding import (
    AutoRegressiveDecoder,
    Intersection,
    LookAhead,
    PrefixChoice,
    PrefixTree,
    TreeConstraint,
)
from bert4kexue.decoding.lookahead import lcs_lengths, lcs_table
from bert4kexue.decoding.overlay import EditedTree
from bert4kexue.ops import lookahead
from bert4kexue.ops.common_subsequence import (
    common_length,
    nothing_written,
    one_token_more,
    question_words,
)
from bert4kexue.ops.lookahead import GraphLookAhead

END, VOCAB = 1, 6
words = st.lists(st.integers(2, VOCAB - 1), max_size=3)
keys = st.lists(
    st.tuples(words, words, words).map(lambda parts: [i for part in parts for i in (*part, END)]),
    min_size=1,
    max_size=12,
)
questions = st.lists(st.integers(0, VOCAB - 1), min_size=5, max_size=5)


def lcs(a, b):
    """By its recursion."""

    @cache
    def length(i, j):
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + length(i + 1, j + 1)
        return max(length(i + 1, j), length(i, j + 1))

    return length(0, 0)


def by_definition(probas, written, key_list, question):
    """Post 8802 in its own words: one distribution after what is written, over allowed tokens."""
    fitting = [key for key in key_list if key[: len(written)] == written]
    allowed = {key[len(written)] for key in fitting if len(key) > len(written)}
    weights = dict.fromkeys(allowed, 1)
    if END in written and len(allowed) > 1:
        covered = lcs(written, question)
        for key in fitting:
            if len(key) > len(written):
                gain = lcs(key, question) - covered
                weights[key[len(written)]] = max(weights[key[len(written)]], gain + 1)
    powers = {token: probas[token] ** (1 / weights[token]) for token in allowed}
    total = sum(powers.values())
    return [powers.get(token, 0) / total for token in range(VOCAB)] if allowed else None


def renormalised(log_probs, allowed):
    weights = np.where(allowed, np.exp(log_probs), 0)
    return weights / weights.sum()


def walk(rules, rows, rng):
    """Each place of the keys in `rows`: random log-probabilities, and the rules' states there."""
    states = [rule.initial_state(len(rows)) for rule in rules]
    for place in range(max(map(len, rows))):
        log_probs = np.log(rng.dirichlet(np.ones(VOCAB), len(rows)))
        yield place, log_probs, states
        tokens = np.array([key[place] if place < len(key) else 0 for key in rows])
        states = [rule.advance(state, tokens) for rule, state in zip(rules, states, strict=True)]


@settings(max_examples=60, deadline=None)
@given(key_list=keys, question=questions, seed=st.integers(0, 99), limit=st.sampled_from([2, 4]))
def test_scores_are_the_definition(key_list, question, seed, limit):
    tree, rng = PrefixTree.from_keys(key_list), np.random.default_rng(seed)
    exact = LookAhead(tree, question, END, VOCAB)
    host = LookAhead(tree, question, END, VOCAB, limit=limit)
    rows = [key_list[index] for index in rng.integers(len(key_list), size=3)]
    for place, log_probs, (full, mine) in walk([exact, host], rows, rng):
        whole, scores = exact.rescore(full, log_probs), host.rescore(mine, log_probs)
        for row, key in enumerate(rows):
            if place >= len(key):
                continue
            truth = by_definition(np.exp(log_probs[row]), key[:place], key_list, question)
            if truth is not None:
                allowed = exact.allowed(full)[row]
                assert renormalised(whole[row], allowed) == pytest.approx(truth)
            many = tree.count(tree.find(key[:place])) > limit
            np.testing.assert_array_equal(scores[row], log_probs[row] if many else whole[row])


@settings(max_examples=30, deadline=None)
@given(key_list=keys, question=questions, seed=st.integers(0, 99))
def test_lists_say_what_masks_and_scores_say(key_list, question, seed):
    tree, rng = PrefixTree.from_keys(key_list), np.random.default_rng(seed)
    edited = EditedTree(PrefixTree.from_keys(key_list[1:]))
    edited.add(key_list[0])
    prefixes = PrefixChoice([key_list[0][:2], [2, -1]], VOCAB)
    rules = [LookAhead(each, question, END, VOCAB) for each in (tree, edited)]
    rules += [Intersection(rules[0], prefixes), Intersection(prefixes, TreeConstraint(tree))]
    rows = [key_list[index] for index in rng.integers(len(key_list), size=3)]
    for _, log_probs, states in walk(rules, rows, rng):
        for rule, state in zip(rules, states, strict=True):
            counts, tokens, divisors = rule.choices(state)
            mask = np.zeros((len(rows), VOCAB), bool)
            where = np.repeat(np.arange(len(rows)), counts), tokens
            mask[where] = True
            allowed = rule.allowed(state)
            np.testing.assert_array_equal(mask[:, : allowed.shape[1]], allowed)
            assert (np.diff(tokens)[np.diff(where[0]) == 0] > 0).all()
            scores = rule.rescore(state, log_probs) if hasattr(rule, "rescore") else log_probs
            np.testing.assert_allclose(log_probs[where] / divisors, scores[where])
        alike = [rule.rescore(own, log_probs) for rule, own in zip(rules[:2], states, strict=False)]
        np.testing.assert_array_equal(*alike)
    assert Intersection(rules[0], rules[1]).choices((states[0], states[1])) is None


def test_many_keys_are_looked_at_in_parts(monkeypatch):
    key_list = [[2, END, a, b, END, END] for a in range(2, 6) for b in range(2, 6)]
    rule = LookAhead(PrefixTree.from_keys(key_list), [2, 5, 3, 4], END, VOCAB)
    state = rule.initial_state(2)
    for token in (2, END):
        state = rule.advance(state, np.full(2, token))
    log_probs = np.log(np.random.default_rng(0).dirichlet(np.ones(VOCAB), 2))
    whole = rule.rescore(state, log_probs)
    monkeypatch.setattr("bert4kexue.decoding.lookahead.WIDTH", 3)
    np.testing.assert_array_equal(rule.rescore(state, log_probs), whole)
    gains = [lcs([2, a, 3 if a != 3 else 4], [2, 5, 3, 4]) - 1 for a in range(2, 6)]
    np.testing.assert_allclose(whole[0, 2:], log_probs[0, 2:] / (np.array(gains) + 1))


class Rescored(keras.layers.Layer):
    """The scores (b, n, v) as the constraint changes them along ids (b, n), compiled."""

    def __init__(self, constraint):
        super().__init__(autocast=False)
        self.constraint = constraint

    def compute_output_spec(self, ids, log_probs):
        return keras.KerasTensor(log_probs.shape, dtype="float32")

    def call(self, ids, log_probs):
        state, scores = self.constraint.initial_state(ops.shape(ids)[0]), []
        for place in range(ids.shape[1]):
            scores.append(self.constraint.rescore(state, log_probs[:, place]))
            state = self.constraint.advance(state, ids[:, place])
        return ops.stack(scores, axis=1)


@pytest.mark.parametrize("limit", [3, 9])
def test_the_graph_scores_as_numpy_does(limit, monkeypatch):
    monkeypatch.setattr(lookahead, "FEW", 4)  # below it, and beyond
    rng = np.random.default_rng(limit)
    parts = [[rng.integers(2, VOCAB, rng.integers(0, 3)).tolist() for _ in "mm"] for _ in range(9)]
    key_list = [[token, END, *p, END, *m, END] for p, m in parts for token in (2, 3)]
    tree, question = PrefixTree.from_keys(key_list), [2, 4, 3, 5, 4]
    host = LookAhead(tree, question, END, VOCAB, limit=limit)
    graph = GraphLookAhead(tree, [question], END, VOCAB, limit=limit)
    inputs = keras.Input((6,), dtype="int32"), keras.Input((6, VOCAB))
    model = keras.Model(inputs, Rescored(graph)(*inputs))
    ids, log_probs = np.zeros((18, 6), "int32"), np.log(rng.dirichlet(np.ones(VOCAB), (18, 6)))
    for row, key in zip(ids, key_list, strict=True):
        row[: len(key[:6])] = key[:6]
    found = model.predict([ids, log_probs.astype("float32")], verbose=0, batch_size=18)
    state, changed = host.initial_state(18), 0
    for place in range(6):
        expected = host.rescore(state, log_probs[:, place])
        changed += (expected != log_probs[:, place]).any()
        np.testing.assert_allclose(found[:, place], expected, rtol=1e-5, atol=1e-6)
        state = host.advance(state, ids[:, place])
    assert changed >= 1


@given(rows=st.lists(words, min_size=1, max_size=6), question=st.lists(st.integers(2, 5)))
def test_common_subsequences_by_three_ways(rows, question):
    expected = [lcs(row, question) for row in rows]
    assert lcs_lengths(rows, question).tolist() == expected
    assert lcs_table(rows, question).tolist() == expected


def test_without_rapidfuzz_the_numbers_are_the_same(monkeypatch):
    rows = [[2, 3, 4], [4, 3, 2], []]
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    assert (
        lcs_lengths(rows, [9, 2, 4, 3]).tolist()
        == [2, 2, 0]
        == [lcs(r, [9, 2, 4, 3]) for r in rows]
    )


def test_bits_count_the_common_subsequence():
    """Questions of three words, the last ones padded; -1 is no token."""
    rng = np.random.default_rng(0)
    questions, tokens = rng.integers(2, 5, (4, 70)), rng.integers(2, 5, (4, 40))
    questions[0, 3:], questions[1, 31:], tokens[:, 7] = -1, -1, -1
    questions[2, :], tokens[2, 20:] = 2, 2
    words = question_words(ops.convert_to_tensor(questions.astype("int32")), 1)
    bits, found = nothing_written(words), []
    for column in tokens.T:
        bits = one_token_more(bits, words, ops.convert_to_tensor(column.astype("int32")))
        found.append(ops.convert_to_numpy(common_length(bits)))
    for row, (question, written) in enumerate(zip(questions, tokens, strict=True)):
        real = question[question >= 0].tolist()
        for place in (0, 1, 7, 30, 39):
            so_far = [token for token in written[: place + 1].tolist() if token >= 0]
            assert found[place][row] == lcs(so_far, real)


def test_the_look_ahead_turns_an_answer_round():
    """Both begin alike in the question's eyes; .59 against .40 turns over at gains 1 and 3."""
    name, asks, tells = [2, END], [3, END], [4, 5, 0, END]
    tree = PrefixTree.from_keys([[*name, *asks, END], [*name, *tells, END]])

    class Fixed(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps()
        def predict(self, inputs, output_ids, states):
            row = np.array([0.004, 0.004, 0.001, 0.59, 0.40, 0.001])
            return np.repeat(row[None], len(output_ids), axis=0)

    def best(question):
        rule = LookAhead(tree, question, END)
        return Fixed(None, END, 9, constraint=rule).beam_search([], 2, min_ends=3).tolist()

    assert best([2]) == [*name, *asks, END]
    assert best([2, 3, 4, 5, 0]) == [*name, *tells, END]
