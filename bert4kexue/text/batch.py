"""Rows of token ids as padded arrays: the layout of `Tokenizer.encode_batch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bert4kexue.text.scan import UNKNOWN

if TYPE_CHECKING:
    from bert4kexue.text.wordpiece import Tokenizer


class Batch(NamedTuple):
    """A batch ready for a model."""

    token_ids: np.ndarray  # int32 (b, n), padded with 0
    segment_ids: np.ndarray  # int32 (b, n)


class BatchWithOffsets(NamedTuple):
    """A batch with the place of each token in its text."""

    token_ids: np.ndarray  # int32 (b, n), padded with 0
    segment_ids: np.ndarray  # int32 (b, n)
    offsets: np.ndarray  # int32 (b, n, 2), first character and one past the last; else 0, 0


def encode_batch(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    maxlen: int | None,
    pad_to: int | None,
    return_offsets: bool,
    exact: bool,
) -> Batch | BatchWithOffsets:
    """See `Tokenizer.encode_batch`; with `exact` every row takes the one-by-one path."""
    texts = _as_texts("texts", texts)
    second = [] if pairs is None else _as_texts("pairs", pairs)
    if pairs is not None and len(second) != len(texts):
        raise ValueError(
            f"texts and pairs are read side by side; there are {len(texts)} texts and "
            f"{len(second)} pairs: give one pair for each text"
        )
    b = len(texts)
    start, end = tokenizer._token_start, tokenizer._token_end
    frame = (start is not None) + (end is not None)
    joined = int(pairs is not None and bool(start))  # second start tokens, left out at the end

    if exact:
        slow = list(range(b))
        lengths = np.zeros((1 if pairs is None else 2, b), np.intp)
    else:
        scan = tokenizer._scanner.scan(texts + second, return_offsets)
        slow = sorted({row % b for row in scan.exact_rows})
        counts = scan.counts
        lengths = counts.reshape(1 if pairs is None else 2, b) + frame
    if maxlen is not None:
        lengths = _truncated(lengths, maxlen + joined)
        slow = sorted({*slow, *np.flatnonzero(lengths.min(axis=0) < frame).tolist()})
    first_ends = lengths[0]
    totals = lengths.sum(axis=0) - joined
    encoded = {}
    for row in slow:
        pair = None if pairs is None else second[row]
        first_tokens, second_tokens = tokenizer._encode_tokens(texts[row], pair, maxlen)
        encoded[row] = first_tokens, second_tokens
        first_ends[row] = len(first_tokens)
        totals[row] = len(first_tokens) + len(second_tokens)
    n = _width(totals, pad_to)

    token_ids = np.zeros((b, n), np.int32)
    offsets = np.zeros((b, n, 2), np.int32) if return_offsets else None
    if not exact and b:
        fast = np.ones(b, bool)
        fast[slow] = False
        rows = np.flatnonzero(fast) if slow else np.arange(b)
        if start is not None:
            token_ids[rows, 0] = tokenizer.token_to_id(start)
        if end is not None:
            end_id = tokenizer.token_to_id(end)
            token_ids[rows, first_ends[rows] - 1] = end_id
            if pairs is not None:
                token_ids[rows, totals[rows] - 1] = end_id
        kept = (lengths - frame) * fast
        columns = np.zeros_like(lengths)
        columns[0] = start is not None
        if pairs is not None:
            columns[1] = first_ends + (start is not None) - joined
        source, target = _moves(counts, kept.ravel(), (columns + np.arange(b) * n).ravel())
        ids = scan.ids if source is None else scan.ids[source]
        if ids.size and ids.min() == UNKNOWN:
            ids = np.where(ids == UNKNOWN, _unknown_id(tokenizer), ids)
        token_ids.reshape(-1)[target] = ids
        if offsets is not None:
            spans = scan.spans if source is None else scan.spans[source]
            offsets.reshape(-1, 2)[target] = spans

    for row, (first_tokens, second_tokens) in encoded.items():
        token_ids[row, : totals[row]] = tokenizer.tokens_to_ids([*first_tokens, *second_tokens])
        if offsets is not None:
            places = tokenizer.rematch(texts[row], first_tokens)
            if pairs is not None:
                places += tokenizer.rematch(second[row], second_tokens)
            offsets[row, : totals[row]] = [(p[0], p[-1] + 1) if p else (0, 0) for p in places]

    if pairs is None:
        segment_ids = np.zeros((b, n), np.int32)
    else:
        column = np.arange(n)
        in_second = (column >= first_ends[:, None]) & (column < totals[:, None])
        segment_ids = in_second.astype(np.int32)
    if offsets is None:
        return Batch(token_ids, segment_ids)
    return BatchWithOffsets(token_ids, segment_ids, offsets)


def _as_texts(name: str, texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str | bytes):
        raise ValueError(f"{name} is a list of strings, not one string: write [{texts!r:.60}]")
    texts = list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(
                f"{name}[{index}] is {type(text).__name__}: {text!r:.60}; encode_batch takes "
                "strings (for lists of tokens use encode)"
            )
    return texts


def _truncated(lengths: np.ndarray, maxlen: int) -> np.ndarray:
    """`base.truncated_lengths` for all rows; lengths is (1 or 2, b)."""
    if len(lengths) == 1:
        return np.minimum(lengths, maxlen)
    first, second = lengths
    kept = np.minimum(first, np.maximum(maxlen // 2, maxlen - second))
    short = first + second <= maxlen
    return np.stack([np.where(short, first, kept), np.where(short, second, maxlen - kept)])


def _moves(
    counts: np.ndarray, kept: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """Where tokens come from and go to.

    Tokens lie end to end, `counts` per text; the first `kept` of each text go to consecutive
    places from `targets` on. The sources are None where that is all of them.
    """
    before = np.cumsum(kept) - kept
    place = np.arange(int(kept.sum()))
    target = place + np.repeat(targets - before, kept)
    if len(place) == int(counts.sum()):
        return None, target
    return place + np.repeat(np.cumsum(counts) - counts - before, kept), target


def _width(totals: np.ndarray, pad_to: int | None) -> int:
    longest = int(totals.max(initial=0))
    if pad_to is None:
        return longest
    if longest > pad_to:
        row = int(totals.argmax())
        raise ValueError(
            f"pad_to={pad_to} is the width of the result, but row {row} has {longest} tokens; "
            f"give maxlen={pad_to} to truncate, or a larger pad_to"
        )
    return pad_to


def _unknown_id(tokenizer: Tokenizer) -> int:
    try:
        return tokenizer._token_unk_id
    except AttributeError:
        raise ValueError(
            f"some words are not in the vocabulary, and it has no {tokenizer._token_unk!r} to "
            "stand for them; add it, or set tokenizer._token_unk_id"
        ) from None
