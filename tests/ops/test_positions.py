"""Sinusoids, rotation and hierarchical tables against float64 NumPy and their laws."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _reference import hierarchical_table, rope
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.ops.positions import (
    apply_rotary_position_embeddings,
    hierarchical_positions,
    sinusoidal_embeddings,
)

to_numpy = keras.ops.convert_to_numpy


def test_sinusoids_are_interleaved_sine_and_cosine():
    table = to_numpy(sinusoidal_embeddings(np.arange(50), 6))
    for i in range(3):
        angle = np.arange(50) * 10000.0 ** (-2 * i / 6)
        np.testing.assert_allclose(table[:, 2 * i], np.sin(angle), atol=1e-5)
        np.testing.assert_allclose(table[:, 2 * i + 1], np.cos(angle), atol=1e-5)


def test_an_odd_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="even number of channels, not 5"):
        sinusoidal_embeddings(np.arange(3), 5)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_rotation_is_multiplication_of_complex_pairs(seed, n, heads, pairs):
    x = np.random.RandomState(seed).normal(size=(2, n, heads, 2 * pairs)).astype("float32")
    table = sinusoidal_embeddings(np.arange(n)[None], 2 * pairs)
    rotated = to_numpy(apply_rotary_position_embeddings(table, keras.ops.convert_to_tensor(x)))
    np.testing.assert_allclose(rotated, rope(x, np.arange(n)[None]), atol=1e-5)


def test_a_product_of_rotated_vectors_depends_on_their_distance_alone():
    random = np.random.RandomState(0)
    q, k = (random.normal(size=(1, 1, 8)).astype("float32") for _ in range(2))

    def product(i, j):
        at = [sinusoidal_embeddings(np.array([[p]]), 8) for p in (i, j)]
        turned = [
            to_numpy(apply_rotary_position_embeddings(t, keras.ops.convert_to_tensor(x)))
            for t, x in zip(at, (q, k), strict=True)
        ]
        return float((turned[0] * turned[1]).sum())

    assert product(3, 7) == pytest.approx(product(13, 17), abs=1e-5)
    assert abs(product(3, 7) - product(3, 8)) > 1e-3


def test_hierarchical_positions_keep_the_trained_ones_and_reach_the_square():
    table = np.random.RandomState(0).normal(size=(4, 5)).astype("float32")
    positions = np.arange(16)
    got = to_numpy(hierarchical_positions(keras.ops.convert_to_tensor(table), positions, 0.4))
    np.testing.assert_allclose(got[:4], table, atol=1e-5)
    np.testing.assert_allclose(got, hierarchical_table(table, 16, 0.4), atol=1e-5)
