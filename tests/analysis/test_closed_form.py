"""The closed form against scikit-learn, against refits, and on Gaussians with a known answer."""

from __future__ import annotations

import functools
import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.analysis import ClassMoments, ClosedFormSoftmax, softmax_head


def gaussians(n=300, d=8, k=4, seed=0):
    random = np.random.default_rng(seed)
    mix = random.normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
    means = random.normal(size=(k, d))
    y = np.concatenate([np.arange(k), random.integers(0, k, n - k)])
    return random.normal(size=(n, d)) @ mix + means[y], y, means, mix.T @ mix


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 0.7, 1.0])
def test_it_equals_scikit_learns_lda(k, shrinkage):
    lda = pytest.importorskip("sklearn.discriminant_analysis").LinearDiscriminantAnalysis
    x, y, _, _ = gaussians(k=k, seed=k)
    mine = ClosedFormSoftmax(shrinkage).fit(x, y)
    theirs = lda(solver="lsqr", shrinkage=shrinkage or None).fit(x, y)
    np.testing.assert_allclose(mine.predict_proba(x), theirs.predict_proba(x), rtol=0, atol=1e-10)
    if k > 2:  # for two classes theirs takes the log of a rounded probability
        logs = theirs.predict_log_proba(x)
        np.testing.assert_allclose(mine.predict_log_proba(x), logs, rtol=0, atol=1e-10)
    differences = theirs.coef_ if k == 2 else theirs.coef_[1:] - theirs.coef_[:1]
    np.testing.assert_allclose(mine.coef_[1:] - mine.coef_[:1], differences, rtol=0, atol=1e-10)


def test_it_is_the_posts_formula():
    x, y, _, _ = gaussians()
    p = np.bincount(y) / len(y)
    means = np.stack([x[y == i].mean(0) for i in range(4)])
    second = x.T @ x / len(y) - (means * p[:, None]).T @ means  # S~ + m~'m~ - sum p_i m_i'm_i
    weights = np.linalg.solve(second, means.T)
    logits = x @ weights + np.log(p) - 0.5 * (means @ weights).diagonal()
    mine = ClosedFormSoftmax().fit(x, y)
    np.testing.assert_allclose(
        mine.predict_log_proba(x), logits - np.logaddexp.reduce(logits, axis=1)[:, None], atol=1e-10
    )


def test_two_classes_are_the_logistic_form():
    x, y, _, _ = gaussians(k=2)
    head = softmax_head(ClassMoments.of(x, y, 2))
    m0, m1 = x[y == 0].mean(0), x[y == 1].mean(0)
    within = np.cov(x[y == 0].T, bias=True) * (y == 0).mean()
    within += np.cov(x[y == 1].T, bias=True) * (y == 1).mean()
    w = np.linalg.solve(within, m1 - m0)
    b = 0.5 * (m0 @ np.linalg.solve(within, m0) - m1 @ np.linalg.solve(within, m1))
    b += np.log((y == 1).mean() / (y == 0).mean())
    np.testing.assert_allclose(head.weights[:, 1] - head.weights[:, 0], w, atol=1e-11)
    np.testing.assert_allclose(head.bias[1] - head.bias[0], b, atol=1e-11)


def test_on_gaussians_it_approaches_the_true_posterior():
    x, y, means, covariance = gaussians(n=200_000, d=5, k=3)
    weights = np.linalg.solve(covariance, means.T)
    logits = x @ weights - 0.5 * (means @ weights).diagonal() + np.log(np.bincount(y) / len(y))
    truth = np.exp(logits - np.logaddexp.reduce(logits, axis=1)[:, None])
    assert np.abs(ClosedFormSoftmax().fit(x, y).predict_proba(x) - truth).mean() < 0.002


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    soft=st.booleans(),
    offset=st.sampled_from([0.0, 1e4]),
)
def test_merged_statistics_are_one_fit(seed, cuts, soft, offset):
    random = np.random.default_rng(seed)
    x = random.normal(size=(60, 3)) + offset
    y = random.integers(0, 3, 60)
    labels = random.dirichlet([1, 1, 1], 60) if soft else y
    weights = random.integers(0, 3, 60).astype(float)
    whole = ClassMoments.of(x, labels, 3, weights)
    edges = [0, *sorted(cuts), 60]
    parts = [
        ClassMoments.of(x[a:b], labels[a:b], 3, weights[a:b]) for a, b in itertools.pairwise(edges)
    ]
    random.shuffle(parts)
    merged = functools.reduce(ClassMoments.merged, parts, ClassMoments.empty(3, 3))
    assert merged.rows == whole.rows
    np.testing.assert_allclose(merged.weights, whole.weights, atol=1e-12)
    np.testing.assert_allclose(merged.means, whole.means, rtol=1e-13, atol=1e-13 * (1 + offset))
    np.testing.assert_allclose(merged.scatter, whole.scatter, atol=1e-11 * (1 + offset))


def test_batches_and_workers_give_the_head_of_one_fit():
    x, y, _, _ = gaussians()
    names = np.array(["体育", "财经", "房产", "教育"])[y]
    for shrinkage in (0.0, 0.2, "auto"):
        whole = ClosedFormSoftmax(shrinkage).fit(x, names)
        one, two = (ClosedFormSoftmax(shrinkage) for _ in range(2))
        for start in range(0, 300, 50):
            part = slice(start, start + 50)
            worker = one if start < 150 else two
            worker.partial_fit(x[part], names[part], classes=list(set(names)))
        merged = one.merge(two)
        assert merged.predict(x).tolist() == whole.predict(x).tolist()
        np.testing.assert_allclose(merged.coef_, whole.coef_, atol=1e-11)
        np.testing.assert_allclose(merged.intercept_, whole.intercept_, atol=1e-11)


def test_a_weight_of_two_is_the_row_twice():
    x, y, _, _ = gaussians()
    weights = np.random.default_rng(1).integers(0, 4, len(y))
    for shrinkage in (0.0, "auto", "ledoit-wolf", "loo"):
        weighted = ClosedFormSoftmax(shrinkage).fit(x, y, weights)
        repeated = ClosedFormSoftmax(shrinkage if shrinkage != "loo" else weighted.shrinkage_)
        repeated.fit(np.repeat(x, weights, 0), np.repeat(y, weights))
        np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-10)


def test_soft_labels_of_certain_rows_are_hard_labels():
    x, y, _, _ = gaussians()
    hard, soft = ClosedFormSoftmax().fit(x, y), ClosedFormSoftmax().fit(x, np.eye(4)[y])
    np.testing.assert_allclose(hard.coef_, soft.coef_, atol=1e-10)


def test_a_soft_label_is_its_row_in_every_class_with_the_share_as_weight():
    x, _, _, _ = gaussians(n=80)
    shares = np.random.default_rng(3).dirichlet(np.ones(4), 80)
    soft = ClosedFormSoftmax(0.1).fit(x, shares)
    hard = ClosedFormSoftmax(0.1).fit(
        np.repeat(x, 4, 0), np.tile(np.arange(4), 80), shares.reshape(-1)
    )
    np.testing.assert_allclose(soft.coef_, hard.coef_, atol=1e-10)
    np.testing.assert_allclose(soft.intercept_, hard.intercept_, atol=1e-10)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0, "auto"])
@pytest.mark.parametrize("priors", [None, "uniform"])
def test_leave_one_out_is_every_refit(shrinkage, priors):
    x, y, _, _ = gaussians(n=60, d=6, k=3)
    weights = np.random.default_rng(5).uniform(0.3, 2, 60)
    model = ClosedFormSoftmax(shrinkage, priors)
    found = model.leave_one_out(x, y, weights)
    expected = np.zeros((60, 3))
    for i in range(60):
        rest = np.arange(60) != i
        refit = ClosedFormSoftmax(shrinkage, priors).fit(x[rest], y[rest], weights[rest])
        expected[i] = refit.predict_log_proba(x[i : i + 1])[0]
    np.testing.assert_allclose(found.log_proba, expected, atol=1e-9)
    wrong = expected.argmax(1) != y
    assert found.error == pytest.approx((weights * wrong).sum() / weights.sum())
    own = expected[np.arange(60), y]
    assert found.log_loss == pytest.approx(-(weights * own).sum() / weights.sum())


def test_the_only_row_of_a_class_is_an_error_when_left_out():
    x, y, _, _ = gaussians(n=40, d=3, k=2)
    y[0] = 9
    found = ClosedFormSoftmax(0.1).leave_one_out(x, y)
    assert found.log_proba[0, 2] == -np.inf
    assert not found.right[0]
    assert found.log_loss == np.inf
    assert np.isfinite(found.log_proba[1:]).all()


@pytest.mark.parametrize("shrinkage", ["auto", "ledoit-wolf", "loo"])
def test_near_as_many_rows_as_features_shrinkage_repairs_the_collapse(shrinkage):
    """Trap 9: with n about d the plain closed form falls to chance."""
    d, n = 128, 132
    random = np.random.default_rng(0)
    shift = random.normal(size=d) * 0.22
    y = np.arange(n + 4000) % 2
    x = random.normal(size=(n + 4000, d)) + np.where(y[:, None] == 1, shift, -shift)
    with pytest.warns(UserWarning, match="falls towards chance"):
        plain = ClosedFormSoftmax().fit(x[:n], y[:n])
    shrunk = ClosedFormSoftmax(shrinkage).fit(x[:n], y[:n])
    assert plain.score(x[n:], y[n:]) < 0.7
    assert shrunk.score(x[n:], y[n:]) > 0.9


def test_the_estimated_intensity_is_near_the_best():
    """OAS and Ledoit-Wolf against the intensity that knows the true covariance."""
    random = np.random.default_rng(0)
    scales = np.linspace(0.3, 2, 30)
    grid = np.linspace(0, 1, 201)
    found = {"auto": [], "ledoit-wolf": []}
    best = []
    for _ in range(20):
        y = np.arange(60) % 2
        x = random.normal(size=(60, 30)) * scales
        s = ClassMoments.of(x, y, 2).scatter / 60
        target = np.eye(30) * np.trace(s) / 30
        truth = np.diag(scales**2)
        losses = [(((1 - a) * s + a * target - truth) ** 2).sum() for a in grid]
        best.append(grid[np.argmin(losses)])
        for name, values in found.items():
            values.append(ClosedFormSoftmax(name).fit(x, y).shrinkage_)
    for values in found.values():
        assert abs(np.mean(values) - np.mean(best)) < 0.08


def test_ledoit_wolf_is_scikit_learns():
    covariance = pytest.importorskip("sklearn.covariance")
    x, y, _, _ = gaussians(n=50, d=20)
    centred = x - np.stack([x[y == i].mean(0) for i in range(4)])[y]
    expected = covariance.ledoit_wolf_shrinkage(centred, assume_centered=True)
    assert ClosedFormSoftmax("ledoit-wolf").fit(x, y).shrinkage_ == pytest.approx(expected)


def test_loo_takes_the_intensity_with_the_least_loss():
    x, y, _, _ = gaussians(n=40, d=20, k=2)
    chosen = ClosedFormSoftmax("loo").fit(x, y).shrinkage_
    losses = {a: ClosedFormSoftmax(a).leave_one_out(x, y).log_loss for a in (0.001, 0.1, 1.0)}
    assert ClosedFormSoftmax(chosen).leave_one_out(x, y).log_loss <= min(losses.values())


def test_priors_move_the_bias_alone():
    x, y, _, _ = gaussians()
    plain = ClosedFormSoftmax().fit(x, y)
    priors = np.array([0.1, 0.2, 0.3, 0.4])
    moved = ClosedFormSoftmax(priors=priors).fit(x, y)
    np.testing.assert_array_equal(moved.coef_, plain.coef_)
    frequencies = np.bincount(y) / len(y)
    np.testing.assert_allclose(
        moved.intercept_ - plain.intercept_, np.log(priors / frequencies), atol=1e-12
    )


def test_large_float32_features_do_not_overflow():
    x, y, _, _ = gaussians()
    large = ClosedFormSoftmax().fit((x * 1e25).astype("float32"), y)
    np.testing.assert_allclose(
        large.predict_proba((x * 1e25).astype("float32")),
        ClosedFormSoftmax().fit(x, y).predict_proba(x),
        atol=1e-5,
    )


def test_units_of_measurement_do_not_look_like_collinearity():
    x, y, _, _ = gaussians()
    units = 10.0 ** np.arange(-8, 8, 2)
    plain, scaled = ClosedFormSoftmax().fit(x, y), ClosedFormSoftmax().fit(x * units, y)
    np.testing.assert_allclose(scaled.predict_proba(x * units), plain.predict_proba(x), atol=1e-9)


def test_pinv_ignores_what_does_not_vary():
    x, y, _, _ = gaussians()
    wide = np.hstack([x, x[:, :2], np.ones((len(x), 1))])
    pinv = ClosedFormSoftmax(singular="pinv").fit(wide, y)
    np.testing.assert_allclose(
        pinv.predict_proba(wide), ClosedFormSoftmax().fit(x, y).predict_proba(x), atol=1e-8
    )


# --- bad input ---


def wide(kind):
    x, y, _, _ = gaussians()
    return {
        "collinear": (np.hstack([x, x[:, :1] + x[:, 1:2]]), y, "columns are collinear"),
        "constant": (np.hstack([x, np.ones((len(x), 1))]), y, r"columns \[8\] are constant"),
        "few rows": (x[:8], y[:8], "too few rows"),
    }[kind]


@pytest.mark.parametrize("kind", ["collinear", "constant", "few rows"])
def test_a_singular_covariance_is_refused_with_the_remedy(kind):
    x, y, message = wide(kind)
    with pytest.raises(ValueError, match=message) as error:
        ClosedFormSoftmax().fit(x, y)
    assert "shrinkage='auto'" in str(error.value)
    assert np.isfinite(ClosedFormSoftmax("auto").fit(x, y).predict_proba(x)).all()


def test_a_class_without_rows_is_refused():
    x, y, _, _ = gaussians()
    model = ClosedFormSoftmax().partial_fit(x, y, classes=range(5))
    with pytest.raises(ValueError, match=r"classes number \[4\] have no rows"):
        model.predict(x)


def test_a_class_of_one_row_fits():
    x, y, _, _ = gaussians()
    y[0] = 7
    assert ClosedFormSoftmax().fit(x, y).predict_proba(x).shape == (300, 5)


def test_a_single_class_is_refused():
    x, _, _, _ = gaussians()
    with pytest.raises(ValueError, match="needs two classes"):
        ClosedFormSoftmax().fit(x, np.zeros(len(x), int))


def test_labels_may_be_any_numbers_or_names():
    x, y, _, _ = gaussians(k=2)
    for names in ([100, 116], ["好", "坏"], [False, True], [-3, 8]):
        labels = np.array(names)[y]
        assert set(ClosedFormSoftmax().fit(x, labels).predict(x)) == set(names)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    x, y, _, _ = gaussians()
    x[17, 3] = bad
    with pytest.raises(ValueError, match="first at row 17, column 3"):
        ClosedFormSoftmax().fit(x, y)


def test_squares_beyond_float64_are_refused():
    x, y, _, _ = gaussians()
    with pytest.raises(ValueError, match="overflow float64"):
        ClosedFormSoftmax().fit(x * 1e200, y)


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ([0.5, 0.5, 0.0, 0.0], "must be above 0"),
        ([0.5, 0.5], "one number for each of 4 classes"),
        ([0.5, 0.5, 0.5, 0.5], "must sum to 1"),
        ("flat", "None, 'uniform' or"),
    ],
)
def test_priors_without_a_log_are_refused(priors, message):
    x, y, _, _ = gaussians()
    with pytest.raises(ValueError, match=message):
        ClosedFormSoftmax(priors=priors).fit(x, y)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda x, y: ClosedFormSoftmax(1.5).fit(x, y), "shrinkage must lie in"),
        (lambda x, y: ClosedFormSoftmax("much").fit(x, y), "shrinkage must lie in"),
        (lambda x, y: ClosedFormSoftmax(singular="no").fit(x, y), "'raise' or 'pinv'"),
        (lambda x, y: ClosedFormSoftmax().fit(x, y[:-1]), "one for each row"),
        (lambda x, y: ClosedFormSoftmax().fit(x, y + 0.5), "Unknown label type"),
        (lambda x, y: ClosedFormSoftmax().fit(x, None), "requires y"),
        (lambda x, y: ClosedFormSoftmax().fit(x[0], y[:1]), "Reshape your data"),
        (lambda x, y: ClosedFormSoftmax().fit(x, np.eye(4)[y] * 2), "each row's sum 1"),
        (lambda x, y: ClosedFormSoftmax().fit(x, y, -np.ones(len(y))), "not negative"),
        (lambda x, y: ClosedFormSoftmax().fit(x, y, np.zeros(len(y))), "zero for every row"),
        (lambda x, y: ClosedFormSoftmax().fit(x, y).predict(x[:, 1:]), "is expecting 8 features"),
        (lambda x, y: ClosedFormSoftmax().predict(x), "not fitted yet"),
        (lambda x, y: ClosedFormSoftmax().partial_fit(x, y), "classes must be given"),
        (lambda x, y: ClosedFormSoftmax().partial_fit(x, y, [0, 1]), "not among the classes"),
        (lambda x, y: ClosedFormSoftmax("loo").partial_fit(x, y, range(4)), "all rows at once"),
        (lambda x, y: ClosedFormSoftmax("loo").leave_one_out(x, y), "has no closed form"),
        (lambda x, y: ClosedFormSoftmax(0.1).leave_one_out(x, np.eye(4)[y]), "soft labels"),
        (lambda x, y: ClosedFormSoftmax().leave_one_out(x[:12], y[:12]), "is singular"),
        (lambda x, y: ClosedFormSoftmax().fit(x * 1j, y), "Complex data not supported"),
        (lambda x, y: ClosedFormSoftmax().set_params(shrink=1), "Invalid parameter"),
    ],
)
def test_mistakes_are_named(act, message):
    x, y, _, _ = gaussians()
    with pytest.raises(ValueError, match=message):
        act(x, y)


def test_statistics_that_do_not_belong_together_are_refused():
    x, y, _, _ = gaussians()
    one = ClosedFormSoftmax().fit(x, y)
    with pytest.raises(ValueError, match="differ"):
        one.merge(ClosedFormSoftmax().fit(x, y + 1))
    with pytest.raises(ValueError, match="do not add up"):
        one.merge(ClosedFormSoftmax().fit(x[:, 1:], y))


# --- scikit-learn's own machinery ---


@pytest.mark.parametrize("shrinkage", ["auto", 0.0])
def test_it_is_an_estimator_by_scikit_learns_own_checks(shrinkage):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    singular = "their rows make a singular covariance, which shrinkage=0 refuses on purpose"
    refused = {
        "check_sample_weights_shape": singular,
        "check_sample_weights_not_overwritten": singular,
        "check_sample_weight_equivalence_on_dense_data": singular,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = checks.check_estimator(
            ClosedFormSoftmax(shrinkage),
            on_fail=None,
            on_skip=None,
            expected_failed_checks=refused if shrinkage == 0 else {},
        )
    failed = [r["check_name"] for r in results if r["status"] == "failed"]
    assert not failed
    assert sum(r["status"] == "passed" for r in results) > 50


def test_it_works_in_pipelines_clones_and_searches():
    pytest.importorskip("sklearn")
    from sklearn.base import clone, is_classifier
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, _, _ = gaussians()
    model = ClosedFormSoftmax(shrinkage=0.25)
    assert clone(model).get_params() == model.get_params()
    assert is_classifier(model)
    pipeline = make_pipeline(StandardScaler(), model)
    assert cross_val_score(pipeline, x, y, cv=3).mean() > 0.5
    search = GridSearchCV(ClosedFormSoftmax(), {"shrinkage": [0.0, 0.5, "auto"]}, cv=3).fit(x, y)
    assert search.best_params_["shrinkage"] in (0.0, 0.5, "auto")
    assert repr(model) == "ClosedFormSoftmax(shrinkage=0.25)"
