"""The last block for [CLS] alone: the numbers of the whole model, and the model left as it was."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tiny_models import tiny_model

from bert4kexue.models.first_token import first_token_model

IDS = np.array([[2, 7, 9, 3, 8, 11, 3, 0, 0], [2, 5, 3, 6, 3, 0, 0, 0, 0]], np.int32)
SEGMENTS = (np.cumsum(IDS == 3, 1) - (IDS == 3)).clip(0, 1).astype(np.int32)


@pytest.mark.parametrize(
    ("family", "options"), [("bert", {"with_nsp": True}), ("roformer", {"with_pool": "linear"})]
)
def test_what_is_made_of_the_first_token_is_the_whole_models(family, options):
    model = tiny_model(family=family, **options)
    model = keras.Model(model.inputs, model.outputs[0])
    for weight in model.weights:  # so that the numbers differ visibly
        weight.assign(
            weight + 0.3 * np.random.default_rng(len(weight.shape)).normal(size=weight.shape)
        )
    fast = first_token_model(model)
    assert fast is not model
    expected = np.asarray(model.predict_on_batch([IDS, SEGMENTS]))
    np.testing.assert_allclose(fast.predict_on_batch([IDS, SEGMENTS]), expected, atol=1e-6)
    # no layer was called anew: scripts may still ask a layer for its one input and output
    for layer in model.layers:
        if not layer.name.startswith("Input"):
            assert layer.output is not None
    assert {id(v) for v in fast.weights} == {id(v) for v in model.weights}


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("roformer", {"application": "unilm", "with_nsp": True}),
        ("bert", {"application": "unilm", "with_nsp": True}),
    ],
)
def test_what_is_no_plain_block_stays_as_it_is(family, options):
    model = tiny_model(family=family, **options)
    one = keras.Model(model.inputs, model.outputs[0])
    assert first_token_model(one) is one


def test_a_model_of_every_token_stays_as_it_is():
    model = tiny_model(family="bert")
    assert first_token_model(model) is model


def test_fewer_queries_than_keys_stand_at_the_first_positions():
    model = tiny_model(family="roformer")
    attention = next(x for x in model.layers if x.name.endswith("MultiHeadSelfAttention"))
    rng = np.random.default_rng(0)
    x, positions = rng.normal(size=(2, 5, 16)), rng.normal(size=(1, 5, 8))
    x, positions = (keras.ops.convert_to_tensor(a, "float32") for a in (x, positions))
    whole = attention([x, x, x, positions], p_bias="rotary")
    for n in (1, 2):
        found = attention([x[:, :n], x, x, positions], p_bias="rotary")
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(whole)[:, :n], atol=1e-6
        )
