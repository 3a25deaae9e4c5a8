"""PET on FewCLUE, NSP-BERT's partner for comparison: words in a hole, few texts, unlabelled ones.

    BERT4KEXUE_DATA=... python examples/task_pet_fewclue.py runs/pet_fewclue

Zero-shot on dev_few_all.json by the masked-word head, plain and calibrated; tuned on train_0 ...
train_4, mean and deviation; and where unlabelled texts are at hand (EPRSTMT), PET's last step: the
patterns teach an ordinary classifier on them. The model is the small one in `pretrained/`. Results
are kept in the folder as they come. docs/results/zero_shot.md has what it measured.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from fewclue_report import SHIPPED, keep, mean_deviation, over_splits, percent, read_split, tasks_of
from ship_sets import data_folder

from bert4kexue.cli.models import load_tokenizer
from bert4kexue.methods.fewclue import FewClueTask
from bert4kexue.methods.fewclue_scores import accuracy
from bert4kexue.methods.mlm_prompt import MaskedPromptClassifier
from bert4kexue.methods.pet import PetClassifier
from bert4kexue.methods.prompt_tuning import tune
from bert4kexue.models import build_transformer_model
from bert4kexue.training.corpora import read_rows


def classifier_of(task: FewClueTask, args: argparse.Namespace) -> MaskedPromptClassifier:
    """With the checkpoint's weights, new ones each time."""
    model = build_transformer_model(args.model, with_mlm=True)
    tokenizer = load_tokenizer(str(args.model))
    return MaskedPromptClassifier(model, tokenizer, task.labels, task.masked(), maxlen=args.maxlen)


def zero_shot(task: FewClueTask, args: argparse.Namespace) -> None:
    """A line of the table."""
    texts, wanted = read_split(task, "dev_few_all", args.limit)
    classifier = classifier_of(task, args)
    scores, labels = classifier.decision_function(texts), wanted.tolist()
    offset = classifier.calibrate().offsets[0]
    line = {
        "rows": len(labels),
        "masked words": percent(accuracy(scores.argmax(1), labels)),
        "calibrated": percent(accuracy((scores - offset).argmax(1), labels)),
    }
    keep(args.output / "results.json", **{f"{task.name} zero-shot": line})
    print(task.name, line, flush=True)


def few_shot(task: FewClueTask, args: argparse.Namespace) -> None:
    """Mean and deviation over the five training files."""
    texts, wanted = read_split(task, "dev_few_all", args.limit)

    def learned(rows: list[str], labels: list[str]) -> Any:
        classifier = classifier_of(task, args)
        tune(classifier, rows, labels, epochs=args.epochs, rate=args.rate)
        return lambda some: classifier.decision_function(some).argmax(1)

    found = over_splits(task, range(args.splits), learned, texts, wanted)
    line = {"each": [round(x, 2) for x in found], "mean": mean_deviation(found)}
    keep(args.output / "results.json", **{f"{task.name} few-shot": line})
    print(task.name, line, flush=True)


def with_unlabelled(task: FewClueTask, args: argparse.Namespace) -> None:
    """PET whole, for tasks of which unlabelled texts are there."""
    path = data_folder() / "fewclue_unlabeled" / f"{task.name}.json"
    if not path.is_file():
        print(f"{task.name}: no unlabelled texts in {path.parent.name}, PET's last step left out")
        return
    texts, wanted = read_split(task, "dev_few_all", args.limit)
    every = [row["sentence"] for row in read_rows(path, {})]
    step = max(1, len(every) // args.unlabelled)
    unlabelled = every[::step][: args.unlabelled]
    tokenizer = load_tokenizer(str(args.model))
    templates = [task.masked(i) for i in range(len(task.templates))]

    def learned(rows: list[str], labels: list[str]) -> Any:
        pet = PetClassifier(
            lambda: build_transformer_model(args.model, with_mlm=True),
            tokenizer,
            task.labels,
            templates,
            maxlen=args.maxlen,
            epochs=args.epochs,
            rate=args.rate,
            student_rate=args.rate,
        )
        pet.fit(rows, labels, unlabelled)
        return lambda some: pet.predict_proba(some).argmax(1)

    found = over_splits(task, range(args.splits), learned, texts, wanted)
    line = {"each": [round(x, 2) for x in found], "mean": mean_deviation(found)}
    line["unlabelled"] = len(unlabelled)
    keep(args.output / "results.json", **{f"{task.name} PET": line})
    print(task.name, line, flush=True)


def main() -> None:
    """Zero-shot, few-shot, with unlabelled texts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path, help="folder of results")
    parser.add_argument("--model", type=Path, default=SHIPPED, help="checkpoint (the shipped one)")
    parser.add_argument("--tasks", default="eprstmt,tnews,csldcp", help="zero-shot")
    parser.add_argument("--few-shot", default="eprstmt,tnews", help="tuned on train_0 to train_4")
    parser.add_argument("--pet", default="eprstmt", help="with unlabelled texts")
    parser.add_argument("--unlabelled", type=int, default=1000, help="of them (1000)")
    parser.add_argument("--splits", type=int, default=5, help="training files (5)")
    parser.add_argument("--epochs", type=int, default=10, help="of the tuning (10)")
    parser.add_argument("--rate", type=float, default=1e-4, help="of the tuning (1e-4)")
    parser.add_argument("--maxlen", type=int, default=128, help="tokens of a row (128)")
    parser.add_argument("--limit", type=int, help="rows to judge, evenly taken; all")
    args = parser.parse_args()
    for task in tasks_of(args.tasks):
        zero_shot(task, args)
    for task in tasks_of(args.few_shot):
        few_shot(task, args)
    for task in tasks_of(args.pet):
        with_unlabelled(task, args)


if __name__ == "__main__":
    main()
