"""Rows of token ids as padded arrays: the layout of `Tokenizer.encode_batch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bert4kexue.text.scan import UNKNOWN, Scan

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
    one_by_one: bool,
) -> Batch | BatchWithOffsets:
    """See `Tokenizer.encode_batch`; with `one_by_one` no row is scanned."""
    columns = [_as_list("texts", texts)]
    if pairs is not None:
        columns.append(_as_list("pairs", pairs))
        if len(columns[1]) != len(columns[0]):
            raise ValueError(
                f"texts and pairs are read side by side; there are {len(columns[0])} texts and "
                f"{len(columns[1])} pairs: give one pair for each text"
            )
    b = len(columns[0])
    has_start = tokenizer._token_start is not None
    frame = has_start + (tokenizer._token_end is not None)
    dropped = has_start * (len(columns) - 1)  # the second texts' start tokens

    if one_by_one:
        _check_strings(columns)
        scan, slow = None, list(range(b))
        lengths = np.zeros((len(columns), b), np.intp)
    else:
        try:
            scan = tokenizer._scanner.scan(
                columns[0] + columns[1] if pairs else columns[0], return_offsets
            )
        except TypeError:
            _check_strings(columns)
            raise
        slow = sorted({row % b for row in scan.exact_rows})
        lengths = scan.counts.reshape(len(columns), b) + frame
        if maxlen is not None:
            lengths = _truncated(lengths, maxlen + dropped)
            if b and lengths.min() < frame:
                slow = sorted({*slow, *np.flatnonzero(lengths.min(axis=0) < frame).tolist()})
        if slow:
            lengths[:, slow] = frame
    totals = lengths.sum(axis=0) - dropped if len(columns) == 2 else lengths[0].copy()
    first_ends = lengths[0].copy()
    tokens = {}
    for row in slow:
        pair = columns[1][row] if len(columns) == 2 else None
        tokens[row] = tokenizer._encode_tokens(columns[0][row], pair, maxlen=maxlen)
        first_ends[row] = len(tokens[row][0])
        totals[row] = len(tokens[row][0]) + len(tokens[row][1])

    n = _width(totals, pad_to)
    token_ids = np.zeros((b, n), np.int32)
    offsets = np.zeros((b, n, 2), np.int32) if return_offsets else None
    if len(slow) < b:
        assert scan is not None  # rows that are not slow were scanned
        _place(tokenizer, scan, lengths - frame, token_ids, offsets)
    for row, (first, second) in tokens.items():
        token_ids[row] = 0
        token_ids[row, : totals[row]] = tokenizer.tokens_to_ids([*first, *second])
        if offsets is not None:
            places = tokenizer.rematch(columns[0][row], first)
            if second:
                places += tokenizer.rematch(columns[1][row], second)
            spans = [(place[0], place[-1] + 1) if place else (0, 0) for place in places]
            offsets[row, : totals[row]] = spans

    if pairs is None:
        segment_ids = np.zeros((b, n), np.int32)
    else:
        column = np.arange(n)
        in_second = (column >= first_ends[:, None]) & (column < totals[:, None])
        segment_ids = in_second.astype(np.int32)
    if offsets is None:
        return Batch(token_ids, segment_ids)
    return BatchWithOffsets(token_ids, segment_ids, offsets)


def _place(
    tokenizer: Tokenizer,
    scan: Scan,
    kept: np.ndarray,
    token_ids: np.ndarray,
    offsets: np.ndarray | None,
) -> None:
    """Write start tokens, the first `kept` (1 or 2, b) tokens of each text, and end tokens."""
    b, n = token_ids.shape
    start, end = tokenizer._token_start, tokenizer._token_end
    cells = token_ids.reshape(-1)
    begin = np.arange(b) * n + int(start is not None)  # of the first texts' own tokens
    if len(kept) == 2:
        begin = np.concatenate([begin, begin + kept[0] + int(end is not None)])
    kept = kept.reshape(-1)
    if end is not None:
        cells[begin + kept] = tokenizer.token_to_id(end)
    before = kept.cumsum() - kept
    place = np.arange(int(before[-1] + kept[-1]))
    target = place + (begin - before).repeat(kept)
    ids, spans = scan.ids, scan.spans
    if len(place) < len(ids):
        source = place + (scan.counts.cumsum() - scan.counts - before).repeat(kept)
        ids = ids.take(source)
        spans = None if spans is None else spans.take(source, axis=0)
    if (unknown := ids == UNKNOWN).any():
        ids[unknown] = _unknown_id(tokenizer)
    cells[target] = ids
    if start is not None:
        token_ids[:, 0] = tokenizer.token_to_id(start)
    if offsets is not None:
        offsets.reshape(-1, 2)[target] = spans


def _as_list(name: str, texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str | bytes):
        raise ValueError(f"{name} is a list of strings, not one string: write [{texts!r:.60}]")
    return list(texts)


def _check_strings(columns: list[list[str]]) -> None:
    for name, texts in zip(("texts", "pairs"), columns, strict=False):
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(
                    f"{name}[{index}] is {type(text).__name__}: {text!r:.60}; encode_batch takes "
                    "strings (for lists of tokens use encode)"
                )


def _truncated(lengths: np.ndarray, maxlen: int) -> np.ndarray:
    """`base.truncated_lengths` for all rows; lengths is (1 or 2, b)."""
    if len(lengths) == 1:
        return np.minimum(lengths, maxlen)
    first, second = lengths
    kept = np.minimum(first, np.maximum(maxlen // 2, maxlen - second))
    short = first + second <= maxlen
    return np.stack([np.where(short, first, kept), np.where(short, second, maxlen - kept)])


def _width(totals: np.ndarray, pad_to: int | None) -> int:
    longest = int(totals.max()) if len(totals) else 0
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
