"""The contract that every layer of the library passes, on every backend.

``check_layer`` takes a constructor and NumPy inputs and proves: the config survives JSON; shapes
and dtypes announced are those computed, with batch and length unknown; a model around the layer
predicts what the layer computes, partial last batch included; it comes back from a ``.keras``
file; one training step reaches every trainable weight; half precisions give finite values near
float32's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

HALF_TOLERANCE = {"mixed_float16": 2e-2, "mixed_bfloat16": 1.5e-1}


def to_numpy(x: Any) -> Any:
    """Tensors, in any nesting, as NumPy arrays."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, x)


def randomize(layer: keras.layers.Layer, seed: int = 0) -> None:
    """Give every weight random values, so that no zero or one hides a mistake."""
    random = np.random.RandomState(seed)
    for weight in layer.weights:
        if "seed" not in weight.path:
            weight.assign(random.normal(scale=0.3, size=weight.shape) + 0.1)


def check_layer(
    make: Callable[..., keras.layers.Layer],
    inputs: Any,
    folder: Path,
    *,
    dtypes: Any = None,
    arguments: dict[str, Any] | None = None,
    half: bool = True,
) -> None:
    """Prove the contract for ``make(**policy)`` on ``inputs``, one array or a list of them.

    ``dtypes`` of the inputs default to the arrays'. ``arguments`` go to every call.
    """
    arguments = arguments or {}
    dtypes = dtypes or keras.tree.map_structure(lambda x: str(x.dtype), inputs)
    layer = make()
    expected = to_numpy(layer(keras.tree.map_structure(_tensor, inputs), **arguments))
    randomize(layer)
    expected = to_numpy(layer(keras.tree.map_structure(_tensor, inputs), **arguments))
    _check_config(layer)
    model = _model(layer, inputs, dtypes, arguments)
    _check_shapes(model, expected)
    _check_predictions(model, inputs, expected)
    _check_file(model, inputs, expected, folder)
    _check_training(model, inputs, expected)
    if half:
        for policy, tolerance in HALF_TOLERANCE.items():
            _check_half(make, layer, inputs, dtypes, arguments, expected, policy, tolerance)


def _tensor(x: np.ndarray) -> Any:
    return keras.ops.convert_to_tensor(x)


def _model(layer: Any, inputs: Any, dtypes: Any, arguments: dict[str, Any]) -> keras.Model:
    """The layer between inputs whose batch, and whose length where there is one, are unknown."""

    def symbol(x: np.ndarray, dtype: str) -> Any:
        sequence = x.ndim == 3 or (x.ndim == 2 and x.dtype.kind == "i")
        return keras.Input((None, *x.shape[2:]) if sequence else x.shape[1:], dtype=dtype)

    symbols = keras.tree.map_structure(symbol, inputs, dtypes)
    return keras.Model(symbols, layer(symbols, **arguments))


def _check_config(layer: keras.layers.Layer) -> None:
    config = layer.get_config()
    again = type(layer).from_config(json.loads(json.dumps(config)))
    assert json.dumps(again.get_config()) == json.dumps(config)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(revived) is type(layer)


def _check_shapes(model: keras.Model, expected: Any) -> None:
    for announced, computed in zip(model.outputs, keras.tree.flatten(expected), strict=True):
        assert len(announced.shape) == computed.ndim
        for a, c in zip(announced.shape, computed.shape, strict=True):
            assert a in (None, c)
        assert announced.dtype == str(computed.dtype)


def _check_predictions(model: keras.Model, inputs: Any, expected: Any) -> None:
    first = keras.tree.flatten(expected)[0]
    whole = to_numpy(model(keras.tree.map_structure(_tensor, inputs)))
    _assert_close(whole, expected, 1e-5)
    rows = len(keras.tree.flatten(inputs)[0])
    if first.shape[0] == rows and rows > 2:  # two rows, then a partial last batch
        _assert_close(model.predict(inputs, batch_size=2, verbose=0), expected, 1e-5)


def _check_file(model: keras.Model, inputs: Any, expected: Any, folder: Path) -> None:
    path = folder / f"{model.name}.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    _assert_close(to_numpy(again(keras.tree.map_structure(_tensor, inputs))), expected, 1e-5)


def _check_training(model: keras.Model, inputs: Any, expected: Any) -> None:
    if not model.trainable_variables:
        return
    before = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
    random = np.random.RandomState(1)
    targets = keras.tree.map_structure(
        lambda x: random.normal(size=x.shape).astype("float32"), expected
    )
    model.compile(
        keras.optimizers.SGD(0.1), loss=keras.tree.map_structure(lambda x: "mse", targets)
    )
    model.train_on_batch(inputs, targets)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        new = keras.ops.convert_to_numpy(variable)
        assert np.isfinite(new).all(), variable.path
        if "k_dense/bias" not in variable.path:  # softmax does not see what moves all keys alike
            assert not np.array_equal(old, new), f"no gradient reached {variable.path}"
    for old, variable in zip(before, model.trainable_variables, strict=True):
        variable.assign(old)


def _check_half(
    make: Any,
    layer: Any,
    inputs: Any,
    dtypes: Any,
    arguments: dict[str, Any],
    expected: Any,
    policy: str,
    tolerance: float,
) -> None:
    half = make(dtype=policy)
    model = _model(half, inputs, dtypes, arguments)
    values = {w.path.split("/", 1)[-1]: w for w in layer.weights}
    for weight in half.weights:
        if "seed" not in weight.path:
            weight.assign(values[weight.path.split("/", 1)[-1]])
    computed = to_numpy(model(keras.tree.map_structure(_tensor, inputs)))
    for c, e in zip(keras.tree.flatten(computed), keras.tree.flatten(expected), strict=True):
        c = c.astype("float32")
        assert np.isfinite(c).all(), policy
        assert np.abs(c - e.astype("float32")).max() <= tolerance * max(1.0, np.abs(e).max())


def _assert_close(computed: Any, expected: Any, tolerance: float) -> None:
    for c, e in zip(keras.tree.flatten(computed), keras.tree.flatten(expected), strict=True):
        assert c.shape == e.shape
        np.testing.assert_allclose(c.astype("float64"), e.astype("float64"), rtol=0, atol=tolerance)
