"""The files that the two reading-comprehension examples train and report on.

    BERT4KEXUE_DATA=... python examples/reading_sets.py runs/reading

questions.json     CMRC 2018 dev and DRCD dev, four fifths, split by a hash of the passage: passages
                   that are nearly the same, or of one article, stay on one side, and what is near
                   to a passage of CMRC's trial file is left out
made.json          clozes from those passages, and questions over knowledge bases (KgCLUE, NLPCC)
                   with a made-up passage of facts: rows to learn copying and matching from
reported/*.json    the other fifths, and CMRC 2018 trial, of which nothing is trained on

All in SQuAD's layout.
"""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bert4kexue.methods.question_files import LabelledQuestion, read_questions
from bert4kexue.methods.reading_data import (
    ReadingQuestion,
    read_squad,
    split_by_passage,
    without_near,
    write_squad,
)
from bert4kexue.text.segment import word_segmenter

KNOWLEDGE = (
    *("kgclue/train.json", "kgclue/dev.json"),
    "nlpcc2016kbqa/nlpcc-iccpol-2016.kbqa.training-data",
)
CLOZES = 16  # of a passage
SUBJECTS = 4  # of a made-up passage, each with its question
OTHER_FACTS = 3  # of each subject
LONGEST = 40  # characters of an object
FORMS = ("{s}的{p}是{o}。", "{s}，{p}：{o}。", "{s}的{p}为{o}。", "{o}是{s}的{p}。")


def clozes(passages: Sequence[str], rng: np.random.Generator) -> Iterator[ReadingQuestion]:
    """Sentences of passages with a few words replaced by 什么, which are the answer."""
    segment = word_segmenter()
    for number, passage in enumerate(passages):
        sentences = [m for m in re.finditer("[^。！？\n]{12,80}", passage)]
        if not sentences:
            continue
        for i in range(CLOZES):
            sentence = sentences[int(rng.integers(len(sentences)))]
            words = list(segment(sentence.group()))
            count = 1 + int(rng.integers(3))
            begin = int(rng.integers(max(1, len(words) - count)))
            inside = words[begin : begin + count]
            answer, start = "".join(inside), sentence.start() + len("".join(words[:begin]))
            if not answer.strip() or not answer[0].isalnum() or not answer[-1].isalnum():
                continue
            if not passage.startswith(answer, start):
                continue
            # Some of the other words are left out: the question never says it all.
            before = [w for w in words[:begin] if rng.random() > 0.25]
            after = [w for w in words[begin + count :] if rng.random() > 0.25]
            question = "".join([*before, "什么", *after])
            yield ReadingQuestion(f"cloze-{number}-{i}", question, passage, (answer,), (start,))


def facts(
    questions: Sequence[LabelledQuestion], rng: np.random.Generator
) -> Iterator[ReadingQuestion]:
    """Questions over a knowledge base, with a passage that states the fact among others."""
    short = [q for q in questions if 0 < len(q.object) <= LONGEST]
    common = Counter(q.predicate for q in short)
    by_predicate: dict[str, list[str]] = {}
    for q in short:
        by_predicate.setdefault(q.predicate, []).append(q.object)
    names = list(common)
    weights = np.array([common[name] for name in names], float)
    weights /= weights.sum()
    order = rng.permutation(len(short))
    for begin in range(0, len(order), SUBJECTS):
        group = [short[i] for i in order[begin : begin + SUBJECTS]]
        stated = [(q.fact[0], q.predicate, q.object, q) for q in group]
        for q in group:
            for i in rng.choice(len(names), OTHER_FACTS, p=weights):
                if names[i] != q.predicate:
                    objects = by_predicate[names[i]]
                    other = objects[int(rng.integers(len(objects)))]
                    stated.append((q.fact[0], names[i], other, None))
        passage, places = "", {}
        for i in rng.permutation(len(stated)):
            s, p, o, asked = stated[i]
            form = FORMS[int(rng.integers(len(FORMS)))]
            if asked is not None:
                ahead = form[: form.index("{o}")].format(s=s, p=p)
                places[id(asked)] = len(passage) + len(ahead)
            passage += form.format(s=s, p=p, o=o)
        for k, q in enumerate(group):
            start = places[id(q)]
            yield ReadingQuestion(f"fact-{begin}-{k}", q.question, passage, (q.object,), (start,))


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    data = Path(os.environ["BERT4KEXUE_DATA"])
    (output / "reported").mkdir(parents=True, exist_ok=True)
    trial = read_squad(data / "mrc/cmrc2018_trial.json")
    write_squad(output / "reported/cmrc_trial.json", trial)
    trained: list[ReadingQuestion] = []
    for name in ("cmrc2018", "DRCD"):
        train, held = split_by_passage(read_squad(data / f"mrc/{name}_dev.json"))
        kept = without_near(train, [*trial, *held])
        trained += kept
        write_squad(output / f"reported/{name.lower().removesuffix('2018')}_dev.json", held)
        print(
            f"{name}: {len(kept)} to train on ({len(train) - len(kept)} left out), {len(held)} held"
        )
    write_squad(output / "questions.json", trained)
    rng = np.random.default_rng(1)
    made = list(clozes(list(dict.fromkeys(q.passage for q in trained)), rng))
    questions: list[LabelledQuestion] = []
    for name in KNOWLEDGE:
        questions += read_questions(data / name, rejected=[])
    over_facts = list(facts(questions, rng))
    print(
        f"{len(trial)} of CMRC trial held; {len(made)} clozes, {len(over_facts)} questions on facts"
    )
    write_squad(output / "made.json", [*made, *over_facts])


if __name__ == "__main__":
    main()
