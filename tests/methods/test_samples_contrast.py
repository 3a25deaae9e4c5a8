"""Samples-contrast against its definition, written out; its thresholds; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.methods.samples_contrast import SamplesContrast


def definition(scores, k):
    """Sort, cut into groups of floor(n / k), the remainder to the last."""
    n, labels = len(scores), [None] * len(scores)
    order = sorted(range(n), key=lambda i: scores[i])
    for rank, i in enumerate(order):
        labels[i] = min(rank // (n // k), k - 1)
    return labels


different = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=60, unique=True)


@given(different, st.integers(2, 4))
@settings(deadline=None)
def test_equal_groups_are_the_definition(scores, k):
    assert SamplesContrast(k).predict(scores).tolist() == definition(scores, k)


@given(different, st.integers(2, 4))
@settings(deadline=None)
def test_the_papers_thresholds_are_off_by_the_boundary_and_midpoints_are_not(scores, k):
    contrast = SamplesContrast(k)
    whole = contrast.predict(scores)
    paper = contrast.fit(scores, "paper").threshold(scores)
    n = len(scores)
    ordered = np.sort(scores)
    bounds = [ordered[(i + 1) * (n // k) - 1] for i in range(k - 1)]
    expected = [next((i for i, t in enumerate(bounds) if s < t), k - 1) for s in scores]
    assert paper.tolist() == expected
    assert (paper != whole).sum() == k - 1  # each group's last sample
    middle = contrast.fit(scores).threshold(scores)
    gaps = np.diff(ordered).min()
    if gaps > 1e-12:
        assert (middle == whole).all()


@given(different, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_samples_does_not_matter(scores, random):
    scores = scores + scores[:2]  # ties among them
    order = list(range(len(scores)))
    random.shuffle(order)
    labels = SamplesContrast(3).predict(scores)
    assert (SamplesContrast(3).predict([scores[i] for i in order]) == labels[order]).all()


def test_equal_scores_get_one_label():
    assert SamplesContrast(2).predict([0.1, 0.5, 0.5, 0.9]).tolist() == [0, 0, 0, 1]


def test_priors_set_the_sizes_of_the_groups():
    scores = np.random.default_rng(0).permutation(100) / 100
    labels = SamplesContrast(3, [0.1, 0.3, 0.6]).predict(scores)
    assert np.bincount(labels).tolist() == [10, 30, 60]


def test_true_priors_repair_what_equal_groups_do_to_unequal_classes():
    rng = np.random.default_rng(0)
    wanted = (rng.random(4000) < 0.9).astype(int)
    scores = 1 / (1 + np.exp(-(rng.normal(size=4000) + 2.5 * wanted)))
    equal = (SamplesContrast(2).predict(scores) == wanted).mean()
    informed = (SamplesContrast(2, [0.1, 0.9]).predict(scores) == wanted).mean()
    assert equal < 0.62
    assert informed > 0.9


def test_larger_batches_come_nearer_to_the_whole_set():
    rng = np.random.default_rng(1)
    wanted = rng.integers(0, 2, 4000)
    scores = rng.normal(size=4000) + wanted + 3  # uncalibrated: 0.5 would call all of them 1
    right = [
        (SamplesContrast(2).predict(scores, batch) == wanted).mean() for batch in (2, 8, 32, None)
    ]
    assert right == sorted(right)
    assert right[-1] > ((scores > 0.5) == wanted).mean() + 0.1


def test_a_batch_is_cut_by_itself_and_what_is_left_over_joins_the_last():
    scores = np.array([1, 2, 3, 4, 9, 8, 7, 6, 5.0])
    contrast = SamplesContrast(2)
    expected = [*contrast.predict(scores[:4]), *contrast.predict(scores[4:])]
    assert contrast.predict(scores, 4).tolist() == expected


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: SamplesContrast(1), "two labels or more"),
        (lambda: SamplesContrast(2, [0.5, 0.4]), "sum to 1"),
        (lambda: SamplesContrast(2, [1.0, 0.0]), "above 0"),
        (lambda: SamplesContrast(3).predict([0.1, 0.2]), "2 samples cannot be cut into 3"),
        (lambda: SamplesContrast(3).fit([0.1, 0.2]), "2 samples cannot be cut into 3"),
        (lambda: SamplesContrast(2).predict([0.1, 0.2], batch=1), "all would get the last"),
        (lambda: SamplesContrast(2).predict([0.1, np.nan]), "finite"),
        (lambda: SamplesContrast(2).predict([0.5, 0.5]), "no order to cut"),
        (lambda: SamplesContrast(2).predict([[0.5, 0.5]]), r"numbers \(n,\)"),
        (lambda: SamplesContrast(2).threshold([0.5]), "call fit"),
        (lambda: SamplesContrast(2).fit([0.1, 0.2], "other"), "boundary must be"),
    ],
)
def test_what_cannot_be_contrasted_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()
