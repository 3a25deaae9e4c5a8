"""What users type, for `kgqa_results.py`: typos in the subject, and subjects that are unknown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kgqa_report import rows
from kgqa_systems import BATCH, BEAMS, LONGEST, Models

from bert4kexue.methods.knowledge_qa import KnowledgeQA
from bert4kexue.methods.question_files import LabelledQuestion, Triple


def robust(models: Models, folder: Path, gold: Sequence[LabelledQuestion], count: int) -> dict:
    """Typos in subjects, and questions about subjects that are not in the base; kept as JSON.

    One character of the subject is replaced in `count` of the questions whose subject has three or
    more; in as many the subject is replaced by a name put together of two others.
    """
    path = folder / "answers" / "robust.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    rng = np.random.default_rng(3)
    several = [q for q in gold if len(q.fact[0]) > 2 and q.question.count(q.fact[0]) == 1][:count]
    characters = sorted({c for q in gold for c in q.question if "\u4e00" <= c <= "\u9fff"})
    names = [q.fact[0] for q in gold]
    texts: dict[str, list[str]] = {"as asked": [q.question for q in several], "typo": [], "": []}
    for question in several:
        subject = question.fact[0]
        place = int(rng.integers(len(subject)))
        wrong = characters[int(rng.integers(len(characters)))]
        typo = subject[:place] + wrong + subject[place + 1 :]
        first, second = (names[int(i)] for i in rng.integers(len(names), size=2))
        made = first[: len(first) // 2 + 1] + second[len(second) // 2 :]
        texts["typo"].append(question.question.replace(subject, typo))
        texts[""].append(question.question.replace(subject, made))
    result: dict[str, Any] = {"questions": len(several), "scores": {}}
    model, tokenizer, knowledge = models.load("spm")
    for subjects in ("all", "named", "similar"):
        qa = KnowledgeQA(
            model,
            tokenizer,
            knowledge,
            lookahead=True,
            subjects=subjects,  # type: ignore[arg-type]
            maxlen=LONGEST,
            batch_size=BATCH,
        )
        asked = ("as asked", "typo", "") if subjects == "all" else ("as asked", "typo")
        found = qa.answer_batch([text for kind in asked for text in texts[kind]], BEAMS)
        parts = [found[i : i + len(several)] for i in range(0, len(found), len(several))]
        for kind, part in zip(asked[:2], parts, strict=False):
            triples = [Triple(a[0].name, a[0].predicate, a[0].objects[0]) for a in part]
            result["scores"][f"{subjects}, {kind}"] = 100 * rows(triples, several).score.mean()
        if subjects == "all":
            best = [[answers[0] for answers in part] for part in (parts[0], parts[2])]
            pairs = zip((texts["as asked"], texts[""]), best, strict=True)
            fits = [qa.fit(questions, answers).tolist() for questions, answers in pairs]
            told = [[a.score for a in part] for part in best]
            result |= {"auc_fit": area(*fits), "auc_score": area(*told), "fits": fits}
    path.write_text(json.dumps(result), encoding="utf-8", newline="\n")
    return result


def area(inside: Sequence[float], outside: Sequence[float]) -> float:
    """The share of pairs in which what is in the base stands higher (area under the ROC curve)."""
    a, b = np.array(inside)[:, None], np.array(outside)[None]
    return float(((a > b) + 0.5 * (a == b)).mean())


def robust_text(found: dict) -> list[str]:
    """The part of the page about what users type."""
    halves = [[np.array(part[half::2]) for part in found["fits"]] for half in (0, 1)]
    (inside, outside), (asked, unknown) = halves
    thresholds = sorted([*inside, *outside])
    right = [((inside >= t).mean() + (outside < t).mean()) / 2 for t in thresholds]
    best = thresholds[int(np.argmax(right))]
    text = [
        "## What users type",
        "",
        f"{found['questions']} questions of KgCLUE's dev, S-P-M with the look-ahead. *Typo*: one",
        "character of the subject is another. `similar` adds to the subjects that stand in the",
        "question those that nearly do (rapidfuzz).",
        "",
        "| subjects | as asked | one typo |",
        "|---|---|---|",
    ]
    for subjects in ("all", "named", "similar"):
        cells = (f"{found['scores'][f'{subjects}, {kind}']:.1f}" for kind in ("as asked", "typo"))
        text.append(f"| {subjects} | {' | '.join(cells)} |")
    text += [
        "",
        "Abstention: the same questions, and the same with a subject that is not in the base. The",
        "area under the ROC curve by which the two are told apart is",
        f"{found['auc_fit']:.3f} for `fit` and {found['auc_score']:.3f} for the answer's score;",
        f"at a fit of {best:.1f}, the threshold that is best on one half of the questions,",
        f"{100 * (asked >= best).mean():.1f} % of the former are answered and",
        f"{100 * (unknown < best).mean():.1f} % of the latter refused in the other half.",
        "",
    ]
    return text
