"""Masks: how they arise, how they pass through layers, and what they hide."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _harness import to_numpy

from bert4kexue import layers


def tensor(x):
    return keras.ops.convert_to_tensor(x)


def test_id_zero_is_padding_except_at_the_first_position():
    ids = np.array([[5, 0, 3, 0], [0, 2, 0, 0]])
    mask = layers.Embedding(10, 4, mask_zero=True).compute_mask(tensor(ids))
    assert to_numpy(mask).tolist() == [[True, False, True, False], [True, True, False, False]]


def test_add_keeps_the_mask_of_one_and_joins_the_masks_of_two():
    x = tensor(np.zeros((1, 3, 2), "float32"))
    one, two = tensor(np.array([[True, True, False]])), tensor(np.array([[True, False, True]]))
    add = layers.Add()
    assert to_numpy(add.compute_mask([x, x], [one, None])).tolist() == [[True, True, False]]
    assert to_numpy(add.compute_mask([x, x], [one, two])).tolist() == [[True, False, False]]
    assert add.compute_mask([x, x], [None, None]) is None


def test_concatenate_counts_a_missing_mask_as_visible():
    x, y = (tensor(np.zeros((1, n, 2), "float32")) for n in (2, 1))
    mask = layers.Concatenate1D().compute_mask([x, y], [tensor(np.array([[True, False]])), None])
    assert to_numpy(mask).tolist() == [[True, False, True]]


def test_pooling_leaves_padding_out():
    x = np.random.RandomState(0).normal(size=(2, 4, 3)).astype("float32")
    mask = np.array([[True, True, False, False], [True, True, True, True]])
    average = to_numpy(layers.GlobalAveragePooling1D()(tensor(x), mask=tensor(mask)))
    np.testing.assert_allclose(average[0], x[0, :2].mean(0), atol=1e-6)
    np.testing.assert_allclose(average[1], x[1].mean(0), atol=1e-6)
    largest = to_numpy(layers.GlobalMaxPooling1D()(tensor(x), mask=tensor(mask)))
    np.testing.assert_allclose(largest[0], x[0, :2].max(0))


def test_pooling_of_nothing_is_finite():
    x, mask = tensor(np.ones((1, 2, 3), "float32")), tensor(np.zeros((1, 2), bool))
    for pool in (layers.GlobalAveragePooling1D(), layers.GlobalMaxPooling1D()):
        assert np.isfinite(to_numpy(pool(x, mask=mask))).all()


def test_unilm_mask_shows_the_prefix_whole_and_the_rest_left_to_right():
    segments = tensor(np.array([[0, 0, 1, 1]]))
    mask = to_numpy(layers.UnifiedLanguageModelMask()(segments))[0].astype(int)
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_unilm_mask_counts_further_than_bfloat16_can(policy):
    n = 600
    segments = tensor(np.ones((1, n), "float32"))
    mask = to_numpy(layers.UnifiedLanguageModelMask(dtype=policy)(segments))[0]
    assert np.array_equal(mask, np.tril(np.ones((n, n), bool)))


def test_ids_beyond_256_survive_a_bfloat16_policy():
    table = layers.Embedding(2000, 4, dtype="mixed_bfloat16")
    ids = np.array([[257, 1023, 1999]], "float32")
    rows = to_numpy(table(tensor(ids))).astype("float32")[0]
    stored = to_numpy(table.embeddings.value)[[257, 1023, 1999]]
    np.testing.assert_allclose(rows, stored, atol=1e-3)


def test_masked_scores_are_far_below_every_score_and_finite():
    mask = tensor(np.array([[True, False], [True, True]]))
    scores = tensor(np.full((1, 1, 2, 2), 3.0, "float32"))
    for policy, low in (("float32", -1e29), ("mixed_float16", -2e4)):
        out = to_numpy(layers.MaskScores(dtype=policy)([mask, scores])).astype("float32")[0, 0]
        assert np.isfinite(out).all()
        assert out[0, 1] < low
        assert (out[[0, 1, 1], [0, 0, 1]] == 3.0).all()


def test_a_loss_layer_adds_its_loss_and_returns_what_is_asked():
    class Product(layers.Loss):
        def compute_loss(self, inputs, mask=None):
            return keras.ops.mean(inputs[0] * inputs[1])

    x = [np.full((2, 3), 2.0, "float32"), np.full((2, 3), 5.0, "float32")]
    inputs = [keras.Input((3,)), keras.Input((3,))]
    for axis, count in ((None, 2), (1, 1), ([0], 1)):
        loss = Product(axis)
        model = keras.Model(inputs, loss(inputs))
        assert len(model.outputs) == count
        model.compile("sgd")
        assert model.evaluate(x, verbose=0) == pytest.approx(10.0)


def test_a_sequence_longer_than_the_positions_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"9 tokens.*8 positions.*hierarchical_position"):
        layers.PositionEmbedding(8, 4)(tensor(np.zeros((1, 9, 4), "float32")))
