"""Linear regression against NumPy's least squares, scikit-learn's Ridge, and refits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from bert4kexue.analysis import ClosedFormRegression

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(50, 6)) + 3
Y = X @ RANDOM.normal(size=(6, 2)) + RANDOM.normal(size=(50, 2))
WEIGHTS = RANDOM.uniform(0.5, 2, 50)


def test_it_is_least_squares():
    design = np.hstack([X, np.ones((50, 1))])
    expected = np.linalg.lstsq(design, Y, rcond=None)[0]
    model = ClosedFormRegression().fit(X, Y)
    np.testing.assert_allclose(model.coef_.T, expected[:-1], atol=1e-11)
    np.testing.assert_allclose(model.intercept_, expected[-1], atol=1e-11)


@pytest.mark.parametrize("ridge", [0.5, 30.0])
def test_ridge_is_scikit_learns(ridge):
    linear = pytest.importorskip("sklearn.linear_model")
    theirs = linear.Ridge(ridge).fit(X, Y, WEIGHTS)
    mine = ClosedFormRegression(ridge).fit(X, Y, WEIGHTS)
    np.testing.assert_allclose(mine.predict(X), theirs.predict(X), atol=1e-10)
    assert mine.score(X, Y, WEIGHTS) == pytest.approx(theirs.score(X, Y, WEIGHTS))


@pytest.mark.parametrize("ridge", [0.0, 2.0])
def test_leave_one_out_is_every_refit(ridge):
    found = ClosedFormRegression(ridge).leave_one_out_residuals(X, Y, WEIGHTS)
    for i in range(50):
        rest = np.arange(50) != i
        refit = ClosedFormRegression(ridge).fit(X[rest], Y[rest], WEIGHTS[rest])
        np.testing.assert_allclose(found[i], Y[i] - refit.predict(X[i : i + 1])[0], atol=1e-10)


def test_batches_and_workers_give_one_fit():
    whole = ClosedFormRegression().fit(X, Y[:, 0])
    one, two = ClosedFormRegression(), ClosedFormRegression()
    for start in range(0, 50, 10):
        worker = one if start < 30 else two
        worker.partial_fit(X[start : start + 10], Y[start : start + 10, 0])
    one.merge(two)
    np.testing.assert_allclose(one.coef_, whole.coef_, atol=1e-12)
    assert one.intercept_ == pytest.approx(whole.intercept_)
    assert one.predict(X).shape == (50,)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: ClosedFormRegression(-1.0).fit(X, Y), "ridge must be 0 or more"),
        (lambda: ClosedFormRegression().fit(X[:4], Y[:4]), "ridge above 0"),
        (lambda: ClosedFormRegression().fit(X, Y[:-1]), "with n = 50"),
        (lambda: ClosedFormRegression().fit(X, Y * np.nan), "y contains NaN"),
        (lambda: ClosedFormRegression().predict(X), "not fitted yet"),
        (
            lambda: ClosedFormRegression().leave_one_out_residuals(X[:7], Y[:7]),
            "alone determines a direction",
        ),
        (
            lambda: ClosedFormRegression().fit(X, Y).merge(ClosedFormRegression().fit(X, Y[:, 0])),
            "do not add",
        ),
        (
            lambda: ClosedFormRegression().partial_fit(X, Y).partial_fit(X, Y[:, 0]),
            "targets had the shape",
        ),
    ],
)
def test_mistakes_are_named(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def test_it_is_an_estimator_by_scikit_learns_own_checks():
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = checks.check_estimator(ClosedFormRegression(1.0), on_fail=None, on_skip=None)
    assert not [r["check_name"] for r in results if r["status"] == "failed"]
    assert sum(r["status"] == "passed" for r in results) > 45
