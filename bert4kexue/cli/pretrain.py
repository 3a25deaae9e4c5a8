"""``bert4kexue pretrain``: from text to a checkpoint of one's own."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_EPILOG = """\
a model from nothing:
  bert4kexue pretrain vocab corpus.txt --output vocab.txt
  bert4kexue pretrain prepare corpus.txt more.jsonl --vocab vocab.txt --output records --workers 2
  bert4kexue pretrain run --records records --vocab vocab.txt --config bert_config.json \\
      --output run --steps 100000 --objective masked=1 --objective contrast=0.2
  bert4kexue pretrain evaluate held_out.txt --model run/model

A run that was interrupted, in whatever way, goes on when the same command is given again.
On several devices of one machine: KERAS_BACKEND=jax bert4kexue pretrain run ... --devices all"""

_OBJECTIVES = """\
objectives, each NAME=SHARE, drawn step by step in these shares:
  masked    whole words of the records hidden (jieba's words)
  nsp, sop  two pieces of a document or not; in the right order or not (bert)
  written   {"source": ..., "target": ...} of --pairs, the target written left to right (UniLM);
            a target may be a list of texts, each ended by [SEP]
  contrast  {"a": ..., "b": ...} of --similar, or pieces of the records and their corruptions
  scored    {"a": ..., "b": ..., "score": ...} of --scored (CoSENT)"""


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
    _add_run(actions)
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


def _corpus(options: argparse.Namespace) -> Any:
    from bert4kexue.training.corpora import Corpus

    paths = tuple(Path(path) for path in options.corpus)
    return Corpus(paths=paths, layout=options.layout, field=options.field)


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
    shards = max(1, size // (3 * options.characters))
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


# --- run ----------------------------------------------------------------------------------------


def _add_run(actions: Any) -> None:
    parser = actions.add_parser(
        "run",
        help="train, from nothing or from a checkpoint",
        epilog=_OBJECTIVES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--records", metavar="DIR", help="what `prepare` wrote")
    parser.add_argument("--vocab", required=True, metavar="FILE", help="vocab.txt")
    parser.add_argument("--config", required=True, metavar="FILE", help="bert_config.json")
    parser.add_argument("--family", default="roformer", help="bert or roformer (roformer)")
    parser.add_argument("--checkpoint", metavar="PREFIX", help="to go on from")
    parser.add_argument("--output", required=True, metavar="DIR", help="state, logs, model")
    parser.add_argument("--steps", type=int, required=True, help="of the whole run")
    parser.add_argument(
        "--objective", action="append", required=True, metavar="NAME=SHARE", help="see below"
    )
    parser.add_argument("--pairs", metavar="FILE", help="JSON lines of source and target")
    parser.add_argument("--similar", metavar="FILE", help="JSON lines of a and b")
    parser.add_argument("--scored", metavar="FILE", help="JSON lines of a, b and score")
    parser.add_argument("--length", type=int, default=128, help="most tokens of a row (128)")
    parser.add_argument("--tokens", type=int, default=4096, help="of a batch (4096)")
    parser.add_argument("--packed", action="store_true", help="several documents in a row")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate (0.001)")
    parser.add_argument("--warmup", type=float, default=0.03, help="share of the steps (0.03)")
    parser.add_argument("--decay", choices=("linear", "cosine", "constant"), default="linear")
    parser.add_argument("--accumulate", type=int, default=1, help="batches to an update (1)")
    parser.add_argument("--ema", type=float, help="momentum of averaged weights, 0.999 say")
    parser.add_argument("--policy", default="float32", help="float32, mixed_bfloat16, ...")
    parser.add_argument("--remat", action="store_true", help="compute activations twice, keep few")
    parser.add_argument("--devices", choices=("one", "all"), default="one", help="all: JAX only")
    parser.add_argument("--save-every", type=int, default=500, help="steps (500)")
    parser.add_argument("--log-every", type=int, default=50, help="steps (50)")
    parser.add_argument("--seed", type=int, default=1, help="of weights, batches, masks (1)")
    parser.add_argument("--dtype", default="float16", help="of the written checkpoint (float16)")
    parser.set_defaults(run=run_run)


def run_run(options: argparse.Namespace) -> int:
    """Train until the steps are done."""
    shares = _shares(options.objective)
    keys = json.loads(Path(options.config).read_text(encoding="utf-8"))
    import keras

    from bert4kexue.models.pretraining import build_pretrainer
    from bert4kexue.training.pretraining import WarmupDecay
    from bert4kexue.training.run import PretrainingRun, plot_losses

    if options.devices == "all":
        if keras.backend.backend() != "jax":
            raise ValueError("--devices all needs KERAS_BACKEND=jax, which splits every batch")
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.policy)
    masks = _masks(shares, options.packed)
    tasks, data = _tasks(options, shares)
    scope = keras.RematScope(mode="full") if options.remat else keras.name_scope("pretraining")
    with scope:
        model, builder = build_pretrainer(
            keys,
            options.family,
            masks,
            with_nsp=bool({"nsp", "sop"} & shares.keys()),
            checkpoint=options.checkpoint,
        )
    accumulate = {"gradient_accumulation_steps": options.accumulate}
    optimizer = keras.optimizers.AdamW(
        WarmupDecay(
            options.rate, options.steps, int(options.warmup * options.steps), options.decay
        ),
        weight_decay=0.01,
        beta_2=0.98,
        global_clipnorm=1.0,
        use_ema=options.ema is not None,
        ema_momentum=options.ema or 0.99,
        **(accumulate if options.accumulate > 1 else {}),
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    model.compile(optimizer=optimizer)
    output = Path(options.output)

    def write(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "vocab.txt").write_bytes(Path(options.vocab).read_bytes())
        text = json.dumps(keys, indent=2, ensure_ascii=False) + "\n"
        (folder / "bert_config.json").write_text(text, encoding="utf-8", newline="\n")
        builder.save_weights_as_checkpoint(folder / "bert_model.ckpt", dtype=options.dtype)

    names = ("length", "tokens", "packed", "rate", "warmup", "decay", "accumulate", "ema", "policy")
    settings = {name: getattr(options, name) for name in names}
    settings |= {"config": keys, "shares": shares, "data": data, "family": options.family}
    run = PretrainingRun(
        output,
        model,
        tasks,
        steps=options.steps,
        seed=options.seed,
        write_checkpoint=write,
        log_every=options.log_every,
        save_every=options.save_every,
        settings=settings,
    )
    run.train(_report)
    try:
        plot_losses(output / "loss.csv", output / "loss.png")
    except ImportError as error:
        print(error)
    print(f"{output / 'model'}: a checkpoint in the original layout")
    return 0


def _report(step: int, values: dict[str, float]) -> None:
    rate, *losses = values.items()
    told = "  ".join(f"{name} {value:.4f}" for name, value in losses)
    print(f"{step:8d}  rate {rate[1]:.2e}  {told}", flush=True)


def _shares(objectives: list[str]) -> dict[str, float]:
    known = ("masked", "nsp", "sop", "written", "contrast", "scored")
    shares = {}
    for item in objectives:
        name, _, share = item.partition("=")
        if name not in known:
            raise ValueError(f"--objective {item}: the objectives are {', '.join(known)}")
        try:
            shares[name] = float(share or 1)
        except ValueError:
            raise ValueError(f"--objective {item}: the share must be a number") from None
    return shares


def _masks(shares: dict[str, float], packed: bool) -> list[str]:
    masks = ["unilm"] if "written" in shares else ["bidirectional"]
    if {"nsp", "sop"} & shares.keys() and "bidirectional" not in masks:
        masks.append("bidirectional")
    return [*masks, "packed"] if packed else masks


def _tasks(
    options: argparse.Namespace, shares: dict[str, float]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tasks, and what tells their data again."""
    from bert4kexue.text.wordpiece import Tokenizer
    from bert4kexue.training import objectives
    from bert4kexue.training.plan import Plan
    from bert4kexue.training.records import ID_MASK, Records, sha256
    from bert4kexue.training.run import Task

    data: dict[str, Any] = {}
    windows = None
    lower = True
    if options.records:
        records = Records(options.records, options.vocab)
        lower = records.summary["do_lower_case"]
        data["records"] = records.checksum()
        windows = objectives.Windows(records, options.length - 2)
    tokenizer = Tokenizer(options.vocab, do_lower_case=lower)
    special = objectives.Special(
        tokenizer._token_start_id,
        tokenizer._token_end_id,
        tokenizer._token_mask_id,
        tokenizer._vocab_size,
    )

    def running_text(name: str) -> objectives.Windows:
        if windows is None:
            raise ValueError(f"--objective {name} needs --records")
        return windows

    def rows_of(option: str) -> Iterator[dict[str, Any]]:
        path = getattr(options, option)
        if not path:
            raise ValueError(f"the objectives need --{option} FILE")
        content = Path(path).read_bytes()
        data[option] = sha256(content)
        for number, line in enumerate(content.decode("utf-8").splitlines(), 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number} is no JSON ({error.msg})") from None

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, maxlen=options.length)[0][1:-1]

    def target(parts: str | list[str]) -> list[int]:
        several = [parts] if isinstance(parts, str) else parts
        return [i for part in several for i in (*ids(part), special.end)]

    def objective(name: str) -> Any:
        if name == "masked":
            return objectives.MaskedWords(running_text(name), special, packed=options.packed)
        if name in ("nsp", "sop"):
            half = objectives.Windows(running_text(name).records, (options.length - 3) // 2)
            wrong = "random" if name == "nsp" else "swapped"
            return objectives.SentencePairs(half, special, wrong)
        if name == "written":
            rows = [(ids(row["source"]), target(row["target"])) for row in rows_of("pairs")]
            return objectives.Continuations(rows, special)
        if name == "contrast" and options.similar is None:
            pieces = running_text(name)
            same = [(pieces[i] & ID_MASK).tolist() for i in range(len(pieces))]
            return objectives.AlikePairs([(x, x) for x in same], special, corrupt=0.15)
        kept = list(rows_of("similar" if name == "contrast" else "scored"))
        pairs = [(ids(row["a"]), ids(row["b"])) for row in kept]
        scores = None if name == "contrast" else [float(row["score"]) for row in kept]
        return objectives.AlikePairs(pairs, special, scores)

    tasks = {}
    for place, (name, share) in enumerate(shares.items()):
        longest = 2 * options.length if name in ("contrast", "scored") else options.length
        plan = Plan(objective(name), options.tokens, longest, [options.seed, place])
        tasks[name] = Task(plan, share)
    return tasks, data


# --- evaluate -----------------------------------------------------------------------------------


def _add_evaluate(actions: Any) -> None:
    parser = actions.add_parser("evaluate", help="accuracy on hidden words of held-out text")
    parser.add_argument("--model", required=True, metavar="NAME", help="a folder or a name")
    parser.add_argument("--family", metavar="NAME", help="told from the checkpoint when left out")
    parser.add_argument("--length", type=int, default=128, help="most tokens of a row (128)")
    parser.add_argument("--seed", type=int, default=0, help="of what is hidden (0)")
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
        prepare(_corpus(options), vocabulary, folder)
        score = masked_accuracy(model, Records(folder), vocabulary, options.length, options.seed)
        print(
            f"masked words: accuracy {score.accuracy:.4f} of {score.asked:,}, "
            f"cross-entropy {score.loss:.4f}; the commonest token {score.commonest:.4f}"
        )
    return 0
