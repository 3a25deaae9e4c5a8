"""Losses of sentence vectors: closed forms, NumPy in float64, finite differences, SciPy's ranks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from bert4kexue.metrics import SpearmanCorrelation
from bert4kexue.ops import similarity


def number(x):
    return float(ops.convert_to_numpy(x))


def vectors(seed=0, b=6, width=4):
    return np.random.default_rng(seed).normal(size=(b, width)).astype("float32")


def cosines(v):
    v = v.astype(np.float64)
    v = v / np.linalg.norm(v, axis=1, keepdims=True)
    return v @ v.T


def test_collapsed_vectors_cost_ln_of_the_others():
    for b in (4, 6):
        same = np.tile(vectors(1, 1), (b, 1))
        assert number(similarity.in_batch_contrast(same, 20.0)) == pytest.approx(np.log(b - 1))


def test_orthogonal_negatives_cost_what_the_scale_leaves():
    v = np.repeat(np.eye(3, dtype="float32"), 2, axis=0)
    for scale in (1.0, 5.0, 20.0):
        expected = np.log1p(4 * np.exp(-scale))
        assert number(similarity.in_batch_contrast(v, scale)) == pytest.approx(expected, abs=1e-6)


def test_one_pair_alone_costs_nothing():
    assert number(similarity.in_batch_contrast(vectors(2, 2), 20.0)) == pytest.approx(0, abs=1e-6)


def test_the_partner_of_row_i_is_row_i_xor_1():
    v = vectors(3)
    s = 20.0 * cosines(v)
    np.fill_diagonal(s, -np.inf)
    expected = np.mean([np.log(np.exp(s[i]).sum()) - s[i, i ^ 1] for i in range(6)])
    assert number(similarity.in_batch_contrast(v, 20.0)) == pytest.approx(expected, abs=1e-4)


def test_the_same_sentence_elsewhere_is_no_negative():
    v = vectors(4)
    names = np.array([7, 8, 7, 9, 5, 8])
    s = 20.0 * cosines(v)
    terms = []
    for i in range(6):
        others = [
            j
            for j in range(6)
            if j == i ^ 1 or (j != i and names[j] not in (names[i], names[i ^ 1]))
        ]
        terms.append(np.log(np.exp(s[i, others]).sum()) - s[i, i ^ 1])
    found = similarity.in_batch_contrast(v, 20.0, sentences=names)
    assert number(found) == pytest.approx(np.mean(terms), abs=1e-4)


def test_an_odd_number_of_rows_is_refused():
    for call in (similarity.in_batch_contrast, similarity.pair_features, similarity.pair_cosines):
        with pytest.raises(ValueError, match="even number of rows; got 3"):
            call(ops.convert_to_tensor(vectors(0, 3)))


def test_a_zero_vector_stays_zero_with_a_finite_gradient():
    v = vectors(5)
    v[2] = 0
    assert not ops.convert_to_numpy(similarity.unit(v))[2].any()
    assert np.isfinite(gradient(lambda x: similarity.in_batch_contrast(x, 20.0), v)).all()


def test_distillation_sees_neither_rotation_nor_scale_nor_width():
    v, teacher = vectors(6), vectors(7, 6, 9)
    expected = 100 * np.mean((cosines(v) - cosines(teacher)) ** 2)
    found = similarity.similarity_distillation(v, cosines(teacher).astype("float32"))
    assert number(found) == pytest.approx(expected, rel=1e-5)
    q, _ = np.linalg.qr(vectors(8, 4))
    turned = (3 * v @ q).astype("float32")
    again = similarity.similarity_distillation(turned, cosines(teacher).astype("float32"))
    assert number(again) == pytest.approx(expected, rel=1e-5)
    none = similarity.similarity_distillation(v, cosines(v).astype("float32"))
    assert number(none) == pytest.approx(0, abs=1e-8)


def test_rows_that_fill_up_change_no_loss():
    v, real = vectors(9), np.array([1, 1, 1, 1, 0, 0], "float32")
    target = cosines(vectors(10)).astype("float32")
    for whole, part in (
        (similarity.in_batch_contrast(v, 9.0, real), similarity.in_batch_contrast(v[:4], 9.0)),
        (
            similarity.similarity_distillation(v, target, 100.0, real),
            similarity.similarity_distillation(v[:4], target[:4, :4]),
        ),
        (
            similarity.cosent(v[:3, 0], np.array([1, 0, 2]), 20.0, np.array([1, 1, 0])),
            similarity.cosent(v[:2, 0], np.array([1, 0])),
        ),
    ):
        assert number(whole) == pytest.approx(number(part), rel=1e-5)


def test_five_masked_classes_are_two_heads():
    logits = vectors(11, 5, 5) * 3
    labels = np.array([0, 1, 2, 3, 4])
    found = ops.convert_to_numpy(similarity.masked_cross_entropy(labels, logits))
    for row, label in enumerate(labels):
        own = logits[row, :2] if label < 2 else logits[row, 2:]
        at = label if label < 2 else label - 2
        own = own.astype(np.float64)
        assert found[row] == pytest.approx(np.log(np.exp(own).sum()) - own[at], abs=1e-5)
    # What belongs to the other task gets no gradient at all.
    slope = gradient(lambda x: ops.sum(similarity.masked_cross_entropy(labels, x)), logits)
    assert not slope[:2, 2:].any()
    assert not slope[2:, :2].any()


def test_pair_features_are_both_and_their_distance():
    v = vectors(12)
    found = ops.convert_to_numpy(similarity.pair_features(v))
    np.testing.assert_array_equal(found, np.hstack([v[::2], v[1::2], np.abs(v[::2] - v[1::2])]))


def test_losses_of_the_cosine():
    t, c = np.array([1, 0, 1, 0]), np.array([0.95, 0.05, 0.2, 0.7], "float32")
    for kind, expected in (
        ("cosine", [0.0025, 0.0025, 0.64, 0.49]),
        ("cosine_opposite", [0.0025, 1.1025, 0.64, 2.89]),
        ("cosine_margin", [0, 0, 0.7, 0.6]),
    ):
        found = ops.convert_to_numpy(similarity.cosine_losses(t, c, kind))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="choose 'cosine'"):
        similarity.cosine_losses(t, c, "classes")


def test_cosent_is_the_contrast_where_one_score_is_high():
    c = vectors(13, 1, 5)[0] / 3
    found = similarity.cosent(c, np.array([1, 0, 0, 0, 0]), 20.0)
    s = 20.0 * c.astype(np.float64)
    assert number(found) == pytest.approx(np.log(np.exp(s).sum()) - s[0], rel=1e-5)


def gradient(loss, x):
    """By the backend: one step of plain descent at rate 1 moves a weight by its slope."""

    class Holder(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.kernel = self.add_weight(shape=x.shape, initializer="zeros", name="kernel")

        def call(self, inputs):
            return loss(self.kernel) + 0.0 * ops.sum(inputs)

    layer = Holder()
    symbol = keras.Input((1,))
    model = keras.Model(symbol, layer(symbol))
    layer.kernel.assign(x)
    model.compile(keras.optimizers.SGD(1.0), loss=lambda _, y: y, run_eagerly=True)
    model.train_on_batch(np.zeros((1, 1)), np.zeros((1, 1)))
    return x - ops.convert_to_numpy(layer.kernel)


@pytest.mark.parametrize("name", ["distillation", "contrast"])
def test_gradients_are_the_finite_differences(name):
    target = cosines(vectors(14)).astype("float32")
    x = vectors(15)
    if name == "distillation":

        def loss(v):
            return similarity.similarity_distillation(v, target, 100.0)

        def exact(v):
            return 100 * np.mean((cosines(v) - target.astype(np.float64)) ** 2)
    else:

        def loss(v):
            return similarity.in_batch_contrast(v, 20.0)

        def exact(v):
            s = 20.0 * cosines(v)
            np.fill_diagonal(s, -np.inf)
            return np.mean([np.log(np.exp(s[i]).sum()) - s[i, i ^ 1] for i in range(6)])

    wide, step = x.astype(np.float64), 1e-5
    expected = np.zeros_like(wide)
    for at in np.ndindex(wide.shape):
        up, down = wide.copy(), wide.copy()
        up[at] += step
        down[at] -= step
        expected[at] = (exact(up) - exact(down)) / (2 * step)
    np.testing.assert_allclose(gradient(loss, x), expected, atol=2e-4 * np.abs(expected).max())


def test_spearman_metric_over_batches_with_ties():
    rng = np.random.default_rng(16)
    true, found = rng.integers(0, 5, 41), rng.integers(0, 9, 41) / 4
    metric = SpearmanCorrelation(capacity=64)
    for start in range(0, 41, 16):
        metric.update_state(true[start : start + 16], found[start : start + 16, None])
    assert number(metric.result()) == pytest.approx(rank_correlation(true, found), abs=1e-5)
    metric.reset_state()
    assert np.isnan(number(metric.result()))
    metric.update_state(np.arange(4), np.array([1, 2, 4, 3]))
    assert number(metric.result()) == pytest.approx(0.8, abs=1e-6)


def rank_correlation(a, b):
    """By counting: the rank of x is the number below it, and half of its equals."""
    ranks = [
        [sum(y < x for y in row) + (sum(y == x for y in row) - 1) / 2 for x in row]
        for row in (a, b)
    ]
    return np.corrcoef(*ranks)[0, 1]


def test_spearman_metric_is_nan_rather_than_wrong():
    metric = SpearmanCorrelation(capacity=4)
    metric.update_state(np.array([1.0, 2, 3]), np.array([1.0, 1, 1]))
    assert np.isnan(number(metric.result()))
    metric.reset_state()
    metric.update_state(np.arange(5.0), np.arange(5.0))
    assert np.isnan(number(metric.result()))
    with pytest.raises(ValueError, match="no sample weights"):
        metric.update_state(np.arange(3), np.arange(3), sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="2 or more"):
        SpearmanCorrelation(1)
    assert SpearmanCorrelation.from_config(metric.get_config()).capacity == 4
