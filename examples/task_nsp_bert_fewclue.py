"""NSP-BERT (kexue.fm/archives/8671): labels by next-sentence prompts, without and with few texts.

    BERT4KEXUE_DATA=... python examples/task_nsp_bert_fewclue.py runs/nsp_fewclue

Zero-shot on FewCLUE's dev_few_all.json, plain and calibrated, beside the commonest label and the
label name nearest by TF-IDF; then tuned on train_0 ... train_4, all prompts of a text or some of
the wrong ones, mean and deviation on the same rows; then a picture of the scores by class. The
model is the small one in `pretrained/`; --model takes any BERT that kept its next-sentence head.
Results are kept in the folder as they come. docs/results/zero_shot.md has what it measured.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pictures
from fewclue_report import SHIPPED, keep, mean_deviation, over_splits, percent, read_split, tasks_of

from bert4kexue.cli.models import load_tokenizer
from bert4kexue.methods.fewclue import FewClueTask, Sample
from bert4kexue.methods.fewclue_scores import accuracy, majority, nearest_name
from bert4kexue.methods.prompt_tuning import tune
from bert4kexue.methods.zero_shot import ZeroShotClassifier
from bert4kexue.models import build_transformer_model


def classifier_of(task: FewClueTask, args: argparse.Namespace) -> ZeroShotClassifier:
    """With the checkpoint's weights, new ones each time."""
    model = build_transformer_model(args.model, with_nsp=True)
    tokenizer = load_tokenizer(str(args.model))
    return ZeroShotClassifier(model, tokenizer, task.labels, task.template(), maxlen=args.maxlen)


def zero_shot(task: FewClueTask, args: argparse.Namespace) -> None:
    """A line of the table, and the scores for the picture."""
    texts, wanted = read_split(task, "dev_few_all", args.limit)
    classifier = classifier_of(task, args)
    scores = classifier.decision_function(texts)
    offset = classifier.calibrate().offsets[0]
    args.output.mkdir(parents=True, exist_ok=True)
    np.savez(args.output / f"{task.name}.npz", scores=scores, offset=offset, wanted=wanted)
    labels = wanted.tolist()
    line = {
        "rows": len(labels),
        "NSP": percent(accuracy(scores.argmax(1), labels)),
        "calibrated": percent(accuracy((scores - offset).argmax(1), labels)),
        "commonest": percent(majority([Sample("", label=i) for i in labels])),
        "TF-IDF": percent(accuracy(nearest_name(texts, task.names), labels)),
        "paper": task.published,
    }
    keep(args.output / "results.json", **{f"{task.name} zero-shot": line})
    print(task.name, line, flush=True)


def few_shot(task: FewClueTask, args: argparse.Namespace) -> None:
    """Mean and deviation over the five training files, for each loss."""
    texts, wanted = read_split(task, "dev_few_all", args.limit)
    for loss in args.losses.split(","):

        def learned(rows: list[str], labels: list[str], loss: Any = loss) -> Any:
            classifier = classifier_of(task, args)
            tune(
                classifier,
                rows,
                labels,
                loss=loss,
                epochs=args.epochs,
                rate=args.rate,
                negatives=args.negatives,
            )
            return lambda some: classifier.decision_function(some).argmax(1)

        found = over_splits(task, range(args.splits), learned, texts, wanted)
        line = {"each": [round(x, 2) for x in found], "mean": mean_deviation(found)}
        keep(args.output / "results.json", **{f"{task.name} few-shot {loss}": line})
        print(task.name, loss, line, flush=True)


def picture(args: argparse.Namespace) -> None:
    """Distributions by class: the two sentiments' difference, and each topic's own prompt."""
    plt = pictures.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    with np.load(args.output / "eprstmt.npz") as file:
        difference, wanted = file["scores"] @ [1, -1], file["wanted"]
        offset = float(file["offset"] @ [1, -1])
    bins = np.linspace(difference.min(), difference.max(), 25)
    for label, name, color in ((0, "positive texts", "C2"), (1, "negative texts", "C3")):
        left.hist(difference[wanted == label], bins, alpha=0.55, color=color, label=name)
    left.axvline(0, color="0.3", lw=1, label="decision")
    left.axvline(offset, color="C0", ls="--", label="decision, calibrated")
    left.set(xlabel="log-odds of the good prompt minus the bad one's", ylabel="texts")
    left.set_title("EPRSTMT")
    left.legend()
    with np.load(args.output / "tnews.npz") as file:
        scores, wanted = file["scores"] - file["offset"], file["wanted"]
    scores = scores - scores.mean(1, keepdims=True)
    classes = np.arange(scores.shape[1])
    for shift, color, rows in ((-0.2, "C2", True), (0.2, "0.6", False)):
        values = [scores[(wanted == k) == rows, k] for k in classes]
        boxes = right.boxplot(
            values, positions=classes + shift, widths=0.34, showfliers=False, patch_artist=True
        )
        for box in boxes["boxes"]:
            box.set_facecolor(color)
        right.plot([], [], "s", color=color, label="texts of the class" if rows else "other texts")
    english = "story culture entertainment sports finance house car edu tech military travel world"
    names = [*english.split(), "stock", "agriculture", "game"]
    right.set_xticks(classes, names, rotation=60, ha="right")
    right.set_ylabel("log-odds of the class's prompt,\ncalibrated, minus the text's mean")
    right.set_title("TNEWS")
    right.legend()
    figure.savefig(args.output / "zero_shot.png", dpi=110)


def main() -> None:
    """Zero-shot, few-shot, picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path, help="folder of results")
    parser.add_argument("--model", type=Path, default=SHIPPED, help="checkpoint (the shipped one)")
    parser.add_argument("--tasks", default="eprstmt,tnews,csldcp", help="zero-shot")
    parser.add_argument("--few-shot", default="eprstmt,tnews", help="tuned on train_0 to train_4")
    parser.add_argument("--losses", default="bce,softmax,contrastive", help="of the tuning")
    parser.add_argument("--splits", type=int, default=5, help="training files (5)")
    parser.add_argument("--epochs", type=int, default=10, help="of the tuning (10)")
    parser.add_argument("--rate", type=float, default=1e-4, help="of the tuning (1e-4)")
    parser.add_argument("--negatives", type=int, default=4, help="wrong prompts a text (4)")
    parser.add_argument("--maxlen", type=int, default=128, help="tokens of a row (128)")
    parser.add_argument("--limit", type=int, help="rows to judge, evenly taken; all")
    parser.add_argument("--picture", action="store_true", help="draw (needs matplotlib)")
    args = parser.parse_args()
    if args.picture:
        pictures.pyplot()  # said now, not after the work, where it is missing
    for task in tasks_of(args.tasks):
        zero_shot(task, args)
    for task in tasks_of(args.few_shot):
        few_shot(task, args)
    if args.picture:
        picture(args)


if __name__ == "__main__":
    main()
