"""Questions on passages: files in SQuAD's layout (CMRC 2018, DRCD), and splits that share nothing.

{"data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [
    {"id": ..., "question": ..., "answers": [{"text": ..., "answer_start": ...}]}]}]}]}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bert4kexue.methods.near_duplicates import near_groups


class ReadingQuestion(NamedTuple):
    """A question, its passage, and the answers that count as right."""

    id: str
    question: str
    passage: str
    answers: tuple[str, ...]
    """As given; empty where the file gives none."""
    starts: tuple[int, ...]
    """Where each answer stands in the passage, in characters; -1 where it does not stand there."""
    title: str = ""


def read_squad(path: str | Path) -> list[ReadingQuestion]:
    """The questions of a file in SQuAD's layout.

    An answer that does not stand where `answer_start` says is looked for in the whole passage:
    files that were converted from one writing to another have shifted places.

    Args:
        path: UTF-8.

    Raises:
        ValueError: no JSON, no `data`, or a paragraph or question that lacks a field, with where.
    """
    path = Path(path)
    try:
        whole = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON in UTF-8 ({error}): give a SQuAD-style file") from None
    articles = whole.get("data") if isinstance(whole, dict) else None
    if not isinstance(articles, list) or not articles:
        raise ValueError(f"{path} has no list under 'data': give a SQuAD-style file")
    questions: list[ReadingQuestion] = []
    for number, article in enumerate(articles):
        where = f"{path}, data[{number}]"
        for paragraph in _field(article, "paragraphs", list, where):
            passage = _field(paragraph, "context", str, where)
            for row in _field(paragraph, "qas", list, where):
                text = _field(row, "question", str, where)
                answers = [
                    (_field(a, "text", str, where), a.get("answer_start", -1))
                    for a in row.get("answers") or []
                ]
                questions.append(
                    ReadingQuestion(
                        str(row.get("id", len(questions))),
                        text,
                        passage,
                        tuple(answer for answer, _ in answers),
                        tuple(_place(passage, *answer) for answer in answers),
                        str(article.get("title", "")),
                    )
                )
    if not questions:
        raise ValueError(f"{path} holds no question")
    return questions


def _field(row: Any, name: str, kind: type, where: str) -> Any:
    if not isinstance(row, dict) or not isinstance(row.get(name), kind):
        has = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise ValueError(f"{where}: {name!r} of type {kind.__name__} is missing, there is {has}")
    return row[name]


def _place(passage: str, answer: str, start: Any) -> int:
    if isinstance(start, int) and start >= 0 and passage.startswith(answer, start):
        return start if answer else -1
    return passage.find(answer) if answer else -1


def write_squad(path: str | Path, questions: Sequence[ReadingQuestion]) -> None:
    """Write questions in SQuAD's layout, those of one passage together."""
    from bert4kexue._files import atomic_write

    passages: dict[tuple[str, str], list[ReadingQuestion]] = {}
    for question in questions:
        passages.setdefault((question.title, question.passage), []).append(question)
    data = [
        {
            "title": title,
            "paragraphs": [
                {
                    "context": passage,
                    "qas": [
                        {
                            "id": q.id,
                            "question": q.question,
                            "answers": [
                                {"text": text, "answer_start": start}
                                for text, start in zip(q.answers, q.starts, strict=True)
                            ],
                        }
                        for q in rows
                    ],
                }
            ],
        }
        for (title, passage), rows in passages.items()
    ]
    with atomic_write(path, "w") as file:
        json.dump({"version": "1.0", "data": data}, file, ensure_ascii=False)
        file.write("\n")


def split_by_passage(
    questions: Sequence[ReadingQuestion], parts: int = 5
) -> tuple[list[ReadingQuestion], list[ReadingQuestion]]:
    """Questions to train on, and about one in `parts` to report on.

    Passages that are nearly the same, or of articles of one title, stay together, and a hash of
    one of them says on which side: the split depends on no order and no seed.

    Raises:
        ValueError: `parts` below 2.
    """
    if parts < 2:
        raise ValueError(f"parts must be 2 or more, got {parts}")
    passages = list(dict.fromkeys(question.passage for question in questions))
    place = {passage: i for i, passage in enumerate(passages)}
    parents = near_groups(passages).tolist()

    def root(i: int) -> int:
        while parents[i] != i:
            i = parents[i]
        return i

    titles: dict[str, int] = {}
    for question in questions:
        own = root(place[question.passage])
        if question.title:
            other = root(titles.setdefault(question.title, own))
            parents[max(own, other)] = min(own, other)
    smallest: dict[int, str] = {}
    for passage in passages:
        group = root(place[passage])
        smallest[group] = min(smallest.get(group, passage), passage)
    sides: tuple[list[ReadingQuestion], list[ReadingQuestion]] = ([], [])
    for question in questions:
        key = smallest[root(place[question.passage])]
        number = int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:8], "big")
        sides[number % parts == 0].append(question)
    return sides


def without_near(
    questions: Sequence[ReadingQuestion], others: Sequence[ReadingQuestion]
) -> list[ReadingQuestion]:
    """The questions whose passages are nearly the same as none of the others' passages."""
    own = list(dict.fromkeys(question.passage for question in questions))
    foreign = list(dict.fromkeys(question.passage for question in others))
    groups = near_groups([*own, *foreign])
    taken = set(groups[len(own) :].tolist())
    pairs = zip(own, groups[: len(own)].tolist(), strict=True)
    kept = {passage for passage, group in pairs if group not in taken}
    return [question for question in questions if question.passage in kept]
