"""Densities: log p(x) with its error, by importance sampling inside the graph."""

from __future__ import annotations

from typing import Any

import keras

from bert4kexue.methods.density import VAE
from bert4kexue.methods.density_likelihoods import CategoricalLikelihood
from bert4kexue.serving.export import Endpoint


def log_prob(vae: VAE, *, samples: int = 100, chunk: int = 100, seed: int = 0) -> Endpoint:
    """``log_prob``, ``standard_error`` and ``effective_samples`` (b,) of ``x`` (b, *event).

    The numbers are those of `VAE.log_prob`, from other draws: the same request has the same answer
    always. Data outside the support are not refused here; check them before.

    Args:
        vae: the model; x is int32 where it has a categorical likelihood, else float32.
        samples: draws of each row.
        chunk: draws of each row that are decoded together; memory grows with it times b.
        seed: of the draws.

    Raises:
        ValueError: samples or chunk below 1.
    """
    if samples < 1 or chunk < 1:
        raise ValueError(f"samples and chunk must be 1 or more, got {samples} and {chunk}")
    chunk = min(chunk, samples)
    dtype = "int32" if isinstance(vae.likelihood, CategoricalLikelihood) else "float32"
    turns, rest = -(-samples // chunk), samples % chunk

    def run(x: Any) -> tuple[Any, ...]:
        import tensorflow as tf

        mean, log_variance = vae.encoder(x, training=False)
        rows = tf.shape(mean)[0]

        def turn(number: Any, total: Any, squares: Any) -> tuple[Any, ...]:
            noise = tf.random.stateless_normal((rows, chunk, vae.latent), tf.stack([seed, number]))
            z = mean[:, None] + tf.exp(0.5 * log_variance)[:, None] * noise
            weights = vae.log_weights(x, mean, log_variance, z, training=False)
            if rest:  # of the last turn some draws are one too many
                unused = (number == turns - 1) & (tf.range(chunk) >= rest)
                weights = tf.where(unused[None], -float("inf"), weights)
            return (
                number + 1,
                tf.reduce_logsumexp(tf.concat([total[:, None], weights], 1), 1),
                tf.reduce_logsumexp(tf.concat([squares[:, None], 2 * weights], 1), 1),
            )

        empty = tf.fill([rows], -float("inf"))
        _, total, squares = tf.while_loop(
            lambda number, *_: number < turns, turn, (tf.constant(0), empty, empty)
        )
        share = tf.exp(squares - 2 * total)
        error = tf.sqrt(tf.maximum(share - 1 / samples, 0.0) * samples / max(samples - 1, 1))
        count = tf.constant(float(samples))
        return total - tf.math.log(count), error, 1 / share

    return Endpoint(
        run,
        (keras.InputSpec(shape=(None, *vae.event_shape), dtype=dtype, name="x"),),
        ("log_prob", "standard_error", "effective_samples"),
    )
