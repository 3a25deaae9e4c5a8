"""Train the small RoFormer that the project ships: masked words, questions to keys, similarity.

    BERT4KEXUE_DATA=... python examples/pretrain_roformer_tiny.py runs/tiny --minutes 30

One model learns three things at once (UniLM mask, linear pooler, tied embeddings):
* masked words on the running text of the openly licensed sets, and on the questions;
* `question -> S [SEP] P [SEP] M [SEP]` on the NLPCC questions, with swapped subjects;
* similarity: in-batch contrast of corrupted sentences, and CoSENT on the CNSD STS-B scores,
  log(1 + sum over pairs i, j with a higher score for i of exp(scale * (cos_j - cos_i))).

The budget is wall time: the learning rate warms up and decays by the share of the minutes that is
spent, so a busy machine trains less, never unfinished. Every few minutes the run is saved, whole,
under one name; started again it goes on from there. Training itself takes `pip install tensorflow`;
the checkpoint it writes needs none.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import evaluate_roformer_tiny as evaluation
import keras
import numpy as np
import ship_sets
import tensorflow as tf
from pretrain_rows import (
    Batch,
    Encoder,
    QuestionWriter,
    corrupt,
    mask_rows,
    pair_batch,
    question_batch,
)

from bert4kexue.models import build_transformer_model
from bert4kexue.tokenizers import Tokenizer, save_vocab
from bert4kexue.training import endless_batches
from bert4kexue.training.vocabulary import make_vocabulary

CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 1024,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "type_vocab_size": 2,
}
SCALE = 20.0


# --- model and losses ---------------------------------------------------------------------------


class Model:
    """The builder's model, cut where training wants it: hidden states, pooled, and the head."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.builder = build_transformer_model(
            {**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
            model="roformer",
            application="unilm",
            with_pool="linear",
            with_mlm="linear",
            return_keras_model=False,
        )
        last = self.builder.layers[
            f"Transformer-{config['num_hidden_layers'] - 1}-FeedForward-Norm"
        ]
        pooled, _ = self.builder.outputs
        self.encoder = keras.Model(self.builder.inputs, [last.output, pooled])
        # Only the predicted positions go through the head: it costs as much as two layers.
        some = keras.Input((None, config["hidden_size"]))
        self.head = keras.Model(some, self.builder.apply_final_layers(some)[1])
        self.variables = self.builder.model.trainable_variables

    def token_loss(self, batch: Batch) -> Any:
        """Mean cross-entropy of the predicted positions."""
        hidden, _ = self.encoder([batch.token_ids, batch.segment_ids], training=True)
        rows = tf.reshape(hidden, (-1, hidden.shape[-1]))
        logits = self.head(tf.gather(rows, batch.positions)[None])[0]
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=batch.labels, logits=tf.cast(logits, "float32")
            )
        )

    def pooled(self, token_ids: Any, segment_ids: Any) -> Any:
        """Unit vectors (b, H)."""
        _, pooled = self.encoder([token_ids, segment_ids], training=True)
        return tf.math.l2_normalize(tf.cast(pooled, "float32"), axis=-1)

    def contrast_loss(self, token_ids: Any, segment_ids: Any) -> Any:
        """Each row against all others of the batch; its partner is row i ^ 1."""
        v = self.pooled(token_ids, segment_ids)
        b = tf.shape(v)[0]
        logits = SCALE * tf.matmul(v, v, transpose_b=True) - 1e9 * tf.eye(b)
        partner = tf.bitwise.bitwise_xor(tf.range(b), 1)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(partner, logits))

    def score_loss(self, token_ids: Any, segment_ids: Any, scores: Any) -> Any:
        """CoSENT: pairs of a higher score must have the higher cosine."""
        v = self.pooled(token_ids, segment_ids)
        cosine = SCALE * tf.reduce_sum(v[0::2] * v[1::2], axis=-1)
        wrong = cosine[None, :] - cosine[:, None]
        higher = scores[:, None] > scores[None, :]
        terms = tf.where(higher, wrong, -1e9)
        return tf.reduce_logsumexp(tf.concat([[0.0], tf.reshape(terms, (-1,))], axis=0))


# --- batches ------------------------------------------------------------------------------------


class Tasks:
    """Endless batches of each kind, drawn from one seed."""

    def __init__(self, root: Path, encoder: Encoder, tokens_per_batch: int, seed: int) -> None:
        self.encoder, self.tokens, self.rng = encoder, tokens_per_batch, np.random.default_rng(seed)
        questions = ship_sets.questions(root)
        text = [t for texts in ship_sets.running_text(root).values() for t in texts]
        self.pairs = ship_sets.sentence_pairs(root)
        sentences = [s for a, b, _ in self.pairs for s in (a, b)]
        titles = ship_sets.titles(root)
        text += [q.question for q in questions] + sentences
        self.text = [np.array(encoder.sentence(t), "int32") for t in dict.fromkeys(text)]
        alone = [t for t in encoder.tokenizer._token_dict if len(t) == 1 and t > "\u3400"]
        self.writer = QuestionWriter(questions, ship_sets.names(root), titles, alone, self.rng)
        same = [encoder.sentence(s) for s in dict.fromkeys(sentences)]
        same += [encoder.sentence(t) for t in titles]
        same += [encoder.sentence(q.question) for q in questions]
        self.sentences = [s for s in same if len(s) > 6]
        self.like = [(encoder.sentence(a), encoder.sentence(b)) for a, b, s in self.pairs if s >= 4]
        self.scored = [(encoder.sentence(a), encoder.sentence(b), s) for a, b, s in self.pairs]
        self.masked, self.questions = self._masked(), self._questions()
        self.contrast, self.scores = self._contrast(), self._scores()

    def _masked(self) -> Iterator[Batch]:
        lengths = [len(t) for t in self.text]
        for rows in endless_batches(lengths, self.tokens, self.rng, 8):
            e = self.encoder
            yield mask_rows([self.text[i] for i in rows], e.mask, e.vocab_size, self.rng)

    def _questions(self) -> Iterator[Batch]:
        lengths = [len(q.question) for q in self.writer.questions]
        for rows in endless_batches(lengths, self.tokens // 2, self.rng, 4):
            written = [self.writer.write(self.writer.questions[i]) for i in rows]
            yield question_batch(
                [(self.encoder.sentence(q.question), self.encoder.key(*q[1:])) for q in written]
            )

    def _contrast(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        lengths = [len(s) for s in self.sentences]
        for rows in endless_batches(lengths, self.tokens // 2, self.rng, 4):
            pairs = []
            for i in rows:
                if self.rng.random() < 0.25:
                    pairs.append(self.like[int(self.rng.integers(len(self.like)))])
                else:
                    ids = self.sentences[i]
                    pairs.append((ids, [ids[0], *corrupt(ids[1:-1], self.rng), ids[-1]]))
            yield pair_batch(pairs)

    def _scores(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        lengths = [max(len(a), len(b)) for a, b, _ in self.scored]
        for rows in endless_batches(lengths, self.tokens // 2, self.rng, 8):
            pairs = [self.scored[i] for i in rows]
            scores = np.array([s for _, _, s in pairs], "float32")
            yield (*pair_batch([p[:2] for p in pairs]), scores)


def shares(progress: float) -> dict[str, float]:
    """How often each kind of batch is drawn, by the share of the budget that is spent."""
    if progress < 0.25:
        return {"masked": 0.60, "questions": 0.35, "contrast": 0.05, "scores": 0.0}
    if progress < 0.85:
        return {"masked": 0.30, "questions": 0.50, "contrast": 0.12, "scores": 0.08}
    return {"masked": 0.20, "questions": 0.50, "contrast": 0.12, "scores": 0.18}


def learning_rate(progress: float, peak: float, warmup: float = 0.03) -> float:
    """Linear warm-up over the first share of the budget, then a linear decay to a hundredth."""
    if progress < warmup:
        return peak * progress / warmup
    return peak * max(0.01, (1 - progress) / (1 - warmup))


# --- the run ------------------------------------------------------------------------------------


class Run:
    """A model in training, with everything that resuming needs in one file."""

    def __init__(self, folder: Path, model: Model, peak: float) -> None:
        self.folder, self.model, self.peak = folder, model, peak
        self.optimizer = keras.optimizers.AdamW(
            learning_rate=0.0, weight_decay=0.01, beta_2=0.98, global_clipnorm=1.0
        )
        self.optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
        self.optimizer.build(model.variables)
        self.steps, self.seconds = 0, 0.0
        self.step = {
            "masked": self._compiled(self._tokens, "iiii"),
            "contrast": self._compiled(model.contrast_loss, "ii"),
            "scores": self._compiled(model.score_loss, "iif"),
        }
        self.step["questions"] = self.step["masked"]

    def _tokens(self, token_ids: Any, segment_ids: Any, positions: Any, labels: Any) -> Any:
        return self.model.token_loss(Batch(token_ids, segment_ids, positions, labels))

    def _compiled(self, loss: Callable[..., Any], kinds: str) -> Callable[..., Any]:
        # Lengths vary from batch to batch: one trace with unknown sizes serves them all.
        rows = [tf.TensorSpec((None, None), "int32")] * 2
        flat = {"i": tf.TensorSpec((None,), "int32"), "f": tf.TensorSpec((None,), "float32")}

        @tf.function(input_signature=[*rows, *(flat[k] for k in kinds[2:])])
        def step(*batch: Any) -> Any:
            with tf.GradientTape() as tape:
                value = loss(*batch)
            # A similarity step leaves the token head alone: its gradient is zero, not missing.
            gradients = tape.gradient(
                value,
                [v.value for v in self.model.variables],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            self.optimizer.apply(gradients, self.model.variables)
            return value

        return step

    def _arrays(self) -> dict[str, Any]:
        return {f"weight/{v.path}": v for v in self.model.variables} | {
            f"optimizer/{v.path}": v for v in self.optimizer.variables
        }

    def save(self) -> None:
        """Write state and checkpoint, each complete before it takes its name."""
        arrays = {name: np.asarray(v) for name, v in self._arrays().items()}
        temporary = self.folder / "state.tmp.npz"
        np.savez(temporary, steps=self.steps, seconds=self.seconds, **arrays)
        os.replace(temporary, self.folder / "state.npz")
        self.model.builder.save_weights_as_checkpoint(
            str(self.folder / "model" / "bert_model.ckpt"), dtype="float16"
        )

    def resume(self) -> bool:
        """Go on from the last save, if there is one."""
        path = self.folder / "state.npz"
        if not path.exists():
            return False
        with np.load(path) as state:
            self.steps, self.seconds = int(state["steps"]), float(state["seconds"])
            for name, variable in self._arrays().items():
                variable.assign(state[name])
        return True

    def train(self, tasks: Tasks, minutes: float, save_minutes: float) -> None:
        """Step until the minutes are spent, logging every 50 steps."""
        budget, begun = 60 * minutes, time.monotonic() - self.seconds
        saved = reported = time.monotonic()
        losses: dict[str, list[float]] = {name: [] for name in self.step}
        path = self.folder / "loss.csv"
        new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as file:
            log = csv.writer(file, lineterminator="\n")
            if new:
                log.writerow(["step", "minutes", "learning_rate", *self.step])
            while self.seconds < budget:
                progress = self.seconds / budget
                self.optimizer.learning_rate = learning_rate(progress, self.peak)
                share = shares(progress)
                kind = str(tasks.rng.choice(list(share), p=list(share.values())))
                losses[kind].append(float(self.step[kind](*next(getattr(tasks, kind)))))
                self.steps += 1
                self.seconds = time.monotonic() - begun
                if self.steps % 50 == 0:
                    means = [f"{np.mean(x):.4f}" if x else "" for x in losses.values()]
                    rate = f"{learning_rate(progress, self.peak):.2e}"
                    log.writerow([self.steps, f"{self.seconds / 60:.2f}", rate, *means])
                    file.flush()
                    pace = 1000 * (time.monotonic() - reported) / 50
                    named = " ".join(f"{n} {m}" for n, m in zip(losses, means, strict=True) if m)
                    print(
                        f"{self.steps:6d} {self.seconds / 60:6.2f} min {pace:5.0f} ms/step "
                        f"rate {rate} {named}",
                        flush=True,
                    )
                    reported = time.monotonic()
                    losses = {name: [] for name in self.step}
                if time.monotonic() - saved > 60 * save_minutes:
                    self.save()
                    saved = time.monotonic()
        self.save()


def main() -> None:
    """Vocabulary, model, training, scores."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where the run is kept, and resumed from")
    parser.add_argument("--minutes", type=float, default=30, help="wall time to train (default 30)")
    parser.add_argument("--save-minutes", type=float, default=4, help="between saves (default 4)")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a batch (default 4096)")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1, help="of weights, batches, masks")
    parser.add_argument("--policy", default="mixed_bfloat16", help="or float32, half as fast")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see it run")
    args = parser.parse_args()
    if args.smoke:
        args.minutes, args.tokens = 0.1, 512
    root = ship_sets.data_folder()
    shipped = args.folder / "model"
    shipped.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    keras.config.set_dtype_policy(args.policy)

    vocabulary = shipped / "vocab.txt"
    if not vocabulary.exists():
        tokens = make_vocabulary(ship_sets.training_text(root))
        save_vocab(str(vocabulary), {token: i for i, token in enumerate(tokens)})
    encoder = Encoder(Tokenizer(str(vocabulary), do_lower_case=True))
    config = {**CONFIG, "vocab_size": encoder.vocab_size}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (shipped / "bert_config.json").write_text(text, encoding="utf-8", newline="\n")

    model = Model(config)
    run = Run(args.folder, model, args.rate)
    resumed = run.resume()
    print(f"vocabulary {encoder.vocab_size}, {model.builder.model.count_params():,} parameters")
    # A resumed run must not see the first batches again.
    tasks = Tasks(root, encoder, args.tokens, args.seed + run.steps)
    print(f"{len(tasks.text)} texts, {len(tasks.writer.questions)} questions, resumed: {resumed}")
    run.train(tasks, args.minutes, args.save_minutes)
    evaluation.report(shipped, root, limit=20 if args.smoke else None)


if __name__ == "__main__":
    main()
