"""Masked words: the likeliest tokens at every [MASK].

Where strings come in, `[MASK]` in a text, in any case, is the mask token; elsewhere in the library
it is text like any other. It is found among the ids: brackets stand apart in every BERT tokenizer,
so `[MASK]` always becomes the same few ids in a row, which are put together again.
"""

from __future__ import annotations

from typing import Any

import keras

from bert4kexue.serving.task import Forward, Task, one_output, pick
from bert4kexue.text.wordpiece import Tokenizer


def filling(model: keras.Model, tokenizer: Tokenizer, *, top: int = 5, texts: int = 1) -> Task:
    """``tokens`` (b, m, top) strings and ``probabilities`` (b, m, top), the likeliest first.

    m is the largest number of masks of a row; rows of fewer are padded with '' and 0. Also
    ``positions`` (b, m), the masks' places among the tokens, padded with -1.

    Args:
        model: gives token probabilities (b, n, v): built ``with_mlm=True``.
        tokenizer: of the model's vocabulary, which has a [MASK].
        top: how many tokens.
        texts: 2 where a row holds a pair of texts.

    Raises:
        ValueError: no such output, no [MASK], or ``top`` above the number of tokens.
    """
    index = one_output(model, 3, what="filling", remedy="build the model with_mlm=True")
    v = model.outputs[index].shape[-1]
    mask = getattr(tokenizer, "_token_mask_id", None)
    if mask is None:
        raise ValueError("filling needs a vocabulary with [MASK]: this one has none")
    if not 1 <= top <= v:
        raise ValueError(f"top must be 1 to {v}, got {top}")
    inverse = {i: token for token, i in tokenizer._token_dict.items()}
    names = [inverse.get(i, "") for i in range(v)]

    def answer(forward: Forward, token_ids: Any, segment_ids: Any) -> tuple[Any, ...]:
        import tensorflow as tf

        scores = tf.cast(pick(forward(token_ids, segment_ids), index), tf.float32)
        places = tf.where(token_ids == mask)
        rows = tf.shape(token_ids, out_type=tf.int64)[0]
        best, ids = tf.math.top_k(tf.gather_nd(scores, places), top)

        def padded(values: Any, default: Any, width: int | None) -> Any:
            ragged = tf.RaggedTensor.from_value_rowids(values, places[:, 0], rows, validate=False)
            shape = [None, None] if width is None else [None, None, width]
            return ragged.to_tensor(default, shape=shape)

        return (
            padded(tf.gather(tf.constant(names), ids), tf.constant(""), top),
            padded(best, tf.constant(0.0), top),
            padded(tf.cast(places[:, 1], tf.int32), tf.constant(-1), None),
        )

    def prepare(token_ids: Any, segment_ids: Any) -> tuple[Any, Any]:
        return join_masks(token_ids, segment_ids, spelled_mask(tokenizer), mask)

    return Task(
        model, ("tokens", "probabilities", "positions"), answer, texts=texts, prepare=prepare
    )


def spelled_mask(tokenizer: Tokenizer) -> list[int]:
    """The ids that the text `[MASK]` becomes.

    Raises:
        ValueError: a piece of it is unknown to the vocabulary, so that other texts become them too.
    """
    pieces = tokenizer.tokenize("[MASK]")
    first = 1 if tokenizer._token_start else 0
    pieces = pieces[first : len(pieces) - (1 if tokenizer._token_end else 0)]
    ids = [tokenizer.token_to_id(piece) for piece in pieces]
    if getattr(tokenizer, "_token_unk_id", None) in ids:
        raise ValueError(
            "the text [MASK] has pieces outside the vocabulary, so it cannot be told from others: "
            "export filling without a tokenizer, ids in"
        )
    return ids


def join_masks(token_ids: Any, segment_ids: Any, spelled: list[int], mask: int) -> tuple[Any, Any]:
    """Put ``mask`` for every run of ``spelled`` in (b, n) ids, and close the gaps."""
    import tensorflow as tf

    k = len(spelled)
    ahead = tf.pad(token_ids, [[0, 0], [0, k - 1]], constant_values=-1)
    n = tf.shape(token_ids)[1]
    found = tf.ones_like(token_ids, tf.bool)
    for step, piece in enumerate(spelled):
        found &= ahead[:, step : step + n] == piece
    dropped = tf.zeros_like(found)
    behind = tf.pad(found, [[0, 0], [k - 1, 0]])
    for step in range(1, k):
        dropped |= behind[:, k - 1 - step : k - 1 - step + n]
    token_ids = tf.where(found, mask, token_ids)

    def closed(ids: Any) -> Any:
        return tf.ragged.boolean_mask(ids, ~dropped).to_tensor(0)

    return closed(token_ids), closed(segment_ids)
