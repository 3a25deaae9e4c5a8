"""A closed form as a Keras head: the same probabilities, streamed, merged, and a good start."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tiny_models import tiny_model

from bert4kexue.analysis import ClosedFormRegression, ClosedFormSoftmax
from bert4kexue.models.heads import dense_head, fit_head, with_head

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 6)).astype("float32")
Y = RANDOM.integers(0, 3, 90)
X[np.arange(90), Y] += 2


def tiny_encoder():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, activation="tanh")])


def batches(size=20, labels=Y):
    return [(X[i : i + size], labels[i : i + size]) for i in range(0, 90, size)]


class Rows(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return batches()[index]


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_dense_layer_gives_the_estimators_probabilities(offset):
    """The offset would cost a float32 head its digits if the weights were not centred."""
    estimator = ClosedFormSoftmax().fit(X + offset, Y)
    computed = keras.ops.convert_to_numpy(dense_head(estimator)(X + np.float32(offset)))
    expected = estimator.predict_proba((X + np.float32(offset)).astype("float64"))
    np.testing.assert_allclose(computed, expected, atol=1e-5 if offset == 0 else 1e-3)


def test_a_sigmoid_head_gives_the_second_class():
    estimator = ClosedFormSoftmax().fit(X, Y > 0)
    layer = dense_head(estimator, "sigmoid")
    assert layer.units == 1
    computed = keras.ops.convert_to_numpy(layer(X))
    np.testing.assert_allclose(computed[:, 0], estimator.predict_proba(X)[:, 1], atol=1e-5)


def test_a_linear_head_gives_logits_or_numbers():
    estimator = ClosedFormSoftmax().fit(X, Y)
    logits = keras.ops.convert_to_numpy(dense_head(estimator, "linear")(X))
    np.testing.assert_allclose(logits, estimator.decision_function(X), atol=1e-4)
    for targets in (X @ np.arange(6.0), X @ RANDOM.normal(size=(6, 2))):
        regression = ClosedFormRegression().fit(X, targets)
        numbers = keras.ops.convert_to_numpy(dense_head(regression)(X))
        np.testing.assert_allclose(numbers.reshape(targets.shape), targets, atol=1e-4)


@pytest.mark.parametrize("kind", ["list", "generator", "PyDataset", "function"])
def test_one_pass_over_any_data_set_is_a_fit_of_all_rows(kind):
    encoder = tiny_encoder()
    whole = ClosedFormSoftmax("auto").fit(encoder.predict(X, verbose=0), Y)
    dataset = {"PyDataset": Rows(), "generator": iter(batches())}.get(kind, batches())
    source = encoder
    if kind == "function":
        source = lambda x: encoder.predict_on_batch(x)  # noqa: E731
    estimator = fit_head(source, dataset, classes=[0, 1, 2])
    np.testing.assert_allclose(estimator.coef_, whole.coef_, atol=1e-4)
    assert estimator.statistics_.rows == 90


def test_workers_merge_and_an_endless_data_set_takes_steps():
    encoder = tiny_encoder()
    whole = fit_head(encoder, batches(), classes=[0, 1, 2])

    def endless():
        while True:
            yield from batches()[:2]

    one = fit_head(encoder, endless(), classes=[0, 1, 2], steps=2)
    two = fit_head(encoder, batches()[2:], classes=[0, 1, 2])
    np.testing.assert_allclose(one.merge(two).coef_, whole.coef_, atol=1e-5)


def test_soft_labels_and_sample_weights_stream_too():
    encoder = tiny_encoder()
    weights = RANDOM.uniform(0.5, 2, 90)
    soft = np.eye(3)[Y]
    weighted = [
        (X[i : i + 30], soft[i : i + 30], weights[i : i + 30].astype("float32"))
        for i in range(0, 90, 30)
    ]
    streamed = fit_head(encoder, weighted)
    whole = ClosedFormSoftmax("auto").fit(encoder.predict(X, verbose=0), Y, weights)
    np.testing.assert_allclose(streamed.coef_, whole.coef_, atol=1e-4)
    targets = [(x, x @ np.ones((6, 1), "float32")) for x, _ in batches()]
    regression = fit_head(encoder, targets, ClosedFormRegression())
    assert regression.coef_.shape == (1, 5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data needs TensorFlow")
def test_tf_data_streams():
    import tensorflow as tf

    encoder = tiny_encoder()
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(32)
    streamed = fit_head(encoder, dataset, classes=[0, 1, 2])
    whole = ClosedFormSoftmax("auto").fit(encoder.predict(X, verbose=0), Y)
    np.testing.assert_allclose(streamed.coef_, whole.coef_, atol=1e-4)


def test_a_transformer_with_the_head_predicts_what_the_estimator_does():
    encoder = tiny_model(application="encoder", with_pool="linear")
    ids = RANDOM.integers(2, 9, (60, 5)).astype("int32")
    labels = (ids[:, 1] > 5).astype("int32")
    data = [([ids[i : i + 20], np.zeros_like(ids[:20])], labels[i : i + 20]) for i in (0, 20, 40)]
    estimator = fit_head(encoder, data, ClosedFormSoftmax(0.1), classes=[0, 1])
    model = with_head(encoder, estimator)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(1e-3), loss, metrics=["accuracy"])
    both = [ids, np.zeros_like(ids)]
    before, accuracy = model.evaluate(both, labels, verbose=0)
    assert accuracy == pytest.approx(
        estimator.score(np.asarray(encoder.predict_on_batch(both)), labels), abs=0.02
    )
    assert before < np.log(2)


def test_gradient_descent_from_the_closed_form_lowers_the_loss():
    model = keras.Sequential([keras.Input((6,)), dense_head(ClosedFormSoftmax("auto").fit(X, Y))])
    model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    before = model.evaluate(X, Y, batch_size=90, verbose=0)
    model.fit(X, Y, batch_size=90, epochs=5, verbose=0)
    assert model.evaluate(X, Y, batch_size=90, verbose=0) < before < np.log(3)


def test_mistakes_are_named():
    encoder = tiny_encoder()
    with pytest.raises(ValueError, match="gave no batch"):
        fit_head(encoder, [])
    with pytest.raises(ValueError, match=r"must be \(inputs, labels\)"):
        fit_head(encoder, [X])
    with pytest.raises(ValueError, match="classes must be given"):
        fit_head(encoder, batches())
    with pytest.raises(ValueError, match="with_pool='linear'"):
        fit_head(tiny_model(application="encoder"), batches())
    estimator = ClosedFormSoftmax().fit(X, Y)
    with pytest.raises(ValueError, match="tells two classes apart, got 3"):
        dense_head(estimator, "sigmoid")
    with pytest.raises(ValueError, match="softmax, sigmoid or linear"):
        dense_head(estimator, "relu")
    with pytest.raises(ValueError, match="regression's head is linear"):
        dense_head(ClosedFormRegression().fit(X, X[:, 0]), "softmax")
