"""Train a small BERT with NSP and MLM heads, by `bert4kexue pretrain`.

    BERT4KEXUE_DATA=... python examples/pretrain_bert_tiny_nsp.py runs/nsp

writes documents of ordered sentences (`nsp_documents.py`) out of openly licensed sets, without a
label among them, and trains on pairs of segments: does the second follow the first (NSP), and which
words are hidden in both (MLM). It begins with the word vectors, the first blocks and the MLM head
of the small RoFormer in `pretrained/`, which was trained on the same sets; positions, pooler and
NSP head are new. `--from-nothing` begins at random.

The run can be stopped at any moment and goes on when the command is given again.
What came of it is `pretrained/bert_tiny_nsp_zh`; what that can do is in docs/results/zero_shot.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
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
        arrays = {
            name: np.asarray(source.read(name), np.float32)
            for name in source.names()
            if not (block := re.search(r"/layer_(\d+)/", name))
            or int(block[1]) < config["num_hidden_layers"]
        }

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


def next_sentence_accuracy(folder: Path, pairs: int = 4000) -> tuple[float, int]:
    """How many pairs of held-out documents are told from wrong ones, half of them wrong."""
    from bert4kexue.models import build_transformer_model
    from bert4kexue.text.wordpiece import Tokenizer
    from bert4kexue.training.objectives import SentencePairs, Windows
    from bert4kexue.training.plan import Plan
    from bert4kexue.training.records import Records
    from bert4kexue.training.special import Special

    give(
        *("pretrain", "prepare", folder / "held_out.txt", "--layout", "block"),
        *("--vocab", SOURCE / "vocab.txt", "--output", folder / "held_out_records"),
    )
    tokenizer = Tokenizer(str(SOURCE / "vocab.txt"), do_lower_case=True)
    special = Special.of(tokenizer)
    windows = Windows(Records(folder / "held_out_records"), 125)
    plan = Plan(SentencePairs(windows, special, rate=0.0), 2048, 128, [0])
    model = build_transformer_model(folder / "run/model", with_nsp=True)
    right = asked = number = 0
    while asked < pairs and number < plan.steps_per_epoch:
        batch = plan.batch(number, np.random.default_rng([0, number]))
        hidden = batch["weights"] > 0  # a word a row at least: put back
        places = np.nonzero(hidden)[0], batch["positions"][hidden]
        batch["token_ids"][places] = batch["labels"][hidden]
        found = model.predict_on_batch([batch["token_ids"], batch["segment_ids"]]).argmax(1)
        real = batch["row_weights"] > 0
        right += int((found == batch["is_next"])[real].sum())
        asked += int(real.sum())
        number += 1
    return right / asked, asked


def main() -> None:
    """Documents, records, training, accuracy of both heads on held-out documents."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where the run is kept, and resumed from")
    parser.add_argument("--steps", type=int, default=1400, help="of the run (1400)")
    parser.add_argument("--layers", type=int, default=2, help="blocks, 4 at most (2)")
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
    config |= {"max_position_embeddings": 128, "num_hidden_layers": args.layers}
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
    share, asked = next_sentence_accuracy(folder)
    print(f"next sentence: accuracy {share:.4f} of {asked:,} pairs")


if __name__ == "__main__":
    main()
