"""Entity linking by generation: a mention in its context -> the name of the entity meant.

    bert4kexue kgqa train --model pretrained/roformer_tiny_zh --order smp --steps 1200 \\
        --questions kgclue/train.json --output runs/smp
    BERT4KEXUE_DATA=... python examples/task_entity_linking.py --model runs/smp/model

As in GENRE (arXiv 2010.00904) the name is written token by token inside the prefix tree of all
names. A name is `S [SEP] M [SEP]`: what the entity is called, and which of those called so is meant
(李白, 唐代诗人). A model that was trained to write facts as S, M, P begins with it, so it links
without training of its own. The contexts are the questions of KgCLUE's dev file, the names those of
KgCLUE and NLPCC 2016; as hardly a name there is shared, every entity that is asked for gets rivals
of its own name, with meanings drawn by their frequency.

Linked twice: with the mention given (only names that are called so), and from the context alone.
Beside it a string baseline: the longest name that stands in the context; of those called so, the
meaning that shares the longest run of characters with the context, then the commonest.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from ship_sets import data_folder

from bert4kexue._files import atomic_write
from bert4kexue.decoding import (
    Intersection,
    LookAhead,
    PrefixChoice,
    PrefixTree,
    TreeConstraint,
)
from bert4kexue.decoding.lookahead import PADDING
from bert4kexue.methods.knowledge_base import split_meaning
from bert4kexue.methods.knowledge_subjects import named_subjects, subject_rows
from bert4kexue.methods.question_files import read_questions
from bert4kexue.methods.reading_scores import shared_run
from bert4kexue.models import build_transformer_model
from bert4kexue.models.generation import Generator
from bert4kexue.tokenizers import Tokenizer
from bert4kexue.training.data import sequence_padding

Name = tuple[str, str]  # what it is called, and which of those
RIVALS = 3
MAXLEN = 64
BATCH = 32


class Names:
    """All names, in a tree, and by what they are called."""

    def __init__(self, names: Sequence[Name], tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.by_call: dict[str, list[str]] = {}
        for call, meaning in names:
            self.by_call.setdefault(call.lower(), []).append(meaning)
        keys = [[*self.called(call), *self.called(meaning)] for call, meaning in names]
        self.tree = PrefixTree.from_keys(keys, ["\t".join(name) for name in names])

    def called(self, text: str) -> list[int]:
        """The ids of a part of a name, with its [SEP]."""
        return list(self.tokenizer.encode(text)[0][1:])


def with_rivals(
    names: Sequence[Name], asked: Sequence[Name], rng: np.random.Generator
) -> list[Name]:
    """The names and, for each that is asked for, `RIVALS` others that are called the same."""
    counts = Counter(meaning for _, meaning in names if meaning)
    meanings = list(counts)
    shares = np.array([counts[meaning] for meaning in meanings], float)
    every = dict.fromkeys(names)
    for call, own in dict.fromkeys(asked):
        there = {own}
        while len(there) <= min(RIVALS, len(counts.keys() - {own})):
            there.add(meanings[int(rng.choice(len(meanings), p=shares / shares.sum()))])
        every |= dict.fromkeys((call, meaning) for meaning in sorted(there))
    return list(every)


def baseline(context: str, names: Names, common: Counter[str], mention: str = "") -> Name:
    """The string baseline of this page."""
    text = context.lower()
    spans = {text[i:j] for i in range(len(text)) for j in range(i + 1, min(i + 40, len(text)) + 1)}
    call = mention.lower() or max(
        spans & names.by_call.keys(), key=lambda s: (len(s), s), default=""
    )
    there = names.by_call.get(call, [""])
    runs = [shared_run(meaning, text) for meaning in there]
    shared = [run if run > 1 else 0 for run in runs]  # one character says nothing
    best = max(range(len(there)), key=lambda i: (shared[i], common[there[i]], there[i]))
    return call, there[best]


def linked(
    generator: Generator,
    names: Names,
    contexts: Sequence[str],
    mentions: Sequence[str] | None,
    lookahead: bool,
) -> list[set[Name]]:
    """The best names; more than one where the vocabulary cannot tell them apart."""
    tokenizer, tree = names.tokenizer, names.tree
    end = tokenizer._token_end_id
    found: list[set[Name]] = []
    for start in range(0, len(contexts), BATCH):
        rows = [
            list(tokenizer.encode(c, maxlen=MAXLEN)[0]) for c in contexts[start : start + BATCH]
        ]
        if mentions is None:  # names that stand in the context, where any does
            calls = [named_subjects(tree, row[1:-1], end) for row in rows]
        else:
            calls = [[names.called(m)] for m in mentions[start : start + BATCH]]
        v = generator.decoder.vocab_size
        tree_rule = TreeConstraint(tree, v)
        if lookahead:
            padded = sequence_padding(rows, value=PADDING)
            tree_rule = LookAhead(tree, padded, end, v)
        rule = Intersection(tree_rule, PrefixChoice(subject_rows(calls), v))
        outputs = generator.generate(
            rows, constraint=rule, min_ends=2, num_beams=3, max_new_tokens=tree.depth
        )
        for best, *_ in outputs:
            texts = tree.values(tree.find(best.ids.tolist()))
            found.append({tuple(text.lower().split("\t")) for text in texts})
    return found


def main() -> None:
    """Link, count, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, required=True, help="trained with kgqa train --order smp"
    )
    parser.add_argument("--limit", type=int, help="contexts; all")
    parser.add_argument("--page", type=Path, help="write the table here")
    options = parser.parse_args()
    folder = data_folder()
    train = [
        *read_questions(folder / "kgclue/train.json"),
        *read_questions(folder / "nlpcc2016kbqa/nlpcc-iccpol-2016.kbqa.training-data", []),
    ]
    questions = read_questions(folder / "kgclue/dev.json")[: options.limit]
    gold = [split_meaning(question.name) for question in questions]
    known = [split_meaning(question.name) for question in train]
    tokenizer = Tokenizer(options.model / "vocab.txt", do_lower_case=True)
    every = with_rivals([*known, *gold], gold, np.random.default_rng(1))
    names = Names(every, tokenizer)
    common = Counter(meaning for _, meaning in known)
    model = build_transformer_model(
        options.model, model="roformer", application="unilm", with_mlm="linear"
    )
    generator = Generator(model, end_token_id=tokenizer._token_end_id, jit_compile=False)
    contexts, calls = [q.question for q in questions], [call for call, _ in gold]
    lines = [
        f"Names {len(every):,}, contexts {len(questions):,}, of them "
        f"{sum(bool(m) for _, m in gold):,} about an entity with a meaning.",
        "",
        "| accuracy | all | with a meaning | without one |",
        "|---|---|---|---|",
    ]

    def run(mentions: Sequence[str] | None, lookahead: bool) -> list[set[Name]]:
        return linked(generator, names, contexts, mentions, lookahead)

    ways: dict[str, Callable[[], list[set[Name]]]] = {
        "mention given: strings": lambda: [
            {baseline(c, names, common, m)} for c, m in zip(contexts, calls, strict=True)
        ],
        "mention given: model in the tree": lambda: run(calls, False),
        "mention given: the same with look-ahead": lambda: run(calls, True),
        "context alone: strings": lambda: [{baseline(c, names, common)} for c in contexts],
        "context alone: model in the tree": lambda: run(None, False),
        "context alone: the same with look-ahead": lambda: run(None, True),
    }
    for way, answer in ways.items():
        lines.append(f"| {way} | {' | '.join(accuracies(answer(), gold))} |")
        print(lines[-1], flush=True)
    if options.page is not None:
        with atomic_write(options.page, "w") as file:
            file.write(PAGE.format(table="\n".join(lines), rivals=RIVALS))


def accuracies(found: Sequence[set[Name]], gold: Sequence[Name]) -> list[str]:
    """Of all, of those with a meaning, of those without, in percent."""
    right = np.array(
        [
            (call.lower(), meaning.lower()) in {(c.lower(), m.lower()) for c, m in names}
            for names, (call, meaning) in zip(found, gold, strict=True)
        ]
    )
    has = np.array([bool(meaning) for _, meaning in gold])
    parts = (right, right[has], right[~has])
    return [f"{100 * part.mean():.2f}" if len(part) else "" for part in parts]


PAGE = """# Entity linking by generation

    python examples/task_entity_linking.py --model DIR --page docs/results/entity_linking.md

with the model that writes S, M, P of [knowledge_qa.md](knowledge_qa.md) in DIR.

A mention in its context -> the name of the entity meant, written token by token inside the prefix
tree of all names, `S [SEP] M [SEP]` (as GENRE does, arXiv 2010.00904). The contexts are the
questions of KgCLUE's dev file, on which nothing was trained; the names are those of KgCLUE's and
NLPCC 2016's questions, and {rivals} rivals of each name that is asked for, called the same, with
other meanings drawn by their frequency. An entity with a meaning is thus one of four that are
called the same; one without is the only one without.

{table}

Right is a name whose call and meaning are both right. "Strings" is the longest name that stands in
the context and, of those called so, the meaning that shares the longest run of two characters or
more with the context, then the commonest. From the context alone the model may choose among the
names that stand in it, where any does. Rivals are drawn, not found: they are as common as real
meanings, but seldom as near to the right one as those of real homonyms.

The small model copies the call and knows when no meaning belongs to it. Where one does, a draw
among the four would find it in a quarter of the contexts: the model by itself is little above that,
as the strings are, and what the context repeats of a meaning, the look-ahead, is what helps.
"""


if __name__ == "__main__":
    main()
