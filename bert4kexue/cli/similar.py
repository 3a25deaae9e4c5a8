"""``bert4kexue similar``: sentences near a sentence."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bert4kexue.cli.models import add_model_options, find_family, load_tokenizer

_EPILOG = """\
examples:
  bert4kexue similar search --model pretrained/roformer_tiny_zh --corpus lines.txt 怎么开机
  cat questions.txt | bert4kexue similar search --model DIR --corpus lines.txt --topk 3 -

The output has one line a neighbour: query, rank, cosine, sentence, separated by tabs."""


def add(commands: Any) -> None:
    """Add the group."""
    group = commands.add_parser("similar", help="sentence similarity: search a file of sentences")
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parser = actions.add_parser(
        "search",
        help="the sentences of a file that are nearest to a query",
        description="Encodes a file of sentences and finds the nearest to each query by cosine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    parser.add_argument("--corpus", required=True, metavar="FILE", help="UTF-8, a sentence a line")
    parser.add_argument("--topk", type=int, default=5, help="neighbours of each query (5)")
    parser.add_argument("--batch-size", type=int, default=32, help="sentences run together (32)")
    parser.add_argument("--maxlen", type=int, default=128, help="most tokens of a sentence (128)")
    parser.add_argument(
        "query", nargs="+", help="a sentence; - reads sentences from standard input"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print every query's neighbours."""
    corpus = _sentences(Path(options.corpus).read_text(encoding="utf-8"))
    if not corpus:
        raise ValueError(f"{options.corpus} holds no sentence: it needs one a line")
    queries = [
        sentence
        for query in options.query
        for sentence in (_sentences(sys.stdin.read()) if query == "-" else [query])
    ]
    family = find_family(options)
    from bert4kexue.methods.similarity import encode, nearest
    from bert4kexue.models import build_transformer_model

    model = build_transformer_model(options.model, model=family, with_pool="linear")
    tokenizer = load_tokenizer(options.model)
    asked, known = (
        encode(model, tokenizer, texts, options.batch_size, options.maxlen)
        for texts in (queries, corpus)
    )
    found, cosines = nearest(asked, known, options.topk)
    for query, rows, scores in zip(queries, found, cosines, strict=True):
        for rank, (row, score) in enumerate(zip(rows, scores, strict=True), 1):
            print(f"{query}\t{rank}\t{score:.4f}\t{corpus[row]}")
    return 0


def _sentences(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
