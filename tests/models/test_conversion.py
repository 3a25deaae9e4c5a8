"""Softmax attention swapped for linear attention in a model that is there."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _harness import to_numpy
from tiny_models import tiny_model

from bert4kexue.layers import LinearAttention
from bert4kexue.models.conversion import attention_drift, convert_attention

INPUTS = [
    np.array([[2, 9, 6, 7, 3], [2, 8, 3, 0, 0]], "float32"),
    np.array([[0, 0, 0, 1, 1], [0, 0, 1, 0, 0]], "float32"),
]


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
def test_a_converted_model_is_one_that_was_built_so(application):
    before = tiny_model(application=application, with_mlm=True)
    built = tiny_model(
        seed=5, application=application, with_mlm=True, attention="linear", feature_map="taylor"
    )
    built.set_weights(before.get_weights())
    converted = convert_attention(before, "taylor")
    np.testing.assert_allclose(
        to_numpy(converted(INPUTS)), to_numpy(built(INPUTS)), atol=1e-6, rtol=1e-5
    )
    assert type(before.get_layer("Transformer-0-MultiHeadSelfAttention")) is not LinearAttention


def test_drift_is_small_where_scores_are_and_counts_the_layers_before():
    model = tiny_model(application="unilm")
    drift = attention_drift(model, convert_attention(model, "taylor"), INPUTS)
    assert [d.layer[:13] for d in drift] == ["Transformer-0", "Transformer-1", "output"]
    assert drift[0].alone == pytest.approx(drift[0].together, rel=1e-5)
    assert all(d.together < 1e-3 for d in drift)  # fresh weights are small, and so are scores
    far = attention_drift(model, convert_attention(model, "cos1"), INPUTS)
    assert far[0].alone > drift[0].alone
    assert far[2].alone is None


def test_what_cannot_be_converted_is_refused():
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match=r"has no MultiHeadAttention among its layers"):
        convert_attention(keras.Model(inputs, keras.layers.Dense(2)(inputs)), "elu1")
    with pytest.raises(ValueError, match=r"hands its scores on \(residual_attention_scores\)"):
        convert_attention(tiny_model(residual_attention_scores=True), "elu1")
    with pytest.raises(ValueError, match=r"'elu' is unknown"):
        convert_attention(tiny_model(), "elu")
