"""Another attention in a model that is there: softmax out, linear in, and what that changes."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from bert4kexue.layers import (
    LanguageModelMask,
    LinearAttention,
    MultiHeadAttention,
    UnifiedLanguageModelMask,
)
from bert4kexue.ops.feature_maps import feature_map

_PROJECTIONS = ("q_dense", "k_dense", "v_dense", "o_dense")
_MASKS = (LanguageModelMask, UnifiedLanguageModelMask)


class Drift(NamedTuple):
    """How far a converted model is from the original at one attention layer, over real tokens.

    Args:
        layer: its name; ``'output'`` for the model's (last) output.
        alone: |linear - softmax| / |softmax| of the layer's outputs on the original's input; None
            for the output.
        together: the same of the two models, each on its own input, so that the layers before
            count.
    """

    layer: str
    alone: float | None
    together: float


def convert_attention(model: keras.Model, spec: Any) -> keras.Model:
    """A copy of a functional model with linear attention for every softmax attention.

    Args:
        model: with its weights, which are copied; it stays as it is. Linear attention in it gets
            the new map.
        spec: the feature map, see :func:`bert4kexue.ops.feature_maps.feature_map`.

    Returns:
        The copy, uncompiled. Frequencies of a random map are drawn anew, its only weights that are
        not the original's. Dropout of attention weights is gone, since there are none to drop.

    Raises:
        ValueError: the model has no attention layer, or one that linear attention cannot replace.
    """
    chosen = feature_map(spec)
    attentions = _attentions(model)
    for layer in attentions:
        _check(layer)
        chosen.size(layer.key_size)

    def replaced(layer: Any) -> Any:
        if isinstance(layer, MultiHeadAttention):
            known = LinearAttention(1, 1).get_config()
            config = {k: v for k, v in layer.get_config().items() if k in known}
            return LinearAttention.from_config({**config, "feature_map": chosen.get_config()})
        config = layer.get_config()
        if isinstance(layer, _MASKS):
            config["as_order"] = True
        return layer.__class__.from_config(config)

    def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, LinearAttention) and kwargs.get("a_bias"):
            kwargs["a_bias"] = "order"
        return layer(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=replaced, call_function=called)
    for old in model.layers:
        new = copy.get_layer(old.name)
        if isinstance(old, MultiHeadAttention):
            for name in _PROJECTIONS:
                getattr(new, name).set_weights(getattr(old, name).get_weights())
        elif old.weights:
            new.set_weights(old.get_weights())
    return copy


def attention_drift(model: keras.Model, converted: keras.Model, inputs: Any) -> list[Drift]:
    """Where a converted model leaves the original, layer by layer.

    Args:
        model: before.
        converted: what :func:`convert_attention` made of it, trained further or not.
        inputs: [token ids (b, n), segment ids (b, n), ...], as both take them.

    Returns:
        One :class:`Drift` for each attention layer, in order, and one for the output.
    """
    inputs = [keras.ops.convert_to_tensor(x) for x in inputs]
    real = keras.ops.convert_to_numpy(inputs[0]) != 0
    real[:, 0] = True
    olds = _attentions(model)
    news = [converted.get_layer(layer.name) for layer in olds]
    before = _values(model, [x for layer in olds for x in (layer.input[0], layer.output)], inputs)
    after = _values(converted, [x for layer in news for x in (*layer.input, layer.output)], inputs)
    found = []
    for layer in news:
        x, old = next(before), next(before)
        _, _, _, *rest = (next(after) for _ in layer.input)
        arguments = layer._inbound_nodes[-1].arguments.kwargs
        options = {k: arguments[k] for k in ("a_bias", "p_bias") if k in arguments}
        mask = keras.ops.convert_to_tensor(real)
        alone = layer([x, x, x, *rest], mask=[None, None, mask], **options)
        found.append(
            Drift(layer.name, _distance(alone, old, real), _distance(next(after), old, real))
        )
    last = (_values(m, [m.outputs[-1]], inputs) for m in (converted, model))
    new, old = (next(values) for values in last)
    found.append(Drift("output", None, _distance(new, old, real)))
    return found


def _values(model: keras.Model, tensors: list[Any], inputs: list[Any]) -> Any:
    """An iterator over what symbolic tensors of a model are, for these inputs."""
    several = keras.Model(model.inputs, tensors)(inputs)
    return iter(several if isinstance(several, list | tuple) else [several])


def _distance(new: Any, old: Any, real: np.ndarray) -> float:
    """Relative, over real tokens where there are tokens."""
    new, old = (np.asarray(keras.ops.convert_to_numpy(x), np.float64) for x in (new, old))
    if new.ndim == 3:
        new, old = new[real], old[real]
    return float(np.linalg.norm(new - old) / np.linalg.norm(old))


def _attentions(model: keras.Model) -> list[Any]:
    found = [layer for layer in model.layers if isinstance(layer, MultiHeadAttention)]
    if not found:
        raise ValueError(
            f"the model {model.name!r} has no MultiHeadAttention among its layers: give "
            "convert_attention what build_transformer_model returns"
        )
    return found


def _check(layer: Any) -> None:
    if layer.return_attention_scores:
        raise ValueError(
            f"{layer.name!r} hands its scores on (residual_attention_scores), and linear attention "
            "never computes them: it cannot be converted"
        )
    if layer.normalization != "softmax":
        raise ValueError(
            f"{layer.name!r} normalizes by {layer.normalization!r}: feature maps stand for softmax "
            "alone, so it cannot be converted"
        )
