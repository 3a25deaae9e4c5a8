"""The search as functions of tensors: begin, choose a token, run the model, finish.

:class:`Search` puts them together into the compiled loop (`generate`) and gives them one by one to
a loop outside (`begin`, `choose`, `forward`, `finish`). What is static is in :class:`Settings`; the
numbers of :data:`KNOBS` are tensors, so that changing them compiles nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from bert4kexue.models.decoder import Decoder
from bert4kexue.ops.beam_search import BeamMode, Beams, advance_beams, empty_beams, finish_beams
from bert4kexue.ops.rows import flat_rows
from bert4kexue.ops.sampling import (
    NEVER,
    ban_repeated_ngrams,
    ban_tokens,
    draw,
    gather,
    log_softmax,
    penalize_repetition,
    renormalize,
)

#: Scalars that may change from call to call: name -> dtype.
KNOBS = {
    "limit": "int32",
    "min_new_tokens": "int32",
    "temperature": "float32",
    "topp": "float32",
    "min_p": "float32",
    "repetition_penalty": "float32",
    "length_penalty": "float32",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What a compiled search is made for.

    Args:
        width: w, beams or samples of an input.
        n_best: m, how many outputs beam search returns.
        steps: T, room for so many new tokens.
        sampling: None for beam search; ``'greedy'`` or ``'draw'``.
        beam_mode: see :func:`bert4kexue.ops.beam_search.advance_beams`.
        end_ids: tokens that end an output.
        pad_id: what outputs are filled up with.
        min_ends: how many end tokens an output takes.
        min_length: the shortest output that may end.
        topk: filter of a draw, or None.
        no_repeat_ngram_size: or 0.
        uses: names of the knobs that do something.
        renormalize: whether probabilities under a constraint sum to one.
        unfinished: whether beam search returns outputs that the limit cut.
    """

    width: int
    n_best: int
    steps: int
    sampling: str | None = None
    beam_mode: BeamMode = "full"
    end_ids: tuple[int, ...] = ()
    pad_id: int = 0
    min_ends: int = 1
    min_length: int = 1
    topk: int | None = None
    no_repeat_ngram_size: int = 0
    uses: frozenset[str] = frozenset()
    renormalize: bool = True
    unfinished: bool = True


class Search:
    """Generation with a decoder, as pure functions.

    Args:
        decoder: the model.
        settings: what to do.
        constraint: inside the graph (see :mod:`bert4kexue.ops.constraints`), or None.
    """

    def __init__(self, decoder: Decoder, settings: Settings, constraint: Any = None) -> None:
        self.decoder, self.settings, self.constraint = decoder, settings, constraint

    @property
    def variables(self) -> list[Any]:
        """What the functions read."""
        return [*self.decoder.variables, *(getattr(self.constraint, "variables", None) or ())]

    def generate(self, inputs: Any, knobs: Any, uniforms: Any) -> dict[str, Any]:
        """The whole loop.

        Args:
            inputs: of the decoder.
            knobs: scalars, see :data:`KNOBS`.
            uniforms: (T, b, w) in [0, 1), for a draw; anything otherwise.

        Returns:
            ``token_ids`` (b, m, T), ``lengths`` (b, m), ``scores`` (b, m), -inf where there is no
            such output, ``finished`` (b, m) and ``invalid`` (b,), where the model gave NaN.
        """
        state, scores = self.begin(inputs, knobs)
        state = self.choose(state, *scores, knobs, uniforms)
        if self.settings.steps > 1:
            flat = keras.tree.flatten(state)

            def go_on(*flat: Any) -> Any:
                now = keras.tree.pack_sequence_as(state, list(flat))
                return ops.logical_and(now["t"] < knobs["limit"], ops.any(~now["stop"]))

            def body(*flat: Any) -> Any:
                now, scores = self.forward(keras.tree.pack_sequence_as(state, list(flat)), knobs)
                return tuple(keras.tree.flatten(self.choose(now, *scores, knobs, uniforms)))

            flat = ops.while_loop(go_on, body, tuple(flat))
            state = keras.tree.pack_sequence_as(state, list(flat))
        return self.finish(state, knobs)

    def begin(self, inputs: Any, knobs: Any) -> tuple[Any, tuple[Any, Any]]:
        """Encode: the state, and the first token's log-probabilities with their candidates."""
        s = self.settings
        logits, decoder_state = self.decoder.start(inputs, s.width, s.steps)
        b, v = ops.shape(logits)[0], self.decoder.vocab_size
        logits = ops.broadcast_to(logits[:, None], (b, s.width, v))
        hypotheses = empty_beams(b, s.width, s.n_best, s.steps, s.pad_id)
        if s.sampling:
            hypotheses = hypotheses._replace(
                sums=ops.zeros((b, s.width)), done=ops.zeros((b, s.width), dtype="bool")
            )
        state = {
            "t": ops.zeros((), dtype="int32"),
            "model": decoder_state,
            "beams": tuple(hypotheses),
            "lengths": ops.zeros((b, s.width), dtype="int32"),
            "tokens": ops.zeros((b, s.width), dtype="int32"),
            "parents": ops.zeros((b, s.width), dtype="int32"),
            "rules": () if self.constraint is None else self.constraint.initial_state(b * s.width),
            "invalid": ops.zeros((b,), dtype="bool"),
            "stop": ops.zeros((b,), dtype="bool"),
        }
        if "repetition_penalty" in s.uses and self.decoder.prompt_counts:
            state["prompt"] = inputs["token_ids"]
        return self._scores(state, logits, knobs)

    def forward(self, state: Any, knobs: Any) -> tuple[Any, tuple[Any, Any]]:
        """Run the model on the chosen tokens: the state, log-probabilities and candidates."""
        logits, model = self.decoder.step(
            state["tokens"], state["parents"], state["t"] - 1, state["model"]
        )
        return self._scores({**state, "model": model}, logits, knobs)

    def _scores(self, state: Any, logits: Any, knobs: Any) -> tuple[Any, tuple[Any, Any]]:
        """log-probabilities (b, w, c) under every rule, candidates (b, w, c) or ()."""
        w, v = self.settings.width, self.decoder.vocab_size
        wrong = ops.isnan(ops.sum(logits, axis=-1))  # (b, w); a sum is one pass, and keeps any NaN
        wrong = ops.any(ops.logical_and(wrong, Beams(*state["beams"]).sums > NEVER), axis=1)
        invalid = ops.logical_or(state["invalid"], ops.logical_and(wrong, ~state["stop"]))
        state = {**state, "invalid": invalid}
        logits = self._processed(state, ops.reshape(logits, (-1, v)), knobs)
        tokens: Any = ()
        log_probs = log_softmax(logits)
        if self.constraint is not None:
            log_probs, tokens = self._constrained(state, log_probs)
        c = log_probs.shape[-1]
        if not isinstance(tokens, tuple):
            tokens = ops.reshape(tokens, (-1, w, c))
        return state, (ops.reshape(log_probs, (-1, w, c)), tokens)

    def _processed(self, state: Any, logits: Any, knobs: Any) -> Any:
        s, t = self.settings, state["t"]
        sequences = ops.reshape(Beams(*state["beams"]).sequences, (-1, s.steps))
        if "repetition_penalty" in s.uses:
            valid = ops.broadcast_to((ops.arange(s.steps) < t)[None], ops.shape(sequences))
            tokens = sequences
            if "prompt" in state:
                prompt = ops.repeat(state["prompt"], s.width, axis=0)
                tokens = ops.concatenate([prompt, tokens], axis=1)
                valid = ops.concatenate([prompt != 0, valid], axis=1)
            logits = penalize_repetition(logits, tokens, valid, knobs["repetition_penalty"])
        if s.no_repeat_ngram_size:
            logits = ban_repeated_ngrams(logits, sequences, t, s.no_repeat_ngram_size)
        if s.end_ids and "min_new_tokens" in s.uses:
            logits = ban_tokens(logits, s.end_ids, t + 1 < knobs["min_new_tokens"])
        if "temperature" in s.uses:
            logits = logits / knobs["temperature"]
        return logits

    def _constrained(self, state: Any, log_probs: Any) -> tuple[Any, Any]:
        rules, constraint = state["rules"], self.constraint
        rescore = getattr(constraint, "rescore", None)
        if rescore is not None:
            log_probs = rescore(rules, log_probs)
        lists = getattr(constraint, "candidates", lambda rules: None)(rules)
        if lists is None:
            tokens, valid = (), constraint.allowed(rules)
        else:
            tokens, valid = lists
            tokens = ops.cast(tokens, "int32")
            log_probs = gather(log_probs, tokens)
        if self.settings.renormalize:
            return renormalize(log_probs, valid), tokens
        return ops.where(valid, log_probs, NEVER), tokens

    def choose(self, state: Any, log_probs: Any, candidates: Any, knobs: Any, uniforms: Any) -> Any:
        """The next token of every hypothesis."""
        s, t = self.settings, state["t"]
        lists = None if isinstance(candidates, tuple) else candidates
        hypotheses = Beams(*state["beams"])
        if s.sampling:
            state, hypotheses, tokens, parents = self._sample(
                state, hypotheses, log_probs, lists, knobs, uniforms
            )
            stop = ops.all(hypotheses.done, axis=1)
        else:
            hypotheses, tokens, parents = advance_beams(
                hypotheses,
                log_probs,
                lists,
                t,
                knobs["limit"],
                end_ids=s.end_ids,
                min_ends=s.min_ends,
                min_length=s.min_length,
                length_penalty=knobs["length_penalty"],
                mode=s.beam_mode,
            )
            stop = hypotheses.done
        rules = state["rules"]
        if self.constraint is not None:
            rows = flat_rows(parents, s.width)
            rules = keras.tree.map_structure(lambda x: ops.take(x, rows, axis=0), rules)
            rules = self.constraint.advance(rules, ops.reshape(tokens, (-1,)))
        return {
            **state,
            "t": t + 1,
            "beams": tuple(hypotheses),
            "tokens": tokens,
            "parents": parents,
            "rules": rules,
            "stop": ops.logical_or(stop, state["invalid"]),
        }

    def _sample(
        self, state: Any, now: Beams, log_probs: Any, lists: Any, knobs: Any, uniforms: Any
    ) -> tuple[Any, Beams, Any, Any]:
        """One token for each row; rows do not know of each other."""
        s, t, c = self.settings, state["t"], log_probs.shape[-1]
        rows = ops.reshape(log_probs, (-1, c))
        possible = ops.any(rows > NEVER, axis=-1)
        if s.sampling == "greedy":
            places = ops.cast(ops.argmax(rows, axis=-1), "int32")
        else:
            places = draw(
                rows,
                ops.reshape(ops.take(uniforms, t, axis=0), (-1,)),
                topk=s.topk,
                topp=knobs["topp"] if "topp" in s.uses else None,
                min_p=knobs["min_p"] if "min_p" in s.uses else None,
            )
        chosen = gather(rows, places[:, None])
        tokens = places if lists is None else gather(ops.reshape(lists, (-1, c)), places[:, None])
        chosen, tokens, possible = (
            ops.reshape(x, (-1, s.width)) for x in (chosen, tokens, possible)
        )
        running = ops.logical_not(now.done)
        # A row that a constraint leaves no token has failed: it ends without a score.
        chosen = ops.where(possible, chosen, NEVER)
        goes_on = ops.logical_and(running, possible)
        tokens = ops.where(goes_on, tokens, s.pad_id)
        here = ops.arange(s.steps, dtype="int32") == t
        sequences = ops.where(here, tokens[..., None], now.sequences)
        is_end = ops.zeros_like(tokens, dtype="bool")
        for token in s.end_ids:
            is_end = ops.logical_or(is_end, tokens == token)
        is_end = ops.logical_and(is_end, goes_on)
        ends = now.ends + ops.cast(is_end, "int32")
        ended = ops.logical_and(is_end, ops.logical_and(ends >= s.min_ends, t + 1 >= s.min_length))
        sums = ops.where(running, now.sums + chosen, now.sums)
        lengths = state["lengths"] + ops.cast(goes_on, "int32")
        done = ops.logical_or(now.done, ops.logical_or(ended, ops.logical_not(possible)))
        own = ops.broadcast_to(ops.arange(s.width, dtype="int32")[None], ops.shape(tokens))
        now = now._replace(sequences=sequences, sums=sums, ends=ends, done=done)
        return {**state, "lengths": lengths}, now, tokens, own

    def finish(self, state: Any, knobs: Any) -> dict[str, Any]:
        """The outputs; see :meth:`generate`."""
        s, last = self.settings, Beams(*state["beams"])
        if s.sampling:
            lengths = state["lengths"]
            factor = ops.power(
                ops.cast(ops.maximum(lengths, 1), "float32"), knobs["length_penalty"]
            )
            sequences, scores, finished = last.sequences, last.sums / factor, last.done
        else:
            sequences, lengths, scores, finished = finish_beams(
                last,
                state["t"],
                length_penalty=knobs["length_penalty"],
                mode=s.beam_mode,
                unfinished=s.unfinished,
            )
        scores = ops.where(state["invalid"][:, None], NEVER, scores)
        filled = ops.arange(s.steps, dtype="int32")[None, None] < lengths[..., None]
        return {
            "token_ids": ops.where(filled, sequences, s.pad_id),
            "lengths": lengths,
            "scores": scores,
            "finished": ops.logical_and(finished, scores > NEVER),
            "invalid": state["invalid"],
        }
