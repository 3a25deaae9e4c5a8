"""Questions rewritten for training: subjects swapped, openings and closings changed.

Subjects are swapped for names and random characters from elsewhere, in the question and in the key
alike: a model that cannot know the subjects of the world has to learn to copy them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

OPENINGS = (
    *("请问", "你知道", "谁知道", "有谁知道", "有人知道", "我想知道", "我想问一下"),
    *("请告诉我", "谁能告诉我", "大家知道", "我很好奇"),
)
OPENING = re.compile("^(?:" + "|".join(sorted(OPENINGS, key=len, reverse=True)) + ")[，,]?")
CLOSING = re.compile("(?:吗|呢|啊|呀|？|\\?|，?有人知道吗|，?你知道吗)+$")
MENTIONS = ("{m}{s}", "{m}{s}", "{s}（{m}）", "{s}({m})", "{s}这个{m}", "{m}《{s}》")


class Question(NamedTuple):
    """A question and the key of the fact that answers it."""

    question: str
    subject: str
    predicate: str
    meaning: str


def _one_of(items: Sequence[str], rng: np.random.Generator) -> str:
    return items[int(rng.integers(len(items)))]


class QuestionWriter:
    """Rewrites questions so that the key can only be found by reading the question.

    Args:
        questions: the real ones.
        names: of people, places and organisations to use as subjects; those of the questions
            when there are none.
        titles: texts whose fragments serve as subjects and meanings; the questions when there are
            none.
        characters: that subjects which mean nothing are made of, or longer pieces; those of the
            questions when there are none.
        noise: share of the swapped subjects that mean nothing.
        quoted: share of the swapped subjects that the question holds in 《》. Every other key holds
            these as well: names of works are written both ways, and the knowledge base decides.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        names: Sequence[str] = (),
        titles: Sequence[str] = (),
        characters: Sequence[str] = (),
        *,
        noise: float = 0.2,
        quoted: float = 0.0,
    ) -> None:
        if not (0 <= noise <= 1 and 0 <= quoted <= 1):
            raise ValueError(f"noise={noise} and quoted={quoted} are shares, 0 to 1")
        self.noise, self.quoted = noise, quoted
        self.questions = list(questions)
        self.names = names or [q.subject for q in self.questions]
        self.titles = titles or [q.question for q in self.questions]
        asked = (c for q in self.questions for c in q.question)
        self.characters = characters or sorted({c for c in asked if c > "\u3400"}) or ["某"]
        self.meanings = sorted({q.meaning for q in questions if q.meaning})
        # Predicates that people say as they are written can be put into other questions.
        self.spoken = [q.predicate for q in questions if q.predicate in q.question]

    def _fragment(self, low: int, high: int, rng: np.random.Generator) -> str:
        text = _one_of(self.titles, rng)
        size = int(rng.integers(low, high + 1))
        start = int(rng.integers(max(1, len(text) - size)))
        return text[start : start + size].strip()

    def _noise(self, low: int, high: int, rng: np.random.Generator) -> str:
        size = int(rng.integers(low, high + 1))
        return "".join(_one_of(self.characters, rng) for _ in range(size))

    def subject(self, rng: np.random.Generator) -> str:
        """A subject from anywhere."""
        kind = rng.random()
        known = 1 - self.noise
        if kind < 7 / 16 * known:
            return self.questions[int(rng.integers(len(self.questions)))].subject
        if kind < 12 / 16 * known:
            return _one_of(self.names, rng)
        if kind < known:
            return self._fragment(2, 10, rng) or self._noise(2, 4, rng)
        return self._noise(2, 6, rng)

    def meaning(self, rng: np.random.Generator) -> str:
        """A meaning from anywhere: what tells homonyms apart is as open as the subjects are."""
        kind = rng.random()
        if kind < 0.2:
            return _one_of(self.meanings, rng) if self.meanings else self._noise(2, 4, rng)
        if kind < 0.5:
            return _one_of(self.names, rng)
        if kind < 0.85:
            return self._fragment(2, 6, rng) or self._noise(2, 4, rng)
        return self._noise(2, 5, rng)

    def write(self, row: Question, rng: np.random.Generator) -> Question:
        """One question, rewritten at random; its key changes accordingly."""
        question, subject, predicate, meaning = row
        if not subject or question.count(subject) != 1:
            return row
        before, after = question.split(subject)
        if rng.random() < 0.4:
            before = OPENING.sub("", before)
            if rng.random() < 0.5:
                before = _one_of(OPENINGS, rng) + before
        if rng.random() < 0.3:
            after = CLOSING.sub("", after) + _one_of(("", "？", "呢？", "？"), rng)
        if rng.random() < 0.3 and self.spoken and after.count(predicate) == 1:
            new = _one_of(self.spoken, rng)
            after, predicate = after.replace(predicate, new), new
        mentioned = subject
        if rng.random() < 0.65:
            if meaning and f"（{meaning}）" in after:
                after = after.replace(f"（{meaning}）", "", 1)
            meaning = ""
            subject = mentioned = self.subject(rng)
            if rng.random() < 0.3:
                meaning = self.meaning(rng)
                # One in four is not said: then the tree decides, and the model must allow it.
                if rng.random() < 0.75:
                    mentioned = _one_of(MENTIONS, rng).format(s=subject, m=meaning)
            elif self.quoted and rng.random() < self.quoted:
                if not before.endswith("《"):
                    mentioned = f"《{subject}》"
                if rng.random() < 0.5:
                    subject = f"《{subject}》"
        return Question(before + mentioned + after, subject, predicate, meaning)
