"""SavedModels with named int32 signatures, for TF Serving and for whatever loads TensorFlow.

A SavedModel made here needs nothing but TensorFlow to run: no Keras, no bert4kexue.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
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
    """One callable of a SavedModel.

    Args:
        model: its inputs are (b, n) ids.
        inputs: names of the int32 inputs, in the model's order.
        outputs: names of the outputs, in the model's order.
    """

    model: keras.Model
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


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
    signatures: Mapping[str, Signature] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a SavedModel; nothing stands at ``path`` before it is whole.

    Args:
        model: what :func:`bert4kexue.models.build_transformer_model` returned, or any functional
            model of ids.
        path: the folder to write.
        signatures: by name; ``{'serving_default': default_signature(model)}`` when None. Their
            models must share ``model``'s weights.
        overwrite: replace a folder that exists.

    Returns:
        The folder. Every signature takes int32 tensors of dynamic batch and length, by name.

    Raises:
        FileExistsError: the folder exists and ``overwrite`` is False.
        RuntimeError: the backend is not TensorFlow.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: choose another folder or pass overwrite=True")
    if (backend := keras.backend.backend()) != "tensorflow":
        raise RuntimeError(
            f"a SavedModel is written by the TensorFlow backend, and this process runs {backend}: "
            "save the weights, set KERAS_BACKEND=tensorflow, load them and export there"
        )
    signatures = signatures or {"serving_default": default_signature(model)}
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, signature in signatures.items():
        archive.add_endpoint(
            name,
            _endpoint(signature),
            input_signature=[
                keras.InputSpec(shape=(None, None), dtype="int32", name=input_name)
                for input_name in signature.inputs
            ],
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(path) as folder:
        archive.write_out(str(folder), verbose=False)
    return path


def _endpoint(signature: Signature) -> Any:
    def call(*ids: Any) -> dict[str, Any]:
        outputs = signature.model(ids[0] if len(ids) == 1 else list(ids), training=False)
        several = outputs if isinstance(outputs, list | tuple) else [outputs]
        return dict(zip(signature.outputs, several, strict=True))

    return call


def _name(layer: str, known: Mapping[str, str]) -> str:
    for suffix, name in known.items():
        if layer.endswith(suffix):
            return name
    if re.search(r"Transformer-\d+-FeedForward-Norm$", layer):
        return "hidden_states"
    return re.sub(r"\W+", "_", layer).strip("_").lower()
