"""``bert4kexue pretrain run``: objectives, data and optimizer put together, and trained."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bert4kexue.cli.models import add_dtype
from bert4kexue.cli.progress import train_with_bar

_OBJECTIVES = """\
objectives, each NAME=SHARE, drawn step by step in these shares; NAME=FIRST:LAST changes its share
evenly over the run (scored=0:0.2 comes in later and later more often):
  masked    whole words of the records hidden (jieba's words)
  nsp, sop  a document's sentences, then what follows or not; in the right order or not (bert)
  written   {"source": ..., "target": ...} of --pairs, the target written left to right (UniLM);
            a target may be a list of texts, each ended by [SEP]
  contrast  {"a": ..., "b": ...} of --similar, or pieces of the records; where b is a, it is
            corrupted (tokens left out, parts swapped)
  scored    {"a": ..., "b": ..., "score": ...} of --scored (CoSENT)"""

_CORRUPT = 0.15  # share of the tokens that a sentence's corrupted copy lacks


def add(actions: Any) -> None:
    """Add the command."""
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
    parser.add_argument(
        "--multiple",
        type=int,
        default=16,
        help="widths of batches are multiples of it; each is compiled once (16)",
    )
    parser.add_argument("--packed", action="store_true", help="several documents in a row")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate (0.001)")
    parser.add_argument("--warmup", type=float, default=0.03, help="share of the steps (0.03)")
    parser.add_argument("--decay", choices=("linear", "cosine", "constant"), default="linear")
    parser.add_argument("--accumulate", type=int, default=1, help="batches to an update (1)")
    parser.add_argument("--ema", type=float, help="momentum of averaged weights, 0.999 say")
    parser.add_argument("--dropout", type=float, help="while training; the config's if left out")
    parser.add_argument("--policy", default="float32", help="float32, mixed_bfloat16, ...")
    parser.add_argument("--remat", action="store_true", help="compute activations twice, keep few")
    parser.add_argument("--devices", choices=("one", "all"), default="one", help="all: JAX only")
    parser.add_argument("--save-every", type=int, default=500, help="steps (500)")
    parser.add_argument("--log-every", type=int, default=50, help="steps (50)")
    parser.add_argument("--seed", type=int, default=1, help="of weights, batches, masks (1)")
    add_dtype(parser, "float16")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train until the steps are done."""
    shares = _shares(options.objective)
    _check(options, shares)
    keys = json.loads(Path(options.config).read_text(encoding="utf-8"))
    import keras

    from bert4kexue._files import atomic_write
    from bert4kexue.models.factory import check_vocabulary
    from bert4kexue.models.pretraining import build_pretrainer
    from bert4kexue.training.pretraining import WarmupDecay
    from bert4kexue.training.run import PretrainingRun, plot_losses

    check_vocabulary(
        options.vocab,
        keys.get("vocab_size"),
        options.config,
        "let vocab_size be the number of tokens, or give the vocabulary that the config is of",
    )
    devices = 1
    if options.devices == "all":
        if keras.backend.backend() != "jax":
            raise ValueError("--devices all needs KERAS_BACKEND=jax, which splits every batch")
        devices = len(keras.distribution.list_devices())
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.policy)
    masks = _masks(shares, options.packed)
    tasks, data = _tasks(options, shares)
    model, builder = build_pretrainer(
        keys,
        options.family,
        masks,
        with_nsp=bool({"nsp", "sop"} & shares.keys()),
        checkpoint=options.checkpoint,
        rematerialize=options.remat,
        **_dropout(options.dropout),
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
        ema_momentum=0.99 if options.ema is None else options.ema,
        **(accumulate if options.accumulate > 1 else {}),
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    model.compile(optimizer=optimizer)
    output = Path(options.output)

    def write(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        with atomic_write(folder / "vocab.txt") as file:
            file.write(Path(options.vocab).read_bytes())
        with atomic_write(folder / "bert_config.json", "w") as file:
            file.write(json.dumps(keys, indent=2, ensure_ascii=False) + "\n")
        builder.save_weights_as_checkpoint(folder / "bert_model.ckpt", dtype=options.dtype)

    names = ("length", "tokens", "multiple", "packed", "rate", "warmup", "decay", "accumulate")
    settings = {name: getattr(options, name) for name in (*names, "ema", "policy", "dropout")}
    settings |= {"config": keys, "shares": shares, "data": data, "family": options.family}
    training = PretrainingRun(
        output,
        model,
        tasks,
        steps=options.steps,
        seed=options.seed,
        write_checkpoint=write,
        log_every=options.log_every,
        save_every=options.save_every,
        devices=devices,
        settings=settings,
    )
    train_with_bar(training, _line)
    try:
        plot_losses(output / "loss.csv", output / "loss.png")
    except ImportError as error:
        print(error)
    print(f"{output / 'model'}: a checkpoint in the original layout")
    return 0


def _line(step: int, values: dict[str, float]) -> str:
    rate, *losses = values.items()
    told = "  ".join(f"{name} {value:.4f}" for name, value in losses)
    return f"{step:8d}  rate {rate[1]:.2e}  {told}"


def _dropout(rate: float | None) -> dict[str, Any]:
    if rate is None:
        return {}
    if not 0 <= rate < 1:
        raise ValueError(f"--dropout must be at least 0 and below 1, got {rate}")
    return {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}


Shares = dict[str, tuple[float, float]]  # by objective: at the beginning and at the end


def _check(options: argparse.Namespace, shares: Shares) -> None:
    """Refuse numbers that no run can be made of, before anything is read."""
    if options.accumulate < 1:
        raise ValueError(f"--accumulate must be 1 or more, got {options.accumulate}")
    paired = {"nsp", "sop"} & shares.keys()
    least, framed = (7, "three special tokens") if paired else (6, "[CLS] and [SEP]")
    if options.length < least:
        raise ValueError(
            f"--length must be {least} or more, four tokens and {framed}; got {options.length}"
        )


def _shares(objectives: list[str]) -> Shares:
    known = ("masked", "nsp", "sop", "written", "contrast", "scored")
    shares: Shares = {}
    for item in objectives:
        name, _, share = item.partition("=")
        if name not in known:
            raise ValueError(f"--objective {item}: the objectives are {', '.join(known)}")
        if name in shares:
            raise ValueError(f"--objective {item}: {name} is given twice; give it one share")
        first, _, last = (share or "1").partition(":")
        try:
            shares[name] = (float(first), float(last or first))
        except ValueError:
            raise ValueError(f"--objective {item}: the share must be a number") from None
        if min(shares[name]) < 0 or not all(map(math.isfinite, shares[name])):
            raise ValueError(
                f"--objective {item}: the share must be finite and must not be negative"
            )
    return shares


def _weight(shares: tuple[float, float]) -> Callable[[float], float]:
    first, last = shares
    return lambda progress: first + (last - first) * progress


def _masks(shares: Shares, packed: bool) -> list[str]:
    masks = ["unilm"] if "written" in shares else ["bidirectional"]
    if {"nsp", "sop"} & shares.keys() and "bidirectional" not in masks:
        masks.append("bidirectional")
    return [*masks, "packed"] if packed else masks


def _tasks(options: argparse.Namespace, shares: Shares) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tasks, and what tells their data again."""
    from bert4kexue.text.wordpiece import Tokenizer
    from bert4kexue.training import objectives
    from bert4kexue.training.corpora import read_rows
    from bert4kexue.training.plan import Plan
    from bert4kexue.training.records import Records, sha256
    from bert4kexue.training.run import Task
    from bert4kexue.training.special import Special

    data: dict[str, Any] = {}
    windows = None
    lower = True
    if options.records:
        records = Records(options.records, options.vocab)
        lower = records.summary["do_lower_case"]
        data["records"] = records.checksum()
        windows = objectives.Windows(records, options.length - 2)
    tokenizer = Tokenizer(options.vocab, do_lower_case=lower)
    special = Special.of(tokenizer)

    def running_text(name: str) -> objectives.Windows:
        if windows is None:
            raise ValueError(f"--objective {name} needs --records")
        return windows

    def rows_of(option: str, **fields: Any) -> list[dict[str, Any]]:
        path = getattr(options, option)
        if not path:
            raise ValueError(f"the objectives need --{option} FILE")
        rows = list(read_rows(Path(path), fields))
        data[option] = sha256(Path(path).read_bytes())
        return rows

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, maxlen=options.length)[0][1:-1]

    def target(parts: str | list[str]) -> list[int]:
        several = [parts] if isinstance(parts, str) else parts
        return [i for part in several for i in (*ids(part), special.end)]

    def objective(name: str) -> Any:
        if name == "masked":
            return objectives.MaskedWords(running_text(name), special, packed=options.packed)
        if name in ("nsp", "sop"):
            both = objectives.Windows(running_text(name).records, options.length - 3)
            wrong = "random" if name == "nsp" else "swapped"
            return objectives.SentencePairs(both, special, wrong)
        if name == "written":
            kept = rows_of("pairs", source=str, target=str | list)
            for number, row in enumerate(kept, 1):
                parts = row["target"]
                if parts == [] or not all(isinstance(part, str) for part in parts):
                    raise ValueError(
                        f"{options.pairs}, row {number}: the target must be text or a list of at "
                        f"least one text, got {parts!r}"
                    )
            rows = [(ids(row["source"]), target(row["target"])) for row in kept]
            return objectives.Continuations(rows, special)
        if name == "contrast" and options.similar is None:
            return objectives.SamePieces(running_text(name), special, _CORRUPT)
        if name == "contrast":
            kept = rows_of("similar", a=str, b=str)
        else:
            kept = rows_of("scored", a=str, b=str, score=int | float)
            for number, row in enumerate(kept, 1):
                if not math.isfinite(row["score"]):
                    raise ValueError(
                        f"{options.scored}, row {number}: the score must be a finite number, got "
                        f"{row['score']}"
                    )
        pairs = [(ids(row["a"]), ids(row["b"])) for row in kept]
        scores = None if name == "contrast" else [float(row["score"]) for row in kept]
        corrupt = _CORRUPT if scores is None else 0.0
        return objectives.AlikePairs(pairs, special, scores, corrupt)

    tasks = {}
    for place, (name, share) in enumerate(shares.items()):
        longest = 2 * options.length if name in ("contrast", "scored") else options.length
        plan = Plan(
            objective(name), options.tokens, longest, [options.seed, place], options.multiple
        )
        tasks[name] = Task(plan, _weight(share))
    return tasks, data
