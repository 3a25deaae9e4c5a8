"""The cached forward pass of lm and unilm models: a prompt once, then one token per hypothesis.

A prompt is encoded once per sample. What hypotheses add to the cache stands beside it, all of a
sample's together, and a mask of ancestry says which of these tokens are whose: when beams are
reordered, only that mask moves. So the k hypotheses of a sample are k queries of one attention
(`MultiHeadAttention.step`), and no key or value is ever copied.

A layer that decodes has two methods, ``prefill(x, capacity, allowed=, position=, p_bias=)`` and
``step(x, cache, start, allowed=, position=, p_bias=)``, both giving ``(output, cache)``. What
a cache is, only its layer knows.

Recurrent layers have a state for each hypothesis instead (`LinearAttention`), whose size does not
depend on the length: ``prefill(x, real=, prefix=, position=, p_bias=)``, ``step(x, cache, real=,
position=, p_bias=)``, and ``reorder_cache(cache, parents)`` with parents (b, k). Where
every layer is recurrent, nothing of the search's state grows with the source either.

Axis letters: b samples, n source tokens, w hypotheses of a sample, T steps, v vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol

import keras
from keras import ops

from bert4kexue.layers import Concatenate1D, Embedding, FirstToken
from bert4kexue.layers import LanguageModelMask as CausalMask
from bert4kexue.layers import UnifiedLanguageModelMask as PrefixMask
from bert4kexue.layers.embeddings import PositionEmbedding, SinusoidalPositionEmbedding
from bert4kexue.layers.projections import PackedProjections, projecting
from bert4kexue.models.calls import Call, calls_of
from bert4kexue.ops.masking import causal_mask, first_group, unilm_mask, unilm_order
from bert4kexue.ops.rows import take_beams, take_tokens

_POSITIONS = (PositionEmbedding, SinusoidalPositionEmbedding)
_MIXING = (Concatenate1D, FirstToken, keras.layers.Flatten, keras.Model)
#: Operations that are no layers and treat each token by itself.
_TOKEN_WISE = {"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Cast", "Negative"}


class Decoder(Protocol):
    """What the search needs of a model; families with an encoder implement the same.

    ``state`` is a tree of tensors that only the decoder looks into.
    """

    vocab_size: int
    variables: list[Any]
    limit: int | None
    """How many tokens, source and target together, have a position; None for any number."""
    prompt_counts: bool
    """Whether the output goes on from the prompt (lm), so that it counts as its beginning."""

    def start(self, inputs: Any, width: int, steps: int) -> tuple[Any, Any]:
        """Encode the sources: logits (b, v) of the first token, and the state of ``width``
        hypotheses that will make at most ``steps`` steps."""

    def step(self, tokens: Any, parents: Any, t: Any, state: Any) -> tuple[Any, Any]:
        """Logits (b, w, v) after ``tokens`` (b, w), the t-th (from 0) of hypotheses that go on from
        ``parents`` (b, w), and the new state."""


class PrefixDecoder:
    """A functional lm or unilm model as a :class:`Decoder`.

    Args:
        model: Input-Token, perhaps Input-Segment and Input-Position, to token probabilities or
            logits (b, n, v), perhaps beside other outputs. Its weights are shared, not copied.

    Raises:
        ValueError: the model has no such output, is no lm or unilm, or holds a layer that cannot
            go token by token.
    """

    def __init__(self, model: keras.Model) -> None:
        named = {_kind(tensor.name): tensor for tensor in model.inputs}
        self.inputs = {
            kind: named[kind] for kind in ("token", "segment", "position") if kind in named
        }
        if "token" not in named:
            names = [tensor.name for tensor in model.inputs]
            raise ValueError(f"generation needs a model with Input-Token among its inputs: {names}")
        output = _token_output(model)
        calls = calls_of(list(self.inputs.values()), output)
        self.calls, self.gives_logits = _without_softmax(calls)
        self.output = self.calls[-1].outputs[0]
        self.vocab_size: int = output.shape[-1]
        self.variables = list(model.variables)
        masks = {type(c.operation) for c in self.calls} & {CausalMask, PrefixMask}
        if len(masks) != 1:
            raise ValueError(
                "generation needs a model that reads from left to right: build it with "
                "application='lm' or application='unilm'"
            )
        self.causal = masks == {CausalMask}
        self.prompt_counts = self.causal
        self.target_segment = 0 if self.causal else 1
        self.attentions = [i for i, c in enumerate(self.calls) if _attends(c.operation)]
        self.recurrent = all(_is_recurrent(self.calls[i].operation) for i in self.attentions)
        for call in self.calls:
            _check_call(call)
        self.limit = _position_limit(self.calls)
        self._packed: PackedProjections | None = None

    def pack(self) -> None:
        """Copy the kernels that steps read, turned for few rows; again after weights change.

        Takes their memory a second time. See
        :class:`bert4kexue.layers.projections.PackedProjections`.
        """
        if self._packed is not None:
            self._packed.update()
            return
        self._packed = PackedProjections.of_layers(call.operation for call in self.calls)
        self.variables += self._packed.variables

    def start(self, inputs: Any, width: int, steps: int) -> tuple[Any, Any]:
        """See :class:`Decoder`; inputs are ``token_ids`` and ``segment_ids``, (b, n) int32, padded
        with 0 on either side."""
        token_ids, segment_ids = inputs["token_ids"], inputs["segment_ids"]
        n = ops.shape(token_ids)[1]
        real = _real(token_ids)
        first = ops.cast(ops.argmax(ops.cast(real, "int32"), axis=1), "int32")
        last = (
            n - 1 - ops.cast(ops.argmax(ops.cast(ops.flip(real, axis=1), "int32"), axis=1), "int32")
        )
        positions = ops.maximum(ops.arange(n, dtype="int32")[None] - first[:, None], 0)
        b = ops.shape(token_ids)[0]
        state = {"lengths": last - first + 1}
        allowed = prefix = None
        if not self.recurrent:
            allowed = causal_mask(n)[None] if self.causal else unilm_mask(segment_ids)
            allowed = ops.logical_and(allowed, real[:, None, :])
            state["source"] = real
            state["ancestry"] = ops.zeros((b, width, width * (steps - 1)), dtype="bool")
        if not self.causal:
            prefix = first_group(unilm_order(segment_ids))
        one = ops.zeros((b, width), dtype="int32")  # the parent of all hypotheses is the source

        def attend(layer: Any, k: int, x: Any, **p: Any) -> Any:
            if _is_recurrent(layer):
                output, cache = layer.prefill(x, real=real, prefix=prefix, **p)
                return output, layer.reorder_cache(cache, one)
            return layer.prefill(x, n + width * (steps - 1), allowed=allowed, **p)

        logits, caches = self._run(token_ids, segment_ids, positions, attend, last)
        return logits[:, 0], {**state, "caches": caches}

    def step(self, tokens: Any, parents: Any, t: Any, state: Any) -> tuple[Any, Any]:
        """See :class:`Decoder`."""
        # A generated [PAD] is as invisible as one in the source.
        real, caches, allowed, start = tokens != 0, state["caches"], None, None
        if not self.recurrent:
            n, w = ops.shape(state["source"])[1], tokens.shape[1]
            places = ops.arange(state["ancestry"].shape[-1], dtype="int32")
            own = places[None] == t * w + ops.arange(w, dtype="int32")[:, None]  # (w, w * T)
            own = ops.logical_and(own[None], real[..., None])
            ancestry = ops.logical_or(take_beams(state["ancestry"], parents), own)
            source = ops.broadcast_to(state["source"][:, None], (ops.shape(tokens)[0], w, n))
            allowed = ops.concatenate([source, ancestry], axis=-1)  # (b, w, n + w * T)
            state, start = {**state, "ancestry": ancestry}, n + t * w

        def attend(layer: Any, k: int, x: Any, **p: Any) -> Any:
            if _is_recurrent(layer):
                cache = layer.reorder_cache(caches[k], parents)
                return layer.step(x, cache, real=real, **p)
            return layer.step(x, caches[k], start, allowed=allowed, **p)

        positions = ops.broadcast_to((state["lengths"] + t)[:, None], ops.shape(tokens))
        segments = ops.full_like(tokens, self.target_segment)
        with projecting(self._packed):
            logits, caches = self._run(tokens, segments, positions, attend)
        return logits, {**state, "caches": caches}

    def _run(
        self, tokens: Any, segments: Any, positions: Any, attend: Any, last: Any = None
    ) -> tuple[Any, list[Any]]:
        """Logits (b, n, v), or (b, 1, v) of the tokens at ``last`` (b,); and the caches."""
        given = {"token": tokens, "segment": segments, "position": positions}
        values = {id(tensor): given[kind] for kind, tensor in self.inputs.items()}
        caches: list[Any] = []
        for index, call in enumerate(self.calls):
            layer = call.operation
            if isinstance(layer, CausalMask | PrefixMask):
                result = None
            elif _attends(layer):
                (inputs, *_), options = call.arguments.fill_in(values)
                p_bias = options.get("p_bias")
                position = inputs[-1] if p_bias else None
                k = len(caches)
                result, cache = attend(layer, k, inputs[0], position=position, p_bias=p_bias)
                caches.append(cache)
            elif isinstance(layer, _POSITIONS):
                x = values[id(call.inputs[0])]
                result = layer.merge(x, positions)
            else:
                arguments, options = call.arguments.fill_in(values)
                if isinstance(layer, Embedding) and options.get("mode") == "dense":
                    result = layer.project_few(*arguments)
                else:
                    result = layer(*arguments, **options)
            results = result if isinstance(result, list | tuple) else [result]
            values.update({id(t): value for t, value in zip(call.outputs, results, strict=True)})
            if last is not None and index == self.attentions[-1]:
                # From here on every token goes by itself, and only the last one is asked for.
                for tensor in _needed(self.calls[index + 1 :], values):
                    values[id(tensor)] = take_tokens(values[id(tensor)], last)
        logits = ops.cast(values[id(self.output)], "float32")
        return (logits if self.gives_logits else ops.log(logits)), caches


def _kind(name: str) -> str:
    return {"Input-Token": "token", "Input-Segment": "segment", "Input-Position": "position"}.get(
        name[name.rfind("Input-") :] if "Input-" in name else name, name
    )


def _token_output(model: keras.Model) -> Any:
    outputs = [tensor for tensor in model.outputs if len(tensor.shape) == 3]
    if len(outputs) > 1:
        head = [t for t in outputs if t._keras_history.operation.name.endswith("MLM-Activation")]
        outputs = head or outputs
    if len(outputs) != 1:
        raise ValueError(
            "generation needs one output of token probabilities (b, n, v), and the model has "
            f"{[tuple(t.shape) for t in model.outputs]}: build it with application='lm' or 'unilm'"
        )
    return outputs[0]


def _without_softmax(calls: list[Call]) -> tuple[list[Call], bool]:
    """The calls up to the logits, and whether these are logits: a logarithm of probabilities that
    have been rounded is less exact."""
    activation = getattr(calls[-1].operation, "activation", None)
    if isinstance(calls[-1].operation, keras.layers.Activation | keras.layers.Softmax):
        if isinstance(calls[-1].operation, keras.layers.Softmax) or _is(activation, "softmax"):
            return calls[:-1], True
        return calls, _is(activation, "linear")
    return calls, not _is(activation, "softmax")


def _is(activation: Any, name: str) -> bool:
    return activation is keras.activations.get(name)


def _attends(layer: Any) -> bool:
    return hasattr(layer, "prefill") and hasattr(layer, "step")


def _is_recurrent(layer: Any) -> bool:
    return hasattr(layer, "reorder_cache")


def _check_call(call: Call) -> None:
    layer = call.operation
    if _attends(layer):
        structure = (CausalMask, PrefixMask)
        query, key, value, *rest = call.arguments.args[0]
        biased = call.arguments.kwargs.get("a_bias")
        foreign = biased and not isinstance(rest[0]._keras_history.operation, structure)
        if foreign or not biased or query is not key or key is not value:
            raise ValueError(
                f"{layer.name!r} attends to more than its own sequence, or under another mask than "
                "the application's: generation cannot cache it"
            )
        if getattr(layer, "return_attention_scores", False):
            raise ValueError(
                f"{layer.name!r} hands its scores on (residual_attention_scores): generation "
                "cannot cache them"
            )
    elif isinstance(layer, _MIXING) or not (
        isinstance(layer, keras.layers.Layer) or type(layer).__name__ in _TOKEN_WISE
    ):
        raise ValueError(
            f"{layer.name!r} ({type(layer).__name__}) lies between the ids and the token "
            "probabilities and does not treat each token by itself: generation cannot go through it"
        )


def _position_limit(calls: list[Call]) -> int | None:
    limits = [
        layer.input_dim**2 if layer.hierarchical else layer.input_dim
        for layer in (call.operation for call in calls)
        if isinstance(layer, PositionEmbedding)
    ]
    return min(limits, default=None)


def _needed(calls: list[Call], values: dict[int, Any]) -> list[Any]:
    """Symbolic tensors that exist and that the calls still take."""
    tensors = {id(t): t for call in calls for t in call.inputs if id(t) in values}
    return list(tensors.values())


def _real(token_ids: Any) -> Any:
    """Which are tokens; the first one always, where a row has none."""
    real = token_ids != 0
    nothing = ops.logical_not(ops.any(real, axis=1, keepdims=True))
    first = ops.arange(ops.shape(token_ids)[1], dtype="int32")[None] == 0
    return ops.logical_or(real, ops.logical_and(nothing, first))
