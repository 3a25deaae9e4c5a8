"""A SavedModel whose attention goes in chunks reads any length."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from _tiny import CONFIG

from bert4kexue.models import build_transformer_model


def test_an_exported_model_in_chunks_reads_any_length(tmp_path):
    plain = build_transformer_model(CONFIG, model="roformer", application="unilm")
    model = build_transformer_model(CONFIG, model="roformer", application="unilm", query_chunk=4)
    model.set_weights(plain.get_weights())
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    random = np.random.RandomState(0)
    for n in (2, 8, 13):
        ids = random.randint(1, CONFIG["vocab_size"], (3, n)).astype("float32")
        segments = (np.arange(n) >= n // 2).astype("float32") * np.ones((3, 1), "float32")
        expected = plain.predict_on_batch([ids, segments])
        np.testing.assert_allclose(loaded.serve([ids, segments]), expected, atol=1e-5)
