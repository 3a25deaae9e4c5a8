"""Warm-up requests, read with TF Serving's own protocol."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bert4kexue.serving.warmup import WARMUP, write_warmup

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"
)


def test_serving_reads_the_requests_that_were_written(tmp_path):
    protocol = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    (tmp_path / "assets.extra").mkdir()
    ids = np.arange(300, dtype=np.int32).reshape(2, 150)
    requests = [("vectors", {"token_ids": ids}), ("vectors_text", {"text": np.array(["好", ""])})]
    write_warmup(tmp_path, "模型", requests)
    for record, (signature, inputs) in zip(
        tf.data.TFRecordDataset(str(tmp_path / WARMUP)), requests, strict=True
    ):
        log = protocol.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == "模型"
        assert request.model_spec.signature_name == signature
        for name, values in inputs.items():
            got = tf.make_ndarray(request.inputs[name])
            if got.dtype == object:
                got = np.array([item.decode() for item in got])
            np.testing.assert_array_equal(got, values)


def test_more_requests_than_serving_takes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="1000 warm-up requests, got 1001"):
        write_warmup(tmp_path, "m", [("vectors", {})] * 1001)
