"""Small encoders and decoders for `VAE`: multilayer perceptrons, and one for texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from bert4kexue.methods.density import VAE
from bert4kexue.methods.density_likelihoods import CategoricalLikelihood, Likelihood


def mlp_vae(
    event_shape: Sequence[int],
    latent: int,
    likelihood: Likelihood,
    hidden: Sequence[int] = (256, 256),
    activation: str = "relu",
    scale: float = 1.0,
    shift: float = 0.0,
    **options: Any,
) -> VAE:
    """A VAE of two perceptrons, one the mirror of the other.

    Args:
        event_shape: of one sample: (784,) or (28, 28).
        latent: d.
        likelihood: gives the decoder its output.
        hidden: widths, from the data inwards.
        activation: of the hidden layers.
        scale, shift: the encoder reads x * scale + shift: 2 / 255 and -1 for bytes.
        options: of `VAE`: objective, samples, seed.
    """
    event = tuple(event_shape)
    _check_sizes(latent, event)
    x = keras.Input(event, name="x")
    flow = keras.layers.Rescaling(scale, shift)(x) if (scale, shift) != (1.0, 0.0) else x
    flow = keras.layers.Reshape((math.prod(event),))(flow)
    for width in hidden:
        flow = keras.layers.Dense(width, activation=activation)(flow)
    encoder = keras.Model(x, _code(flow, latent), name="encoder")
    z = flow = keras.Input((latent,), name="z")
    for width in reversed(hidden):
        flow = keras.layers.Dense(width, activation=activation)(flow)
    flow = keras.layers.Dense(math.prod(event) * likelihood.parameters)(flow)
    flow = keras.layers.Reshape((*event, likelihood.parameters))(flow)
    return VAE(encoder, keras.Model(z, flow, name="decoder"), likelihood, **options)


def text_vae(
    length: int,
    vocabulary: int,
    latent: int,
    hidden: int = 128,
    embedding: int = 64,
    **options: Any,
) -> VAE:
    """A VAE of token ids (b, length) int32: each place is written on its own, from z alone.

    Encoder: the tokens' vectors side by side through a perceptron. Decoder: a perceptron to a
    vector a place, then one table of tokens for all places.

    Args:
        length: tokens of a text, padding included.
        vocabulary: v.
        latent: d.
        hidden: width of the perceptrons.
        embedding: width of a token's vector.
        options: of `VAE`: objective, samples, seed.
    """
    _check_sizes(latent, (length,))
    x = keras.Input((length,), dtype="int32", name="x")
    flow = keras.layers.Embedding(vocabulary, embedding)(x)
    flow = keras.layers.Reshape((length * embedding,))(flow)
    flow = keras.layers.Dense(hidden, activation="gelu")(flow)
    encoder = keras.Model(x, _code(flow, latent), name="encoder")
    z = keras.Input((latent,), name="z")
    flow = keras.layers.Dense(hidden, activation="gelu")(z)
    flow = keras.layers.Dense(length * embedding, activation="gelu")(flow)
    flow = keras.layers.Reshape((length, embedding))(flow)
    flow = keras.layers.Dense(vocabulary)(flow)
    decoder = keras.Model(z, flow, name="decoder")
    return VAE(encoder, decoder, CategoricalLikelihood(vocabulary), **options)


def _code(flow: Any, latent: int) -> list[Any]:
    return [
        keras.layers.Dense(latent, name="mean")(flow),
        # Small at first, so that training begins with a variance near 1 everywhere.
        keras.layers.Dense(
            latent,
            kernel_initializer=keras.initializers.RandomNormal(stddev=1e-3),
            name="log_variance",
        )(flow),
    ]


def _check_sizes(latent: int, event: tuple[int, ...]) -> None:
    if latent < 1 or not event or min(event) < 1:
        raise ValueError(
            f"latent and the sizes of a sample must be 1 or more, got {latent} and {event}"
        )
