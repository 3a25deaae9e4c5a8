"""``bert4kexue pretrain``: from text to a checkpoint of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bert4kexue.cli import pretrain_run

_EPILOG = """\
a model from nothing:
  bert4kexue pretrain vocab corpus.txt --output vocab.txt
  bert4kexue pretrain prepare corpus.txt more.jsonl --vocab vocab.txt --output records --workers 2
  bert4kexue pretrain run --records records --vocab vocab.txt --config bert_config.json \\
      --output run --steps 100000 --objective masked=1 --objective contrast=0.2
  bert4kexue pretrain evaluate held_out.txt --model run/model

Records made with --cased are evaluated with --cased.
A run that was interrupted, in whatever way, goes on when the same command is given again.
On several devices of one machine: KERAS_BACKEND=jax bert4kexue pretrain run ... --devices all"""


def add(commands: Any) -> None:
    """Add the group."""
    group = commands.add_parser(
        "pretrain",
        help="a vocabulary, records, a checkpoint: pretraining from text",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_vocab(actions)
    _add_prepare(actions)
    pretrain_run.add(actions)
    _add_evaluate(actions)


def _add_corpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", nargs="+", help=".txt, .jsonl or .parquet files")
    parser.add_argument(
        "--layout",
        choices=("line", "block"),
        default="line",
        help="of text: a document a line (line), or the lines between blank ones (block)",
    )
    parser.add_argument("--field", default="text", help="that holds the text in JSON or Parquet")
    parser.add_argument(
        "--longest-line",
        type=int,
        default=1_000_000,
        metavar="BYTES",
        help="a longer line, mostly a file without line ends, is refused (1000000)",
    )


def _corpus(options: argparse.Namespace) -> Any:
    from bert4kexue.training.corpora import Corpus

    paths = tuple(Path(path) for path in options.corpus)
    return Corpus(
        paths=paths,
        layout=options.layout,
        field=options.field,
        longest_line=options.longest_line,
    )


# --- vocab --------------------------------------------------------------------------------------


def _add_vocab(actions: Any) -> None:
    parser = actions.add_parser("vocab", help="characters, words and WordPieces of a corpus")
    _add_corpus(parser)
    parser.add_argument("--output", required=True, metavar="FILE", help="the vocab.txt to write")
    parser.add_argument("--size", type=int, default=13000, help="the most tokens (13000)")
    parser.add_argument("--merges", type=int, default=1500, help="WordPieces to make (1500)")
    parser.add_argument("--words", type=int, default=0, help="frequent words to add (0)")
    parser.add_argument("--min-count", type=int, default=1, help="rarest character kept (1)")
    parser.set_defaults(run=run_vocab)


def run_vocab(options: argparse.Namespace) -> int:
    """Write a vocabulary."""
    from bert4kexue.text.vocab import save_vocab
    from bert4kexue.training.vocabulary import make_vocabulary

    tokens = make_vocabulary(
        _corpus(options).documents(),
        options.size,
        options.merges,
        options.min_count,
        options.words,
    )
    save_vocab(options.output, {token: i for i, token in enumerate(tokens)})
    print(f"{options.output}: {len(tokens):,} tokens")
    return 0


# --- prepare ------------------------------------------------------------------------------------


def _add_prepare(actions: Any) -> None:
    parser = actions.add_parser("prepare", help="tokenize a corpus into sharded records")
    _add_corpus(parser)
    parser.add_argument("--vocab", required=True, metavar="FILE", help="vocab.txt")
    parser.add_argument("--output", required=True, metavar="DIR", help="the records' folder")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--characters", type=int, default=4_000_000, help="of a shard (4000000)")
    parser.add_argument("--cased", action="store_true", help="do not lower-case")
    parser.set_defaults(run=run_prepare)


def run_prepare(options: argparse.Namespace) -> int:
    """Write records; what an interrupted call has written is kept."""
    from bert4kexue.cli.progress import progress
    from bert4kexue.training.preparation import prepare

    corpus = _corpus(options)
    size = sum(path.stat().st_size for path in corpus.paths if path.is_file())
    # A Chinese character takes three bytes: about so many shards.
    shards = max(1, size // (3 * max(1, options.characters)))
    prepared = prepare(
        corpus,
        options.vocab,
        options.output,
        do_lower_case=not options.cased,
        characters=options.characters,
        workers=options.workers,
        progress=lambda numbers: progress(numbers, shards, "shards"),
    )
    print(
        f"{options.output}: {prepared.documents:,} documents, {prepared.tokens:,} tokens, "
        f"{prepared.shards} shards ({prepared.reused} were there already)"
    )
    return 0


# --- evaluate -----------------------------------------------------------------------------------


def _add_evaluate(actions: Any) -> None:
    parser = actions.add_parser("evaluate", help="accuracy on hidden words of held-out text")
    parser.add_argument("--model", required=True, metavar="NAME", help="a folder or a name")
    parser.add_argument("--family", metavar="NAME", help="told from the checkpoint when left out")
    parser.add_argument("--length", type=int, default=128, help="most tokens of a row (128)")
    parser.add_argument("--seed", type=int, default=0, help="of what is hidden (0)")
    parser.add_argument("--cased", action="store_true", help="do not lower-case, as in `prepare`")
    _add_corpus(parser)
    parser.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace) -> int:
    """Print accuracy and loss beside always guessing the commonest token."""
    import tempfile

    from bert4kexue.checkpoints.places import checkpoint_folder
    from bert4kexue.models import build_transformer_model
    from bert4kexue.models.pretraining import masked_accuracy
    from bert4kexue.training.preparation import prepare
    from bert4kexue.training.records import Records

    model = build_transformer_model(options.model, model=options.family, with_mlm="linear")
    with tempfile.TemporaryDirectory() as folder, checkpoint_folder(options.model) as found:
        vocabulary = found / "vocab.txt"
        prepare(_corpus(options), vocabulary, folder, do_lower_case=not options.cased)
        score = masked_accuracy(model, Records(folder), vocabulary, options.length, options.seed)
        print(
            f"masked words: accuracy {score.accuracy:.4f} of {score.asked:,}, "
            f"cross-entropy {score.loss:.4f}; the commonest token {score.commonest:.4f}"
        )
    return 0
