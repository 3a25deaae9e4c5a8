"""A model in pretraining: one loss for whatever a batch asks, on every backend.

:class:`Pretrainer` is a Keras model around a builder's layers. A batch is a dictionary (see
:mod:`bert4kexue.training.objectives`); the keys it has say which losses are computed:

    labels         cross-entropy of the asked tokens, only those rows of the hidden states through
                   the token head (it costs as much as two layers of a small model)
    is_next        cross-entropy of the next-sentence head
    pair_weights   in-batch contrast: each row against all others, its partner is row i ^ 1
                   (SimBERT, kexue.fm/archives/7427), or, with `scores`,
                   CoSENT: log(1 + sum over scores_i > scores_j of exp(scale (cos_j - cos_i)))

Axis letters: b rows, n tokens, m asked places, H hidden, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("bert4kexue")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then linear or cosine decay.

    Args:
        peak: the highest rate.
        steps: of the whole run.
        warmup: steps to the peak.
        decay: 'linear', 'cosine' or 'constant'.
        floor: share of the peak that is left at the end.
    """

    def __init__(
        self,
        peak: float,
        steps: int,
        warmup: int,
        decay: str = "linear",
        floor: float = 0.0,
    ) -> None:
        super().__init__()
        if decay not in ("linear", "cosine", "constant"):
            raise ValueError(f"decay must be 'linear', 'cosine' or 'constant', got {decay!r}")
        if not 0 <= warmup < steps:
            raise ValueError(f"warmup must be at least 0 and below steps={steps}, got {warmup}")
        self.peak, self.steps, self.warmup = peak, steps, warmup
        self.decay, self.floor = decay, floor

    def __call__(self, step: Any) -> Any:
        """The rate of step `step`, counted from 0."""
        step = ops.cast(step, "float32")
        rising = (step + 1) / max(1, self.warmup)
        spent = ops.clip((step - self.warmup) / max(1, self.steps - self.warmup), 0.0, 1.0)
        if self.decay == "linear":
            share = 1 - (1 - self.floor) * spent
        elif self.decay == "cosine":
            share = self.floor + (1 - self.floor) * 0.5 * (1 + ops.cos(np.pi * spent))
        else:
            share = ops.ones_like(spent)
        return self.peak * ops.where(step < self.warmup, rising, share)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        names = ("peak", "steps", "warmup", "decay", "floor")
        return {name: getattr(self, name) for name in names}


class Pretrainer(keras.Model):
    """Losses around bodies that share one set of layers.

    Args:
        bodies: by mask: 'bidirectional', 'unilm', 'packed', whichever the batches need. Each maps
            (token_ids, segment_ids), 'packed' also document_ids, to what `outputs` names.
        token_head: (b, m, H) to logits (b, m, v); None without token losses.
        outputs: what each body gives, in order: 'hidden' states (b, n, H), 'pooled' (b, H), 'next'
            sentence probabilities (b, 2).
        scale: of the cosines.

    Raises:
        ValueError: a batch asks for a head or mask that is not there.
    """

    def __init__(
        self,
        bodies: Mapping[str, keras.Model],
        token_head: keras.Model | None,
        outputs: tuple[str, ...] = ("hidden", "pooled"),
        scale: float = 20.0,
    ) -> None:
        super().__init__()
        self.bodies = dict(bodies)
        self.token_head = token_head
        self.output_roles = outputs
        self.scale = scale

    def call(self, batch: Mapping[str, Any], training: bool = False) -> Any:
        """The batch's loss, a scalar."""
        found = self._body(batch, training)
        total = ops.zeros((), "float32")
        if "labels" in batch:
            total = total + self._token_loss(batch, self._output(found, "hidden"))
        if "is_next" in batch:
            total = total + _next_loss(batch, self._output(found, "next"))
        if "pair_weights" in batch:
            pooled = ops.cast(self._output(found, "pooled"), "float32")
            pooled = pooled / ops.maximum(ops.norm(pooled, axis=-1, keepdims=True), 1e-9)
            loss = score_loss if "scores" in batch else contrast_loss
            total = total + loss(batch, pooled, self.scale)
        # A head that this batch asks nothing of has the gradient zero, on every backend alike.
        unused = [ops.reshape(v, (-1,))[0] for v in self.trainable_variables]
        return total + 0.0 * ops.sum(ops.stack([ops.cast(v, "float32") for v in unused]))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """What `call` gave is the loss."""
        return y_pred

    def _body(self, batch: Mapping[str, Any], training: bool) -> dict[str, Any]:
        if "document_ids" in batch:
            kind = "packed"
        elif "is_next" in batch:
            kind = "bidirectional"
        else:
            kind = "unilm" if "unilm" in self.bodies else "bidirectional"
        if kind not in self.bodies:
            raise ValueError(
                f"the batch needs the mask {kind!r}, and the model was made with "
                f"{sorted(self.bodies)}"
            )
        inputs = [batch["token_ids"], batch["segment_ids"]]
        if kind == "packed":
            inputs.append(batch["document_ids"])
        found = self.bodies[kind](inputs, training=training)
        several = found if isinstance(found, list | tuple) else [found]
        return dict(zip(self.output_roles, several, strict=True))

    def _output(self, found: dict[str, Any], role: str) -> Any:
        if role not in found:
            raise ValueError(f"the batch needs the output {role!r}; the model has {sorted(found)}")
        return found[role]

    def _token_loss(self, batch: Mapping[str, Any], hidden: Any) -> Any:
        if self.token_head is None:
            raise ValueError("the batch asks for tokens and the model has no token head")
        positions = ops.cast(batch["positions"], "int32")
        asked = ops.take_along_axis(hidden, positions[..., None], axis=1)
        logits = ops.cast(self.token_head(asked), "float32")
        losses = keras.losses.sparse_categorical_crossentropy(
            batch["labels"], logits, from_logits=True
        )
        return _mean(losses, batch["weights"])


def _next_loss(batch: Mapping[str, Any], probabilities: Any) -> Any:
    losses = keras.losses.sparse_categorical_crossentropy(
        batch["is_next"], ops.cast(probabilities, "float32")
    )
    return _mean(losses, batch["row_weights"])


def contrast_loss(batch: Mapping[str, Any], pooled: Any, scale: float) -> Any:
    """Cross-entropy of each row's partner i ^ 1 among all other rows of the batch."""
    b = ops.shape(pooled)[0]
    real = ops.cast(batch["pair_weights"], "float32")
    logits = scale * ops.matmul(pooled, ops.transpose(pooled))
    hidden = ops.eye(b) + (1 - real)[None]
    logits = logits - 1e9 * hidden
    place = ops.arange(b)
    partner = place + 1 - 2 * (place % 2)
    losses = keras.losses.sparse_categorical_crossentropy(partner, logits, from_logits=True)
    return _mean(losses, real)


def score_loss(batch: Mapping[str, Any], pooled: Any, scale: float) -> Any:
    """CoSENT: a pair of a higher score is to have the higher cosine."""
    b = ops.shape(pooled)[0]
    pairs = ops.reshape(pooled, (b // 2, 2, -1))
    cosine = scale * ops.sum(pairs[:, 0] * pairs[:, 1], axis=-1)
    scores = ops.cast(batch["scores"], "float32")
    real = ops.reshape(ops.cast(batch["pair_weights"], "float32"), (b // 2, 2))[:, 0] > 0
    higher = (scores[:, None] > scores[None]) & real[:, None] & real[None]
    terms = ops.where(higher, cosine[None] - cosine[:, None], -1e9)
    terms = ops.concatenate([ops.zeros((1,)), ops.reshape(terms, (-1,))], axis=0)
    return ops.logsumexp(terms)


def _mean(losses: Any, weights: Any) -> Any:
    weights = ops.cast(weights, "float32")
    return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1.0)
