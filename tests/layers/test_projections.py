"""Packed products against the Dense layers that they stand for."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _harness import randomize, to_numpy
from keras import ops

from bert4kexue.layers import FeedForward, MultiHeadAttention
from bert4kexue.layers.projections import PackedProjections, project, projecting


@pytest.fixture
def gated():
    layer = FeedForward(6, ["gelu", "linear"])
    layer.build((None, None, 4))
    randomize(layer)
    return layer


def through(layer, packed, x):
    with projecting(packed):
        return to_numpy(layer(x))


def rows(*shape):
    return ops.convert_to_tensor(np.random.RandomState(0).normal(size=shape).astype("float32"))


def counted(monkeypatch):
    """How often each Dense layer is called itself."""
    calls, genuine = [], keras.layers.Dense.call

    def call(self, *args, **kwargs):
        calls.append(self.name)
        return genuine(self, *args, **kwargs)

    monkeypatch.setattr(keras.layers.Dense, "call", call)
    return calls


def test_a_group_is_one_product_of_few_rows(gated, monkeypatch):
    packed, x = PackedProjections(gated.projections()), rows(2, 3, 4)
    expected = to_numpy(gated(x))
    assert [tuple(copy.shape) for copy in packed.variables] == [(12, 4), (4, 6)]
    calls = counted(monkeypatch)
    np.testing.assert_allclose(through(gated, packed, x), expected, atol=1e-5)
    assert calls == []
    through(gated, packed, rows(5, 7, 4))  # many rows: the layers themselves
    assert calls == ["i0_dense", "i1_dense", "o_dense"]


def test_copies_follow_the_weights_when_updated(gated):
    packed, x = PackedProjections(gated.projections()), rows(1, 2, 4)
    randomize(gated, seed=1)
    expected = to_numpy(gated(x))
    assert np.abs(through(gated, packed, x) - expected).max() > 1e-2
    packed.update()
    np.testing.assert_allclose(through(gated, packed, x), expected, atol=1e-5)


def test_half_precision_stays_half(monkeypatch):
    layer = MultiHeadAttention(2, 4, use_bias=False, dtype="mixed_bfloat16")
    layer.build([(None, None, 8)] * 3)
    randomize(layer)
    packed, x = PackedProjections(layer.projections()), rows(1, 2, 8)
    inputs, _ = layer.projections()
    expected = project(inputs, ops.cast(x, "bfloat16"))
    calls = counted(monkeypatch)
    for found, y in zip(packed(inputs, x), expected, strict=True):
        assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
        found, y = to_numpy(ops.cast(found, "float32")), to_numpy(ops.cast(y, "float32"))
        np.testing.assert_allclose(found, y, atol=0.05)
    assert calls == []


def test_quantized_layers_are_left_alone(gated):
    gated.o_dense.quantize("int8")
    packed, x = PackedProjections(gated.projections()), rows(1, 2, 4)
    assert [tuple(copy.shape) for copy in packed.variables] == [(12, 4)]
    expected = to_numpy(gated(x))
    np.testing.assert_allclose(through(gated, packed, x), expected, atol=1e-5)
