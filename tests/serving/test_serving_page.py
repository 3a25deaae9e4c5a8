"""docs/serving.md: its commands, clients and outputs are run and compared as they stand there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.error

import keras
import numpy as np
import pytest
from _sources import ROOT

from bert4kexue.cli import main
from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.models import build_transformer_model
from bert4kexue.text.wordpiece import Tokenizer

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"
)

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
SHIPPED = ROOT / "pretrained" / "roformer_tiny_zh"
ASKED = ["怎么开机", "如何启动"]


def block(*words: str) -> str:
    """The one code block of the page that holds these words."""
    found = re.findall(r"^```\w*\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    found = [text for text in found if all(word in text for word in words)]
    assert len(found) == 1, (words, len(found))
    return found[0]


def arguments(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    assert words[0] == "bert4kexue"
    return [str(ROOT / word) if word.startswith("pretrained/") else word for word in words[1:]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Where the page's first commands were run."""
    folder = tmp_path_factory.mktemp("page")
    before = os.getcwd()
    os.chdir(folder)
    try:
        for line in block("bert4kexue export --check served/roformer").splitlines():
            assert main(arguments(line)) == 0
    finally:
        os.chdir(before)
    return folder / "served" / "roformer"


@pytest.fixture(scope="module")
def expected():
    model = build_transformer_model(SHIPPED, model="roformer", with_pool="linear")
    tokenizer = Tokenizer(SHIPPED / "vocab.txt", do_lower_case=True)
    return SentenceEncoder(model, tokenizer).encode(ASKED)


def test_the_folder_is_as_drawn(exported):
    drawn = block("assets.extra/SHA256SUMS", "saved_model.pb")
    names = set(re.findall(r"[\w.]*\.(?:txt|md|json|npz|pb)|SHA256SUMS|tf_serving\w+", drawn))
    assert names > {"SHA256SUMS", "vocab.txt", "tf_serving_warmup_requests"}
    there = {path.name for path in (exported / "1").rglob("*")}
    assert names - there == {"labels_TASK.txt"}, "a classifier has that"


def test_saved_model_cli_shows_what_the_page_says(exported):
    command = re.search(r"`saved_model_cli (show .*?)`", PAGE)
    assert command
    done = subprocess.run(
        [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", *command[1].split()],
        cwd=exported.parent.parent,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    start = done.stdout.index("The given SavedModel SignatureDef")
    assert done.stdout[start:].split() == block("Method name is:").split()


def test_the_rest_client_gets_the_vectors(exported, expected):
    from _serving_stand_ins import rest_server

    client = block("import urllib.request")
    assert len([line for line in client.splitlines() if line]) <= 10
    assert client.count("localhost:8501") == 1
    with rest_server(exported) as place:
        names: dict = {}
        exec(client.replace("localhost:8501", place), names)
        np.testing.assert_allclose(np.array(names["vectors"]), expected, atol=1e-5)
        wrong = client.replace('"vectors_text"', '"cosine_text"').replace(
            '{"text": ["怎么开机", "如何启动"]}', '{"text": ["怎么开机"], "second": ["a", "b"]}'
        )
        with pytest.raises(urllib.error.HTTPError) as error:
            exec(wrong.replace("localhost:8501", place), {})
        told = json.loads(error.value.read())["error"]
        error.value.close()
    assert "one pair a row" in told


def test_the_grpc_client_gets_the_vectors(exported, expected):
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    from _serving_stand_ins import grpc_server

    client = block("import grpc")
    assert len([line for line in client.splitlines() if line]) <= 10
    assert client.count("localhost:8500") == client.count("timeout=5.0") == 1
    with grpc_server(exported) as place:
        client = client.replace("localhost:8500", place).replace("timeout=5.0", "timeout=600.0")
        names: dict = {}
        exec(client, names)
        np.testing.assert_allclose(names["vectors"], expected, atol=1e-5)
        wrong = client.replace('"vectors_text"', '"vectors"').replace(
            'request.inputs["text"].CopyFrom(tf.make_tensor_proto(["怎么开机", "如何启动"]))',
            'for name in ("token_ids", "segment_ids"):\n'
            "    request.inputs[name].CopyFrom(tf.make_tensor_proto([[99999]]))",
        )
        with pytest.raises(grpc.RpcError) as error:
            exec(wrong, {})
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "token_ids must be 0 to 7588: is the tokenizer of another" in error.value.details()


def test_the_config_is_one_of_a_model_server(exported):
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    read = text_format.Parse(block("model_config_list"), config.ModelServerConfig())
    (model,) = read.model_config_list.config
    assert model.name == exported.name
    assert model.base_path == f"/models/{exported.name}"


def test_the_classifier_of_the_page_is_exported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = json.loads((SHIPPED / "bert_config.json").read_text(encoding="utf-8"))
    config |= {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    body = build_transformer_model({**config, "intermediate_size": 8}, with_pool="linear")
    model = keras.Model(body.inputs, keras.layers.Dense(2, activation="softmax")(body.outputs[0]))
    tokenizer = Tokenizer(SHIPPED / "vocab.txt", do_lower_case=True)
    exec(block("import export_service"), {"model": model, "tokenizer": tokenizer})
    served = tf.saved_model.load("served/reviews/1").signatures
    assert served["kind_text"](text=tf.constant(["好"]))["label"].numpy()[0].decode() in "负面 正面"


def test_the_openvino_of_the_page_gives_the_hidden_states(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.chdir(tmp_path)
    line = next(line for line in block("--format openvino").splitlines() if "openvino " in line)
    words = [
        str(SHIPPED) if word == "chinese_L-12_H-768_A-12" else word for word in arguments(line)
    ]
    assert main(words) == 0
    ids = Tokenizer(SHIPPED / "vocab.txt", do_lower_case=True).encode_batch(ASKED)
    names = {"token_ids": ids.token_ids, "segment_ids": ids.segment_ids}
    exec(block("runtime.json", "compile_model"), names)
    model = build_transformer_model(SHIPPED, model="roformer")
    expected = model.predict(list(ids[:2]), verbose=0)
    error = np.linalg.norm(names["vectors"] - expected) / np.linalg.norm(expected)
    assert error < 0.05, "bfloat16 has 8 bits"
