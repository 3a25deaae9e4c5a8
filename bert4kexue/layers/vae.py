"""The two pieces of a variational autoencoder that are layers (kexue.fm/archives/8791, 5253).

In the post's symbols: the encoder gives p(z|x) = N(mean, exp(log_variance)), `GaussianSampling`
draws z from it so that gradients reach both, and `StandardNormalKL` is KL(p(z|x) || q(z)) with the
prior q(z) = N(0, I).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4kexue.ops.densities import standard_normal_kl


@keras.saving.register_keras_serializable(package="bert4kexue")
class GaussianSampling(keras.layers.Layer):
    """Reparametrized draws: mean + exp(log_variance / 2) * noise, (b, d) -> (b, M, d).

    Called on ``[mean, log_variance]``, the noise is drawn from the layer's own generator, in
    training and in inference alike; on ``[mean, log_variance, noise]``, noise (b, M, d), nothing
    is random.

    Args:
        samples: M, how many draws of each row.
        seed: of the generator, whose state is saved with the layer.
    """

    def __init__(self, samples: int = 1, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if samples < 1:
            raise ValueError(f"samples must be 1 or more, got {samples}: one draw is a plain VAE")
        self.samples = samples
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: list[Any]) -> Any:
        """M draws of every row."""
        mean, log_variance = inputs[0], inputs[1]
        if len(inputs) > 2:
            noise = ops.cast(inputs[2], mean.dtype)
        else:
            rows, width = ops.shape(mean)
            noise = keras.random.normal(
                (rows, self.samples, width), dtype=mean.dtype, seed=self.generator
            )
        return mean[:, None] + ops.exp(0.5 * log_variance)[:, None] * noise

    def compute_output_shape(self, input_shape: list[Any]) -> Any:
        """(b, d) -> (b, M, d); M is the noise's where one is given."""
        rows, width = input_shape[0]
        samples = input_shape[2][1] if len(input_shape) > 2 else self.samples
        return (rows, samples, width)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "samples": self.samples, "seed": self.seed}


@keras.saving.register_keras_serializable(package="bert4kexue")
class StandardNormalKL(keras.layers.Layer):
    """KL(N(mean, exp(log_variance)) || N(0, I)) in nats: ``[mean, log_variance]`` -> (b,).

    Args:
        weight: when not 0, that many times the batch's mean is added to the model's loss, for
            models that are put together by hand.
    """

    def __init__(self, weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = weight

    def call(self, inputs: list[Any]) -> Any:
        """The divergence of each row."""
        divergence = standard_normal_kl(*inputs)
        if self.weight:
            self.add_loss(self.weight * ops.mean(divergence))
        return divergence

    def compute_output_shape(self, input_shape: list[Any]) -> Any:
        """(b, d) -> (b,)."""
        return (input_shape[0][0],)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "weight": self.weight}
