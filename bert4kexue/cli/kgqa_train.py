"""``bert4kexue kgqa train``: a model that writes the keys of facts after questions."""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path
from typing import Any

from bert4kexue.cli.models import add_dtype, add_model_options, find_family, load_tokenizer
from bert4kexue.cli.progress import train_with_bar
from bert4kexue.text.lines import read_lines

_EPILOG = """\
Labelled questions are files of KgCLUE (JSON lines) or of NLPCC 2016; --questions may be given
several times. Give the same command again after an interruption: it goes on from the last save. The
output folder holds state.npz, loss.csv, tensorboard/ and model/, which `kgqa predict` takes as
--model."""


def add(actions: Any) -> None:
    """Add the command."""
    parser = actions.add_parser(
        "train",
        help="a model that writes the keys of facts, out of labelled questions",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    parser.add_argument(
        "--questions", action="append", required=True, metavar="FILE", help="labelled ones"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="state, logs, model")
    parser.add_argument("--steps", type=int, required=True, help="of the whole run")
    parser.add_argument(
        "--order", choices=("spm", "smp"), default="spm", help="of a key's parts (spm)"
    )
    parser.add_argument(
        "--rewrites", type=int, default=0, help="copies of each with its subject swapped (0)"
    )
    parser.add_argument("--names", metavar="FILE", help="further subjects to swap in, one a line")
    parser.add_argument("--length", type=int, default=64, help="most tokens of a row (64)")
    parser.add_argument("--tokens", type=int, default=4096, help="of a batch (4096)")
    parser.add_argument(
        "--multiple", type=int, default=16, help="widths of batches are multiples of it (16)"
    )
    parser.add_argument("--rate", type=float, default=3e-4, help="peak learning rate (0.0003)")
    parser.add_argument("--warmup", type=float, default=0.05, help="share of the steps (0.05)")
    parser.add_argument("--decay", choices=("linear", "cosine", "constant"), default="linear")
    parser.add_argument("--dropout", type=float, default=0.1, help="while training (0.1)")
    parser.add_argument("--ema", type=float, help="momentum of averaged weights, 0.999 say")
    parser.add_argument("--policy", default="float32", help="float32, mixed_bfloat16, ...")
    parser.add_argument("--save-every", type=int, default=200, help="steps (200)")
    parser.add_argument("--log-every", type=int, default=20, help="steps (20)")
    parser.add_argument("--seed", type=int, default=1, help="of batches, dropout, rewriting (1)")
    add_dtype(parser, "float32")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train until the steps are done."""
    from bert4kexue.methods.knowledge_training import (
        KnowledgeTraining,
        as_questions,
        rewritten,
        subject_pieces,
        training_run,
    )
    from bert4kexue.methods.question_files import read_questions

    fields = ("steps", "order", "length", "tokens", "multiple", "rate", "warmup", "decay")
    chosen = {name: getattr(options, name) for name in (*fields, "dropout", "ema", "seed")}
    settings = KnowledgeTraining(**chosen)
    rejected: list[str] = []
    labelled = [q for path in options.questions for q in read_questions(path, rejected)]
    for why in rejected:
        print(f"left out: {why}")
    if not labelled:
        raise ValueError(f"{', '.join(options.questions)}: no question follows the format")
    names = _names(options.names)
    tokenizer = load_tokenizer(options.model)
    questions = rewritten(
        as_questions(labelled), options.rewrites, options.seed, names, subject_pieces(tokenizer)
    )
    family = find_family(options)
    import keras

    keras.config.set_dtype_policy(options.policy)
    training = training_run(
        options.output,
        options.model,
        questions,
        tokenizer,
        settings,
        family=family,
        dtype=options.dtype,
        log_every=options.log_every,
        save_every=options.save_every,
        data=_hash(options),
    )
    rows = len(training.tasks["written"].plan.objective.rows)
    print(f"{rows:,} rows of {len(labelled):,} questions, {len(questions) - rows} left out")
    begun = time.monotonic()

    def line(step: int, values: dict[str, float]) -> str:
        seconds = time.monotonic() - begun
        return f"{step}/{options.steps}  {seconds:.0f} s  loss {values['written']:.4f}"

    train_with_bar(training, line)
    print(f"{Path(options.output, 'model')}: a model for `kgqa predict`")
    return 0


def _names(path: str | None) -> list[str]:
    if path is None:
        return []
    names = [line.strip() for line in read_lines(path) if line.strip()]
    if not names:
        raise ValueError(f"{path} holds no name")
    return names


def _hash(options: argparse.Namespace) -> str:
    """What the run is trained on."""
    digest = hashlib.sha256(f"{options.rewrites}".encode())
    for path in (*options.questions, *([options.names] if options.names else ())):
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.hexdigest()
