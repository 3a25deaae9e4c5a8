"""Indexes against sorting all cosines; codes against what they stand for."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.methods import vector_index
from bert4kexue.methods.vector_codes import code_cosines, encoded, truncated, unit
from bert4kexue.methods.vector_index import VectorIndex, exact_search, recall


def clustered(seed=0, n=600, d=16):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, d))
    return (centres[rng.integers(0, 20, n)] + 0.3 * rng.normal(size=(n, d))).astype(np.float32)


def sorted_list(queries, vectors, k):
    """float64 and Python's own sort."""
    q, v = (x / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in (queries, vectors))
    cosines = q @ v.T
    rows = [sorted(range(len(v)), key=lambda i, line=line: -line[i])[:k] for line in cosines]
    return np.array(rows), np.take_along_axis(cosines, np.array(rows), 1)


KINDS = ["exact", "flat", "ivf", "hnsw"]


def build(kind, vectors, **options):
    if kind != "exact":
        pytest.importorskip("faiss")
    if kind == "ivf":
        options = {"cells": 8, "probes": 8, **options}
    if kind == "hnsw":
        options = {"effort": 600, **options}
    return VectorIndex.build(vectors, kind, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_finds_the_nearest_saved_mapped_and_added_to(kind, tmp_path):
    vectors, queries = clustered(), clustered(1, 30)
    index = build(kind, vectors[:400])
    index.add(vectors[400:])
    assert len(index) == 600
    rows, cosines = sorted_list(queries, vectors, 5)
    index.save(tmp_path / "a")
    for mapped in (None, True, False):
        one = index if mapped is None else VectorIndex.load(tmp_path / "a", mapped=mapped)
        found, scores = one.search(queries, 5)
        assert (found == rows).mean() >= (0.98 if kind == "hnsw" else 1.0)
        np.testing.assert_allclose(scores, cosines, atol=1e-5 if kind != "hnsw" else 0.05)
    loaded = VectorIndex.load(tmp_path / "a", mapped=False)
    loaded.add(queries)
    assert loaded.search(queries, 1)[0][:, 0].tolist() == list(range(600, 630))
    if kind == "exact":
        grown = VectorIndex.load(tmp_path / "a")
        grown.add(queries)
        assert grown.search(queries, 1)[0][:, 0].tolist() == list(range(600, 630))
    else:
        with pytest.raises(ValueError, match="mapped from its file, which cannot grow"):
            VectorIndex.load(tmp_path / "a").add(queries)


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 12), st.integers(1, 7))
@settings(max_examples=80)
def test_blocks_give_the_sorted_list_ties_by_row(seed, n, k, block):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (n, 3)).astype(np.float32)
    queries = rng.integers(-1, 2, (5, 3)).astype(np.float32)
    before = vector_index._ROWS, vector_index._QUERIES
    vector_index._ROWS, vector_index._QUERIES = block, 2
    try:
        cut = n // 2
        rows, scores = exact_search(queries, (vectors[:cut], vectors[cut:]), min(k, n))
    finally:
        vector_index._ROWS, vector_index._QUERIES = before
    products = queries @ vectors.T
    for line, row, score in zip(products, rows, scores, strict=True):
        expected = sorted(range(n), key=lambda i, line=line: (-line[i], i))[:k]
        assert row.tolist() == expected
        assert score.tolist() == line[expected].tolist()


def test_a_random_projection_loses_what_recall_says():
    vectors, queries = clustered(2, 2000, 64), clustered(2, 2000, 64)[:100] + 0.01
    exact = VectorIndex.build(vectors)
    reduced = {n: VectorIndex.build(vectors, reduce_to=n) for n in (8, 32)}
    assert recall(exact, vectors, queries, 10) == 1.0
    losses = [recall(reduced[n], vectors, queries, 10) for n in (8, 32)]
    assert 0.1 < losses[0] < losses[1] < 1
    found, _ = reduced[32].search(queries, 10)
    rows, _ = sorted_list(queries, vectors, 10)
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), rows.tolist(), strict=True)]
    assert losses[1] == pytest.approx(np.mean(shared), abs=1e-3)


def test_a_saved_projection_is_the_same(tmp_path):
    vectors = clustered(3, 50, 32)
    index = VectorIndex.build(vectors, reduce_to=8, seed=5)
    index.save(tmp_path / "a")
    again = VectorIndex.load(tmp_path / "a")
    for a, b in zip(index.search(vectors, 3), again.search(vectors, 3), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_searching_while_adding_sees_whole_parts(kind):
    vectors = clustered(4, 200)
    index, wrong = build(kind, vectors[:100]), []

    def search():
        for _ in range(20):
            rows, cosines = index.search(vectors[:50], 1)
            if not (rows[:, 0] == np.arange(50)).all() or not np.allclose(cosines, 1, atol=1e-5):
                wrong.append(rows)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for start in range(100, 200, 10):
        index.add(vectors[start : start + 10])
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(index) == 200


def test_what_cannot_be_indexed_is_told(tmp_path):
    vectors = clustered(5, 10, 4)
    index = VectorIndex.build(vectors)
    bad = vectors.copy()
    bad[3] = 0
    with pytest.raises(ValueError, match="row 3 is zero: it has no direction"):
        VectorIndex.build(bad)
    bad[3] = np.nan
    with pytest.raises(ValueError, match="row 3 is not finite"):
        index.add(bad)
    with pytest.raises(ValueError, match=r"shape \(n, 4\) .* got \(2, 3\)"):
        index.search(np.ones((2, 3)))
    with pytest.raises(ValueError, match="k must be 1 or more"):
        index.search(vectors, 0)
    with pytest.raises(ValueError, match="kind='tree'"):
        VectorIndex.build(vectors, "tree")
    with pytest.raises(ValueError, match="reduces nothing of 4"):
        VectorIndex.build(vectors, reduce_to=4)
    with pytest.raises(ValueError, match="no index that can be read"):
        VectorIndex.load(tmp_path)
    index.save(tmp_path / "a")
    np.save(tmp_path / "a" / "vectors.npy", vectors[:4])
    with pytest.raises(ValueError, match="speaks of 10 vectors"):
        VectorIndex.load(tmp_path / "a")
    if pytest.importorskip("faiss"):
        with pytest.raises(ValueError, match="11 cells cannot be told by 10"):
            VectorIndex.build(vectors, "ivf", cells=11)


def test_without_faiss_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install 'bert4kexue\[search\]'"):
        VectorIndex.build(clustered(), "flat")


# --- codes --------------------------------------------------------------------------------------


def test_codes_keep_the_cosines_as_well_as_their_bits_allow():
    vectors = clustered(6, 60, 256)
    exact = unit(vectors) @ unit(vectors).T
    for precision, error in (("float16", 2e-3), ("int8", 2e-2), ("binary", 0.25)):
        codes = encoded(vectors, precision)
        assert np.abs(code_cosines(codes, codes) - exact).max() < error
    assert encoded(vectors, "int8").max() == 127
    assert encoded(vectors, "binary").shape == (60, 32)
    np.testing.assert_array_equal(truncated(vectors, 3), vectors[:, :3])
    assert not encoded(np.zeros((1, 8), np.float32), "int8").any()


def test_codes_that_cannot_be_are_told():
    with pytest.raises(ValueError, match="precision='int4'"):
        encoded(np.ones((1, 8)), "int4")
    with pytest.raises(ValueError, match="no multiple of it: keep 8"):
        encoded(np.ones((1, 12)), "binary")
    with pytest.raises(ValueError, match=r"lie in 1 \.\. 8, got 9"):
        truncated(np.ones((1, 8)), 9)
