"""``bert4kexue kgqa``: a knowledge base out of text, questions answered from it, answers scored."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bert4kexue.cli import kgqa_export, kgqa_predict, kgqa_train
from bert4kexue.cli.kgqa_answers import tell_left_out
from bert4kexue.cli.models import load_tokenizer
from bert4kexue.cli.progress import progress

_EPILOG = """\
examples:
  bert4kexue kgqa train --model DIR --questions train.json --output run --steps 2000 --rewrites 5
  bert4kexue kgqa build facts.tsv --model DIR --output facts --workers 2
  bert4kexue kgqa predict --model DIR --knowledge facts 谁写了静夜思？
  bert4kexue kgqa predict --model DIR --knowledge facts --explain 谁写了静夜思？
  bert4kexue kgqa predict --model DIR --knowledge facts --questions dev.json --output answers.json
  bert4kexue kgqa eval --questions dev.json --predictions answers.json
  bert4kexue kgqa export --model DIR --knowledge facts --output served/facts

Facts are lines of `S（M）`, P, O with tabs or ` ||| ` between them, or the labelled questions of
KgCLUE or NLPCC 2016. Questions are theirs, or for predict a text a line. build and predict read
files larger than memory; train and eval hold theirs. A build, a training or a run over a file of
questions that was interrupted goes on when the command is given again."""


def add(commands: Any) -> None:
    """Add the group."""
    group = commands.add_parser(
        "kgqa",
        help="questions answered from a knowledge base, by generation inside of its prefix tree",
        description="Retrieval as generation (kexue.fm/archives/8802).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = actions.add_parser("build", help="a knowledge base's folder out of a file of facts")
    build.add_argument("source", metavar="FILE", help="UTF-8, a fact a line; see below")
    build.add_argument("--model", required=True, metavar="NAME", help="whose vocab.txt is used")
    build.add_argument("--output", required=True, metavar="DIR", help="the folder to write")
    build.add_argument("--maxlen", type=int, default=512, help="most tokens of a key (512)")
    build.add_argument("--workers", type=int, default=1, help="processes that tokenize (1)")
    build.add_argument(
        "--order", choices=("spm", "smp"), default="spm", help="of a key's parts, as trained (spm)"
    )
    build.add_argument(
        "--aliases",
        metavar="FILE",
        help="other names: S or S（M）, a tab, another name; a line each",
    )
    build.add_argument("--overwrite", action="store_true", help="replace an existing folder")
    build.set_defaults(run=run_build)
    kgqa_train.add(actions)
    kgqa_predict.add(actions)
    scores = actions.add_parser(
        "eval",
        help="EM and F1 of answers, as KgCLUE measures them",
        description="Scores the questions that have an answer; memory holds both files.",
    )
    scores.add_argument("--questions", required=True, metavar="FILE", help="labelled questions")
    scores.add_argument("--predictions", required=True, metavar="FILE", help="what predict wrote")
    scores.set_defaults(run=run_eval)
    kgqa_export.add(actions)


def run_build(options: argparse.Namespace) -> int:
    """Build, and say what gave no fact."""
    from bert4kexue.methods.knowledge_files import read_aliases
    from bert4kexue.methods.knowledge_folder import build_knowledge_folder

    output = Path(options.output)
    if output.exists() and not options.overwrite:
        raise FileExistsError(f"{output} exists: choose another, or pass --overwrite")
    report = build_knowledge_folder(
        options.source,
        output,
        load_tokenizer(options.model),
        maxlen=options.maxlen,
        workers=options.workers,
        order=options.order,
        aliases=read_aliases(options.aliases) if options.aliases else None,
        watch=lambda blocks, size: progress(blocks, size, "reading", lambda block: block.size),
        went_on=lambda lines: print(f"going on after {lines:,} lines", file=sys.stderr),
    )
    for reason, count in report.reasons().most_common():
        print(f"{count:,} lines rejected: it {reason}", file=sys.stderr)
    if report.without_fact:
        print(
            f"questions without a fact: {len(report.without_fact):,}, all told in "
            f"{output / 'knowledge.json'}; the first: {report.without_fact[0]}",
            file=sys.stderr,
        )
    if report.shared:
        print(
            f"keys that lead to more than one fact: {report.shared:,}. The vocabulary does not "
            "tell their names apart ([UNK], letter case), or a name is that of several "
            "subjects: such facts are answered together",
            file=sys.stderr,
        )
    print(f"{output}: {report.keys:,} keys of {report.lines:,} lines")
    return 0


def run_eval(options: argparse.Namespace) -> int:
    """Print EM and F1 of S, P, O and all, and the score."""
    from bert4kexue.methods.kgclue import read_predictions, scores
    from bert4kexue.methods.question_files import iter_questions, with_own_ids

    rejected: list[str] = []
    labelled = iter_questions(options.questions, rejected)
    gold = list(with_own_ids(labelled, options.questions, rejected))
    tell_left_out(options.questions, len(gold), rejected)
    found = read_predictions(options.predictions)
    missing = [question.id for question in gold if question.id not in found]
    if missing:
        raise ValueError(
            f"{options.predictions} has no answer to {len(missing)} questions, the first of them "
            f"id {missing[0]}"
        )
    result = scores([found[q.id] for q in gold], [q.triple for q in gold])
    print("      S       P       O       All")
    print("EM  " + "".join(f"{100 * value:7.3f} " for value in result[:4]))
    print("F1  " + "".join(f"{100 * value:7.3f} " for value in result[4:]))
    print(f"score {100 * result.score:.3f} (mean of EM and F1 of O), {len(gold):,} questions")
    return 0
