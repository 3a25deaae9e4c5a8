"""Rematerialized layers give the numbers, the gradients and the dropout of ordinary ones."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _tiny import CONFIG

from bert4kexue.layers import FeedForward, LayerNormalization, MultiHeadAttention
from bert4kexue.models import build_transformer_model


def trained(rematerialize, dropout=0.3, family="roformer", application="unilm"):
    """Losses and weights of three steps, from the same seed."""
    keras.utils.set_random_seed(1)
    model = build_transformer_model(
        {**CONFIG, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout},
        model=family,
        application=application,
        with_mlm="linear",
        rematerialize=rematerialize,
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    rng = np.random.default_rng(0)
    ids = rng.integers(1, CONFIG["vocab_size"], (4, 8)).astype("int32")
    ids[1, 5:] = 0
    segments = np.repeat([[0, 0, 0, 0, 1, 1, 1, 1]], 4, axis=0)
    losses = [float(model.train_on_batch([ids, segments], ids)) for _ in range(3)]
    return losses, [keras.ops.convert_to_numpy(v) for v in model.trainable_variables], model


@pytest.mark.parametrize(
    ("dropout", "family", "application"),
    [(0.3, "roformer", "unilm"), (0.3, "bert", "lm"), (0.0, "bert", "encoder")],
)
def test_training_is_the_same(dropout, family, application):
    (losses, weights, _), (again, weights_again, model) = (
        trained(flag, dropout, family, application) for flag in (False, True)
    )
    chosen = [x for x in model.layers if x._remat_mode is not None]
    kinds = {type(x) for x in chosen}
    assert {MultiHeadAttention, FeedForward, LayerNormalization} <= kinds
    np.testing.assert_allclose(losses, again, rtol=1e-5)
    for one, other in zip(weights, weights_again, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    assert losses[-1] < losses[0]


def test_dropout_goes_on_drawing():
    losses = trained(True, dropout=0.5)[0]
    assert len(set(losses)) == 3


def test_mixed_precision(monkeypatch):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        (losses, _, _), (again, _, _) = (trained(flag) for flag in (False, True))
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_allclose(losses, again, rtol=2e-2)


def test_a_scope_of_keras_is_obeyed():
    with keras.RematScope(mode="list_of_layers", layer_names=["f"]):
        chosen = FeedForward(8, activation="gelu", name="f")
        other = FeedForward(8, activation="gelu", name="g")
    x = np.ones((1, 2, 4), "float32")
    for layer in (chosen, other):
        layer(x)
    called = []
    for layer in (chosen, other):
        layer._recomputed = lambda *a, name=layer.name: called.append(name) or x
        layer(x)
    assert called == ["f"]
