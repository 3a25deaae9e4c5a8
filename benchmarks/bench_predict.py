"""Length-sorted prediction against batches of 32 in the order of arrival, one interleaved run.

    BERT4KEXUE_DATA=... python benchmarks/bench_predict.py [--rounds 5] [--shape base] [--json]

Sentences are those of LCQMC, BQ and ATEC, and the reviews of ChnSentiCorp cut at 512 tokens, drawn
by a seed. The peer runs `predict_on_batch` on 32 sentences padded to the longest of the 32, the
same model and weights, shuffled as they come. Both have run once before: what compiling takes is
printed apart. The share of real tokens is of all that is computed, padding and empty rows included.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import time
import zipfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from bert4kexue.models import build_transformer_model
from bert4kexue.models.prediction import SortedPredictor
from bert4kexue.tokenizers import Tokenizer

SHAPES = {
    "small": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
}


def questions(folder: Path) -> list[str]:
    """Both sides of every pair of the three sets."""
    found = []
    for name in ("LCQMC", "BQ", "ATEC"):
        for path in sorted((folder / "sts_zh_cosent" / name).glob("*.data")):
            for line in path.read_text(encoding="utf-8").splitlines():
                found += line.split("\t")[:2]
    return found


def reviews(folder: Path) -> list[str]:
    """The reviews of ChnSentiCorp."""
    found = []
    with zipfile.ZipFile(folder / "chnsenticorp" / "chnsenticorp.zip") as archive:
        for name in sorted(n for n in archive.namelist() if n.endswith(".tsv")):
            with archive.open(name) as file:
                lines = io.TextIOWrapper(file, encoding="utf-8").read().splitlines()[1:]
            found += [line.split("\t")[-1] for line in lines]
    return found


def by_arrival(model: keras.Model, rows: list[list[int]], size: int = 32) -> np.ndarray:
    """Batches of 32 padded to their own longest."""
    parts = []
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        ids = np.zeros((len(batch), max(map(len, batch))), np.int32)
        for line, row in zip(ids, batch, strict=True):
            line[: len(row)] = row
        parts.append(model.predict_on_batch([ids, np.zeros_like(ids)]))
    return np.concatenate(parts)


def measure(
    model: keras.Model, rows: list[list[int]], rounds: int, jit_compile: bool
) -> dict[str, float]:
    """Ratio of median times, share of real tokens, seconds of compiling, largest difference."""
    predictor = SortedPredictor(model, jit_compile=jit_compile)
    lengths = [len(row) for row in rows]
    compiling = predictor.compile(lengths)
    expected, found = by_arrival(model, rows), predictor.predict(rows)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for turn in range(rounds):
        calls = [
            ("ours", lambda: predictor.predict(rows)),
            ("theirs", lambda: by_arrival(model, rows)),
        ]
        for key, call in calls if turn % 2 else reversed(calls):
            begun = time.perf_counter()
            call()
            seconds[key].append(time.perf_counter() - begun)
    computed = _computed(predictor, lengths)
    static = SortedPredictor(model, jit_compile=True)  # plans, and is not run
    arrival = sum(
        len(part) * max(part) for part in (lengths[i : i + 32] for i in range(0, len(rows), 32))
    )
    return {
        "ratio": statistics.median(seconds["theirs"]) / statistics.median(seconds["ours"]),
        "real_share": sum(lengths) / computed,
        "real_share_xla": sum(lengths) / _computed(static, lengths),
        "real_share_by_arrival": sum(lengths) / arrival,
        "compile_seconds": compiling,
        "difference": float(np.abs(expected - found).max()),
        "sentences_per_second": len(rows) / statistics.median(seconds["ours"]),
    }


def _computed(predictor: SortedPredictor, lengths: list[int]) -> int:
    """The tokens that a plan computes, padding and empty rows included."""
    return sum(height * width for _, (height, width) in predictor.plan(lengths))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--shape", choices=SHAPES, default="small", help="of the model (small)")
    parser.add_argument("--sentences", type=int, default=4000, help="questions (default 4000)")
    parser.add_argument("--reviews", type=int, default=1000, help="reviews (default 1000)")
    parser.add_argument("--jit", action="store_true", help="ours compiled with XLA")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if not os.environ.get("BERT4KEXUE_DATA"):
        raise SystemExit("set BERT4KEXUE_DATA to the data folder: the lengths must be real")
    folder = Path(os.environ["BERT4KEXUE_DATA"])
    tokenizer = Tokenizer(folder / "vocab" / "google_chinese_21128.vocab.txt", do_lower_case=True)
    sizes = SHAPES[arguments.shape]
    keras.utils.set_random_seed(0)
    model = build_transformer_model(
        {
            **sizes,
            "intermediate_size": 4 * sizes["hidden_size"],
            "vocab_size": 21128,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
            "hidden_act": "gelu",
        },
        with_pool=True,
    )
    result = {}
    for name, texts, maxlen, count in (
        ("questions", questions(folder), 64, arguments.sentences),
        ("reviews", reviews(folder), 512, arguments.reviews),
    ):
        random.Random(0).shuffle(texts)
        rows = [tokenizer.encode(text, maxlen=maxlen)[0] for text in texts[:count]]
        result[name] = measure(model, rows, arguments.rounds, arguments.jit)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, found in result.items():
        print(
            f"{name}: {found['ratio']:.2f} times batches of 32 by arrival; "
            f"{found['real_share']:.1%} of the computed tokens are real "
            f"(by arrival {found['real_share_by_arrival']:.1%}); "
            f"compiling {found['compile_seconds']:.1f} s apart; "
            f"{found['sentences_per_second']:,.0f} sentences/s; "
            f"largest difference {found['difference']:.1e}"
        )


if __name__ == "__main__":
    main()
