"""The ways of answering that `kgqa_results.py` compares, and how a model answers by them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert4kexue.cli.models import load_tokenizer
from bert4kexue.methods.knowledge_base import KnowledgeBase
from bert4kexue.methods.knowledge_qa import KnowledgeQA
from bert4kexue.methods.question_files import Triple
from bert4kexue.models import build_transformer_model
from bert4kexue.models.generation import Generator

BEAMS, BATCH, LONGEST = 3, 64, 64


class System(NamedTuple):
    """A way of answering."""

    name: str
    title: str
    order: str | None = None
    tree: bool = True
    lookahead: bool = False
    subjects: str = "all"
    ablation: bool = False
    """Measured on the first questions of KgCLUE's dev alone."""


SYSTEMS = (
    System("strings", "longest subject in the question, LCS predicate"),
    System("encoder", "longest subject in the question, predicate by the shipped encoder"),
    System("spm_look", "S-P-M in the tree, look-ahead", "spm", lookahead=True),
    System("spm", "S-P-M in the tree", "spm", ablation=True),
    System("spm_free", "S-P-M without the tree", "spm", tree=False, ablation=True),
    System("smp_look", "S-M-P in the tree, look-ahead", "smp", lookahead=True, ablation=True),
    System("smp", "S-M-P in the tree", "smp", ablation=True),
    System(
        "spm_whole",
        "S-P-M, look-ahead, subject a span of the question",
        "spm",
        lookahead=True,
        subjects="named",
    ),
)


class Models:
    """Models and bases, loaded when they are needed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kept = folder, {}

    def load(self, order: str) -> tuple[Any, Any, KnowledgeBase]:
        """Model, tokenizer, knowledge base."""
        if order not in self.kept:
            path = self.folder / order / "model"
            tokenizer = load_tokenizer(str(path))
            knowledge = KnowledgeBase.load(self.folder / f"facts_{order}", tokenizer)
            model = build_transformer_model(
                path, model="roformer", application="unilm", with_mlm="linear"
            )
            self.kept = {order: (model, tokenizer, knowledge)}
        return self.kept[order]


def by_model(models: Models, system: System, questions: Sequence[str]) -> list[Triple]:
    """Answers of a model inside of the tree, or free."""
    model, tokenizer, knowledge = models.load(system.order)
    if not system.tree:
        return _free(model, tokenizer, knowledge, system.order, questions)
    qa = KnowledgeQA(
        model,
        tokenizer,
        knowledge,
        lookahead=system.lookahead,
        subjects=system.subjects,
        maxlen=LONGEST,
        batch_size=BATCH,
    )
    found = qa.answer_batch(questions, BEAMS)
    return [Triple(a[0].name, a[0].predicate, a[0].objects[0]) for a in found]


def _free(
    model: Any, tokenizer: Any, knowledge: KnowledgeBase, order: str, questions: Sequence[str]
) -> list[Triple]:
    """The key as the model writes it; its object only where it is a key of the base."""
    end = tokenizer._token_end_id
    generator = Generator(model, end_token_id=end, jit_compile=False)
    rows = [list(tokenizer.encode(q, maxlen=LONGEST)[0]) for q in questions]
    ranks = np.argsort([len(row) for row in rows], kind="stable")
    answers: list[Any] = [None] * len(rows)
    for start in range(0, len(rows), BATCH):
        several = ranks[start : start + BATCH]
        found = generator.generate(
            [rows[i] for i in several], num_beams=BEAMS, min_ends=3, max_new_tokens=48
        )
        for i, hypotheses in zip(several, found, strict=True):
            ids = hypotheses[0].ids.tolist()
            facts = knowledge.facts(ids)
            for (subject, predicate, meaning), objects in facts.items():
                name = f"{subject}（{meaning}）" if meaning else subject
                answers[i] = Triple(name, predicate, objects[0])
                break
            if not facts:
                answers[i] = _written(tokenizer, ids, end, order)
    return answers


def _written(tokenizer: Any, ids: Sequence[int], end: int, order: str) -> Triple:
    """The parts of a key that no fact has."""
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == end:
            parts.append([])
        else:
            parts[-1].append(token)
    texts = [tokenizer.decode(part) for part in (*parts, [], [])[:3]]
    subject, predicate, meaning = texts if order == "spm" else (texts[0], texts[2], texts[1])
    return Triple(f"{subject}（{meaning}）" if meaning else subject, predicate, "")
