"""Densities by a variational autoencoder, as importance sampling (kexue.fm/archives/8791).

The model is the mixture q(x) = integral of q(x|z) q(z) dz with q(z) = N(0, I). Draws from q(z)
hardly ever meet an x, so z is drawn near what the encoder p(z|x) proposes, and weighted:

    log q(x) >= E log 1/M sum_i q(x|z_i) q(z_i) / p(z_i|x),   z_i from p(z|x)

M = 1 is the VAE, more is the IWAE (Burda et al., 2016), and the bound rises with M to log q(x). The
same formula with other weights trains (`VAE.fit`), estimates (`VAE.log_prob`) and scores.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from bert4kexue.layers.vae import GaussianSampling
from bert4kexue.methods.density_estimates import DensityEstimate, concatenate, estimate
from bert4kexue.methods.density_likelihoods import Likelihood
from bert4kexue.ops.densities import log_mean_exp, normal_log_prob, standard_normal_kl


@keras.saving.register_keras_serializable(package="bert4kexue")
class VAE(keras.Model):
    """A latent-variable density; compile it with an optimizer alone, fit it on x alone.

    Calling it gives (b, M): under "iwae" the log weights of M draws, under "elbo" what averages to
    the evidence lower bound, log q(x|z_i) - KL(p(z|x) || q(z)).

    Args:
        encoder: a built model of (b, *event) with two outputs (b, d), mean and log variance.
        decoder: a built model of (b, d) with one output (b, *event, likelihood.parameters).
        likelihood: what the decoder's numbers mean; see `density_likelihoods`.
        objective: "elbo", the mean over draws with the divergence in closed form, or "iwae".
        samples: M, draws of each row in training.
        seed: of the draws in training.

    Example:
        >>> vae = mlp_vae((784,), latent=16, likelihood=BernoulliLikelihood(), objective="iwae",
        ...               samples=5, seed=0)
        >>> vae.compile(keras.optimizers.Adam(1e-3))
        >>> vae.fit(images, epochs=50)
        >>> estimate = vae.log_prob(images, samples=1000, seed=0)
        >>> estimate.log_prob, estimate.standard_error, estimate.effective_samples
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        likelihood: Likelihood,
        objective: Literal["elbo", "iwae"] = "elbo",
        samples: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if objective not in ("elbo", "iwae"):
            raise ValueError(f"objective is 'elbo' or 'iwae', got {objective!r}")
        self.event_shape, self.latent = _check_parts(encoder, decoder, likelihood)
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.objective, self.samples, self.seed = objective, samples, seed
        self.sampling = GaussianSampling(samples, seed=seed, name="sampling", dtype=self.dtype)
        self.build(encoder.input_shape)

    def build(self, input_shape: Any) -> None:
        """Encoder and decoder come built."""
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """(b, *event) -> (b, M): see the class."""
        mean, log_variance = self.encoder(inputs, training=training)
        z = self.sampling([mean, log_variance])
        if self.objective == "iwae":
            return self.log_weights(inputs, mean, log_variance, z, training=training)
        divergence = standard_normal_kl(*(ops.cast(t, "float32") for t in (mean, log_variance)))
        return self.log_likelihood(inputs, z, training=training) - divergence[:, None]

    def log_likelihood(self, x: Any, z: Any, training: bool | None = None) -> Any:
        """log q(x|z): x (b, *event), z (b, M, d) -> (b, M) float32."""
        samples = ops.shape(z)[1]
        parameters = self.decoder(ops.reshape(z, (-1, self.latent)), training=training)
        shape = (-1, samples, *self.event_shape, self.likelihood.parameters)
        parameters = ops.reshape(ops.cast(parameters, "float32"), shape)
        terms = self.likelihood.log_prob(ops.expand_dims(x, 1), parameters)
        return ops.sum(terms, axis=tuple(range(2, 2 + len(self.event_shape))))

    def log_weights(
        self, x: Any, mean: Any, log_variance: Any, z: Any, training: bool | None = None
    ) -> Any:
        """log q(x|z) + log q(z) - log p(z|x), for z (b, M, d) of N(mean, exp(log_variance))."""
        likelihood = self.log_likelihood(x, z, training=training)
        mean, log_variance, z = (ops.cast(t, "float32") for t in (mean, log_variance, z))
        proposed = normal_log_prob(z, mean[:, None], log_variance[:, None])
        return likelihood + ops.sum(normal_log_prob(z, 0.0, ops.zeros_like(z)) - proposed, axis=-1)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Minus the bound in nats, averaged over the rows; `y` is not looked at."""
        rows = log_mean_exp(y_pred, 1) if self.objective == "iwae" else ops.mean(y_pred, axis=1)
        if sample_weight is not None:
            rows = rows * ops.cast(sample_weight, rows.dtype)
        return sum(self.losses, start=ops.negative(ops.mean(rows)))

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Keras's `fit`; x in NumPy is first checked against the likelihood's support."""
        if isinstance(x, np.ndarray):
            self.check(x, training=True)
        return super().fit(x, *args, **_with_targets(x, args, kwargs))

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Keras's `evaluate`."""
        return super().evaluate(x, *args, **_with_targets(x, args, kwargs))

    def check(self, x: Any, training: bool = False) -> np.ndarray:
        """`x` as an array, or ValueError where its shape or its values do not fit the model."""
        x = np.asarray(x)
        if x.shape[1:] != self.event_shape or x.ndim == 0:
            raise ValueError(
                f"x must be (rows, {', '.join(map(str, self.event_shape))}), got {x.shape}: "
                f"{'reshape it' if x.size else 'it holds nothing'}, or build the model for it"
            )
        self.likelihood.check(x, training=training)
        return x

    def log_prob(
        self,
        x: Any,
        samples: int = 1000,
        *,
        proposal: Literal["encoder", "prior"] | tuple[np.ndarray, np.ndarray] = "encoder",
        chunk: int = 4096,
        seed: int = 0,
    ) -> DensityEstimate:
        """log q(x) of every row by importance sampling, in nats, with its error.

        Args:
            x: (N, *event).
            samples: M, draws for each row.
            proposal: "encoder" draws from p(z|x); "prior" from q(z), which is honest where the
                encoder was never trained and hopeless in many dimensions; or two arrays (N, d),
                mean and log variance.
            chunk: pairs of a row and a draw that are decoded together. Memory grows with it and
                not with `samples` or N; no result depends on it beyond rounding.
            seed: row i draws from a generator of (seed, i): the numbers are the same on every
                backend and in every batch.

        Raises:
            ValueError: samples or chunk below 1; data outside the support; NaN; another shape.
        """
        if samples < 1:
            raise ValueError(f"samples must be 1 or more, got {samples}: 1 gives the plain bound")
        if chunk < 1:
            raise ValueError(f"chunk must be 1 or more, got {chunk}: it counts decoded draws")
        x = self.check(x)
        if not len(x):
            raise ValueError("x holds no row: pass one at least")
        mean, log_variance = self._proposal(x, proposal)
        rows, width = max(1, min(len(x), chunk // samples)), min(samples, chunk)
        estimates = []
        for start in range(0, len(x), rows):
            batch = [_padded(part[start : start + rows], rows) for part in (x, mean, log_variance)]
            count = min(rows, len(x) - start)
            streams = [np.random.default_rng((seed, start + row)) for row in range(count)]
            weights = np.empty((count, samples))
            for first in range(0, samples, width):
                noise = np.zeros((rows, width, self.latent), np.float32)
                last = min(width, samples - first)
                for row, stream in enumerate(streams):
                    noise[row, :last] = stream.standard_normal((last, self.latent), np.float32)
                found = self._run("weights", [*batch, noise])
                weights[:, first : first + last] = found[:count, :last]
            estimates.append(estimate(weights))
        return concatenate(estimates)

    def encode(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log variance of p(z|x), (N, d) float32 each."""
        x = self.check(x)
        parts = [self._run("encode", [part]) for part in _batches(x)]
        mean, log_variance = (np.concatenate(column) for column in zip(*parts, strict=True))
        return mean[: len(x)], log_variance[: len(x)]

    def decode(self, z: Any) -> np.ndarray:
        """The decoder's numbers for z (N, d): (N, *event, P) float32."""
        z = np.asarray(z, np.float32)
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"z must be (rows, {self.latent}), got {z.shape}")
        return np.concatenate([self._run("decode", [part]) for part in _batches(z)])[: len(z)]

    def reconstruct(self, x: Any) -> np.ndarray:
        """What the decoder expects from the mean code of each row, (N, *event)."""
        return self.likelihood.mean(self.decode(self.encode(x)[0]))

    def sample(self, count: int, *, seed: int = 0, mean: bool = False) -> np.ndarray:
        """Draws from q(x): z from q(z), then x from q(x|z); with `mean`, its mean instead."""
        if count < 1:
            raise ValueError(f"count must be 1 or more, got {count}")
        random = np.random.default_rng(seed)
        parameters = self.decode(random.standard_normal((count, self.latent), np.float32))
        return (
            self.likelihood.mean(parameters) if mean else self.likelihood.draw(parameters, random)
        )

    def _proposal(self, x: np.ndarray, proposal: Any) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(x), self.latent)
        if isinstance(proposal, str):
            if proposal == "encoder":
                return self.encode(x)
            if proposal == "prior":
                return np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        elif len(proposal) == 2:
            parts = [np.asarray(part, np.float32) for part in proposal]
            if all(part.shape == shape and np.isfinite(part).all() for part in parts):
                return parts[0], parts[1]
        raise ValueError(
            f"proposal is 'encoder', 'prior' or two finite arrays {shape}, mean and log variance; "
            f"got {proposal if isinstance(proposal, str) else type(proposal).__name__!r}"
        )

    def _run(self, name: str, inputs: list[np.ndarray]) -> Any:
        return self._compiled.run(name, inputs)

    @functools.cached_property  # in __dict__, where Keras neither tracks nor saves it
    def _compiled(self) -> _Compiled:
        return _Compiled(self)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, parts serialized."""
        parts = {name: getattr(self, name) for name in ("encoder", "decoder", "likelihood")}
        own = {name: getattr(self, name) for name in ("objective", "samples", "seed")}
        packed = {n: keras.saving.serialize_keras_object(part) for n, part in parts.items()}
        return {**super().get_config(), **packed, **own}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> VAE:
        """The model of a `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("encoder", "decoder", "likelihood")
        }
        return cls(**{**config, **parts})


class _Compiled:
    """The parts of a VAE as models whose `predict_on_batch` the backend compiles."""

    def __init__(self, vae: VAE) -> None:
        self._models = {"encode": vae.encoder, "decode": vae.decoder, "weights": _Weights(vae)}

    def run(self, name: str, inputs: list[np.ndarray]) -> Any:
        outputs = self._models[name].predict_on_batch(inputs[0] if len(inputs) == 1 else inputs)
        as_float = [np.asarray(part, np.float32) for part in keras.tree.flatten(outputs)]
        return as_float[0] if len(as_float) == 1 else as_float


class _Weights(keras.Model):
    def __init__(self, vae: VAE) -> None:
        super().__init__(name="log_weights")
        self.vae = vae

    def call(self, inputs: list[Any]) -> Any:
        x, mean, log_variance, noise = inputs
        z = mean[:, None] + ops.exp(0.5 * log_variance)[:, None] * noise
        return self.vae.log_weights(x, mean, log_variance, z, training=False)


def _check_parts(
    encoder: keras.Model, decoder: keras.Model, likelihood: Likelihood
) -> tuple[tuple[int, ...], int]:
    """Event shape and d; ValueError where the three do not fit together."""
    event = tuple(encoder.input_shape[1:])
    outputs = [tuple(output.shape[1:]) for output in encoder.outputs]
    if None in event:
        raise ValueError(f"the encoder's input must have a fixed shape, got {event}")
    if len(outputs) != 2 or outputs[0] != outputs[1] or len(outputs[0]) != 1:
        raise ValueError(
            f"the encoder must have two outputs (b, d), mean and log variance, got {outputs}"
        )
    latent = outputs[0][0]
    expected = (*event, likelihood.parameters)
    if tuple(decoder.input_shape[1:]) != (latent,) or tuple(decoder.output_shape[1:]) != expected:
        raise ValueError(
            f"the decoder must take (b, {latent}) to (b, {', '.join(map(str, expected))}), the "
            f"last {likelihood.parameters} being what {type(likelihood).__name__} asks for; got "
            f"{decoder.input_shape} to {decoder.output_shape}"
        )
    return event, latent


def _batches(x: np.ndarray, size: int = 256) -> list[np.ndarray]:
    """Batches of one size, the last filled up: one compilation."""
    size = min(size, max(len(x), 1))
    return [_padded(x[k : k + size], size) for k in range(0, max(len(x), 1), size)]


def _padded(x: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([x, np.repeat(x[:1], rows - len(x), axis=0)]) if len(x) < rows else x


def _with_targets(x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keras drops sample weights that come without targets: give it some, which nobody reads."""
    if kwargs.get("sample_weight") is None or args or kwargs.get("y") is not None:
        return kwargs
    return {**kwargs, "y": np.zeros(len(x), np.float32)}
