"""The questions and the knowledge base that `kgqa_results.py` measures with.

Training takes KgCLUE's train and nine tenths of the NLPCC questions; measured are KgCLUE's dev and
the last tenth, chosen by the hash of the subject that the shipped model was held to as well. The
knowledge base holds the gold triples of what is measured and, as the gold triples alone would leave
no choice, facts that are wrong:

* every subject has eight other predicates: the four known ones most like the gold predicate (by the
  longest common subsequence), and four drawn by their frequency;
* a fifth of the subjects has a namesake with another meaning and nine predicates of its own, chosen
  in the same way;
* 200,000 other subjects with nine predicates each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import ship_sets

from bert4kexue.decoding.lookahead import lcs_lengths
from bert4kexue.methods.knowledge_base import split_meaning
from bert4kexue.methods.question_files import LabelledQuestion, read_questions

LIKE, DRAWN, NAMESAKES, OTHERS = 4, 4, 0.2, 200_000


def training_questions(root: Path) -> list[LabelledQuestion]:
    """KgCLUE's train and NLPCC's without the subjects held out."""
    nlpcc = [q for q in _nlpcc(root) if not ship_sets.is_held_out(q.fact[0])]
    return [*read_questions(root / "kgclue" / "train.json"), *nlpcc]


def measured_questions(root: Path) -> dict[str, list[LabelledQuestion]]:
    """KgCLUE's dev and the tenth of NLPCC that is held out."""
    return {
        "KgCLUE dev": read_questions(root / "kgclue" / "dev.json"),
        "NLPCC held out": [q for q in _nlpcc(root) if ship_sets.is_held_out(q.fact[0])],
    }


def _nlpcc(root: Path) -> list[LabelledQuestion]:
    path = root / "nlpcc2016kbqa" / "nlpcc-iccpol-2016.kbqa.training-data"
    # One question of the file has no subject.
    return [q for q in read_questions(path, []) if q.question]


def write_questions(path: Path, questions: Sequence[LabelledQuestion]) -> None:
    """In KgCLUE's format, which the commands read."""
    rows = (
        {"id": number, "question": q.question, "answer": " ||| ".join(q.triple)}
        for number, q in enumerate(questions)
    )
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


# --- the knowledge base -------------------------------------------------------------------------


class Predicates:
    """Known predicates: by frequency, and by likeness to one."""

    def __init__(self, questions: Sequence[LabelledQuestion], rng: np.random.Generator) -> None:
        counts = Counter(q.predicate for q in questions)
        self.names = sorted(counts)
        self.rng = rng
        self._codes = [list(map(ord, name)) for name in self.names]
        self._lengths = np.array([len(code) for code in self._codes])
        weights = np.array([counts[name] for name in self.names], float)
        self._cumulated = np.cumsum(weights / weights.sum())
        self._like: dict[str, list[str]] = {}

    def drawn(self, count: int, without: set[str]) -> list[str]:
        """Different predicates, as frequent as they are in the questions."""
        found: list[str] = []
        while len(found) < count:
            name = self.names[int(np.searchsorted(self._cumulated, self.rng.random()))]
            if name not in without and name not in found:
                found.append(name)
        return found

    def like(self, predicate: str, count: int) -> list[str]:
        """The predicates most like it: 2 LCS / (|a| + |b|), the first by name among equals."""
        if predicate not in self._like:
            common = lcs_lengths(self._codes, list(map(ord, predicate)))
            order = np.argsort(-2 * common / (self._lengths + len(predicate)), kind="stable")
            names = [self.names[i] for i in order[: count + 1] if self.names[i] != predicate]
            self._like[predicate] = names[:count]
        return self._like[predicate]


def knowledge_triples(
    root: Path, others: int = OTHERS, seed: int = 1
) -> Iterator[tuple[str, str, str]]:
    """The facts, gold ones first; the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    measured = [q for questions in measured_questions(root).values() for q in questions]
    trained = training_questions(root)
    predicates = Predicates([*measured, *trained], rng)
    values = [q.object for q in trained if q.object]

    def value() -> str:
        return values[int(rng.integers(len(values)))]

    gold: dict[str, list[LabelledQuestion]] = {}
    for question in measured:
        gold.setdefault(question.name, []).append(question)
        yield tuple(question.triple)
    meanings = sorted({q.fact[2] for q in trained if q.fact[2]})
    subjects = {split_meaning(name)[0] for name in gold}
    for name, questions in gold.items():
        subject, meaning = split_meaning(name)
        own = {q.predicate for q in questions}
        like = predicates.like(questions[0].predicate, LIKE)
        for predicate in (*like, *predicates.drawn(DRAWN, own | set(like))):
            if predicate not in own:
                yield name, predicate, value()
        if rng.random() < NAMESAKES:
            other = meaning
            while other == meaning:
                other = meanings[int(rng.integers(len(meanings)))]
            for predicate in (*like, *predicates.drawn(DRAWN + 1, set(like))):
                yield f"{subject}（{other}）", predicate, value()
    for subject in other_subjects(root, trained, subjects, others, rng):
        for predicate in predicates.drawn(LIKE + DRAWN + 1, set()):
            yield subject, predicate, value()


def other_subjects(
    root: Path,
    trained: Sequence[LabelledQuestion],
    without: set[str],
    count: int,
    rng: np.random.Generator,
) -> list[str]:
    """Names that are none of the given ones.

    The subjects of the training questions, names and objects as they are; then names put together
    of the beginning of one and the end of another.
    """
    real = [q.name for q in trained] + ship_sets.names(root)
    real += [q.object for q in trained if 2 <= len(q.object) <= 12]
    found = {name: None for name in real if split_meaning(name)[0] not in without and name.strip()}
    names = list(found)
    while len(found) < count:
        first, second = (names[int(i)] for i in rng.integers(len(names), size=2))
        made = first[: int(rng.integers(1, 5))] + second[-int(rng.integers(1, 5)) :]
        if len(made) > 1 and made not in without and "（" not in made and "）" not in made:
            found[made] = None
    return list(found)[:count]
