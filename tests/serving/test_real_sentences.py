"""Ten thousand real sentences, served by a process that imports only TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bert4kexue.methods.similarity import encode
from bert4kexue.models import build_transformer_model
from bert4kexue.serving import export_service
from bert4kexue.serving.signatures import sentence_vectors
from bert4kexue.text.wordpiece import Tokenizer

pytest.importorskip("tensorflow")
SHIPPED = Path(__file__).parents[2] / "pretrained" / "roformer_tiny_zh"
SERVE = """
import sys
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures
texts, ids, found = np.load(sys.argv[2])["texts"], np.load(sys.argv[2])["ids"], [[], []]
for start in range(0, len(texts), 250):
    rows = ids[start : start + 250]
    rows = tf.constant(rows[:, : max(1, int((rows != 0).sum(1).max()))])
    found[0].append(served["vectors"](token_ids=rows, segment_ids=tf.zeros_like(rows))["vectors"])
    found[1].append(served["vectors_text"](text=tf.constant(texts[start : start + 250]))["vectors"])
assert "bert4kexue" not in sys.modules
np.save(sys.argv[3], np.stack([np.concatenate(part) for part in found]))
"""


@pytest.mark.long
@pytest.mark.skipif("BERT4KEXUE_DATA" not in os.environ, reason="BERT4KEXUE_DATA is not set")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow")
def test_both_forms_serve_ten_thousand_real_sentences(tmp_path):
    tokenizer = Tokenizer(SHIPPED / "vocab.txt", do_lower_case=True)
    model = build_transformer_model(SHIPPED, model="roformer", with_pool="linear")
    path = Path(os.environ["BERT4KEXUE_DATA"], "cnsd_sts_b", "cnsd-sts-train.txt")
    lines = [line.split("||") for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [text for parts in lines if len(parts) == 4 for text in parts[1:3]][:10000]
    assert len(texts) == 10000
    folder = export_service(
        {"vectors": sentence_vectors(model)}, tmp_path / "m", tokenizer=tokenizer, maxlen=128
    )
    ids = tokenizer.encode_batch(texts, maxlen=128).token_ids
    np.savez(tmp_path / "given.npz", texts=np.array(texts), ids=ids)
    words = [sys.executable, "-c", SERVE, str(folder), str(tmp_path / "given.npz")]
    subprocess.run([*words, str(tmp_path / "found.npy")], check=True)
    found = np.load(tmp_path / "found.npy")
    expected = encode(model, tokenizer, texts)
    print("largest difference", np.abs(found - expected).max(axis=(1, 2)))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
