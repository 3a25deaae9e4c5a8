"""The lemma against scipy's exact tails and against random matrices.

Where failures are counted, the count may exceed what the bound allows by chance: each such test
alarms falsely with a probability of at most 1e-6, by the binomial tail, and seeds are fixed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.analysis import (
    distortion_report,
    exact_dim,
    exact_failure,
    head_size_rule,
    jl_dim,
    jl_failure_bound,
    project,
    projection_matrix,
    recall_at,
    smallest_dimension,
)
from bert4kexue.analysis.chi_square import log_lower_tail, log_upper_tail

FALSE_ALARM = 1e-6


def most_failures(trials, probability):
    """The smallest count that a binomial exceeds with probability FALSE_ALARM at most."""
    stats = pytest.importorskip("scipy.stats")
    return int(stats.binom.isf(FALSE_ALARM, trials, min(probability, 1.0)))


def test_the_posts_numbers():
    assert jl_dim(100, 0.5) == 443
    assert jl_dim(1000, 0.1) == math.floor(2400 * math.log(1000)) + 1
    assert head_size_rule(512) == pytest.approx(51.97, abs=0.01)
    assert jl_failure_bound(1, 256, 0.3, "norms") == pytest.approx(0.1123, abs=1e-4)
    assert exact_failure(256, 0.3) == pytest.approx(0.0011, abs=2e-4)


@given(st.integers(2, 10**9), st.floats(0.01, 0.99), st.sampled_from([16, 24]))
def test_the_dimension_is_the_smallest_strictly_above(vectors, eps, constant):
    n = jl_dim(vectors, eps, constant)
    assert n > constant * math.log(vectors) / eps**2 >= n - 1


@given(st.integers(2, 10**6), st.floats(0.05, 0.95))
def test_at_the_lemmas_dimension_the_bounds_are_the_posts(vectors, eps):
    n = jl_dim(vectors, eps)
    assert jl_failure_bound(vectors, n, eps) <= 1 / vectors
    assert jl_failure_bound(vectors, n, eps, "inner products") <= 2 / vectors
    existence = jl_dim(vectors, eps, 16)
    assert vectors * (vectors - 1) * math.exp(-(eps**2) * existence / 8) < 1


@pytest.mark.parametrize("n", [1, 2, 3, 10, 99, 1000, 50_000])
def test_chi_square_tails_are_scipys(n):
    stats = pytest.importorskip("scipy.stats")
    for factor in (0.01, 0.3, 0.7, 0.97, 1.0, 1.03, 1.5, 3, 8):
        x = n * factor
        for mine, theirs in (
            (log_upper_tail(x, n), stats.chi2.logsf(x, n)),
            (log_lower_tail(x, n), stats.chi2.logcdf(x, n)),
        ):
            if theirs > -700:
                assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-10)


@given(st.integers(1, 3000), st.floats(0.01, 0.99))
def test_the_exact_failure_is_below_the_bound(n, eps):
    assert exact_failure(n, eps) <= jl_failure_bound(1, n, eps, "norms") + 1e-15


@pytest.mark.parametrize("n", [20, 200])
@pytest.mark.parametrize("cosine", [0.0, 0.6, -0.9, 1.0])
def test_the_exact_failure_of_inner_products_is_that_of_drawn_ones(n, cosine):
    random = np.random.default_rng(0)
    eps, trials = 0.2, 20_000
    u = random.normal(size=(trials, n)) / np.sqrt(n)
    w = random.normal(size=(trials, n)) / np.sqrt(n)
    products = (u * (cosine * u + math.sqrt(1 - cosine**2) * w)).sum(1)
    failures = int((np.abs(products - cosine) >= eps).sum())
    p = exact_failure(n, eps, "inner products", cosine)
    assert abs(failures - trials * p) <= 5 * math.sqrt(trials * p * (1 - p)) + 3
    assert p <= 4 * math.exp(-(eps**2) * n / 8)


@pytest.mark.parametrize("kind", ["gaussian", "sign", "sparse", "hadamard"])
@pytest.mark.parametrize("eps", [0.3, 0.5])
def test_failures_stay_within_the_bound(kind, eps):
    """Norms of 64 dimensions under 400 projections of each kind; false alarm 1e-6 a case."""
    n, trials = 64, 400
    vector = np.random.default_rng(1).normal(size=(1, 200))
    failures = 0
    for seed in range(trials):
        ratio = (project(vector, n, kind, seed) ** 2).sum() / (vector**2).sum()
        failures += abs(ratio - 1) >= eps
    bound = jl_failure_bound(1, n, eps, "norms")
    assert failures <= most_failures(trials, bound)
    if kind == "gaussian":  # the exact tail, from both sides
        p = exact_failure(n, eps)
        assert failures <= most_failures(trials, p)
        assert trials - failures <= most_failures(trials, 1 - p)


def test_at_the_lemmas_dimension_no_pair_fails():
    """N = 100, eps = 0.5, n = 443: a projection fails with probability 0.01 at most."""
    vectors = np.random.default_rng(0).normal(size=(100, 600))
    failed = 0
    for seed in range(30):
        report = distortion_report(vectors, project(vectors, 443, seed=seed), 0.5)
        failed += not report.holds
    assert failed <= most_failures(30, jl_failure_bound(100, 443, 0.5))
    assert jl_failure_bound(100, 443, 0.5) <= 0.01


def test_the_exact_dimension_is_where_the_union_crosses():
    for what in ("distances", "inner products"):
        n = exact_dim(100, 0.5, 0.01, what)
        pairs = 100 * 99 / 2
        assert pairs * exact_failure(n, 0.5, what) <= 0.01
        assert pairs * exact_failure(n - 1, 0.5, what) > 0.01
        assert n < jl_dim(100, 0.5)


def test_the_smallest_dimension_is_found_as_by_projecting_to_each():
    vectors = np.random.default_rng(0).normal(size=(20, 300))
    found = smallest_dimension(vectors, 0.5, trials=12, level=0.9, largest=120)
    assert found.theory == jl_dim(20, 0.5)
    for n in (10, 40, 80, 120):
        held = [
            distortion_report(vectors, project(vectors, n, seed=s), 0.5).holds for s in range(12)
        ]
        assert found.success[n - 1] == np.mean(held)
    assert (found.success[found.dimension - 1 :] >= 0.9).all()
    assert found.success[found.dimension - 2] < 0.9
    assert smallest_dimension(vectors, 0.5, trials=3, largest=5).dimension is None


def test_the_report_is_what_loops_find():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(12, 40)) * random.uniform(0.1, 3, (12, 1))
    projected = project(vectors, 16, seed=3)
    ratios, products = [], []
    for i in range(12):
        for j in range(i):
            old, new = vectors[i] - vectors[j], projected[i] - projected[j]
            ratios.append((new @ new) / (old @ old))
            scale = (vectors[i] @ vectors[i] + vectors[j] @ vectors[j]) / 2
            moved = projected[i] @ projected[j] - vectors[i] @ vectors[j]
            products.append(abs(moved) / scale)
    report = distortion_report(vectors, projected, 0.3)
    assert report.pairs == 66
    assert report.lowest == pytest.approx(min(ratios))
    assert report.highest == pytest.approx(max(ratios))
    assert report.failing == pytest.approx(np.mean(np.abs(np.array(ratios) - 1) > 0.3))
    assert report.inner_product == pytest.approx(max(products))
    assert report.failing_inner == pytest.approx(np.mean(np.array(products) > 0.3))


def test_recall_grows_with_the_dimensions():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(400, 64)).astype("float32")
    found = [recall_at(vectors[:50], vectors, n) for n in (4, 16, 48)]
    assert found == sorted(found)
    assert recall_at(vectors[:50], vectors, 63, k=400) == 1


# --- bad input ---


@pytest.mark.parametrize("eps", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_eps_outside_the_open_interval_is_refused(eps):
    for act in (jl_dim, lambda n, e: jl_failure_bound(n, 10, e), lambda n, e: exact_failure(n, e)):
        with pytest.raises(ValueError, match="eps must lie in"):
            act(10, eps)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_vectors_are_refused(count):
    with pytest.raises(ValueError, match="2 or more vectors"):
        jl_dim(count, 0.5)
    with pytest.raises(ValueError, match="2 or more vectors"):
        distortion_report(np.ones((count, 3)), np.ones((count, 2)), 0.5)


def test_a_projection_that_reduces_nothing_warns():
    with pytest.warns(UserWarning, match="reduces nothing"):
        project(np.ones((2, 8)), 8)


def test_duplicate_points_have_no_ratio_and_are_counted():
    vectors = np.random.default_rng(0).normal(size=(6, 20))
    vectors[4] = vectors[1]
    report = distortion_report(vectors, project(vectors, 10), 0.9)
    assert report.duplicates == 1
    assert np.isfinite([report.lowest, report.highest]).all()
    assert smallest_dimension(vectors, 0.5, trials=2).dimension is not None
    with pytest.raises(ValueError, match="all vectors are equal"):
        distortion_report(np.ones((3, 4)), np.ones((3, 2)), 0.5)
    with pytest.raises(ValueError, match="all vectors are equal"):
        smallest_dimension(np.ones((3, 4)), 0.5)


def test_inner_products_are_measured_in_units_of_the_vectors():
    vectors = np.random.default_rng(0).normal(size=(10, 50))
    plain = distortion_report(vectors, project(vectors, 20), 0.3)
    large = distortion_report(vectors * 1e6, project(vectors * 1e6, 20), 0.3)
    assert large.inner_product == pytest.approx(plain.inner_product)
    assert large.failing_inner == plain.failing_inner


def test_vectors_that_are_not_finite_are_refused():
    vectors = np.ones((4, 6))
    vectors[2, 1] = np.nan
    with pytest.raises(ValueError, match="in row 2"):
        project(vectors, 3)
    with pytest.raises(ValueError, match="in row 2"):
        distortion_report(vectors, np.ones((4, 3)), 0.5)


def test_many_vectors_are_sampled():
    vectors = np.random.default_rng(0).normal(size=(5000, 8)).astype("float32")
    report = distortion_report(vectors, project(vectors, 4), 0.5, pairs=1000)
    assert report.pairs == 1000
    assert report.duplicates == 0


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: jl_dim(10, 0.5, 0), "constant must be above 0"),
        (lambda: jl_failure_bound(10, 0, 0.5), "1 dimension or more"),
        (lambda: jl_failure_bound(10, 5, 0.5, "angles"), "norms, distances or inner products"),
        (lambda: exact_failure(10, 0.5, cosine=2), "a cosine lies in"),
        (lambda: exact_dim(10, 0.5, 0), "probability must lie in"),
        (lambda: head_size_rule(1), "2 positions or more"),
        (lambda: smallest_dimension(np.eye(4), 0.5, level=0), "level lies in"),
        (lambda: recall_at(np.eye(4), np.eye(4), 2, k=5), "k must lie in"),
        (lambda: distortion_report(np.eye(4), np.eye(3), 0.5), "give them in pairs"),
        (lambda: project(np.ones((2, 9)), 17, "hadamard"), "has 16 outputs"),
        (lambda: projection_matrix(9, 3, "haar"), "kind must be one of"),
        (lambda: projection_matrix(0, 3), "sizes of 1 or more"),
        (lambda: projection_matrix(3, 3, seed=-1), "a seed is an integer"),
        (lambda: projection_matrix(3, 3, seed=0.5), "a seed is an integer"),
    ],
)
def test_mistakes_are_named(act, message):
    with pytest.raises(ValueError, match=message):
        act()
