"""Memory of a training step with and without rematerialization, each in a process of its own.

    python benchmarks/bench_rematerialization.py [--model base|small] [--batch 8] [--length 256]

Masked-word training (AdamW, dropout 0.1) of BERT-base's sizes, or of a small RoFormer (4 layers of
256) on long rows, through `build_pretrainer(..., rematerialize=True)`. Memory is the process's
highest resident size over three steps, less what it held with weights and optimizer made, before
the first step; seconds are those of the third step. The losses of both must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZES = {
    "base": ("bert", {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}),
    "small": ("roformer", {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}),
}


def resident(field: str) -> float:
    """VmRSS or VmHWM of this process in MB (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"this system tells no {field}: the script needs Linux")


def step(name: str, batch: int, length: int, rematerialize: bool) -> dict[str, Any]:
    """Train three steps; what they took."""
    import keras
    import numpy as np

    from bert4kexue.models.pretraining import build_pretrainer

    family, sizes = SIZES[name]
    config = {
        **sizes,
        "vocab_size": 13000,
        "intermediate_size": 4 * sizes["hidden_size"],
        "max_position_embeddings": max(512, length),
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }
    keras.utils.set_random_seed(0)
    model, _ = build_pretrainer(config, family, ["bidirectional"], rematerialize=rematerialize)
    model.compile(optimizer=keras.optimizers.AdamW(1e-4))
    model.optimizer.build(model.trainable_variables)
    ids = np.random.default_rng(0).integers(5, 13000, (batch, length)).astype(np.int32)
    asked = max(1, length * 15 // 100)
    rows = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "positions": np.tile(np.arange(asked, dtype=np.int32), (batch, 1)),
        "labels": ids[:, :asked].copy(),
        "weights": np.ones((batch, asked), np.float32),
    }
    before = resident("VmRSS")
    losses, seconds = [], 0.0
    for _ in range(3):
        begun = time.perf_counter()
        losses.append(float(model.train_on_batch(rows)))
        seconds = time.perf_counter() - begun
    return {"megabytes": resident("VmHWM") - before, "seconds": seconds, "losses": losses}


def apart(options: argparse.Namespace, rematerialize: bool) -> dict[str, Any]:
    """The same in a process of its own."""
    arguments = [options.model, options.batch, options.length, int(rematerialize)]
    done = subprocess.run(
        [sys.executable, __file__, "--step", *map(str, arguments)],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SIZES, default="base")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, *numbers = options.step
        batch, length, flag = map(int, numbers)
        print(json.dumps(step(name, batch, length, bool(flag))))
        return
    kept, again = apart(options, False), apart(options, True)
    result = {
        "megabytes": round(kept["megabytes"]),
        "megabytes_rematerialized": round(again["megabytes"]),
        "memory_ratio": round(again["megabytes"] / kept["megabytes"], 3),
        "time_ratio": round(again["seconds"] / kept["seconds"], 2),
        "loss_difference": max(
            abs(a - b) for a, b in zip(kept["losses"], again["losses"], strict=True)
        ),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{options.model}, {options.batch} x {options.length}: a step holds "
        f"{result['megabytes']:,} MB, rematerialized {result['megabytes_rematerialized']:,} MB "
        f"({result['memory_ratio']:.2f} times), in {result['time_ratio']:.2f} times the time; "
        f"losses differ by {result['loss_difference']:.1e}"
    )


if __name__ == "__main__":
    main()
