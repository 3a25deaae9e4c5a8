"""Several sources to one output: every token is voted on by all of them (kexue.fm/archives/7115).

Each source of a question gives its own probabilities of the next token; the vote for a token is
sum(p²) / (sum(p) + 1) over the sources, so that one sure source outweighs several unsure ones. A
source whose first token would end the output at once has nothing to say and is left out, unless all
of them are so.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from bert4kexue.models.decoder import Decoder

_TINY = 1.1754943508222875e-38  # of float32


class VotingDecoder:
    """A :class:`bert4kexue.models.decoder.Decoder` over rows that hold several sources each.

    A row of ``token_ids`` (b, k * n) is the k sources of one question one after another, each
    padded to n with 0; a source of 0 alone is none.

    Args:
        decoder: of one source.
        width: n.
        end_id: the token by which a source says that it has nothing to say.

    Raises:
        ValueError: ``width`` below 1, or beyond the decoder's positions.
    """

    def __init__(self, decoder: Decoder, width: int, end_id: int) -> None:
        if width < 1 or (decoder.limit is not None and width > decoder.limit):
            raise ValueError(f"width={width} must be 1 or more and at most {decoder.limit}")
        self.decoder, self.width, self.end_id = decoder, width, end_id
        self.vocab_size, self.variables = decoder.vocab_size, decoder.variables
        self.limit = None  # of a source it is the decoder's own, which `width` keeps
        self.prompt_counts = False

    def start(self, inputs: Any, width: int, steps: int) -> tuple[Any, Any]:
        """The logarithm of the votes (b, v), and the state of all sources."""
        apart = {name: ops.reshape(x, (-1, self.width)) for name, x in inputs.items()}
        logits, state = self.decoder.start(apart, width, steps)
        k = ops.shape(inputs["token_ids"])[1] // self.width
        logits = ops.reshape(logits, (-1, k, self.vocab_size))
        real = ops.reshape(ops.any(apart["token_ids"] != 0, axis=1), (-1, k))
        speaks = ops.logical_and(real, ops.argmax(logits, axis=-1) != self.end_id)
        speaks = ops.where(ops.any(speaks, axis=1, keepdims=True), speaks, real)
        return log_votes(logits, speaks), {"sources": state, "speaks": speaks}

    def step(self, tokens: Any, parents: Any, t: Any, state: Any) -> tuple[Any, Any]:
        """The logarithm of the votes (b, w, v) after ``tokens`` (b, w)."""
        speaks, w = state["speaks"], tokens.shape[1]
        k = ops.shape(speaks)[1]

        def for_each(x: Any) -> Any:
            tall = ops.broadcast_to(x[:, None], (ops.shape(x)[0], k, w))
            return ops.reshape(tall, (-1, w))

        logits, sources = self.decoder.step(
            for_each(tokens), for_each(parents), t, state["sources"]
        )
        logits = ops.reshape(logits, (-1, k, w, self.vocab_size))
        votes = log_votes(logits, ops.broadcast_to(speaks[..., None], ops.shape(logits)[:3]))
        return votes, {"sources": sources, "speaks": speaks}


def log_votes(logits: Any, speaks: Any) -> Any:
    """log(sum(p²) / (sum(p) + 1)) over the sources that speak.

    Args:
        logits: (b, k, ..., v).
        speaks: (b, k, ...) bool.
    """
    p = ops.softmax(ops.cast(logits, "float32"), axis=-1) * ops.cast(speaks, "float32")[..., None]
    squares, sums = ops.sum(p * p, axis=1), ops.sum(p, axis=1)
    return ops.log(ops.maximum(squares, _TINY)) - ops.log(sums + 1.0)
