"""Numbers from seeds: known bits, the right distribution, the transform against its definition."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from bert4kexue.analysis import (
    agreement,
    cosine_of_agreement,
    expected_agreement,
    project,
    projection_matrix,
    randomized_svd,
    sign_hash,
)
from bert4kexue.analysis.random_bits import (
    _circle,
    _log,
    random_choice,
    random_normals,
    random_signs,
    random_words,
)

KINDS = ["gaussian", "sign", "sparse", "hadamard"]
# SHA-256 of the little-endian float32 bytes of a 100 x 37 matrix, seed 2021: made once, so that a
# change of NumPy, of the processor or of the code cannot change a matrix unseen.
BITS = {
    "gaussian": "c844388127393d1dcd75f812644fb39604b649dde97f0bc85d704758fae15ef4",
    "sign": "6e34fa88dd0336e2ae8ae78173fb00b9daa21bb4553c1510e6b688ca7597b72e",
    "sparse": "351ea6544e1713d6e7c8847e120b76806ab2364ae846b2abf460e9196ac41a13",
    "hadamard": "edc5e2970adc22a1e982b0418729e249b87ea2f2b0c8e8d7469045e457a2abfc",
}


def test_words_are_philox_as_published():
    """Philox4x64-10 of a zero counter and key, from the authors' known-answer test."""
    # NumPy raises its counter before it draws, so the vector of counter 1 comes first.
    words = np.random.Philox(counter=2**256 - 1, key=0).random_raw(4)
    assert [f"{w:016x}" for w in words] == [
        "16554d9eca36314c",
        "db20fe9d672d0fdc",
        "d7e772cee186176b",
        "7e68b68aec7ba23b",
    ]
    np.testing.assert_array_equal(random_words(5, 3), np.random.Philox(key=5).random_raw(3))


def test_log_and_circle_are_the_functions_to_the_last_digits():
    random = np.random.default_rng(0)
    x = np.concatenate([random.uniform(0, 1, 20_000), 2.0 ** -np.arange(54.0), [1 - 2**-53]])
    x = x[x > 0]
    np.testing.assert_allclose(_log(x), np.log(x), rtol=1e-15, atol=1e-16)
    words = random.integers(0, 2**64, 20_000, dtype=np.uint64)
    cosine, sine = _circle(words)
    angle = words.astype(np.float64) / 2.0**64 * 2 * np.pi
    np.testing.assert_allclose(cosine, np.cos(angle), atol=2e-15)
    np.testing.assert_allclose(sine, np.sin(angle), atol=2e-15)


def test_normals_are_normal():
    """Kolmogorov and Smirnov's test; the seed is fixed, and it would pass 999 of 1,000 seeds."""
    stats = pytest.importorskip("scipy.stats")
    numbers = random_normals(11, 200_000)
    assert stats.kstest(numbers, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(numbers[::2], numbers[1::2])[0, 1]) < 0.01


def test_a_number_does_not_depend_on_how_many_follow():
    for draw in (random_words, random_signs, random_normals):
        np.testing.assert_array_equal(draw(3, 101)[:50], draw(3, 50))
    assert not np.array_equal(random_words(3, 5, stream=1), random_words(3, 5))
    assert sorted(random_choice(4, 50, 50)) == list(range(50))


@pytest.mark.parametrize("kind", KINDS)
def test_the_matrix_of_a_seed_is_known_bit_by_bit(kind):
    matrix = projection_matrix(100, 37, kind, 2021)
    assert hashlib.sha256(matrix.astype("<f4").tobytes()).hexdigest() == BITS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_differ_and_first_columns_are_a_smaller_projection(kind):
    matrix = projection_matrix(60, 20, kind, 2**64 - 1)
    assert not np.array_equal(matrix, projection_matrix(60, 20, kind, 2**64 - 2))
    smaller = projection_matrix(60, 5, kind, 2**64 - 1)
    np.testing.assert_allclose(matrix[:, :5] * 2, smaller, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_squared_norms_are_right_on_average(kind):
    vector = np.random.default_rng(0).normal(size=(1, 50))
    squares = [(project(vector, 16, kind, s) ** 2).sum() for s in range(600)]
    error = np.std(squares) / np.sqrt(600)
    assert abs(np.mean(squares) - (vector**2).sum()) < 5 * error


def test_the_entries_are_what_the_kind_says():
    assert set(np.unique(projection_matrix(64, 16, "sign"))) == {-0.25, 0.25}
    sparse = projection_matrix(300, 100, "sparse", 1)
    np.testing.assert_allclose(np.unique(sparse), np.sqrt([0.03, 0, 0.03]) * [-1, 0, 1], rtol=1e-6)
    assert abs((sparse == 0).mean() - 2 / 3) < 0.02
    assert abs((sparse > 0).mean() - 1 / 6) < 0.02


def test_the_fast_transform_is_the_product_with_hadamards_matrix():
    linalg = pytest.importorskip("scipy.linalg")
    matrix = projection_matrix(50, 30, "hadamard", 9)
    signs = random_signs(9, 64, stream=1)
    rows = random_choice(9, 64, 30, stream=2)
    expected = (signs[:, None] * linalg.hadamard(64))[:50][:, rows] / np.sqrt(30)
    np.testing.assert_allclose(matrix, expected, atol=1e-7)
    vectors = np.random.default_rng(0).normal(size=(7, 50))
    np.testing.assert_allclose(project(vectors, 30, "hadamard", 9), vectors @ expected, atol=1e-12)


def test_float32_stays_float32():
    assert project(np.ones((2, 9), "float32"), 3).dtype == np.float32
    assert project(np.ones((2, 9)), 3, "hadamard").dtype == np.float64
    assert project(np.ones((2, 9), int), 3).dtype == np.float64


def test_hashes_agree_as_the_angle_says():
    """Not as the cosine does: .70 becomes .494 (trap 7)."""
    assert expected_agreement(0.7) == pytest.approx(0.494, abs=5e-4)
    random = np.random.default_rng(0)
    u = random.normal(size=60)
    u /= np.linalg.norm(u)
    w = random.normal(size=60)
    w -= (w @ u) * u
    w /= np.linalg.norm(w)
    bits = 8_000
    for cosine in (-0.9, 0.0, 0.3, 0.7, 0.99):
        v = cosine * u + np.sqrt(1 - cosine**2) * w
        hashes = sign_hash(np.stack([u, v]), bits, seed=1)
        assert hashes.shape == (2, bits // 8)
        found = agreement(hashes[:1], hashes[1:])[0, 0]
        error = 2 / np.sqrt(bits)
        assert abs(found - expected_agreement(cosine)) < 5 * error
        assert cosine_of_agreement(found) == pytest.approx(cosine, abs=5 * error * np.pi / 2)


def test_agreement_inverts_its_expectation():
    cosines = np.linspace(-1, 1, 41)
    np.testing.assert_allclose(cosine_of_agreement(expected_agreement(cosines)), cosines, atol=1e-7)


@pytest.mark.parametrize("shape", [(200, 120), (90, 150)])
def test_randomized_svd_finds_the_leading_part(shape):
    random = np.random.default_rng(0)
    u, _ = np.linalg.qr(random.normal(size=(shape[0], 8)))
    v, _ = np.linalg.qr(random.normal(size=(shape[1], 8)))
    values = np.arange(8.0, 0, -1)
    matrix = (u * values) @ v.T + 1e-3 * random.normal(size=shape)
    left, s, right = randomized_svd(matrix, 8)
    exact = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(s, exact[:8], rtol=1e-6)
    np.testing.assert_allclose(left.T @ left, np.eye(8), atol=1e-12)
    error = np.linalg.norm(matrix - (left * s) @ right)
    assert error <= 1.001 * np.sqrt((exact[8:] ** 2).sum())


def test_a_projection_that_does_not_know_the_matrix_loses_it():
    """Trap 6: back and forth through a random Q leaves nearly nothing; the range finder does."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(200, 8)) @ random.normal(size=(8, 300))
    q, _ = np.linalg.qr(random.normal(size=(300, 18)))
    blind = np.linalg.norm(matrix - matrix @ q @ q.T) / np.linalg.norm(matrix)
    u, s, vt = randomized_svd(matrix, 8)
    assert blind > 0.9
    assert np.linalg.norm(matrix - (u * s) @ vt) / np.linalg.norm(matrix) < 1e-10


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: sign_hash(np.eye(4), 12), "multiple of 8"),
        (lambda: agreement(np.zeros((1, 2), "uint8"), np.zeros((1, 3), "uint8")), "same bits"),
        (lambda: randomized_svd(np.eye(4), 5), "rank must lie in"),
        (lambda: randomized_svd(np.eye(4), 2, power=-1), "0 or more"),
        (lambda: randomized_svd(np.full((3, 3), np.nan), 2), "must be finite"),
    ],
)
def test_mistakes_are_named(act, message):
    with pytest.raises(ValueError, match=message):
        act()
