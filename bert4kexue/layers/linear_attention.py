"""Linear attention in the place of softmax attention: same inputs, same weights, same cache verbs.

The mathematics is in :mod:`bert4kexue.ops.linear_attention`, the maps in
:mod:`bert4kexue.ops.feature_maps`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from bert4kexue.layers.attention import MultiHeadAttention
from bert4kexue.layers.position_bias import find_position_bias
from bert4kexue.layers.projections import project
from bert4kexue.ops.feature_maps import FeatureMap, feature_map
from bert4kexue.ops.linear_attention import (
    LinearState,
    empty_state,
    linear_attention,
    linear_step,
)
from bert4kexue.ops.masking import first_group
from bert4kexue.ops.rows import take_beams


@keras.saving.register_keras_serializable(package="bert4kexue")
class LinearAttention(MultiHeadAttention):
    """Multi-head attention in time and memory linear in the length.

    Inputs as :class:`MultiHeadAttention`'s, but of attention biases only ``a_bias='order'``, since
    a matrix of queries and keys would be quadratic: numbers (b or 1, n) int32 as
    ``LanguageModelMask`` and ``UnifiedLanguageModelMask`` give them ``as_order``. The tokens of the
    first token's number see each other, the others what stands before them and themselves. Without
    a bias every query sees every key.

    ``p_bias='rotary'`` turns queries and keys before the feature map, so positions are relative
    exactly where the kernel depends on q . k alone: cos1, performer, taylor, limit.

    A query that sees no key gives zeros before the output's projection.

    Args:
        heads: h.
        head_size: width of a head's values.
        out_dim: width of the output; heads * head_size when None.
        key_size: width of a head's queries and keys; head_size when None.
        use_bias: whether the four projections have biases.
        attention_scale: divide queries and keys by key_size^(1/4) each.
        feature_map: a kind, a mapping, or a :class:`bert4kexue.ops.feature_maps.FeatureMap`.
        kernel_initializer: of the four kernels.

    Raises:
        ValueError: the map is unknown, or has too many features of key_size channels.
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        out_dim: int | None = None,
        key_size: int | None = None,
        use_bias: bool = True,
        attention_scale: bool = True,
        feature_map: str | Mapping[str, Any] | FeatureMap = "elu1",
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        for name in ("normalization", "attention_dropout", "return_attention_scores"):
            if name in kwargs:
                raise ValueError(
                    f"linear attention has no {name}: it never holds the weights or the scores; "
                    "leave it out, or use MultiHeadAttention"
                )
        super().__init__(
            heads,
            head_size,
            out_dim,
            key_size,
            use_bias,
            attention_scale=attention_scale,
            kernel_initializer=kernel_initializer,
            **kwargs,
        )
        self.feature_map = _feature_map(feature_map)
        self.features = self.feature_map.size(self.key_size)

    def build(self, input_shape: Any) -> None:
        """Make the projections and, of a random map, the frequencies.

        Frequencies are weights, though nothing trains them: the model that is loaded computes what
        the model that was saved did.
        """
        super().build(input_shape)
        self.frequencies: Any = None
        if self.feature_map.random:
            self.frequencies = self.add_weight(
                shape=(self.features, self.key_size),
                initializer=self._drawn,
                trainable=False,
                name="frequencies",
                dtype="float32",
                autocast=False,
            )

    def _drawn(self, shape: Any, dtype: Any = None) -> Any:
        seed = self.feature_map.seed
        # As Keras's initializers do, so that keras.utils.set_random_seed decides.
        values = self.feature_map.draw(
            self.key_size, random.randint(1, 10**9) if seed is None else seed
        )
        return ops.convert_to_tensor(values, dtype=dtype)

    def redraw(self, seed: int) -> None:
        """Give a random map other frequencies, as Performer does now and then in training.

        Raises:
            ValueError: the map is not random, or the layer is not built yet.
        """
        if not self.feature_map.random:
            raise ValueError(f"feature map {self.feature_map.kind!r} has no frequencies to redraw")
        if not self.built:
            raise ValueError("redraw() needs a layer that is built: call it once before")
        self.frequencies.assign(self.feature_map.draw(self.key_size, seed))

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
    ) -> tuple[Any, None]:
        """Projected heads to the output; see :meth:`MultiHeadAttention.attend`."""
        query, key = self._rotated(query, key, position, p_bias)
        if order is None and bias is not None:
            order = _as_order(self.name, bias)
        mixed, _ = linear_attention(
            query,
            key,
            value,
            self.feature_map,
            self.frequencies,
            key_mask=key_mask,
            causal=order is not None,
            prefix=None if order is None else first_group(order),
        )
        return self._output(mixed), None

    def init_cache(  # type: ignore[override]
        self, batch_size: int, capacity: int = 0
    ) -> LinearState:
        """The state before any token, of one hypothesis a sample: (b, 1, h, f, ...).

        ``capacity`` means nothing: the state has one size.
        """
        state = empty_state(batch_size, self.heads, self.features, self.head_size, "float32")
        return LinearState(*(x[:, None] for x in state))

    def prefill(  # type: ignore[override]
        self,
        x: Any,
        cache: LinearState | None = None,
        *,
        real: Any = None,
        prefix: Any = None,
        position: Any = None,
        p_bias: str | None = None,
    ) -> tuple[Any, LinearState]:
        """Causal self-attention of several tokens, and the state that further ones continue.

        Args:
            x: (b, n, H).
            cache: of one hypothesis a sample: what stands before x. None is nothing.
            real: (b, n) booleans, False for padding.
            prefix: (b, n) booleans, as :func:`bert4kexue.ops.linear_attention.linear_attention`
                takes.
            position: what ``p_bias`` takes, for these positions.
            p_bias: name of the position bias.
        """
        query, key, value = self._own(x, position, p_bias)
        mixed, state = linear_attention(
            query,
            key,
            value,
            self.feature_map,
            self.frequencies,
            key_mask=real,
            causal=True,
            prefix=prefix,
            state=None if cache is None else LinearState(*(held[:, 0] for held in cache)),
        )
        return self._output(mixed), LinearState(*(held[:, None] for held in state))

    def step(  # type: ignore[override]
        self,
        x: Any,
        cache: LinearState,
        *,
        real: Any = None,
        position: Any = None,
        p_bias: str | None = None,
    ) -> tuple[Any, LinearState]:
        """One more token of each hypothesis, in a time that does not depend on those before.

        Args:
            x: (b, w, H), the next token of w hypotheses.
            cache: their states (b, w, h, f, ...).
            real: (b, w) booleans, False where the token is padding.
            position: what ``p_bias`` takes, (b, w, key_size).
            p_bias: name of the position bias.
        """
        if x.shape[1] != cache.sums.shape[1]:
            raise ValueError(
                f"step() takes one token of each of {cache.sums.shape[1]} hypotheses, not "
                f"{x.shape[1]}: give several tokens of one sequence to prefill()"
            )
        shape = ops.shape(x)
        projected = self._own(x, position, p_bias)
        state = LinearState(*(ops.reshape(y, (-1, *ops.shape(y)[2:])) for y in cache))
        query, key, value = (ops.reshape(y, (-1, 1, *ops.shape(y)[2:])) for y in projected)
        mixed, state = linear_step(
            query,
            key,
            value,
            self.feature_map,
            self.frequencies,
            state,
            None if real is None else ops.reshape(real, (-1, 1)),
        )
        mixed = ops.reshape(mixed, (*shape[:2], self.heads, self.head_size))
        return self._output(mixed), LinearState(
            *(ops.reshape(y, (*shape[:2], *ops.shape(y)[1:])) for y in state)
        )

    def reorder_cache(self, cache: LinearState, parents: Any) -> LinearState:
        """The states of hypotheses that go on from ``parents`` (b, k)."""
        return LinearState(*(take_beams(held, parents) for held in cache))

    def _rotated(self, query: Any, key: Any, position: Any, p_bias: str | None) -> tuple[Any, Any]:
        query, key = find_position_bias(p_bias).rotate(position, query, key)
        if self.attention_scale:
            # In half of the exponent each: the kernel then sees q . k / sqrt(d).
            query, key = query / self.key_size**0.25, key / self.key_size**0.25
        return query, key

    def _output(self, mixed: Any) -> Any:
        shape = ops.shape(mixed)
        flat = ops.reshape(mixed, (*shape[:2], self.heads * self.head_size))
        return project([self.o_dense], flat)[0]

    def compute_output_spec(
        self,
        inputs: list[Any],
        mask: Any = None,
        a_bias: Any = None,
        p_bias: str | None = None,
        training: bool | None = None,
    ) -> Any:
        """Shapes without tracing; a matrix of queries and keys is refused where it is built in."""
        if a_bias:
            _as_order(self.name, inputs[3])
        return super().compute_output_spec(inputs, mask, a_bias, p_bias, training)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        for name in ("normalization", "attention_dropout", "return_attention_scores"):
            del config[name]
        return {**config, "feature_map": self.feature_map.get_config()}


#: Under another name, since the constructor's argument takes the function's.
_feature_map = feature_map


def _as_order(name: str, bias: Any) -> Any:
    dtype = keras.backend.standardize_dtype(bias.dtype)
    if len(bias.shape) != 2 or not dtype.startswith("int"):
        raise ValueError(
            f"{name!r} got an attention bias of shape {tuple(bias.shape)} and dtype {dtype}: "
            "linear attention has no matrix of queries and keys to apply one to. Give it numbers "
            "(b, n) with a_bias='order', as LanguageModelMask(as_order=True) and "
            "UnifiedLanguageModelMask(as_order=True) make them"
        )
    return bias
