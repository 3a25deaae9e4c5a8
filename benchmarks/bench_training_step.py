"""A training step in mixed bfloat16 beside one in float32, BERT-base, interleaved in one run.

    python benchmarks/bench_training_step.py [--batch 8] [--length 64] [--rounds 9] [--json]

Masked-word training as `bert4kexue pretrain run` does it (AdamW, clipped gradients, dropout 0.1),
the same batch again and again, through `train_on_batch`. Each precision has a process of its own;
both run in turn. Where the processor does not multiply bfloat16 the ratio falls below 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from peers import Peer, serve, timed

POLICIES = ("float32", "mixed_bfloat16")
CONFIG = {
    "vocab_size": 21128,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}


def trainer(policy: str, batch: int, length: int) -> Callable[..., Any]:
    """What answers with the seconds of steps in this precision, or with the last loss."""
    import keras
    import numpy as np

    from bert4kexue.models.pretraining import build_pretrainer

    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model, _ = build_pretrainer(CONFIG, "bert", ["bidirectional"])
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-4, weight_decay=0.01, beta_2=0.98, global_clipnorm=1.0)
    )
    ids = np.random.default_rng(0).integers(5, CONFIG["vocab_size"], (batch, length))
    ids = ids.astype(np.int32)
    asked = max(1, length * 15 // 100)
    rows = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "positions": np.tile(np.arange(asked, dtype=np.int32), (batch, 1)),
        "labels": ids[:, :asked].copy(),
        "weights": np.ones((batch, asked), np.float32),
    }
    return lambda times: timed(lambda: model.train_on_batch(rows), times)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (9)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--serve", choices=POLICIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(lambda: trainer(options.serve, options.batch, options.length))
        return
    sizes = ["--batch", str(options.batch), "--length", str(options.length)]
    peers = {p: Peer([sys.executable, __file__, "--serve", p, *sizes]) for p in POLICIES}
    seconds: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for peer in peers.values():
        peer.ask(times=1)  # tracing
    for turn in range(options.rounds):
        for policy in POLICIES if turn % 2 else reversed(POLICIES):
            seconds[policy] += peers[policy].ask(times=1)
    for peer in peers.values():
        peer.close()
    medians = {policy: statistics.median(values) for policy, values in seconds.items()}
    result = {
        "ratio": round(medians["float32"] / medians["mixed_bfloat16"], 3),
        **{f"{policy}_ms": round(1e3 * value, 1) for policy, value in medians.items()},
    }
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{options.batch} x {options.length}: mixed bfloat16 is {result['ratio']:.2f} times as "
        f"fast as float32 ({result['mixed_bfloat16_ms']:g} and {result['float32_ms']:g} ms a step)"
    )


if __name__ == "__main__":
    main()
