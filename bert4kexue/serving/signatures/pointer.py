"""Span pointers: the best (start, end) of one text, as extractive question answering wants it."""

from __future__ import annotations

from typing import Any

import keras

from bert4kexue.serving.task import Forward, Task, pick


def pointer(
    model: keras.Model,
    *,
    texts: int = 2,
    segment: int | None = 1,
    longest: int = 64,
    special_ids: tuple[int, ...] = (),
) -> Task:
    """``spans`` (b, 1, 2), one past the last token at the end, and ``scores`` (b, 1).

    The span with the largest sum of its start's and its end's score; (-1, -1) and score 0 where a
    row has no token that may be one. With strings in, spans are characters of the text they lie in.

    Args:
        model: gives start and end scores: two outputs (b, n), or one (b, n, 2).
        texts: 2 for a question and a passage in one row.
        segment: of the tokens that may be answers; None for all.
        longest: most tokens of an answer.
        special_ids: ids that are in no span: those of [CLS] and [SEP].

    Raises:
        ValueError: outputs of other shapes, or ``longest`` below 1.
    """
    shapes = [tuple(tensor.shape) for tensor in model.outputs]
    joined = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][-1] == 2
    if not joined and not (len(shapes) == 2 and all(len(shape) == 2 for shape in shapes)):
        raise ValueError(
            f"a pointer gives start and end scores, two (b, n) or one (b, n, 2), got {shapes}: add "
            "Dense(2) on the hidden states"
        )
    if longest < 1:
        raise ValueError(f"longest must be 1 or more, got {longest}")
    excluded = (0, *special_ids)

    def answer(forward: Forward, token_ids: Any, segment_ids: Any) -> tuple[Any, ...]:
        import tensorflow as tf

        outputs = forward(token_ids, segment_ids)
        if joined:
            start, end = tf.unstack(tf.cast(pick(outputs, 0), tf.float32), axis=-1)
        else:
            start, end = (tf.cast(pick(outputs, i), tf.float32) for i in (0, 1))
        real = ~tf.reduce_any(token_ids[..., None] == tf.constant(excluded), axis=-1)
        if segment is not None:
            real &= segment_ids == segment
        n = tf.shape(token_ids)[1]
        width = tf.range(n)[None, :] - tf.range(n)[:, None]  # end - start
        allowed = real[:, :, None] & real[:, None, :] & (width >= 0) & (width < longest)
        low = tf.constant(-3e38)
        both = tf.where(allowed, start[:, :, None] + end[:, None, :], low)
        flat = tf.reshape(both, [tf.shape(both)[0], n * n])
        best = tf.argmax(flat, axis=-1, output_type=tf.int32)
        found = tf.reduce_any(allowed, axis=[1, 2])
        spans = tf.stack([best // n, best % n + 1], axis=-1)
        scores = tf.where(found, tf.reduce_max(flat, axis=-1), 0.0)
        return tf.where(found[:, None], spans, -1)[:, None], scores[:, None]

    return Task(model, ("spans", "scores"), answer, texts=texts, offsets="spans")
