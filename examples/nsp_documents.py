"""Documents of ordered sentences out of the openly licensed sets: what `IsNext` is learned from.

A document is a block of lines, a clause a line, and no label of any set is written into one:

* reviews (sentiment of bert4keras's examples, ChnSentiCorp): a review's clauses, in its order;
* People's Daily: six neighbouring sentences of the NER set's training file, which keeps the order
  of the paper, clause by clause;
* THUCNews: the two or more parts of a headline;
* NLPCC questions: the question, then what answers it, as the clause `S的P是O`.

A pair is a document cut where one of its clauses begins; a wrong pair has clauses of another
document after the cut (:class:`bert4kexue.training.objectives.SentencePairs`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import ship_sets

_CLAUSE = re.compile(r"[^，。！？；：,!?;~～…\s]+[，。！？；：,!?;~～…]*")
_SHORTEST = 4  # characters; what is shorter joins the clause before it


def clauses(text: str) -> list[str]:
    """The text cut behind its punctuation and at its spaces."""
    parts: list[str] = []
    for part in _CLAUSE.findall(text):
        if parts and (len(part) < _SHORTEST or len(parts[-1]) < _SHORTEST):
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def documents(root: Path, split: str = "train") -> Iterator[list[str]]:
    """Each document's clauses; `split` "train" or "held_out"."""
    for review in dict.fromkeys(ship_sets.reviews(root, split)):
        yield clauses(review)
    news = ship_sets.news_sentences(root, split)
    for start in range(0, len(news), 6):
        yield [clause for sentence in news[start : start + 6] for clause in clauses(sentence)]
    for title in ship_sets.titles(root, split):
        yield clauses(title)
    for question, subject, predicate, value in ship_sets.triples(root):
        name, _ = ship_sets.split_meaning(subject)
        if question and ship_sets.is_held_out(name) == (split == "held_out"):
            yield [question, f"{name}的{ship_sets.clean_predicate(predicate)}是{value}"]


def write_documents(path: Path, root: Path, split: str = "train") -> None:
    """A block of lines for each document, blank lines between them."""
    blocks = ("\n".join(parts) for parts in documents(root, split) if parts)
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8", newline="\n")
