"""Reparametrized draws and divergences, against their definitions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from bert4kexue.layers import GaussianSampling, StandardNormalKL

RANDOM = np.random.RandomState(0)
MEAN = RANDOM.normal(size=(4, 3)).astype("float32")
LOG_VARIANCE = RANDOM.normal(size=(4, 3)).astype("float32")


def numpy(x):
    return ops.convert_to_numpy(x)


def test_draws_have_the_mean_and_variance_that_were_asked_for():
    layer = GaussianSampling(samples=40_000, seed=1)
    z = numpy(layer([MEAN, LOG_VARIANCE]))
    deviation = np.exp(0.5 * LOG_VARIANCE)
    # Five standard errors: a false alarm in a million.
    assert (np.abs(z.mean(1) - MEAN) < 5 * deviation / 200).all()
    assert (np.abs(z.var(1) / deviation**2 - 1) < 5 * np.sqrt(2) / 200).all()


def test_a_given_noise_is_used_and_nothing_is_random():
    noise = RANDOM.normal(size=(4, 5, 3)).astype("float32")
    z = numpy(GaussianSampling()([MEAN, LOG_VARIANCE, noise]))
    expected = MEAN[:, None] + np.exp(0.5 * LOG_VARIANCE)[:, None] * noise
    np.testing.assert_allclose(z, expected, atol=1e-6)


def test_a_seed_repeats_the_sequence_and_calls_differ():
    first, second = (GaussianSampling(samples=2, seed=5) for _ in range(2))
    a, b = (numpy(first([MEAN, LOG_VARIANCE])) for _ in range(2))
    np.testing.assert_array_equal(a, numpy(second([MEAN, LOG_VARIANCE])))
    assert np.abs(a - b).max() > 0.1


def test_gradients_reach_mean_and_variance_through_the_draw():
    inputs = keras.Input((3,))
    mean = keras.layers.Dense(2, name="mean")(inputs)
    log_variance = keras.layers.Dense(2, name="log_variance")(inputs)
    z = GaussianSampling(samples=3, seed=0)([mean, log_variance])
    model = keras.Model(inputs, z)
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    before = [numpy(v).copy() for v in model.trainable_variables]
    model.train_on_batch(MEAN, np.ones((4, 3, 2), "float32"))
    for old, new in zip(before, model.trainable_variables, strict=True):
        assert not np.array_equal(old, numpy(new))


def test_samples_below_one_are_refused():
    with pytest.raises(ValueError, match="samples must be 1 or more"):
        GaussianSampling(samples=0)


def test_the_divergence_is_the_integral():
    """By quadrature of p log(p / q) in each coordinate."""
    t = np.linspace(-40, 40, 400_001)[:, None, None]
    mean, variance = MEAN.astype(float), np.exp(LOG_VARIANCE.astype(float))
    log_p = -0.5 * (np.log(2 * np.pi * variance) + (t - mean) ** 2 / variance)
    log_q = -0.5 * (np.log(2 * np.pi) + t**2)
    expected = (np.exp(log_p) * (log_p - log_q)).sum(0).sum(-1) * (t[1, 0, 0] - t[0, 0, 0])
    computed = numpy(StandardNormalKL()([MEAN, LOG_VARIANCE]))
    np.testing.assert_allclose(computed, expected, rtol=1e-5)


def test_the_divergence_adds_itself_to_the_loss_when_weighted():
    layer = StandardNormalKL(weight=0.5)
    rows = numpy(layer([MEAN, LOG_VARIANCE]))
    (loss,) = layer.losses
    assert float(numpy(loss)) == pytest.approx(0.5 * rows.mean(), rel=1e-5)
    plain = StandardNormalKL()
    plain([MEAN, LOG_VARIANCE])
    assert plain.losses == []
