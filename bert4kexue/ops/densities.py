"""Log densities, all in nats: what a latent-variable model is made of (kexue.fm/archives/8791).

Everything is element by element except where an axis is named, and in the dtype of its arguments:
hand over float32, as sums of many terms need it.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

LOG_TWO_PI = math.log(2 * math.pi)


def normal_log_prob(x: Any, mean: Any, log_variance: Any) -> Any:
    """log N(x; mean, exp(log_variance)), element by element."""
    return -0.5 * (
        LOG_TWO_PI + log_variance + ops.square(x - mean) * ops.exp(ops.negative(log_variance))
    )


def standard_normal_kl(mean: Any, log_variance: Any) -> Any:
    """KL(N(mean, exp(log_variance)) || N(0, I)), summed over the last axis: (..., d) -> (...)."""
    terms = ops.square(mean) + ops.exp(log_variance) - 1.0 - log_variance
    return 0.5 * ops.sum(terms, axis=-1)


def bernoulli_log_prob(x: Any, logits: Any) -> Any:
    """log P(x) for x of 0 and 1, where P(1) = sigmoid(logits), element by element."""
    return x * logits - ops.softplus(logits)


def categorical_log_prob(ids: Any, logits: Any) -> Any:
    """log softmax(logits)[ids]: ids (...,), logits (..., v) -> (...,)."""
    chosen = ops.take_along_axis(logits, ops.expand_dims(ids, -1), axis=-1)
    return ops.squeeze(chosen, -1) - ops.logsumexp(logits, axis=-1)


def discretized_logistic_log_prob(x: Any, mean: Any, log_scale: Any, levels: int) -> Any:
    """log P(x) of a logistic density gathered into `levels` equal bins, element by element.

    Args:
        x: whole numbers from 0 to `levels - 1`, as floats. They stand at 2 x / (levels - 1) - 1,
            so that all of them fill [-1, 1]; the outermost bins take the tails, and the `levels`
            probabilities sum to 1.
        mean: location on that scale.
        log_scale: logarithm of the scale on it.
        levels: 256 for bytes.
    """
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): no difference of numbers
    # that are nearly equal, so no -inf far out in the tails.
    half = 1.0 / (levels - 1)
    centered = 2.0 * half * x - 1.0 - mean
    inverse = ops.exp(ops.negative(log_scale))
    below = ops.log_sigmoid((centered + half) * inverse)
    above = ops.log_sigmoid((half - centered) * inverse)
    width = ops.maximum(2.0 * half * inverse, 1e-30)
    inner = below + above + ops.log(ops.negative(ops.expm1(ops.negative(width))))
    return ops.where(x < 0.5, below, ops.where(x > levels - 1.5, above, inner))


def log_mean_exp(x: Any, axis: int) -> Any:
    """log of the mean of exp(x) over an axis, without leaving the logarithms."""
    return ops.logsumexp(x, axis=axis) - math.log(x.shape[axis])
