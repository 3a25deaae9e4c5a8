"""The training rows of the small RoFormer: what is masked, asked, swapped and compared.

Three kinds of rows, one batch format. A masked row has segment 0 throughout, so the UniLM mask
lets every token see every other; a question row is `[CLS] Q [SEP] S [SEP] P [SEP] M [SEP]` with
segment 0 up to and including the first [SEP], predicted left to right; a pair is two rows, whose
pooled vectors are compared.

Subjects are swapped for names and random characters from elsewhere, in the question and in the
key alike, because a model of a few megabytes cannot know the subjects of the world: it has to
learn to copy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ship_sets import Question

from bert4kexue.tokenizers import Tokenizer
from bert4kexue.training import sequence_padding

OPENINGS = (
    *("请问", "你知道", "谁知道", "有谁知道", "有人知道", "我想知道", "我想问一下"),
    *("请告诉我", "谁能告诉我", "大家知道", "我很好奇"),
)
OPENING = re.compile("^(?:" + "|".join(sorted(OPENINGS, key=len, reverse=True)) + ")[，,]?")
CLOSING = re.compile("(?:吗|呢|啊|呀|？|\\?|，?有人知道吗|，?你知道吗)+$")
MENTIONS = ("{m}{s}", "{m}{s}", "{s}（{m}）", "{s}({m})", "{s}这个{m}", "{m}《{s}》")


class Batch(NamedTuple):
    """One step's arrays. `positions` index the flattened (b * n) tokens that are predicted."""

    token_ids: np.ndarray  # (b, n) int32
    segment_ids: np.ndarray  # (b, n) int32
    positions: np.ndarray  # (t,) int32
    labels: np.ndarray  # (t,) int32


class Encoder:
    """Text to ids without special tokens, and the ids of the special tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.cls, self.sep = tokenizer._token_start_id, tokenizer._token_end_id
        self.mask, self.vocab_size = tokenizer._token_mask_id, tokenizer._vocab_size

    def ids(self, text: str, limit: int = 62) -> list[int]:
        """Ids of the text alone, at most `limit`."""
        return self.tokenizer.encode(text, maxlen=limit + 2)[0][1:-1]

    def sentence(self, text: str, limit: int = 62) -> list[int]:
        """`[CLS] text [SEP]`."""
        return [self.cls, *self.ids(text, limit), self.sep]

    def key(self, subject: str, predicate: str, meaning: str) -> list[int]:
        """`S [SEP] P [SEP] M [SEP]`; an empty meaning leaves two [SEP] in a row."""
        parts = (self.ids(part, 40) for part in (subject, predicate, meaning))
        return [i for part in parts for i in (*part, self.sep)]


# --- masked language model ----------------------------------------------------------------------


def mask_rows(
    rows: Sequence[Sequence[int]],
    mask_id: int,
    vocab_size: int,
    rng: np.random.Generator,
    rate: float = 0.15,
    first_ordinary: int = 5,
) -> Batch:
    """Hide about `rate` of the ordinary tokens: 80 % as [MASK], 10 % random, 10 % left alone.

    Ids below `first_ordinary` (padding and special tokens) are never chosen; a row that has any
    other token gets at least one.
    """
    token_ids = sequence_padding(rows).astype("int32")
    ordinary = token_ids >= first_ordinary
    draw = np.where(ordinary, rng.random(token_ids.shape), 2.0)
    chosen = draw < rate
    lowest = draw.argmin(axis=1)
    some = ordinary.any(axis=1)
    chosen[np.flatnonzero(some), lowest[some]] = True
    positions = np.flatnonzero(chosen)
    labels = token_ids.reshape(-1)[positions]
    fate = rng.random(len(positions))
    random_ids = rng.integers(first_ordinary, vocab_size, len(positions))
    hidden = np.where(fate < 0.8, mask_id, np.where(fate < 0.9, random_ids, labels))
    token_ids.reshape(-1)[positions] = hidden
    return Batch(
        token_ids, np.zeros_like(token_ids), positions.astype("int32"), labels.astype("int32")
    )


# --- question -> key ----------------------------------------------------------------------------


def question_batch(rows: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """(`[CLS] Q [SEP]`, `S [SEP] P [SEP] M [SEP]`) rows as one batch: each key token predicted.

    The token at place j predicts the one at j + 1, so the positions run from the question's
    [SEP] to the last token but one, and the final [SEP] is read but predicts nothing.
    """
    token_ids = sequence_padding([q + k for q, k in rows]).astype("int32")
    segment_ids = sequence_padding([[0] * len(q) + [1] * len(k) for q, k in rows])
    n = token_ids.shape[1]
    positions = np.concatenate(
        [i * n + np.arange(len(q) - 1, len(q) + len(k) - 1) for i, (q, k) in enumerate(rows)]
    )
    labels = np.concatenate([np.asarray(k) for _, k in rows])
    return Batch(
        token_ids, segment_ids.astype("int32"), positions.astype("int32"), labels.astype("int32")
    )


class QuestionWriter:
    """Rewrites questions so that the key can only be found by reading the question.

    Args:
        questions: the real ones.
        names: names of people, places and organisations to use as subjects.
        titles: texts whose fragments serve as subjects and meanings.
        characters: single characters for subjects that mean nothing.
        rng: where every choice comes from.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        names: Sequence[str],
        titles: Sequence[str],
        characters: Sequence[str],
        rng: np.random.Generator,
    ) -> None:
        self.questions = list(questions)
        self.names, self.titles, self.characters, self.rng = names, titles, characters, rng
        self.meanings = sorted({q.meaning for q in questions if q.meaning})
        # Predicates that people say as they are written can be put into other questions.
        self.spoken = [q.predicate for q in questions if q.predicate in q.question]

    def _one_of(self, items: Sequence[str]) -> str:
        return items[int(self.rng.integers(len(items)))]

    def _fragment(self, low: int, high: int) -> str:
        text = self._one_of(self.titles)
        size = int(self.rng.integers(low, high + 1))
        start = int(self.rng.integers(max(1, len(text) - size)))
        return text[start : start + size].strip()

    def _noise(self, low: int, high: int) -> str:
        size = int(self.rng.integers(low, high + 1))
        return "".join(self._one_of(self.characters) for _ in range(size))

    def subject(self) -> str:
        """A subject from anywhere."""
        kind = self.rng.random()
        if kind < 0.35:
            return self.questions[int(self.rng.integers(len(self.questions)))].subject
        if kind < 0.60:
            return self._one_of(self.names)
        if kind < 0.80:
            return self._fragment(2, 10) or self._noise(2, 4)
        return self._noise(2, 6)

    def meaning(self) -> str:
        """A meaning from anywhere: what tells homonyms apart is as open as the subjects are."""
        kind = self.rng.random()
        if kind < 0.2:
            return self._one_of(self.meanings) if self.meanings else self._noise(2, 4)
        if kind < 0.5:
            return self._one_of(self.names)
        if kind < 0.85:
            return self._fragment(2, 6) or self._noise(2, 4)
        return self._noise(2, 5)

    def write(self, row: Question) -> Question:
        """One question, rewritten at random; its key changes accordingly."""
        question, subject, predicate, meaning = row
        rng = self.rng
        if not subject or question.count(subject) != 1:
            return row
        before, after = question.split(subject)
        if rng.random() < 0.4:
            before = OPENING.sub("", before)
            if rng.random() < 0.5:
                before = self._one_of(OPENINGS) + before
        if rng.random() < 0.3:
            after = CLOSING.sub("", after) + self._one_of(("", "？", "呢？", "？"))
        if rng.random() < 0.3 and self.spoken and after.count(predicate) == 1:
            new = self._one_of(self.spoken)
            after, predicate = after.replace(predicate, new), new
        mentioned = subject
        if rng.random() < 0.65:
            if meaning and f"（{meaning}）" in after:
                after = after.replace(f"（{meaning}）", "", 1)
            meaning = ""
            subject = mentioned = self.subject()
            if rng.random() < 0.3:
                meaning = self.meaning()
                # One in four is not said: then the tree decides, and the model must allow it.
                if rng.random() < 0.75:
                    mentioned = self._one_of(MENTIONS).format(s=subject, m=meaning)
        return Question(before + mentioned + after, subject, predicate, meaning)


# --- pairs of sentences -------------------------------------------------------------------------


def corrupt(ids: Sequence[int], rng: np.random.Generator, rate: float = 0.15) -> list[int]:
    """Drop some tokens and, half of the time, let two parts change places."""
    kept = [i for i in ids if rng.random() >= rate] or list(ids)
    if len(kept) > 3 and rng.random() < 0.5:
        cut = int(rng.integers(1, len(kept)))
        kept = kept[cut:] + kept[:cut]
    return kept


def pair_batch(pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of `[CLS] x [SEP]` rows as (2b, n) ids; rows 2i and 2i + 1 belong together."""
    token_ids = sequence_padding([row for pair in pairs for row in pair]).astype("int32")
    return token_ids, np.zeros_like(token_ids)
