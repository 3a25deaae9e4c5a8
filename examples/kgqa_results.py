"""Question answering over a knowledge base, measured: docs/results/knowledge_qa.md.

    BERT4KEXUE_DATA=... python examples/kgqa_results.py runs/kgqa --write docs/results

writes the training files and the facts of `kgqa_sets.py`, trains a model of either order where
there is none yet, builds the knowledge bases, answers the measured questions by every system, and
scores. Everything is kept in the folder, an answered set of questions too: the command goes on
where it was interrupted. Runs of `kgqa train` made elsewhere are taken from `spm/first`, `spm`,
`smp/first` and `smp`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import kgqa_baselines
import kgqa_sets
import ship_sets
from kgqa_report import FIRST, Rows, draw, page, rows
from kgqa_systems import SYSTEMS, Models, System, by_model
from kgqa_typed import robust, robust_text
from pictures import pyplot

from bert4kexue.cli import main as bert4kexue
from bert4kexue.methods.kgclue import read_predictions, write_submission
from bert4kexue.methods.knowledge_base import TREE
from bert4kexue.methods.question_files import LabelledQuestion, Triple

BASE = "pretrained/roformer_tiny_zh"
SOME = 500
#: Options of `kgqa train`: of the run, and of the one that goes on from it.
FIRST_RUN = {"steps": 1200, "tokens": 16384, "rate": 1e-3, "seed": 1}
SECOND_RUN = {"steps": 300, "tokens": 8192, "rate": 4e-4, "seed": 3}


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


def train(folder: Path, order: str, base: str) -> None:
    """Train the model of an order, if there is none: a run, and one that goes on from it."""
    run = folder / order
    steps = ((base, run / "first", FIRST_RUN), (run / "first" / "model", run, SECOND_RUN))
    for model, output, options in steps:
        if not _has_model(run / "model") and not _has_model(output / "model"):
            give(
                *("kgqa", "train", "--model", model, "--questions", folder / "train.json"),
                *("--names", folder / "names.txt", "--rewrites", 9, "--order", order),
                *("--length", 64, "--dropout", 0.1, "--dtype", "float16", "--output", output),
                *(word for name, value in options.items() for word in (f"--{name}", value)),
            )


def _has_model(folder: Path) -> bool:
    return (folder / "bert_model.ckpt.index").is_file()


def training_of(folder: Path) -> str:
    """The size of a trained model, and the steps of its two runs with their last losses."""
    config = json.loads((folder / "model" / "bert_config.json").read_text(encoding="utf-8"))
    told = [f"{config['num_hidden_layers']} layers, width {config['hidden_size']}"]
    for run in (folder / "first", folder):
        lines = (run / "loss.csv").read_text(encoding="utf-8").splitlines()[1:]
        losses = [float(line.split(",")[-1]) for line in lines[-max(1, len(lines) // 6) :]]
        steps = int(lines[-1].split(",")[0])
        told.append(f"{steps:,} steps to a loss of {sum(losses) / len(losses):.2f}")
    return ", ".join(told)


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


def main() -> None:
    """Files, models, bases, answers, the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where everything is kept")
    parser.add_argument("--write", type=Path, metavar="DIR", help="of knowledge_qa.md and .png")
    parser.add_argument("--base", default=BASE, help="folder to begin with, and the encoder's")
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
        train(args.folder, order, args.base)
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
    typed: list[str] = []
    if "robust" in args.systems:
        found_typed = robust(models, args.folder, measured["KgCLUE dev"], 400)
        typed = robust_text(found_typed)
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
