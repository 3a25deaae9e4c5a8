"""Encoders for other runtimes: OpenVINO's IR and ONNX, ids in.

Both are converted from the model's TensorFlow graph, with int32 ``token_ids`` and ``segment_ids``
(b, n) of any size. The vectors of padding (id 0) are as in Keras.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

import keras

from bert4kexue._files import atomic_folder
from bert4kexue.serving.export import default_signature, require_tensorflow, save_module

Format = Literal["openvino", "onnx"]
OPSET = 18


def export_runtime(
    model: keras.Model,
    path: str | Path,
    format: Format,
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    overwrite: bool = False,
) -> Path:
    """Write ``model.xml`` and ``model.bin``, or ``model.onnx``, into a folder.

    Args:
        model: of ids, (b, n).
        path: the folder.
        format: ``'openvino'`` or ``'onnx'``.
        precision: (OpenVINO) ``'bf16'`` asks the runtime for bfloat16 arithmetic, which processors
            with AVX512-BF16 or AMX have; the stored weights stay float32. OpenVINO keeps no such
            wish in a model, so it stands beside, in ``runtime.json``, for ``compile_model``.
        overwrite: replace a folder that exists.

    Raises:
        FileExistsError: the folder exists and ``overwrite`` is False.
        ImportError: the converter is not installed; the message names the extra.
        OSError: it cannot be written, for instance because no space is left; nothing stays then.
        ValueError: another format, or one that has no such precision.
        RuntimeError: the backend is not TensorFlow.
    """
    path = Path(path)
    if format not in get_args(Format):
        raise ValueError(f"format must be one of {get_args(Format)}, got {format!r}")
    if precision not in ("fp32", "bf16") or (format == "onnx" and precision != "fp32"):
        raise ValueError(
            f"{format} is written in fp32{' or bf16' if format == 'openvino' else ''}, got "
            f"{precision!r}"
        )
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: choose another folder or pass overwrite=True")
    require_tensorflow()
    convert = _openvino if format == "openvino" else _onnx
    module = _converter(format)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(path) as folder:
        convert(module, model, folder, precision)
    return path


def _converter(format: Format) -> Any:
    try:
        if format == "openvino":
            import openvino

            return openvino
        import tf2onnx

        return tf2onnx
    except ImportError as error:
        raise ImportError(
            f"{format} needs a converter that is not installed ({error}): "
            f"pip install 'bert4kexue[{format}]'"
        ) from error


def _graph(model: keras.Model) -> tuple[Any, list[Any], tuple[str, ...]]:
    import tensorflow as tf

    names = default_signature(model)
    # Integers all the way: a runtime that computes in bfloat16 rounds ids that pass through the
    # model's float32 inputs, and 7123 becomes another token.
    integers = [keras.Input((None,), dtype="int32", name=name) for name in names.inputs]
    model = keras.models.clone_model(
        model, input_tensors=integers, clone_function=lambda layer: layer
    )
    specs = [tf.TensorSpec((None, None), tf.int32, name) for name in names.inputs]

    def call(*ids: Any) -> dict[str, Any]:
        outputs = model(ids[0] if len(ids) == 1 else list(ids), training=False)
        several = outputs if isinstance(outputs, list | tuple) else [outputs]
        return dict(zip(names.outputs, several, strict=True))

    return tf.function(call, input_signature=specs, autograph=False), specs, names.inputs


def _openvino(openvino: Any, model: keras.Model, folder: Path, precision: str) -> None:
    import tempfile

    import tensorflow as tf

    function, _, inputs = _graph(model)
    with tempfile.TemporaryDirectory() as scratch:
        root = tf.Module()
        concrete = function.get_concrete_function()
        root.held = list(concrete.variables)
        save_module(root, Path(scratch), concrete)
        converted = openvino.convert_model(scratch)
    for port in converted.inputs:
        name = next(name for name in inputs if any(name in given for given in port.get_names()))
        port.get_tensor().set_names({name})
    # Left to itself OpenVINO computes in bfloat16 wherever the processor can.
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    (folder / "runtime.json").write_text(json.dumps(hint) + "\n", encoding="utf-8", newline="\n")
    try:
        openvino.save_model(converted, folder / "model.xml", compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(
            f"OpenVINO could not write to {folder} ({error}): is there space left?"
        ) from error


def _onnx(tf2onnx: Any, model: keras.Model, folder: Path, precision: str) -> None:
    function, specs, _ = _graph(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy's and protobuf's deprecations inside tf2onnx
        tf2onnx.convert.from_function(
            function, specs, opset=OPSET, output_path=str(folder / "model.onnx")
        )
