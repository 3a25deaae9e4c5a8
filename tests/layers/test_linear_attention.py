"""The layer in the place of MultiHeadAttention: masks, rotation, cache, frequencies."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _harness import randomize, to_numpy
from _reference import rope
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.layers import LanguageModelMask, LinearAttention, UnifiedLanguageModelMask
from bert4kexue.ops.masking import unilm_mask
from bert4kexue.ops.positions import sinusoidal_embeddings

HEADS, SIZE, HIDDEN = 2, 4, 8
MAPS = [
    "elu1",
    "exp",
    "dsoftmax",
    "cos1",
    {"kind": "performer", "features": 9, "seed": 0},
    "taylor",
    {"kind": "limit", "order": 2},
]
tensor = keras.ops.convert_to_tensor


def made(spec, **kwargs):
    layer = LinearAttention(HEADS, SIZE, feature_map=spec, **kwargs)
    layer.build([(None, None, HIDDEN)] * 3)
    randomize(layer)
    return layer


def random_input(seed, length, batch=2):
    return np.random.RandomState(seed).normal(size=(batch, length, HIDDEN)).astype("float32")


def numbers(kind, length, segments=None):
    if kind == "lm":
        return LanguageModelMask(as_order=True)(np.zeros((2, length), "float32"))
    return UnifiedLanguageModelMask(as_order=True)(segments)


@pytest.mark.parametrize("spec", MAPS[:1] + MAPS[5:], ids=str)
def test_the_layer_is_its_kernel_on_scaled_rotated_heads(spec):
    """From the weights, in float64: projections, rotation, kernel, mask, output."""
    layer, x, n = made(spec), random_input(0, 6), 6
    segments = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 0, 0]], "int32")
    real = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool)
    table = to_numpy(sinusoidal_embeddings(np.arange(n)[None], SIZE))
    computed = layer(
        [tensor(i) for i in (x, x, x)] + [numbers("unilm", n, tensor(segments)), tensor(table)],
        mask=[None, None, tensor(real)],
        a_bias="order",
        p_bias="rotary",
    )

    def heads(name):
        w, b = (to_numpy(v.value).astype("float64") for v in getattr(layer, name).weights)
        return (x @ w + b).reshape(2, n, HEADS, SIZE)

    q, k = (rope(heads(f"{name}_dense"), np.arange(n)[None]) / SIZE**0.25 for name in "qk")
    dots = np.einsum("bihd,bjhd->bhij", q, k)
    kernel = {"taylor": 1 + dots + dots**2 / 2, "limit": (1 + dots / 2) ** 2}.get(
        layer.feature_map.kind
    )
    if kernel is None:
        q, k = (np.where(y > 0, y + 1, np.exp(np.minimum(y, 0))) for y in (q, k))
        kernel = np.einsum("bihd,bjhd->bhij", q, k)
    visible = to_numpy(unilm_mask(tensor(segments))) & real[:, None]
    weights = kernel * visible[:, None]
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhij,bjhe->bihe", weights, heads("v_dense")).reshape(2, n, -1)
    w, b = (to_numpy(v.value).astype("float64") for v in layer.o_dense.weights)
    np.testing.assert_allclose(to_numpy(computed), mixed @ w + b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("spec", MAPS, ids=str)
@given(seed=st.integers(0, 10**6), first=st.integers(1, 4), rotated=st.booleans())
@settings(max_examples=4, deadline=None)
def test_cached_steps_equal_the_whole_sequence(spec, seed, first, rotated):
    layer, length = made(spec), 7
    x, p_bias = random_input(seed, length), "rotary" if rotated else None
    table = sinusoidal_embeddings(np.arange(length)[None], SIZE)
    inputs = [tensor(x)] * 3 + [numbers("lm", length)] + ([table] if rotated else [])
    whole = to_numpy(layer(inputs, a_bias="order", p_bias=p_bias))

    def position(a, b):
        return {"position": table[:, a:b] if rotated else None, "p_bias": p_bias}

    piece, cache = layer.prefill(tensor(x[:, :first]), layer.init_cache(2), **position(0, first))
    pieces = [to_numpy(piece)]
    sizes = [tuple(y.shape) for y in cache]
    for i in range(first, length):
        piece, cache = layer.step(tensor(x[:, i : i + 1]), cache, **position(i, i + 1))
        pieces.append(to_numpy(piece))
    assert [tuple(y.shape) for y in cache] == sizes  # O(1) in the length
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, atol=2e-5, rtol=1e-4)


def test_hypotheses_go_on_from_their_parents():
    layer, x = made("elu1"), random_input(0, 4)
    _, cache = layer.prefill(tensor(x[:, :2]))
    cache = layer.reorder_cache(cache, tensor(np.zeros((2, 3), "int32")))
    three = random_input(1, 3)
    _, cache = layer.step(tensor(three), cache)
    parents = np.array([[2, 2, 0], [1, 0, 0]], "int32")
    output, _ = layer.step(tensor(random_input(2, 3)), layer.reorder_cache(cache, tensor(parents)))
    for i in range(2):
        for j in range(3):
            own = [x[i, :2], three[i, parents[i, j]][None], random_input(2, 3)[i, j][None]]
            row = tensor(np.concatenate(own)[None])
            alone = layer([row, row, row, numbers("lm", 4)], a_bias="order")
            np.testing.assert_allclose(
                to_numpy(output)[i, j], to_numpy(alone)[0, -1], atol=1e-5, rtol=1e-4
            )


def test_frequencies_are_saved_weights_and_nothing_trains_them(tmp_path):
    keras.utils.set_random_seed(0)
    spec = {"kind": "performer", "features": 6}
    inputs = keras.Input((None, HIDDEN))
    layer = LinearAttention(HEADS, SIZE, feature_map=spec)
    model = keras.Model(inputs, layer([inputs] * 3))
    before = to_numpy(layer.frequencies.value).copy()
    x = random_input(0, 5)
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    model.train_on_batch(x, np.zeros_like(x))
    np.testing.assert_array_equal(to_numpy(layer.frequencies.value), before)
    assert layer.frequencies.path not in [v.path for v in model.trainable_variables]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    expected = to_numpy(model(tensor(x)))
    np.testing.assert_allclose(to_numpy(again(tensor(x))), expected, atol=1e-6)
    layer.redraw(7)
    assert np.abs(to_numpy(model(tensor(x))) - expected).max() > 1e-4
    other = LinearAttention(HEADS, SIZE, feature_map=spec)
    other.build([(None, None, HIDDEN)] * 3)
    assert not np.array_equal(to_numpy(other.frequencies.value), before)


def test_keys_of_another_length_are_attended_to():
    layer, x, y = made("taylor"), random_input(0, 3), random_input(1, 5)
    whole = to_numpy(layer([tensor(x), tensor(y), tensor(y)]))
    one = to_numpy(layer([tensor(x[:, 1:2]), tensor(y), tensor(y)]))
    np.testing.assert_allclose(whole[:, 1:2], one, atol=1e-5)


def test_what_cannot_be_is_refused():
    x = np.zeros((2, 3, HIDDEN), "float32")
    square = np.ones((3, 3), bool)
    for bias in (square, np.ones((2, 3, 3), bool)):
        with pytest.raises(ValueError, match=r"no matrix of queries and keys.*as_order=True"):
            made("elu1")([x, x, x, bias], a_bias=True)
    with pytest.raises(ValueError, match=r"linear attention has no attention_dropout"):
        LinearAttention(2, 4, attention_dropout=0.1)
    with pytest.raises(ValueError, match=r"'softplus' is unknown: choose one of"):
        LinearAttention(2, 4, feature_map="softplus")
    with pytest.raises(ValueError, match=r"814,385 features of 64 channels"):
        LinearAttention(2, 64, feature_map={"kind": "taylor", "order": 4})
    with pytest.raises(ValueError, match=r"'elu1' has no frequencies to redraw"):
        made("elu1").redraw(0)
    with pytest.raises(ValueError, match=r"built: call it once before"):
        LinearAttention(2, 4, feature_map="performer").redraw(0)
    layer = made("elu1")
    with pytest.raises(ValueError, match=r"one token of each of 1 hypotheses, not 3.*prefill"):
        layer.step(tensor(x), layer.init_cache(2))
    with pytest.raises(ValueError, match=r"p_bias='alibi'.*rotary"):
        layer([x, x, x, x], p_bias="alibi")
