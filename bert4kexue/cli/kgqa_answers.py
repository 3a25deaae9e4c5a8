"""Answers to a file of questions, written as they are found; an interrupted run goes on.

FILE.partial       the answers so far, in the order of the questions
FILE.partial.json  what they were made with
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert4kexue._files import atomic_write
from bert4kexue.cli.models import model_fingerprint
from bert4kexue.cli.progress import progress

if TYPE_CHECKING:
    from bert4kexue.methods.question_files import Question

KEPT = 256
"""Questions between two writings of the answers."""

TOLD = 20
"""Rows left out that are told one by one."""


def check_files(source: Path, output: Path, overwrite: bool) -> int:
    """How many questions a file holds; what is left out of it is told.

    Raises:
        ValueError: no row of it is a question.
        OSError: it is no file, or the output exists.
    """
    from bert4kexue.methods.question_files import iter_texts

    if output.is_dir():
        raise IsADirectoryError(f"--output {output} is a folder: name a file")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists: choose another, or pass --overwrite")
    if source.exists() and not source.is_file():
        raise OSError(f"--questions {source} is read twice: give a file, not a pipe or a folder")
    rejected: list[str] = []
    count = sum(1 for _ in iter_texts(source, rejected))
    tell_left_out(source, count, rejected)
    return count


def tell_left_out(source: str | Path, count: int, rejected: Sequence[str]) -> None:
    """Say what is wrong with the rows of a file that are left out.

    Raises:
        ValueError: none is left.
    """
    if not count:
        raise ValueError(f"{source}: no question follows the format: {rejected[0]}")
    for why in rejected[:TOLD]:
        print(f"left out: {why}", file=sys.stderr)
    if len(rejected) > TOLD:
        print(f"left out: {len(rejected) - TOLD:,} others of {source}", file=sys.stderr)


def identity(options: argparse.Namespace) -> dict[str, Any]:
    """What the answers depend on, beside the questions."""
    from bert4kexue.decoding.sections import fingerprint
    from bert4kexue.methods.knowledge_base import TREE

    knowledge = Path(options.knowledge)
    chosen = ("topk", "lookahead", "subjects", "maxlen", "abstain_below")
    return {
        "model": model_fingerprint(options.model),  # its vocabulary and config with it
        "knowledge": fingerprint(knowledge / TREE if knowledge.is_dir() else knowledge),
        **{name: getattr(options, name) for name in chosen},
    }


def answer_file(
    qa: Any,
    source: Path,
    output: Path,
    total: int,
    about: dict[str, Any],
    topk: int,
    least: float | None,
) -> int:
    """Write an answer a line; go on where an earlier call was interrupted.

    Memory holds a block of questions and a bit for each number that came, whatever the file's size.

    Args:
        qa: answers.
        source: the questions; what is wrong in it is left out, untold.
        output: replaced at the end, when it is whole.
        total: how many questions there are.
        about: what the answers depend on; those made with something else are not gone on with.
        topk: width of the beam.
        least: the lowest fit of an answer that is given.

    Returns:
        The number of answers.

    Raises:
        ValueError: interrupted answers to other questions, or made with something else.
    """
    from bert4kexue.methods.question_files import iter_texts

    questions = iter_texts(source, deque(maxlen=0))
    partial = output.with_name(output.name + ".partial")
    settings = output.with_name(output.name + ".partial.json")
    done = _resumed(partial, settings, about, questions, source)
    output.parent.mkdir(parents=True, exist_ok=True)
    for chunk in progress(_chunks(questions), total - done, "answering", len):
        lines = "".join(_answer_lines(qa, chunk, topk, least))
        if not done:
            with atomic_write(settings, "w") as header:
                json.dump(about, header)
        with open(partial, "a" if done else "w", encoding="utf-8", newline="\n") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        done += len(chunk)
    os.replace(partial, output)
    settings.unlink(missing_ok=True)
    return done


def _chunks(questions: Iterator[Question]) -> Iterator[list[Question]]:
    while chunk := list(islice(questions, KEPT)):
        yield chunk


def _answer_lines(qa: Any, chunk: list[Question], topk: int, least: float | None) -> Iterator[str]:
    texts = [text for _, text in chunk]
    found = qa.answer_batch(texts, topk)
    fits = None if least is None else qa.fit(texts, [answers[0] for answers in found])
    for place, ((index, text), answers) in enumerate(zip(chunk, found, strict=True)):
        best = answers[0]
        row = {
            "id": index,
            "question": text,
            # The first object, as the benchmark has it; a tab in it would end a column.
            "answer": " ||| ".join((best.name, best.predicate, best.objects[0])),
            "score": round(best.score, 5),
        }
        if fits is not None:
            row["fit"] = round(float(fits[place]), 5)
            if fits[place] < least:
                row["answer"] = " |||  ||| "
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _resumed(
    partial: Path,
    settings: Path,
    about: dict[str, Any],
    questions: Iterator[Question],
    source: Path,
) -> int:
    """How many questions are answered; they are taken, and a half-written answer is cut."""
    if not partial.exists():
        return 0
    remedy = f"remove {partial}, or choose another --output"
    done = end = 0
    with open(partial, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            if not done:
                _check_settings(partial, settings, about)
            question = next(questions, None)
            if question is None:
                raise ValueError(
                    f"{partial} holds more answers than {source} has questions ({done}): {remedy}"
                )
            if _asked(line) != question:
                raise ValueError(
                    f"{partial} holds answers to other questions (line {done + 1} is not id "
                    f"{question.id} of {source}): {remedy}"
                )
            done += 1
            end += len(line)
    with open(partial, "r+b") as file:
        file.truncate(end)
    return done


def _asked(line: bytes) -> tuple[int, str] | None:
    """Number and text of an answered question; None for a damaged line."""
    try:
        row = json.loads(line)
        return row["id"], row["question"]
    except (ValueError, KeyError, TypeError):
        return None


def _check_settings(partial: Path, settings: Path, about: dict[str, Any]) -> None:
    try:
        kept = json.loads(settings.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        kept = None
    if not isinstance(kept, dict):
        raise ValueError(
            f"{settings} does not say what the answers in {partial} were made with: remove them, "
            "or choose another --output"
        )
    differ = [
        name for name in (*about, *(kept.keys() - about)) if kept.get(name) != about.get(name)
    ]
    if differ:
        was, now = (
            ", ".join(f"{name} {str(values.get(name))[:12]}" for name in differ)
            for values in (kept, about)
        )
        raise ValueError(
            f"{partial} holds answers made with {was}, and now it is {now}: give the same, remove "
            "it, or choose another --output"
        )
