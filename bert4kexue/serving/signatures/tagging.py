"""Taggers: spans with their labels, from BIO labels of the tokens.

A span of type T begins at B-T, or at an I-T that continues nothing of type T, and goes on through
I-T: the reading of the CoNLL scorer. [CLS], [SEP] and padding belong to no span.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from bert4kexue.serving.task import Forward, Task, checked_labels, one_output, pick


def tagging(
    model: keras.Model,
    labels: Sequence[str],
    *,
    special_ids: Sequence[int] = (),
    logits: bool = False,
) -> Task:
    """Spans (b, s), in order, padded: ``spans`` -1, ``labels`` empty, ``scores`` 0.

    ``spans`` (b, s, 2) are tokens, or characters (code points of the text) where strings come in;
    the second number is one past the last. ``scores`` are the mean probability of the tokens' own
    labels.

    Args:
        model: gives scores (b, n, labels).
        labels: ``O``, ``B-T`` and ``I-T``, in the order of the scores.
        special_ids: ids that are in no span: those of [CLS] and [SEP].
        logits: the scores are not probabilities yet.

    Raises:
        ValueError: no such output, or labels that do not fit it or are not BIO.
    """
    index = one_output(model, 3, what="tagging", remedy="add a Dense layer on the hidden states")
    labels = checked_labels(labels, model.outputs[index].shape[-1], what="the tagger")
    types = _types(labels)
    type_of = [types.index(label[2:]) if label != "O" else -1 for label in labels]
    begins = [label.startswith("B-") for label in labels]
    excluded = (0, *special_ids)

    def answer(forward: Forward, token_ids: Any, segment_ids: Any) -> tuple[Any, ...]:
        import tensorflow as tf

        scores = tf.cast(pick(forward(token_ids, segment_ids), index), tf.float32)
        probabilities = tf.nn.softmax(scores) if logits else scores
        best = tf.argmax(probabilities, axis=-1)
        special = tf.reduce_any(token_ids[..., None] == tf.constant(excluded), axis=-1)
        kind = tf.where(special, -1, tf.gather(tf.constant(type_of), best))
        outside = tf.fill([tf.shape(kind)[0], 1], -1)
        before = tf.concat([outside, kind[:, :-1]], axis=1)
        starts = (kind >= 0) & (tf.gather(tf.constant(begins), best) | (before != kind))
        after = tf.concat([kind[:, 1:], outside], axis=1)
        next_starts = tf.concat([starts[:, 1:], tf.fill(tf.shape(outside), False)], axis=1)
        ends = (kind >= 0) & ((after != kind) | next_starts)
        first, last = tf.where(starts), tf.where(ends)  # as many in each row, in one order
        rows = tf.shape(token_ids, out_type=tf.int64)[0]
        sums = tf.cumsum(tf.reduce_max(probabilities, axis=-1), axis=1)
        length = last[:, 1] - first[:, 1] + 1
        total = tf.gather_nd(sums, last) - tf.gather_nd(sums, first)
        total += tf.gather_nd(tf.reduce_max(probabilities, axis=-1), first)
        limits = tf.stack([first[:, 1], last[:, 1] + 1], axis=-1)
        names = tf.gather(tf.constant(types), tf.gather_nd(kind, first))

        def padded(values: Any, default: Any) -> Any:
            ragged = tf.RaggedTensor.from_value_rowids(values, first[:, 0], rows, validate=False)
            return ragged.to_tensor(default)

        return (
            padded(tf.cast(limits, tf.int32), tf.constant(-1)),
            padded(names, tf.constant("")),
            padded(total / tf.cast(length, tf.float32), tf.constant(0.0)),
        )

    return Task(model, ("spans", "labels", "scores"), answer, offsets="spans", labels=labels)


def _types(labels: Sequence[str]) -> list[str]:
    wrong = [label for label in labels if label != "O" and label[:2] not in ("B-", "I-")]
    types = list(dict.fromkeys(label[2:] for label in labels if label != "O"))
    if wrong or not types or "O" not in labels:
        raise ValueError(
            f"a tagger's labels are O, B-type and I-type, got {list(labels)!r}: name them so"
        )
    return types
