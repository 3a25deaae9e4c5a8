"""Attention against float64 NumPy, its masks, and its cached step."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _harness import randomize, to_numpy
from _reference import attention
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.layers import MultiHeadAttention
from bert4kexue.ops.positions import sinusoidal_embeddings

HEADS, SIZE, HIDDEN = 2, 4, 8


def made(p_bias=None, **kwargs):
    layer = MultiHeadAttention(HEADS, SIZE, **kwargs)
    shapes = [(None, None, HIDDEN)] * 3
    layer.build(shapes)
    randomize(layer)
    return layer


def projected(layer, x, name):
    dense = getattr(layer, name)
    w, b = (np.asarray(to_numpy(v.value), np.float64) for v in (dense.kernel, dense.bias))
    return (x @ w + b).reshape(*x.shape[:2], HEADS, -1)


def expected(layer, x, **options):
    q, k, v = (projected(layer, x.astype("float64"), f"{n}_dense") for n in "qkv")
    mixed, _ = attention(q, k, v, **options)
    w, b = (np.asarray(to_numpy(p.value), np.float64) for p in layer.o_dense.weights)
    return mixed.reshape(*x.shape[:2], -1) @ w + b


def random_input(seed, batch, length):
    return np.random.RandomState(seed).normal(size=(batch, length, HIDDEN)).astype("float32")


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 7), st.booleans(), st.booleans())
@settings(max_examples=25, deadline=None)
def test_attention_is_the_papers(seed, batch, length, masked, rotary):
    random = np.random.RandomState(seed)
    layer, x = made(), random_input(seed, batch, length)
    key_mask = random.rand(batch, length) < 0.6
    key_mask[:, 0] = True
    visible = random.rand(batch, length, length) < 0.6
    visible[:, :, 0] = True
    inputs, arguments = [x, x, x], {}
    if masked:
        inputs.append(visible)
        arguments["a_bias"] = True
    if rotary:
        inputs.append(to_numpy(sinusoidal_embeddings(np.arange(length)[None], SIZE)))
        arguments["p_bias"] = "rotary"
    masks = [None, None, keras.ops.convert_to_tensor(key_mask)]
    inputs = [keras.ops.convert_to_tensor(i) for i in inputs]
    computed = to_numpy(layer(inputs, mask=masks, **arguments))
    np.testing.assert_allclose(
        computed,
        expected(
            layer,
            x,
            key_mask=key_mask,
            visible=visible if masked else None,
            positions=np.arange(length)[None] if rotary else None,
        ),
        atol=1e-5,
        rtol=0,
    )


@given(st.integers(0, 10**6), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.booleans())
@settings(max_examples=20, deadline=None)
def test_cached_steps_equal_the_whole_sequence(seed, chunks, rotary):
    layer, length = made(), sum(chunks)
    x = random_input(seed, 2, length)
    table = sinusoidal_embeddings(np.arange(length)[None], SIZE)
    p_bias = "rotary" if rotary else None
    causal = keras.ops.convert_to_tensor(np.tril(np.ones((length, length), bool)))
    inputs = [x, x, x, causal, *([table] if rotary else [])]
    whole = to_numpy(layer(inputs, a_bias=True, p_bias=p_bias))
    cache, start, pieces = layer.init_cache(2, length + 3), 0, []
    for chunk in chunks:
        piece, cache = layer.step(
            keras.ops.convert_to_tensor(x[:, start : start + chunk]),
            cache,
            start,
            position=table[:, start : start + chunk] if rotary else None,
            p_bias=p_bias,
        )
        pieces.append(to_numpy(piece))
        start += chunk
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, atol=1e-5, rtol=0)


def test_a_prefix_that_sees_itself_is_cached_as_unilm_wants():
    layer, x = made(), random_input(0, 2, 6)
    visible = np.tril(np.ones((6, 6), bool))
    visible[:3, :3] = True  # a prefix of three
    whole = expected(layer, x, visible=visible)
    x = keras.ops.convert_to_tensor(x)
    cache = layer.init_cache(2, 6)
    allowed = keras.ops.convert_to_tensor(visible[:3])
    prefix, cache = layer.step(x[:, :3], cache, 0, allowed=allowed)
    rest, cache = layer.step(x[:, 3:], cache, 3)
    computed = np.concatenate([to_numpy(prefix), to_numpy(rest)], 1)
    np.testing.assert_allclose(computed, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_row_that_is_all_padding_stays_finite_and_leaves_the_others_alone(policy):
    layer = MultiHeadAttention(HEADS, SIZE, dtype=policy)
    x = keras.ops.convert_to_tensor(random_input(0, 2, 5))
    mask = np.ones((2, 5), bool)
    mask[1] = False
    masks = [None, None, keras.ops.convert_to_tensor(mask)]
    computed = to_numpy(layer([x, x, x], mask=masks)).astype("float32")
    alone = to_numpy(layer([x[:1]] * 3)).astype("float32")
    assert np.isfinite(computed).all()
    np.testing.assert_allclose(computed[:1], alone, atol=2e-2 if "mixed" in policy else 1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_extreme_scores_stay_finite_in_half_precision(policy):
    layer = MultiHeadAttention(HEADS, SIZE, dtype=policy)
    x = keras.ops.convert_to_tensor(random_input(0, 2, 5) * 300.0)
    assert np.isfinite(to_numpy(layer([x, x, x])).astype("float32")).all()


def test_returned_scores_are_scaled_and_neither_masked_nor_biased():
    layer, x = made(return_attention_scores=True), random_input(0, 2, 5)
    bias = keras.ops.convert_to_tensor(np.tril(np.ones((5, 5), bool)))
    _, scores = layer([x, x, x, bias], a_bias=True)
    q, k = (projected(layer, x.astype("float64"), f"{n}_dense") for n in "qk")
    _, raw = attention(q, k, q)
    np.testing.assert_allclose(to_numpy(scores), raw, atol=1e-5, rtol=0)


def test_unknown_options_are_refused_by_name():
    with pytest.raises(ValueError, match=r"normalization='sparsemax'.*softmax"):
        MultiHeadAttention(2, 4, normalization="sparsemax")
    x = np.zeros((1, 2, HIDDEN), "float32")
    with pytest.raises(ValueError, match=r"p_bias='alibi'.*rotary"):
        made()([x, x, x, x], p_bias="alibi")
