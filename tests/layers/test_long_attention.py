"""Attention of long inputs: in chunks, in the backend's own operation, beyond the trained length.

Each is held against float64 NumPy, or against the plain layer that such tests have proven.
"""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from _harness import randomize, to_numpy
from _reference import attention, softmax
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.layers import MultiHeadAttention
from bert4kexue.ops.attention import (
    attention_normalize,
    attention_scores,
    fused_attention,
    weighted_values,
)
from bert4kexue.ops.chunked_attention import by_query_chunks
from bert4kexue.ops.masking import causal_mask, causal_order, order_mask, unilm_mask, unilm_order
from bert4kexue.ops.positions import sinusoidal_embeddings

HEADS, SIZE, HIDDEN = 2, 4, 8
KINDS = ("open", "padding", "lm", "unilm", "rows", "heads", "numbers", "lm order", "unilm order")


def tensor(x):
    return None if x is None else keras.ops.convert_to_tensor(x)


def masks(kind, random, b, n):
    """A layer's key mask, its bias with ``a_bias``, and what both hide, (b, h, n, n)."""
    keys = random.rand(b, n) < 0.7
    keys[:, 0] = True
    seen = np.broadcast_to(keys[:, None, None, :], (b, HEADS, n, n))
    lower = np.tril(np.ones((n, n), bool))
    segments = (np.arange(n) >= random.randint(1, n + 1, (b, 1))).astype("int32")
    order = np.cumsum(segments, 1)
    unilm = (order[:, None, :] <= order[:, :, None])[:, None]
    if kind == "open":
        return None, None, False, np.ones((b, HEADS, n, n), bool), 0.0
    if kind == "padding":
        return keys, None, False, seen, 0.0
    if kind == "lm":
        return keys, lower, True, seen & lower, 0.0
    if kind == "unilm":
        return keys, unilm[:, 0], True, seen & unilm, 0.0
    if kind == "lm order":
        return keys, np.arange(n, dtype="int32")[None], "order", seen & lower, 0.0
    if kind == "unilm order":
        return keys, order, "order", seen & unilm, 0.0
    if kind == "numbers":
        added = random.normal(size=(b, HEADS, n, n)).astype("float32")
        return keys, added, True, seen, added.astype("float64")
    some = random.rand(b, HEADS if kind == "heads" else 1, n, n) < 0.6
    some[..., 0] = True
    return keys, some if kind == "heads" else some[:, 0], True, seen & some, 0.0


def twins(**options):
    """A plain layer, and one of the same weights with these options."""
    pair = MultiHeadAttention(HEADS, SIZE), MultiHeadAttention(HEADS, SIZE, **options)
    for layer in pair:
        layer.build([(None, None, HIDDEN)] * 3)
        randomize(layer)
    return pair


@given(
    st.integers(0, 10**6),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 11),
    st.sampled_from(KINDS),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_chunks_and_the_fused_operation_equal_the_whole(seed, b, n, chunk, kind, rotary):
    random = np.random.RandomState(seed)
    key_mask, bias, a_bias, _, _ = masks(kind, random, b, n)
    x = tensor(random.normal(size=(b, n, HIDDEN)).astype("float32"))
    inputs = [x, x, x] + ([] if bias is None else [tensor(bias)])
    p_bias = "rotary" if rotary else None
    if rotary:
        inputs.append(sinusoidal_embeddings(np.arange(n)[None], SIZE))
    options = {"mask": [None, None, tensor(key_mask)], "a_bias": a_bias, "p_bias": p_bias}
    for changed in ({"query_chunk": chunk}, {"fused": True}, {"query_chunk": chunk, "fused": True}):
        plain, other = twins(**changed)
        whole, parts = to_numpy(plain(inputs, **options)), to_numpy(other(inputs, **options))
        np.testing.assert_allclose(parts, whole, atol=2e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"query_chunk": 3}, {"fused": True}], ids=str)
def test_scores_beyond_the_trained_length_grow_with_its_logarithm(kind, options):
    """softmax(max(1, log l / log N) s) over the l keys that a query sees: N = 4, up to 11 keys."""
    random = np.random.RandomState(3)
    b, n, trained = 2, 11, 4
    key_mask, bias, a_bias, seen, added = masks(kind, random, b, n)
    x = random.normal(size=(b, n, HIDDEN)).astype("float32")
    plain, layer = twins(log_n_scaling=trained, **options)
    inputs = [tensor(x)] * 3 + ([] if bias is None else [tensor(bias)])
    given = {"mask": [None, None, tensor(key_mask)], "a_bias": a_bias}
    computed = to_numpy(layer(inputs, **given))

    weights = {w.path.split("/", 1)[-1]: to_numpy(w.value).astype("float64") for w in layer.weights}

    def project(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    heads = (project(x.astype("float64"), f"{k}_dense").reshape(b, n, HEADS, SIZE) for k in "qkv")
    q, k, v = heads
    scores = np.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(SIZE) + added
    factor = np.maximum(1.0, np.log(seen.sum(-1, keepdims=True)) / math.log(trained))
    assert factor.max() > 1.2
    mixed = np.einsum("bhnm,bmhe->bnhe", softmax(np.where(seen, scores * factor, -np.inf)), v)
    expected = project(mixed.reshape(b, n, -1), "o_dense")
    np.testing.assert_allclose(computed, expected, atol=1e-5, rtol=0)
    short = [tensor(x[:, :3])] * 3
    np.testing.assert_allclose(to_numpy(layer(short)), to_numpy(plain(short)), atol=2e-6)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-6), ("bfloat16", 4e-2)])
@pytest.mark.parametrize("kind", ["open", "padding", "lm", "unilm", "heads", "hidden"])
def test_the_fused_operation_is_attention_in_either_precision(dtype, bound, kind):
    random = np.random.RandomState(0)
    b, n = 3, 20
    _, _, _, seen, _ = masks("padding" if kind == "hidden" else kind, random, b, n)
    seen = seen.copy()
    if kind == "hidden":
        seen[0] = False  # a whole row: its weights are even, not NaN and not of hidden scores
    q, k, v = (
        keras.ops.cast(tensor(random.normal(size=(b, n, HEADS, 16)).astype("float32")), dtype)
        for _ in range(3)
    )
    mask = tensor(seen)
    ours = weighted_values(attention_normalize(attention_scores(q, k), mask), v)
    fused = fused_attention(q, k, v, mask)
    q, k, v, ours, fused = (
        to_numpy(keras.ops.cast(t, "float32")).astype("float64") for t in (q, k, v, ours, fused)
    )
    raw = np.einsum("bnhd,bmhd->bhnm", q, k) / 4.0
    exact = np.einsum("bhnm,bmhe->bnhe", softmax(np.where(seen, raw, -1e30)), v)
    np.testing.assert_allclose(ours, exact, atol=bound, rtol=0)
    np.testing.assert_allclose(fused, exact, atol=bound, rtol=0)


def test_chunks_and_the_fused_operation_are_the_layer_in_mixed_bfloat16():
    """Under every mask, against the float32 layer of the same weights."""
    random = np.random.RandomState(4)
    b, n = 2, 7
    x = random.normal(size=(b, n, HIDDEN)).astype("float32")
    for kind in KINDS:
        key_mask, bias, a_bias, _, _ = masks(kind, random, b, n)
        inputs = [tensor(x)] * 3 + ([] if bias is None else [tensor(bias)])
        options = {"mask": [None, None, tensor(key_mask)], "a_bias": a_bias}
        for changed in ({"fused": True}, {"query_chunk": 3, "fused": True}):
            plain, half = twins(**changed, dtype="mixed_bfloat16")
            whole = to_numpy(plain(inputs, **options))
            found = half(inputs, **options)
            assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
            found = to_numpy(keras.ops.cast(found, "float32"))
            # Eight bits: a dozen of their roundings of the largest number.
            np.testing.assert_allclose(found, whole, atol=0.05 * np.abs(whole).max(), rtol=0)


def test_float16_is_never_left_to_the_fused_operation(monkeypatch):
    """Its products may overflow there, and a hidden row is not even."""
    from bert4kexue.layers import attention as module

    def refuse(*args, **kwargs):
        raise AssertionError("fused in float16")

    monkeypatch.setattr(module, "fused_attention", refuse)
    x = tensor(np.ones((2, 3, HIDDEN), "float32") * 300)
    layer = MultiHeadAttention(HEADS, SIZE, fused=True, dtype="mixed_float16")
    assert np.isfinite(to_numpy(layer([x, x, x])).astype("float32")).all()
    with pytest.raises(AssertionError, match="fused in float16"):
        MultiHeadAttention(HEADS, SIZE, fused=True)([x, x, x])


def test_gradients_of_chunks_are_those_of_the_whole():
    x = np.random.RandomState(0).normal(size=(2, 7, HIDDEN)).astype("float32")
    symbol = keras.Input((None, HIDDEN))
    moved = []
    for options in ({}, {"query_chunk": 3}, {"query_chunk": 3, "fused": True}):
        _, layer = twins(**options)
        model = keras.Model(symbol, layer([symbol] * 3))
        before = [w.copy() for w in layer.get_weights()]
        model.compile(keras.optimizers.SGD(1.0), "mse")
        model.train_on_batch(x, np.zeros_like(x))
        moved.append([a - b for a, b in zip(before, layer.get_weights(), strict=True)])
    assert max(np.abs(g).max() for g in moved[0]) > 0.01
    for other in moved[1:]:
        for g, h in zip(moved[0], other, strict=True):
            np.testing.assert_allclose(h, g, atol=1e-6, rtol=0)


def test_a_chunk_never_meets_more_queries_than_it_says():
    sizes = []

    def attend(q, k, v, visible, added):
        sizes.append((q.shape[1], None if visible is None else tuple(visible.shape)))
        return v[:, : q.shape[1]]

    x = tensor(np.zeros((1, 8, 2, 4), "float32"))
    by_query_chunks(attend, x, x, x, chunk=3, order=causal_order(8))
    assert set(sizes) == {(3, (1, 1, 3, 8))}


def test_orders_are_the_masks():
    segments = tensor(np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 1]], "int32"))
    order = unilm_order(segments)
    assert (to_numpy(order_mask(order, order)) == to_numpy(unilm_mask(segments))).all()
    order = causal_order(5)
    assert (to_numpy(order_mask(order, order))[0] == to_numpy(causal_mask(5))).all()


def test_interpolated_positions_lie_among_the_trained_ones():
    from bert4kexue.layers import SinusoidalPositionEmbedding

    x = tensor(np.zeros((1, 8, 3), "float32"))
    table = to_numpy(SinusoidalPositionEmbedding(6, "zero", interpolation=2.0)(x))
    angles = (np.arange(8) / 2.0)[:, None] * 10000.0 ** (-np.arange(0, 6, 2) / 6)
    np.testing.assert_allclose(table[0, :, 0::2], np.sin(angles), atol=1e-6)
    np.testing.assert_allclose(table[0, :, 1::2], np.cos(angles), atol=1e-6)
    q = np.random.RandomState(0).normal(size=(1, 4, 1, 6))
    # Attention at twice the distance is that of the trained distance.
    far = attention(q, q, q, positions=np.arange(0, 8, 2)[None] / 2.0)[1]
    near = attention(q, q, q, positions=np.arange(4)[None])[1]
    np.testing.assert_allclose(far, near, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_chunk": 0}, "query_chunk=0 must be None or a whole number of 1 or more"),
        ({"query_chunk": 2.5}, "query_chunk=2.5 must be None or a whole number"),
        ({"log_n_scaling": 1}, "log_n_scaling=1 must be None or a whole number of 2 or more"),
        (
            {"query_chunk": 4, "return_attention_scores": True},
            "query_chunk=4 never holds all scores",
        ),
        ({"fused": True, "normalization": "squared_relu"}, "fused=True computes a softmax"),
    ],
)
def test_options_that_contradict_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(HEADS, SIZE, **options)


def test_dropout_of_chunks_is_refused_in_training_alone():
    x = tensor(np.ones((1, 5, HIDDEN), "float32"))
    layer = MultiHeadAttention(HEADS, SIZE, query_chunk=2, attention_dropout=0.1)
    layer([x, x, x])
    with pytest.raises(ValueError, match="drops weights that query_chunk=2 never holds together"):
        layer([x, x, x], training=True)


def test_positions_that_enter_the_scores_are_not_cut(monkeypatch):
    from bert4kexue.layers import position_bias

    added = position_bias.PositionBias(add=lambda tensor, scores, query: scores + tensor)
    monkeypatch.setitem(position_bias.POSITION_BIASES, "added", added)
    x = tensor(np.ones((1, 5, HIDDEN), "float32"))
    layer = MultiHeadAttention(HEADS, SIZE, query_chunk=2)
    with pytest.raises(ValueError, match="does not know how to cut p_bias='added'"):
        layer([x, x, x, tensor(np.zeros((5, 5), "float32"))], p_bias="added")
