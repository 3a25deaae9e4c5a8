"""Lossless compression by bits-back coding: what a density is good for (kexue.fm/archives/8791).

BB-ANS (Townsend et al., 2019). A stack of bits is the source of z: z is popped with the encoder's
p(z|x), then x is pushed with q(x|z) and z with q(z). The pop gives back what the second push costs
too much, and a sample costs log p(z|x) - log q(x|z) - log q(z) bits: the bound of one draw. Going
backwards, popping z and x and pushing z returns the very stack from before.

The popped bits must look random. They do not by themselves: the top of the stack is the last
sample's z, and where posterior and prior agree the same z, however bad, would come back for every
sample. So what a pop reads is first mixed with pseudo-random bits.

With N particles (Ruan et al., 2021) N draws are popped, then which of them is used, by their
importance weights; the unused ones are pushed back as they came. A sample then costs the bound of N
draws, which comes near to log q(x) itself.

z is whole multiples of a step in [-8, 8]; posterior and prior are normal densities gathered into
these bins, so what a finer step costs is given back as well. The coder is `constriction`.
"""

from __future__ import annotations

import dataclasses
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bert4kexue._files import atomic_write
from bert4kexue.methods.density import VAE
from bert4kexue.methods.density_likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    DiscretizedLogisticLikelihood,
)

_MAGIC = b"B4KBB\x01"
# Magic, rows, groups coded by one particle, bins, group, particles, seed, checksum of the data.
_HEADER = struct.Struct("<6sIIHHHII")


@dataclasses.dataclass(frozen=True)
class BitsBackCoder:
    """Compresses data by a VAE of a discrete likelihood, and brings it back exactly.

    The same model on the same backend and machine must do both: the two directions have to compute
    identical probabilities, to the last bit.

    Args:
        vae: with a Bernoulli, discretized logistic or categorical likelihood.
        bins: of one coordinate of z over [-8, 8]; a step of 1/64 at 1024.
        group: samples that the networks see together. More is faster and needs more bits to start.
        particles: N; more is shorter and slower. The first groups have one, until the stack holds
            the bits that N of them pop.

    Raises:
        ValueError: the likelihood is a density, or a number is out of range.
        ImportError: `constriction` is not installed.
    """

    vae: VAE
    bins: int = 1024
    group: int = 1
    particles: int = 1

    def __post_init__(self) -> None:
        """Refuse what could not be decoded."""
        _constriction()
        if not self.vae.likelihood.discrete:
            raise ValueError(
                f"{type(self.vae.likelihood).__name__} gives densities, and bits need "
                "probabilities: train with DiscretizedLogisticLikelihood on the whole numbers"
            )
        sizes = (self.bins, self.group, self.particles)
        if not 16 <= self.bins <= 65535 or not all(1 <= size <= 65535 for size in sizes):
            raise ValueError(
                "bins must be 16 to 65535, group and particles 1 to 65535, got "
                f"{self.bins}, {self.group} and {self.particles}"
            )

    def compress(self, x: Any, seed: int = 0) -> bytes:
        """The data (N, *event) as bytes, header and starting bits included.

        Args:
            x: whole numbers of the likelihood's support.
            seed: of the random words that the first z is taken from; they are paid for.
        """
        x = self.vae.check(x)
        flat = x.reshape(len(x), math.prod(self.vae.event_shape)).astype(np.int32)
        coder = _constriction().stream.stack.AnsCoder(self._start(seed))
        plain = 0
        for index, first in enumerate(range(0, len(x), self.group)):
            rows = slice(first, first + self.group)
            posterior = self._posterior(x[rows])
            if plain == index and coder.num_valid_bits() < self._bits(posterior[1], self.particles):
                plain += 1
            particles = 1 if index < plain else self.particles
            self._push(coder, posterior, flat[rows], (seed, first), particles)
        body = np.asarray(coder.get_compressed(), np.uint32).astype("<u4").tobytes()
        checksum = zlib.crc32(flat.astype("<i4").tobytes())
        sizes = (self.bins, self.group, self.particles)
        return _HEADER.pack(_MAGIC, len(x), plain, *sizes, seed, checksum) + body

    def decompress(self, data: bytes) -> np.ndarray:
        """What was compressed, (N, *event) int32.

        Raises:
            ValueError: other bytes, or another model: nothing is returned that is not exact.
        """
        if len(data) < _HEADER.size or data[: len(_MAGIC)] != _MAGIC or len(data) % 4:
            raise ValueError("these bytes were not written by BitsBackCoder.compress, or cut short")
        _, rows, plain, *sizes, seed, checksum = _HEADER.unpack_from(data)
        if sizes != [self.bins, self.group, self.particles]:
            names = ("bins", "group", "particles")
            raise ValueError(
                "compressed with "
                + ", ".join(f"{name}={size}" for name, size in zip(names, sizes, strict=True))
                + f", and this coder has {self.bins}, {self.group} and {self.particles}: make it "
                "with theirs"
            )
        stack = np.frombuffer(data, "<u4", offset=_HEADER.size).astype(np.uint32)
        parts: list[np.ndarray] = []
        try:
            coder = _constriction().stream.stack.AnsCoder(stack)
            for first in reversed(range(0, rows, self.group)):
                count = min(self.group, rows - first)
                particles = 1 if first // self.group < plain else self.particles
                parts.append(self._pop(coder, count, (seed, first), particles))
            left = np.asarray(coder.get_compressed(), np.uint32)
        except (AssertionError, ValueError, RuntimeError) as error:
            raise ValueError(f"{_MISMATCH} ({error})") from error
        event = self.vae.event_shape
        x = np.concatenate([*parts[::-1], np.zeros((0, *event), np.int32)]).astype(np.int32)
        same = np.array_equal(left, self._start(seed))
        if not same or checksum != zlib.crc32(x.astype("<i4").tobytes()):
            raise ValueError(_MISMATCH)
        return x

    def _push(
        self,
        coder: Any,
        posterior: tuple[np.ndarray, np.ndarray],
        flat: np.ndarray,
        key: tuple[int, int],
        particles: int,
    ) -> None:
        """A group onto the stack."""
        count, normal, models = len(flat), self._normal(), _constriction().stream.model
        self._mix(coder, self._bits(posterior[1], particles), key)
        mean, deviation = (np.repeat(part[:, None], particles, axis=1) for part in posterior)
        codes = coder.decode(normal, mean.ravel(), deviation.ravel()).reshape(mean.shape)
        chosen = np.zeros(count, np.int32)
        if particles > 1:
            weights = self._weights(flat, codes, mean, deviation)
            chosen = coder.decode(models.Categorical(perfect=False), weights)
            others = np.arange(particles) != chosen[:, None]
            coder.encode_reverse(codes[others].ravel(), normal, *_of(others, mean, deviation))
        used = codes[np.arange(count), chosen]
        model, parameters = self._data_model(used)
        coder.encode_reverse(flat.ravel(), model, *parameters)
        coder.encode_reverse(used.ravel(), normal, *self._prior(count))
        if particles > 1:
            coder.encode_reverse(chosen, models.Uniform(particles))

    def _pop(self, coder: Any, count: int, key: tuple[int, int], particles: int) -> np.ndarray:
        """A group off the stack: `_push` backwards."""
        normal, models = self._normal(), _constriction().stream.model
        chosen = np.zeros(count, np.int32)
        if particles > 1:
            chosen = coder.decode(models.Uniform(particles), count)
        used = coder.decode(normal, *self._prior(count)).reshape(count, -1)
        model, parameters = self._data_model(used)
        flat = coder.decode(model, *parameters).reshape(count, -1)
        x = flat.reshape(count, *self.vae.event_shape)
        posterior = self._posterior(x)
        mean, deviation = (np.repeat(part[:, None], particles, axis=1) for part in posterior)
        codes = np.zeros(mean.shape, np.int32)
        codes[np.arange(count), chosen] = used
        if particles > 1:
            others = np.arange(particles) != chosen[:, None]
            popped = coder.decode(normal, *_of(others, mean, deviation))
            codes[others] = popped.reshape(-1, self.vae.latent)
            weights = self._weights(flat, codes, mean, deviation)
            coder.encode_reverse(chosen, models.Categorical(perfect=False), weights)
        coder.encode_reverse(codes.ravel(), normal, mean.ravel(), deviation.ravel())
        self._mix(coder, self._bits(posterior[1], particles), key)
        return x

    def _start(self, seed: int) -> np.ndarray:
        """Random words for the first z; the last is not 0, as the coder asks."""
        words = self.group * (self.vae.latent + 1) + 2
        start = np.random.default_rng(seed).integers(1, 2**32, size=words, dtype=np.uint64)
        return start.astype(np.uint32)

    def _bits(self, deviation: np.ndarray, particles: int) -> int:
        """What popping z for a group reads: deviations (count, d), in steps."""
        # A normal density of deviation s spreads over 4.13 s bins, and a draw looks at 24 bits.
        bits = np.log2(np.clip(4.13 * deviation, 1, self.bins)).sum() * particles
        return math.ceil(bits + 24 + len(deviation) * math.log2(particles))

    def _mix(self, coder: Any, bits: int, key: tuple[int, int]) -> None:
        """Exclusive-or so many bits of the stack with a key; twice is not at all."""
        words = _constriction().stream.model.Uniform(2**16)
        mask = np.random.default_rng(key).integers(2**16, size=math.ceil(bits / 16), dtype=np.int32)
        coder.encode_reverse(coder.decode(words, len(mask)) ^ mask, words)

    def _normal(self) -> Any:
        return _constriction().stream.model.QuantizedGaussian(-self.bins // 2, self.bins // 2)

    def _posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of p(z|x) in steps, (count, d).

        The encoder always sees a whole group, so that it always computes the same.
        """
        filled = np.concatenate([x, np.repeat(x[:1], self.group - len(x), axis=0)])
        mean, log_variance = (part[: len(x)].astype(np.float64) for part in self.vae.encode(filled))
        step = 16 / self.bins
        return mean / step, np.maximum(np.exp(0.5 * log_variance) / step, 1e-3)

    def _prior(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        size = rows * self.vae.latent
        return np.zeros(size), np.full(size, self.bins / 16)

    def _decode(self, codes: np.ndarray, particles: int) -> np.ndarray:
        """The decoder's numbers for codes (count, particles, d), of a whole group again."""
        z = np.zeros((self.group * particles, self.vae.latent), np.float32)
        flat = codes.reshape(-1, self.vae.latent)
        z[: len(flat)] = flat * (16 / self.bins)
        return self.vae.decode(z)[: len(flat)].astype(np.float64)

    def _data_model(self, codes: np.ndarray) -> tuple[Any, tuple[np.ndarray, ...]]:
        parameters = self._decode(codes, 1)
        models = _constriction().stream.model
        if isinstance(self.vae.likelihood, BernoulliLikelihood):
            return models.Bernoulli(perfect=False), (self.vae.likelihood.mean(parameters).ravel(),)
        table = _probabilities(self.vae.likelihood, parameters)
        return models.Categorical(perfect=False), (table.reshape(-1, table.shape[-1]),)

    def _weights(
        self, flat: np.ndarray, codes: np.ndarray, mean: np.ndarray, deviation: np.ndarray
    ) -> np.ndarray:
        """Normalized importance weights (count, N) of the particles."""
        count, particles = codes.shape[:2]
        parameters = self._decode(codes, particles).astype(np.float32)
        parameters = parameters.reshape(count, particles, flat.shape[1], -1)
        terms = self.vae.likelihood.log_prob(flat[:, None], keras.ops.convert_to_tensor(parameters))
        log_weights = keras.ops.convert_to_numpy(terms).astype(np.float64).sum(-1)
        prior = _log_mass(codes, np.zeros_like(mean), np.full_like(mean, self.bins / 16))
        log_weights += (prior - _log_mass(codes, mean, deviation)).sum(-1)
        weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)


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


def _log_mass(codes: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """log probability of a bin as the coder has it: never below 2^-24.

    So one draw in many thousands lies far out, and by the normal density its weight would win.
    """
    normal = -0.5 * (np.square((codes - mean) / deviation) + np.log(2 * np.pi)) - np.log(deviation)
    return np.logaddexp(normal, -24 * np.log(2))


def _of(chosen: np.ndarray, *parameters: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(part[chosen]).ravel() for part in parameters)


def _constriction() -> Any:
    try:
        import constriction
    except ImportError as error:
        raise ImportError(
            "compression needs the entropy coder `constriction`: pip install "
            "'bert4kexue[compression]'"
        ) from error
    return constriction
