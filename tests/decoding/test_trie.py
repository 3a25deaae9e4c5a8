"""The prefix tree against a set of keys, and its file against damage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.decoding import PrefixTree, vocabulary_hash

TOKENS = st.one_of(st.integers(0, 3), st.integers(0, 2**20))
KEYS = st.lists(st.lists(TOKENS, max_size=6), max_size=30)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def prefixes(keys):
    return {tuple(key[:length]) for key in keys for length in range(len(key) + 1)} | {()}


@given(keys=KEYS, probes=KEYS)
def test_tree_is_the_set_of_its_keys(keys, probes):
    tree = PrefixTree.from_keys(keys)
    expected = sorted({tuple(key) for key in keys})
    assert len(tree) == len(expected)
    assert tree.depth == max(map(len, expected), default=0)
    assert list(tree) == expected
    assert tree.node_count == len(prefixes(keys))
    for probe in [*keys, *probes, *([*key, 1] for key in keys), *(key[:-1] for key in keys)]:
        assert tree.contains(probe) == (tuple(probe) in expected)
        assert (tree.find(probe) >= 0) == (tuple(probe) in prefixes(keys))


@given(keys=KEYS, limit=st.integers(0, 8))
def test_every_node_knows_what_may_follow(keys, limit):
    tree = PrefixTree.from_keys(keys)
    different = {tuple(key) for key in keys}
    for prefix in prefixes(keys):
        node, size = tree.find(prefix), len(prefix)
        below = sorted(key[size:] for key in different if key[:size] == prefix)
        following = sorted({suffix[0] for suffix in below if suffix})
        assert tree.allowed(node).tolist() == following
        assert tree.count(node) == len(below)
        assert tree.completions(node) == below
        assert tree.completions(node, limit) == below[:limit]
        assert tree.is_key(node) == (prefix in different)
        for token in following:
            assert tree.step(node, token) == tree.find([*prefix, token])


@given(rows=st.lists(st.tuples(st.lists(TOKENS, max_size=4), TEXTS), max_size=30))
def test_values_stay_with_their_keys_in_order(tmp_path_factory, rows):
    tree = PrefixTree.from_keys([key for key, _ in rows], [text for _, text in rows])
    path = tmp_path_factory.mktemp("tree") / "tree.bin"
    tree.save(path)
    with PrefixTree.load(path) as loaded:
        for each in (tree, loaded):
            for key, _ in rows:
                assert each.values(each.find(key)) == [text for k, text in rows if k == key]
        assert list(loaded) == list(tree)
    assert len(loaded) == 0


@given(keys=KEYS)
def test_order_of_the_keys_does_not_matter(keys):
    forward, backward = PrefixTree.from_keys(sorted(keys)), PrefixTree.from_keys(sorted(keys)[::-1])
    for name, array in forward._arrays.items():
        np.testing.assert_array_equal(array, backward._arrays[name])


@given(keys=KEYS)
def test_plain_arrays_are_the_tree(keys):
    """Walk by the arrays alone: edge i leads to node i + 1."""
    tree = PrefixTree.from_keys(keys, [str(key) for key in keys])
    offsets, tokens, ends, numbers = tree.as_arrays()
    assert len(offsets) == len(tokens) + 2
    assert (np.diff(ends) > 0).all()
    for key in keys:
        node = 0
        for token in key:
            edges = tokens[offsets[node] : offsets[node + 1]].tolist()
            node = int(offsets[node]) + edges.index(token) + 1
        number = int(numbers[np.searchsorted(ends, node)])
        assert set(tree.values_of(number)) == {str(key)}


def test_step_and_find_say_absent():
    tree = PrefixTree.from_keys([[5, 7]])
    assert tree.step(tree.root, 4) == tree.step(tree.root, 6) == -1
    assert tree.find([5, 7, 9]) == tree.find([6, 7]) == -1
    assert tree.step(tree.root, -1) == tree.step(tree.root, 2**40) == -1
    assert tree.values(tree.find([5])) == []


def test_prefix_key_needs_and_has_its_terminator():
    end = 1
    short, long = [5, end, 6, end, end], [5, end, 6, end, 7, end]
    tree = PrefixTree.from_keys([short, long])
    assert tree.allowed(tree.find([5, end, 6, end])).tolist() == [end, 7]


@pytest.mark.parametrize("token", [-1, 2**20 + 1, 2**40])
def test_ids_out_of_range_are_refused(token):
    with pytest.raises(ValueError, match="token ids of a key must be 0 to"):
        PrefixTree.from_keys([[1, token]])


def test_numbers_of_values_and_keys_must_agree():
    with pytest.raises(ValueError, match="got 1 values for 2 keys"):
        PrefixTree.from_keys([[1], [2]], ["a"])


def test_negative_limit_is_refused():
    with pytest.raises(ValueError, match="limit must be 0 or more"):
        PrefixTree.from_keys([[1]]).completions(0, -1)


def test_loaded_arrays_are_views_of_the_map(tmp_path):
    PrefixTree.from_keys([[1, 2], [3]], ["a", "b"]).save(tmp_path / "tree.bin")
    tree = PrefixTree.load(tmp_path / "tree.bin")
    assert not any(array.flags.owndata for array in tree._arrays.values())
    assert not any(array.flags.writeable for array in tree._arrays.values())
    allowed = tree.allowed(tree.root)
    tree.close()
    assert allowed.tolist() == [1, 3], "what was given stays valid"


def test_file_can_be_replaced_by_itself(tmp_path):
    path = tmp_path / "tree.bin"
    PrefixTree.from_keys([[1, 2]]).save(path)
    PrefixTree.from_keys([[9]]).save(path)
    with PrefixTree.load(path) as tree:
        assert list(tree) == [(9,)]
    assert [each.name for each in tmp_path.iterdir()] == ["tree.bin"]


def test_another_vocabulary_is_refused(tmp_path):
    mine, other = vocabulary_hash({"a": 0, "b": 1}), vocabulary_hash({"a": 1, "b": 0})
    assert mine == vocabulary_hash({"b": 1, "a": 0})
    PrefixTree.from_keys([[1]], vocabulary=mine).save(tmp_path / "tree.bin")
    with PrefixTree.load(tmp_path / "tree.bin", vocabulary=mine) as tree:
        assert tree.vocabulary == mine
    with pytest.raises(ValueError, match="built with another vocabulary"):
        PrefixTree.load(tmp_path / "tree.bin", vocabulary=other)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("tree") / "tree.bin"
    PrefixTree.from_keys([[1, 2], [1, 3], [4]], ["甲", "乙", "丙"]).save(path)
    return path.read_bytes()


def test_every_truncation_is_refused(saved, tmp_path):
    path = tmp_path / "cut.bin"
    for size in range(len(saved)):
        path.write_bytes(saved[:size])
        with pytest.raises(ValueError, match=r"cut\.bin"):
            PrefixTree.load(path, verify=False)


def test_every_flipped_byte_of_header_and_sections_is_refused(saved, tmp_path):
    path = tmp_path / "flipped.bin"
    unnoticed = []
    for place in range(len(saved)):
        damaged = bytearray(saved)
        damaged[place] ^= 0x41
        path.write_bytes(damaged)
        try:
            PrefixTree.load(path, verify=True).close()
        except ValueError as error:
            assert "flipped.bin" in str(error)  # noqa: PT017
        else:
            unnoticed.append(place)
    # Only the zeros between sections may differ without harm.
    assert all(saved[place] == 0 for place in unnoticed)
    assert len(unnoticed) < 10 * 64


def test_another_file_is_refused(tmp_path):
    (tmp_path / "other.bin").write_bytes(b"x" * 4096)
    with pytest.raises(ValueError, match="begins with b'xxxxxxxx'"):
        PrefixTree.load(tmp_path / "other.bin")
    (tmp_path / "empty.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="too short"):
        PrefixTree.load(tmp_path / "empty.bin")


def test_other_version_is_refused(saved, tmp_path):
    path = tmp_path / "old.bin"
    path.write_bytes(saved[:8] + b"\x07\x00\x00\x00" + saved[12:])
    with pytest.raises(ValueError, match="format version 7, not 2"):
        PrefixTree.load(path)


def test_many_random_keys_come_back(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, 20_000)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(0, 50, starts[-1])
    tree = PrefixTree.from_arrays(tokens, starts)
    split = np.split(tokens, starts[1:-1])
    assert list(tree) == sorted({tuple(key.tolist()) for key in split})
