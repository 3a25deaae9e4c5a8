"""The options of generation, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from bert4kexue.models.search import KNOBS, Settings
from bert4kexue.ops.beam_search import BeamMode


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How to generate.

    Args:
        max_new_tokens: at most so many tokens, the end token included.
        min_new_tokens: the end token is not possible before so many.
        minlen: bert4keras's: an end token may come before, and ends nothing.
        min_ends: how many end tokens complete an output.
        num_beams: width of beam search; 1 still is one beam. None is greedy, or samples.
        num_return_sequences: n best outputs, or so many samples of each source.
        do_sample: draw tokens instead of searching.
        length_penalty: scores are sums of log-probabilities divided by length to this power: 0 as
            in bert4keras, 1 for their mean.
        beam_mode: ``'full'`` searches until the best are certain; ``'shrink'`` and ``'bert4keras'``
            are `AutoRegressiveDecoder.beam_search` with and without ``n_best``.
        temperature: divides the logits.
        topk, topp, min_p: filters of sampling, in this order; see
            :func:`bert4kexue.ops.sampling.draw`.
        repetition_penalty: CTRL's, over the output, and over the prompt of an lm.
        no_repeat_ngram_size: no n-gram of this length occurs twice in an output; 0 for no rule.
        renormalize: probabilities under a constraint sum to one over what it allows; False keeps
            the model's own.
        return_unfinished: whether beam search returns outputs that ``max_new_tokens`` cut; None
            does, except under a constraint.
        seed: of sampling: an integer, or one for each source, which then draws the same in any
            batch. None draws anew each time.

    Raises:
        ValueError: a value out of its range, or two that contradict each other.
    """

    max_new_tokens: int = 32
    min_new_tokens: int = 0
    minlen: int = 1
    min_ends: int = 1
    num_beams: int | None = None
    num_return_sequences: int = 1
    do_sample: bool = False
    length_penalty: float = 0.0
    beam_mode: BeamMode = "full"
    temperature: float = 1.0
    topk: int | None = None
    topp: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    renormalize: bool = True
    return_unfinished: bool | None = None
    seed: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("max_new_tokens", 1),
            ("min_new_tokens", 0),
            ("minlen", 0),
            ("min_ends", 1),
            ("num_beams", 1),
            ("num_return_sequences", 1),
            ("topk", 1),
            ("no_repeat_ngram_size", 0),
        ):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | np.integer) or value < least):
                raise ValueError(f"{name}={value!r} must be an integer of {least} or more")
        for name in ("temperature", "repetition_penalty"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)!r} must be above 0")
        if self.topp is not None and not self.topp > 0:
            raise ValueError(f"topp={self.topp!r} must be above 0")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p={self.min_p!r} must lie in [0, 1]")
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens={self.min_new_tokens} is more than max_new_tokens="
                f"{self.max_new_tokens}"
            )
        if self.beam_mode not in ("full", "shrink", "bert4keras"):
            raise ValueError(
                f"beam_mode={self.beam_mode!r}: choose 'full', 'shrink' or 'bert4keras'"
            )
        self._check_together()

    def _check_together(self) -> None:
        if self.do_sample and self.num_beams not in (None, 1):
            raise ValueError(f"do_sample=True draws, num_beams={self.num_beams} searches: take one")
        if not self.do_sample:
            given = [n for n in ("topk", "topp", "min_p") if getattr(self, n) is not None]
            if given:
                raise ValueError(f"{', '.join(given)} filter a draw: pass do_sample=True as well")
            if self.num_return_sequences > (self.num_beams or 1):
                raise ValueError(
                    f"num_return_sequences={self.num_return_sequences} is more than num_beams="
                    f"{self.num_beams or 1}: a beam finds at most as many outputs as it is wide"
                )
        if self.beam_mode == "bert4keras" and self.num_return_sequences > 1:
            raise ValueError(
                "beam_mode='bert4keras' keeps one output: for several take 'shrink' or 'full'"
            )

    def settings(self, generator: Any, constrained: bool, steps: int) -> Settings:
        """What is compiled, with room for ``steps`` tokens."""
        v = generator.decoder.vocab_size
        if self.topk is not None and self.topk > v:
            raise ValueError(f"topk={self.topk} is more than the vocabulary's {v} tokens")
        searching = self.num_beams is not None and not self.do_sample
        unfinished = not constrained if self.return_unfinished is None else self.return_unfinished
        uses = {name for name in ("topp", "min_p") if getattr(self, name) is not None}
        uses |= {
            name
            for name, idle in (
                ("temperature", 1.0),
                ("repetition_penalty", 1.0),
                ("min_new_tokens", 0),
            )
            if getattr(self, name) != idle
        }
        return Settings(
            width=int(self.num_beams or 1) if searching else int(self.num_return_sequences),
            n_best=int(self.num_return_sequences),
            steps=int(steps),
            sampling=None if searching else ("draw" if self.do_sample else "greedy"),
            beam_mode=self.beam_mode,
            end_ids=generator.end_ids,
            pad_id=generator.pad_token_id,
            min_ends=int(self.min_ends),
            min_length=int(self.minlen),
            topk=self.topk,
            no_repeat_ngram_size=int(self.no_repeat_ngram_size),
            uses=frozenset(uses),
            renormalize=self.renormalize,
            unfinished=unfinished,
        )

    def knobs(self) -> dict[str, np.ndarray]:
        """The scalars of a call."""
        values = {
            "limit": self.max_new_tokens,
            "topp": self.topp or 1.0,
            "min_p": self.min_p or 0.0,
        }
        return {
            name: np.asarray(values.get(name, getattr(self, name, None)), dtype)
            for name, dtype in KNOBS.items()
        }

    def uniforms(self, rows: int, padded: int, steps: int, width: int) -> np.ndarray:
        """The random numbers (steps, padded rows, width) of a draw.

        They are NumPy's, so that a seed gives the same on every backend.
        """
        numbers = np.zeros((steps, padded, width), np.float32)
        if self.seed is None or isinstance(self.seed, int | np.integer):
            source = np.random.default_rng(self.seed)
            drawn = source.random((rows, width, self.max_new_tokens), np.float32)
        else:
            if len(self.seed) != rows:
                raise ValueError(f"{len(self.seed)} seeds for {rows} sources: give one for each")
            drawn = np.stack(
                [
                    np.random.default_rng(seed).random((width, self.max_new_tokens), np.float32)
                    for seed in self.seed
                ]
            )
        numbers[: self.max_new_tokens, :rows] = drawn.transpose(2, 0, 1)
        return numbers
