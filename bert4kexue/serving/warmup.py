"""Requests that TF Serving runs before it calls a model ready.

``assets.extra/tf_serving_warmup_requests`` is a TFRecord of PredictionLog messages. Few fields are
needed, so they are written here in protobuf's wire format: a key (field number times 8, plus 2 for
"bytes of a length"), the length, the bytes.

    PredictionLog.predict_log = 6; PredictLog.request = 1
    PredictRequest.model_spec = 1, .inputs = 2 (a map: key = 1, value = 2)
    ModelSpec.name = 1, .signature_name = 3
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

WARMUP = "assets.extra/tf_serving_warmup_requests"
MOST_REQUESTS = 1000  # TF Serving refuses a file of more


def write_warmup(folder: Path, model: str, requests: list[tuple[str, Mapping[str, Any]]]) -> None:
    """Write the requests, each a signature's name and its inputs by name.

    Raises:
        ValueError: more than 1,000 requests.
    """
    import tensorflow as tf

    if len(requests) > MOST_REQUESTS:
        raise ValueError(
            f"TF Serving takes {MOST_REQUESTS} warm-up requests, got {len(requests)}: give fewer"
        )
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
        for signature, inputs in requests:
            writer.write(prediction_log(model, signature, inputs))


def prediction_log(model: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    """One PredictionLog message."""
    import tensorflow as tf

    spec = _field(1, model.encode()) + _field(3, signature.encode())
    request = _field(1, spec)
    for name, values in inputs.items():
        values = np.asarray(values)
        if values.dtype.kind == "U":
            values = np.char.encode(values, "utf-8").astype(object)
        tensor = tf.make_tensor_proto(values).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
