"""119 labels by next-sentence prompts against the reference's way, one interleaved run.

    python benchmarks/bench_zero_shot.py [--model pretrained/bert_tiny_nsp_zh] [--json]

Labels and template are IFLYTEK's. `titles` are 100 of TNEWS, `descriptions` 100 of IFLYTEK itself
(both with BERT4KEXUE_DATA, else generated ones of the same lengths), which mostly fill a row. The
reference runs a forward for every candidate of every text, a row padded to the full length
(n_labels forwards a text, as kexue.fm/archives/8671 counts them); its time is taken from --sample
of its 11,900 forwards, drawn by a seed and spread over the rounds, since all have one shape.
`ratio_batched` is to a kinder rival: batches of 32, each row padded to the full length.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from bert4kexue.cli.models import load_tokenizer
from bert4kexue.methods.fewclue import TASKS
from bert4kexue.methods.nsp_prompt import NSPScorer
from bert4kexue.models import build_transformer_model

ROOT = Path(__file__).resolve().parent.parent
TEXTS, BATCH = 100, 32
# Characters of the development rows: the middles of the tenths.
LENGTHS = {
    "titles": (10, 14, 17, 20, 22, 24, 27, 29, 30, 32),
    "descriptions": (39, 113, 143, 183, 222, 267, 329, 402, 482, 585),
}
SETS = {"titles": "tnews", "descriptions": "iflytek"}


def texts_of(kind: str, vocabulary: list[str]) -> list[str]:
    """FewCLUE's own, or generated ones of like lengths."""
    if root := os.environ.get("BERT4KEXUE_DATA"):
        task = TASKS[SETS[kind]]
        samples = task.read(Path(root) / "fewclue" / task.name / "dev_few_all.json")
        return [samples[i * len(samples) // TEXTS].text for i in range(TEXTS)]
    rng = random.Random(0)
    characters = [token for token in vocabulary if len(token) == 1 and "一" <= token <= "鿿"]
    return ["".join(rng.choices(characters, k=LENGTHS[kind][i % 10])) for i in range(TEXTS)]


def measure(model: Any, scorer: NSPScorer, texts: list[str], args: Any) -> dict[str, float]:
    """Ratios of median times, seconds of the whole, tokens of a row, largest difference."""
    template = TASKS["iflytek"].template()
    ids, prompts = scorer.encode(texts), list(scorer.encode(template.texts).values())
    rows = [scorer.row(prompt, ids[text], cut="second") for text in texts for prompt in prompts]

    def forward(some: list[int]) -> np.ndarray:
        both = np.zeros((2, len(some), scorer.maxlen), np.int32)
        for line, number in enumerate(some):
            row = rows[number]
            both[0, line, : len(row.token_ids)] = row.token_ids
            both[1, line, : len(row.segment_ids)] = row.segment_ids
        return np.asarray(model.predict_on_batch([both[0], both[1]]))[:, 0]

    drawn = random.Random(1).sample(range(len(rows)), args.sample)
    full = random.Random(2).sample(range(len(rows)), BATCH * args.batches)
    share, theirs = args.sample // args.rounds, np.zeros(len(rows))
    scorer.score_prompts(texts[:2], template), forward(drawn[:1]), forward(full[:BATCH])
    seconds: dict[str, list[float]] = {"ours": [], "each": [], "batched": []}
    found = theirs
    for turn in range(args.rounds):
        begun = time.perf_counter()
        found = scorer.score_prompts(texts, template).ravel()
        seconds["ours"].append((time.perf_counter() - begun) / len(rows))
        some = drawn[turn * share : (turn + 1) * share]
        begun = time.perf_counter()
        for number in some:
            theirs[number] = forward([number])[0]
        seconds["each"].append((time.perf_counter() - begun) / len(some))
        begun = time.perf_counter()
        for start in range(0, len(full), BATCH):
            forward(full[start : start + BATCH])
        seconds["batched"].append((time.perf_counter() - begun) / len(full))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    timed = drawn[: share * args.rounds]
    return {
        "ratio": median["each"] / median["ours"],
        "ratio_batched": median["batched"] / median["ours"],
        "seconds_ours": median["ours"] * len(rows),
        "seconds_reference": median["each"] * len(rows),
        "forwards_timed": len(timed),
        "forwards": len(rows),
        "mean_tokens": float(np.mean([len(row.token_ids) for row in rows])),
        "difference": float(np.abs(found[timed] - theirs[timed]).max()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(ROOT / "pretrained/bert_tiny_nsp_zh"))
    parser.add_argument("--maxlen", type=int, default=128, help="the paper's full length (128)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (3)")
    parser.add_argument("--sample", type=int, default=600, help="forwards of the reference (600)")
    parser.add_argument("--batches", type=int, default=8, help="of 32 rows a round (8)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.model)
    model = build_transformer_model(args.model, with_nsp=True)
    scorer = NSPScorer(model, tokenizer, maxlen=args.maxlen)
    vocabulary = list(tokenizer._token_dict)
    result = {kind: measure(model, scorer, texts_of(kind, vocabulary), args) for kind in SETS}
    if args.json:
        print(json.dumps(result))
        return
    for kind, found in result.items():
        print(
            f"119 labels x {TEXTS} {kind}, {found['mean_tokens']:.0f} tokens a row on average, at "
            f"most {args.maxlen}: {found['seconds_ours']:.1f} s; one padded forward per candidate "
            f"{found['seconds_reference']:.1f} s ({found['forwards_timed']:.0f} of "
            f"{found['forwards']:,.0f} timed): {found['ratio']:.1f} times as fast; padded batches "
            f"of {BATCH}: {found['ratio_batched']:.1f} times; largest difference "
            f"{found['difference']:.1e}"
        )


if __name__ == "__main__":
    main()
