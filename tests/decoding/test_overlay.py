"""Added and deleted keys against a tree built anew, and against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.decoding import EditedTree, PrefixTree, TreeConstraint

TOKENS = st.one_of(st.integers(0, 2), st.integers(0, 2**20))
KEY = st.lists(TOKENS, max_size=4).map(tuple)
ROWS = st.lists(st.tuples(KEY, st.text(max_size=3)), max_size=12)
EDITS = st.lists(st.tuples(st.booleans(), st.none() | st.integers(0, 11), KEY, st.text(max_size=2)))


@given(rows=ROWS, edits=EDITS)
def test_edited_tree_is_the_tree_built_anew(rows, edits):
    base = PrefixTree.from_keys([key for key, _ in rows], [text for _, text in rows])
    edited, expected = EditedTree(base), {}
    for key, text in rows:
        expected.setdefault(key, []).append(text)
    for adds, which, key, text in edits:
        key = rows[which][0] if which is not None and which < len(rows) else key
        if adds:
            assert edited.add(key, text) == (key not in expected)
            expected.setdefault(key, []).append(text)
        else:
            assert edited.delete(key) == (key in expected)
            expected.pop(key, None)
    rebuilt = PrefixTree.from_keys(
        [key for key, texts in expected.items() for _ in texts],
        [text for texts in expected.values() for text in texts],
    )
    for tree in (edited, rebuilt, edited.merged()):
        assert list(tree) == sorted(expected)
        assert len(tree) == tree.count(tree.root) == len(expected)
        for prefix in {key[:size] for key in expected for size in range(len(key) + 1)}:
            node, same = tree.find(prefix), rebuilt.find(prefix)
            assert tree.allowed(node).tolist() == rebuilt.allowed(same).tolist()
            assert tree.allowed(node).dtype == np.int32
            assert tree.count(node) == rebuilt.count(same)
            assert tree.values(node) == expected.get(prefix, [])
            assert tree.completions(node, 3) == rebuilt.completions(same, 3)
        for _, _, key, _ in edits:
            assert (tree.find(key) >= 0) == (rebuilt.find(key) >= 0)


def test_keys_without_values_stay_without():
    edited = EditedTree(PrefixTree.from_keys([[1], [2]], vocabulary="v"))
    assert edited.add([3])
    assert edited.merged().values(edited.merged().find([3])) == []
    assert edited.merged().vocabulary == "v"


def test_ids_out_of_range_are_refused():
    with pytest.raises(ValueError, match="token ids of a key must be 0 to"):
        EditedTree(PrefixTree.from_keys([])).add([2**20 + 1])


def test_beams_step_through_both_kinds_of_nodes():
    edited = EditedTree(PrefixTree.from_keys([[1, 2], [3, 4]]))
    edited.add([1, 5])
    nodes = edited.step_many([edited.root] * 3, [1, 3, 9])
    assert nodes[2] == -1
    mask = edited.allowed_mask(nodes, 6)
    assert [np.flatnonzero(row).tolist() for row in mask] == [[2, 5], [4], []]


def test_edited_tree_constrains_decoding():
    edited = EditedTree(PrefixTree.from_keys([[1, 9], [2, 9]]))
    edited.delete([1, 9])
    edited.add([3, 9])
    rule = TreeConstraint(edited)
    state = rule.initial_state(2)
    assert np.flatnonzero(rule.allowed(state)[0]).tolist() == [2, 3]
    state = rule.advance(state, np.array([3, 1]))
    assert np.flatnonzero(rule.allowed(state)[0]).tolist() == [9]
    assert not rule.allowed(state)[1].any()
