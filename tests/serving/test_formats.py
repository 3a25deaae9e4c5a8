"""OpenVINO and ONNX: the same vectors in their own runtimes."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from _reference import random_batch, random_checkpoint
from _tiny import CONFIG

from bert4kexue.models import build_transformer_model
from bert4kexue.serving import export_service
from bert4kexue.serving.formats import export_runtime
from bert4kexue.serving.signatures import token_vectors

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"
)


@pytest.fixture(scope="module", params=["bert", "roformer"])
def model(request):
    checkpoint = random_checkpoint(CONFIG, request.param, seed=1)
    return build_transformer_model(CONFIG, checkpoint, request.param)


@pytest.mark.parametrize(("rows", "length"), [(1, 5), (6, 13)])
def test_openvino_computes_the_same(model, tmp_path, rows, length):
    openvino = pytest.importorskip("openvino")
    folder = export_runtime(model, tmp_path / "m", "openvino")
    wish = json.loads((folder / "runtime.json").read_text(encoding="utf-8"))
    compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", wish)
    ids = [part.astype("int32") for part in random_batch(CONFIG, 0, rows, length)]
    found = compiled({"token_ids": ids[0], "segment_ids": ids[1]})[0]
    np.testing.assert_allclose(found, model.predict(ids, verbose=0), atol=1e-5)


@pytest.fixture(scope="module")
def large():
    """A model of 4,096 tokens, ids that bfloat16 does not hold, and the vectors they have."""
    config = {**CONFIG, "vocab_size": 4096}
    model = build_transformer_model(config, random_checkpoint(config, "bert", seed=1), "bert")
    ids = np.arange(2049, 4096, 31, dtype="int32").reshape(1, -1)[:, :12]
    return model, ids, model.predict([ids, np.zeros_like(ids)], verbose=0)


def errors(found, expected):
    return np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)


def test_bfloat16_weights_leave_ids_above_256_as_they_are(large, tmp_path):
    model, ids, expected = large
    tasks = {"tokens": token_vectors(model)}
    path = export_service(tasks, tmp_path / "m", precision="bfloat16")
    serve = tf.saved_model.load(str(path)).signatures["tokens"]
    zeros = tf.zeros_like(ids)
    found = serve(token_ids=tf.constant(ids), segment_ids=zeros)["token_vectors"]
    assert errors(found, expected).max() < 0.1
    rounded = tf.cast(tf.cast(ids, tf.bfloat16), tf.int32)
    wrong = serve(token_ids=rounded, segment_ids=zeros)["token_vectors"]
    moved = (rounded.numpy() != ids)[0]
    assert moved.sum() > 6
    assert errors(wrong, expected)[0, moved].min() > 0.3


def test_bfloat16_arithmetic_leaves_ids_above_256_as_they_are(large, tmp_path):
    openvino = pytest.importorskip("openvino")
    model, ids, expected = large
    folder = export_runtime(model, tmp_path / "m", "openvino", precision="bf16")
    wish = json.loads((folder / "runtime.json").read_text(encoding="utf-8"))
    assert wish == {"INFERENCE_PRECISION_HINT": "bf16"}
    compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", wish)
    read = openvino.Core().read_model(folder / "model.xml")
    for port in read.inputs:
        assert {kind.get_type_name() for kind in integers_from(port)} <= {"i32", "i64"}
    zeros = np.zeros_like(ids)
    found = compiled({"token_ids": ids, "segment_ids": zeros})[0]
    assert errors(found, expected).max() < 0.1
    rounded = np.array(tf.cast(tf.cast(ids, tf.bfloat16), tf.int32))
    moved = (rounded != ids)[0]
    wrong = compiled({"token_ids": rounded, "segment_ids": zeros})[0]
    assert errors(wrong, expected)[0, moved].min() > 0.3


def integers_from(port):
    """Types of every conversion between an input and what first computes with it."""
    found, ahead = [port.get_element_type()], list(port.get_target_inputs())
    while ahead:
        node = ahead.pop().get_node()
        if node.get_type_name() == "Convert":
            found.append(node.get_output_element_type(0))
            ahead += list(node.output(0).get_target_inputs())
    return found


@pytest.mark.parametrize(("rows", "length"), [(1, 5), (6, 13)])
def test_onnx_computes_the_same(model, tmp_path, rows, length):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = export_runtime(model, tmp_path / "m", "onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    ids = [part.astype("int32") for part in random_batch(CONFIG, 0, rows, length)]
    found = session.run(None, {"token_ids": ids[0], "segment_ids": ids[1]})[0]
    np.testing.assert_allclose(found, model.predict(ids, verbose=0), atol=1e-5)


def test_mistakes_are_told_before_anything_is_written(model, tmp_path):
    with pytest.raises(ValueError, match="onnx is written in fp32, got 'bf16'"):
        export_runtime(model, tmp_path / "m", "onnx", precision="bf16")
    with pytest.raises(ValueError, match="format must be one of"):
        export_runtime(model, tmp_path / "m", "tflite")
    (tmp_path / "m").mkdir()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_runtime(model, tmp_path / "m", "openvino")


def test_a_missing_converter_names_its_extra(model, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(ImportError, match=r"bert4kexue\[openvino\]"):
        export_runtime(model, tmp_path / "m", "openvino")
    assert list(tmp_path.iterdir()) == []
