"""What `task_kgclue.py` and `task_kbqa_nlpcc.py` share: rows, fit, evaluation after every epoch."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bert4kexue.methods.kgclue import scores, write_submission
from bert4kexue.methods.knowledge_base import KnowledgeBase
from bert4kexue.methods.knowledge_qa import KnowledgeQA
from bert4kexue.methods.knowledge_training import (
    as_questions,
    rewritten,
    subject_pieces,
    training_rows,
)
from bert4kexue.methods.question_files import LabelledQuestion, Triple
from bert4kexue.models import build_transformer_model
from bert4kexue.models.pretraining import build_pretrainer
from bert4kexue.tokenizers import Tokenizer
from bert4kexue.training.data import varied_first
from bert4kexue.training.objectives import Continuations
from bert4kexue.training.plan import Plan
from bert4kexue.training.pretraining import WarmupDecay
from bert4kexue.training.special import Special

MAXLEN = 128


def arguments(description: str) -> argparse.ArgumentParser:
    """The options of both."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("pretrained/roformer_tiny_zh"))
    parser.add_argument("--output", type=Path, required=True, help="model and predictions")
    parser.add_argument("--knowledge", type=Path, help="what `kgqa build` wrote; else gold triples")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of an epoch; all rows")
    parser.add_argument("--tokens", type=int, default=2048, help="of a batch (2048)")
    parser.add_argument("--rate", type=float, default=3e-4, help="peak learning rate (0.0003)")
    parser.add_argument("--rewrites", type=int, default=0, help="copies with other subjects (0)")
    parser.add_argument("--limit", type=int, help="of the questions that are measured; all")
    return parser


class Task:
    """Trains on one list of questions, measures on another, keeps the best epoch.

    Args:
        options: see `arguments`.
        train: questions to train on.
        valid: questions to measure.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        train: Sequence[LabelledQuestion],
        valid: Sequence[LabelledQuestion],
    ) -> None:
        keras.utils.set_random_seed(1)
        self.options, self.valid = options, list(valid)[: options.limit]
        self.tokenizer = Tokenizer(options.model / "vocab.txt", do_lower_case=True)
        pieces = subject_pieces(self.tokenizer)
        questions = rewritten(as_questions(train), options.rewrites, seed=1, pieces=pieces)
        special = Special.of(self.tokenizer)
        rows, _ = training_rows(questions, self.tokenizer, length=MAXLEN)
        self.plan = Plan(Continuations(rows, special), options.tokens, MAXLEN, [1])
        if options.knowledge:
            self.knowledge = KnowledgeBase.load(options.knowledge, self.tokenizer)
        else:
            facts = [q.triple for q in (*train, *valid)]
            self.knowledge = KnowledgeBase.build(facts, self.tokenizer)

    def run(self) -> None:
        """Train and measure."""
        options = self.options
        config = json.loads((options.model / "bert_config.json").read_text(encoding="utf-8"))
        checkpoint = options.model / "bert_model.ckpt"
        model, self.builder = build_pretrainer(
            config, "roformer", ("unilm",), checkpoint=checkpoint
        )
        steps = options.steps or self.plan.steps_per_epoch
        rate = WarmupDecay(options.rate, steps * options.epochs, steps * options.epochs // 20)
        jit = "auto" if keras.backend.backend() == "jax" else False
        model.compile(keras.optimizers.AdamW(rate, global_clipnorm=1.0), jit_compile=jit)
        self.best = -1.0
        after = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self.measure())
        model.fit(
            varied_first(self.batches()),
            steps_per_epoch=steps,
            epochs=options.epochs,
            callbacks=[after],
            shuffle=False,
            verbose=2,
        )

    def batches(self) -> Iterator[tuple[dict[str, np.ndarray]]]:
        """Batches for ever."""
        number = 0
        while True:
            yield (self.plan.batch(number, np.random.default_rng([1, number])),)
            number += 1

    def measure(self) -> None:
        """Print EM and F1; the best epoch's model and predictions stay in the output folder."""
        output: Path = self.options.output
        folder = output / "latest"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("bert_config.json", "vocab.txt"):
            shutil.copy(self.options.model / name, folder / name)
        self.builder.save_weights_as_checkpoint(folder / "bert_model.ckpt")
        model: Any = build_transformer_model(
            folder, model="roformer", application="unilm", with_mlm="linear"
        )
        qa = KnowledgeQA(model, self.tokenizer, self.knowledge, lookahead=True, maxlen=MAXLEN)
        found = qa.answer_batch([q.question for q in self.valid], topk=3)
        predictions = [Triple(a[0].name, a[0].predicate, a[0].objects[0]) for a in found]
        result = scores(predictions, [q.triple for q in self.valid])
        told = (result.em_s, result.em_p, result.em_o, result.f1_o, result.score)
        print(" EM S {:.4f} EM P {:.4f} EM {:.4f} F1 {:.4f} score {:.4f}".format(*told))
        if result.score > self.best:
            self.best = result.score
            write_submission(output / "predictions.json", self.valid, predictions)
            shutil.rmtree(output / "best", ignore_errors=True)
            folder.rename(output / "best")
