"""Log densities against float64 NumPy, and that they sum or integrate to 1."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from bert4kexue.ops import densities

RANDOM = np.random.RandomState(0)


def numpy(x):
    return ops.convert_to_numpy(x)


def test_normal_density_integrates_to_one():
    x = np.linspace(-30, 30, 60_001).astype("float32")
    for mean, log_variance in ((0.0, 0.0), (2.0, -3.0), (-1.0, 2.0)):
        log_p = numpy(densities.normal_log_prob(x, mean, ops.convert_to_tensor(log_variance)))
        assert np.exp(log_p.astype(float)).sum() * 1e-3 == pytest.approx(1, abs=1e-4)


def test_bernoulli_probabilities_sum_to_one_and_stay_finite():
    logits = np.array([-200, -3, 0, 0.5, 200], "float32")
    tensor = ops.convert_to_tensor(logits)
    both = np.stack([numpy(densities.bernoulli_log_prob(float(x), tensor)) for x in (0, 1)])
    assert np.isfinite(both).all()
    np.testing.assert_allclose(np.exp(both.astype(float)).sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(both[1, 3], -np.log1p(np.exp(-0.5)), rtol=1e-6)


@pytest.mark.parametrize("levels", [2, 16, 256])
@pytest.mark.parametrize(("mean", "log_scale"), [(0.1, -3.0), (-0.9, -6.5), (0.5, 1.0), (3.0, -2)])
def test_discretized_logistic_sums_to_one_and_is_the_difference_of_sigmoids(
    levels, mean, log_scale
):
    x = np.arange(levels)
    log_p = numpy(
        densities.discretized_logistic_log_prob(
            ops.convert_to_tensor(x.astype("float32")),
            ops.convert_to_tensor(np.float32(mean)),
            ops.convert_to_tensor(np.float32(log_scale)),
            levels,
        )
    ).astype(float)
    assert np.isfinite(log_p).all()
    edges = (2 * np.arange(1, levels) - 1) / (levels - 1) - 1
    cdf = 0.5 * (1 + np.tanh(0.5 * (edges - mean) / np.exp(log_scale)))
    expected = np.diff(np.concatenate([[0], cdf, [1]]))
    np.testing.assert_allclose(np.exp(log_p), expected, rtol=2e-3, atol=2e-6)
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-4)


def test_discretized_logistic_is_finite_far_in_the_tail():
    log_p = numpy(
        densities.discretized_logistic_log_prob(
            ops.convert_to_tensor(np.float32([10, 250])),
            ops.convert_to_tensor(np.float32([0.9, -0.9])),
            ops.convert_to_tensor(np.float32([-7, -7])),
            256,
        )
    )
    assert np.isfinite(log_p).all()
    assert (log_p < -500).all()


def test_categorical_is_the_log_softmax_at_the_id():
    logits = RANDOM.normal(size=(4, 5, 7)).astype("float32") * 3
    ids = RANDOM.randint(0, 7, (4, 5)).astype("int32")
    whole = logits.astype(float) - np.log(np.exp(logits.astype(float)).sum(-1, keepdims=True))
    expected = np.take_along_axis(whole, ids[..., None], -1)[..., 0]
    computed = numpy(densities.categorical_log_prob(ids, ops.convert_to_tensor(logits)))
    np.testing.assert_allclose(computed, expected, atol=1e-5)


def test_log_mean_exp_does_not_underflow():
    x = np.array([[-2000.0, -2001.0], [3.0, 3.0]], "float32")
    expected = [-2000 + np.log((1 + np.exp(-1)) / 2), 3]
    np.testing.assert_allclose(numpy(densities.log_mean_exp(x, 1)), expected, rtol=1e-6)
