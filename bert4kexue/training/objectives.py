"""What a model is pretrained on: batches of masked words, continuations, sentence pairs, contrasts.

An objective turns rows into batches: dictionaries of arrays of few shapes, drawn from a generator
that the caller seeds, so that any batch can be made again. The keys say what is asked:

    token_ids, segment_ids        (b, n) int32, padded with 0
    document_ids                  (b, n) int32, only in packed rows: tokens see their own document
    positions, labels, weights    (b, m): the places asked for, the right ids, 1 or 0
    is_next, row_weights          (b,): pairs of segments, and 0 for rows that fill up the batch
    pair_weights                  (b,): rows 2i and 2i + 1 are alike; 0 fills up
    scores                        (b / 2,): how alike

Axis letters: b rows, n tokens, m asked places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from operator import eq
from typing import Protocol

import numpy as np

from bert4kexue.training.hidden_words import hide_words
from bert4kexue.training.records import ID_MASK, SENTENCE, WORD, Records
from bert4kexue.training.special import Special

Batch = dict[str, np.ndarray]


class Objective(Protocol):
    """Rows that batches are made of."""

    def lengths(self) -> np.ndarray:
        """(rows,) tokens of each row, special ones included."""

    def batch(self, rows: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """The rows of these numbers as one batch of this shape."""


# --- rows of running text -----------------------------------------------------------------------


class Windows:
    """Documents cut, at sentence ends where there are any, into pieces of at most `size` tokens.

    Args:
        records: the documents.
        size: the most tokens of a piece.
        shortest: pieces with fewer tokens are left out.
    """

    def __init__(self, records: Records, size: int, shortest: int = 4) -> None:
        if size < shortest:
            raise ValueError(
                f"pieces of at most size={size} tokens never have the shortest={shortest} that "
                "are kept: let rows be longer"
            )
        pieces = []
        for document in range(len(records)):
            marks = records[document] & SENTENCE != 0
            for start, stop in _cuts(np.flatnonzero(marks), len(marks), size):
                if stop - start >= shortest:
                    pieces.append((document, start, stop))
        if not pieces:
            raise ValueError(f"no document of the records has {shortest} tokens or more")
        self.records = records
        self.pieces = np.array(pieces, np.int64)

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> np.ndarray:
        """(tokens,) uint32 with the marks of words and sentences."""
        document, start, stop = self.pieces[index]
        return self.records[int(document)][start:stop]

    def lengths(self) -> np.ndarray:
        """(pieces,) tokens of each."""
        return self.pieces[:, 2] - self.pieces[:, 1]


def _cuts(sentences: np.ndarray, length: int, size: int) -> list[tuple[int, int]]:
    """Pieces of at most `size` that end where a sentence does, if one ends within reach."""
    ends = [*(int(s) for s in sentences if s), length]
    pieces = []
    start = last = 0
    for end in ends:
        while end - start > size:
            stop = last if last > start else start + size
            pieces.append((start, stop))
            start = last = stop
        last = end
    if length > start:
        pieces.append((start, length))
    return pieces


@dataclasses.dataclass(frozen=True)
class MaskedWords:
    """Whole words of running text hidden: masked language model.

    Of the ordinary tokens about `rate` are asked for, word by word; of the words 80 % become
    [MASK], 10 % random ids, 10 % stay.

    Args:
        windows: pieces of text.
        special: ids.
        rate: share of the tokens that is asked for.
        packed: put several pieces into one row, each blind to the others.
    """

    windows: Windows
    special: Special
    rate: float = 0.15
    packed: bool = False

    def lengths(self) -> np.ndarray:
        """Pieces with [CLS] and [SEP]."""
        return self.windows.lengths() + 2

    def batch(self, rows: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """Masked rows; with `packed` several pieces share a row."""
        pieces = [self.windows[int(row)] for row in rows]
        places = pack([len(p) + 2 for p in pieces], shape) if self.packed else None
        token_ids = np.zeros(shape, np.int32)
        words = np.zeros(shape, bool)
        documents = np.zeros(shape, np.int32)
        for i, piece in enumerate(pieces):
            line, start = (i, 0) if places is None else places[i]
            stop = start + len(piece) + 2
            token_ids[line, start:stop] = _framed(piece & ID_MASK, self.special)
            words[line, start + 1 : stop - 1] = piece & WORD != 0
            documents[line, start:stop] = i + 1
        asked = hide_words(token_ids, words, self.special, rng, self.rate)
        extra = {"document_ids": documents} if self.packed else {}
        return {"segment_ids": np.zeros(shape, np.int32), **extra, **asked}


@dataclasses.dataclass(frozen=True)
class SentencePairs:
    """A piece of a document cut in two where a sentence begins: NSP and SOP, with masked words.

    The place of the cut is drawn anew each time, as BERT's own data were made, so that short first
    segments are as common as long ones. Half of the rows hold the two as they stand. The others
    hold, for `wrong="random"`, the first and sentences of another document (next sentence
    prediction) and, for `wrong="swapped"`, the two in the other order (sentence order prediction).
    Index 0 of the answer means "is next".
    """

    windows: Windows
    special: Special
    wrong: str = "random"
    rate: float = 0.15

    def __post_init__(self) -> None:
        if self.wrong not in ("random", "swapped"):
            raise ValueError(f"wrong must be 'random' or 'swapped', got {self.wrong!r}")
        several = [i for i in range(len(self.windows)) if len(_inner_starts(self.windows[i]))]
        object.__setattr__(self, "_rows", np.array(several, np.int64))
        if not several:
            raise ValueError(
                "no piece has two sentences: sentence pairs need documents of several sentences, "
                "and rows long enough for two"
            )

    def _numbers(self) -> np.ndarray:
        """(rows,) numbers of the windows that can be cut."""
        return self._rows  # type: ignore[attr-defined]

    def lengths(self) -> np.ndarray:
        """[CLS] a [SEP] b [SEP]."""
        return self.windows.lengths()[self._numbers()] + 3

    def batch(self, rows: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """Rows of two segments, `is_next` 0 where they belong together."""
        token_ids, segment_ids = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        words = np.zeros(shape, bool)
        is_next, row_weights = np.zeros(shape[0], np.int32), np.zeros(shape[0], np.float32)
        for line, row in enumerate(rows):
            at = int(self._numbers()[row])
            first, second = _cut_in_two(self.windows[at], rng)
            if rng.random() < 0.5:
                is_next[line] = 1
                if self.wrong == "swapped":
                    first, second = second, first
                else:
                    second = self._another(at, shape[1] - len(first) - 3, rng)
            pair = np.concatenate([first, second])
            ends = (len(first) + 1, len(pair) + 2)
            token_ids[line, : len(pair) + 3] = [
                self.special.start,
                *(first & ID_MASK),
                self.special.end,
                *(second & ID_MASK),
                self.special.end,
            ]
            segment_ids[line, ends[0] + 1 : ends[1] + 1] = 1
            words[line, 1 : ends[0]] = first & WORD != 0
            words[line, ends[0] + 1 : ends[1]] = second & WORD != 0
            row_weights[line] = 1
        asked = hide_words(token_ids, words, self.special, rng, self.rate)
        return {"segment_ids": segment_ids, "is_next": is_next, "row_weights": row_weights, **asked}

    def _another(self, at: int, room: int, rng: np.random.Generator) -> np.ndarray:
        """Sentences of another document, as many as there is room for; cut where none fits whole.

        They begin inside of a piece and end with a sentence, as right answers do: the shape must
        not give the answer away.
        """
        own = self.windows.pieces[at, 0]
        for _ in range(20):
            other = int(rng.choice(self._numbers()))
            if self.windows.pieces[other, 0] != own:
                second = _cut_in_two(self.windows[other], rng)[1]
                ends = [*_inner_starts(second), len(second)]
                return second[: max((end for end in ends if end <= room), default=room)]
        raise ValueError("next sentence prediction needs more than one document")


def _inner_starts(piece: np.ndarray) -> np.ndarray:
    """Where sentences begin, the first excepted."""
    return np.flatnonzero(piece[1:] & SENTENCE) + 1


def _cut_in_two(piece: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    cut = int(rng.choice(_inner_starts(piece)))
    return piece[:cut], piece[cut:]


# --- rows with a source and a target ------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Continuations:
    """`[CLS] source [SEP] target [SEP]`, the target written left to right (UniLM).

    Args:
        rows: (source, target) ids; the target's own [SEP]s, the last included, are part of it.
        special: ids.
        rewrite: makes another row of a row, drawn anew each time; None leaves rows as they are.
        multiple: the number of asked places m is a multiple of it, so that the shapes are few.
    """

    rows: Sequence[tuple[Sequence[int], Sequence[int]]]
    special: Special
    rewrite: Callable[[int, np.random.Generator], tuple[Sequence[int], Sequence[int]]] | None = None
    multiple: int = 16

    def lengths(self) -> np.ndarray:
        """Of the rows as they are."""
        return np.array([len(source) + len(target) + 2 for source, target in self.rows])

    def batch(self, rows: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """Segment 1 is what is written; each of its tokens is asked of the one before it."""
        pairs = [self.rewrite(int(r), rng) if self.rewrite else self.rows[int(r)] for r in rows]
        # Only what is asked goes through the token head.
        longest = max((len(target) for _, target in pairs), default=0)
        m = min(shape[1], -(-longest // self.multiple) * self.multiple)
        token_ids, segment_ids = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        positions = np.zeros((shape[0], m), np.int32)
        labels, weights = np.zeros((shape[0], m), np.int32), np.zeros((shape[0], m), np.float32)
        for line, (source, target) in enumerate(pairs):
            source = list(source)[: max(0, shape[1] - len(target) - 2)]
            ids = [self.special.start, *source, self.special.end, *target][: shape[1]]
            begin = min(len(source) + 2, shape[1])
            count = len(ids) - begin
            token_ids[line, : len(ids)] = ids
            segment_ids[line, begin : len(ids)] = 1
            positions[line, :count] = np.arange(begin - 1, len(ids) - 1)
            labels[line, :count] = ids[begin:]
            weights[line, :count] = 1
        return {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "positions": positions,
            "labels": labels,
            "weights": weights,
        }


@dataclasses.dataclass(frozen=True)
class AlikePairs:
    """Sentences that mean the same, told apart from all others of the batch (contrast).

    Args:
        pairs: two rows of ids each, without special tokens.
        special: ids.
        scores: how alike the two of each pair are, for CoSENT; None for the in-batch contrast.
        corrupt: where both are the same sentence, the share of the second's tokens that is dropped
            (:func:`corrupted`): a sentence says nothing as its own partner. 0 leaves it.
    """

    pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
    special: Special
    scores: Sequence[float] | None = None
    corrupt: float = 0.0

    def lengths(self) -> np.ndarray:
        """A pair takes two rows of its longer sentence: twice that, so that batches are as full."""
        return 2 * np.array([max(len(a), len(b)) + 2 for a, b in self.pairs])

    def batch(self, rows: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """Rows 2i and 2i + 1 belong together."""
        b, n = 2 * shape[0], shape[1] // 2
        token_ids = np.zeros((b, n), np.int32)
        pair_weights = np.zeros(b, np.float32)
        scores = np.full(shape[0], -1.0, np.float32)
        for i, row in enumerate(rows):
            first, second = self.pairs[int(row)]
            if self.corrupt and len(first) == len(second) and all(map(eq, first, second)):
                second = corrupted(second, rng, self.corrupt)
            for line, ids in ((2 * i, first), (2 * i + 1, second)):
                framed = _framed(np.asarray(ids, np.int64), self.special)[:n]
                token_ids[line, : len(framed)] = framed
                pair_weights[line] = 1
            if self.scores is not None:
                scores[i] = self.scores[int(row)]
        scored = {} if self.scores is None else {"scores": scores}
        return {
            "token_ids": token_ids,
            "segment_ids": np.zeros((b, n), np.int32),
            "pair_weights": pair_weights,
            **scored,
        }


@dataclasses.dataclass(frozen=True)
class SamePieces:
    """Pieces of running text, each to be known again by its corrupted copy: :class:`AlikePairs`.

    Args:
        windows: pieces of text, read when a batch asks for them.
        special: ids.
        corrupt: share of the copy's tokens that is dropped.
    """

    windows: Windows
    special: Special
    corrupt: float

    def lengths(self) -> np.ndarray:
        """Two rows of each piece."""
        return 2 * (self.windows.lengths() + 2)

    def batch(self, rows: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """Rows 2i and 2i + 1 are a piece and its copy."""
        pieces = [(self.windows[int(row)] & ID_MASK).tolist() for row in rows]
        alike = AlikePairs([(ids, ids) for ids in pieces], self.special, corrupt=self.corrupt)
        return alike.batch(np.arange(len(rows)), shape, rng)


def corrupted(ids: Sequence[int], rng: np.random.Generator, rate: float) -> list[int]:
    """Drop some tokens and, half of the time, let two parts change places."""
    kept = [i for i in ids if rng.random() >= rate] or list(ids)
    if len(kept) > 3 and rng.random() < 0.5:
        cut = int(rng.integers(1, len(kept)))
        kept = kept[cut:] + kept[:cut]
    return kept


def pack(lengths: Sequence[int], shape: tuple[int, int]) -> list[tuple[int, int]]:
    """(line, start) of each piece: the first line with room, in order, as `Plan` fills them."""
    used = [0] * shape[0]
    places = []
    for length in lengths:
        line = next(i for i, taken in enumerate(used) if taken + length <= shape[1])
        places.append((line, used[line]))
        used[line] += length
    return places


def _framed(ids: np.ndarray, special: Special) -> np.ndarray:
    return np.concatenate([[special.start], ids, [special.end]]).astype(np.int64)
