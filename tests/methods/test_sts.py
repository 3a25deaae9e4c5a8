"""Spearman, its interval and whitening against SciPy and linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bert4kexue.analysis.moments import Moments
from bert4kexue.methods.similarity_data import ScoredPair
from bert4kexue.methods.sts import bootstrap_interval, evaluate_sts, spearman
from bert4kexue.methods.whitening import Whitening


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_spearman_is_scipys(rows):
    a, b = zip(*rows, strict=True)
    if len(set(a)) == 1 or len(set(b)) == 1:
        with pytest.raises(ValueError, match="does not exist"):
            spearman(a, b)
    else:
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_what_has_no_correlation_is_told():
    with pytest.raises(ValueError, match="all 3 values of the second row are 1"):
        spearman([1, 2, 3], [1, 1, 1])
    with pytest.raises(ValueError, match="a value is NaN"):
        spearman([1, np.nan, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="two rows of the same two or more values"):
        spearman([1, 2, 3], [1, 2])


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rho, n, covered = 0.6, 120, 0
    for seed in range(60):
        x, y = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, rho], [rho, 1]], n).T
        low, high = bootstrap_interval(x, y, resamples=100, seed=seed)
        assert low < spearman(x, y) < high
        covered += low <= 6 / np.pi * np.arcsin(rho / 2) <= high
    assert covered >= 50  # of 60 at 95 %: 49 or fewer happen once in 900 times


def test_sets_are_scored_apart_and_sentences_read_once():
    asked = []

    def encode(texts):
        asked.append(texts)
        return np.array([[len(text), 1.0] for text in texts])

    pairs = [ScoredPair("a", "bbbb", 0), ScoredPair("a", "bb", 1), ScoredPair("bb", "bb", 2)]
    found = evaluate_sts(encode, {"one": pairs, "two": pairs[:2]}, resamples=20)
    assert found["one"].spearman == pytest.approx(1.0)
    assert found["one"].pairs == 3
    assert asked == [["a", "bbbb", "bb"], ["a", "bbbb", "bb"]]
    with pytest.raises(ValueError, match="flat: all 2 values of the first row"):
        evaluate_sts(lambda texts: np.ones((len(texts), 2)), {"flat": pairs[:2]})


def test_whitened_vectors_have_the_identity_for_covariance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)) + 3
    whitening = Whitening.fit(x)
    y = (x - whitening.mean) @ whitening.kernel
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(6), atol=1e-9)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-9)
    # What is kept is where the vectors spread most.
    four = Whitening.fit(x, 4)
    np.testing.assert_allclose(np.abs(four.kernel), np.abs(whitening.kernel[:, :4]), atol=1e-9)
    kept = np.linalg.inv(whitening.kernel)[:4]
    top = np.linalg.eigvalsh(np.cov(x.T, bias=True))[-4:].sum()
    assert (kept**2).sum() == pytest.approx(top)
    np.testing.assert_allclose(np.linalg.norm(four.transform(x), axis=1), 1, atol=1e-6)


def test_whitening_of_merged_statistics_is_of_all_rows(tmp_path):
    x = np.random.default_rng(1).normal(size=(90, 4)) * [1, 2, 3, 0]
    parts = Moments.of(x[:20]).merged(Moments.of(x[20:]))
    whole, merged = Whitening.fit(x), Whitening.fit(parts)
    assert whole.kernel.shape == (4, 3)  # a direction without spread is none
    np.testing.assert_allclose(np.abs(merged.kernel), np.abs(whole.kernel), atol=1e-12)
    whole.save(tmp_path / "w.npz")
    np.testing.assert_array_equal(
        Whitening.load(tmp_path / "w.npz").transform(x), whole.transform(x)
    )


def test_what_cannot_be_whitened_is_told():
    with pytest.raises(ValueError, match="all vectors are one"):
        Whitening.fit(np.ones((3, 2)))
    with pytest.raises(ValueError, match="two vectors or more"):
        Whitening.fit(np.ones((1, 2)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        Whitening.fit(np.array([[np.nan, 1], [1, 2]]))
    with pytest.raises(ValueError, match=r"lie in 1 .. 2, got 3"):
        Whitening.fit(np.eye(2), 3)
    with pytest.raises(ValueError, match="fitted to 2 dimensions"):
        Whitening.fit(np.eye(2)).transform(np.ones((1, 3)))
