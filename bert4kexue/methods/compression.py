"""Lossless compression by bits-back coding: what a density is good for (kexue.fm/archives/8791).

BB-ANS (Townsend et al., 2019). A stack of bits is the source of z: z is popped with the encoder's
p(z|x), then x is pushed with q(x|z) and z with q(z). The pop gives back what the second push costs
too much, and a sample costs log p(z|x) - log q(x|z) - log q(z) bits: the bound of one draw. Going
backwards, popping z and x and pushing z returns the very stack from before.

z is whole multiples of a step in [-reach, reach]; posterior and prior are normal densities gathered
into these bins, so what the finer step costs is given back as well. The coder is `constriction`.
"""

from __future__ import annotations

import dataclasses
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from bert4kexue._files import atomic_write
from bert4kexue.methods.density import VAE
from bert4kexue.methods.density_likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    DiscretizedLogisticLikelihood,
)

_MAGIC = b"B4KBB\x01"
_HEADER = struct.Struct("<6sIIHHII")  # magic, rows, words of seed, bins, group, seed, checksum


@dataclasses.dataclass(frozen=True)
class BitsBackCoder:
    """Compresses data by a VAE of a discrete likelihood, and brings it back exactly.

    The same model on the same backend and machine must do both: the two directions have to compute
    identical probabilities, to the last bit.

    Args:
        vae: with a Bernoulli, discretized logistic or categorical likelihood.
        bins: of one coordinate of z over [-8, 8]; a step of 1/64 at 1024.
        group: samples that the networks see together. More is faster and needs more bits to start.

    Raises:
        ValueError: the likelihood is a density, or a number is out of range.
        ImportError: `constriction` is not installed.
    """

    vae: VAE
    bins: int = 1024
    group: int = 1

    def __post_init__(self) -> None:
        """Refuse what could not be decoded."""
        _constriction()
        if not self.vae.likelihood.discrete:
            raise ValueError(
                f"{type(self.vae.likelihood).__name__} gives densities, and bits need "
                "probabilities: train with DiscretizedLogisticLikelihood on the whole numbers"
            )
        if not 16 <= self.bins <= 65535 or not 1 <= self.group <= 65535:
            raise ValueError(
                f"bins must be 16 to 65535 and group 1 to 65535, got {self.bins} and {self.group}"
            )

    def compress(self, x: Any, seed: int = 0) -> bytes:
        """The data (N, *event) as bytes, header and starting bits included.

        Args:
            x: whole numbers of the likelihood's support.
            seed: of the random words that the first z is taken from; they are paid for.
        """
        x = self.vae.check(x)
        flat = x.reshape(len(x), math.prod(self.vae.event_shape)).astype(np.int32)
        # A group pops its z, at most 24 bits a coordinate, before anything of it is pushed.
        words = self.group * self.vae.latent + 2
        coder = _constriction().stream.stack.AnsCoder(_start(words, seed))
        for first in range(0, len(x), self.group):
            rows = slice(first, min(first + self.group, len(x)))
            count = rows.stop - rows.start
            normal = self._normal()
            codes = coder.decode(normal, *self._posterior(x[rows]))
            model, parameters = self._data_model(codes, count)
            coder.encode_reverse(flat[rows].ravel(), model, *parameters)
            coder.encode_reverse(codes, normal, *self._prior(count))
        body = np.asarray(coder.get_compressed(), np.uint32).astype("<u4").tobytes()
        checksum = zlib.crc32(flat.astype("<i4").tobytes())
        return _HEADER.pack(_MAGIC, len(x), words, self.bins, self.group, seed, checksum) + body

    def decompress(self, data: bytes) -> np.ndarray:
        """What was compressed, (N, *event) int32.

        Raises:
            ValueError: other bytes, or another model: nothing is returned that is not exact.
        """
        if len(data) < _HEADER.size or not data.startswith(_MAGIC) or (len(data) - 2) % 4 != 0:
            raise ValueError("these bytes were not written by BitsBackCoder.compress, or cut short")
        _, rows, words, bins, group, seed, checksum = _HEADER.unpack_from(data)
        if (bins, group) != (self.bins, self.group):
            raise ValueError(
                f"compressed with bins={bins}, group={group}, and this coder has bins={self.bins}, "
                f"group={self.group}: make it with theirs"
            )
        stack = np.frombuffer(data, "<u4", offset=_HEADER.size).astype(np.uint32)
        event = self.vae.event_shape
        x = np.zeros((rows, *event), np.int32)
        try:
            coder = _constriction().stream.stack.AnsCoder(stack)
            for first in reversed(range(0, rows, group)):
                some = slice(first, min(first + group, rows))
                count = some.stop - some.start
                normal = self._normal()
                codes = coder.decode(normal, *self._prior(count))
                model, parameters = self._data_model(codes, count)
                x[some] = coder.decode(model, *parameters).reshape(count, *event)
                coder.encode_reverse(codes, normal, *self._posterior(x[some]))
            left = np.asarray(coder.get_compressed(), np.uint32)
        except (AssertionError, ValueError, RuntimeError) as error:
            raise ValueError(f"{_MISMATCH} ({error})") from error
        if not np.array_equal(left, _start(words, seed)) or checksum != zlib.crc32(
            x.astype("<i4").tobytes()
        ):
            raise ValueError(_MISMATCH)
        return x

    def _normal(self) -> Any:
        return _constriction().stream.model.QuantizedGaussian(-self.bins // 2, self.bins // 2)

    def _posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of p(z|x) in steps; always of a whole group, so always the same."""
        filled = np.concatenate([x, np.repeat(x[:1], self.group - len(x), axis=0)])
        mean, log_variance = self.vae.encode(filled)
        step = 16 / self.bins
        deviation = np.exp(0.5 * log_variance.astype(np.float64))
        return (
            (mean.astype(np.float64) / step)[: len(x)].ravel(),
            np.maximum(deviation / step, 1e-3)[: len(x)].ravel(),
        )

    def _prior(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        size = rows * self.vae.latent
        return np.zeros(size), np.full(size, self.bins / 16)

    def _data_model(self, codes: np.ndarray, rows: int) -> tuple[Any, tuple[np.ndarray, ...]]:
        z = np.zeros((self.group, self.vae.latent), np.float32)
        z[:rows] = codes.reshape(rows, -1) * (16 / self.bins)
        parameters = self.vae.decode(z)[:rows]
        models = _constriction().stream.model
        if isinstance(self.vae.likelihood, BernoulliLikelihood):
            p = self.vae.likelihood.mean(parameters.astype(np.float64)).ravel()
            return models.Bernoulli(perfect=False), (p,)
        table = _probabilities(self.vae.likelihood, parameters.astype(np.float64))
        return models.Categorical(perfect=False), (table.reshape(-1, table.shape[-1]),)


_MISMATCH = (
    "the bytes do not unfold into what was compressed: another model, backend or machine than "
    "compressed them, or they were altered"
)


def save_compressed(path: str | Path, data: bytes) -> Path:
    """Write the bytes whole or not at all."""
    with atomic_write(path) as file:
        file.write(data)
    return Path(path)


def _probabilities(likelihood: Any, parameters: np.ndarray) -> np.ndarray:
    """Every value's probability, (..., values) float64."""
    if isinstance(likelihood, CategoricalLikelihood):
        logits = parameters
    else:
        assert isinstance(likelihood, DiscretizedLogisticLikelihood)
        mean, scale = parameters[..., :1], np.maximum(parameters[..., 1:], likelihood.floor)
        edges = (np.arange(1, likelihood.levels) * 2 - 1) / (likelihood.levels - 1) - 1
        below = 0.5 * (1 + np.tanh(0.5 * (edges - mean) * np.exp(-scale)))
        whole = np.concatenate([np.zeros_like(mean), below, np.ones_like(mean)], axis=-1)
        return np.diff(whole, axis=-1) + 1e-12
    logits = logits - logits.max(axis=-1, keepdims=True)
    table = np.exp(logits)
    return table / table.sum(axis=-1, keepdims=True)


def _start(words: int, seed: int) -> np.ndarray:
    """Random words to begin with; the last is not 0, as the coder asks."""
    start = np.random.default_rng(seed).integers(1, 2**32, size=words, dtype=np.uint64)
    return start.astype(np.uint32)


def _constriction() -> Any:
    try:
        import constriction
    except ImportError as error:
        raise ImportError(
            "compression needs the entropy coder `constriction`: pip install "
            "'bert4kexue[compression]'"
        ) from error
    return constriction
