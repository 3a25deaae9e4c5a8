"""Question answering over a knowledge base, measured: docs/results/knowledge_qa.md.

    BERT4KEXUE_DATA=... python examples/kgqa_results.py runs/kgqa --write docs/results

writes the training files and the facts of `kgqa_sets.py`, trains a model of either order where
there is none yet, builds the knowledge bases, answers the measured questions by every system, and
scores. Everything is kept in the folder, an answered set of questions too: the command goes on
where it was interrupted. Two models trained elsewhere are taken from `spm/model` and `smp/model`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import kgqa_baselines
import kgqa_sets
import numpy as np
import ship_sets
from pictures import pyplot

from bert4kexue.cli import main as bert4kexue
from bert4kexue.cli.models import load_tokenizer
from bert4kexue.methods.kgclue import (
    LabelledQuestion,
    Triple,
    f1,
    normalized,
    read_predictions,
    write_submission,
)
from bert4kexue.methods.knowledge_base import TREE, KnowledgeBase
from bert4kexue.methods.knowledge_qa import KnowledgeQA
from bert4kexue.models import build_transformer_model
from bert4kexue.models.generation import Generator

BASE = "pretrained/roformer_tiny_zh"
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
        ablation=True,
    ),
)
SOME = 500
FIRST = "KgCLUE dev, the first questions"
KINDS = ("all", "literal", "not literal")


# --- files, models, bases -----------------------------------------------------------------------


def give(*words: Any) -> None:
    """Run a command, showing it."""
    command = [str(word) for word in words]
    print("bert4kexue", shlex.join(command), flush=True)
    if bert4kexue(command):
        raise SystemExit(1)


def prepare(folder: Path, root: Path, others: int) -> None:
    """`train.json`, `names.txt` and `facts.tsv`."""
    folder.mkdir(parents=True, exist_ok=True)
    kgqa_sets.write_questions(folder / "train.json", kgqa_sets.training_questions(root))
    names = "".join(name + "\n" for name in ship_sets.names(root))
    (folder / "names.txt").write_text(names, encoding="utf-8", newline="\n")
    partial = folder / "facts.tsv.partial"
    with open(partial, "w", encoding="utf-8", newline="\n") as file:
        for triple in kgqa_sets.knowledge_triples(root, others):
            file.write("\t".join(" ".join(part.split()) for part in triple) + "\n")
    os.replace(partial, folder / "facts.tsv")


def train(folder: Path, order: str, base: str, steps: int, tokens: int) -> Path:
    """The model of an order; trained if there is none."""
    output = folder / order
    if not (output / "model" / "bert_model.ckpt.index").is_file():
        give(
            *("kgqa", "train", "--model", base, "--questions", folder / "train.json"),
            *("--names", folder / "names.txt", "--rewrites", 9, "--order", order),
            *("--steps", steps, "--tokens", tokens, "--length", 64, "--rate", 1e-3),
            *("--dropout", 0.1, "--dtype", "float16", "--output", output),
        )
    return output / "model"


def training_of(folder: Path) -> str:
    """The size of a trained model, its steps and its last loss."""
    config = json.loads((folder / "model" / "bert_config.json").read_text(encoding="utf-8"))
    rows = (folder / "loss.csv").read_text(encoding="utf-8").splitlines()
    step, _, loss = rows[-1].split(",")
    size = f"{config['num_hidden_layers']} layers, width {config['hidden_size']}"
    return f"{size}, {int(step):,} steps, last loss {float(loss):.2f}"


def build(folder: Path, order: str) -> Path:
    """The knowledge base of an order."""
    output = folder / f"facts_{order}"
    if not (output / TREE).is_file():
        give(
            *("kgqa", "build", folder / "facts.tsv", "--model", BASE),
            *("--order", order, "--output", output),
        )
    return output


# --- answers ------------------------------------------------------------------------------------


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
        in_graph=True,
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


def answers(
    folder: Path,
    system: System,
    measured: dict[str, list[LabelledQuestion]],
    answer: Callable[[Sequence[str]], Iterable[Triple]],
) -> tuple[dict[str, list[Triple]], float]:
    """A system's answers to all sets, kept in KgCLUE's format, and the seconds they took."""
    paths = {name: folder / "answers" / f"{system.name} {name}.json" for name in measured}
    clock = folder / "answers" / f"{system.name}.seconds"
    if not clock.is_file():
        clock.parent.mkdir(exist_ok=True)
        begun = time.monotonic()
        found = list(answer([q.question for gold in measured.values() for q in gold]))
        for name, gold in measured.items():
            write_submission(paths[name], gold, found[: len(gold)])
            found = found[len(gold) :]
        clock.write_text(f"{time.monotonic() - begun:.1f}\n", encoding="utf-8", newline="\n")
        print(f"{system.name}: {clock.read_text(encoding='utf-8').strip()} s", flush=True)
    read = {name: read_predictions(path) for name, path in paths.items()}
    got = {name: [read[name][q.id] for q in gold] for name, gold in measured.items()}
    return got, float(clock.read_text(encoding="utf-8"))


# --- what users type ----------------------------------------------------------------------------


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
            in_graph=True,
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
    inside, outside = (np.array(part) for part in found["fits"])
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
        f"at the best threshold, a fit of {best:.1f}, {100 * (inside >= best).mean():.1f} % of the",
        f"former are answered and {100 * (outside < best).mean():.1f} % of the latter refused.",
        "",
    ]
    return text


# --- scores -------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """A system's questions one by one, (questions,) each: exact matches, F1 of the object."""

    subject: np.ndarray
    predicate: np.ndarray
    exact: np.ndarray
    f1: np.ndarray

    @property
    def score(self) -> np.ndarray:
        """The benchmark's, of each question."""
        return (self.exact + self.f1) / 2


def rows(found: Sequence[Triple], gold: Sequence[LabelledQuestion]) -> Rows:
    """What is right, question by question."""
    pairs = [
        ([normalized(p) for p in a], [normalized(p) for p in q.triple])
        for a, q in zip(found, gold, strict=True)
    ]
    equal = np.array([[x == y for x, y in zip(a, b, strict=True)] for a, b in pairs], float)
    return Rows(*equal.T, np.array([f1(a[2], b[2]) for a, b in pairs]))


def kind_masks(gold: Sequence[LabelledQuestion]) -> dict[str, np.ndarray]:
    """Which questions hold their predicate literally."""
    literal = np.array([normalized(q.predicate) in normalized(q.question) for q in gold])
    return {"all": np.ones(len(gold), bool), "literal": literal, "not literal": ~literal}


def difference(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean of a - b in points, and its 95 % interval by resampling the questions."""
    rng = np.random.default_rng(seed)
    gaps = 100 * (a - b)
    means = [gaps[rng.integers(len(gaps), size=len(gaps))].mean() for _ in range(2000)]
    return float(gaps.mean()), *map(float, np.percentile(means, [2.5, 97.5]))


# --- the page -----------------------------------------------------------------------------------


def _systems(name: str, found: dict[str, Any]) -> list[System]:
    """What was measured on a set."""
    return [s for s in SYSTEMS if s.name in found and (name == FIRST or not s.ablation)]


def page(
    measured: dict[str, list[LabelledQuestion]],
    found: dict[str, dict[str, Rows]],
    manifest: dict[str, Any],
    seconds: dict[str, float],
    typed: dict | None,
    trained: str,
    notes: str,
) -> str:
    """The text of knowledge_qa.md; what was tried is taken over from `notes`."""
    text = [
        "# Questions answered from a knowledge base",
        "",
        "Made by `examples/kgqa_results.py` (`examples/kgqa_sets.py` says how the knowledge base",
        f"is made): {manifest['keys']:,} facts of the measured questions, of wrong predicates",
        "beside the right ones, of namesakes and of 200,000 other subjects. The model is a small",
        f"RoFormer ({trained}), trained on with",
        "`bert4kexue kgqa train` on KgCLUE's train and nine tenths of NLPCC's questions, each",
        "with nine copies whose subject is swapped; beams are 3 wide. EM and F1 are of the object,",
        "Score is their mean. *Literal* are questions in which the gold predicate stands as it is",
        "written in the base.",
        "",
    ]
    for name, gold in measured.items():
        masks = kind_masks(gold)
        counts = ", ".join(f"{kind} {int(mask.sum())}" for kind, mask in masks.items())
        text += [f"## {name}: {counts}", ""]
        text += ["| system | EM S | EM P | EM | F1 | Score | literal | not literal |"]
        text += ["|---|---|---|---|---|---|---|---|"]
        for system in _systems(name, found):
            r = found[system.name][name]
            figures = [r.subject, r.predicate, r.exact, r.f1, r.score]
            cells = [f"{100 * x.mean():.1f}" for x in figures]
            cells += [f"{100 * r.score[masks[k]].mean():.1f}" for k in KINDS[1:]]
            text.append(f"| {system.title} | " + " | ".join(cells) + " |")
        text.append("")
    text += [
        "## What was to be shown",
        "",
        *targets({k: v for k, v in measured.items() if k != FIRST}, found),
        "",
    ]
    text += robust_text(typed) if typed else []
    text += ["## Time", ""]
    counts = {
        name: max(sum(len(r.exact) for k, r in sets.items() if k != FIRST), len(sets[FIRST].exact))
        for name, sets in found.items()
    }
    told = (
        f"{s.title} {seconds[s.name]:.0f} s for {counts[s.name]:,}"
        for s in SYSTEMS
        if s.name in counts
    )
    text += [
        f"On two CPU cores, shared with other work, compiling included: {'; '.join(told)}.",
        "",
    ]
    return "\n".join(text) + notes


def targets(
    measured: dict[str, list[LabelledQuestion]], found: dict[str, dict[str, Rows]]
) -> list[str]:
    """Each target with what was measured; differences of Score with 95 % intervals."""

    def joined(system: str, kind: str, name: str | None) -> np.ndarray:
        sets = [name] if name else list(measured)
        parts = [found[system][s].score[kind_masks(measured[s])[kind]] for s in sets]
        return np.concatenate(parts)

    lines = ["| target | questions | against | difference | |", "|---|---|---|---|---|"]
    asked = (
        ("look-ahead, not literal: 5 points above", "spm_look", "not literal", 5.0),
        ("look-ahead, literal: within 3 points", "spm_look", "literal", -3.0),
        ("whole system: above", "spm_whole", "all", 0.0),
    )
    for title, system, kind, least in asked:
        if system not in found:
            continue
        for name in (*measured, None):
            for baseline in ("strings", "encoder"):
                a, b = joined(system, kind, name), joined(baseline, kind, name)
                mean, low, high = difference(a, b)
                met = mean > least if least == 0 else mean >= least
                cells = (title, name or "both", baseline, f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]")
                lines.append(f"| {' | '.join(cells)} | {'met' if met else '**missed**'} |")
    return lines


def draw(
    path: Path, measured: dict[str, list[LabelledQuestion]], found: dict[str, dict[str, Rows]]
) -> None:
    """Score by system and kind of question, a panel for each set."""
    plt = pyplot()
    sizes = [len(_systems(name, found)) + 1 for name in measured]
    figure, panels = plt.subplots(
        len(measured), 1, figsize=(9, 0.55 * sum(sizes)), height_ratios=sizes
    )
    colours = {"literal": "#4c78a8", "not literal": "#f58518"}
    for axes, (name, gold) in zip(panels, measured.items(), strict=True):
        systems = _systems(name, found)
        places = np.arange(len(systems))[::-1]
        masks = kind_masks(gold)
        for shift, kind in ((0.19, "literal"), (-0.19, "not literal")):
            values = [100 * found[s.name][name].score[masks[kind]].mean() for s in systems]
            bars = axes.barh(places + shift, values, 0.36, label=kind, color=colours[kind])
            axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
        axes.set(title=f"{name}, {len(gold):,} questions", xlim=(0, 108))
        axes.set_yticks(places, [s.title for s in systems], fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper left", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Files, models, bases, answers, the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where everything is kept")
    parser.add_argument("--write", type=Path, metavar="DIR", help="of knowledge_qa.md and .png")
    parser.add_argument("--base", default=BASE, help="folder to begin with, and the encoder's")
    parser.add_argument("--steps", type=int, default=1200, help="of a training (1200)")
    parser.add_argument("--tokens", type=int, default=16384, help="of a batch in it (16384)")
    parser.add_argument("--others", type=int, default=kgqa_sets.OTHERS, help="other subjects")
    parser.add_argument(
        "--systems", nargs="+", default=[*(s.name for s in SYSTEMS), "robust"], help="all"
    )
    parser.add_argument("--limit", type=int, help="of the questions of each set; all")
    args = parser.parse_args()
    root = ship_sets.data_folder()
    if args.write:
        pyplot()
    if not (args.folder / "facts.tsv").is_file():
        prepare(args.folder, root, args.others)
    whole = {k: v[: args.limit] for k, v in kgqa_sets.measured_questions(root).items()}
    measured = {**whole, FIRST: whole["KgCLUE dev"][:SOME]}
    for order in ("spm", "smp"):
        train(args.folder, order, args.base, args.steps, args.tokens)
        build(args.folder, order)
    models = Models(args.folder)
    baselines = kgqa_baselines.Baselines(args.folder / "facts.tsv", measured, args.base)
    found: dict[str, dict[str, Rows]] = {}
    seconds: dict[str, float] = {}
    for system in SYSTEMS:
        if system.name not in args.systems:
            continue
        answer = (
            getattr(baselines, system.name)
            if system.order is None
            else lambda texts, system=system: by_model(models, system, texts)
        )
        sets = {FIRST: measured[FIRST]} if system.ablation else dict(whole)
        got, seconds[system.name] = answers(args.folder, system, sets, answer)
        if not system.ablation:
            got[FIRST] = got["KgCLUE dev"][: len(measured[FIRST])]
        found[system.name] = {name: rows(part, measured[name]) for name, part in got.items()}
        scores = {k: f"{100 * r.score.mean():.2f}" for k, r in found[system.name].items()}
        print(system.name, scores, flush=True)
    typed = None
    if "robust" in args.systems:
        typed = robust(models, args.folder, measured["KgCLUE dev"], 400)
    trained = training_of(args.folder / "spm")
    manifest = json.loads((args.folder / "facts_spm" / "knowledge.json").read_text("utf-8"))
    if args.write:
        path = args.write / "knowledge_qa.md"
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        notes = before[before.find("## What was tried") :] if "## What was tried" in before else ""
        text = page(measured, found, manifest, seconds, typed, trained, notes)
        path.write_text(text, encoding="utf-8", newline="\n")
        draw(args.write / "knowledge_qa.png", measured, found)
    print(page(measured, found, manifest, seconds, typed, trained, ""))


if __name__ == "__main__":
    main()
