"""Sources of generation: checked, padded, and padded further to few shapes."""

from __future__ import annotations

from typing import Any

import numpy as np


def prompts(
    token_ids: Any,
    segment_ids: Any,
    decoder: Any,
    max_new_tokens: int,
    start_token_id: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Token and segment ids, (b, n) int32 each.

    Args:
        token_ids: lists of ids, or an array (b, n) padded with 0 on either side.
        segment_ids: in the same form; None for zeros.
        decoder: whose vocabulary and positions have to suffice.
        max_new_tokens: how many tokens will follow.
        start_token_id: appended to each source, in the target's segment; or None.

    Raises:
        ValueError: no source, an empty one, ids outside the vocabulary, segments of another
            length, or more tokens than positions.
    """
    rows = _rows(token_ids, "token_ids")
    if not rows:
        raise ValueError("there is nothing to generate from: token_ids has no rows")
    segments = (
        [np.zeros_like(r) for r in rows]
        if segment_ids is None
        else _rows(segment_ids, "segment_ids")
    )
    if [len(r) for r in rows] != [len(r) for r in segments]:
        raise ValueError("segment_ids needs one id for each of token_ids, in the same shape")
    for i, row in enumerate(rows):
        if not row.any():
            raise ValueError(
                f"source {i} has no token: every id is 0, which is padding. Begin with [CLS], or "
                "with the start token of the model"
            )
        if row.min() < 0 or row.max() >= decoder.vocab_size:
            raise ValueError(
                f"source {i} holds the id {row.max() if row.min() >= 0 else row.min()}, outside "
                f"the model's vocabulary of {decoder.vocab_size} tokens"
            )
    if start_token_id is not None:
        segment = getattr(decoder, "target_segment", 0)
        ends = [np.flatnonzero(row)[-1] + 1 for row in rows]
        rows = [np.insert(row, end, start_token_id) for row, end in zip(rows, ends, strict=True)]
        segments = [np.insert(s, end, segment) for s, end in zip(segments, ends, strict=True)]
    spans = [np.flatnonzero(row)[[0, -1]] for row in rows]
    longest = max(int(last - first) + 1 for first, last in spans)
    limit = decoder.limit
    # The last token is never read, so it needs no position.
    if limit is not None and longest + max_new_tokens - 1 > limit:
        raise ValueError(
            f"a source of {longest} tokens and max_new_tokens={max_new_tokens} need "
            f"{longest + max_new_tokens - 1} positions, and the model has {limit}: shorten one of "
            "them, or build the model with hierarchical_position=True"
        )
    width = max(len(row) for row in rows)
    return _padded(rows, width), _padded(segments, width)


def bucketed(x: np.ndarray, multiple: int) -> np.ndarray:
    """x (b, n) with n padded to a multiple, and rows repeated up to 1, 2, 4 or a multiple of 8."""
    b, n = x.shape
    rows = next((size for size in (1, 2, 4) if b <= size), -(-b // 8) * 8)
    x = np.pad(x, ((0, 0), (0, -n % multiple)))
    return np.concatenate([x, np.repeat(x[:1], rows - b, axis=0)])


def _rows(ids: Any, name: str) -> list[np.ndarray]:
    rows = [np.asarray(row) for row in ids]
    for row in rows:
        if row.ndim != 1 or (row.size and row.dtype.kind not in "iuf"):
            raise ValueError(f"{name} must be rows of ids, (b, n) or a list of lists")
        if row.dtype.kind == "f" and not np.array_equal(row, np.round(row)):
            raise ValueError(
                f"{name} holds numbers that are no ids: {row[row != np.round(row)][0]}"
            )
    return [row.astype(np.int32) for row in rows]


def _padded(rows: list[np.ndarray], width: int) -> np.ndarray:
    padded = np.zeros((len(rows), width), np.int32)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return padded
