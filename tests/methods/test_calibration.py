"""Calibrations of known probabilities; thresholds against trying every cosine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.methods.calibration import Calibration, reliability


def drawn(seed=0, n=4000, slope=6.0, offset=-3.0):
    """Cosines, labels, and the probabilities they were drawn from."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-0.2, 1, n)
    p = 1 / (1 + np.exp(-(slope * x + offset)))
    return x, (rng.random(n) < p).astype(int), p


@pytest.mark.parametrize(("method", "error"), [("platt", 0.03), ("isotonic", 0.08)])
def test_probabilities_are_those_of_the_draw(method, error, tmp_path):
    x, y, p = drawn()
    fitted = Calibration.fit(x, y, method)
    found = fitted.probability(x)
    assert np.sqrt(np.mean((found - p) ** 2)) < error
    assert (np.diff(found[np.argsort(x)]) >= 0).all()
    fitted.save(tmp_path / "c.json")
    again = Calibration.load(tmp_path / "c.json")
    np.testing.assert_array_equal(again.probability(x[:50, None]), found[:50, None])
    assert again.threshold(0.8) == fitted.threshold(0.8)
    other = drawn(1)
    for told, true, pairs in reliability(fitted.probability(other[0]), other[1]):
        assert abs(told - true) < 5 * np.sqrt(0.25 / pairs) + 0.02


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=25),
    st.sampled_from([0.5, 0.75, 0.9, 1.0]),
)
def test_the_threshold_is_the_lowest_that_is_precise_enough(rows, wanted):
    x, y = np.array([a / 6 for a, _ in rows]), np.array([int(b) for _, b in rows])
    if len(set(y)) < 2:
        return
    fitted = Calibration.fit(x, y)
    good = [t for t in sorted(set(x)) if y[x >= t].mean() >= wanted]
    if not good:
        with pytest.raises(ValueError, match="the best is"):
            fitted.threshold(wanted)
        return
    found = fitted.threshold(wanted)
    assert found.cosine == good[0]
    assert found.precision == pytest.approx(y[x >= good[0]].mean())
    assert found.recall == pytest.approx(y[x >= good[0]].sum() / y.sum())
    assert found.pairs == (x >= good[0]).sum()
    assert found.lowest_precision < found.precision


def test_threads_are_told_what_one_is():
    x, y, _ = drawn(2, 500)
    fitted = Calibration.fit(x, y)
    expected = fitted.probability(x).tolist(), fitted.threshold(0.7)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(
            lambda p: (fitted.probability(x).tolist(), fitted.threshold(p)), [0.7] * 20
        )
        assert all(one == expected for one in found)


def test_what_cannot_be_calibrated_is_told():
    with pytest.raises(ValueError, match="got the labels"):
        Calibration.fit([0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match="got the labels"):
        Calibration.fit([0.1, 0.2], [1, 5])
    with pytest.raises(ValueError, match="one label a cosine"):
        Calibration.fit([0.1, 0.2], [1])
    with pytest.raises(ValueError, match="NaN or infinity"):
        Calibration.fit([0.1, np.nan], [1, 0])
    with pytest.raises(ValueError, match="method='beta'"):
        Calibration.fit([0.1, 0.2], [1, 0], "beta")
    fitted = Calibration.fit([0.1, 0.2, 0.3], [0, 1, 0])
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        fitted.threshold(1.5)
    with pytest.raises(ValueError, match=r"the best is 0.5000 of 3 pairs"):
        fitted.threshold(0.9)
