"""SavedModels with named signatures, for TF Serving and for whatever loads TensorFlow.

A SavedModel made here needs nothing but TensorFlow to run: no Keras, no bert4kexue.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from bert4kexue._files import atomic_folder

_INPUT_NAMES = {
    "Input-Token": "token_ids",
    "Input-Segment": "segment_ids",
    "Input-Position": "position_ids",
}
_OUTPUT_NAMES = {
    "Pooler-Dense": "pooled",
    "NSP-Proba": "next_sentence_probabilities",
    "MLM-Activation": "token_probabilities",
}


@dataclasses.dataclass(frozen=True)
class Signature:
    """A model as it is: one callable of a SavedModel.

    Args:
        model: its inputs are (b, n) ids.
        inputs: names of the int32 inputs, in the model's order.
        outputs: names of the outputs, in the model's order.
    """

    model: keras.Model
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A function of tensors: one callable of a SavedModel.

    Args:
        function: takes a tensor for each input, in order; returns a mapping by output name, or one
            tensor or a sequence in the order of ``outputs``.
        inputs: name, shape and dtype of each; ``'string'`` is a dtype too.
        outputs: names of the outputs.
        resources: what the function uses and TensorFlow does not find by itself: modules with
            lookup tables, assets. Variables are found.
    """

    function: Callable[..., Any]
    inputs: tuple[keras.InputSpec, ...]
    outputs: tuple[str, ...]
    resources: tuple[Any, ...] = ()


def default_signature(model: keras.Model) -> Signature:
    """Names read off the layers: ``token_ids``, ``segment_ids``; ``pooled``, ``hidden_states``, ...

    A layer that has no such name gives its own, in lower case with underscores.
    """
    return Signature(
        model,
        tuple(_name(tensor.name, _INPUT_NAMES) for tensor in model.inputs),
        tuple(_name(name, _OUTPUT_NAMES) for name in model.output_names),
    )


def export_saved_model(
    model: keras.Model,
    path: str | Path,
    signatures: Mapping[str, Signature | Endpoint] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a SavedModel; nothing stands at ``path`` before it is whole.

    Args:
        model: what :func:`bert4kexue.models.build_transformer_model` returned, or any functional
            model of ids.
        path: the folder to write.
        signatures: by name; ``{'serving_default': default_signature(model)}`` when None. Without a
            ``serving_default`` the first one has that name too.
        overwrite: replace a folder that exists.

    Returns:
        The folder. A ``Signature`` takes int32 tensors of dynamic batch and length, by name.

    Raises:
        FileExistsError: the folder exists and ``overwrite`` is False.
        OSError: it cannot be written, for instance because no space is left; nothing stays then.
        RuntimeError: the backend is not TensorFlow.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: choose another folder or pass overwrite=True")
    require_tensorflow()
    chosen = signatures or {"serving_default": default_signature(model)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(path) as folder:
        write_saved_model(folder, chosen)
    return path


def require_tensorflow() -> None:
    """Raise a RuntimeError that says what to do unless Keras runs on TensorFlow."""
    if (backend := keras.backend.backend()) != "tensorflow":
        raise RuntimeError(
            f"a SavedModel is written by the TensorFlow backend, and this process runs {backend}: "
            "save the weights, set KERAS_BACKEND=tensorflow, load them and export there"
        )


def write_saved_model(
    folder: Path,
    signatures: Mapping[str, Signature | Endpoint],
    assets: Mapping[str, Path] | None = None,
) -> None:
    """Write into a folder that exists; ``assets`` are files to carry along, by role.

    Raises:
        OSError: TensorFlow could not write, in its own words.
    """
    import tensorflow as tf

    root = tf.Module()
    traced = {name: _traced(as_endpoint(signature)) for name, signature in signatures.items()}
    if "serving_default" not in traced:
        traced["serving_default"] = next(iter(traced.values()))
    variables = {id(v): v for function in traced.values() for v in function.variables}
    root.held = list(variables.values())
    root.resources = [
        resource
        for signature in signatures.values()
        if isinstance(signature, Endpoint)
        for resource in signature.resources
    ]
    root.files = {role: tf.saved_model.Asset(str(file)) for role, file in (assets or {}).items()}
    save_module(root, folder, traced)


def save_module(module: Any, folder: Path, signatures: Any) -> None:
    """`tf.saved_model.save`; what TensorFlow cannot write is an OSError.

    Raises:
        OSError: TensorFlow could not write, in its own words.
    """
    import tensorflow as tf

    try:
        tf.saved_model.save(module, str(folder), signatures=signatures)
    except tf.errors.OpError as error:
        raise OSError(f"TensorFlow could not write to {folder}: {error.message}") from error


def as_endpoint(signature: Signature | Endpoint) -> Endpoint:
    """Either as a function of tensors."""
    if isinstance(signature, Endpoint):
        return signature
    model = signature.model

    def call(*ids: Any) -> Any:
        return model(ids[0] if len(ids) == 1 else list(ids), training=False)

    inputs = tuple(
        keras.InputSpec(shape=(None, None), dtype="int32", name=name) for name in signature.inputs
    )
    return Endpoint(call, inputs, signature.outputs)


def _traced(endpoint: Endpoint) -> Any:
    import tensorflow as tf

    def call(*tensors: Any) -> dict[str, Any]:
        outputs = endpoint.function(*tensors)
        if isinstance(outputs, Mapping):
            return {name: outputs[name] for name in endpoint.outputs}
        several = outputs if isinstance(outputs, list | tuple) else [outputs]
        return dict(zip(endpoint.outputs, several, strict=True))

    specs = [tf.TensorSpec(spec.shape, spec.dtype, spec.name) for spec in endpoint.inputs]
    return tf.function(call, input_signature=specs, autograph=False).get_concrete_function()


def _name(layer: str, known: Mapping[str, str]) -> str:
    for suffix, name in known.items():
        if layer.endswith(suffix):
            return name
    if re.search(r"Transformer-\d+-FeedForward-Norm$", layer):
        return "hidden_states"
    return re.sub(r"\W+", "_", layer).strip("_").lower()
