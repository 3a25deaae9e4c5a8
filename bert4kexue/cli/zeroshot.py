"""``bert4kexue zeroshot``: labels without training, by next-sentence prompts."""

from __future__ import annotations

import argparse
from typing import Any

from bert4kexue.cli import zeroshot_table
from bert4kexue.cli.models import add_model_options, find_family, given_texts, load_tokenizer
from bert4kexue.text.lines import read_lines

_EPILOG = """\
examples:
  bert4kexue zeroshot classify --model DIR --labels 体育,财经 --template 这是一则{}新闻 国足又输了
  bert4kexue zeroshot pair --model DIR --file pairs.tsv --labels 不同,相同
  bert4kexue zeroshot cloze --model DIR --candidates 画蛇添足,雪中送炭 他总是#idiom#，多此一举
  bert4kexue zeroshot wsc --model DIR --file wsc.tsv
  bert4kexue zeroshot eval --model DIR --task eprstmt fewclue/eprstmt/dev_few_all.json
  bert4kexue zeroshot table --model DIR --data fewclue    # the paper's Table 1, all nine tasks

The model needs its next-sentence head. - reads texts from standard input, one a line."""


def add(commands: Any) -> None:
    """Add the group."""
    group = commands.add_parser(
        "zeroshot",
        help="labels without training, by next-sentence prompts (NSP-BERT)",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_classify(actions)
    _add_pairs(actions, "pair", "a pair a line: first, second", run_pair)
    _add_cloze(actions)
    _add_pairs(actions, "wsc", "a line: text, pronoun, noun it may stand for", run_wsc)
    _add_eval(actions)
    zeroshot_table.add(actions, load_scored)


def _common(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    parser.add_argument("--maxlen", type=int, help="most tokens of a row (128)")


def _add_classify(actions: Any) -> None:
    parser = actions.add_parser("classify", help="the label whose prompt fits a text best")
    _common(parser)
    parser.add_argument("--labels", required=True, help="separated by commas")
    parser.add_argument(
        "--template", action="append", help="with {} for the label; several are averaged ({})"
    )
    parser.add_argument("--place", choices=("prefix", "suffix"), default="prefix")
    parser.add_argument("--priors", help="of the labels, separated by commas")
    parser.add_argument("--calibrate", action="store_true", help="by texts that say nothing")
    parser.add_argument("--abstain-below", type=float, default=0.0, help="probability (0)")
    parser.add_argument("text", nargs="+", help="a text; - reads standard input")
    parser.set_defaults(run=run_classify)


def _add_pairs(actions: Any, name: str, what: str, run: Any) -> None:
    parser = actions.add_parser(name, help=f"samples-contrast over a file, tab-separated; {what}")
    _common(parser)
    parser.add_argument("--file", required=True, help="UTF-8, tab-separated")
    parser.add_argument("--labels", default="0,1", help="from low score to high (0,1)")
    parser.add_argument("--priors", help="of the labels, separated by commas; equal if left out")
    parser.add_argument("--batch", type=int, help="compare within batches of so many; all")
    parser.set_defaults(run=run)


def _add_cloze(actions: Any) -> None:
    parser = actions.add_parser("cloze", help="the candidate that fits #idiom# best")
    _common(parser)
    parser.add_argument("--candidates", required=True, help="separated by commas")
    parser.add_argument("--place", choices=("prefix", "suffix"), default="prefix")
    parser.add_argument("text", nargs="+", help="with #idiom# once; - reads standard input")
    parser.set_defaults(run=run_cloze)


def _add_eval(actions: Any) -> None:
    parser = actions.add_parser("eval", help="accuracy on a FewCLUE file, beside the paper's")
    _common(parser)
    parser.add_argument("--task", required=True, help="eprstmt, tnews, csldcp, iflytek, ...")
    parser.add_argument("--template", type=int, default=-1, help="number of the prompt (-1: last)")
    parser.add_argument("--place", choices=("prefix", "suffix"), help="the task's own if left out")
    parser.add_argument("--calibrate", action="store_true", help="by texts that say nothing")
    parser.add_argument(
        "--prompts",
        choices=("nsp", "masked"),
        default="nsp",
        help="masked: words in a hole, by the masked-word head (nsp)",
    )
    parser.add_argument("file", help="JSON lines with labels, dev_few_all.json say")
    parser.set_defaults(run=run_eval)


def run_classify(options: argparse.Namespace) -> int:
    """Print label, probability and text."""
    labels, texts = _split(options.labels), given_texts(options.text)
    from bert4kexue.methods.nsp_prompt import PromptTemplate
    from bert4kexue.methods.zero_shot import ZeroShotClassifier

    templates = [
        PromptTemplate.of(pattern, labels, options.place) for pattern in options.template or ["{}"]
    ]
    classifier = ZeroShotClassifier(
        *_model(options),
        labels,
        templates,
        priors=_numbers(options.priors),
        abstain_below=options.abstain_below,
        maxlen=options.maxlen,
    )
    if options.calibrate:
        classifier.calibrate()
    probabilities = classifier.predict_proba(texts)
    for text, label, row in zip(
        texts, classifier.choose(probabilities), probabilities, strict=True
    ):
        print(f"{'-' if label is None else label}\t{row.max():.4f}\t{text}")
    return 0


def run_pair(options: argparse.Namespace) -> int:
    """Print label, score and pair."""
    return _contrast(options, [tuple(row) for row in _columns(options.file, 2)], "longer")


def run_wsc(options: argparse.Namespace) -> int:
    """Print label, score and the two segments: noun, then text with its cue."""
    from bert4kexue.methods.nsp_prompt import two_stage

    rows = _columns(options.file, 3)
    return _contrast(options, [(noun, two_stage(text, it)) for text, it, noun in rows], "second")


def _contrast(options: argparse.Namespace, pairs: list[Any], cut: Any) -> int:
    from bert4kexue.methods.nsp_prompt import NSPScorer
    from bert4kexue.methods.samples_contrast import SamplesContrast

    labels = _split(options.labels)
    contrast = SamplesContrast(len(labels), _numbers(options.priors))
    scores = NSPScorer(*_model(options), maxlen=options.maxlen).score(pairs, cut=cut)
    for number, score, pair in zip(
        contrast.predict(scores, options.batch), scores, pairs, strict=True
    ):
        print(f"{labels[number]}\t{score:.4f}\t" + "\t".join(pair))
    return 0


def run_cloze(options: argparse.Namespace) -> int:
    """Print the best candidate, its score and the text."""
    from bert4kexue.methods.nsp_prompt import NSPScorer
    from bert4kexue.methods.soft_positions import score_cloze

    texts, candidates = given_texts(options.text), _split(options.candidates)
    scorer = NSPScorer(*_model(options, custom_position_ids=True), maxlen=options.maxlen)
    found = score_cloze(scorer, texts, [candidates] * len(texts), options.place)
    for text, scores in zip(texts, found, strict=True):
        print(f"{candidates[scores.argmax()]}\t{scores.max():.4f}\t{text}")
    return 0


def run_eval(options: argparse.Namespace) -> int:
    """Print accuracy with its interval, the baselines, and the paper's figure."""
    from bert4kexue.methods.fewclue import find_task
    from bert4kexue.methods.fewclue_scores import accuracy, answer, majority, nearest_name

    task = find_task(options.task)
    samples = task.read(options.file)
    labels = [sample.label for sample in samples]
    model, tokenizer = load_scored(options, task.kind, options.prompts)
    found = answer(
        task,
        samples,
        model,
        tokenizer,
        template=options.template,
        place=options.place,
        maxlen=options.maxlen,
        calibrate=options.calibrate,
        prompts=options.prompts,
    )
    name = "NSP prompts" if options.prompts == "nsp" else "masked words"
    rows = [(name, accuracy(found, labels)), ("commonest label", majority(samples))]
    if task.names:
        near = nearest_name([sample.text for sample in samples], task.names)
        rows.append(("nearest label name, TF-IDF", accuracy(near, labels)))
    print(f"{task.name}, {len(samples)} rows")
    for name, score in rows:
        interval = f"{100 * score.low:.1f} to {100 * score.high:.1f}"
        print(f"{100 * score.value:6.2f}  {name} (95 %: {interval})")
    print(f"{task.published:6.2f}  NSP-BERT base, paper's Table 1 (test_public, UER's checkpoint)")
    return 0


def load_scored(
    options: argparse.Namespace, kind: str = "classify", prompts: str = "nsp"
) -> tuple[Any, Any]:
    """The model with the head that a kind of task needs, and its tokenizer."""
    return _model(options, prompts, **({"custom_position_ids": True} if kind == "cloze" else {}))


def _model(options: argparse.Namespace, prompts: str = "nsp", **more: Any) -> tuple[Any, Any]:
    from bert4kexue.checkpoints import CheckpointError
    from bert4kexue.models import build_transformer_model

    family = find_family(options)
    head: dict[str, Any] = {"with_nsp": True} if prompts == "nsp" else {"with_mlm": True}
    try:
        model = build_transformer_model(options.model, model=family, **head, **more)
    except CheckpointError as error:
        if "seq_relationship" not in str(error):
            raise
        raise ValueError(
            f"{options.model} has no next-sentence head (cls/seq_relationship), and a random one "
            "would give random labels: take a checkpoint that kept it, Google's or UER's BERT, "
            "pretrained/bert_tiny_nsp_zh"
        ) from None
    return model, load_tokenizer(options.model)


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def _numbers(words: str | None) -> list[float] | None:
    return None if words is None else [float(word) for word in words.split(",")]


def _columns(path: str, count: int) -> list[list[str]]:
    rows = [line.split("\t") for line in read_lines(path) if line.strip()]
    bad = [i for i, row in enumerate(rows, 1) if len(row) != count]
    if bad or not rows:
        raise ValueError(
            f"{path} needs {count} columns separated by tabs in every row"
            + (f"; row {bad[0]} has {len(rows[bad[0] - 1])}" if bad else ", it is empty")
        )
    return rows
