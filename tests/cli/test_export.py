"""`bert4kexue export`: every head, format and option, from the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from _model_folder import write_folder

from bert4kexue.cli import main
from bert4kexue.cli.models import load_tokenizer
from bert4kexue.methods.nsp_prompt import PromptTemplate
from bert4kexue.methods.zero_shot import ZeroShotClassifier
from bert4kexue.models import build_transformer_model

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"
)

TEXTS = ["今天天气好", "再见"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("cli") / "model")


def export(folder, output, *words):
    return main(["export", "--model", str(folder), "--output", str(output), *words])


def signatures(path):
    return tf.saved_model.load(str(path)).signatures


@pytest.mark.parametrize(
    ("head", "build", "given", "outputs"),
    [
        ("hidden", {}, ["text"], {"token_vectors_text": ["ids", "token_vectors"]}),
        (
            "pooled",
            {"with_pool": "linear"},
            ["text", "second"],
            {"vectors_text": ["vectors"], "cosine_text": ["cosine"]},
        ),
        (
            "nsp",
            {"with_nsp": True},
            ["text", "second"],
            {"next_sentence_text": ["label", "probabilities"]},
        ),
        (
            "tokens",
            {"with_mlm": True},
            ["text"],
            {"fill_text": ["positions", "probabilities", "tokens"]},
        ),
    ],
)
def test_each_head_serves_its_signatures(folder, tmp_path, capsys, head, build, given, outputs):
    assert export(folder, tmp_path / "m", "--head", head) == 0
    told = capsys.readouterr().out
    served = signatures(tmp_path / "m" / "1")
    for name, parts in outputs.items():
        assert sorted(served[name].structured_outputs) == parts
        assert f"{name}({', '.join(given[: 2 if name != 'vectors_text' else 1])})" in told
    assert {name.removesuffix("_text") for name in served} - {"serving_default"} == {
        name.removesuffix("_text") for name in outputs
    }
    model = build_transformer_model(folder, model="roformer", **build)
    batch = load_tokenizer(str(folder)).encode_batch(TEXTS)
    ids = {"token_ids": batch.token_ids, "segment_ids": batch.segment_ids}
    (found,) = served["serving_default"](**{k: tf.constant(v) for k, v in ids.items()}).values()
    np.testing.assert_allclose(found, model.predict(list(ids.values()), verbose=0), atol=1e-5)
    assert main(["export", "--check", str(tmp_path / "m")]) == 0
    assert f"{next(iter(outputs))}." in capsys.readouterr().out


def test_labels_make_a_zero_shot_classifier(folder, tmp_path, capsys):
    words = ["--head", "nsp", "--labels", "天气, 再见", "--place", "suffix"]
    words += ["--template", "今天{}", "--template", "{}"]
    assert export(folder, tmp_path / "m", *words) == 0
    found = signatures(tmp_path / "m" / "1")["zero_shot_text"](text=tf.constant(TEXTS))
    model = build_transformer_model(folder, model="roformer", with_nsp=True)
    labels = ["天气", "再见"]
    templates = [PromptTemplate.of(pattern, labels, "suffix") for pattern in ("今天{}", "{}")]
    classifier = ZeroShotClassifier(model, load_tokenizer(str(folder)), labels, templates)
    expected = classifier.predict_proba(TEXTS)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    assert [x.decode() for x in found["label"].numpy()] == classifier.predict(TEXTS)
    capsys.readouterr()
    assert export(folder, tmp_path / "n", "--head", "pooled", "--labels", "天气,再见") == 2
    assert "--labels need --head nsp" in capsys.readouterr().err
    assert export(folder, tmp_path / "n", "--head", "nsp", "--template", "{}") == 2
    assert "give --labels" in capsys.readouterr().err
    assert not (tmp_path / "n").exists()


@pytest.mark.long
def test_versions_inputs_precision_and_sentences(folder, tmp_path, capsys):
    (tmp_path / "some.txt").write_text("\n".join(TEXTS * 20) + "\n\n", encoding="utf-8")
    words = ["--head", "pooled", "--maxlen", "4", "--sentences", str(tmp_path / "some.txt")]
    assert export(folder, tmp_path / "m", *words, "--precision", "int8", "--version", "7") == 0
    assert export(folder, tmp_path / "m", *words, "--precision", "bf16", "--no-text") == 0
    assert export(folder, tmp_path / "m", *words, "--inputs", "bert4keras") == 0
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["7", "8", "9"]
    cards = {
        n: json.loads((tmp_path / "m" / n / "assets.extra" / "export.json").read_text("utf-8"))
        for n in "789"
    }
    assert [cards[n]["precision"] for n in "789"] == ["int8", "bfloat16", "float32"]
    assert cards["7"]["change_measured_on"] == "40 sentences"
    page = (tmp_path / "m" / "7" / "assets.extra" / "model_card.md").read_text("utf-8")
    assert "in Keras, on 40 sentences." in page
    assert 0 < cards["7"]["change_from_float32"]["vectors_text.vectors"] < 0.1
    assert 0 < cards["8"]["change_from_float32"]["vectors.vectors"] < 0.1
    assert cards["9"]["change_from_float32"]["vectors.vectors"] <= 1e-5
    assert not [name for name in cards["8"]["signatures"] if name.endswith("_text")]
    for name in ("serving_default", "vectors"):
        inputs = cards["9"]["signatures"][name]["inputs"]
        assert {key: dtype for key, (dtype, _) in inputs.items()} == {
            "Input-Token": "float32",
            "Input-Segment": "float32",
        }
    served = signatures(tmp_path / "m" / "9")["vectors_text"]
    one, two = (served(text=tf.constant([text]))["vectors"] for text in ("今天天气好", "今天"))
    np.testing.assert_array_equal(one, two)  # four tokens are [CLS] 今 天 [SEP]
    for n in "789":
        assert main(["export", "--check", str(tmp_path / "m" / n)]) == 0
    with open(tmp_path / "m" / "9" / "variables" / "variables.index", "ab") as file:
        file.write(b"x")
    assert main(["export", "--check", str(tmp_path / "m")]) == 2
    assert "variables/variables.index was changed" in capsys.readouterr().err


def test_sentences_that_are_not_utf8_are_named(folder, tmp_path, capsys):
    (tmp_path / "gbk.txt").write_bytes("今天".encode("gb18030"))
    assert export(folder, tmp_path / "m", "--sentences", str(tmp_path / "gbk.txt")) == 2
    error = capsys.readouterr().err
    assert re.search(r"line 1 of .*gbk\.txt is not UTF-8 \(byte 0xbd\): convert.*iconv", error)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--version", "0"], "a version is 1 or more, got 0"),
        (["--format", "onnx", "--precision", "bf16"], "onnx is written in fp32, got 'bf16'"),
        (["--format", "openvino", "--precision", "int8"], "fp32 or bf16, got 'int8'"),
        (["--sentences", "nowhere.txt"], "nowhere.txt"),
        (["--format", "onnx", "--version", "2"], "--version is of a SavedModel"),
        (["--format", "openvino", "--no-text", "--maxlen", "9"], "--maxlen, --no-text are of a"),
        (["--family", "gpt"], "gpt"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(folder, tmp_path, capsys, words, message):
    assert export(folder, tmp_path / "m", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "TensorFlow could not write to .*File too large"),
        (["--format", "openvino"], "TensorFlow could not write to .*File too large"),
        (["--format", "openvino", "late"], "OpenVINO could not write to .*is there space left"),
        (["--format", "onnx"], "File too large"),
    ],
)
def test_a_disk_that_takes_no_more_leaves_nothing(folder, tmp_path, words, message):
    """A limit on the size of files stands for a full disk: the libraries' own writing fails."""
    pytest.importorskip("resource", reason="Windows has no such limit")
    if words:
        pytest.importorskip({"openvino": "openvino", "onnx": "tf2onnx"}[words[1]])
    code = (
        "import resource, signal, sys\n"
        "from bert4kexue.cli import main\n"
        "def full():\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "if sys.argv[-1] == 'late':\n"
        "    import openvino\n"
        "    sys.argv.pop()\n"
        "    save = openvino.save_model\n"
        "    openvino.save_model = lambda *a, **k: (full(), save(*a, **k))\n"
        "else:\n"
        "    full()\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["export", "--model", str(folder), "--output", str(tmp_path / "m"), *words]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("m/*")) + list(tmp_path.glob(".m*"))


def test_an_existing_folder_is_replaced_only_when_told(folder, tmp_path, capsys):
    pytest.importorskip("openvino")
    words = ("--format", "openvino", "--head", "pooled")
    assert export(folder, tmp_path / "m", *words) == 0
    assert export(folder, tmp_path / "m", *words) == 2
    assert "exists" in capsys.readouterr().err
    assert export(folder, tmp_path / "m", *words, "--overwrite", "--precision", "bf16") == 0
    assert "model.bin, model.xml, runtime.json" in capsys.readouterr().out
    wish = json.loads((tmp_path / "m" / "runtime.json").read_text("utf-8"))
    assert wish == {"INFERENCE_PRECISION_HINT": "bf16"}


@pytest.mark.parametrize("head", ["hidden", "pooled", "nsp", "tokens"])
@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_other_runtimes_compute_each_head(folder, tmp_path, capsys, runtime, head):
    library = pytest.importorskip({"openvino": "openvino", "onnx": "onnxruntime"}[runtime])
    if runtime == "onnx":
        pytest.importorskip("tf2onnx")
    assert export(folder, tmp_path / "m", "--format", runtime, "--head", head) == 0
    assert str(tmp_path / "m") in capsys.readouterr().out
    batch = load_tokenizer(str(folder)).encode_batch(TEXTS)
    ids = {"token_ids": batch.token_ids, "segment_ids": batch.segment_ids}
    if runtime == "openvino":
        wish = json.loads((tmp_path / "m" / "runtime.json").read_text("utf-8"))
        found = library.Core().compile_model(tmp_path / "m" / "model.xml", "CPU", wish)(ids)[0]
    else:
        found = library.InferenceSession(tmp_path / "m" / "model.onnx").run(None, ids)[0]
    build = {
        "hidden": {},
        "pooled": {"with_pool": "linear"},
        "nsp": {"with_nsp": True},
        "tokens": {"with_mlm": True},
    }[head]
    model = build_transformer_model(folder, model="roformer", **build)
    np.testing.assert_allclose(found, model.predict(list(ids.values()), verbose=0), atol=1e-5)
