"""Encoders: a vector of every token."""

from __future__ import annotations

from typing import Any

import keras

from bert4kexue.serving.task import Forward, Task, one_output, pick


def token_vectors(model: keras.Model, *, texts: int = 1) -> Task:
    """``token_vectors`` (b, n, H) and ``ids`` (b, n), 0 where there is padding.

    Args:
        model: gives hidden states (b, n, H).
        texts: 2 where a row holds a pair of texts.

    Raises:
        ValueError: no output has rank 3.
    """
    index = one_output(
        model, 3, what="token_vectors", remedy="build the model without heads, or with_mlm=True"
    )

    def answer(forward: Forward, token_ids: Any, segment_ids: Any) -> tuple[Any, ...]:
        import tensorflow as tf

        vectors = pick(forward(token_ids, segment_ids), index)
        return tf.cast(vectors, tf.float32), tf.identity(token_ids)

    return Task(model, ("token_vectors", "ids"), answer, texts=texts)
