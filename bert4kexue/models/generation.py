"""Generation with lm and unilm models: cached, batched, and compiled as one loop.

    generator = Generator(build_transformer_model(folder, application="unilm"), end_token_id=3)
    outputs = generator.generate(token_ids, segment_ids, num_beams=4, max_new_tokens=32)
    outputs[0][0].ids, outputs[0][0].score

What `AutoRegressiveDecoder` does with one sample and the whole model at every step, for many
samples and one token at every step. `Generator` holds the compiled functions, one for each set of
options and (where the compiler wants them fixed) each bucket of shapes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Generated
from typing import Any

import keras
import numpy as np

from bert4kexue.decoding.autoregressive import Hypothesis
from bert4kexue.decoding.constraints import as_constraint, take
from bert4kexue.models.compilation import compiled, shapes_are_static
from bert4kexue.models.decoder import Decoder, PrefixDecoder
from bert4kexue.models.host_rules import ruled
from bert4kexue.models.options import GenerationOptions
from bert4kexue.models.prompts import bucketed, prompts
from bert4kexue.models.search import Search, Settings

_KEPT = 32

SHARE = 0.25
"""How much of a batch is done before the rest goes on without it."""


class Generator:
    """Generates with one model.

    Args:
        model: a functional lm or unilm model with token probabilities or logits, or a
            :class:`bert4kexue.models.decoder.Decoder`. Weights are shared with it.
        end_token_id: the id, or ids, that end an output; None lets every output run to
            ``max_new_tokens``.
        start_token_id: put at the end of each source before anything is generated; not part of
            the outputs.
        pad_token_id: what streamed rows that have ended give.
        jit_compile: XLA on TensorFlow: faster by up to two times, compiling takes 5 to 15 seconds
            for each bucket of shapes on a model of BERT's size.
        multiple: where shapes are fixed, sources are padded to a multiple of this, and
            ``max_new_tokens`` rounded up to one.
        packed: hold the kernels of the layers a second time, turned for the few rows of a step.
            One sample, or a few, then go faster, for twice the memory; :meth:`pack` again after
            the model's weights change, which otherwise need nothing.

    Raises:
        ValueError: the model cannot generate; the message says why.
    """

    def __init__(
        self,
        model: keras.Model | Decoder,
        *,
        end_token_id: int | Sequence[int] | None = None,
        start_token_id: int | None = None,
        pad_token_id: int = 0,
        jit_compile: bool = True,
        multiple: int = 16,
        packed: bool = False,
    ) -> None:
        self.decoder: Any = PrefixDecoder(model) if isinstance(model, keras.Model) else model
        ends = () if end_token_id is None else end_token_id
        self.end_ids = (ends,) if isinstance(ends, int) else tuple(int(i) for i in ends)
        self.start_token_id, self.pad_token_id = start_token_id, pad_token_id
        self.jit_compile, self.multiple = jit_compile, multiple
        v = self.decoder.vocab_size
        for name, ids in (("end_token_id", self.end_ids), ("start_token_id", (start_token_id,))):
            if any(i is not None and not 0 <= i < v for i in ids):
                raise ValueError(f"{name}={list(ids)} lies outside the vocabulary of {v} tokens")
        self._functions: OrderedDict[Any, tuple[Any, Any]] = OrderedDict()
        if packed:
            self.pack()

    def pack(self) -> None:
        """Copy the kernels as the model has them now; see ``packed``."""
        if not hasattr(self.decoder, "pack"):
            raise ValueError(f"packed=True: {type(self.decoder).__name__} cannot pack its kernels")
        self.decoder.pack()
        self._functions.clear()

    def generate(
        self,
        token_ids: Any,
        segment_ids: Any = None,
        *,
        constraint: Any = None,
        stepwise: bool | None = None,
        **options: Any,
    ) -> list[list[Hypothesis]]:
        """Generate for every source.

        Args:
            token_ids: sources as lists of ids, or an array (b, n) padded with 0 on either side.
            segment_ids: of the same shape; None for the first segment throughout. A unilm model
                sees what stands in segment 1 as the beginning of its output.
            constraint: what outputs may be: one of :mod:`bert4kexue.ops.constraints`, inside the
                compiled loop; or one of :mod:`bert4kexue.decoding.constraints` or a
                `PrefixTree`, which drives the compiled step from outside. Its keys end with the
                end token.
            stepwise: run the loop in Python around compiled steps. None does so for constraints
                that live outside.
            **options: see :class:`bert4kexue.models.options.GenerationOptions`.

        Returns:
            For each source its outputs, best first (for samples, in their order): ids with the end
            token, score, and whether it ended by itself. Fewer than asked for where there are no
            more.

        Raises:
            ValueError: an option or a source that cannot be (too long for the positions, empty,
                ids outside the vocabulary), NaN from the model, or a constraint that leaves a
                source without any output.
        """
        run = self._run(token_ids, segment_ids, constraint, options)
        if stepwise is None:
            stepwise = run.host is not None
        if stepwise or run.host is not None:
            result = self._outputs(run)
        else:
            result = self._function(run, "generate")(run.inputs, run.knobs, run.uniforms)
        return _hypotheses(result, run, constraint is not None)

    def stream(
        self, token_ids: Any, segment_ids: Any = None, *, constraint: Any = None, **options: Any
    ) -> Iterator[np.ndarray]:
        """Generate and yield each step's tokens (b, samples) as they are chosen.

        A row that has ended gives ``pad_token_id``. Arguments are those of :meth:`generate`; beam
        search cannot be streamed, since its first token is certain only at the end.
        """
        if options.get("num_beams", 1) != 1:
            raise ValueError(
                f"num_beams={options['num_beams']}: beams decide on their first token at the end, "
                "so only num_beams=1 can be streamed"
            )
        run = self._run(token_ids, segment_ids, constraint, {**options, "num_beams": None})
        return self._stream(run)

    def _stream(self, run: _Run) -> Iterator[np.ndarray]:
        for state in self._steps(run):
            _check_finite(state["invalid"], run.rows)
            yield _numpy(state["tokens"])[: run.rows]

    def generate_function(
        self, *, constraint: Any = None, **options: Any
    ) -> Callable[..., dict[str, Any]]:
        """Generation as one function of tensors, for graphs that are exported.

        Args:
            constraint: inside the graph, or None.
            **options: as for :meth:`generate`; ``seed`` means nothing here.

        Returns:
            ``function(token_ids (b, n) int32, segment_ids (b, n) int32 or None, uniforms=None)``
            with any b and n, giving ``token_ids`` (b, m, T), ``lengths``, ``scores`` (-inf where
            there is no such output), ``finished``, (b, m) each, and ``invalid`` (b,), True where
            the model gave NaN. ``uniforms`` (T, b, m) in [0, 1) is needed with ``do_sample``. It
            reads ``function.variables``.
        """
        chosen = GenerationOptions(**options)
        settings = chosen.settings(self, constraint is not None, chosen.max_new_tokens)
        search = Search(self.decoder, settings, constraint)
        knobs = chosen.knobs()

        def function(token_ids: Any, segment_ids: Any = None, uniforms: Any = None) -> Any:
            ops = keras.ops
            token_ids = ops.cast(token_ids, "int32")
            segments = (
                ops.zeros_like(token_ids) if segment_ids is None else ops.cast(segment_ids, "int32")
            )
            if uniforms is None:
                if settings.sampling == "draw":
                    raise ValueError("do_sample=True needs uniforms (T, b, samples) in [0, 1)")
                uniforms = ops.zeros((1, 1, 1))
            tensors = {name: ops.convert_to_tensor(value) for name, value in knobs.items()}
            inputs = {"token_ids": token_ids, "segment_ids": segments}
            return search.generate(inputs, tensors, uniforms)

        function.variables = search.variables  # type: ignore[attr-defined]
        return function

    def _run(self, token_ids: Any, segment_ids: Any, constraint: Any, options: Any) -> _Run:
        chosen = GenerationOptions(**options)
        tokens, segments = prompts(
            token_ids,
            segment_ids,
            self.decoder,
            chosen.max_new_tokens,
            self.start_token_id,
        )
        static = shapes_are_static(self.jit_compile)
        rows = len(tokens)
        if static:
            tokens, segments = (bucketed(x, self.multiple) for x in (tokens, segments))
        multiple = self.multiple if static else 1
        steps = -(-chosen.max_new_tokens // multiple) * multiple
        host, inside = _split(constraint)
        if constraint is not None and len(tokens) != rows:
            # Its rows may belong to samples: none may be invented.
            tokens, segments = tokens[:rows], segments[:rows]
        settings = chosen.settings(self, constraint is not None, steps)
        uniforms = np.zeros((1, 1, 1), np.float32)
        if settings.sampling == "draw":
            uniforms = chosen.uniforms(rows, len(tokens), steps, settings.width)
        inputs = {"token_ids": tokens, "segment_ids": segments}
        return _Run(settings, chosen.knobs(), inputs, uniforms, rows, inside, host)

    def _outputs(self, run: _Run) -> dict[str, np.ndarray]:
        """What the search finds, step by step; samples that are done leave the batch on the way."""
        finish, steps = self._function(run, "finish"), self._steps(run)
        shrinks = run.settings.sampling is None and not shapes_are_static(self.jit_compile)
        samples, limit = np.arange(len(run.inputs["token_ids"])), int(run.knobs["limit"])
        parts: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        state = next(steps)
        while state is not None:
            last, stop, kept = state, _numpy(state["stop"]), None
            goes_on = not stop.all() and int(state["t"]) < limit
            if shrinks and goes_on and stop.sum() >= max(1, len(stop) * SHARE):
                found = {k: _numpy(v)[stop] for k, v in finish(state, run.knobs).items()}
                parts.append((samples[stop], found))
                samples, kept = samples[~stop], np.flatnonzero(~stop)
            try:
                state = steps.send(kept)
            except StopIteration:
                state = None
        parts.append((samples, {k: _numpy(v) for k, v in finish(last, run.knobs).items()}))
        order = np.argsort(np.concatenate([which for which, _ in parts]))
        return {
            name: np.concatenate([found[name] for _, found in parts])[order] for name in parts[0][1]
        }

    def _steps(self, run: _Run) -> Generated[Any, Any, None]:
        """The state after each chosen token; may be sent the samples (k,) that are to go on."""
        state, scores = self._function(run, "begin")(run.inputs, run.knobs)
        choose, forward = self._function(run, "choose"), self._function(run, "forward")
        width, b = run.settings.width, len(run.inputs["token_ids"])
        rules = None if run.host is None else run.host.initial_state(b * width)
        limit = int(run.knobs["limit"])
        for t in range(limit):
            if run.host is not None:
                scores = ruled(run.host, run.settings, state, rules, _numpy(scores[0]))
            model = state.pop("model")
            state = choose(state, *scores, run.knobs, run.uniforms)
            if run.host is not None:
                parents = _numpy(state["parents"]) + np.arange(b)[:, None] * width
                tokens = _numpy(state["tokens"]).reshape(-1)
                rules = run.host.advance(take(rules, parents.reshape(-1)), tokens)
            kept = yield state
            if t + 1 == limit or _numpy(state["stop"]).all():
                return
            if kept is not None:
                b = len(kept)
                state, model = _samples((state, model), kept)
                if run.host is not None:
                    rows = kept[:, None] * width + np.arange(width)
                    rules = take(rules, rows.reshape(-1))
            state, scores = forward({**state, "model": model}, run.knobs)

    def _function(self, run: _Run, name: str) -> Any:
        """A compiled function of the search; the last few are kept."""
        key = (run.settings, id(run.inside), name)
        if key not in self._functions:
            search = Search(self.decoder, run.settings, run.inside)
            function = compiled(
                getattr(search, name), search.variables, jit_compile=self.jit_compile
            )
            # The constraint is kept beside it, so that its id is not given to another.
            self._functions[key] = (run.inside, function)
            while len(self._functions) > _KEPT:
                self._functions.popitem(last=False)
        self._functions.move_to_end(key)
        return self._functions[key][1]


class _Run:
    """One call, checked and laid out."""

    def __init__(
        self,
        settings: Settings,
        knobs: dict[str, np.ndarray],
        inputs: dict[str, np.ndarray],
        uniforms: np.ndarray,
        rows: int,
        inside: Any,
        host: Any,
    ) -> None:
        convert = keras.ops.convert_to_tensor
        self.settings, self.rows, self.inside, self.host = settings, rows, inside, host
        self.knobs = {name: convert(value) for name, value in knobs.items()}
        self.inputs = {name: convert(value) for name, value in inputs.items()}
        self.uniforms = convert(uniforms)


def _split(constraint: Any) -> tuple[Any, Any]:
    """A constraint as (outside the graph, inside the graph), one of them None."""
    if constraint is None:
        return None, None
    if hasattr(constraint, "variables"):
        return None, constraint
    return as_constraint(constraint), None


def _samples(state: Any, kept: np.ndarray) -> Any:
    """The state of these samples: the first axis of everything but scalars."""
    rows = keras.ops.convert_to_tensor(kept.astype(np.int32))
    return keras.tree.map_structure(
        lambda x: keras.ops.take(x, rows, axis=0) if len(x.shape) else x, state
    )


def _hypotheses(result: Any, run: _Run, constrained: bool) -> list[list[Hypothesis]]:
    arrays = {name: _numpy(value)[: run.rows] for name, value in result.items()}
    _check_finite(arrays["invalid"], run.rows)
    outputs = []
    for ids, lengths, scores, finished in zip(
        arrays["token_ids"], arrays["lengths"], arrays["scores"], arrays["finished"], strict=True
    ):
        outputs.append(
            [
                Hypothesis(row[:length].copy(), float(score), bool(end))
                for row, length, score, end in zip(ids, lengths, scores, finished, strict=True)
                if score > -np.inf
            ]
        )
    empty = [i for i, found in enumerate(outputs) if not found]
    if empty:
        why = (
            "the constraint allows no complete output within max_new_tokens="
            f"{int(run.knobs['limit'])}: keys of a prefix tree must end with end_token_id"
            if constrained
            else "every continuation has probability zero"
        )
        raise ValueError(f"nothing can be generated for source {empty[0]}: {why}")
    return outputs


def _check_finite(invalid: Any, rows: int) -> None:
    wrong = np.flatnonzero(_numpy(invalid)[:rows])
    if len(wrong):
        raise ValueError(
            f"the model gave NaN for the next token of source {wrong[0]}: no output can be chosen "
            "by it. Check the weights and, in half precision, the range of the logits"
        )


def _numpy(x: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(x)
