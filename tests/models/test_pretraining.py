"""The losses of pretraining against their definitions in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _reference import random_checkpoint
from _tiny import CONFIG

from bert4kexue.models import build_transformer_model
from bert4kexue.training.pretraining import Pretrainer, WarmupDecay, contrast_loss, score_loss


def number(tensor):
    return float(keras.ops.convert_to_numpy(tensor))


@pytest.fixture(scope="module")
def pretrainer():
    builder = build_transformer_model(
        CONFIG,
        random_checkpoint(CONFIG, "roformer", seed=1),
        model="roformer",
        application="unilm",
        with_pool="linear",
        with_mlm="linear",
        return_keras_model=False,
    )
    last = builder.layers[f"Transformer-{CONFIG['num_hidden_layers'] - 1}-FeedForward-Norm"]
    body = keras.Model(builder.inputs, [last.output, builder.outputs[0]])
    some = keras.Input((None, CONFIG["hidden_size"]))
    head = keras.Model(some, builder.apply_final_layers(some)[1])
    return Pretrainer({"unilm": body}, head), builder.model


def test_only_the_asked_tokens_count(pretrainer):
    model, whole = pretrainer
    rng = np.random.default_rng(0)
    token_ids = rng.integers(5, CONFIG["vocab_size"], (3, 7)).astype("int32")
    segment_ids = np.zeros_like(token_ids)
    positions = np.array([[1, 4, 0], [2, 0, 0], [6, 5, 3]], "int32")
    weights = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]], "float32")
    labels = rng.integers(0, CONFIG["vocab_size"], (3, 3)).astype("int32")
    batch = {
        "token_ids": token_ids,
        "segment_ids": segment_ids,
        "positions": positions,
        "labels": labels,
        "weights": weights,
    }
    _, logits = whole([token_ids, segment_ids], training=False)
    logits = keras.ops.convert_to_numpy(logits).astype(np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = [
        logp[i, positions[i, j], labels[i, j]] for i in range(3) for j in range(3) if weights[i, j]
    ]
    assert number(model(batch)) == pytest.approx(-np.mean(picked), abs=1e-5)


def test_contrast_is_softmax_over_the_others():
    rng = np.random.default_rng(1)
    v = rng.normal(size=(6, 4))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    weights = np.array([1, 1, 1, 1, 0, 0], "float32")
    real = np.flatnonzero(weights)
    terms = []
    for i in real:
        others = [j for j in real if j != i]
        scores = np.array([20 * v[i] @ v[j] for j in others])
        terms.append(np.log(np.exp(scores).sum()) - 20 * v[i] @ v[i ^ 1])
    found = contrast_loss(
        {"pair_weights": weights}, keras.ops.convert_to_tensor(v, "float32"), 20.0
    )
    assert float(found) == pytest.approx(np.mean(terms), abs=1e-4)


def test_cosent_compares_every_two_pairs():
    rng = np.random.default_rng(2)
    v = rng.normal(size=(8, 4))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    scores, weights = np.array([3, 1, 3, -1], "float32"), np.array([1] * 6 + [0] * 2, "float32")
    cosine = np.array([v[2 * i] @ v[2 * i + 1] for i in range(4)])
    total = 1.0
    for i in range(3):
        for j in range(3):
            if scores[i] > scores[j]:
                total += np.exp(20 * (cosine[j] - cosine[i]))
    found = score_loss(
        {"pair_weights": weights, "scores": scores}, keras.ops.convert_to_tensor(v, "float32"), 20.0
    )
    assert float(found) == pytest.approx(np.log(total), rel=1e-4)


def test_training_lowers_the_loss(pretrainer):
    model, _ = pretrainer
    rng = np.random.default_rng(3)
    token_ids = rng.integers(5, CONFIG["vocab_size"], (8, 6)).astype("int32")
    batch = {
        "token_ids": token_ids,
        "segment_ids": np.zeros_like(token_ids),
        "positions": np.tile(np.arange(3, dtype="int32"), (8, 1)),
        "labels": token_ids[:, :3].copy(),
        "weights": np.ones((8, 3), "float32"),
    }
    pairs = {
        "token_ids": token_ids,
        "segment_ids": np.zeros_like(token_ids),
        "pair_weights": np.ones(8, "float32"),
    }
    model.compile(optimizer=keras.optimizers.AdamW(3e-3))
    first = [number(model(b)) for b in (batch, pairs)]
    for _ in range(15):
        for b in (batch, pairs):
            model.train_on_batch(b)
    last = [number(model(b)) for b in (batch, pairs)]
    assert all(after < before for after, before in zip(last, first, strict=True))


def test_accumulated_gradients_are_the_mean_of_their_batches(pretrainer):
    model, _ = pretrainer
    rng = np.random.default_rng(4)
    batches = []
    for _ in range(2):
        token_ids = rng.integers(5, CONFIG["vocab_size"], (4, 6)).astype("int32")
        batches.append(
            {
                "token_ids": token_ids,
                "segment_ids": np.zeros_like(token_ids),
                "positions": np.tile(np.arange(3, dtype="int32"), (4, 1)),
                "labels": token_ids[:, :3].copy(),
                "weights": np.ones((4, 3), "float32"),
            }
        )
    start = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]

    def steps(batches, **options):
        for variable, value in zip(model.trainable_variables, start, strict=True):
            variable.assign(value)
        model.compile(optimizer=keras.optimizers.SGD(0.5, **options))
        for batch in batches:
            model.train_on_batch(batch)
        return [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]

    alone = [steps([batch]) for batch in batches]
    both = steps(batches, gradient_accumulation_steps=2)
    waiting = steps(batches[:1], gradient_accumulation_steps=2)
    for variable, value in zip(model.trainable_variables, start, strict=True):
        variable.assign(value)
    for before, first, second, after, idle in zip(start, *alone, both, waiting, strict=True):
        np.testing.assert_allclose(after - before, (first + second) / 2 - before, atol=2e-6)
        np.testing.assert_array_equal(idle, before)
    assert max(np.abs(a - b).max() for a, b in zip(both, start, strict=True)) > 1e-3


def test_a_batch_that_needs_what_is_not_there_is_told(pretrainer):
    model, _ = pretrainer
    ids = np.ones((2, 3), "int32")
    with pytest.raises(ValueError, match="needs the mask 'bidirectional'"):
        model({"token_ids": ids, "segment_ids": ids, "is_next": ids[:, 0]})


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_the_rate_rises_and_falls(decay):
    schedule = WarmupDecay(0.1, steps=100, warmup=10, decay=decay, floor=0.01)
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[9] == rates[10] == pytest.approx(0.1)
    end = 0.1 if decay == "constant" else 0.001
    assert rates[100] == pytest.approx(end)
    assert rates[55] == pytest.approx({"linear": 0.0505, "cosine": 0.0505, "constant": 0.1}[decay])
    again = WarmupDecay(**schedule.get_config())
    assert float(again(50)) == float(schedule(50))
    with pytest.raises(ValueError, match="below steps=5"):
        WarmupDecay(0.1, steps=5, warmup=5)
