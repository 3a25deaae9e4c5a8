"""Losses of sentence vectors: contrast in a batch, order of scores, distillation, labelled pairs.

Sources: SimBERT (kexue.fm/archives/7427), RoFormer-Sim (8454), RoFormer-Sim-FT (8541), CoSENT
(8847), SimCSE (8348).

Relations. All of them pull cosines apart, and differ in what is known of a pair:

* *that it is one*: the contrast. SimCSE is the same loss where a sentence's partner is the sentence
  itself under another dropout, SimBERT where it is a paraphrase.
* *how alike it is*: CoSENT, the contrast over cosines instead of over rows: log(1 + sum exp) over
  all pairs in the wrong order. With one positive and m negatives at scale s it is the contrast's
  own softmax cross-entropy.
* *what it is* (similar or not, entailed or not): a classifier over [u; v; |u - v|], whose cosine is
  never trained directly.
* *another model's cosines*: distillation, which needs no label and no equal width.

Everything is computed in float32 whatever the vectors are, since a half precision's cosine times 20
has errors of the size of the differences that are learned.

Axis letters: b rows (2i and 2i + 1 are a pair), p pairs, H hidden, k classes.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

#: The losses that labelled pairs may be trained by: a classifier, or one of three of the cosine.
PairLoss = Literal["classes", "cosine", "cosine_opposite", "cosine_margin"]
# exp of it is 0 in float32, and sums of several stay finite.
_NEVER = -1e9


def unit(vectors: Any) -> Any:
    """(..., H) of length one in float32; a zero vector stays zero, with a finite gradient."""
    vectors = ops.cast(vectors, "float32")
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(squares, 1e-18))


def in_batch_contrast(
    vectors: Any, scale: float = 20.0, real: Any = None, sentences: Any = None
) -> Any:
    """Cross-entropy of each row's partner i ^ 1 among all other rows of the batch.

    Args:
        vectors: (b, H), of any length; b even.
        scale: of the cosines: 30 in SimBERT, 20 in RoFormer-Sim.
        real: (b,), 0 for rows that only fill up the batch.
        sentences: (b,) numbers; rows of one number hold the same sentence. A row is not held
            against its own sentence or its partner's when they occur elsewhere in the batch.

    Returns:
        The mean over real rows. ln(b - 1) where all vectors are one; ln(1 + (b - 2) e^-scale)
        where partners are one and all else is orthogonal; 0, saying nothing, for b = 2.

    Raises:
        ValueError: b is odd.
    """
    v = unit(vectors)
    b = _pairs_of(v)
    place = ops.arange(b)
    partner = place + 1 - 2 * (place % 2)
    hidden = ops.eye(b)
    if real is not None:
        hidden = hidden + (1 - ops.cast(real, "float32"))[None]
    if sentences is not None:
        mine = ops.cast(sentences, "int32")
        theirs = ops.take(mine, partner, axis=0)
        twin = ops.logical_or(mine[:, None] == mine[None], theirs[:, None] == mine[None])
        other = place[None] != partner[:, None]
        hidden = hidden + ops.cast(ops.logical_and(twin, other), "float32")
    logits = scale * ops.matmul(v, ops.transpose(v)) + _NEVER * hidden
    losses = keras.losses.sparse_categorical_crossentropy(partner, logits, from_logits=True)
    return weighted_mean(losses, real)


def cosent(cosines: Any, scores: Any, scale: float = 20.0, real: Any = None) -> Any:
    """log(1 + sum of exp(scale (cos_j - cos_i)) over pairs i, j with scores_i > scores_j).

    Args:
        cosines: (p,).
        scores: (p,): only their order counts.
        scale: of the cosines.
        real: (p,), 0 for pairs that only fill up the batch.
    """
    cosines = scale * ops.cast(cosines, "float32")
    scores = ops.cast(scores, "float32")
    higher = scores[:, None] > scores[None]
    if real is not None:
        kept = ops.cast(real, "float32") > 0
        higher = ops.logical_and(higher, ops.logical_and(kept[:, None], kept[None]))
    terms = ops.where(higher, cosines[None] - cosines[:, None], _NEVER)
    return ops.logsumexp(ops.concatenate([ops.zeros((1,)), ops.reshape(terms, (-1,))], axis=0))


def pair_cosines(vectors: Any) -> Any:
    """(b, H) to the cosines (b / 2,) of rows 2i and 2i + 1."""
    v = unit(vectors)
    pairs = ops.reshape(v, (_pairs_of(v) // 2, 2, v.shape[-1]))
    return ops.sum(pairs[:, 0] * pairs[:, 1], axis=-1)


def similarity_distillation(
    vectors: Any, teacher_cosines: Any, weight: float = 100.0, real: Any = None
) -> Any:
    """weight times the mean squared difference of the student's cosines and the teacher's.

    The mean is over all n² pairs of real rows, the diagonal (always 0) among them. Rotating or
    scaling either side's vectors changes nothing, and their widths may differ.

    Args:
        vectors: (b, H) of the student.
        teacher_cosines: (b, b).
        weight: lambda.
        real: (b,), 0 for rows that only fill up the batch.
    """
    v = unit(vectors)
    difference = ops.matmul(v, ops.transpose(v)) - ops.cast(teacher_cosines, "float32")
    squares = ops.square(difference)
    if real is None:
        return weight * ops.mean(squares)
    real = ops.cast(real, "float32")
    return (
        weight
        * ops.sum(squares * real[:, None] * real[None])
        / ops.maximum(ops.square(ops.sum(real)), 1.0)
    )


def pair_features(vectors: Any) -> Any:
    """(b, H) to [u; v; |u - v|] (b / 2, 3 H) in float32, u and v the rows 2i and 2i + 1.

    |u - v| is what means something; <u, w1> + <v, w2> takes the topic upon itself.
    """
    vectors = ops.cast(vectors, "float32")
    pairs = ops.reshape(vectors, (_pairs_of(vectors) // 2, 2, vectors.shape[-1]))
    u, v = pairs[:, 0], pairs[:, 1]
    return ops.concatenate([u, v, ops.abs(u - v)], axis=-1)


def masked_cross_entropy(
    labels: Any, logits: Any, tasks: tuple[tuple[int, int], ...] = ((0, 2), (2, 5))
) -> Any:
    """(p,) cross-entropies of `labels` among the classes of their own task.

    Args:
        labels: (p,) int; 0 and 1 not similar and similar, 2 to 4 contradiction, entailment,
            neutral, by default.
        logits: (p, k).
        tasks: first and one past the last class of each task. What belongs to another task than the
            label is left out of the softmax, so that one head is as good as one for each task.
    """
    labels = ops.cast(labels, "int32")[:, None]
    classes = ops.arange(logits.shape[-1])[None]
    allowed = ops.zeros_like(classes, dtype="bool")
    for first, last in tasks:
        label_inside = ops.logical_and(labels >= first, labels < last)
        class_inside = ops.logical_and(classes >= first, classes < last)
        allowed = ops.logical_or(allowed, ops.logical_and(label_inside, class_inside))
    masked = ops.where(allowed, ops.cast(logits, "float32"), _NEVER)
    return keras.losses.sparse_categorical_crossentropy(labels[:, 0], masked, from_logits=True)


def cosine_losses(labels: Any, cosines: Any, kind: PairLoss) -> Any:
    """(p,) losses of cosines c where t is 1 for similar and 0 for not.

    'cosine' is t (c - 1)² + (1 - t) c², 'cosine_opposite' t (c - 1)² + (1 - t)(c + 1)²,
    'cosine_margin' t max(0.9 - c, 0) + (1 - t) max(c - 0.1, 0). The post found each of them worse
    than the classifier.
    """
    t, c = ops.cast(labels, "float32"), ops.cast(cosines, "float32")
    if kind == "cosine":
        return t * ops.square(c - 1) + (1 - t) * ops.square(c)
    if kind == "cosine_opposite":
        return t * ops.square(c - 1) + (1 - t) * ops.square(c + 1)
    if kind == "cosine_margin":
        return t * ops.maximum(0.9 - c, 0.0) + (1 - t) * ops.maximum(c - 0.1, 0.0)
    raise ValueError(
        f"kind={kind!r}: choose 'cosine', 'cosine_opposite' or 'cosine_margin' ('classes' is "
        "masked_cross_entropy)"
    )


def weighted_mean(losses: Any, weights: Any = None) -> Any:
    """The mean of `losses`, by `weights` where there are any; 0 where all of them are 0."""
    if weights is None:
        return ops.mean(losses)
    weights = ops.cast(weights, "float32")
    return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1.0)


def _pairs_of(vectors: Any) -> Any:
    """b, which must be even where it is known."""
    static = vectors.shape[0]
    if isinstance(static, int) and static % 2:
        raise ValueError(
            f"rows 2i and 2i + 1 of a batch are a pair, so it has an even number of rows; got "
            f"{static}"
        )
    return ops.shape(vectors)[0]
