"""Multi-head attention with any position bias, and its cached step."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import keras
from keras import ops
from keras.layers import Dense

from bert4kexue.layers.initializers import fresh
from bert4kexue.layers.position_bias import find_position_bias
from bert4kexue.layers.projections import project
from bert4kexue.layers.rematerialization import Rematerializable
from bert4kexue.ops.attention import (
    NORMALIZATIONS,
    attention_normalize,
    attention_scores,
    check_long_attention,
    fused_attention,
    weighted_values,
)
from bert4kexue.ops.chunked_attention import by_query_chunks
from bert4kexue.ops.masking import attention_mask, causal_mask, order_mask


class KeyValueCache(NamedTuple):
    """Projected keys (b, h, T, d) and values (b, h, T, e) of a layer; T is the capacity."""

    key: Any
    value: Any


@keras.saving.register_keras_serializable(package="bert4kexue")
class MultiHeadAttention(Rematerializable):
    """Multi-head attention (Vaswani et al., 2017).

    Inputs: a list ``[query (b, n, H), key (b, m, H), value (b, m, H)]``, then an attention bias
    when ``a_bias`` is true, then a position tensor when ``p_bias`` is named:

    - ``a_bias=True``: booleans, True where attention is allowed, or numbers added to the scores;
      shape (n, m), (b, n, m) or (b, h, n, m).
    - ``a_bias='order'``: integers (b or 1, n), the mask in short: a query sees the keys whose
      number is its own or less.
    - ``p_bias='rotary'``: sinusoids (b or 1, m, key_size), interleaved, for queries the first n.

    Keys that the value's mask hides are seen by no query. A row without a visible key gives finite
    numbers.

    Args:
        heads: h.
        head_size: width of a head's values.
        out_dim: width of the output; heads * head_size when None.
        key_size: width of a head's queries and keys; head_size when None.
        use_bias: whether the four projections have biases.
        normalization: ``'softmax'``, ``'squared_relu'`` or ``'softmax_plus'``.
        attention_scale: divide scores by sqrt(key_size).
        attention_dropout: rate at which weights are dropped in training.
        return_attention_scores: return ``[output, scores]``, the scaled scores (b, h, n, m) before
            mask and bias, as residual attention wants them.
        query_chunk: compute so many queries at a time, in memory that grows with n rather than n^2;
            the numbers are the same. None computes all at once.
        fused: leave softmax attention to the backend's own operation where that computes the same;
            see :func:`bert4kexue.ops.attention.fused_attention`.
        log_n_scaling: the longest sequence of training: the scores of longer ones are scaled by
            :func:`bert4kexue.ops.attention.log_length_scale` of it. None scales nothing.
        kernel_initializer: of the four kernels.

    Raises:
        ValueError: a normalization that is unknown, a `query_chunk` below 1 or beside
            `return_attention_scores`, which are whole, a `log_n_scaling` below 2, or `fused` with
            another normalization than softmax; when called, dropout of chunks in training.
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        out_dim: int | None = None,
        key_size: int | None = None,
        use_bias: bool = True,
        normalization: str = "softmax",
        attention_scale: bool = True,
        attention_dropout: float | None = None,
        return_attention_scores: bool = False,
        query_chunk: int | None = None,
        fused: bool = False,
        log_n_scaling: int | None = None,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                f"normalization={normalization!r} is unknown: choose one of "
                f"{sorted(NORMALIZATIONS)}"
            )
        check_long_attention(query_chunk, log_n_scaling, return_attention_scores)
        if fused and normalization != "softmax":
            raise ValueError(
                f"fused=True computes a softmax, not normalization={normalization!r}: leave it out"
            )
        self.heads = heads
        self.head_size = head_size
        self.out_dim = out_dim or heads * head_size
        self.key_size = key_size or head_size
        self.use_bias = use_bias
        self.normalization = normalization
        self.attention_scale = attention_scale
        self.attention_dropout = attention_dropout
        self.return_attention_scores = return_attention_scores
        self.query_chunk = query_chunk
        self.fused = fused
        self.log_n_scaling = log_n_scaling
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Make q_dense, k_dense, v_dense, o_dense."""
        query, key, value = (tuple(shape) for shape in input_shape[:3])
        self.q_dense = self._dense(self.key_size * self.heads, "q_dense", query)
        self.k_dense = self._dense(self.key_size * self.heads, "k_dense", key)
        self.v_dense = self._dense(self.head_size * self.heads, "v_dense", value)
        mixed = (*query[:-1], self.head_size * self.heads)
        self.o_dense = self._dense(self.out_dim, "o_dense", mixed)
        if self.attention_dropout:
            self.dropout = keras.layers.Dropout(
                self.attention_dropout, name="dropout", dtype=self.dtype_policy
            )

    def seed_generators(self) -> list[keras.random.SeedGenerator]:
        """That of the attention weights' dropout."""
        return [self.dropout.seed_generator] if self.attention_dropout else []

    def _dense(self, units: int, name: str, shape: tuple[int | None, ...]) -> Dense:
        dense = Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            name=name,
            dtype=self.dtype_policy,
        )
        dense.build(shape)
        return dense

    def projections(self) -> list[list[Dense]]:
        """The Dense layers, in groups that read the same tokens in self-attention."""
        return [[self.q_dense, self.k_dense, self.v_dense], [self.o_dense]]

    def call(
        self,
        inputs: list[Any],
        mask: Any = None,
        a_bias: bool | Literal["order"] | None = None,
        p_bias: str | None = None,
        training: bool | None = None,
    ) -> Any:
        """Attend; see the class for the inputs."""
        (query, key, value), rest = inputs[:3], list(inputs[3:])
        bias = rest.pop(0) if a_bias else None
        order = bias if a_bias == "order" else None
        position = rest.pop(0) if p_bias else None
        output, scores = self.attend(
            *self._projected(query, key, value),
            key_mask=mask[2] if isinstance(mask, list | tuple) else None,
            bias=None if a_bias == "order" else bias,
            order=order,
            position=position,
            p_bias=p_bias,
            training=training,
        )
        return [output, scores] if self.return_attention_scores else output

    def attend(
        self,
        query: Any,
        key: Any,
        value: Any,
        *,
        key_mask: Any = None,
        bias: Any = None,
        order: Any = None,
        position: Any = None,
        p_bias: str | None = None,
        training: bool | None = None,
        by_head: bool = False,
    ) -> tuple[Any, Any]:
        """Projected heads to the output.

        Args:
            query: (b, n, h, d).
            key: (b, m, h, d).
            value: (b, m, h, e).
            key_mask: (b, m) booleans or None.
            bias: booleans or numbers, or None; see the class.
            order: integers (b or 1, n), or None; see the class.
            position: the tensor of ``p_bias``.
            p_bias: name of the position bias.
            training: whether dropout acts.
            by_head: keys and values are (b, h, m, d) and (b, h, m, e), as caches hold them, and
                keys are rotated already.

        Returns:
            The output (b, n, out_dim); the scores (b, h, n, m) before mask and bias, None if split.
        """
        effect = find_position_bias(p_bias)
        query, key = effect.rotate(position, query, key)
        allowed = bias if bias is not None and _is_boolean(bias) else None
        bias = None if allowed is not None else bias
        drops = bool(self.attention_dropout and training)
        fuses = self.fused and effect.only_rotates and not (drops or by_head)
        # Whoever returns scores needs them whole; of float16 see fused_attention.
        fuses = fuses and not self.return_attention_scores and self.compute_dtype != "float16"

        def rows(q: Any, k: Any, v: Any, visible: Any, added: Any) -> tuple[Any, Any]:
            mask = attention_mask(key_mask, visible)
            options = {"trained_length": self.log_n_scaling}
            if fuses and added is None:
                return fused_attention(q, k, v, mask, scale=self.attention_scale, **options), None
            scores = attention_scores(q, k, scale=self.attention_scale, keys_by_head=by_head)
            scores = effect.add(position, scores, q)
            weights = attention_normalize(scores, mask, added, self.normalization, **options)
            if self.attention_dropout:
                weights = self.dropout(weights, training=training)
            mixed = weighted_values(weights, v, values_by_head=by_head)
            return effect.output(position, weights, mixed), scores

        if self.query_chunk is None or by_head:
            visible = allowed if order is None else order_mask(order, order)
            mixed, scores = rows(query, key, value, visible, bias)
        else:
            self._check_chunks(effect.only_rotates, p_bias, drops)
            mixed = by_query_chunks(
                lambda *parts: rows(*parts)[0],
                *(query, key, value),
                chunk=self.query_chunk,
                allowed=allowed,
                bias=bias,
                order=order,
                recompute=bool(training),
            )
            scores = None
        shape = ops.shape(mixed)
        flat = ops.reshape(mixed, (shape[0], shape[1], self.heads * self.head_size))
        return project([self.o_dense], flat)[0], scores

    def _check_chunks(self, only_rotates: bool, p_bias: str | None, drops: bool) -> None:
        if not only_rotates:
            raise ValueError(
                f"{self.name!r}: query_chunk={self.query_chunk} does not know how to cut "
                f"p_bias={p_bias!r}, which enters the scores: build it without query_chunk"
            )
        if drops:
            raise ValueError(
                f"{self.name!r}: attention_dropout={self.attention_dropout} drops weights that "
                f"query_chunk={self.query_chunk} never holds together: train with "
                "attention_dropout_rate=0, or without query_chunk"
            )

    def init_cache(self, batch_size: int, capacity: int) -> KeyValueCache:
        """An empty cache for ``capacity`` positions, in the layer's compute precision."""

        def zeros(size: int) -> Any:
            return ops.zeros((batch_size, self.heads, capacity, size), dtype=self.compute_dtype)

        return KeyValueCache(zeros(self.key_size), zeros(self.head_size))

    def step(
        self,
        x: Any,
        cache: KeyValueCache,
        start: Any,
        *,
        allowed: Any = None,
        position: Any = None,
        p_bias: str | None = None,
    ) -> tuple[Any, KeyValueCache]:
        """Self-attention of k new tokens over everything cached, themselves included.

        Args:
            x: (b, k, H), the tokens at positions start ... start + k - 1.
            cache: of :meth:`init_cache`, or of the step before.
            start: position of the first new token; an integer or a scalar tensor.
            allowed: booleans (k, T), (b, k, T) or (b, h, k, T), True where a new token may see a
                cached position; left to right when None.
            position: what ``p_bias`` takes, for the k new positions alone.
            p_bias: name of the position bias. Keys are cached after their rotation.

        Returns:
            The output (b, k, out_dim), equal to rows start ... start + k - 1 of the call on the
            whole sequence under the same mask, and the cache with the new positions written.
        """
        query, key, value = self._own(x, position, p_bias)
        cache = KeyValueCache(
            *(
                ops.slice_update(
                    held, (0, 0, start, 0), ops.cast(ops.transpose(new, (0, 2, 1, 3)), held.dtype)
                )
                for held, new in ((cache.key, key), (cache.value, value))
            )
        )
        if allowed is None:
            allowed = causal_mask(x.shape[1], cache.key.shape[2], offset=start)
        output, _ = self.attend(query, *cache, bias=allowed, by_head=True)
        return output, cache

    def prefill(
        self,
        x: Any,
        capacity: Any,
        *,
        allowed: Any,
        position: Any = None,
        p_bias: str | None = None,
    ) -> tuple[Any, KeyValueCache]:
        """Self-attention of the first n tokens, and the cache that further steps continue.

        Unlike :meth:`step` it computes among the n tokens alone, not over the whole capacity.

        Args:
            x: (b, n, H).
            capacity: places of the cache; an integer or a scalar tensor, n or more.
            allowed: booleans (n, n), (b, n, n) or (b, h, n, n).
            position: what ``p_bias`` takes, for the n positions.
            p_bias: name of the position bias.
        """
        query, key, value = self._own(x, position, p_bias)
        output, _ = self.attend(query, key, value, bias=allowed)
        room = [[0, 0], [0, 0], [0, capacity - ops.shape(x)[1]], [0, 0]]
        held = (ops.pad(ops.transpose(y, (0, 2, 1, 3)), room) for y in (key, value))
        return output, KeyValueCache(*held)

    def _own(self, x: Any, position: Any, p_bias: str | None) -> tuple[Any, Any, Any]:
        """Rotated queries and keys, and values, of a sequence that attends to itself."""
        query, key, value = self._projected(x, x, x)
        return *self._rotated(query, key, position, p_bias), value

    def _projected(self, query: Any, key: Any, value: Any) -> tuple[Any, ...]:
        sources, (group, _) = (query, key, value), self.projections()
        if query is key and key is value:
            made = project(group, query)
        else:
            made = [project([dense], x)[0] for dense, x in zip(group, sources, strict=True)]
        sizes = (self.key_size, self.key_size, self.head_size)
        return tuple(map(self._heads, made, sources, sizes))

    def _rotated(self, query: Any, key: Any, position: Any, p_bias: str | None) -> tuple[Any, Any]:
        return find_position_bias(p_bias).rotate(position, query, key)

    def _heads(self, projected: Any, x: Any, size: int) -> Any:  # (b, n, h, d)
        # The lengths are those of x: tf2onnx mistakes those of `projected`, reshaped itself.
        return ops.reshape(projected, (*ops.shape(x)[:2], self.heads, size))

    def compute_mask(self, inputs: list[Any], mask: Any = None) -> Any:
        """The query's mask; the scores carry none."""
        of_query = mask[0] if isinstance(mask, list | tuple) else mask
        return [of_query, None] if self.return_attention_scores else of_query

    def compute_output_spec(
        self,
        inputs: list[Any],
        mask: Any = None,
        a_bias: Any = None,
        p_bias: str | None = None,
        training: bool | None = None,
    ) -> Any:
        """Shapes without tracing: lengths may be unknown."""
        shapes = self.compute_output_shape([x.shape for x in inputs])
        if not self.return_attention_scores:
            return keras.KerasTensor(shapes, dtype=self.compute_dtype)
        return [keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes]

    def compute_output_shape(self, input_shape: list[Any]) -> Any:
        """(b, n, out_dim), and (b, h, n, m) when the scores are returned."""
        (b, n), m = input_shape[0][:2], input_shape[1][1]
        output = (b, n, self.out_dim)
        return [output, (b, self.heads, n, m)] if self.return_attention_scores else output

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "heads": self.heads,
            "head_size": self.head_size,
            "out_dim": self.out_dim,
            "key_size": self.key_size,
            "use_bias": self.use_bias,
            "normalization": self.normalization,
            "attention_scale": self.attention_scale,
            "attention_dropout": self.attention_dropout,
            "return_attention_scores": self.return_attention_scores,
            "query_chunk": self.query_chunk,
            "fused": self.fused,
            "log_n_scaling": self.log_n_scaling,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _is_boolean(x: Any) -> bool:
    return keras.backend.standardize_dtype(x.dtype) == "bool"
