"""Passages cut into windows, and the rows that readers learn from (kexue.fm/archives/7115, 7148).

A passage longer than a row is read in windows that overlap, so that an answer at a border stands
whole in one of them. A window without the answer is asked for nothing: its answer is `[SEP]`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bert4kexue.methods.reading_data import ReadingQuestion
from bert4kexue.training.objectives import Batch, Continuations
from bert4kexue.training.special import Special


class Layout(NamedTuple):
    """How many tokens each part of a row may have."""

    maxlen: int = 512
    """Of the whole row."""
    question: int = 64
    answer: int = 47
    """Without the [SEP] that ends it."""
    overlap: int = 128
    """That a window shares with the next one."""

    def room(self, question: int) -> int:
        """Tokens of a window beside a question of so many.

        `[CLS] window [SEP] question [SEP] answer [SEP]` and
        `[CLS] [MASK] * (answer + 1) [SEP] question [SEP] window [SEP]` (one more) both fit.

        Raises:
            ValueError: no more than the overlap is left.
        """
        left = self.maxlen - min(question, self.question) - self.answer - 5
        if left <= self.overlap or self.overlap < 0 or self.answer < 1:
            raise ValueError(
                f"maxlen={self.maxlen} leaves {left} tokens of a passage beside a question of "
                f"{min(question, self.question)} and an answer of {self.answer}: no more than "
                f"overlap={self.overlap}. Raise maxlen, or lower the others"
            )
        return left


class Text(NamedTuple):
    """Ids of a text alone, and where each token lies in it."""

    ids: np.ndarray
    """(n,) int32."""
    offsets: np.ndarray
    """(n, 2) int32: characters, the second one past the last."""


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> list[Text]:
    """Texts without special tokens."""
    if not texts:
        return []
    made = tokenizer.encode_batch(texts, return_offsets=True)
    lengths = (made.token_ids != 0).sum(1)
    return [
        Text(ids[1 : n - 1], offsets[1 : n - 1])
        for ids, offsets, n in zip(made.token_ids, made.offsets, lengths, strict=True)
    ]


def cut(length: int, room: int, overlap: int) -> list[tuple[int, int]]:
    """Windows (start, stop) of at most `room` tokens over a passage of `length`.

    Each begins `room - overlap` after the one before; the last ends with the passage and is as
    long as the others. A span of up to `overlap` tokens stands whole in one of them.
    """
    starts = list(range(0, max(1, length - room), room - overlap))
    if length > room:
        starts.append(length - room)
    return [(start, min(start + room, length)) for start in starts]


def token_span(offsets: np.ndarray, start: int, stop: int) -> tuple[int, int] | None:
    """The tokens (first, one past the last) that lie on these characters; None for none."""
    inside = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < stop))
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else None


class Example(NamedTuple):
    """A question to be trained on."""

    passage: np.ndarray
    question: np.ndarray
    spans: tuple[tuple[int, int], ...]
    """Tokens of each right answer."""


def examples(questions: Sequence[ReadingQuestion], tokenizer: Any, layout: Layout) -> list[Example]:
    """Those of the questions that have an answer in their passage, not longer than the layout's."""
    texts = list(dict.fromkeys(question.passage for question in questions))
    passages = dict(zip(texts, encode_texts(tokenizer, texts), strict=True))
    asked = encode_texts(tokenizer, [question.question for question in questions])
    made = []
    for question, text in zip(questions, asked, strict=True):
        passage = passages[question.passage]
        spans = [
            token_span(passage.offsets, start, start + len(answer))
            for answer, start in zip(question.answers, question.starts, strict=True)
            if start >= 0
        ]
        short = {span for span in spans if span and span[1] - span[0] <= layout.answer}
        if short:
            ids = text.ids[: layout.question]
            made.append(Example(passage.ids, ids, tuple(sorted(short))))
    return made


@dataclasses.dataclass(frozen=True)
class Draws:
    """A window and an answer of an example, drawn anew each time it is asked for.

    Args:
        examples: what is drawn from.
        layout: of the rows.
        empty: share of the rows whose window lacks the answer, where the passage is that long.
    """

    examples: Sequence[Example]
    layout: Layout
    empty: float = 0.2

    def draw(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids of the window, the question, and the answer (empty where it is not there)."""
        passage, question, spans = self.examples[row]
        room, n = self.layout.room(len(question)), len(passage)
        first, last = spans[int(rng.integers(len(spans)))]
        if n > room and rng.random() < self.empty:
            away = [s for s in range(n - room + 1) if _apart(spans, s, s + room)]
            if away:
                start = int(rng.choice(away))
                return passage[start : start + room], question, passage[:0]
        low, high = max(0, last - room), min(first, max(0, n - room))
        start = int(rng.integers(low, high + 1)) if high > low else min(low, high)
        return passage[start : start + room], question, passage[first:last]


def _apart(spans: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    return all(last <= start or first >= stop for first, last in spans)


def written_answers(draws: Draws, special: Special) -> Continuations:
    """`[CLS] window [SEP] question [SEP] answer [SEP]`, the answer written left to right."""

    def rewrite(row: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        window, question, answer = draws.draw(row, rng)
        source = [*window.tolist(), special.end, *question.tolist()]
        return source, [*answer.tolist(), special.end]

    # Only the lengths of these are read, and all batches are of one width.
    rows = [
        (range(min(len(e.passage), draws.layout.maxlen) + len(e.question) + 1), (special.end,))
        for e in draws.examples
    ]
    return Continuations(rows, special, rewrite, multiple=draws.layout.answer + 1)


@dataclasses.dataclass(frozen=True)
class MaskedAnswers:
    """`[CLS] [MASK] ... [SEP] question [SEP] window [SEP]`, all segment 0: the answer at once.

    The answer and the [SEP] that ends it are asked for at the first places of `answer + 1` [MASK]s;
    nothing is asked for at the others.
    """

    draws: Draws
    special: Special

    def lengths(self) -> np.ndarray:
        """Of the rows, at most the layout's."""
        layout = self.draws.layout
        return np.array(
            [
                min(len(e.passage) + len(e.question) + layout.answer + 5, layout.maxlen)
                for e in self.draws.examples
            ]
        )

    def batch(self, rows: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """Rows of [MASK]s, their places, and what stands behind them."""
        m = self.draws.layout.answer + 1
        token_ids = np.zeros(shape, np.int32)
        labels, weights = np.zeros((shape[0], m), np.int32), np.zeros((shape[0], m), np.float32)
        for line, row in enumerate(rows):
            window, question, answer = self.draws.draw(int(row), rng)
            ids = masked_row(window, question, m, self.special)[: shape[1]]
            token_ids[line, : len(ids)] = ids
            labels[line, : len(answer) + 1] = [*answer, self.special.end]
            weights[line, : len(answer) + 1] = 1
        return {
            "token_ids": token_ids,
            "segment_ids": np.zeros(shape, np.int32),
            "positions": np.broadcast_to(np.arange(1, m + 1, dtype=np.int32), (shape[0], m)).copy(),
            "labels": labels,
            "weights": weights,
        }


def masked_row(window: np.ndarray, question: np.ndarray, masks: int, special: Special) -> list[int]:
    """The row of `MaskedAnswers`."""
    start, end = special.start, special.end
    return [start, *[special.mask] * masks, end, *question.tolist(), end, *window.tolist(), end]
