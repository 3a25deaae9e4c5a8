"""Sentence vectors of length one, and the cosine of two sentences (kexue.fm/archives/7427)."""

from __future__ import annotations

from typing import Any

import keras

from bert4kexue.serving.task import Forward, Task, one_output, pick

_TINY = 1.1754943508222875e-38  # of float32
_REMEDY = "build it with with_pool='linear'"


def sentence_vectors(model: keras.Model) -> Task:
    """``vectors`` (b, H) of length one: what `SentenceEncoder.encode` gives.

    Raises:
        ValueError: the model has no pooled output (b, H).
    """
    index = one_output(model, 2, what="sentence_vectors", remedy=_REMEDY)

    def answer(forward: Forward, token_ids: Any, segment_ids: Any) -> tuple[Any, ...]:
        return (_unit(pick(forward(token_ids, segment_ids), index)),)

    return Task(model, ("vectors",), answer)


def cosine(model: keras.Model) -> Task:
    """``cosine`` (b,) of row i of the first texts and row i of the second.

    Raises:
        ValueError: the model has no pooled output (b, H).
    """
    index = one_output(model, 2, what="cosine", remedy=_REMEDY)

    def answer(
        forward: Forward, token_ids: Any, segment_ids: Any, other_ids: Any, other_segments: Any
    ) -> tuple[Any, ...]:
        import tensorflow as tf

        one = _unit(pick(forward(token_ids, segment_ids), index))
        two = _unit(pick(forward(other_ids, other_segments), index))
        same = tf.debugging.assert_equal(
            tf.shape(one), tf.shape(two), "both sides of a cosine must hold as many rows"
        )
        with tf.control_dependencies([same] if same is not None else []):
            return (tf.reduce_sum(one * two, axis=-1),)

    return Task(model, ("cosine",), answer, rows=2)


def _unit(vectors: Any) -> Any:
    import tensorflow as tf

    vectors = tf.cast(vectors, tf.float32)
    # The smallest positive number keeps a zero vector zero instead of making it NaN.
    return vectors / tf.maximum(tf.norm(vectors, axis=-1, keepdims=True), _TINY)
