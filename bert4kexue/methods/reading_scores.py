"""Exact match and F1 of answers found in passages, as CMRC 2018's evaluation script has them.

Both are the best over the right answers of a question. Texts are lower-cased and stripped; the
marks of `PUNCTUATION` are removed. F1 is of segments: each Chinese character (U+4E00 to U+9FA5) is
one, and the text between is cut into words; what an answer and a prediction share is their longest
common *run* of segments.

The script cuts words with NLTK. `words` cuts as its tokenizer does what answers hold: numbers stay
whole (`1,000`, `3.5`), brackets, quotes, percent and currency signs stand alone, and so does the
full stop that ends the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bert4kexue.methods.reading_data import ReadingQuestion

PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""Removed by the script. Its '……' is two characters and is compared with one: it never goes."""

_CHINESE = re.compile("[\u4e00-\u9fa5]")
_OPENING = re.compile(r'(^|[\s(\[{<])"')
_APART = re.compile(r"\.{2,}|''|``|[—–;@#$%&?!\[\](){}<>“”«»‘„]|,(?!\d)|'(?=\s|$)")


class ReadingScore(NamedTuple):
    """Means over questions, 0 to 1."""

    exact_match: float
    f1: float
    questions: int


def plain(text: str) -> str:
    """Lower case, without the marks."""
    return "".join(c for c in text.lower().strip() if c not in PUNCTUATION)


def segments(text: str) -> list[str]:
    """Chinese characters, and the words between them."""
    found: list[str] = []
    between = ""
    for character in text.lower().strip():
        if character in PUNCTUATION:
            continue
        if _CHINESE.match(character):
            found += words(between)
            found.append(character)
            between = ""
        else:
            between += character
    return found + words(between)


def words(text: str) -> list[str]:
    """The words of a text without Chinese characters."""
    # Opening and closing quotes are told apart, so that the two share nothing.
    while _OPENING.search(text):
        text = _OPENING.sub(r"\1 `` ", text)
    text = text.replace('"', " '' ")
    text = _APART.sub(lambda mark: f" {mark.group()} ", text)
    text = re.sub(r"([^.\s])\.(?=\s*$)", r"\1 .", text)
    text = re.sub(r",(?=\s|$)", " , ", text)
    text = re.sub(r"('s|'m|'d|'ll|'re|'ve|n't)(?=\s|$)", r" \1", text)
    return text.split()


def shared_run(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest run of segments that both have."""
    before = [0] * (len(other) + 1)
    best = 0
    for segment in one:
        row = [0] * (len(other) + 1)
        for j, another in enumerate(other):
            if segment == another:
                row[j + 1] = before[j] + 1
                best = max(best, row[j + 1])
        before = row
    return best


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction is one of the answers."""
    return float(any(plain(prediction) == plain(answer) for answer in answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The best F1 of the answers."""
    best, own = 0.0, segments(prediction)
    for answer in answers:
        right = segments(answer)
        shared = shared_run(right, own)
        if shared:
            precision, recall = shared / len(own), shared / len(right)
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def evaluate_reading(
    predictions: Mapping[str, str], questions: Sequence[ReadingQuestion]
) -> ReadingScore:
    """The score of predictions by the questions' ids; one that is missing counts as wrong.

    Raises:
        ValueError: no question, or one without a right answer.
    """
    if not questions:
        raise ValueError("there is no question to score")
    nameless = [q.id for q in questions if not q.answers]
    if nameless:
        raise ValueError(f"question {nameless[0]} has no right answer to compare with")
    found = [(predictions.get(q.id, ""), q.answers) for q in questions]
    return ReadingScore(
        sum(exact_match(*pair) for pair in found) / len(found),
        sum(f1(*pair) for pair in found) / len(found),
        len(found),
    )
