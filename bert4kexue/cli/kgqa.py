"""``bert4kexue kgqa``: a knowledge base out of text, questions answered from it, answers scored."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bert4kexue.cli import kgqa_export, kgqa_train
from bert4kexue.cli.models import add_model_options, find_family, load_tokenizer
from bert4kexue.cli.progress import progress

KEPT = 256
"""Questions between two writings of the answers."""

_EPILOG = """\
examples:
  bert4kexue kgqa train --questions train.json --output run --steps 2000 --rewrites 5
  bert4kexue kgqa build facts.tsv --model DIR --output facts --workers 2
  bert4kexue kgqa predict --model DIR --knowledge facts 谁写了静夜思？
  bert4kexue kgqa predict --model DIR --knowledge facts --explain 谁写了静夜思？
  bert4kexue kgqa predict --model DIR --knowledge facts --questions dev.json --output answers.json
  bert4kexue kgqa eval --questions dev.json --predictions answers.json
  bert4kexue kgqa export --model DIR --knowledge facts --output served/facts

Facts are lines of `S（M）`, P, O with tabs or ` ||| ` between them, or the labelled questions of
KgCLUE or NLPCC 2016. Questions are labelled ones, or a text a line. A build, a training or a run
over a file of questions that was interrupted goes on when the command is given again."""


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
    predict = actions.add_parser("predict", help="answers to questions")
    add_model_options(predict)
    predict.add_argument("question", nargs="*", help="a text")
    predict.add_argument("--knowledge", required=True, metavar="DIR", help="what build wrote")
    predict.add_argument("--questions", metavar="FILE", help="a file of questions instead")
    predict.add_argument("--output", metavar="FILE", help="answers in KgCLUE's format")
    predict.add_argument("--topk", type=int, default=3, help="width of the beam (3)")
    predict.add_argument("--batch-size", type=int, default=32, help="questions together (32)")
    predict.add_argument("--maxlen", type=int, default=128, help="most tokens of a question (128)")
    predict.add_argument(
        "--lookahead", action=argparse.BooleanOptionalAction, default=True, help="of post 8802"
    )
    predict.add_argument(
        "--subjects",
        choices=("all", "named", "similar"),
        default="all",
        help="named: of subjects that stand in the question, where any does; similar: or that do "
        "but for a typo (all)",
    )
    predict.add_argument(
        "--abstain-below",
        type=float,
        metavar="FIT",
        help="no answer where the best fact fits less: the log-probability that the model, free of "
        "the base, writes its subject and predicate (-8 say)",
    )
    predict.add_argument(
        "--explain", action="store_true", help="print the candidates, and why they stand there"
    )
    predict.set_defaults(run=run_predict)
    scores = actions.add_parser("eval", help="EM and F1 of answers, as KgCLUE measures them")
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
            f"{len(report.without_fact):,} questions gave no fact, all told in "
            f"{output / 'knowledge.json'}; the first: {report.without_fact[0]}",
            file=sys.stderr,
        )
    if report.shared:
        print(
            f"{report.shared:,} keys lead to more than one fact, which are answered together: the "
            "vocabulary does not tell their names apart ([UNK], letter case), or a name is that "
            "of several subjects",
            file=sys.stderr,
        )
    print(f"{output}: {report.keys:,} keys of {report.lines:,} lines")
    return 0


def run_predict(options: argparse.Namespace) -> int:
    """Answer questions given as words, or a file of them."""
    if bool(options.question) == bool(options.questions) or (
        bool(options.questions) != bool(options.output)
    ):
        raise ValueError("give either questions as words, or --questions FILE with --output FILE")
    questions = _texts(Path(options.questions)) if options.questions else []
    from bert4kexue.methods.knowledge_base import KnowledgeBase
    from bert4kexue.methods.knowledge_folder import check_orders
    from bert4kexue.methods.knowledge_qa import KnowledgeQA
    from bert4kexue.models import build_transformer_model

    check_orders(options.model, options.knowledge)
    tokenizer = load_tokenizer(options.model)
    knowledge = KnowledgeBase.load(options.knowledge, tokenizer)
    model = build_transformer_model(
        options.model, model=find_family(options), application="unilm", with_mlm="linear"
    )
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
        output, least = Path(options.output), options.abstain_below
        count = _answer_file(qa, questions, output, options.topk, least)
        print(f"{options.output}: {count:,} answers")
        return 0
    for question in options.question:
        print(question)
        candidates = qa.explain(question, options.topk)
        if options.abstain_below is not None:
            fit = float(qa.fit([question], [candidates[0].answer])[0])
            if fit < options.abstain_below:
                print(f"  no fact fits: {fit:.2f}")
                continue
        for candidate in candidates:
            answer = candidate.answer
            line = f"  {answer.name} | {answer.predicate} | {'；'.join(answer.objects)}"
            line += f"  {answer.score:.3f}"
            if options.explain:
                line += f"  (model alone {candidate.model_score:.3f}, gain {candidate.gain})"
            print(line)
    return 0


def run_eval(options: argparse.Namespace) -> int:
    """Print EM and F1 of S, P, O and all, and the score."""
    from bert4kexue.methods.kgclue import read_predictions, read_questions, scores

    gold = read_questions(options.questions)
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


def _texts(path: Path) -> list[tuple[int, str]]:
    """Ids and texts of labelled or plain questions."""
    from bert4kexue.methods.question_files import begins_labelled, read_questions

    text = path.read_text(encoding="utf-8-sig")
    if begins_labelled(text):
        return [(question.id, question.question) for question in read_questions(path)]
    texts = [line for line in text.splitlines() if line.strip()]
    if not texts:
        raise ValueError(f"{path} holds no question")
    return list(enumerate(texts))


def _answer_file(
    qa: Any,
    questions: list[tuple[int, str]],
    output: Path,
    topk: int,
    least: float | None,
) -> int:
    """Write an answer a line; go on where an earlier call was interrupted."""
    partial = output.with_name(output.name + ".partial")
    done = _answered(partial, questions)
    chunks = [questions[i : i + KEPT] for i in range(done, len(questions), KEPT)]
    with open(partial, "a", encoding="utf-8", newline="\n") as file:
        for chunk in progress(chunks, len(questions) - done, "answering", len):
            for line in _answer_lines(qa, chunk, topk, least):
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
    os.replace(partial, output)
    return len(questions)


def _answer_lines(
    qa: Any, chunk: list[tuple[int, str]], topk: int, least: float | None
) -> Iterator[str]:
    texts = [text for _, text in chunk]
    found = qa.answer_batch(texts, topk)
    fits = None if least is None else qa.fit(texts, [answers[0] for answers in found])
    for place, ((index, text), answers) in enumerate(zip(chunk, found, strict=True)):
        best = answers[0]
        row = {
            "id": index,
            "question": text,
            # The first object, as the benchmark has it; a tab in it would end a column.
            "answer": " ||| ".join((best.name, best.predicate, best.objects[0])),
            "score": round(best.score, 5),
        }
        if fits is not None:
            row["fit"] = round(float(fits[place]), 5)
            if fits[place] < least:
                row["answer"] = " |||  ||| "
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _answered(partial: Path, questions: Iterable[tuple[int, str]]) -> int:
    """How many of the questions an interrupted call has answered; a half-written line is cut."""
    if not partial.exists():
        return 0
    whole = partial.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    rows = [json.loads(line) for line in whole.decode("utf-8").splitlines()]
    for row, (index, text) in zip(rows, questions, strict=False):
        if (row["id"], row["question"]) != (index, text):
            raise ValueError(
                f"{partial} holds answers to other questions (id {row['id']}): remove it, or "
                "choose another --output"
            )
    with open(partial, "r+b") as file:
        file.truncate(len(whole))
    return len(rows)
