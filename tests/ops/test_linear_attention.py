"""Linear attention against its dense definition in float64, for every map and mask."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _harness import to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.ops import linear_attention as module
from bert4kexue.ops.blocks import even
from bert4kexue.ops.feature_maps import feature_map
from bert4kexue.ops.linear_attention import LinearState, linear_attention, linear_step

MAPS = [
    "elu1",
    "exp",
    "dsoftmax",
    "cos1",
    {"kind": "performer", "features": 7, "seed": 0},
    {"kind": "taylor", "order": 2},
    {"kind": "limit", "order": 4},
]
HEADS, SIZE, VALUES = 2, 3, 4
EPSILON = np.finfo("float32").eps
tensor = keras.ops.convert_to_tensor


class Case:
    """Random queries, keys and values, and what the definition gives."""

    def __init__(self, spec, seed, n, batch=2, scale=1.0):
        self.map, random = feature_map(spec), np.random.RandomState(seed)
        self.w = self.map.draw(SIZE, 1) if self.map.random else None
        q, k = random.normal(scale=scale, size=(2, batch, n, HEADS, SIZE)).astype("float32")
        self.q, self.k = q, k
        self.v = random.normal(size=(batch, n, HEADS, VALUES)).astype("float32")
        self.real = random.rand(batch, n) < 0.7
        self.real[:, 0] = True
        self.prefix = np.arange(n)[None] < random.randint(0, n + 1, size=(batch, 1))

    def visible(self, structure):
        n = self.q.shape[1]
        lower = np.tril(np.ones((1, n, n), bool))
        if structure == "all":
            lower = np.ones((1, n, n), bool)
        if structure == "prefix":
            lower = lower | (self.prefix[:, :, None] & self.prefix[:, None])
        return (lower & self.real[:, None])[:, None]  # (b, 1, n, n)

    def features(self, x):
        """Of (b, n, h, d), by head, from the formulas and not from the library."""
        x = x.transpose(0, 2, 1, 3).astype("float64")
        kind, d = self.map.kind, SIZE
        if kind == "elu1":
            return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
        if kind in ("exp", "dsoftmax"):
            return np.exp(x)
        if kind == "cos1":
            unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
            return np.concatenate([np.ones_like(x[..., :1]), unit], -1)
        if kind == "performer":
            half = (x**2).sum(-1, keepdims=True) / 2
            return np.exp(x @ self.w.astype("float64").T - half)
        if kind == "taylor":
            square = (x[..., :, None] * x[..., None, :]).reshape(*x.shape[:-1], d * d)
            return np.concatenate([np.ones_like(x[..., :1]), x, square / 2**0.5], -1)
        power = one = np.concatenate([np.ones_like(x[..., :1]), x / self.map.order**0.5], -1)
        for _ in range(self.map.order - 1):  # [1; x / sqrt(n)] to the n-th tensor power
            power = (power[..., :, None] * one[..., None, :]).reshape(*x.shape[:-1], -1)
        return power

    def dense(self, structure):
        """The definition: the whole matrix of weights, masked, normalized, times the values."""
        visible = self.visible(structure)
        left, right = self.features(self.q), self.features(self.k)
        v = self.v.transpose(0, 2, 1, 3).astype("float64")
        if self.map.by_feature:
            left = left / left.sum(-1, keepdims=True)
            each = np.einsum("bhij,bhjf->bhif", np.broadcast_to(visible, self.shape), right)
            weights = np.einsum("bhif,bhjf->bhij", left / np.maximum(each, 1e-30), right) * visible
        else:
            weights = np.einsum("bhif,bhjf->bhij", left, right) * visible
            weights = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-30)
        return (weights @ v).transpose(0, 2, 1, 3)

    def rounding(self, structure):
        """What float32 may be off by, (b, n, h, 1), in units of the values.

        Where signed features cancel in a row's sum of weights, its digits are lost: the error grows
        as the sum without signs over the sum. Infinite where hardly a digit is left.
        """
        if self.map.by_feature:
            return np.float64(16 * EPSILON)
        visible, left, right = self.visible(structure), self.features(self.q), self.features(self.k)
        sums, without_signs = (
            (np.einsum("bhif,bhjf->bhij", a, b) * visible).sum(-1)
            for a, b in ((left, right), (abs(left), abs(right)))
        )
        error = 16 * EPSILON * without_signs / np.maximum(sums, 1e-30)
        return np.where(error < 0.05, error, np.inf).transpose(0, 2, 1)[..., None]

    @property
    def shape(self):
        b, n = self.q.shape[:2]
        return (b, HEADS, n, n)

    def options(self, structure):
        return {
            "key_mask": tensor(self.real),
            "causal": structure != "all",
            "prefix": tensor(self.prefix) if structure == "prefix" else None,
        }

    def computed(self, structure):
        inputs = (tensor(x) for x in (self.q, self.k, self.v))
        w = None if self.w is None else tensor(self.w)
        return to_numpy(linear_attention(*inputs, self.map, w, **self.options(structure))[0])


@pytest.fixture(params=["one block", "several blocks"])
def blocks(request, monkeypatch):
    if request.param == "several blocks":  # as at thousands of tokens, at a few
        monkeypatch.setattr(module, "_CHUNK", 3)
        monkeypatch.setattr(module, "_BLOCK_NUMBERS", 1)


@pytest.mark.parametrize("spec", MAPS, ids=str)
@pytest.mark.parametrize("structure", ["all", "causal", "prefix"])
def test_linear_attention_is_its_dense_definition(spec, structure, blocks):
    for seed, n in ((0, 1), (1, 2), (2, 9), (3, 13)):
        case = Case(spec, seed, n)
        expected = case.dense(structure)
        np.testing.assert_allclose(case.computed(structure), expected, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("spec", MAPS, ids=str)
def test_chunked_is_recurrent_is_dense_over_several_chunks(spec):
    case = Case(spec, 5, 300, batch=1)  # three chunks of 128
    dense, chunked = case.dense("causal"), case.computed("causal")
    np.testing.assert_allclose(chunked, dense, rtol=1e-3, atol=5e-5)
    w = None if case.w is None else tensor(case.w)
    state, outputs = None, []
    _, state = linear_attention(
        *(tensor(x[:, :5]) for x in (case.q, case.k, case.v)),
        case.map,
        w,
        key_mask=tensor(case.real[:, :5]),
        causal=True,
    )
    sizes = [tuple(x.shape) for x in state]
    for i in range(5, 40):
        output, state = linear_step(
            *(tensor(x[:, i : i + 1]) for x in (case.q, case.k, case.v)),
            case.map,
            w,
            state,
            tensor(case.real[:, i : i + 1]),
        )
        outputs.append(to_numpy(output))
    assert [tuple(x.shape) for x in state] == sizes
    np.testing.assert_allclose(np.concatenate(outputs, 1), dense[:, 5:40], rtol=1e-3, atol=5e-5)


@pytest.mark.parametrize("spec", MAPS, ids=str)
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 8))
@settings(max_examples=5, deadline=None)
def test_a_sequence_goes_on_from_its_state(spec, seed, cut):
    case = Case(spec, seed, 9)
    w = None if case.w is None else tensor(case.w)
    pieces, state = [], None
    for part in (slice(None, cut), slice(cut, None)):
        output, state = linear_attention(
            *(tensor(x[:, part]) for x in (case.q, case.k, case.v)),
            case.map,
            w,
            key_mask=tensor(case.real[:, part]),
            causal=True,
            state=state,
        )
        pieces.append(to_numpy(output))
    error = abs(np.concatenate(pieces, 1) - case.dense("causal"))
    bound = case.rounding("causal")
    assert np.isfinite(bound).mean() > 0.8
    assert np.all(error <= bound)


@pytest.mark.parametrize("spec", MAPS, ids=str)
@pytest.mark.parametrize("structure", ["all", "causal", "prefix"])
def test_padding_does_not_change_real_tokens(spec, structure):
    case = Case(spec, 0, 6)
    case.real[:] = True
    case.real[:, 4:] = False
    case.prefix[:, 4:] = False
    before = case.computed(structure)[:, :4]
    case.k[:, 4:], case.v[:, 4:] = 50.0, -1e6  # larger than any real key
    np.testing.assert_allclose(case.computed(structure)[:, :4], before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", MAPS, ids=str)
@pytest.mark.parametrize("structure", ["all", "causal", "prefix"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_row_without_a_key_is_zeros(spec, structure, dtype):
    case = Case(spec, 0, 5)
    case.real[1] = False
    inputs = (keras.ops.cast(tensor(x), dtype) for x in (case.q, case.k, case.v))
    w = None if case.w is None else tensor(case.w)
    output, _ = linear_attention(*inputs, case.map, w, **case.options(structure))
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    output = to_numpy(output).astype("float64")
    assert np.isfinite(output).all()
    np.testing.assert_array_equal(output[1], 0.0)


@pytest.mark.parametrize("kind", ["exp", "dsoftmax", "performer"])
def test_exponents_beyond_every_precision_stay_finite_and_right(kind):
    case = Case({"kind": kind} | ({"features": 7} if kind == "performer" else {}), 0, 6)
    case.real[:] = True
    case.k *= 3.0
    ordinary = case.dense("all")
    np.testing.assert_allclose(case.computed("all"), ordinary, rtol=1e-3, atol=1e-4)
    case.q, case.k = case.q * 300.0, case.k * 300.0  # exp(300) is infinite in float32
    for structure in ("all", "causal", "prefix"):
        assert np.isfinite(case.computed(structure)).all()


@pytest.mark.parametrize("kind", ["exp", "dsoftmax"])
def test_exponents_beyond_float16_are_right_in_float16(kind):
    """exp(12) is infinite in float16."""
    case = Case(kind, 0, 6)
    case.q, case.k = (np.float32(np.float16(8.0 * x)) for x in (case.q, case.k))
    case.v = np.float32(np.float16(case.v))
    assert np.abs(case.k).max() > 12
    inputs = [keras.ops.cast(tensor(x), "float16") for x in (case.q, case.k, case.v)]
    output, _ = linear_attention(*inputs, case.map, **case.options("causal"))
    computed = to_numpy(keras.ops.cast(output, "float32"))
    np.testing.assert_allclose(computed, case.dense("causal"), rtol=2e-3, atol=2e-3)


SIGNED = [spec for spec in MAPS if feature_map(spec).signed]


@pytest.mark.parametrize("spec", SIGNED, ids=str)
@pytest.mark.parametrize("structure", ["all", "causal"])
def test_a_row_whose_features_cancel_gives_numbers_of_the_values_size(spec, structure):
    """Every key stands where the kernel is zero, or next to nothing beside |phi(q)| |phi(k)|."""
    case = Case(spec, 0, 9)
    direction = np.array([1.0, 2.0, 3.0]) / 14**0.5
    random = np.random.RandomState(1)
    across = random.normal(size=case.k.shape)
    across -= (across @ direction)[..., None] * direction
    far, size = {"limit": (case.map.order, 1.0), "cos1": (0.3, 0.0), "taylor": (1e-4, 1e4)}[
        case.map.kind
    ]
    case.q = np.broadcast_to(max(size, 1.0) * direction, case.q.shape).astype("float32")
    case.k = (-far * direction + size * across).astype("float32")
    assert np.isinf(case.rounding(structure)).all()
    computed = case.computed(structure)
    assert np.abs(computed).max() <= 4 * np.abs(case.v).max()


@pytest.mark.parametrize("spec", SIGNED, ids=str)
@pytest.mark.parametrize("structure", ["causal"])
def test_a_row_that_keeps_a_digit_is_divided_by_its_own_sum(spec, structure, monkeypatch):
    case = Case(spec, 3, 9, scale=2.0)
    kept = np.broadcast_to(np.isfinite(case.rounding(structure)), case.v.shape)
    assert kept.mean() > 0.8
    guarded = case.computed(structure)
    monkeypatch.setattr(module, "ROUNDING", 0.0)
    np.testing.assert_array_equal(guarded[kept], case.computed(structure)[kept])


def test_sums_of_many_tokens_keep_float32_precision_in_half_precision():
    n = 4096  # a running sum in float16 stops at 2048, in bfloat16 at 256
    q = keras.ops.cast(np.zeros((1, n, 1, 2)), "bfloat16")
    v = keras.ops.cast(np.ones((1, n, 1, 1)), "bfloat16")
    output, state = linear_attention(q, q, v, feature_map("elu1"), causal=True)
    np.testing.assert_array_equal(to_numpy(output).astype("float64"), 1.0)
    np.testing.assert_allclose(to_numpy(state.sums), float(n))


@pytest.mark.parametrize("length", [1, 127, 128, 129, 1920, 2048, 5000])
def test_blocks_are_even_and_pad_less_than_a_chunk_each(length):
    chunk = min(128, length)
    size = even(1920, length, chunk)
    blocks = -(-length // size)
    assert size % chunk == 0
    assert size <= 1920
    assert blocks == -(-length // 1920)
    assert size * blocks - length < chunk * blocks


@pytest.mark.parametrize("spec", MAPS, ids=str)
def test_gradients_are_those_of_differences(spec):
    """Directional derivative of the reference in float64 against the step a training makes."""
    case = Case(spec, 1, 5, batch=1)
    case.real[:] = True

    class Layer(keras.layers.Layer):
        def build(self, shape):
            self.q, self.k, self.v = (
                self.add_weight(shape=x.shape, initializer="zeros", name=name)
                for x, name in ((case.q, "q"), (case.k, "k"), (case.v, "v"))
            )

        def call(self, x):
            w = None if case.w is None else tensor(case.w)
            output, _ = linear_attention(self.q, self.k, self.v, case.map, w, causal=True)
            return keras.ops.sum(output * x, axis=(1, 2, 3))

    rate, targets = 1e-3, np.random.RandomState(2).normal(size=case.v.shape)
    layer = Layer()
    model = keras.Sequential([layer])
    model.build((None, *case.v.shape[1:]))
    for weight, value in zip((layer.q, layer.k, layer.v), (case.q, case.k, case.v), strict=True):
        weight.assign(value)
    model.compile(keras.optimizers.SGD(rate), loss=lambda y_true, y_pred: keras.ops.sum(y_pred))
    model.train_on_batch(targets.astype("float32"), np.zeros((1,), "float32"))
    for name in "qkv":
        old = getattr(case, name).astype("float64")
        gradient = (old - to_numpy(getattr(layer, name).value)) / rate
        direction = np.random.RandomState(3).normal(size=old.shape)
        ends = []
        for sign in (1, -1):
            setattr(case, name, old + sign * 1e-4 * direction)
            ends.append((case.dense("causal") * targets).sum())
        setattr(case, name, old.astype("float32"))
        slope = (ends[0] - ends[1]) / 2e-4
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=5e-3, atol=5e-3)


def test_the_state_is_of_one_size():
    case = Case("elu1", 0, 8)
    options = {"key_mask": tensor(case.real), "causal": True}
    sizes = set()
    for n in (1, 3, 8):
        _, state = linear_attention(
            *(tensor(x[:, :n]) for x in (case.q, case.k, case.v)),
            case.map,
            **options | {"key_mask": tensor(case.real[:, :n])},
        )
        assert isinstance(state, LinearState)
        sizes.add(tuple(tuple(x.shape) for x in state))
    assert sizes == {((2, HEADS, SIZE, VALUES + 1), (2, HEADS, SIZE), (2, HEADS, 1))}
