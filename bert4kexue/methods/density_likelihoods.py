"""What a decoder says of the data: q(x|z), one class for each kind of x (kexue.fm/archives/8791).

A decoder gives P numbers for every element of x, on a last axis: its output is (b, *x, P), where P
is the likelihood's `parameters`. Every class here is a true density or a true probability: summed
or integrated over all x it is 1. (Binary cross-entropy on grey values is not, which is why grey
values are refused by `Bernoulli`.)

Each knows the log density, its mean and mode, how to draw from it, and which data it may be given.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from bert4kexue.ops.densities import (
    bernoulli_log_prob,
    categorical_log_prob,
    discretized_logistic_log_prob,
    normal_log_prob,
)


class Likelihood:
    """What the four have in common.

    `parameters` is P; `discrete` says whether `log_prob` is a probability (then there are bits to
    compress to) or a density.
    """

    parameters: int
    discrete: bool

    def log_prob(self, x: Any, parameters: Any) -> Any:
        """Nats of every row, summed over its elements.

        Args:
            x: shape that broadcasts against (..., *event).
            parameters: (..., *event, P) float32, from the decoder.

        Returns:
            (..., *event): element by element; the caller sums.
        """
        raise NotImplementedError

    def mean(self, parameters: np.ndarray) -> np.ndarray:
        """The expected x, (..., *event); for categories the likeliest."""
        raise NotImplementedError

    def draw(self, parameters: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A sample of q(x|z), (..., *event)."""
        raise NotImplementedError

    def check(self, x: np.ndarray, training: bool = False) -> None:
        """Raise ValueError for data outside the support, NaN and infinities.

        Args:
            x: the data.
            training: also refuse what makes a density grow without bound in training.
        """
        if x.dtype.kind not in "biuf":
            raise ValueError(f"data must be numbers, got dtype {x.dtype}: turn text into ids first")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise ValueError(
                f"data must be finite, got {int((~np.isfinite(x)).sum())} NaN or infinite values "
                f"of {x.size}: remove or fill them first"
            )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Likelihood:
        """The constructor with those."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="bert4kexue")
class GaussianLikelihood(Likelihood):
    """A normal density with its own variance for every element, or with one given variance.

    Args:
        floor: the smallest variance: the decoder's second number r gives floor + softplus(r).
            Without a floor the density of a point that is met exactly grows without bound.
        variance: a fixed variance instead; the decoder then gives the mean alone (P = 1).
    """

    discrete = False

    def __init__(self, floor: float = 1e-3, variance: float | None = None) -> None:
        if not floor > 0:
            raise ValueError(
                f"floor must be positive, got {floor}: a variance of 0 is an infinite density"
            )
        if variance is not None and not variance >= floor:
            raise ValueError(
                f"variance must be at least the floor {floor}, got {variance}: raise it or lower "
                "the floor"
            )
        self.floor, self.variance = floor, variance
        self.parameters = 2 if variance is None else 1

    def log_prob(self, x: Any, parameters: Any) -> Any:
        """See the base class."""
        x = ops.cast(x, parameters.dtype)
        if self.variance is not None:
            return normal_log_prob(x, parameters[..., 0], float(np.log(self.variance)))
        variance = self.floor + ops.softplus(parameters[..., 1])
        return normal_log_prob(x, parameters[..., 0], ops.log(variance))

    def mean(self, parameters: np.ndarray) -> np.ndarray:
        """The first number."""
        return parameters[..., 0]

    def draw(self, parameters: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The mean and normal noise."""
        variance = self.variance
        if variance is None:
            variance = self.floor + np.logaddexp(0, parameters[..., 1])
        noise = random.standard_normal(parameters.shape[:-1], dtype=np.float32)
        return parameters[..., 0] + np.sqrt(variance) * noise

    def check(self, x: np.ndarray, training: bool = False) -> None:
        """Whole numbers are refused: a density on them has no bound worth the name."""
        super().check(x)
        steps = None
        if x.dtype.kind != "f":
            steps = f"dtype {x.dtype}"
        elif training and x.size > 1:
            for unit, what in ((1, "whole numbers only"), (255, "multiples of 1/255 only")):
                if np.abs(x * unit - np.round(x * unit)).max() < 1e-5:
                    steps = what
                    break
        if steps:
            raise ValueError(
                f"a Gaussian density needs continuous data, got {steps}: its variance would fall "
                "to the floor. Dequantize (Preprocessing(levels=256)), or choose the discretized "
                "logistic"
            )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"floor": self.floor, "variance": self.variance}


@keras.saving.register_keras_serializable(package="bert4kexue")
class BernoulliLikelihood(Likelihood):
    """0 or 1 for every element; the decoder gives its logit (P = 1)."""

    discrete = True
    parameters = 1

    def log_prob(self, x: Any, parameters: Any) -> Any:
        """See the base class."""
        return bernoulli_log_prob(ops.cast(x, parameters.dtype), parameters[..., 0])

    def mean(self, parameters: np.ndarray) -> np.ndarray:
        """The probability of 1."""
        return np.exp(-np.logaddexp(0, -parameters[..., 0]))

    def draw(self, parameters: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """0 or 1."""
        mean = self.mean(parameters)
        return (random.random(mean.shape) < mean).astype(np.float32)

    def check(self, x: np.ndarray, training: bool = False) -> None:
        """Nothing but 0 and 1."""
        super().check(x)
        if not np.isin(x, (0, 1)).all():
            raise ValueError(
                f"Bernoulli data are 0 and 1, got values from {x.min()} to {x.max()}: "
                "cross-entropy on grey values is no density. Binarize (x > 0.5) or choose "
                "another likelihood"
            )


@keras.saving.register_keras_serializable(package="bert4kexue")
class DiscretizedLogisticLikelihood(Likelihood):
    """Whole numbers from 0 to `levels - 1`, such as the bytes of an image.

    A logistic density over [-1, 1] gathered into equal bins (Salimans et al., 2017, without the
    mixture). The decoder gives location and logarithm of the scale (P = 2).

    Args:
        levels: how many values.
        floor: the smallest logarithm of the scale.
    """

    discrete = True
    parameters = 2

    def __init__(self, levels: int = 256, floor: float = -7.0) -> None:
        if levels < 2:
            raise ValueError(f"levels must be 2 or more, got {levels}")
        self.levels, self.floor = levels, floor

    def log_prob(self, x: Any, parameters: Any) -> Any:
        """See the base class."""
        return discretized_logistic_log_prob(
            ops.cast(x, parameters.dtype),
            parameters[..., 0],
            ops.maximum(parameters[..., 1], self.floor),
            self.levels,
        )

    def mean(self, parameters: np.ndarray) -> np.ndarray:
        """The location, as a level."""
        level = 0.5 * (parameters[..., 0] + 1) * (self.levels - 1)
        return np.clip(level, 0, self.levels - 1)

    def draw(self, parameters: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The level in whose bin a logistic draw falls."""
        scale = np.exp(np.maximum(parameters[..., 1], self.floor))
        value = parameters[..., 0] + scale * random.logistic(size=parameters.shape[:-1])
        level = np.round(0.5 * (value + 1) * (self.levels - 1))
        return np.clip(level, 0, self.levels - 1).astype(np.float32)

    def check(self, x: np.ndarray, training: bool = False) -> None:
        """Nothing but whole numbers in range."""
        super().check(x)
        _check_whole(x, self.levels, "levels", "multiply images in [0, 1] by 255 and round")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"levels": self.levels, "floor": self.floor}


@keras.saving.register_keras_serializable(package="bert4kexue")
class CategoricalLikelihood(Likelihood):
    """One of v tokens at every place; the decoder gives v logits (P = v).

    Places are independent given z. Padding is a token like any other: the model says with what
    probability a text is over, and the texts of all lengths up to n sum to 1.

    Args:
        vocabulary: v.
    """

    discrete = True

    def __init__(self, vocabulary: int) -> None:
        if vocabulary < 2:
            raise ValueError(f"vocabulary must be 2 or more, got {vocabulary}")
        self.vocabulary = self.parameters = vocabulary

    def log_prob(self, x: Any, parameters: Any) -> Any:
        """See the base class."""
        ids = ops.broadcast_to(ops.cast(x, "int32"), ops.shape(parameters)[:-1])
        return categorical_log_prob(ids, parameters)

    def mean(self, parameters: np.ndarray) -> np.ndarray:
        """The likeliest token."""
        return np.argmax(parameters, axis=-1).astype(np.int32)

    def draw(self, parameters: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A token of each place (the largest of logits and Gumbel noise)."""
        noise = random.gumbel(size=parameters.shape)
        return np.argmax(parameters + noise, axis=-1).astype(np.int32)

    def check(self, x: np.ndarray, training: bool = False) -> None:
        """Nothing but ids."""
        super().check(x)
        _check_whole(x, self.vocabulary, "token ids", "encode the text with the model's vocabulary")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"vocabulary": self.vocabulary}


def _check_whole(x: np.ndarray, below: int, what: str, remedy: str) -> None:
    if x.size and not ((x == np.round(x)).all() and x.min() >= 0 and x.max() < below):
        raise ValueError(
            f"{what} are whole numbers from 0 to {below - 1}, got values from {x.min()} to "
            f"{x.max()}{'' if (x == np.round(x)).all() else ', some of them broken'}: {remedy}"
        )
