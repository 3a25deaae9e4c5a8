"""Constraints inside the graph against their NumPy twins, along random walks; bad input."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from bert4kexue.decoding import (
    BannedWords,
    Chain,
    ForcedPrefix,
    Intersection,
    PrefixChoice,
    PrefixTree,
    RegexConstraint,
    SubstringConstraint,
    TreeConstraint,
    vocabulary_hash,
)
from bert4kexue.ops import tree_constraint
from bert4kexue.ops.automaton_constraint import GraphAutomaton
from bert4kexue.ops.constraint_composition import GraphChain, GraphIntersection, candidates_of
from bert4kexue.ops.constraints import GraphConstraint
from bert4kexue.ops.substring_constraint import GraphSubstring
from bert4kexue.ops.token_constraints import GraphBannedWords, GraphPrefix, GraphPrefixChoice
from bert4kexue.ops.tree_constraint import GraphTree

END, VOCAB, BATCH, BEAMS = 1, 7, 2, 3
ROWS = BATCH * BEAMS

tokens = st.integers(0, VOCAB - 1)
keys = st.lists(st.lists(tokens, max_size=5).map(tuple), min_size=1, max_size=20)
passages = st.lists(
    st.lists(st.integers(-1, VOCAB - 1), min_size=6, max_size=6), min_size=BATCH, max_size=BATCH
)


def tree(key_list):
    made = PrefixTree.from_keys(key_list)
    return TreeConstraint(made, VOCAB), GraphTree(made, VOCAB)


def substring(rows, **options):
    return SubstringConstraint(rows, VOCAB, **options), GraphSubstring(rows, VOCAB, **options)


def words(word_list):
    return BannedWords(word_list, VOCAB), GraphBannedWords(word_list, VOCAB)


def prefix(ids):
    return ForcedPrefix(ids, VOCAB), GraphPrefix(ids, VOCAB)


def prefix_choice(samples):
    rows = np.full((BATCH, 3, 3), -1)
    for sample, several in enumerate(samples):
        for place, ids in enumerate(several):
            rows[sample, place, : len(ids)] = ids
    return PrefixChoice(rows, VOCAB), GraphPrefixChoice(rows, VOCAB)


def regex(pattern, end):
    host = RegexConstraint(pattern, ["[PAD]", "[SEP]", "a", "##b", "中", "ab", "1"], end)
    return host, GraphAutomaton(host)


def both(pairs):
    hosts, graphs = zip(*pairs, strict=True)
    return Intersection(*hosts), GraphIntersection(*graphs)


def chain(pairs, last):
    hosts, graphs = zip(*pairs, strict=True)
    separators = [END] * (len(pairs) - 1) + [last]
    return Chain(hosts, separators), GraphChain(graphs, separators)


simple = st.one_of(
    keys.map(tree),
    st.builds(
        lambda rows, end, low, more: substring(
            rows, end_id=end, min_length=low, max_length=None if more is None else low + more
        ),
        passages,
        st.sampled_from([None, END]),
        st.integers(0, 2),
        st.sampled_from([None, 0, 2]),
    ),
    st.lists(st.lists(tokens, min_size=1, max_size=3), max_size=4).map(words),
    st.lists(tokens, max_size=4).map(prefix),
    st.lists(
        st.lists(st.lists(tokens, min_size=1, max_size=3), max_size=3),
        min_size=BATCH,
        max_size=BATCH,
    ).map(prefix_choice),
    st.builds(
        regex, st.sampled_from(["a*b?", "(ab|中1)+", "[^1]{2}"]), st.sampled_from([END, None])
    ),
)
pairs = st.one_of(
    simple,
    st.lists(simple, min_size=1, max_size=3).map(both),
    st.builds(chain, st.lists(simple, min_size=1, max_size=3), st.sampled_from([None, END])),
)


def numpy_state(state):
    return keras.tree.map_structure(ops.convert_to_numpy, state)


@settings(max_examples=40, deadline=None)
@given(pair=pairs, walk=st.lists(st.lists(tokens, min_size=ROWS, max_size=ROWS), max_size=6))
def test_the_graph_allows_what_numpy_allows(pair, walk):
    host, graph = pair
    assert isinstance(graph, GraphConstraint)
    mine, theirs = host.initial_state(ROWS), graph.initial_state(ROWS)
    rng = np.random.default_rng(len(walk))
    for wanted in [*walk, [0] * ROWS]:
        allowed = host.allowed(mine)
        dense = ops.convert_to_numpy(graph.allowed(theirs))
        assert dense.shape == (ROWS, VOCAB)
        np.testing.assert_array_equal(dense, allowed)
        np.testing.assert_array_equal(
            ops.convert_to_numpy(graph.complete(theirs)), host.complete(mine)
        )
        lists = candidates_of(graph, theirs)
        if lists is not None:
            ids, valid = map(ops.convert_to_numpy, lists)
            for row in range(ROWS):
                assert sorted(ids[row][valid[row]]) == np.flatnonzero(allowed[row]).tolist()
        # Mostly along what is allowed: a walk that leaves at once sees nothing.
        step = np.array(wanted, np.int32)
        for row in np.flatnonzero(rng.random(ROWS) < 0.8):
            if allowed[row].any():
                step[row] = rng.choice(np.flatnonzero(allowed[row]))
        beams = rng.permutation(ROWS // BATCH)
        order = (np.arange(BATCH)[:, None] * BEAMS + beams).reshape(-1)
        mine = host.advance(mine, step)
        theirs = graph.advance(theirs, ops.convert_to_tensor(step))
        mine = keras.tree.map_structure(lambda array: array[order], mine)  # noqa: B023
        theirs = keras.tree.map_structure(
            lambda array: ops.take(array, order, axis=0),  # noqa: B023
            theirs,
        )


def test_a_wide_node_is_written_block_by_block(monkeypatch):
    rng = np.random.default_rng(0)
    made = PrefixTree.from_keys([(int(a), int(b)) for a, b in rng.integers(0, 90, (400, 2))])
    host = TreeConstraint(made, 90)
    monkeypatch.setattr(tree_constraint, "BLOCK", 4)
    monkeypatch.setattr(tree_constraint, "FAN", 3)
    graph = GraphTree(made, 90, cap=20)
    assert graph.candidates(graph.initial_state(2)) is None
    theirs, mine = graph.initial_state(90), host.initial_state(90)
    for step in (np.arange(90), np.arange(90)[::-1]):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(graph.allowed(theirs)), host.allowed(mine)
        )
        mine = host.advance(mine, step)
        theirs = graph.advance(theirs, ops.convert_to_tensor(step.astype("int32")))
        np.testing.assert_array_equal(ops.convert_to_numpy(theirs) == graph.dead, mine == -1)


@settings(max_examples=30, deadline=None)
@given(key_list=keys, probes=keys)
def test_the_graph_finds_the_number_of_a_key(key_list, probes):
    made = PrefixTree.from_keys(key_list)
    graph, arrays = GraphTree(made, VOCAB), made.as_arrays()
    probes = [*probes, *key_list]
    ids = np.zeros((len(probes), 7), "int32")
    for row, probe in zip(ids, probes, strict=True):
        row[: len(probe)] = probe
    lengths = np.array([len(probe) for probe in probes], "int32")
    found = ops.convert_to_numpy(graph.find(ops.convert_to_tensor(ids), lengths))
    for rank, probe in zip(found, probes, strict=True):
        assert (rank >= 0) == made.contains(probe)
        if rank >= 0:
            assert made.values_of(int(arrays.keys[rank])) == made.values(made.find(probe))


class Walk(keras.layers.Layer):
    """Which tokens are allowed after each of the given ones, in a compiled loop."""

    def __init__(self, constraint):
        super().__init__(autocast=False)
        self.constraint = constraint

    def compute_output_spec(self, ids):
        return keras.KerasTensor((*ids.shape, VOCAB), dtype="bool")

    def call(self, ids):
        state = self.constraint.initial_state(ops.shape(ids)[0])
        masks = []
        for place in range(ids.shape[1]):
            masks.append(self.constraint.allowed(state))
            state = self.constraint.advance(state, ids[:, place])
        return ops.stack(masks, axis=1)


def test_constraints_compile():
    rows = [[2, 3, 4, 5, 6, 2], [6, 5, -1, 3, 3, 2]]
    host, graph = chain(
        [
            both([substring(rows), words([[3, 4], [6]])]),
            prefix([2]),
            tree([(2, END), (3, 4, END), *((token,) for token in range(VOCAB))]),
        ],
        None,
    )
    inputs = keras.Input((6,), dtype="int32")
    model = keras.Model(inputs, Walk(graph)(inputs))
    ids = np.array([[2, 3, END, 2, END, 2], [2, 3, 4, 2, 1, 0], [6, END, 2, 5, END, 3]] * 2)
    masks = model.predict(ids.astype("int32"), verbose=0, batch_size=6)
    state = host.initial_state(6)
    for place, step in enumerate(ids.T):
        np.testing.assert_array_equal(masks[:, place], host.allowed(state))
        state = host.advance(state, step)


@pytest.mark.parametrize("kind", [GraphTree, TreeConstraint])
def test_trees_that_do_not_fit_are_refused(kind):
    with pytest.raises(ValueError, match="holds no key"):
        kind(PrefixTree.from_keys([]), 9)
    mine, other = vocabulary_hash({"a": 0}), vocabulary_hash({"b": 0})
    made = PrefixTree.from_keys([[12, 1]], vocabulary=mine)
    with pytest.raises(ValueError, match="another vocabulary"):
        kind(made, 13, vocabulary=other)
    kind(made, 13, vocabulary=mine)
    with pytest.raises(ValueError, match="allows token 12, the model scores 9"):
        kind(made, 9).allowed(np.zeros(1, "int32"))
