"""``bert4kexue similar train | distill | finetune``: the three generations of training."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bert4kexue.cli.models import add_dtype, add_model_options, find_family, load_tokenizer
from bert4kexue.cli.progress import train_with_bar

_EPILOG = """\
Give the same command again after an interruption: it goes on from the last save. The output folder
holds state.npz, loss.csv, tensorboard/ and model/, which any other command takes as --model."""
_PAIRS = (
    "pairs that mean the same: first TAB second, or JSON lines of text_a and text_b, query and "
    "title, a and b, or text and synonyms; may be given several times"
)


def add(actions: Any) -> None:
    """Add the three commands."""
    parser = _command(
        actions, "train", "stage 1: paraphrases written, and found in the batch (SimBERT)", train
    )
    parser.add_argument("--pairs", action="append", metavar="FILE", help=_PAIRS)
    parser.add_argument(
        "--sentences", action="append", metavar="FILE", help="SimCSE on a sentence a line"
    )
    parser.add_argument(
        "--scored", action="append", metavar="FILE", help="CoSENT on first TAB second TAB score"
    )
    parser.add_argument("--scale", type=float, default=20.0, help="of cosines (20; SimBERT: 30)")
    _add_corruption(parser)

    parser = _command(
        actions, "distill", "stage 2: another model's cosines in the contrast's place", distill
    )
    parser.add_argument("--pairs", action="append", required=True, metavar="FILE", help=_PAIRS)
    parser.add_argument(
        "--teacher", required=True, metavar="NAME", help="a model that gives sentence vectors"
    )
    parser.add_argument("--weight", type=float, default=100.0, help="of the cosines' loss (100)")
    _add_corruption(parser)

    parser = _command(
        actions, "finetune", "labelled pairs: Sentence-BERT with two and three classes", finetune
    )
    parser.add_argument(
        "--scored",
        action="append",
        default=[],
        metavar="FILE[:T]",
        help="first TAB second TAB score; similar above the threshold T (0.5; STS-B: 2.5)",
    )
    parser.add_argument(
        "--nli",
        action="append",
        default=[],
        metavar="FILE",
        help="JSON lines of sentence1, sentence2, label or gold_label",
    )
    parser.add_argument(
        "--loss",
        choices=("classes", "cosine", "cosine_opposite", "cosine_margin"),
        default="classes",
        help="the classifier, or one of three losses of the cosine",
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="pass over rows without three columns"
    )


def _command(actions: Any, name: str, what: str, run: Any) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name, help=what, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model_options(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="state, logs, model")
    parser.add_argument("--steps", type=int, required=True, help="of the whole run")
    parser.add_argument("--side", type=int, default=64, help="most tokens of a sentence (64)")
    parser.add_argument("--tokens", type=int, default=4096, help="of a batch, both rows (4096)")
    parser.add_argument("--rate", type=float, default=1e-4, help="peak learning rate (0.0001)")
    parser.add_argument("--warmup", type=float, default=0.05, help="share of the steps (0.05)")
    parser.add_argument("--decay", choices=("linear", "cosine", "constant"), default="linear")
    parser.add_argument("--dropout", type=float, default=0.2, help="while training (0.2)")
    parser.add_argument("--policy", default="float32", help="float32, mixed_bfloat16, ...")
    parser.add_argument("--save-every", type=int, default=200, help="steps (200)")
    parser.add_argument("--log-every", type=int, default=20, help="steps (20)")
    parser.add_argument("--seed", type=int, default=1, help="of batches, dropout, corruption (1)")
    add_dtype(parser, "float32")
    parser.set_defaults(run=run)
    return parser


def _add_corruption(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--corrupted", type=float, default=0.5, help="share of the sources corrupted (0.5)"
    )
    parser.add_argument("--word-rate", type=float, default=0.15, help="of their words (0.15)")


def train(options: argparse.Namespace) -> int:
    """Stage 1, SimCSE and CoSENT, whichever have files."""
    from bert4kexue.methods import similarity_data as data
    from bert4kexue.methods.similarity_rows import ParaphraseRows, same_sentences
    from bert4kexue.training.objectives import AlikePairs
    from bert4kexue.training.records import ID_MASK

    given = {"pairs": options.pairs, "sentences": options.sentences, "scored": options.scored}
    if not any(given.values()):
        raise ValueError("nothing to train on: give --pairs, --sentences or --scored")
    pairs = _all(data.read_alike, options.pairs)
    alone = _all(data.read_sentences, options.sentences)
    scored = _all(data.read_scored, options.scored)
    run = _Run(options, [x for row in (*pairs, *scored) for x in row[:2]] + alone)
    objectives: dict[str, Any] = {}
    if pairs:
        objectives["paraphrases"] = ParaphraseRows(pairs, run.sentences, run.special, **run.rows)
    if alone:
        objectives["simcse"] = same_sentences(
            run.some(alone), run.special, dropout=options.dropout, side=options.side
        )
    if scored:
        ids = [
            [(run.sentences.tokens[run.sentences.number(x)] & ID_MASK).tolist() for x in row[:2]]
            for row in scored
        ]
        rows = [(a[: options.side - 2], b[: options.side - 2]) for a, b in ids]
        objectives["cosent"] = AlikePairs(rows, run.special, [row.score for row in scored])
    return run.train(objectives, {"scale": options.scale}, given)


def distill(options: argparse.Namespace) -> int:
    """Stage 2."""
    from bert4kexue.methods import similarity_data as data
    from bert4kexue.methods.sentence_encoder import SentenceEncoder
    from bert4kexue.methods.similarity_rows import ParaphraseRows, TeacherVectors

    pairs = _all(data.read_alike, options.pairs)
    run = _Run(options, [x for pair in pairs for x in pair])
    texts = list(run.sentences.numbers)
    print(f"the teacher reads {len(texts)} sentences", flush=True)
    family = find_family(argparse.Namespace(model=options.teacher, family=None))
    teacher = SentenceEncoder.load(options.teacher, family=family, maxlen=options.side, long="cut")
    vectors = teacher.encode(texts, show_progress=True)
    rows = ParaphraseRows(
        pairs,
        run.sentences,
        run.special,
        teacher=TeacherVectors(texts, vectors),
        **run.rows,
    )
    given = {"pairs": options.pairs, "teacher": [options.teacher]}
    return run.train({"distilled": rows}, {"distillation_weight": options.weight}, given)


def finetune(options: argparse.Namespace) -> int:
    """Labelled pairs of one or two kinds, in equal shares."""
    from bert4kexue.methods import similarity_data as data
    from bert4kexue.methods.similarity_rows import LabelledPairs

    if not options.scored and not options.nli:
        raise ValueError("nothing to train on: give --scored or --nli")
    rows: dict[str, list[tuple[str, str, int]]] = {"similar": [], "inference": []}
    for item in options.scored:
        path, threshold = _threshold(item)
        found = data.read_scored(path, skip_bad=options.skip_bad)
        rows["similar"] += [(r.first, r.second, int(r.score > threshold)) for r in found]
    for path in options.nli:
        rows["inference"] += data.read_inference(path)
    run = _Run(options, [x for part in rows.values() for row in part for x in row[:2]])
    objectives = {
        name: LabelledPairs(
            [row[:2] for row in part],
            [row[2] for row in part],
            run.sentences,
            run.special,
            options.side,
        )
        for name, part in rows.items()
        if part
    }
    files = [_threshold(item)[0] for item in options.scored]
    given = {"scored": files, "nli": options.nli, "thresholds": options.scored}
    return run.train(objectives, {"pair_loss": options.loss}, given)


def _threshold(item: str) -> tuple[str, float]:
    """`FILE[:T]`."""
    path, colon, number = item.rpartition(":")
    try:
        return (path, float(number)) if colon and path else (item, 0.5)
    except ValueError:
        return item, 0.5


def _all(read: Callable[[str], Sequence[Any]], paths: Sequence[str] | None) -> list[Any]:
    return [row for path in paths or () for row in read(path)]


class _Run:
    """What the commands share: sentences tokenized, a trainer, a run that resumes."""

    def __init__(self, options: argparse.Namespace, texts: list[str]) -> None:
        from bert4kexue.checkpoints.places import checkpoint_folder
        from bert4kexue.methods.similarity_rows import Sentences
        from bert4kexue.methods.word_corruption import tokens_by_word
        from bert4kexue.models.factory import check_vocabulary
        from bert4kexue.text.segment import word_segmenter
        from bert4kexue.training.special import Special

        self.options, self.begun = options, time.monotonic()
        self.family = find_family(options)
        self.tokenizer = tokenizer = load_tokenizer(options.model)
        with checkpoint_folder(options.model) as folder:
            self.config = json.loads((folder / "bert_config.json").read_text(encoding="utf-8"))
            self.vocabulary = (folder / "vocab.txt").read_bytes()
            check_vocabulary(folder / "vocab.txt", self.config.get("vocab_size"))
        self.special = Special.of(tokenizer)
        unique = list(dict.fromkeys(texts))
        self._tokens = tokens_by_word(tokenizer, word_segmenter(), unique, options.side - 2)
        self.sentences = Sentences(unique, self._tokens)
        self.rows = {
            "corrupted": getattr(options, "corrupted", 0.0),
            "rate": getattr(options, "word_rate", 0.15),
            "side": options.side,
        }

    def some(self, texts: Sequence[str]) -> Any:
        """These sentences alone."""
        from bert4kexue.methods.similarity_rows import Sentences

        tokens = [self.sentences.tokens[self.sentences.number(text)] for text in texts]
        return Sentences(texts, tokens)

    def train(
        self, objectives: Mapping[str, Any], arguments: Mapping[str, Any], given: Mapping[str, Any]
    ) -> int:
        """Build, resume, train, save."""
        import keras

        from bert4kexue.checkpoints.places import checkpoint_folder
        from bert4kexue.methods.roformer_sim import build_similarity_trainer
        from bert4kexue.training.plan import Plan
        from bert4kexue.training.pretraining import WarmupDecay
        from bert4kexue.training.run import PretrainingRun, Task

        options = self.options
        keras.utils.set_random_seed(options.seed)
        keras.config.set_dtype_policy(options.policy)
        tasks = {
            name: Task(Plan(rows, options.tokens, 4 * options.side, [options.seed, place]), 1.0)
            for place, (name, rows) in enumerate(objectives.items())
        }
        with checkpoint_folder(options.model) as folder:
            trainer, builder = build_similarity_trainer(
                self.config,
                self.family,
                checkpoint=folder / "bert_model.ckpt",
                dropout=options.dropout,
                **arguments,
            )
        rate = WarmupDecay(
            options.rate, options.steps, int(options.warmup * options.steps), options.decay
        )
        optimizer = keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0)
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
        # Batches have many shapes, each of which XLA would compile for some seconds; JAX has to.
        jax = keras.backend.backend() == "jax"
        trainer.compile(optimizer=optimizer, jit_compile="auto" if jax else False)
        output = Path(options.output)
        run = PretrainingRun(
            output,
            trainer,
            tasks,
            steps=options.steps,
            seed=options.seed,
            write_checkpoint=lambda to: self._write(builder, to),
            log_every=options.log_every,
            save_every=options.save_every,
            settings=self._settings(arguments, given),
        )
        train_with_bar(run, self._line)
        print(f"{output / 'model'} holds the model of {options.steps} steps")
        return 0

    def _write(self, builder: Any, folder: Path) -> None:
        from bert4kexue._files import atomic_write

        folder.mkdir(exist_ok=True)
        with atomic_write(folder / "vocab.txt") as file:
            file.write(self.vocabulary)
        with atomic_write(folder / "bert_config.json", "w") as file:
            file.write(json.dumps(self.config, indent=2, ensure_ascii=False) + "\n")
        builder.save_weights_as_checkpoint(folder / "bert_model.ckpt", dtype=self.options.dtype)

    def _settings(self, arguments: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        from bert4kexue.training.records import sha256

        names = ("model", "side", "tokens", "rate", "warmup", "decay", "dropout", "policy")
        files = {
            f"{name} {Path(path).name}": sha256(Path(path).read_bytes())
            for name, paths in given.items()
            for path in paths or ()
            if Path(path).is_file()
        }
        chosen = {name: getattr(self.options, name) for name in names}
        return {**chosen, **self.rows, **arguments, "given": dict(given), "files": files}

    def _line(self, step: int, values: Mapping[str, float]) -> str:
        share = step / self.options.steps
        self._first = getattr(self, "_first", (step, time.monotonic()))
        done, begun = self._first
        left = (time.monotonic() - begun) / max(1, step - done) * (self.options.steps - step)
        told = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        bar = "#" * round(20 * share)
        return f"[{bar:<20}] {step}/{self.options.steps}, {left:.0f} s left  {told}"
