"""Training of the model that `KnowledgeQA` asks (kexue.fm/archives/8802).

A row is `[CLS] Q [SEP] S [SEP] P [SEP] M [SEP]` under the UniLM mask: the question is read from
both sides, the key of its fact is written left to right, and only the key's tokens count. An empty
meaning leaves two [SEP] in a row.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert4kexue._files import atomic_write
from bert4kexue.methods.knowledge_base import Order, ordered
from bert4kexue.methods.knowledge_files import encode_parts
from bert4kexue.methods.knowledge_folder import MODEL_MARK
from bert4kexue.methods.question_files import LabelledQuestion
from bert4kexue.methods.question_rewriting import Question, QuestionWriter

_BATCH = 65536


class TrainingRows(NamedTuple):
    """Questions as rows of `training.objectives.Continuations`."""

    rows: list[tuple[Sequence[int], Sequence[int]]]
    """Ids of the question without special tokens, and of the key."""
    left_out: int
    """Questions whose keys are too long."""


def as_questions(questions: Iterable[LabelledQuestion]) -> list[Question]:
    """Questions with the parts of their keys."""
    return [Question(q.question, *q.fact) for q in questions]


def rewritten(
    questions: Sequence[Question],
    times: int,
    seed: int,
    names: Sequence[str] = (),
    pieces: Sequence[str] = (),
) -> list[Question]:
    """The questions, and each of them `times` more with its subject swapped.

    Two in five of the swapped subjects are random pieces: a model copies only tokens that it was
    made to copy, and rare ones stand in few names.

    Args:
        questions: what is trained on.
        times: copies of each.
        seed: of what is drawn.
        names: further subjects, such as names of people and places.
        pieces: that random subjects are made of (`subject_pieces`); the questions' ideographs when
            there are none.
    """
    if times < 0:
        raise ValueError(f"rewrites must be 0 or more, got {times}")
    writer = QuestionWriter(
        questions, [*names] if names else (), characters=pieces, noise=0.4, quoted=0.1
    )
    rng = np.random.default_rng([seed, 5])
    copies = (writer.write(question, rng) for _ in range(times) for question in questions)
    return [*questions, *copies]


def subject_pieces(tokenizer: Any) -> list[str]:
    """The tokens of a vocabulary that names are made of, without `##`: letters, digits,
    ideographs."""
    pieces = (token.removeprefix("##") for token in tokenizer._token_dict)
    return sorted({piece for piece in pieces if piece.isalnum()})


def training_rows(
    questions: Sequence[Question], tokenizer: Any, order: Order = "spm", length: int = 64
) -> TrainingRows:
    """The rows of questions.

    Args:
        questions: with their keys.
        tokenizer: the model's.
        order: of a key's parts.
        length: the most tokens of a row. A key may fill half of it; longer ones are left out. A
            question that is too long for the rest loses its end.

    Raises:
        ValueError: no question is left.
    """
    rows: list[tuple[Sequence[int], Sequence[int]]] = []
    ordered(("", "", ""), order)
    for start in range(0, len(questions), _BATCH):
        block = questions[start : start + _BATCH]
        texts = [text for q in block for text in (q.question, *ordered(q[1:], order))]
        tokens, sizes = encode_parts(tokenizer, texts)
        ends = np.cumsum(sizes)
        begins = ends - sizes
        for first in range(0, len(texts), 4):
            begin, middle, end = begins[first], ends[first], ends[first + 3]
            if end - middle <= length // 2:
                rows.append((tokens[begin : middle - 1].tolist(), tokens[middle:end].tolist()))
    if not rows:
        raise ValueError(
            f"none of the {len(questions)} questions has a key of at most {length // 2} tokens: "
            f"raise length={length}"
        )
    return TrainingRows(rows, len(questions) - len(rows))


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnowledgeTraining:
    """How a model is trained.

    Args:
        steps: of the whole run.
        order: of a key's parts.
        length: the most tokens of a row.
        tokens: of a batch, padding included.
        multiple: widths of batches are multiples of it, and the numbers of asked places of half
            of it: `length` makes one shape of all batches, which is compiled once.
        rate: the peak of the learning rate.
        warmup: share of the steps.
        decay: 'linear', 'cosine' or 'constant'.
        dropout: of hidden states and attention.
        ema: momentum of averaged weights, which are then the ones that are written.
        seed: of batches, dropout.
    """

    steps: int
    order: Order = "spm"
    length: int = 64
    tokens: int = 4096
    multiple: int = 16
    rate: float = 3e-4
    warmup: float = 0.05
    decay: str = "linear"
    dropout: float = 0.1
    ema: float | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        ordered(("", "", ""), self.order)
        if self.length < 8 or self.multiple < 2 or self.tokens < self.length:
            raise ValueError(
                f"length={self.length} must be 8 or more, multiple={self.multiple} 2 or more, "
                f"tokens={self.tokens} no less than length"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")


def training_run(
    output: str | Path,
    model: str | Path,
    questions: Sequence[Question],
    tokenizer: Any,
    settings: KnowledgeTraining,
    *,
    family: str = "roformer",
    dtype: str = "float32",
    log_every: int = 20,
    save_every: int = 200,
    data: str = "",
) -> Any:
    """A `training.run.PretrainingRun` that writes a model for `KnowledgeQA`; `train()` starts it.

    Args:
        output: the run's folder; the trained model is in its `model/`, in the original layout.
        model: the folder to begin with, in the original layout.
        questions: what to train on.
        tokenizer: the model's.
        settings: how.
        family: 'roformer' or 'bert'.
        dtype: of the written checkpoint.
        log_every: steps.
        save_every: steps; a multiple of `log_every`.
        data: what tells the questions from others (a hash); a run with others is not gone on with.

    Raises:
        ValueError: no question is left, vocabulary and config are of two sizes, or `dtype` is no
            type of a checkpoint.
    """
    import keras

    from bert4kexue.checkpoints.places import checkpoint_folder
    from bert4kexue.models.factory import check_vocabulary
    from bert4kexue.models.loading import storage_dtype
    from bert4kexue.models.pretraining import build_pretrainer
    from bert4kexue.training.objectives import Continuations
    from bert4kexue.training.plan import Plan
    from bert4kexue.training.pretraining import WarmupDecay
    from bert4kexue.training.run import PretrainingRun, Task
    from bert4kexue.training.special import Special

    s = settings
    storage_dtype(dtype)  # refused now, not when the first checkpoint is written
    rows, _ = training_rows(questions, tokenizer, s.order, s.length)
    special = Special.of(tokenizer)
    written = Continuations(rows, special, multiple=max(1, s.multiple // 2))
    plan = Plan(written, s.tokens, s.length, [s.seed], s.multiple)
    keras.utils.set_random_seed(s.seed)
    with checkpoint_folder(model) as folder:
        config = json.loads((folder / "bert_config.json").read_text(encoding="utf-8"))
        vocabulary = (folder / "vocab.txt").read_bytes()
        check_vocabulary(folder / "vocab.txt", config.get("vocab_size"))
        trainer, builder = build_pretrainer(
            config,
            family,
            ("unilm",),
            checkpoint=folder / "bert_model.ckpt",
            hidden_dropout_prob=s.dropout,
            attention_probs_dropout_prob=s.dropout,
        )
    rate = WarmupDecay(s.rate, s.steps, int(s.warmup * s.steps), s.decay)
    optimizer = keras.optimizers.AdamW(
        rate,
        weight_decay=0.01,
        global_clipnorm=1.0,
        use_ema=s.ema is not None,
        ema_momentum=0.99 if s.ema is None else s.ema,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    # Batches have many shapes, each of which XLA would compile for some seconds; JAX has to.
    jax = keras.backend.backend() == "jax"
    trainer.compile(optimizer=optimizer, jit_compile="auto" if jax else False)

    def write(to: Path) -> None:
        to.mkdir(exist_ok=True)
        with atomic_write(to / "vocab.txt") as file:
            file.write(vocabulary)
        for name, value in (("bert_config.json", config), (MODEL_MARK, {"order": s.order})):
            with atomic_write(to / name, "w") as file:
                file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        builder.save_weights_as_checkpoint(to / "bert_model.ckpt", dtype=dtype)

    policy = keras.config.dtype_policy().name
    chosen = dataclasses.asdict(s) | {"model": str(model), "policy": policy, "data": data}
    return PretrainingRun(
        output,
        trainer,
        {"written": Task(plan)},
        steps=s.steps,
        seed=s.seed,
        write_checkpoint=write,
        log_every=log_every,
        save_every=save_every,
        settings=chosen,
    )
