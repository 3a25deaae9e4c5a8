"""Labelled questions over knowledge bases: KgCLUE and NLPCC 2016 files, scores, submissions.

KgCLUE (github.com/CLUEbenchmark/KgCLUE): JSON lines {"id", "question", "answer": "S ||| P ||| O"},
S perhaps with its meaning in full-width parentheses. Scored are S, P, O and all of them: exact
matches (EM), and F1 = 2 LCS / (|a| + |b|) with the longest common subsequence of characters, 0 for
two empty texts; both after lower-casing and collapsing spaces. The benchmark's score is the mean of
EM and F1 of O.

NLPCC 2016 KBQA: lines `<question id=1>\\tQ`, `<triple id=1>\\tS ||| P ||| O`, `<answer id=1>\\tA`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bert4kexue._files import atomic_write
from bert4kexue.decoding.lookahead import lcs_lengths
from bert4kexue.methods.knowledge_base import split_meaning

SEPARATOR = " ||| "
_NLPCC_BEGINS = "<question"


class LabelledQuestion(NamedTuple):
    """A question and the triple that answers it."""

    id: int
    question: str
    name: str
    """The subject as it stands in triples, its meaning included: `S（M）`."""
    predicate: str
    object: str

    @property
    def fact(self) -> tuple[str, str, str]:
        """Subject, predicate, meaning."""
        subject, meaning = split_meaning(self.name)
        return subject, self.predicate, meaning

    @property
    def triple(self) -> Triple:
        """The answer."""
        return Triple(self.name, self.predicate, self.object)


class Triple(NamedTuple):
    """An answer; '' where a predicted one has no such part."""

    name: str
    predicate: str
    object: str


def begins_labelled(text: str) -> bool:
    """Whether a file that begins with this text holds labelled questions."""
    return text.lstrip().startswith(("{", _NLPCC_BEGINS))


def read_questions(path: str | Path, rejected: list[str] | None = None) -> list[LabelledQuestion]:
    """The questions of a KgCLUE or an NLPCC 2016 file, told apart by their beginning.

    Args:
        path: UTF-8.
        rejected: takes what is wrong with each question that breaks the format, which is then left
            out; without it the first one is an error. (NLPCC's own file has one without a subject.)

    Raises:
        ValueError: an empty file, or a question that breaks the format, with where and why.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    first = next((line for line in lines if line.strip()), "")
    if not first:
        raise ValueError(f"{path} is empty: it needs one question a line")
    read = _read_nlpcc if first.lstrip().startswith(_NLPCC_BEGINS) else _read_kgclue
    questions = []
    for found in read(path, lines):
        if isinstance(found, LabelledQuestion):
            questions.append(found)
        elif rejected is None:
            raise ValueError(found)
        else:
            rejected.append(found)
    return questions


def parse_answer(text: str) -> Triple:
    """The parts of `S ||| P ||| O`.

    O may hold the separator itself; S and P may not be empty.

    Raises:
        ValueError: fewer than three parts, or an empty subject or predicate.
    """
    parts = [part.strip() for part in text.split("|||", 2)]
    if len(parts) < 3:
        raise ValueError(f"an answer is `S ||| P ||| O`, got {len(parts)} parts: {text[:80]!r}")
    if not parts[0] or not parts[1]:
        raise ValueError(f"an answer needs a subject and a predicate: {text[:80]!r}")
    return Triple(*parts)


def _read_kgclue(path: Path, lines: list[str]) -> Iterator[LabelledQuestion | str]:
    """Each question, or what is wrong with it."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"line {number} of {path.name}"
        try:
            row = json.loads(line)
            yield LabelledQuestion(
                int(row.get("id", number - 1)), row["question"], *parse_answer(row["answer"])
            )
        except json.JSONDecodeError as error:
            yield f"{where} is no JSON: {error}"
        except (KeyError, TypeError, AttributeError) as error:
            yield f"{where} needs `question` and `answer`, texts: {error}"
        except ValueError as error:
            yield f"{where}: {error}"


_NLPCC = re.compile(r"<(question|triple|answer) id=(\d+)>\s*(.*)")


def _read_nlpcc(path: Path, lines: list[str]) -> Iterator[LabelledQuestion | str]:
    """Each question, or what is wrong with it."""
    found: dict[int, dict[str, str]] = {}
    for number, line in enumerate(lines, 1):
        match = _NLPCC.match(line)
        if match:
            kind, index, text = match.groups()
            found.setdefault(int(index), {})[kind] = text.strip()
        elif line.strip(" =\t"):
            yield (
                f"line {number} of {path.name} is none of <question id=...>, <triple id=...>, "
                f"<answer id=...>: {line[:80]!r}"
            )
    for index, parts in found.items():
        where = f"question {index} of {path.name}"
        if "question" not in parts or "triple" not in parts:
            yield f"{where} needs <question> and <triple>"
            continue
        try:
            yield LabelledQuestion(index, parts["question"], *parse_answer(parts["triple"]))
        except ValueError as error:
            yield f"{where}: {error}"


def write_submission(
    path: str | Path, questions: Sequence[LabelledQuestion], predictions: Iterable[Triple]
) -> None:
    """Predictions in KgCLUE's format, one JSON object a line; complete or not at all.

    Args:
        path: the file to write.
        questions: whose ids and texts are repeated.
        predictions: one for each, in the same order.
    """
    with atomic_write(path, "w") as file:
        for question, triple in zip(questions, predictions, strict=True):
            row = {
                "id": question.id,
                "question": question.question,
                "answer": SEPARATOR.join(triple),
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_predictions(path: str | Path) -> dict[int, Triple]:
    """{id: answer} of a submission.

    Raises:
        ValueError: a line that breaks the format, or an id twice.
    """
    found: dict[int, Triple] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            parts = row["answer"].split(SEPARATOR, 2)
            index = int(row["id"])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"line {number} of {path} is no prediction with `id` and `answer`: {error}"
            ) from None
        if len(parts) != 3 or index in found:
            why = "its answer has no three parts" if len(parts) != 3 else f"id {index} comes twice"
            raise ValueError(f"line {number} of {path}: {why}")
        found[index] = Triple(*parts)
    return found


# --- scores --------------------------------------------------------------------------------------


def normalized(text: str) -> str:
    """Lower case, and single spaces between words."""
    return " ".join(text.lower().split())


def f1(a: str, b: str) -> float:
    """2 LCS / (|a| + |b|) on characters; 0 for two empty texts.

    >>> f1("固体物理", "《固体物理》")
    0.8
    """
    if not a and not b:
        return 0.0
    common = int(lcs_lengths([list(map(ord, a))], list(map(ord, b)))[0])
    return 2 * common / (len(a) + len(b))


class Scores(NamedTuple):
    """Means over questions, between 0 and 1."""

    em_s: float
    em_p: float
    em_o: float
    em_all: float
    f1_s: float
    f1_p: float
    f1_o: float
    f1_all: float

    @property
    def score(self) -> float:
        """The benchmark's: the mean of EM and F1 of the object."""
        return (self.em_o + self.f1_o) / 2


def scores(predictions: Sequence[Triple], gold: Sequence[Triple]) -> Scores:
    """How well the predictions, one for each gold triple, agree with them.

    Raises:
        ValueError: no question, or another number of predictions.
    """
    if len(predictions) != len(gold) or not gold:
        raise ValueError(
            f"{len(predictions)} predictions for {len(gold)} questions: one for each is needed, "
            "and one question at least"
        )
    totals = [0.0] * 8
    for predicted, right in zip(predictions, gold, strict=True):
        a, b = ([normalized(part) for part in triple] for triple in (predicted, right))
        exact = [x == y for x, y in zip(a, b, strict=True)]
        close = [f1(x, y) for x, y in zip(a, b, strict=True)]
        row = [*exact, all(exact), *close, f1("".join(a), "".join(b))]
        totals = [total + float(value) for total, value in zip(totals, row, strict=True)]
    return Scores(*(total / len(gold) for total in totals))
