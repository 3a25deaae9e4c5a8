"""A model in pretraining: one loss for whatever a batch asks, on every backend.

:class:`Pretrainer` is a Keras model around a builder's layers. A batch is a dictionary (see
:mod:`bert4kexue.training.objectives`); the keys it has say which losses are computed:

    labels         cross-entropy of the asked tokens, only those rows of the hidden states through
                   the token head (it costs as much as two layers of a small model)
    is_next        cross-entropy of the next-sentence head
    pair_weights   in-batch contrast: each row against all others, its partner is row i ^ 1
                   (SimBERT, kexue.fm/archives/7427), or, with `scores`,
                   CoSENT: log(1 + sum over scores_i > scores_j of exp(scale (cos_j - cos_i)));
                   with `sentences`, numbers by which the same sentence in other rows is spared

Axis letters: b rows, n tokens, m asked places, H hidden, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4kexue.ops.similarity import cosent, in_batch_contrast, pair_cosines, weighted_mean


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
        total = total + self.pair_losses(batch, found)
        # A head that this batch asks nothing of has the gradient zero, on every backend alike.
        unused = [ops.reshape(v, (-1,))[0] for v in self.trainable_variables]
        return total + 0.0 * ops.sum(ops.stack([ops.cast(v, "float32") for v in unused]))

    def pair_losses(self, batch: Mapping[str, Any], found: Mapping[str, Any]) -> Any:
        """The losses of a batch of pairs, a scalar; 0 for any other batch."""
        if "pair_weights" not in batch:
            return ops.zeros((), "float32")
        pooled = self._output(found, "pooled")
        loss = score_loss if "scores" in batch else contrast_loss
        return loss(batch, pooled, self.scale)

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

    def _output(self, found: Mapping[str, Any], role: str) -> Any:
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
        return weighted_mean(losses, batch["weights"])


def _next_loss(batch: Mapping[str, Any], probabilities: Any) -> Any:
    losses = keras.losses.sparse_categorical_crossentropy(
        batch["is_next"], ops.cast(probabilities, "float32")
    )
    return weighted_mean(losses, batch["row_weights"])


def contrast_loss(batch: Mapping[str, Any], pooled: Any, scale: float) -> Any:
    """:func:`in_batch_contrast` of a batch's rows."""
    return in_batch_contrast(pooled, scale, batch["pair_weights"], batch.get("sentences"))


def score_loss(batch: Mapping[str, Any], pooled: Any, scale: float) -> Any:
    """:func:`cosent` of a batch's pairs."""
    real = ops.reshape(ops.cast(batch["pair_weights"], "float32"), (-1, 2))[:, 0]
    return cosent(pair_cosines(pooled), batch["scores"], scale, real)
