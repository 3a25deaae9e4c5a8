"""Errors against softmax attention: the literature's figures, the bounds, the ranks."""

from __future__ import annotations

import numpy as np
import pytest

from bert4kexue.ops.feature_maps import feature_map
from bert4kexue.ops.kernel_error import attention_rank, kernel_error


def head(std, n=512, d=64, seed=0):
    random = np.random.RandomState(seed)
    query, key = random.normal(size=(2, n, d)) * std
    return query, key, random.normal(size=(n, d))


# The figures of a peer's implementation and of exact kernels, n = 512 and d = 64.
@pytest.mark.parametrize(
    ("spec", "std", "error"),
    [
        ("taylor", 0.25, 0.0002),
        ("taylor", 0.5, 0.011),
        ("taylor", 1.0, 0.40),
        ({"kind": "limit", "order": 2}, 0.25, 0.0015),
        ({"kind": "limit", "order": 2}, 0.5, 0.025),
        ({"kind": "limit", "order": 2}, 1.0, 0.43),
        ("elu1", 0.25, 0.066),
        ("elu1", 0.5, 0.246),
        ("elu1", 1.0, 0.82),
    ],
)
def test_errors_are_those_measured_elsewhere(spec, std, error):
    assert kernel_error(*head(std), spec).output == pytest.approx(error, rel=0.25)


@pytest.mark.parametrize(
    ("features", "std", "error"),
    [(266, 0.25, 0.059), (266, 0.5, 0.50), (266, 1.0, 3.4), (1024, 0.25, 0.027), (1024, 0.5, 0.25)],
)
def test_performers_errors_are_those_measured_elsewhere(features, std, error):
    """Of a peer: the median of three draws there, of five here."""
    spec = {"kind": "performer", "features": features}
    errors = [kernel_error(*head(std), spec, seed=seed).output for seed in range(5)]
    assert np.median(errors) == pytest.approx(error, rel=0.25)


def test_rows_stay_within_the_bound():
    for std in (0.1, 0.2, 0.3):
        for spec in ("taylor", {"kind": "limit", "order": 2}):
            found = kernel_error(*head(std, n=64, d=16), spec)
            assert 0 < found.rows <= found.bound
    assert kernel_error(*head(0.2, n=64, d=16), "taylor").bound < 0.01


def test_ranks_are_those_of_the_post():
    query, key, value = head(1.0, n=64, d=4)
    bidirectional = kernel_error(query, key, value, "elu1")
    assert attention_rank(query @ key.T) == bidirectional.rank == 4
    assert bidirectional.softmax_rank == 64
    assert kernel_error(query, key, value, "elu1", causal=True).rank == 64
    # Weights of 0 come out negative in places, by rounding: no rank comes of it.
    assert kernel_error(*head(1.0, d=16), "limit").rank == feature_map("limit").size(16)


def test_only_performer_has_a_deviation_and_it_shrinks_with_the_features():
    few, many = (
        kernel_error(*head(0.25, n=64), {"kind": "performer", "features": m}).deviation
        for m in (64, 256)
    )
    assert few == pytest.approx(2 * many)
    assert kernel_error(*head(0.25, n=64), "taylor").deviation is None


def test_what_cannot_be_compared_is_refused():
    query, key, value = head(1.0, n=4, d=3)
    with pytest.raises(ValueError, match=r"compares one head.*\(4, 3\), \(3, 3\)"):
        kernel_error(query, key[:3], value, "elu1")
    with pytest.raises(ValueError, match=r"holds NaN or infinity"):
        kernel_error(query * np.nan, key, value, "elu1")
