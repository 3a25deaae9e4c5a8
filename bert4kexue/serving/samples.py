"""What an export is tried on: inputs for every signature, and what came out.

The inputs and outputs are recorded in ``assets.extra/recorded.npz``, under the names
``SIGNATURE/in/INPUT`` and ``SIGNATURE/out/OUTPUT``; `check.py` compares with them, and the warm-up
requests are the same inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert4kexue.serving.export import Endpoint
from bert4kexue.serving.task import Task
from bert4kexue.text.wordpiece import Tokenizer

RECORDED = "assets.extra/recorded.npz"
SENTENCES = (
    "今天的天气很好。",
    "怎么办理信用卡？",
    "我想在网上买一张去北京的火车票，请问需要带什么证件？",
    "TensorFlow 2 里的词表有 12000 个词",
    "[MASK]天下雨",
    "",
)

Recorded = dict[str, dict[str, np.ndarray]]


def sample_inputs(
    tasks: Mapping[str, Task],
    endpoints: Mapping[str, Endpoint],
    tokenizer: Tokenizer | None,
    sentences: Sequence[str],
    maxlen: int | None,
    vocabulary: int,
) -> Recorded:
    """Inputs of every signature: the sentences, or ids of them, or random ids without tokenizer."""
    return {
        name: _inputs(
            tasks[name.removesuffix("_text")], endpoint, tokenizer, sentences, maxlen, vocabulary
        )
        for name, endpoint in endpoints.items()
    }


def _inputs(
    task: Task,
    endpoint: Endpoint,
    tokenizer: Tokenizer | None,
    sentences: Sequence[str],
    maxlen: int | None,
    vocabulary: int,
) -> dict[str, np.ndarray]:
    texts, others = list(sentences), [*sentences[1:], sentences[0]]
    specs = endpoint.inputs
    if specs[0].dtype == "string":
        return {spec.name: np.array(given) for spec, given in zip(specs, (texts, others))}  # noqa: B905
    if tokenizer is None:
        drawn = np.random.default_rng(0).integers(1, vocabulary, (len(texts), 12))
        rows = [drawn, np.zeros_like(drawn), drawn[::-1], np.zeros_like(drawn)]
    else:
        one = tokenizer.encode_batch(texts, others if task.texts == 2 else None, maxlen=maxlen)
        two = tokenizer.encode_batch(others, maxlen=maxlen)
        rows = [one.token_ids, one.segment_ids, two.token_ids, two.segment_ids]
    if len(task.model.inputs) == 1:
        rows = rows[::2]
    return {spec.name: row.astype(spec.dtype) for spec, row in zip(specs, rows)}  # noqa: B905


def run(endpoint: Endpoint, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of an endpoint, computed in this process, before anything is written."""
    import tensorflow as tf

    given = [tf.constant(inputs[spec.name]) for spec in endpoint.inputs]
    outputs = endpoint.function(*given)
    return {
        name: plain(value.numpy()) for name, value in zip(endpoint.outputs, outputs, strict=True)
    }


def run_saved(folder: Path, inputs: Recorded) -> Recorded:
    """Outputs of every signature of a written SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    outputs = {}
    for name, given in inputs.items():
        answers = loaded.signatures[name](**{k: tf.constant(v) for k, v in given.items()})
        outputs[name] = {k: plain(v.numpy()) for k, v in answers.items()}
    return outputs


def plain(values: np.ndarray) -> np.ndarray:
    """Bytes objects as an array of strings, which needs no pickle."""
    if values.dtype != object:
        return values
    texts = [item.decode("utf-8") for item in values.ravel().tolist()]
    return np.array(texts, dtype=str if texts else "U1").reshape(values.shape)


def write_recorded(folder: Path, inputs: Recorded, outputs: Recorded) -> None:
    """Both in one npz."""
    arrays: dict[str, Any] = {}
    for side, recorded in (("in", inputs), ("out", outputs)):
        for signature, named in recorded.items():
            arrays |= {f"{signature}/{side}/{name}": array for name, array in named.items()}
    np.savez_compressed(folder / RECORDED, **arrays)


def largest_change(one: Recorded, two: Recorded) -> dict[str, float | str]:
    """By ``SIGNATURE.OUTPUT``: the largest difference of floats, or how many others differ."""
    changes: dict[str, float | str] = {}
    for signature, named in one.items():
        for name, a in named.items():
            b = two[signature][name]
            if a.shape != b.shape:
                changes[f"{signature}.{name}"] = f"shape {a.shape} became {b.shape}"
            elif a.dtype.kind == "f":
                changes[f"{signature}.{name}"] = float(np.abs(a - b).max(initial=0))
            else:
                changes[f"{signature}.{name}"] = f"{int((a != b).sum())} of {a.size} differ"
    return changes
