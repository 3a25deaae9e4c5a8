"""``bert4kexue kgqa predict``: answers to questions given as words, or to a file of them."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from bert4kexue.cli.kgqa_answers import answer_file, check_files, identity
from bert4kexue.cli.models import add_model_options, load_knowledge

_EPILOG = """\
A file of questions is KgCLUE's (JSON lines with `question`, and `id` if there is one), NLPCC's of
2016, or a text a line; answers need not be there, and are not read. It is read twice, one question
in memory at a time. Answers are written as they are found, to FILE.partial: the same command goes
on after an interruption; with another model, base, option or file it is refused."""


def add(actions: Any) -> None:
    """Add the command."""
    parser = actions.add_parser(
        "predict",
        help="answers to questions",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    parser.add_argument("question", nargs="*", help="a text")
    parser.add_argument("--knowledge", required=True, metavar="DIR", help="what build wrote")
    parser.add_argument("--questions", metavar="FILE", help="a file of questions instead")
    parser.add_argument("--output", metavar="FILE", help="answers in KgCLUE's format")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing --output")
    parser.add_argument("--topk", type=int, default=3, help="width of the beam (3)")
    parser.add_argument("--batch-size", type=int, default=32, help="questions together (32)")
    parser.add_argument("--maxlen", type=int, default=128, help="most tokens of a question (128)")
    parser.add_argument(
        "--lookahead", action=argparse.BooleanOptionalAction, default=True, help="of post 8802"
    )
    parser.add_argument(
        "--subjects",
        choices=("all", "named", "similar"),
        default="all",
        help="named: of subjects that stand in the question, where any does; similar: or that do "
        "but for a typo (all)",
    )
    parser.add_argument(
        "--abstain-below",
        type=float,
        metavar="FIT",
        help="no answer where the best fact fits less: the log-probability that the model, free of "
        "the base, writes its subject and predicate. It depends on the model; -19.2 was best for "
        "that of docs/results/knowledge_qa.md, on questions of KgCLUE with and without a fact",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="print the candidates, of a question without an answer too, and why they stand there",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Answer."""
    if bool(options.question) == bool(options.questions) or (
        bool(options.questions) != bool(options.output)
    ):
        raise ValueError("give either questions as words, or --questions FILE with --output FILE")
    least = options.abstain_below
    if least is not None and not math.isfinite(least):
        raise ValueError(
            f"--abstain-below takes a log-probability, got {least}: give a finite number, or leave "
            "it out to answer every question"
        )
    total = 0
    if options.questions:
        total = check_files(Path(options.questions), Path(options.output), options.overwrite)
    from bert4kexue.methods.knowledge_qa import KnowledgeQA

    model, tokenizer, knowledge = load_knowledge(options)
    qa = KnowledgeQA(
        model,
        tokenizer,
        knowledge,
        lookahead=options.lookahead,
        subjects=options.subjects,
        maxlen=options.maxlen,
        batch_size=options.batch_size,
    )
    if options.questions:
        about = identity(options)
        source, output = Path(options.questions), Path(options.output)
        count = answer_file(qa, source, output, total, about, options.topk, least)
        print(f"{output}: {count:,} answers")
        return 0
    for question in options.question:
        _explain(qa, question, options)
    return 0


def _explain(qa: Any, question: str, options: argparse.Namespace) -> None:
    print(question)
    candidates = qa.explain(question, options.topk)
    if options.abstain_below is not None:
        fit = float(qa.fit([question], [candidates[0].answer])[0])
        if fit < options.abstain_below:
            print(f"  no answer: the best fact fits {fit:.2f}, less than {options.abstain_below:g}")
            if not options.explain:
                return
    for candidate in candidates:
        answer = candidate.answer
        line = f"  {answer.name} | {answer.predicate} | {'；'.join(answer.objects)}"
        line += f"  {answer.score:.3f}"
        if options.explain:
            line += f"  (model alone {candidate.model_score:.3f}, gain {candidate.gain})"
        print(line)
