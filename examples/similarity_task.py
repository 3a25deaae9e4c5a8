"""What the three training examples of sentence similarity share: data, batches, fit, evaluation."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bert4kexue.methods.roformer_sim import build_similarity_trainer
from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.methods.similarity_data import read_scored
from bert4kexue.methods.similarity_rows import Sentences
from bert4kexue.methods.sts import evaluate_sts
from bert4kexue.methods.word_corruption import tokens_by_word
from bert4kexue.text.segment import word_segmenter
from bert4kexue.tokenizers import Tokenizer
from bert4kexue.training.data import varied_first
from bert4kexue.training.plan import Plan
from bert4kexue.training.pretraining import WarmupDecay
from bert4kexue.training.special import Special

MAXLEN = 64


def arguments(description: str) -> argparse.ArgumentParser:
    """The options of all three."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("pretrained/roformer_tiny_zh"))
    parser.add_argument("--data", type=Path, required=True, help="what similarity_sets.py wrote")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="of an epoch (100)")
    parser.add_argument("--tokens", type=int, default=2048, help="of a batch (2048)")
    parser.add_argument("--rate", type=float, default=2e-4, help="peak learning rate (0.0002)")
    return parser


class Task:
    """A model's folder, its tokenizer, and the sentences that will be trained on."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        keras.utils.set_random_seed(1)
        self.folder = folder
        self.config = json.loads((folder / "bert_config.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer(folder / "vocab.txt", do_lower_case=True)
        self.special = Special.of(tokenizer)
        unique = list(dict.fromkeys(texts))
        tokens = tokens_by_word(tokenizer, word_segmenter(), unique, MAXLEN - 2)
        self.sentences = Sentences(unique, tokens)

    def fit(self, options: argparse.Namespace, tasks: Mapping[str, Any], **trainer: Any) -> None:
        """Train on the tasks in turn, and write the model in the original layout."""
        model, builder = build_similarity_trainer(
            self.config,
            "roformer",
            checkpoint=self.folder / "bert_model.ckpt",
            dropout=0.1,
            **trainer,
        )
        steps = options.epochs * options.steps
        optimizer = keras.optimizers.AdamW(
            WarmupDecay(options.rate, steps, steps // 20), weight_decay=0.01, global_clipnorm=1.0
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
        jit = "auto" if keras.backend.backend() == "jax" else False
        model.compile(optimizer=optimizer, jit_compile=jit)
        plans = [
            Plan(rows, options.tokens, 4 * MAXLEN, [1, i]) for i, rows in enumerate(tasks.values())
        ]
        model.fit(
            varied_first(batches(plans)),
            steps_per_epoch=options.steps,
            epochs=options.epochs,
            shuffle=False,
            verbose=2,
        )
        options.output.mkdir(parents=True, exist_ok=True)
        for name in ("bert_config.json", "vocab.txt"):
            shutil.copy(self.folder / name, options.output / name)
        builder.save_weights_as_checkpoint(options.output / "bert_model.ckpt")


def batches(plans: Sequence[Plan]) -> Iterator[tuple[dict[str, np.ndarray]]]:
    """A batch of each plan in turn, for ever; its choices are drawn from its number."""
    number = 0
    while True:
        for plan in plans:
            yield (plan.batch(number, np.random.default_rng([1, number])),)
        number += 1


def report(data: Path, *folders: Path) -> None:
    """Spearman of the reported sets, before and after."""
    sets = {path.stem: read_scored(path) for path in sorted((data / "reported").glob("*.tsv"))}
    for folder in folders:
        encoder = SentenceEncoder.load(folder, family="roformer", maxlen=MAXLEN)
        found = evaluate_sts(encoder.encode, sets, resamples=100)
        scores = ", ".join(
            f"{name} {100 * s.spearman:.2f} ({100 * s.low:.1f} to {100 * s.high:.1f})"
            for name, s in found.items()
        )
        print(f"{folder}: {scores}")
