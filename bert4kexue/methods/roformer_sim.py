"""SimBERT, RoFormer-Sim and RoFormer-Sim-FT: one encoder that retrieves and paraphrases.

Three generations of training (kexue.fm/archives/7427, 8454, 8541), each a batch that the trainer
tells by its keys (:mod:`bert4kexue.methods.similarity_rows` makes them):

    stage 1   labels, pair_weights                   L = L_gen + L_contrast: a paraphrase is written
                                                     from its source under the UniLM mask, and the
                                                     two [CLS] vectors find each other in the batch
    stage 2   labels, pair_weights, teacher_cosines  L = L_gen + L_sim: another model's cosines in
                                                     the place of the contrast
    FT        pair_labels, pair_weights              Sentence-BERT: two and three classes over
                                                     [u; v; |u - v|], or a loss of the cosine
    FT back   the same as stage 2                    the fine-tuned model teaches the model of
                                                     stage 2, which so keeps writing

    CoSENT    scores, pair_weights                   the order of scores
    SimCSE    pair_weights                           a sentence twice, dropout making the difference

Whatever the post does by dropping half of a row into another loss is here one forward of the
model. [CLS] of a source never sees the target: that is what the UniLM mask is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import keras
from keras import ops

from bert4kexue.methods.similarity_labels import LABELS, TASKS
from bert4kexue.models.builder import Transformer
from bert4kexue.models.pretraining import build_pretrainer
from bert4kexue.ops.similarity import (
    PairLoss,
    cosine_losses,
    masked_cross_entropy,
    pair_cosines,
    pair_features,
    similarity_distillation,
    weighted_mean,
)
from bert4kexue.training.pretraining import Pretrainer


class SimilarityTrainer(Pretrainer):
    """Trains a sentence encoder; see the module for what its batches may ask.

    Args:
        bodies, token_head, outputs, scale: as :class:`Pretrainer` takes them.
        pair_loss: what labelled pairs are trained by: 'classes', a layer of five classes without
            bias over [u; v; |u - v|], or one of `ops.similarity.cosine_losses`. A loss of the
            cosine takes entailment for similar, contradiction for not, and leaves neutral out.
        distillation_weight: lambda of the distillation.
    """

    def __init__(
        self,
        bodies: Mapping[str, keras.Model],
        token_head: keras.Model | None,
        outputs: tuple[str, ...] = ("hidden", "pooled"),
        scale: float = 20.0,
        *,
        pair_loss: PairLoss = "classes",
        distillation_weight: float = 100.0,
    ) -> None:
        if pair_loss not in get_args(PairLoss):
            raise ValueError(f"pair_loss={pair_loss!r}: choose one of {list(get_args(PairLoss))}")
        super().__init__(bodies, token_head, outputs, scale)
        self.pair_loss, self.distillation_weight = pair_loss, distillation_weight
        self.pair_head: Any = None
        if pair_loss == "classes":
            # float32 under any policy, as are the losses.
            self.pair_head = keras.layers.Dense(
                len(LABELS), use_bias=False, dtype="float32", name="pair_head"
            )
            width = next(iter(self.bodies.values())).outputs[outputs.index("pooled")].shape[-1]
            self.pair_head.build((None, 3 * width))

    def pair_losses(self, batch: Mapping[str, Any], found: Mapping[str, Any]) -> Any:
        """Distillation or labelled pairs; contrast or CoSENT as in pretraining."""
        if "teacher_cosines" in batch:
            return similarity_distillation(
                self._output(found, "pooled"),
                batch["teacher_cosines"],
                self.distillation_weight,
                batch["pair_weights"],
            )
        if "pair_labels" not in batch:
            return super().pair_losses(batch, found)
        pooled, labels = self._output(found, "pooled"), ops.cast(batch["pair_labels"], "int32")
        real = ops.reshape(ops.cast(batch["pair_weights"], "float32"), (-1, 2))[:, 0]
        if self.pair_head is not None:
            losses = masked_cross_entropy(labels, self.pair_head(pair_features(pooled)), TASKS)
            return weighted_mean(losses, real)
        alike = ops.logical_or(labels == LABELS["similar"], labels == LABELS["entailment"])
        told = ops.cast(labels != LABELS["neutral"], "float32")
        losses = cosine_losses(alike, pair_cosines(pooled), self.pair_loss)
        return weighted_mean(losses, real * told)


class SimilarityTraining(NamedTuple):
    """What :func:`build_similarity_trainer` makes."""

    trainer: SimilarityTrainer
    builder: Transformer  # saves the checkpoint


def build_similarity_trainer(
    config: Any,
    model: str = "roformer",
    *,
    checkpoint: Any = None,
    scale: float = 20.0,
    dropout: float | None = None,
    pair_loss: PairLoss = "classes",
    distillation_weight: float = 100.0,
    **overrides: Any,
) -> SimilarityTraining:
    """A UniLM with a linear pooler, ready to be trained by any of the stages.

    Args:
        config: `bert_config.json` or its keys.
        model: 'roformer' or 'bert'.
        checkpoint: to go on from; None starts at random.
        scale: of the cosines: 20, and 30 for SimBERT.
        dropout: of hidden states and attention; the config's when None. The posts take 0.2.
        pair_loss: see :class:`SimilarityTrainer`.
        distillation_weight: likewise.
        **overrides: further fields of the config.

    Raises:
        ValueError: a dropout that is none, or what the builder refuses.
        CheckpointError: the checkpoint does not fit.
    """
    if dropout is not None:
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        overrides |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    built = build_pretrainer(config, model, ("unilm",), checkpoint=checkpoint, **overrides)
    made = built.pretrainer
    trainer = SimilarityTrainer(
        made.bodies,
        made.token_head,
        made.output_roles,
        scale,
        pair_loss=pair_loss,
        distillation_weight=distillation_weight,
    )
    return SimilarityTraining(trainer, built.builder)
