"""Feature maps against the kernels they stand for, in float64 NumPy."""

from __future__ import annotations

import itertools
import math

import keras
import numpy as np
import pytest
from _harness import to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.ops.feature_maps import KINDS, MAX_FEATURES, FeatureMap, feature_map

SPECS = [
    "elu1",
    "exp",
    "dsoftmax",
    "cos1",
    {"kind": "taylor", "order": 2},
    {"kind": "taylor", "order": 4},
    {"kind": "limit", "order": 2},
    {"kind": "limit", "order": 6},
]


def elu1(x):
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def stated(spec, q, k):
    """The kernel as the module's table states it, for one query and one key."""
    fmap, x = feature_map(spec), float(q @ k)
    n = fmap.order
    return {
        "elu1": lambda: elu1(q) @ elu1(k),
        "exp": lambda: np.exp(q) @ np.exp(k),
        "dsoftmax": lambda: softmax(q) @ np.exp(k),
        "cos1": lambda: 1 + x / np.linalg.norm(q) / np.linalg.norm(k),
        "taylor": lambda: sum(x**i / math.factorial(i) for i in range(n + 1)),
        "limit": lambda: (1 + x / n) ** n,
    }[fmap.kind]()


def features(fmap, x):
    values = to_numpy(fmap.expand(keras.ops.convert_to_tensor(x))).astype("float64")
    return np.exp(values) if fmap.exponential else values


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_features_multiply_to_the_stated_kernel(spec, seed, d):
    fmap, random = feature_map(spec), np.random.RandomState(seed)
    q, k = random.normal(size=(2, 3, d)).astype("float32")
    left, right = features(fmap, q), features(fmap, k)
    if fmap.by_feature:
        left = left / left.sum(-1, keepdims=True)
    assert left.shape[-1] == fmap.size(d)
    wanted = np.array([[stated(spec, a, b) for b in k.astype(float)] for a in q.astype(float)])
    # Signed features may cancel: rounding is a share of the lengths then, not of what is left.
    lengths = np.linalg.norm(left, axis=-1)[:, None] * np.linalg.norm(right, axis=-1)
    allowed = 1e-4 * abs(wanted) + 1e-5 + 2 * np.finfo("float32").eps * lengths
    assert np.all(abs(left @ right.T - wanted) <= allowed)
    if fmap.signed:
        computed = to_numpy(fmap.lengths(keras.ops.convert_to_tensor(q)))[:, 0]
        np.testing.assert_allclose(computed, np.linalg.norm(left, axis=-1), rtol=1e-5)
    closed = fmap.kernel(keras.ops.convert_to_tensor(q), keras.ops.convert_to_tensor(k))
    np.testing.assert_allclose(to_numpy(closed), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "order", "d"), [("taylor", 4, 3), ("limit", 4, 3)])
def test_merged_monomials_are_the_tensor_powers(kind, order, d):
    random = np.random.RandomState(0)
    q, k = random.normal(size=(2, d))

    def powers(x):
        levels = [1.0 if kind == "taylor" else math.perm(order, i) / order**i for i in range(9)]
        parts = []
        for i in range(order + 1):
            weight = math.sqrt(levels[i] / math.factorial(i))
            parts += [weight * math.prod(x[list(p)]) for p in itertools.product(range(d), repeat=i)]
        return np.array(parts)

    assert len(powers(q)) == (d ** (order + 1) - 1) // (d - 1)
    fmap = FeatureMap(kind=kind, order=order)
    assert fmap.size(d) == math.comb(d + order, order) < len(powers(q))
    merged = features(fmap, np.stack([q, k]).astype("float32"))
    np.testing.assert_allclose(merged[0] @ merged[1], powers(q) @ powers(k), rtol=1e-5)


def test_the_sizes_are_those_of_the_literature():
    assert feature_map("taylor").size(64) == 2145
    assert feature_map("performer").size(64) == 266
    assert feature_map("cos1").size(64) == 65


@given(x=st.floats(-6, 6), half=st.integers(1, 4))
def test_taylors_error_is_within_its_remainder(x, half):
    n = 2 * half
    fmap = FeatureMap(kind="taylor", order=n)
    one = keras.ops.convert_to_tensor(np.array([[x]], "float32"))
    kernel = float(to_numpy(fmap.kernel(one, keras.ops.ones((1, 1))))[0, 0])
    bound = abs(x) ** (n + 1) * math.exp(max(x, 0)) / math.factorial(n + 1)
    assert abs(kernel - math.exp(x)) <= bound + 1e-5 * math.exp(abs(x))
    assert kernel > 0


@pytest.mark.parametrize("orthogonal", [False, True])
def test_performer_is_unbiased_with_the_variance_of_its_formula(orthogonal):
    d, m, draws = 8, 64, 400
    fmap = FeatureMap(kind="performer", features=m, orthogonal=orthogonal)
    q, k = np.random.RandomState(0).normal(scale=0.3, size=(2, d))
    logs = []
    for seed in range(draws):
        w = fmap.draw(d, seed).astype("float64")
        logs.append(np.mean(np.exp(w @ (q + k) - (q @ q + k @ k) / 2)))
    truth = math.exp(q @ k)
    variance = truth**2 * (math.exp((q + k) @ (q + k)) - 1) / m
    assert abs(np.mean(logs) - truth) < 5 * math.sqrt(variance / draws)
    if orthogonal:
        assert np.var(logs) < variance
    else:
        np.testing.assert_allclose(np.var(logs), variance, rtol=0.5)


def test_orthogonal_frequencies_are_orthogonal_in_blocks_and_as_long_as_normal_ones():
    w = FeatureMap(kind="performer", features=40, seed=1).draw(16)
    for block in (w[:16], w[16:32], w[32:]):
        lengths = np.linalg.norm(block, axis=1)
        np.testing.assert_allclose(block @ block.T, np.diag(lengths**2), atol=1e-4)
    many = FeatureMap(kind="performer", features=8000, seed=1).draw(16)
    np.testing.assert_allclose(np.mean(many**2), 1.0, atol=0.03)  # chi-square over its degrees
    np.testing.assert_allclose(np.mean(many, axis=0), 0.0, atol=0.06)


def test_frequencies_are_told_by_their_seed():
    fmap = FeatureMap(kind="performer", features=12, seed=3)
    np.testing.assert_array_equal(fmap.draw(4), fmap.draw(4))
    np.testing.assert_array_equal(fmap.draw(4, 5), fmap.draw(4, 5))
    assert not np.array_equal(fmap.draw(4), fmap.draw(4, 5))


def test_cosine_of_a_vector_of_zeros_is_zero():
    fmap = feature_map("cos1")
    zeros, ones = keras.ops.zeros((1, 3)), keras.ops.ones((1, 3))
    np.testing.assert_allclose(to_numpy(fmap.kernel(zeros, ones)), [[1.0]])


@pytest.mark.parametrize("spec", [*SPECS, {"kind": "performer", "features": 8, "seed": 2}], ids=str)
def test_a_map_comes_back_from_its_config(spec):
    fmap = feature_map(spec)
    assert feature_map(fmap.get_config()) == fmap
    assert set(KINDS) >= {fmap.kind}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("elu", r"'elu' is unknown: choose one of \['cos1', 'dsoftmax', 'elu1'"),
        ({"kind": "taylor", "order": 3}, r"order=3 .* even integer.*odd polynomial is negative"),
        ({"kind": "limit", "order": 0}, r"order=0 .* even integer"),
        ({"kind": "limit", "order": 2.0}, r"order=2\.0 .* even integer"),
        ({"kind": "elu1", "order": 2}, r"'elu1' has no order \(got 2\)"),
        ({"kind": "taylor", "features": 64}, r"'taylor' has no features \(got 64\)"),
        ({"kind": "exp", "seed": 1}, r"'exp' has no seed"),
        ({"kind": "performer", "features": 0}, r"features=0 must be an integer from 1 to 16384"),
        ({"kind": "performer", "features": 10**6}, r"features=1000000 must be an integer"),
        ({"order": 2}, r"given by 'kind' and some of"),
        ({"kind": "taylor", "degree": 2}, r"given by 'kind' and some of.*degree"),
        (3, r"feature_map=3 must be one of"),
    ],
)
def test_a_map_that_cannot_be_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        feature_map(spec)


def test_too_many_features_are_refused_with_their_number():
    with pytest.raises(ValueError, match=r"814,385 features of 64 channels, and 16,384 are"):
        FeatureMap(kind="limit", order=4).size(64)
    assert FeatureMap(kind="limit", order=4).size(16) <= MAX_FEATURES
