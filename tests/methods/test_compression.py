"""Bits-back coding: exact both ways, and as short as the bound says."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from bert4kexue.methods.compression import BitsBackCoder
from bert4kexue.methods.density_likelihoods import (
    BernoulliLikelihood,
    DiscretizedLogisticLikelihood,
    GaussianLikelihood,
)
from bert4kexue.methods.density_models import mlp_vae, text_vae

pytest.importorskip("constriction", reason="the extra 'compression' is not installed")
RANDOM = np.random.default_rng(0)


def trained(vae, x, epochs=10):
    vae.compile(keras.optimizers.Adam(1e-2))
    vae.fit(x, epochs=epochs, verbose=0)
    return vae


@pytest.fixture(scope="module")
def binary():
    first = RANDOM.random((600, 1)) < 0.5
    x = (first ^ (RANDOM.random((600, 40)) < 0.1)).astype(np.uint8)
    return trained(mlp_vae((40,), 2, BernoulliLikelihood(), (16,), seed=0), x), x


@pytest.mark.parametrize("group", [1, 7])
def test_images_come_back_and_cost_the_bound(binary, group):
    vae, x = binary
    packed = BitsBackCoder(vae, group=group).compress(x)
    np.testing.assert_array_equal(BitsBackCoder(vae, group=group).decompress(packed), x)
    bound = -np.mean([vae.log_prob(x, 1, seed=s).mean for s in range(5)]) / np.log(2) * len(x)
    assert 0.97 * bound < 8 * len(packed) < 1.05 * bound + 32 * 2 * group
    assert 8 * len(packed) < 0.7 * x.size


def test_levels_come_back():
    x = np.clip(np.round(RANDOM.normal(6, 2, (60, 3, 4))), 0, 15).astype(np.int32)
    vae = trained(mlp_vae((3, 4), 2, DiscretizedLogisticLikelihood(16), (8,), seed=0), x, 60)
    packed = BitsBackCoder(vae).compress(x)
    np.testing.assert_array_equal(BitsBackCoder(vae).decompress(packed), x)
    assert 8 * len(packed) < 4 * x.size


def test_texts_come_back():
    x = RANDOM.integers(0, 5, (50, 6)).astype(np.int32)
    vae = text_vae(6, 5, 2, 8, 4, seed=0)
    np.testing.assert_array_equal(BitsBackCoder(vae).decompress(BitsBackCoder(vae).compress(x)), x)


def test_nothing_and_one_row_come_back(binary):
    coder = BitsBackCoder(binary[0])
    for rows in (0, 1):
        x = binary[1][:rows]
        np.testing.assert_array_equal(coder.decompress(coder.compress(x)), x)


def test_another_model_is_found_out(binary):
    vae, x = binary
    packed = BitsBackCoder(vae).compress(x[:30])
    other = mlp_vae((40,), 2, BernoulliLikelihood(), (16,), seed=1)
    with pytest.raises(ValueError, match="another model"):
        BitsBackCoder(other).decompress(packed)


@pytest.mark.parametrize("place", [40, -5])
def test_altered_bytes_are_found_out(binary, place):
    vae, x = binary
    packed = bytearray(BitsBackCoder(vae).compress(x[:30]))
    packed[place] ^= 1
    with pytest.raises(ValueError, match="do not unfold"):
        BitsBackCoder(vae).decompress(bytes(packed))


def test_what_is_refused(binary, monkeypatch):
    vae, x = binary
    coder = BitsBackCoder(vae)
    packed = coder.compress(x[:5])
    for data in (b"", b"PK\x03\x04" * 20, packed[:-3]):
        with pytest.raises(ValueError, match="not written by"):
            coder.decompress(data)
    with pytest.raises(ValueError, match="bins=1024, group=1"):
        BitsBackCoder(vae, group=2).decompress(packed)
    with pytest.raises(ValueError, match="gives densities"):
        BitsBackCoder(mlp_vae((2,), 1, GaussianLikelihood(), (4,)))
    with pytest.raises(ValueError, match="bins must be"):
        BitsBackCoder(vae, bins=2)
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ImportError, match=r"bert4kexue\[compression\]"):
        BitsBackCoder(vae)
