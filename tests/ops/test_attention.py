"""The three normalizations of attention scores against NumPy, and bad input."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bert4kexue.ops.attention import attention_normalize
from bert4kexue.ops.masking import to_rank_four

SCORES = np.random.RandomState(0).normal(size=(2, 3, 4, 5)) * 2
MASK = np.random.RandomState(1).rand(2, 1, 4, 5) < 0.6
MASK[..., 0] = True


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(method, mask):
    mask = np.broadcast_to(True if mask is None else mask, SCORES.shape)
    count = mask.sum(-1, keepdims=True)
    if method == "softmax":
        return softmax(np.where(mask, SCORES, -np.inf))
    if method == "squared_relu":
        return np.where(mask, np.maximum(SCORES, 0) ** 2 / count, 0)
    stretch = np.log(np.maximum(count, 16)) / np.log(512)
    return softmax(np.where(mask, SCORES * stretch, -np.inf))


@pytest.mark.parametrize("method", ["softmax", "squared_relu", "softmax_plus"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["open", "masked"])
def test_normalization_is_its_formula(method, mask):
    scores = keras.ops.convert_to_tensor(SCORES.astype("float32"))
    tensor = None if mask is None else keras.ops.convert_to_tensor(mask)
    weights = keras.ops.convert_to_numpy(attention_normalize(scores, tensor, method=method))
    np.testing.assert_allclose(weights, by_hand(method, mask), atol=1e-6)


def test_a_number_bias_is_added_before_the_mask():
    scores = keras.ops.convert_to_tensor(SCORES.astype("float32"))
    bias = np.random.RandomState(2).normal(size=(2, 4, 5))
    weights = attention_normalize(scores, bias=keras.ops.convert_to_tensor(bias.astype("float32")))
    expected = softmax(SCORES + bias[:, None])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(weights), expected, atol=1e-6)


def test_an_unknown_method_and_a_wrong_rank_are_refused():
    with pytest.raises(ValueError, match="normalization='sparsemax'"):
        attention_normalize(keras.ops.ones((1, 1, 2, 2)), method="sparsemax")
    with pytest.raises(ValueError, match=r"not \(2, 3, 4, 5, 6\)"):
        to_rank_four(np.zeros((2, 3, 4, 5, 6)))
