"""What an export is tried on: inputs for every signature, and what came out.

Those of the first sentences are recorded in ``assets.extra/recorded.npz``, under the names
``SIGNATURE/in/INPUT`` and ``SIGNATURE/out/OUTPUT``; `check.py` compares with them, and the warm-up
requests are the same inputs. How far other weights change the outputs is measured on all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert4kexue.serving.export import Endpoint
from bert4kexue.serving.task import Task
from bert4kexue.text.wordpiece import Tokenizer

RECORDED = "assets.extra/recorded.npz"
MOST_RECORDED = 32  # sentences, which are also the most that run in one batch
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


def load_signatures(folder: Path) -> Mapping[str, Any]:
    """The callables of a written SavedModel."""
    import tensorflow as tf

    signatures: Mapping[str, Any] = tf.saved_model.load(str(folder)).signatures
    return signatures


def run_saved(signatures: Mapping[str, Any], inputs: Recorded) -> Recorded:
    """Outputs of the signatures of a SavedModel that was loaded."""
    import tensorflow as tf

    outputs = {}
    for name, given in inputs.items():
        answers = signatures[name](**{k: tf.constant(v) for k, v in given.items()})
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


def largest_change(pairs: Iterable[tuple[Recorded, Recorded]]) -> dict[str, float | str]:
    """By ``SIGNATURE.OUTPUT``: the largest difference of floats, or how many rows of others differ.

    Args:
        pairs: outputs before and after, batch by batch.
    """
    largest: dict[str, float] = {}
    differ: dict[str, int] = {}
    rows: dict[str, int] = {}
    for one, two in pairs:
        for signature, named in one.items():
            for name in named:
                a, b = _of_one_shape(named[name], two[signature][name])
                key = f"{signature}.{name}"
                if a.dtype.kind == "f":
                    # Infinities stand for what a row has none of.
                    far = np.abs(np.subtract(a, b, out=np.zeros_like(a), where=a != b))
                    largest[key] = max(largest.get(key, 0.0), float(far.max(initial=0)))
                else:
                    other = (a != b).reshape(len(a), -1).any(1)
                    differ[key] = differ.get(key, 0) + int(other.sum())
                    rows[key] = rows.get(key, 0) + len(a)
    return {**largest, **{key: f"{differ[key]} of {n} rows differ" for key, n in rows.items()}}


def _of_one_shape(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both padded as the signatures pad: a row may have more spans than it had before."""
    shape = np.maximum(a.shape, b.shape)
    padding: Any = {"f": 0.0, "U": ""}.get(a.dtype.kind, -1)

    def padded(array: np.ndarray) -> np.ndarray:
        missing = [(0, int(n)) for n in shape - array.shape]
        return np.pad(array, missing, constant_values=padding)

    return padded(a), padded(b)
