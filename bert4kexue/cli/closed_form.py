"""``bert4kexue closed-form``: a classifier on a checkpoint's vectors, without training."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator
from typing import Any

from bert4kexue.cli.models import add_model_options, find_family, load_tokenizer
from bert4kexue.text.lines import read_lines

_EPILOG = """\
A text file is UTF-8 with one row a line: the text, a tab, its label (predict needs no label).
An .npz file holds features x (n, d) and, for fit and eval, labels y (n,).

examples:
  bert4kexue closed-form fit --model pretrained/roformer_tiny_zh --texts train.tsv --output h.npz
  bert4kexue closed-form predict --head h.npz --model pretrained/roformer_tiny_zh --texts new.txt
  bert4kexue closed-form eval --head h.npz --features dev.npz
  bert4kexue closed-form merge part1.npz part2.npz --output h.npz"""


def add(commands: Any) -> None:
    """Add the group."""
    group = commands.add_parser(
        "closed-form",
        help="a classifier on sentence vectors, in closed form",
        description="Classifies by class means and one covariance (kexue.fm/archives/8578).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def action(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(run=run)
        return parser

    fit = action("fit", run_fit, "fit a head in one pass over labelled rows")
    fit.add_argument("--output", required=True, metavar="NPZ", help="the head to write")
    fit.add_argument(
        "--shrinkage",
        default="auto",
        help="of the covariance: a number from 0 to 1, auto, ledoit-wolf or loo (auto)",
    )
    fit.add_argument("--uniform", action="store_true", help="equal priors, not frequencies")
    fit.add_argument("--loo", action="store_true", help="print the leave-one-out error too")
    _add_rows(fit)
    predict = action("predict", run_predict, "print label, probability and text of each row")
    evaluate = action("eval", run_eval, "print accuracy and log-loss on labelled rows")
    for parser in (predict, evaluate):
        parser.add_argument("--head", required=True, metavar="NPZ", help="what fit wrote")
        _add_rows(parser)
    merge = action("merge", run_merge, "add up the heads that workers fitted on parts of the rows")
    merge.add_argument("heads", nargs="+", metavar="NPZ", help="what fit wrote")
    merge.add_argument("--output", required=True, metavar="NPZ", help="the head to write")


def _add_rows(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--texts", metavar="FILE", help="text, tab, label; needs --model")
    source.add_argument("--features", metavar="NPZ", help="x (n, d) and y (n,)")
    add_model_options(parser, required=False)
    parser.add_argument("--batch-size", type=int, default=32, help="sentences run together (32)")
    parser.add_argument("--maxlen", type=int, default=128, help="most tokens of a sentence (128)")


def run_fit(options: argparse.Namespace) -> int:
    """Fit, write, and say what was found."""
    import numpy as np

    from bert4kexue.analysis import ClosedFormSoftmax, save_closed_form

    shrinkage = _shrinkage(options.shrinkage)
    model = ClosedFormSoftmax(shrinkage, "uniform" if options.uniform else None)
    texts, labels = _labelled(options)
    if options.loo or shrinkage in ("loo", "ledoit-wolf"):
        rows = np.concatenate([x for _, x in _chunks(options, texts)])
        model.fit(rows, labels)
    else:
        classes = np.unique(labels)
        for place, x in _chunks(options, texts):
            model.partial_fit(x, labels[place : place + len(x)], classes)
    save_closed_form(model, options.output)
    k, d = model.coef_.shape
    print(f"{options.output}: {len(labels)} rows, {d} features, {k} classes")
    print(f"shrinkage {model.shrinkage_:.4g}")
    if options.loo:
        model.set_params(shrinkage=model.shrinkage_)
        found = model.leave_one_out(rows, labels)
        print(f"leave-one-out accuracy {1 - found.error:.4f}, log-loss {found.log_loss:.4f}")
    return 0


def run_predict(options: argparse.Namespace) -> int:
    """Print a line for each row."""
    from bert4kexue.analysis import load_closed_form

    model = load_closed_form(options.head)
    texts = _lines(options.texts) if options.texts else None
    if texts is not None:
        texts = [line.split("\t")[0] for line in texts]
    for place, x in _chunks(options, texts):
        proba = model.predict_proba(x)
        for row, p in enumerate(proba, place):
            text = texts[row] if texts is not None else str(row)
            print(f"{model.classes_[p.argmax()]}\t{p.max():.4f}\t{text}")
    return 0


def run_eval(options: argparse.Namespace) -> int:
    """Print scores beside the commonest label's."""
    import numpy as np

    from bert4kexue.analysis import load_closed_form

    model = load_closed_form(options.head)
    texts, labels = _labelled(options)
    labels = labels.astype(model.classes_.dtype)
    unknown = ~np.isin(labels, model.classes_)
    if unknown.any():
        raise ValueError(
            f"the head knows no label {labels[unknown][0]!r}: its labels are "
            f"{model.classes_.tolist()[:20]}"
        )
    logs = np.concatenate([model.predict_log_proba(x) for _, x in _chunks(options, texts)])
    truth = np.searchsorted(model.classes_, labels)
    commonest = np.unique(truth, return_counts=True)[1].max() / len(truth)
    print(f"rows {len(truth)}")
    print(f"accuracy {(logs.argmax(1) == truth).mean():.4f} (commonest label {commonest:.4f})")
    print(f"log-loss {-logs[np.arange(len(truth)), truth].mean():.4f}")
    return 0


def run_merge(options: argparse.Namespace) -> int:
    """Add up the statistics."""
    from bert4kexue.analysis import ClosedFormSoftmax, load_closed_form, save_closed_form

    model = functools.reduce(ClosedFormSoftmax.merge, map(load_closed_form, options.heads))
    save_closed_form(model, options.output)
    print(f"{options.output}: {model.statistics_.rows} rows of {len(options.heads)} parts")
    return 0


def _shrinkage(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _lines(path: str) -> list[str]:
    lines = [line for line in read_lines(path) if line.strip()]
    if not lines:
        raise ValueError(f"{path} holds no row: it needs one a line")
    return lines


def _labelled(options: argparse.Namespace) -> tuple[list[str] | None, Any]:
    """(texts, labels), the texts None where features are given."""
    import numpy as np

    if options.features:
        return None, _array(options.features, "y")
    texts, labels = [], []
    for number, line in enumerate(_lines(options.texts), 1):
        text, tab, label = line.rpartition("\t")
        if not tab:
            raise ValueError(f"{options.texts}: row {number} has no tab before its label: {line!r}")
        texts.append(text)
        labels.append(label.strip())
    return texts, np.array(labels)


def _array(path: str, name: str) -> Any:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        if name not in archive:
            raise ValueError(f"{path} holds {archive.files}, not {name!r}: name it so")
        return archive[name]


def _chunks(options: argparse.Namespace, texts: list[str] | None) -> Iterator[tuple[int, Any]]:
    """(number of the first row, features) of rows that fit in memory together."""
    if texts is None:
        yield 0, _array(options.features, "x")
        return
    if not options.model:
        raise ValueError("--texts needs --model DIR, the checkpoint that makes vectors of them")
    family = find_family(options)
    from bert4kexue.methods.sentence_encoder import SentenceEncoder
    from bert4kexue.models import build_transformer_model

    model = build_transformer_model(options.model, model=family, with_pool="linear")
    tokenizer = load_tokenizer(options.model)
    encoder = SentenceEncoder(model, tokenizer, maxlen=options.maxlen, long="cut")
    for start in range(0, len(texts), 4096):
        part = texts[start : start + 4096]
        yield start, encoder.encode(part, options.batch_size)
