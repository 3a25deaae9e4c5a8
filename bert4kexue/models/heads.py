"""Dense heads out of a closed form: a classifier without training, or where training starts.

`fit_head` reads a data set once through an encoder and keeps no more than sufficient statistics, so
it streams, and workers that read parts merge what they found. `dense_head` is the result as a Keras
layer, `with_head` puts it on the encoder: a model to use as it is, to fine-tune or to export.

    estimator = fit_head(encoder, dataset, classes=[0, 1])
    model = with_head(encoder, estimator)
    model.compile("adam", "sparse_categorical_crossentropy")

b batch, d features, k classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import keras
import numpy as np

from bert4kexue.analysis.closed_form import ClosedFormSoftmax
from bert4kexue.analysis.linear_regression import ClosedFormRegression

ClosedForm = ClosedFormSoftmax | ClosedFormRegression


def fit_head(
    encoder: keras.Model | Callable[[Any], Any],
    dataset: Iterable[Any] | Any,
    estimator: ClosedForm | None = None,
    *,
    classes: Sequence[Any] | None = None,
    steps: int | None = None,
) -> Any:
    """Add every batch of a data set to an estimator's statistics; one pass, nothing kept.

    Args:
        encoder: a model whose first output is a vector, (b, d), or a function from a batch of
            inputs to such an array.
        dataset: batches (inputs, labels) or (inputs, labels, sample weights): a `tf.data.Dataset`,
            a `keras.utils.PyDataset`, a torch DataLoader, a list, any iterable. Labels are class
            labels (b,), soft labels (b, k), or numbers for a regression.
        estimator: what to add to; `ClosedFormSoftmax(shrinkage="auto")` when None.
        classes: every class label; needed the first time unless labels are soft.
        steps: batches to read; all when None. An endless data set needs it.

    Returns:
        The estimator. Those of several workers merge: `one.merge(other)`.

    Raises:
        ValueError: the encoder gives no vectors, a batch is no (inputs, labels), or there is none.

    Example:
        >>> parts = [fit_head(encoder, shard, classes=range(15)) for shard in shards]
        >>> estimator = functools.reduce(ClosedFormSoftmax.merge, parts)
    """
    estimator = ClosedFormSoftmax(shrinkage="auto") if estimator is None else estimator
    features = _features(encoder)
    read = 0
    for batch in islice(_batches(dataset), steps):
        if not isinstance(batch, list | tuple) or len(batch) not in (2, 3):
            raise ValueError(
                "a batch must be (inputs, labels) or (inputs, labels, sample_weight), got "
                f"{type(batch).__name__}"
                + (f" of {len(batch)}" if isinstance(batch, list | tuple) else "")
            )
        inputs, labels, *rest = batch
        weights = np.asarray(rest[0]) if rest and rest[0] is not None else None
        rows, targets = features(inputs), np.asarray(labels)
        if isinstance(estimator, ClosedFormSoftmax):
            if targets.ndim == 2 and targets.shape[1] == 1:
                targets = targets[:, 0]
            estimator.partial_fit(rows, targets, classes, weights)
        else:
            estimator.partial_fit(rows, targets, weights)
        read += 1
    if not read:
        raise ValueError("the data set gave no batch: there is nothing to fit")
    return estimator


def dense_head(
    estimator: ClosedForm,
    activation: Literal["softmax", "sigmoid", "linear"] | None = None,
    **kwargs: Any,
) -> keras.layers.Dense:
    """A built Dense layer that computes what the estimator predicts.

    Args:
        estimator: a fitted classifier or regression.
        activation: "softmax" (the default for a classifier) or "linear" for logits, k units;
            "sigmoid" for two classes, one unit, the second class's probability. A regression is
            "linear".
        kwargs: further arguments of the layer: name, dtype, ...

    Raises:
        ValueError: an activation that does not fit the estimator.
    """
    kernel, bias = _weights(estimator, activation)
    if activation is None:
        activation = "softmax" if isinstance(estimator, ClosedFormSoftmax) else "linear"
    layer = keras.layers.Dense(kernel.shape[1], activation=activation, **kwargs)
    layer.build((None, kernel.shape[0]))
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    return layer


def with_head(
    encoder: keras.Model,
    estimator: ClosedForm,
    activation: Literal["softmax", "sigmoid", "linear"] | None = None,
    name: str = "head",
) -> keras.Model:
    """The encoder with the closed form as its last layer; its weights are shared, not copied.

    Args:
        encoder: a model whose first output is the vector, (b, d), that the estimator was fitted on.
        estimator: a fitted classifier or regression.
        activation: as `dense_head` takes it.
        name: of the layer.
    """
    vectors = _pooled(encoder)
    layer = dense_head(estimator, activation, name=name)
    inputs = encoder.inputs if len(encoder.inputs) > 1 else encoder.inputs[0]
    return keras.Model(inputs, layer(vectors))


def _weights(estimator: ClosedForm, activation: str | None) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(estimator, ClosedFormRegression):
        if activation not in (None, "linear"):
            raise ValueError(f"a regression's head is linear, got activation={activation!r}")
        kernel = np.atleast_2d(estimator.coef_).T
        return kernel, np.atleast_1d(estimator.intercept_)
    if activation not in (None, "softmax", "sigmoid", "linear"):
        raise ValueError(f"activation must be softmax, sigmoid or linear, got {activation!r}")
    kernel, bias = estimator.coef_.T, estimator.intercept_
    if activation == "sigmoid":
        if len(bias) != 2:
            raise ValueError(f"a sigmoid head tells two classes apart, got {len(bias)}: softmax")
        return kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]
    return kernel, bias


def _pooled(encoder: keras.Model) -> Any:
    vectors = encoder.outputs[0]
    if len(vectors.shape) != 2:
        raise ValueError(
            f"the encoder's first output has shape {tuple(vectors.shape)}, not (b, d): build it "
            "with with_pool='linear', or put a pooling layer on it"
        )
    return vectors


def _features(encoder: Any) -> Callable[[Any], np.ndarray]:
    if not isinstance(encoder, keras.Model):
        return lambda inputs: np.asarray(encoder(inputs))
    several = len(encoder.outputs) > 1
    _pooled(encoder)

    def features(inputs: Any) -> np.ndarray:
        inputs = list(inputs) if isinstance(inputs, tuple) else inputs
        outputs = encoder.predict_on_batch(inputs)
        return np.asarray(outputs[0] if several else outputs)

    return features


def _batches(dataset: Any) -> Iterator[Any]:
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):  # PyDataset has no end
        return (dataset[i] for i in range(len(dataset)))
    return iter(dataset)
