"""Train the small RoFormer that the project ships, by `bert4kexue pretrain` alone.

    BERT4KEXUE_DATA=... python examples/pretrain_roformer_tiny.py runs/tiny --steps 4000

and the shipped model, on a GPU (each width of batches is compiled once there: few widths)

    KERAS_BACKEND=jax BERT4KEXUE_DATA=... python examples/pretrain_roformer_tiny.py runs/tiny \\
        --layers 6 --steps 3000 --tokens 32768 --policy mixed_bfloat16 --ema 0.999 \\
        --multiple 64 --packed --rewrites 20

writes the openly licensed sets as the files that the pipeline reads, and then gives its commands,
printed as they are given: `vocab`, `prepare`, `run`, `evaluate`. One model learns at once

* masked:   whole words of the running text, the questions among it;
* written:  `question [SEP] S [SEP] P [SEP] M [SEP]` of the NLPCC questions, each rewritten some
            times with swapped subjects (UniLM mask);
* contrast: sentences beside their corrupted copies, and beside what means the same;
* scored:   CNSD STS-B by CoSENT.

The run can be stopped at any moment and goes on when the command is given again.
What a run scored is in docs/results/small_model.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import evaluate_roformer_tiny as evaluation
import keras
import numpy as np
import ship_sets

from bert4kexue.cli import main as bert4kexue
from bert4kexue.methods.question_rewriting import QuestionWriter
from bert4kexue.tokenizers import load_vocab

MIXES = {
    "masked": ["masked=1"],
    "written": ["masked=0.5", "written=0.5"],
    "contrast": ["masked=0.45", "written=0.45", "contrast=0.1"],
    "scored": ["masked=0.45", "written=0.45", "scored=0.1"],
    "all": ["masked=0.45", "written=0.35", "contrast=0.1", "scored=0.1"],
    "similar": ["masked=0.35", "written=0.25", "contrast=0.2", "scored=0.2"],
    "later": ["masked=0.6:0.4", "written=0.3:0.4", "contrast=0.1", "scored=0:0.2"],
}


# --- the files ----------------------------------------------------------------------------------


def write_files(folder: Path, root: Path, seed: int, rewrites: int) -> None:
    """`tokens.txt` for the vocabulary, `text.txt`, `pairs`, `similar`, `scored` and `held_out`."""
    rng = np.random.default_rng(seed)
    questions = ship_sets.questions(root)
    pairs = ship_sets.sentence_pairs(root)
    sentences = [sentence for a, b, _ in pairs for sentence in (a, b)]
    titles = ship_sets.titles(root)
    running = [text for texts in ship_sets.running_text(root).values() for text in texts]
    asked = [q.question for q in questions]
    _write(folder / "tokens.txt", ship_sets.training_text(root))
    _write(folder / "text.txt", dict.fromkeys([*running, *asked, *sentences]))

    characters = sorted({c for text in asked for c in text if c > "\u3400"})
    writer = QuestionWriter(questions, ship_sets.names(root), titles, characters)
    rows = (writer.write(q, rng) for _ in range(rewrites) for q in questions)
    _write(folder / "pairs.jsonl", _json({"source": q.question, "target": q[1:]} for q in rows))

    alike = [(a, b) for a, b, score in pairs if score >= 4]
    copies = [(text, text) for text in dict.fromkeys([*sentences, *titles, *asked])]
    # One pair in four is of two sentences that mean the same; the others are made by corruption.
    both = copies + [alike[i % len(alike)] for i in range(len(copies) // 3)]
    _write(folder / "similar.jsonl", _json({"a": a, "b": b} for a, b in both))
    _write(folder / "scored.jsonl", _json({"a": a, "b": b, "score": s} for a, b, s in pairs))
    held_out = ship_sets.running_text(root, "held_out").values()
    _write(folder / "held_out.txt", evaluation.sample([t for texts in held_out for t in texts]))


def _json(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) for row in rows)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")


# --- the commands -------------------------------------------------------------------------------


def give(*words: Any) -> None:
    """Run a command of the pipeline, showing it."""
    command = [str(word) for word in words]
    print("bert4kexue", shlex.join(command), flush=True)
    if bert4kexue(command):
        raise SystemExit(1)


def prepare_corpus(folder: Path, root: Path, seed: int = 1, rewrites: int = 10) -> None:
    """The files, `vocab.txt` and `records` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_files(folder, root, seed, rewrites)
    give("pretrain", "vocab", folder / "tokens.txt", "--output", folder / "vocab.txt")
    give(
        *("pretrain", "prepare", folder / "text.txt", "--vocab", folder / "vocab.txt"),
        *("--output", folder / "records"),
    )


def train(
    folder: Path,
    output: Path,
    *,
    steps: int,
    mix: str = "later",
    layers: int = 4,
    hidden: int = 256,
    tokens: int = 4096,
    rate: float = 1e-3,
    policy: str = "float32",
    seed: int = 1,
    checkpoint: str | None = None,
    ema: float | None = None,
    dropout: float = 0.0,
    multiple: int = 16,
    packed: bool = False,
) -> Path:
    """Train on what `prepare_corpus` left in the folder; the model's folder."""
    keys = {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": 512,
        "num_attention_heads": hidden // 64,
        "num_hidden_layers": layers,
        "type_vocab_size": 2,
        "vocab_size": len(load_vocab(folder / "vocab.txt")),
    }
    config = output.with_name(f"{output.name}_config.json")
    config.write_text(json.dumps(keys, indent=2) + "\n", encoding="utf-8", newline="\n")
    every = max(1, min(50, steps // 4))
    began = time.monotonic()
    give(
        *("pretrain", "run", "--records", folder / "records", "--vocab", folder / "vocab.txt"),
        *("--config", config, "--output", output, "--steps", steps),
        *(word for item in MIXES[mix] for word in ("--objective", item)),
        *(word for name in _FILES[mix] for word in (f"--{name}", folder / f"{name}.jsonl")),
        *("--length", 64, "--tokens", tokens, "--rate", rate, "--dropout", dropout),
        *("--policy", policy, "--seed", seed, "--multiple", multiple),
        *(("--packed",) if packed else ()),
        *(() if ema is None else ("--ema", ema)),
        *(() if checkpoint is None else ("--checkpoint", checkpoint)),
        *("--log-every", every, "--save-every", 5 * every),
    )
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    keras.config.set_dtype_policy("float32")
    return output / "model"


def main() -> None:
    """Files, vocabulary, records, training, scores."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where the run is kept, and resumed from")
    parser.add_argument("--steps", type=int, default=4000, help="of the run (4000)")
    parser.add_argument("--mix", choices=MIXES, default="later", help="of objectives (later)")
    parser.add_argument("--layers", type=int, default=4, help="depth (4)")
    parser.add_argument("--hidden", type=int, default=256, help="width (256)")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a batch (4096)")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate (0.001)")
    parser.add_argument("--checkpoint", metavar="PREFIX", help="to go on from, of the same shape")
    parser.add_argument("--ema", type=float, help="momentum of averaged weights")
    parser.add_argument("--dropout", type=float, default=0.0, help="while training (0)")
    parser.add_argument("--multiple", type=int, default=16, help="of the batches' widths (16)")
    parser.add_argument("--packed", action="store_true", help="several texts in a masked row")
    parser.add_argument("--rewrites", type=int, default=10, help="of each question (10)")
    parser.add_argument(
        "--policy", default="float32", help="or mixed_bfloat16: measure which is faster"
    )
    parser.add_argument("--seed", type=int, default=1, help="of weights, batches, masks (1)")
    parser.add_argument("--limit", type=int, help="of the questions that are measured; all")
    parser.add_argument("--smoke", action="store_true", help="a minute, to see it run")
    args = parser.parse_args()
    if args.smoke:
        args.steps, args.tokens, args.rewrites, args.limit = 4, 512, 1, 20
    root = ship_sets.data_folder()
    prepare_corpus(args.folder, root, args.seed, args.rewrites)
    names = ("steps", "mix", "layers", "hidden", "tokens", "rate", "policy", "seed")
    more = ("checkpoint", "ema", "dropout", "multiple", "packed")
    chosen = {name: getattr(args, name) for name in (*names, *more)}
    model = train(args.folder, args.folder / "run", **chosen)
    give("pretrain", "evaluate", args.folder / "held_out.txt", "--model", model)
    evaluation.report(model, root, args.limit)


_FILES = {
    name: [
        file
        for file, objective in (("pairs", "written"), ("similar", "contrast"), ("scored", "scored"))
        if any(item.startswith(objective) for item in items)
    ]
    for name, items in MIXES.items()
}


if __name__ == "__main__":
    main()
