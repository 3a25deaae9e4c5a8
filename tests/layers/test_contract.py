"""Every layer passes the contract of ``_harness.check_layer``."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from _harness import check_layer

from bert4kexue import layers

RANDOM = np.random.RandomState(0)
IDS = RANDOM.randint(1, 20, (3, 6)).astype("int32")
SEGMENTS = np.repeat([[0, 0, 0, 1, 1, 1]], 3, axis=0).astype("int32")
X = RANDOM.normal(size=(3, 6, 8)).astype("float32")
CONDITION = RANDOM.normal(size=(3, 5)).astype("float32")
TABLE = RANDOM.normal(size=(3, 6, 4)).astype("float32")
ORDER = np.cumsum(SEGMENTS, axis=1, dtype="int32")
ALLOWED = RANDOM.rand(3, 6, 6) < 0.7

make = functools.partial

CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "embedding": (make(layers.Embedding, 20, 8, mask_zero=True), IDS, {}),
    "position add": (make(layers.PositionEmbedding, 6, 8), X, {}),
    "position mul": (make(layers.PositionEmbedding, 6, 8, merge_mode="mul"), X, {}),
    "position zero": (make(layers.PositionEmbedding, 6, 5, merge_mode="zero"), X, {}),
    "position concat": (make(layers.PositionEmbedding, 6, 5, merge_mode="concat"), X, {}),
    "position hierarchical": (make(layers.PositionEmbedding, 3, 8, hierarchical=True), X, {}),
    "position custom": (
        make(layers.PositionEmbedding, 20, 8, custom_position_ids=True),
        [X, IDS],
        {},
    ),
    "sinusoid": (make(layers.SinusoidalPositionEmbedding, 8), X, {}),
    "sinusoid custom": (
        make(layers.SinusoidalPositionEmbedding, 4, merge_mode="zero", custom_position_ids=True),
        [X, IDS],
        {},
    ),
    "sinusoid interpolated": (
        make(layers.SinusoidalPositionEmbedding, 8, interpolation=2.5),
        X,
        {},
    ),
    "add": (layers.Add, [X, X[:, ::-1]], {}),
    "concatenate": (layers.Concatenate1D, [X, X[:, :2]], {}),
    "first token": (layers.FirstToken, X, {}),
    "scale offset": (layers.ScaleOffset, X, {}),
    "constant scale": (make(layers.ScaleOffset, scale=0.5, offset=False), X, {}),
    "norm": (make(layers.LayerNormalization, epsilon=1e-12), X, {}),
    "rms norm": (make(layers.LayerNormalization, zero_mean=False, offset=False), X, {}),
    "conditional norm": (make(layers.LayerNormalization, conditional=True), [X, CONDITION], {}),
    "conditional norm, hidden": (
        make(
            layers.LayerNormalization, conditional=True, hidden_units=3, hidden_activation="swish"
        ),
        [X, CONDITION],
        {},
    ),
    "feed forward": (make(layers.FeedForward, 16, activation="gelu"), X, {}),
    "gated feed forward": (
        make(layers.FeedForward, 16, activation=["gelu", "linear"], use_bias=False),
        X,
        {},
    ),
    "attention": (make(layers.MultiHeadAttention, 2, 4), [X, X, X], {}),
    "attention, sizes": (
        make(layers.MultiHeadAttention, 2, 3, out_dim=5, key_size=4, use_bias=False),
        [X, X[:, :4], X[:, :4]],
        {},
    ),
    "attention, mask": (
        make(layers.MultiHeadAttention, 2, 4),
        [X, X, X, ALLOWED],
        {"a_bias": True},
    ),
    "attention, rotary": (
        make(layers.MultiHeadAttention, 2, 4),
        [X, X, X, TABLE],
        {"p_bias": "rotary"},
    ),
    "attention, squared relu": (
        make(layers.MultiHeadAttention, 2, 4, normalization="squared_relu"),
        [X, X, X],
        {},
    ),
    "attention, softmax plus": (
        make(layers.MultiHeadAttention, 2, 4, normalization="softmax_plus"),
        [X, X, X],
        {},
    ),
    "attention, chunks": (
        make(layers.MultiHeadAttention, 2, 4, query_chunk=4, log_n_scaling=3),
        [X, X, X, SEGMENTS],
        {"a_bias": "order"},
    ),
    "attention, fused": (
        make(layers.MultiHeadAttention, 2, 4, fused=True),
        [X, X, X, ALLOWED],
        {"a_bias": True},
    ),
    "attention, scores": (
        make(layers.MultiHeadAttention, 2, 4, return_attention_scores=True),
        [X, X, X],
        {},
    ),
    "linear attention": (make(layers.LinearAttention, 2, 4), [X, X, X], {}),
    "linear attention, rotary, exponential": (
        make(layers.LinearAttention, 2, 4, feature_map="dsoftmax"),
        [X, X, X, TABLE],
        {"p_bias": "rotary"},
    ),
    "linear attention, prefix, random": (
        make(
            layers.LinearAttention,
            2,
            4,
            feature_map={"kind": "performer", "features": 8, "seed": 0},
        ),
        [X, X, X, ORDER],
        {"a_bias": "order"},
    ),
    "linear attention, polynomial": (
        make(layers.LinearAttention, 2, 3, out_dim=5, key_size=4, feature_map="taylor"),
        [X, X[:, :4], X[:, :4]],
        {},
    ),
    "average pooling": (layers.GlobalAveragePooling1D, X, {}),
    "max pooling": (layers.GlobalMaxPooling1D, X, {}),
    "projection": (make(layers.RandomProjection, 5, seed=1), X, {}),
    "hadamard projection": (make(layers.RandomProjection, 5, kind="hadamard", seed=1), X, {}),
    "lm mask": (layers.LanguageModelMask, X, {}),
    "unilm mask": (layers.UnifiedLanguageModelMask, SEGMENTS, {}),
    "lm mask, numbers": (make(layers.LanguageModelMask, as_order=True), X, {}),
    "unilm mask, numbers": (
        make(layers.UnifiedLanguageModelMask, as_order=True),
        SEGMENTS,
        {},
    ),
    "document mask": (layers.DocumentMask, SEGMENTS, {}),
    "gaussian sampling": (layers.GaussianSampling, [X[:, 0], X[:, 1], X], {}),
    "divergence": (layers.StandardNormalKL, [X[:, 0], X[:, 1]], {}),
}


@pytest.mark.parametrize("name", CASES)
def test_layer_keeps_the_contract(name, tmp_path):
    constructor, inputs, arguments = CASES[name]
    check_layer(constructor, inputs, tmp_path, arguments=arguments)


def test_every_public_layer_is_under_the_contract():
    tested = {getattr(case[0], "func", case[0]) for case in CASES.values()}
    public = {
        value
        for value in vars(layers).values()
        if isinstance(value, type) and value.__name__ not in ("KeyValueCache", "Loss", "MaskScores")
    }
    assert public <= tested
