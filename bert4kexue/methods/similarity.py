"""Sentence vectors and exact nearest neighbours (SimBERT, RoFormer-Sim: kexue.fm/archives/7427).

A sentence's vector is the model's pooled [CLS], divided by its length, so that the dot product of
two vectors is the cosine of the sentences. Two functions for a model at hand; long texts, threads,
files and indexes are in `sentence_encoder`, `vector_files` and `vector_index`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bert4kexue.methods.vector_codes import unit
from bert4kexue.methods.vector_index import exact_search


def encode(
    model: Any,
    tokenizer: Any,
    sentences: Sequence[str],
    batch_size: int = 32,
    maxlen: int | None = 128,
) -> np.ndarray:
    """Vectors of length one, (sentences, H) float32, in the order of the sentences.

    Args:
        model: from `build_transformer_model(..., with_pool=...)`, alone or with other heads: its
            first output must be the pooled vector, (b, H).
        tokenizer: with the model's vocabulary.
        sentences: strings; an empty one is `[CLS] [SEP]` to the model.
        batch_size: sentences of similar length run together.
        maxlen: the most tokens of a sentence that are read, [CLS] and [SEP] included.

    Raises:
        ValueError: the model has no pooled output, or `sentences` is a single string.
    """
    if isinstance(sentences, str):
        raise ValueError("encode takes a list of sentences, got one string: pass [sentence]")
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
    pooled = model.outputs[0]
    if len(pooled.shape) != 2:
        raise ValueError(
            f"the model's first output has shape {tuple(pooled.shape)}, not (b, H): build it with "
            "with_pool='linear'"
        )
    vectors = np.zeros((len(sentences), pooled.shape[-1]), np.float32)
    if not len(sentences):
        return vectors
    batch = tokenizer.encode_batch(list(sentences), maxlen=maxlen)
    # [CLS] begins every row, so a row's length is one past its last token that is not padding.
    lengths = batch.token_ids.shape[1] - np.argmax(batch.token_ids[:, ::-1] != 0, axis=1)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        width = int(lengths[rows].max())
        ids = [part[rows, :width] for part in (batch.token_ids, batch.segment_ids)]
        outputs = model.predict_on_batch(ids[: len(model.inputs)])
        vectors[rows] = outputs[0] if len(model.outputs) > 1 else outputs
    return unit(vectors)


def nearest(queries: np.ndarray, corpus: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` rows of `corpus` with the largest dot product, by comparing with every row.

    Args:
        queries: (q, H).
        corpus: (N, H).
        k: how many; all N where there are fewer.

    Returns:
        Row numbers (q, k) int and dot products (q, k), largest first; equal ones by row number.

    Raises:
        ValueError: k is below 1 or the widths differ.
    """
    queries, corpus = np.asarray(queries), np.asarray(corpus)
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}")
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        raise ValueError(
            f"queries (q, H) and corpus (N, H) must share H, got {queries.shape} and "
            f"{corpus.shape}: encode both with one model"
        )
    return exact_search(queries, (corpus,), min(k, len(corpus)))
