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
# The header, and what is left of the words that the first z is taken from, in bits.
START = 8 * 30 + 32 * 4


def bound(vae, x, particles=1):
    """Bits of the data by the bound of so many draws, and how far one coding may stray from it."""
    nats = [vae.log_prob(x, particles, seed=seed).mean for seed in range(6)]
    bits = -np.asarray(nats) / np.log(2) * len(x)
    return bits.mean(), 5 * bits.std(ddof=1)


def trained(vae, x, epochs):
    vae.compile(keras.optimizers.Adam(1e-2))
    vae.fit(x, epochs=epochs, verbose=0)
    return vae


@pytest.fixture(scope="module")
def binary():
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    first = random.random((600, 1)) < 0.5
    x = (first ^ (random.random((600, 40)) < 0.1)).astype(np.uint8)
    return trained(mlp_vae((40,), 2, BernoulliLikelihood(), (16,), seed=0), x, 10), x


@pytest.mark.parametrize("group", [1, 7])
def test_images_come_back_and_cost_the_bound(binary, group):
    vae, x = binary
    packed = BitsBackCoder(vae, group=group).compress(x)
    np.testing.assert_array_equal(BitsBackCoder(vae, group=group).decompress(packed), x)
    bits, error = bound(vae, x)
    assert bits - error < 8 * len(packed) < bits + error + START + 32 * 2 * group
    assert 8 * len(packed) < 0.7 * x.size


def test_draws_are_fresh_where_the_encoder_says_nothing():
    """Posterior = prior: the z that was pushed would be popped again, for every sample."""
    keras.utils.set_random_seed(0)
    vae = mlp_vae((20,), 2, BernoulliLikelihood(), (16,), seed=0)
    vae.encoder.set_weights([np.zeros_like(part) for part in vae.encoder.get_weights()])
    vae.decoder.set_weights([3 * part for part in vae.decoder.get_weights()])
    x = vae.sample(400, seed=1).astype(np.uint8)
    bits, error = bound(vae, x)
    lengths = []
    for seed in range(3):
        packed = BitsBackCoder(vae).compress(x, seed=seed)
        np.testing.assert_array_equal(BitsBackCoder(vae).decompress(packed), x)
        lengths.append(8 * len(packed))
    assert error < 0.2 * bits
    assert np.abs(np.array(lengths) - START / 2 - bits).max() < error + START / 2


def test_particles_shorten_it_to_the_tighter_bound(binary):
    keras.utils.set_random_seed(3)
    vae = mlp_vae((40,), 2, BernoulliLikelihood(), (16,), seed=3)  # an encoder that knows nothing
    vae.decoder.set_weights(binary[0].decoder.get_weights())
    x = binary[1]
    lengths = {}
    for particles in (1, 8):
        coder = BitsBackCoder(vae, group=4, particles=particles)
        packed = coder.compress(x)
        np.testing.assert_array_equal(coder.decompress(packed), x)
        bits, error = bound(vae, x, particles)
        # The first group has one particle, and costs more than the bound of 8.
        assert abs(8 * len(packed) - bits) < error + START + 32 * 3 * 4 + 200
        lengths[particles] = len(packed)
    assert lengths[8] < 0.7 * lengths[1]


@pytest.mark.parametrize("particles", [1, 3])
def test_levels_come_back(particles):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(6, 2, (60, 3, 4))
    x = np.clip(np.round(x), 0, 15).astype(np.int32)
    vae = trained(mlp_vae((3, 4), 2, DiscretizedLogisticLikelihood(16), (8,), seed=0), x, 60)
    coder = BitsBackCoder(vae, particles=particles)
    packed = coder.compress(x)
    np.testing.assert_array_equal(coder.decompress(packed), x)
    bits, error = bound(vae, x, particles)
    assert bits - error < 8 * len(packed) < bits + error + START + 100


def test_texts_come_back():
    x = np.random.default_rng(0).integers(0, 5, (50, 6)).astype(np.int32)
    coder = BitsBackCoder(text_vae(6, 5, 2, 8, 4, seed=0), group=3, particles=2)
    np.testing.assert_array_equal(coder.decompress(coder.compress(x)), x)


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
    with pytest.raises(ValueError, match="bins=1024, group=1, particles=1"):
        BitsBackCoder(vae, group=2).decompress(packed)
    with pytest.raises(ValueError, match="gives densities"):
        BitsBackCoder(mlp_vae((2,), 1, GaussianLikelihood(), (4,)))
    with pytest.raises(ValueError, match="bins must be"):
        BitsBackCoder(vae, bins=2)
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ImportError, match=r"bert4kexue\[compression\]"):
        BitsBackCoder(vae)
