"""Answers to KgCLUE's questions: submissions written and read, scores.

A submission is JSON lines {"id", "question", "answer": "S ||| P ||| O"}. Scored are S, P, O and all
of them: exact matches (EM), and F1 = 2 LCS / (|a| + |b|) with the longest common subsequence of
characters, 0 for two empty texts; both after lower-casing and collapsing spaces. The benchmark's
score is the mean of EM and F1 of O.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bert4kexue._files import atomic_write
from bert4kexue.decoding.lookahead import lcs_lengths
from bert4kexue.methods.question_files import LabelledQuestion, Triple
from bert4kexue.text.lines import read_lines

SEPARATOR = " ||| "


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
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
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
