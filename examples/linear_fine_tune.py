"""The shipped checkpoint with its softmax attention replaced, before and after a short fine-tune.

    BERT4KEXUE_DATA=... python examples/linear_fine_tune.py --output RESULTS.json
    python examples/linear_fine_tune.py --smoke

For softmax and for each feature map: masked tokens of held-out titles found again, and the ten
topics of THUCNews titles told from frozen [CLS] states by a closed-form head; then the same
fine-tune on masked words of other titles (same rows, order and masks for all), and both again.
Results are saved after each map, and a run goes on after the last one saved. The page that shows
them is written by linear_attention.py.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import ship_sets

from bert4kexue.analysis import ClosedFormSoftmax
from bert4kexue.models.config import read_config
from bert4kexue.models.pretraining import build_pretrainer
from bert4kexue.tokenizers import Tokenizer
from bert4kexue.training.pretraining import WarmupDecay

CHECKPOINT = Path(__file__).resolve().parent.parent / "pretrained" / "roformer_tiny_zh"
MAPS: dict[str, Any] = {
    "softmax": None,
    "elu1": "elu1",
    "performer 266": {"kind": "performer", "features": 266, "seed": 0},
    "taylor 2": {"kind": "taylor", "order": 2},
    "dsoftmax": "dsoftmax",
    "cos1": "cos1",
    "exp": "exp",
    "limit 2": {"kind": "limit", "order": 2},
}
LENGTH, BATCH, ASKED = 32, 32, 5


class Rows:
    """Titles as rows of one length, and masks that are the same for every map."""

    def __init__(self, texts: list[str]) -> None:
        tokenizer = Tokenizer(str(CHECKPOINT / "vocab.txt"), do_lower_case=True)
        self.mask_id = tokenizer._token_mask_id
        rows = [tokenizer.encode(text, maxlen=LENGTH)[0] for text in texts]
        self.ids = np.zeros((len(rows), LENGTH), "int32")
        for row, ids in zip(self.ids, rows, strict=True):
            row[: len(ids)] = ids
        self.lengths = np.array([len(ids) for ids in rows])

    def masked(self, which: np.ndarray, random: np.random.RandomState) -> dict[str, np.ndarray]:
        """A batch with ASKED tokens a row hidden (fewer in shorter rows), [MASK] in their place."""
        ids = self.ids[which].copy()
        positions = np.zeros((len(ids), ASKED), "int32")
        weights = np.zeros((len(ids), ASKED), "float32")
        for i, n in enumerate(self.lengths[which]):
            chosen = random.permutation(np.arange(1, n - 1))[: min(ASKED, max(1, (n - 2) // 5))]
            positions[i, : len(chosen)], weights[i, : len(chosen)] = chosen, 1.0
        labels = np.take_along_axis(ids, positions, 1)
        hidden = np.nonzero(weights)
        ids[hidden[0], positions[hidden]] = self.mask_id
        return {
            "token_ids": ids,
            "segment_ids": np.zeros_like(ids),
            "positions": positions,
            "labels": labels,
            "weights": weights,
        }

    def batches(self, steps: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
        """Training batches, told by the seed."""
        random = np.random.RandomState(seed)
        for _ in range(steps):
            yield self.masked(random.randint(0, len(self.ids), BATCH), random)


def built(spec: Any) -> Any:
    """The checkpoint as a model that trains on masked words."""
    keys = read_config(CHECKPOINT / "bert_config.json")
    keys |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    linear = {} if spec is None else {"attention": "linear", "feature_map": spec}
    return build_pretrainer(
        keys, "roformer", ["bidirectional"], checkpoint=CHECKPOINT, **linear
    ).pretrainer


def measured(model: Any, data: dict[str, Any]) -> dict[str, float]:
    """Masked-token accuracy and topic accuracy of a model as it is."""
    body, head = model.bodies["bidirectional"], model.token_head
    random, right, asked = np.random.RandomState(7), 0, 0
    held_out = data["held_out"]
    for start in range(0, len(held_out.ids), 250):
        which = np.arange(start, min(start + 250, len(held_out.ids)))
        batch = held_out.masked(which, random)
        hidden = np.asarray(body.predict_on_batch([batch["token_ids"], batch["segment_ids"]])[0])
        states = np.take_along_axis(hidden, batch["positions"][..., None], axis=1)
        best = np.asarray(head.predict_on_batch(states)).argmax(-1)
        real = batch["weights"] > 0
        right += int((best == batch["labels"])[real].sum())
        asked += int(real.sum())
    vectors = []
    for rows in (data["topic_train"], held_out):
        parts = [
            np.asarray(body.predict_on_batch([ids, np.zeros_like(ids)])[0])[:, 0]
            for ids in np.split(rows.ids, range(250, len(rows.ids), 250))
        ]
        vectors.append(np.concatenate(parts))
    classifier = ClosedFormSoftmax(shrinkage="auto").fit(vectors[0], data["topic_labels"])
    topics = classifier.score(vectors[1], data["held_out_labels"])
    return {"masked": right / asked, "topics": float(topics), "asked": asked}


def read(root: Path, rows: int, held_out: int) -> dict[str, Any]:
    """Rows to train on, rows to fit topics on, rows to report on."""
    train, test = ship_sets.topics(root), ship_sets.topics(root, "held_out")
    seen = {title for title, _ in train}
    test = [row for row in test if row[0] not in seen]
    random = np.random.RandomState(0)
    train = [train[i] for i in random.permutation(len(train))]
    test = [test[i] for i in random.permutation(len(test))[:held_out]]
    return {
        "train": Rows([t for t, _ in train]),
        "topic_train": Rows([t for t, _ in train[:rows]]),
        "topic_labels": np.array([y for _, y in train[:rows]]),
        "held_out": Rows([t for t, _ in test]),
        "held_out_labels": np.array([y for _, y in test]),
    }


def made_up() -> dict[str, Any]:
    """Rows that need no data: made of the vocabulary's own characters."""
    characters = [c for c in (CHECKPOINT / "vocab.txt").read_text("utf-8").split() if len(c) == 1]
    random = np.random.RandomState(0)
    texts = ["".join(random.choice(characters, random.randint(8, 25))) for _ in range(400)]
    labels = np.arange(400) % 4
    return {
        "train": Rows(texts[:300]),
        "topic_train": Rows(texts[:300]),
        "topic_labels": labels[:300],
        "held_out": Rows(texts[300:]),
        "held_out_labels": labels[300:],
    }


def main() -> None:
    """Measure, train, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("linear_fine_tune.json"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rows", type=int, default=3000, help="titles that topics are fitted on")
    parser.add_argument("--held-out", type=int, default=2000, help="titles that are reported on")
    parser.add_argument("--maps", nargs="+", choices=MAPS, default=list(MAPS))
    parser.add_argument("--smoke", action="store_true", help="two maps, few steps, no data")
    args = parser.parse_args()
    if args.smoke:
        data, steps, names = made_up(), 3, ["softmax", "elu1"]
    else:
        data = read(ship_sets.data_folder(), args.rows, args.held_out)
        steps, names = args.steps, args.maps
    setting = {"steps": steps, "rows": len(data["topic_labels"]), "batch": BATCH, "length": LENGTH}
    setting["held_out"] = len(data["held_out_labels"])
    results: dict[str, Any] = {"setting": setting, "maps": {}}
    if args.output.is_file() and not args.smoke:
        earlier = json.loads(args.output.read_text("utf-8"))
        results = earlier if earlier["setting"] == setting else results
    for name in names:
        if name in results["maps"]:
            continue
        begun = time.perf_counter()
        keras.utils.set_random_seed(0)
        model = built(MAPS[name])
        before = measured(model, data)
        rate = WarmupDecay(5e-4, steps, steps // 10)
        model.compile(keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0))
        losses = []
        for batch in data["train"].batches(steps, seed=1):
            losses.append(float(model.train_on_batch(batch)))
        results["maps"][name] = {
            "before": before,
            "after": measured(model, data),
            "loss": losses[-1],
            "seconds": time.perf_counter() - begun,
        }
        print(name, json.dumps(results["maps"][name]), flush=True)
        args.output.write_text(json.dumps(results, indent=1), encoding="utf-8", newline="\n")
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
