"""Classifiers: the best label, and every label's probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from bert4kexue.serving.task import Forward, Task, checked_labels, one_output, pick


def classification(
    model: keras.Model, labels: Sequence[str], *, texts: int = 1, logits: bool = False
) -> Task:
    """``label`` (b,) strings and ``probabilities`` (b, labels), in the order of ``labels.txt``.

    Args:
        model: gives scores (b, labels).
        labels: names, in the order of the scores.
        texts: 2 where a row holds a pair of texts.
        logits: the scores are not probabilities yet.

    Raises:
        ValueError: no such output, or labels that do not fit it.
    """
    index = one_output(model, 2, what="classification", remedy="add a Dense layer on the pooler")
    labels = checked_labels(labels, model.outputs[index].shape[-1], what="the classifier")

    def answer(forward: Forward, token_ids: Any, segment_ids: Any) -> tuple[Any, ...]:
        import tensorflow as tf

        scores = tf.cast(pick(forward(token_ids, segment_ids), index), tf.float32)
        probabilities = tf.nn.softmax(scores) if logits else scores
        best = tf.argmax(probabilities, axis=-1)
        return tf.gather(tf.constant(labels), best), probabilities

    return Task(model, ("label", "probabilities"), answer, texts=texts, labels=labels)
