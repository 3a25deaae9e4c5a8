"""What is made of log weights, of preprocessing and of reference densities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.methods.density_estimates import (
    atypicality,
    bits_per_dimension,
    concatenate,
    divisor_chain,
    estimate,
    rarity,
)
from bert4kexue.methods.density_preprocessing import Preprocessing


def test_weights_that_would_underflow_are_summed_in_logarithms():
    found = estimate(np.array([[-2000.0, -2001.0], [5.0, 5.0]]))
    assert found.log_prob[0] == pytest.approx(-2000 + np.log((1 + np.exp(-1)) / 2))
    assert found.log_prob[1] == pytest.approx(5)
    assert found.standard_error[1] == 0
    assert found.effective_samples[1] == pytest.approx(2)


def test_rows_without_any_weight_are_minus_infinity():
    found = estimate(np.full((1, 4), -np.inf))
    assert found.log_prob[0] == -np.inf


def test_the_standard_error_is_that_of_repetitions():
    random = np.random.default_rng(0)
    weights = 0.5 * random.standard_normal((4000, 50))
    found = estimate(weights)
    assert found.log_prob.std() == pytest.approx(found.standard_error.mean(), rel=0.05)
    assert found.log_prob.mean() == pytest.approx(0.125, abs=0.01)


@given(st.integers(1, 3000))
def test_every_number_of_draws_divides_the_next(samples):
    chain = divisor_chain(samples)
    assert chain[0] == 1
    assert chain[-1] == samples
    assert all(b % a == 0 and b > a for a, b in itertools.pairwise(chain))


@given(st.integers(1, 60), st.integers(0, 5))
def test_the_curve_never_falls(samples, seed):
    weights = np.random.default_rng(seed).standard_normal((3, samples)) * 4
    found = estimate(weights)
    assert (np.diff(found.curve, axis=0) > -1e-12).all()
    np.testing.assert_allclose(found.curve[0], weights.mean(1))
    assert (
        (found.effective_samples >= 1 - 1e-9) & (found.effective_samples <= samples + 1e-9)
    ).all()


def test_parts_join_to_the_whole():
    weights = np.random.default_rng(0).standard_normal((6, 10))
    whole, joined = estimate(weights), concatenate([estimate(weights[:2]), estimate(weights[2:])])
    for name in ("log_prob", "standard_error", "effective_samples", "curve"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(joined, name))


def test_bits_are_those_of_the_uniform_distribution():
    """A uniform density on [0, 1) after dequantizing bytes costs 8 bits, whatever the scale."""
    for scale in (None, 1.0, 2 / 255):
        preprocessing = Preprocessing(256, scale=scale)
        log_prob = -5 * np.log(256 * preprocessing.factor)  # uniform on the interval, 5 pixels
        assert preprocessing.bits_per_dimension(log_prob, 5) == pytest.approx(8)
    assert bits_per_dimension(-10 * np.log(2), 10) == pytest.approx(1)


def test_bits_without_the_jacobian_are_other_bits():
    nats = np.array([12.0])
    with_jacobian = Preprocessing().bits_per_dimension(nats, 3)
    np.testing.assert_allclose(with_jacobian, bits_per_dimension(nats, 3) + 8)


@given(st.integers(2, 300), st.floats(-3, 3), st.floats(0.01, 5), st.integers(0, 3))
def test_preprocessing_comes_back(levels, shift, scale, seed):
    x = np.random.default_rng(seed).integers(0, levels, (4, 5))
    preprocessing = Preprocessing(levels, scale=scale, shift=shift)
    y = preprocessing.forward(x, seed)
    # float32 may put a draw just below the next level on that level.
    assert (np.abs(preprocessing.backward(y) - x) <= 1).all()
    assert (preprocessing.backward(y) == x).mean() > 0.9


def test_the_jacobian_is_the_slope():
    smooth = Preprocessing(dequantize=False, scale=-0.25, shift=3.0)
    slope = (smooth.forward(np.array([2.0])) - smooth.forward(np.array([1.0])))[0]
    assert smooth.log_jacobian(7) == pytest.approx(7 * np.log(abs(slope)))


@pytest.mark.parametrize("x", [[-1], [256], [0.5]])
def test_only_levels_are_dequantized(x):
    with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
        Preprocessing().forward(np.array(x))


@pytest.mark.parametrize("scale", [0.0, float("inf"), float("nan")])
def test_a_scale_without_a_way_back_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be finite"):
        Preprocessing(scale=scale)


def test_rarity_is_the_share_that_is_likelier():
    reference = np.arange(9.0)
    np.testing.assert_allclose(rarity(np.array([-1.0, 4.0, 20.0]), reference), [1.0, 0.5, 0.1])


def test_an_alarm_on_rarity_rings_as_often_as_it_says():
    random = np.random.default_rng(0)
    scores = rarity(random.standard_normal(5000), random.standard_normal(5000))
    assert (scores > 0.95).mean() == pytest.approx(0.05, abs=0.015)


def test_atypicality_sees_what_is_too_likely():
    reference = np.random.default_rng(0).normal(-100, 5, 1000)
    low, usual, high = atypicality(np.array([-130.0, -100.0, -50.0]), reference)
    assert usual < 1 < low < high


@pytest.mark.parametrize("reference", [[1.0], [[1.0, 2.0]], [1.0, np.nan]])
def test_a_reference_must_be_several_numbers(reference):
    with pytest.raises(ValueError, match="2 or more numbers"):
        rarity(np.zeros(1), np.array(reference))


def test_zero_dimensions_have_no_bits():
    with pytest.raises(ValueError, match="dimensions must be 1"):
        bits_per_dimension(np.zeros(1), 0)


def test_no_weights_and_broken_weights_are_refused():
    with pytest.raises(ValueError, match="samples must be 1"):
        estimate(np.zeros((2, 0)))
    with pytest.raises(ValueError, match="NaN"):
        estimate(np.array([[0.0, np.nan]]))
