"""Files of questions over knowledge bases, read one after the other: KgCLUE's and NLPCC 2016's.

KgCLUE (github.com/CLUEbenchmark/KgCLUE): JSON lines {"id", "question", "answer": "S ||| P ||| O"},
S perhaps with its meaning in full-width parentheses.

NLPCC 2016 KBQA: lines `<question id=1>\\tQ`, `<triple id=1>\\tS ||| P ||| O`, `<answer id=1>\\tA`,
those of one question together.

The files that answers are submitted for hold questions alone: no `answer`, no `<triple>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, MutableSequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bert4kexue.methods.knowledge_base import split_meaning
from bert4kexue.text.lines import read_lines

_NLPCC_BEGINS = "<question"


class Question(NamedTuple):
    """A question."""

    id: int
    question: str


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


Asked = TypeVar("Asked", Question, LabelledQuestion)


def begins_labelled(text: str) -> bool:
    """Whether a file that begins with this text holds labelled questions."""
    return text.lstrip().startswith(("{", _NLPCC_BEGINS))


def read_questions(
    path: str | Path, rejected: MutableSequence[str] | None = None
) -> list[LabelledQuestion]:
    """The questions of a KgCLUE or an NLPCC 2016 file, told apart by their beginning.

    Args:
        path: UTF-8.
        rejected: takes what is wrong with each question that breaks the format, which is then left
            out; without it the first one is an error. (NLPCC's own file has one without a subject.)

    Raises:
        ValueError: an empty file, or a question that breaks the format, with where and why.
    """
    return list(iter_questions(path, rejected))


def iter_questions(
    path: str | Path, rejected: MutableSequence[str] | None = None
) -> Iterator[LabelledQuestion]:
    """`read_questions`, one question in memory at a time."""
    path = Path(path)
    first, lines = _begun(path)
    if not first:
        raise ValueError(f"{path} is empty: it needs one question a line")
    return _valid(map(_labelled, _rows(path, first, lines)), rejected)


def iter_texts(
    path: str | Path, rejected: MutableSequence[str] | None = None
) -> Iterator[Question]:
    """What a file asks: a KgCLUE or an NLPCC 2016 file, with answers or without, or a text a line.

    Answers are not looked at. One question is in memory at a time, and a bit for each number that
    has come.

    Args:
        path: UTF-8.
        rejected: as of `read_questions`.

    Raises:
        ValueError: a file without a question, a row that breaks the format, or a number that comes
            twice.
    """
    path = Path(path)
    first, lines = _begun(path)
    if not first:
        raise ValueError(f"{path} holds no question: it needs one a line")
    if not begins_labelled(first):
        texts = (line for line in lines if line.strip())
        return (Question(number, text) for number, text in enumerate(texts))
    rows = (row if isinstance(row, str) else row.asked for row in _rows(path, first, lines))
    return with_own_ids(_valid(rows, rejected), path, rejected)


def with_own_ids(
    questions: Iterable[Asked], path: str | Path, rejected: MutableSequence[str] | None = None
) -> Iterator[Asked]:
    """The questions, but of several with one number the first.

    Args:
        questions: of a file.
        path: it, for what is told.
        rejected: as of `read_questions`.

    Raises:
        ValueError: a number that comes twice, where `rejected` is None.
    """
    seen: dict[int, int] = {}  # a bit each: numbers that follow each other take little memory

    def checked() -> Iterator[Asked | str]:
        for question in questions:
            page, bit = question.id >> 8, 1 << (question.id & 255)
            if seen.get(page, 0) & bit:
                yield (
                    f"id {question.id} of {Path(path).name} comes twice, the second time with "
                    f"{question.question[:40]!r}: give each question its own"
                )
            else:
                seen[page] = seen.get(page, 0) | bit
                yield question

    return _valid(checked(), rejected)


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


class _Row(NamedTuple):
    """A question with its answer, if it has one, as a file writes it."""

    where: str
    asked: Question
    answer: Any


def _begun(path: Path) -> tuple[str, Iterator[str]]:
    """The first line that is not blank ('' without one), and all lines."""
    lines, before = read_lines(path), []
    for line in lines:
        before.append(line)
        if line.strip():
            return line, chain(before, lines)
    return "", iter(before)


def _rows(path: Path, first: str, lines: Iterator[str]) -> Iterator[_Row | str]:
    """Each row of a labelled file, or what is wrong with it."""
    read = _nlpcc_rows if first.lstrip().startswith(_NLPCC_BEGINS) else _kgclue_rows
    return read(path, lines)


def _labelled(row: _Row | str) -> LabelledQuestion | str:
    if isinstance(row, str):
        return row
    if not _is_text(row.answer):
        return f"{row.where} needs one answer, a text `S ||| P ||| O`"
    try:
        return LabelledQuestion(*row.asked, *parse_answer(row.answer))
    except ValueError as error:
        return f"{row.where}: {error}"


def _valid(found: Iterable[Asked | str], rejected: MutableSequence[str] | None) -> Iterator[Asked]:
    for each in found:
        if not isinstance(each, str):
            yield each
        elif rejected is None:
            raise ValueError(each)
        else:
            rejected.append(each)


def _is_text(value: Any) -> bool:
    """Whether it is a text that UTF-8 can write; it cannot write half of a surrogate pair."""
    return isinstance(value, str) and not _SURROGATE.search(value)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _kgclue_rows(path: Path, lines: Iterator[str]) -> Iterator[_Row | str]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"line {number} of {path.name}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # nested too deeply, or a number too long
            yield f"{where} is no JSON: {error}"
            continue
        if not isinstance(row, dict) or not _is_text(row.get("question")):
            yield f"{where} needs an object with `question`, a text: {line[:80]!r}"
            continue
        index = row.get("id", number - 1)
        if isinstance(index, str) and _NUMBER.fullmatch(index.strip()):
            index = int(index)
        if not isinstance(index, int) or isinstance(index, bool):
            yield f"{where}: `id` is a whole number, got {str(index)[:40]!r}"
            continue
        yield _Row(where, Question(index, row["question"]), row.get("answer"))


_NUMBER = re.compile(r"-?[0-9]{1,18}")
_NLPCC = re.compile(r"<(question|triple|answer) id=([0-9]{1,18})>\s*(.*)")


def _nlpcc_rows(path: Path, lines: Iterator[str]) -> Iterator[_Row | str]:
    index, parts = 0, dict[str, list[str]]()
    for number, line in enumerate(lines, 1):
        match = _NLPCC.match(line)
        if match is None:
            if line.strip(" =\t"):
                yield (
                    f"line {number} of {path.name} is none of <question id=...>, <triple id=...>, "
                    f"<answer id=...>: {line[:80]!r}"
                )
            continue
        kind, digits, text = match.groups()
        if parts and (kind == "question" or int(digits) != index):
            yield _nlpcc_row(path, index, parts)
            parts = {}
        index = int(digits)
        parts.setdefault(kind, []).append(text.strip())
    if parts:
        yield _nlpcc_row(path, index, parts)


def _nlpcc_row(path: Path, index: int, parts: dict[str, list[str]]) -> _Row | str:
    where = f"question {index} of {path.name}"
    if "question" not in parts:
        return f"{where} needs a line <question id={index}> right before its others"
    triples = parts.get("triple", [])
    return _Row(
        where, Question(index, parts["question"][0]), triples[0] if len(triples) == 1 else None
    )
