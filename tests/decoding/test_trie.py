"""The prefix tree against a set of keys, and its file against damage."""

from __future__ import annotations

import struct
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.decoding import PrefixTree, trie_rows, vocabulary_hash

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


@given(keys=KEYS, tokens=st.lists(TOKENS, max_size=8))
def test_many_nodes_at_once_are_one_after_the_other(keys, tokens):
    tree = PrefixTree.from_keys(keys)
    nodes = np.array([-1, *(tree.find(prefix) for prefix in sorted(prefixes(keys)))])
    counts, found, targets = tree.children(nodes)
    each = [tree.allowed(node).tolist() if node >= 0 else [] for node in nodes.tolist()]
    assert counts.tolist() == list(map(len, each))
    assert found.tolist() == [token for row in each for token in row]
    pairs = [(n, t) for n, row in zip(nodes.tolist(), each, strict=True) for t in row]
    assert targets.tolist() == [tree.step(node, token) for node, token in pairs]
    width = max([0, *found.tolist()]) + 1
    if width * len(nodes) < 2**22:
        dirty = np.ones((len(nodes), width), bool)
        mask = tree.allowed_mask(nodes, width, out=dirty)
        assert mask is dirty
        assert [np.flatnonzero(row).tolist() for row in mask] == each
        np.testing.assert_array_equal(tree.allowed_mask(nodes, width), mask)
    rows = [(node, token) for node in nodes.tolist() for token in tokens]
    stepped = tree.step_many([node for node, _ in rows], [token for _, token in rows])
    assert stepped.tolist() == [tree.step(n, t) if n >= 0 else -1 for n, t in rows]


@given(keys=KEYS)
def test_blocks_hold_every_key_once(keys):
    tree = PrefixTree.from_keys(keys, list(map(str, keys)))
    found = {}
    for tokens, lengths, numbers in tree.key_blocks():
        parts = np.split(tokens, np.cumsum(lengths)[:-1]) if len(lengths) else []
        for key, number in zip(parts, numbers.tolist(), strict=True):
            assert tree.number(tree.find(key.tolist())) == number
            found[number] = tuple(key.tolist())
    assert sorted(found) == list(range(len(tree)))
    assert sorted(found.values()) == sorted({tuple(key) for key in keys})


def test_mask_narrower_than_the_tokens_is_refused():
    tree = PrefixTree.from_keys([[5]])
    with pytest.raises(ValueError, match="token 5 of the tree is beyond the 5 columns"):
        tree.allowed_mask(np.zeros(1, int), 5)


def test_equal_ends_of_keys_are_stored_once():
    tails = [[7, 8, 9, 1] for _ in range(100)]
    tree = PrefixTree.from_keys([[subject, *tail] for subject, tail in enumerate(tails, 20)])
    assert tree.section_sizes()["tails"] == 2 * 5
    assert tree.node_count == 1 + 100 * 5


def test_more_different_tokens_than_two_bytes_tell_apart():
    keys = [(token, 1) for token in range(70_000)]
    tree = PrefixTree.from_keys(keys)
    assert list(tree) == keys
    assert tree.allowed(tree.root).tolist() == list(range(70_000))


def test_different_rows_of_one_hash_stay_different(monkeypatch):
    """The first hash function gives one number to all rows: they are compared, and hashed anew."""
    genuine, calls = trie_rows._hash, []

    def poor(flat, begins, lengths, factor):
        calls.append(factor)
        honest = genuine(flat, begins, lengths, factor)
        return np.zeros_like(honest) if factor == trie_rows._ODD else honest

    monkeypatch.setattr(trie_rows, "_hash", poor)
    keys = [(1, 2), (1, 3), (2, 2), (1, 2)]
    assert list(PrefixTree.from_keys(keys)) == sorted(set(keys))
    assert len(set(calls)) == 2


def test_two_processes_map_one_file(tmp_path):
    path = tmp_path / "tree.bin"
    PrefixTree.from_keys([[1, 2], [3]], ["a", "b"]).save(path)
    code = (
        "import sys; from bert4kexue.decoding import PrefixTree\n"
        "tree = PrefixTree.load(sys.argv[1]); print(list(tree), tree.values(tree.find([3])))\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    with PrefixTree.load(path) as here, subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "[(1, 2), (3,)] ['b']\n"  # it still has the file open
        assert here.values(here.find([3])) == ["b"]
        other.communicate("")
    assert other.returncode == 0


@given(damage=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1))
def test_damage_that_opening_does_not_see_reads_nothing_outside(saved, damage, tmp_path_factory):
    """Any answer or a ValueError, but no other error, no endless walk."""
    damaged = bytearray(saved)
    table = struct.unpack_from("<I", saved, 12)[0]
    payload = -(-(32 + 48 * table + 200) // 64) * 64
    for place, value in damage:
        damaged[payload + place % (len(saved) - payload)] = value
    path = tmp_path_factory.mktemp("tree") / "damaged.bin"
    path.write_bytes(damaged)
    with suppress(ValueError), PrefixTree.load(path) as tree:
        for node in [*range(5), *((edge + 1 << 32) + 3 for edge in range(5))]:
            for verb in (tree.allowed, tree.is_key, tree.values, tree.count):
                with suppress(ValueError):
                    verb(node)
            for token in (1, 2, 3, 4):
                with suppress(ValueError):
                    tree.step(node, token)
        with suppress(ValueError):
            tree.completions(limit=10)


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
