"""What the two reading-comprehension examples share: options, training, scores and their page."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from bert4kexue._files import atomic_write
from bert4kexue.methods.reading_baseline import overlap_answer
from bert4kexue.methods.reading_comprehension import special_ids
from bert4kexue.methods.reading_data import ReadingQuestion, read_squad
from bert4kexue.methods.reading_rows import Draws, Layout, examples
from bert4kexue.methods.reading_scores import ReadingScore, evaluate_reading
from bert4kexue.models.pretraining import build_pretrainer
from bert4kexue.tokenizers import Tokenizer
from bert4kexue.training.plan import Plan
from bert4kexue.training.pretraining import WarmupDecay
from bert4kexue.training.run import PretrainingRun, Task

SETS = {
    "cmrc_dev": "CMRC 2018 dev, a fifth",
    "cmrc_trial": "CMRC 2018 trial",
    "drcd_dev": "DRCD dev, a fifth",
}
WIDTHS = (10, 15, 20, 30, 40, 60)  # of the baseline's window


def arguments(description: str) -> argparse.ArgumentParser:
    """The options of both."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="what reading_sets.py wrote")
    parser.add_argument("--model", type=Path, default=Path("pretrained/roformer_tiny_zh"))
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=8192, help="of a batch (8192)")
    parser.add_argument("--rate", type=float, default=5e-4, help="peak learning rate (0.0005)")
    parser.add_argument("--policy", default="float32", help="float32, mixed_bfloat16, ...")
    parser.add_argument("--save-every", type=int, default=200, help="steps (200)")
    parser.add_argument("--maxlen", type=int, default=Layout().maxlen, help="tokens of a row (512)")
    parser.add_argument("--train-only", action="store_true", help="report nothing")
    parser.add_argument("--trained", type=Path, help="a trained model's folder: only report")
    parser.add_argument("--limit", type=int, help="report on so many questions of each set")
    parser.add_argument("--page", type=Path, help="write the table of both readers here")
    return parser


class Training:
    """A model's folder, its tokenizer, and what is trained."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, options.model
        keras.utils.set_random_seed(1)
        keras.config.set_dtype_policy(options.policy)
        self.layout = Layout(maxlen=options.maxlen)
        self.tokenizer = Tokenizer(self.folder / "vocab.txt", do_lower_case=True)
        self.special = special_ids(self.tokenizer)
        config = (self.folder / "bert_config.json").read_text(encoding="utf-8")
        self.config = json.loads(config)

    def draws(self, name: str, empty: float) -> Draws:
        """The rows of a file."""
        questions = read_squad(self.options.data / f"{name}.json")
        return Draws(examples(questions, self.tokenizer, self.layout), self.layout, empty)

    def run(self, objective: Callable[[Draws], Any], mask: str) -> Path:
        """Train, or go on training, and give the folder of the model.

        Made-up rows are nine in ten at first and three in ten at the end.
        """
        options = self.options
        tasks = {
            name: Task(
                Plan(objective(draws), options.tokens, options.maxlen, [1, i], options.maxlen),
                share,
            )
            for i, (name, draws, share) in enumerate(
                (
                    ("questions", self.draws("questions", 0.2), lambda done: 0.1 + 0.6 * done),
                    ("made", self.draws("made", 0.1), lambda done: 0.9 - 0.6 * done),
                )
            )
        }
        model, builder = build_pretrainer(
            self.config,
            "roformer",
            [mask],
            with_pool=False,
            checkpoint=self.folder / "bert_model.ckpt",
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
        )
        optimizer = keras.optimizers.AdamW(
            WarmupDecay(options.rate, options.steps, options.steps // 20),
            weight_decay=0.01,
            beta_2=0.98,
            global_clipnorm=1.0,
            use_ema=True,
            ema_momentum=0.99,
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
        model.compile(optimizer=optimizer)

        def write(folder: Path) -> None:
            folder.mkdir(exist_ok=True)
            for name in ("bert_config.json", "vocab.txt"):
                shutil.copy(self.folder / name, folder / name)
            builder.save_weights_as_checkpoint(folder / "bert_model.ckpt", dtype="float16")

        names = ("tokens", "rate", "policy", "maxlen")
        run = PretrainingRun(
            options.output,
            model,
            tasks,
            steps=options.steps,
            seed=1,
            write_checkpoint=write,
            log_every=min(50, options.save_every),
            save_every=options.save_every,
            settings={name: getattr(options, name) for name in names},
        )
        run.train(lambda step, values: print(step, values, flush=True))
        return options.output / "model"


def report(
    task: Training, folder: Path, reader: str, answer: Callable[[list[ReadingQuestion]], list[str]]
) -> None:
    """Score the reported sets, keep the figures beside the data, and write the page from them."""
    options = task.options
    figures: dict[str, Any] = {"training": trained(folder), "options": options_of(folder)}
    for name, title in SETS.items():
        questions = read_squad(options.data / "reported" / f"{name}.json")[: options.limit]
        found = dict(zip((q.id for q in questions), answer(questions), strict=True))
        figures[name] = evaluate_reading(found, questions)._asdict()
        figures[name]["within_reach"] = len(examples(questions, task.tokenizer, task.layout))
        print(f"{title}: {_told(figures[name])}", flush=True)
    stored = options.data / "scores.json"
    scores = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    if "overlap" not in scores:
        scores["width"], scores["overlap"] = baseline(options)
    scores[reader] = figures
    with atomic_write(stored, "w") as file:
        file.write(json.dumps(scores, indent=1) + "\n")
    if options.page is not None:
        write_page(options.page, scores)


def trained(folder: Path) -> str:
    """What the folder of a run says of its training; '' where there is none beside the model."""
    settings, losses = folder.parent / "run.json", folder.parent / "loss.csv"
    if not settings.is_file() or not losses.is_file():
        return ""
    run = json.loads(settings.read_text(encoding="utf-8"))
    head, *_, last = losses.read_text(encoding="utf-8").splitlines()
    step, _, *values = last.split(",")
    # What was not drawn since the line before has no loss in the last one.
    pairs = zip(head.split(",")[2:], values, strict=True)
    named = ", ".join(f"{name} {float(value):.2f}" for name, value in pairs if value)
    return f"{step} steps of {run['tokens']:,} tokens; at the end the loss of a token is {named}"


def options_of(folder: Path) -> str:
    """The options that a model was trained with; '' where there is no run beside it."""
    settings = folder.parent / "run.json"
    if not settings.is_file():
        return ""
    run = json.loads(settings.read_text(encoding="utf-8"))
    return "".join(f" --{name} {run[name]}" for name in ("steps", "tokens", "rate", "policy"))


def baseline(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """The overlap baseline at the width that is best on what is trained on, and its figures."""

    def score(questions: Sequence[ReadingQuestion], width: int) -> ReadingScore:
        found = {q.id: overlap_answer(q.question, q.passage, width) for q in questions}
        return evaluate_reading(found, questions)

    trained = read_squad(options.data / "questions.json")[: options.limit]
    width = max(WIDTHS, key=lambda width: score(trained, width).f1)
    sets = {
        name: read_squad(options.data / "reported" / f"{name}.json")[: options.limit]
        for name in SETS
    }
    return width, {name: score(questions, width)._asdict() for name, questions in sets.items()}


def _told(score: dict[str, Any]) -> str:
    em, f1 = 100 * score["exact_match"], 100 * score["f1"]
    return f"EM {em:.2f}, F1 {f1:.2f} ({score['questions']})"


def write_page(path: Path, scores: dict[str, Any]) -> None:
    """The table of both readers beside the baseline."""
    rows = {
        "overlap": f"overlap alone, a window of {scores['width']} characters",
        "seq2seq": "Seq2Seq in the suffix tree",
        "mlm": "MLM, the same constraint",
    }
    lines = ["| | " + " | ".join(f"{title}: EM | F1" for title in SETS.values()) + " |"]
    lines.append("|---" * (1 + 2 * len(SETS)) + "|")
    notes = []
    for reader, told in rows.items():
        if reader not in scores:
            continue
        of = [scores[reader][name] for name in SETS]
        cells = [f"{100 * one[key]:.2f}" for one in of for key in ("exact_match", "f1")]
        lines.append(f"| {told} | " + " | ".join(cells) + " |")
        notes.append(f"* {told}: {', '.join(str(one['questions']) for one in of)} questions")
        if reader == "overlap":
            notes[-1] += ", the width chosen on what is trained on."
            continue
        notes[-1] += f"; {scores[reader]['training'] or 'training unknown'}. "
        against = [scores["overlap"][name] for name in SETS]
        pairs = list(zip(of, against, strict=True))
        if any(one["questions"] < other["questions"] for one, other in pairs):
            notes[-1] += "These are the first of each set, and not comparable with the baseline's. "
        else:
            ahead = sum(one["f1"] > other["f1"] for one, other in pairs)
            notes[-1] += f"It is ahead of the baseline's F1 on {ahead} of {len(SETS)} sets. "
        reach = ", ".join(f"{one['within_reach']} of {one['questions']}" for one in of)
        notes[-1] += (
            "An answer within its reach, in the passage and of at most "
            f"{Layout().answer} tokens: {reach}."
        )
    commands = "\n".join(
        f"    python examples/task_reading_comprehension_{reader}.py --data runs/reading "
        f"--output runs/{reader} \\\n       {scores[reader]['options']}"
        for reader in rows
        if reader in scores and reader != "overlap"
    )
    text = PAGE.format(commands=commands, table="\n".join(lines), notes="\n".join(notes))
    with atomic_write(path, "w") as file:
        file.write(text)


PAGE = """# Reading comprehension

    BERT4KEXUE_DATA=... python examples/reading_sets.py runs/reading
{commands}

on the JAX backend of one H100, and reported on two cores with `--trained`.

Answers to questions on passages, spans of the passage and nothing else: written token by token
(kexue.fm/archives/7115), and all at once by a masked language model (7148). Exact match and F1 as
CMRC 2018's evaluation script has them, in percent.

{table}

{notes}

The training files of CMRC 2018 and DRCD were not at hand. Both readers are the small RoFormer,
trained for minutes on some 5,400 of the dev questions, and on rows made from their passages and
from questions over knowledge bases. What is reported are the other dev questions, split by passage
so that no passage, no near-duplicate of one and no article is on both sides (a fifth of the
passages, which is not quite a fifth of the questions), and CMRC's trial file, whose answers are
longer: 18 tokens in the median, 6 in dev. DRCD is written in traditional characters, of which the
vocabulary lacks 8 %. These figures say how far a model of a few million weights gets that way, and
nothing about the methods on a large one.

The overlap baseline takes the window of the passage that shares most with the question and, in it,
the longest run of characters that does not stand in the question.
"""
