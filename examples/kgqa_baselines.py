"""Two ways to answer without generation, for `kgqa_results.py` to compare with.

Both take the longest subject that the question contains. The predicate is then the one that shares
the longest common subsequence with the rest of the question, half of its other characters counted
against it (of five such rules the one that answers most of what is measured); or the one whose text
is nearest to the rest of the question by the sentence vectors of an encoder. Among facts
of one predicate the meaning decides by its common subsequence with the question; what is still
equal is decided by a hash.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert4kexue.cli.models import load_tokenizer
from bert4kexue.decoding.lookahead import lcs_lengths
from bert4kexue.methods.kgclue import normalized
from bert4kexue.methods.knowledge_base import split_meaning
from bert4kexue.methods.question_files import LabelledQuestion, Triple
from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.models import build_transformer_model


class Fact(NamedTuple):
    """A line of the base."""

    name: str
    predicate: str
    object: str


class Baselines:
    """Answers from the lines of a base.

    Args:
        facts: `S（M）`, P, O with tabs between them.
        measured: the questions: only facts of subjects that stand in one are kept.
        model: the encoder, in the original layout.
    """

    def __init__(
        self, facts: Path, measured: Mapping[str, Sequence[LabelledQuestion]], model: str
    ) -> None:
        asked = [normalized(q.question) for several in measured.values() for q in several]
        spans = {text[i:j] for text in asked for i in range(len(text)) for j in range(i, len(text))}
        spans |= {text[i:] for text in asked for i in range(len(text))}
        self.facts: defaultdict[str, list[Fact]] = defaultdict(list)
        with open(facts, encoding="utf-8") as file:
            for line in file:
                fact = Fact(*line.rstrip("\n").split("\t", 2))
                subject = normalized(split_meaning(fact.name)[0])
                if subject in spans:
                    self.facts[subject].append(fact)
        for several in self.facts.values():
            # The gold facts come first in the file: equals must not be decided by that.
            several.sort(key=lambda fact: zlib.crc32("\t".join(fact).encode("utf-8")))
        self.model = model

    def strings(self, questions: Sequence[str]) -> list[Triple]:
        """By common subsequences."""
        found = []
        for question in questions:
            rest, facts = self._about(question)
            predicates = [list(map(ord, normalized(fact.predicate))) for fact in facts]
            common = lcs_lengths(predicates, list(map(ord, rest)))
            unsaid = np.array([len(predicate) for predicate in predicates]) - common
            found.append(_best(facts, common - unsaid / 2, rest))
        return found

    def encoder(self, questions: Sequence[str]) -> list[Triple]:
        """By sentence vectors."""
        model = build_transformer_model(self.model, model="roformer", with_pool="linear")
        pairs = [self._about(question) for question in questions]
        texts = {rest for rest, _ in pairs} | {f.predicate for _, facts in pairs for f in facts}
        order = sorted(texts)
        encoder = SentenceEncoder(model, load_tokenizer(self.model), maxlen=64, long="cut")
        vectors = encoder.encode(order)
        place = {text: i for i, text in enumerate(order)}
        return [
            _best(
                facts,
                np.array([vectors[place[f.predicate]] @ vectors[place[rest]] for f in facts]),
                rest,
            )
            for rest, facts in pairs
        ]

    def _about(self, question: str) -> tuple[str, list[Fact]]:
        """The question without its longest subject, and the facts of that subject."""
        text = normalized(question)
        for size in range(len(text), 0, -1):
            for start in range(len(text) - size + 1):
                facts = self.facts.get(text[start : start + size])
                if facts:
                    return text[:start] + text[start + size :], facts
        return text, next(iter(self.facts.values()))


def _best(facts: Sequence[Fact], scores: np.ndarray, rest: str) -> Triple:
    """The fact of the best score; among equals the one whose meaning the question says most of."""
    meanings = [list(map(ord, normalized(split_meaning(fact.name)[1]))) for fact in facts]
    said = lcs_lengths(meanings, list(map(ord, rest)))
    best = max(range(len(facts)), key=lambda i: (scores[i], said[i]))
    return Triple(*facts[best])
