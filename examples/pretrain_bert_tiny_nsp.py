"""Train a small BERT with NSP and MLM heads, by `bert4kexue pretrain`.

    BERT4KEXUE_DATA=... python examples/pretrain_bert_tiny_nsp.py runs/nsp --steps 2600

writes documents of ordered sentences (`nsp_documents.py`) out of openly licensed sets, without a
label among them, and trains on pairs of segments: does the second follow the first (NSP), and which
words are hidden in both (MLM). It begins with the word vectors, blocks and MLM head of the small
RoFormer in `pretrained/`, which was trained on the same sets; positions, pooler and NSP head are
new. `--from-nothing` begins at random.

The run can be stopped at any moment and goes on when the command is given again.
What came of it, too little to be shipped, is in docs/results/zero_shot.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import ship_sets
from nsp_documents import write_documents

from bert4kexue.checkpoints.reader import open_checkpoint
from bert4kexue.checkpoints.tf_writer import write_tf_checkpoint
from bert4kexue.cli import main as bert4kexue

SOURCE = Path(__file__).resolve().parent.parent / "pretrained/roformer_tiny_zh"


def write_start(prefix: Path, config: dict[str, Any], seed: int) -> None:
    """The RoFormer's variables, and new ones for what a BERT has and it has not."""
    rng = np.random.default_rng(seed)
    hidden, spread = config["hidden_size"], config["initializer_range"]
    with open_checkpoint(SOURCE / "bert_model.ckpt") as source:
        arrays = {name: np.asarray(source.read(name), np.float32) for name in source.names()}

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(0, spread, shape).astype(np.float32)

    arrays["bert/embeddings/position_embeddings"] = drawn(config["max_position_embeddings"], hidden)
    arrays["bert/pooler/dense/kernel"] = drawn(hidden, hidden)
    arrays["bert/pooler/dense/bias"] = np.zeros(hidden, np.float32)
    arrays["cls/seq_relationship/output_weights"] = drawn(2, hidden)
    arrays["cls/seq_relationship/output_bias"] = np.zeros(2, np.float32)
    write_tf_checkpoint(prefix, arrays)


def give(*words: Any) -> None:
    """Run a command of the pipeline, showing it."""
    command = [str(word) for word in words]
    print("bert4kexue", shlex.join(command), flush=True)
    if bert4kexue(command):
        raise SystemExit(1)


def main() -> None:
    """Documents, records, training, accuracy on hidden words of held-out documents."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where the run is kept, and resumed from")
    parser.add_argument("--steps", type=int, default=2600, help="of the run (2600)")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a batch (2048)")
    parser.add_argument("--rate", type=float, default=6e-4, help="peak learning rate (0.0006)")
    parser.add_argument("--seed", type=int, default=1, help="of weights, batches, masks (1)")
    parser.add_argument("--from-nothing", action="store_true", help="random weights at the start")
    parser.add_argument("--smoke", action="store_true", help="a minute, to see it run")
    args = parser.parse_args()
    if args.smoke:
        args.steps, args.tokens = 4, 512
    root, folder = ship_sets.data_folder(), args.folder
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "held_out"):
        write_documents(folder / f"{split}.txt", root, split)
    vocabulary = SOURCE / "vocab.txt"
    config = json.loads((SOURCE / "bert_config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = 128
    path = folder / "config.json"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8", newline="\n")
    start: tuple[Any, ...] = ()
    if not args.from_nothing:
        write_start(folder / "start.ckpt", config, args.seed)
        start = ("--checkpoint", folder / "start.ckpt")
    give(
        *("pretrain", "prepare", folder / "train.txt", "--layout", "block"),
        *("--vocab", vocabulary, "--output", folder / "records"),
    )
    began = time.monotonic()
    every = max(1, min(50, args.steps // 4))
    give(
        *("pretrain", "run", "--records", folder / "records", "--vocab", vocabulary),
        *("--config", path, "--family", "bert", "--output", folder / "run"),
        *("--objective", "nsp=1", "--steps", args.steps, *start),
        *("--length", 128, "--tokens", args.tokens, "--rate", args.rate, "--dropout", 0),
        *("--seed", args.seed, "--log-every", every, "--save-every", 2 * every),
    )
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    give(
        *("pretrain", "evaluate", folder / "held_out.txt", "--layout", "block"),
        *("--model", folder / "run/model"),
    )


if __name__ == "__main__":
    main()
