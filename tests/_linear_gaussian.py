"""A VAE whose log p(x) is known: z ~ N(0, I), x = W z + b + noise of variance s2."""

from __future__ import annotations

import keras
import numpy as np

from bert4kexue.methods.density import VAE
from bert4kexue.methods.density_likelihoods import GaussianLikelihood

LATENT, WIDTH, VARIANCE = 3, 8, 0.1


class LinearGaussian:
    """The model, its data and every quantity in closed form, in float64."""

    def __init__(self, seed: int = 0, orthogonal: bool = False, **options) -> None:
        random = np.random.default_rng(seed)
        w = random.standard_normal((WIDTH, LATENT))
        if orthogonal:  # then the posterior is diagonal, and the encoder is exact
            w = np.linalg.qr(w)[0] * [0.5, 1.0, 2.0]
        self.w = w.astype("float32").astype(float)
        self.b = random.standard_normal(WIDTH).astype("float32").astype(float)
        precision = np.eye(LATENT) + self.w.T @ self.w / VARIANCE
        self.posterior = np.linalg.inv(precision)
        x = keras.Input((WIDTH,))
        mean = keras.layers.Dense(LATENT)
        log_variance = keras.layers.Dense(LATENT)
        encoder = keras.Model(x, [mean(x), log_variance(x)])
        z = keras.Input((LATENT,))
        dense = keras.layers.Dense(WIDTH)
        decoder = keras.Model(z, keras.layers.Reshape((WIDTH, 1))(dense(z)))
        kernel = self.posterior @ self.w.T / VARIANCE
        mean.set_weights([kernel.T, -kernel @ self.b])
        log_variance.set_weights([np.zeros((WIDTH, LATENT)), np.log(np.diag(self.posterior))])
        dense.set_weights([self.w.T, self.b])
        self.vae = VAE(encoder, decoder, GaussianLikelihood(variance=VARIANCE), **options)

    def draw(self, count: int, seed: int = 1) -> np.ndarray:
        """(count, WIDTH) float32 of the model's own."""
        random = np.random.default_rng(seed)
        z = random.standard_normal((count, LATENT))
        noise = random.standard_normal((count, WIDTH)) * VARIANCE**0.5
        return (z @ self.w.T + self.b + noise).astype("float32")

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log N(x; b, W W' + s2 I)."""
        covariance = self.w @ self.w.T + VARIANCE * np.eye(WIDTH)
        apart = x.astype(float) - self.b
        square = np.einsum("ni,ij,nj->n", apart, np.linalg.inv(covariance), apart)
        return -0.5 * (square + np.linalg.slogdet(2 * np.pi * covariance)[1])

    def gap(self) -> float:
        """KL(encoder || posterior): the diagonal of the covariance against the whole of it."""
        diagonal = np.diag(self.posterior)
        trace = np.trace(np.linalg.inv(self.posterior) @ np.diag(diagonal))
        determinant = np.linalg.slogdet(self.posterior)[1] - np.log(diagonal).sum()
        return float(0.5 * (trace - LATENT + determinant))
