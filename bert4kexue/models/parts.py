"""The pieces that architectures are put together from: functions of the builder.

Each keeps to bert4keras's layer names, which scripts address, and leaves an open graph of layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from bert4kexue.layers import (
    Add,
    Concatenate1D,
    Embedding,
    FeedForward,
    FirstToken,
    LayerNormalization,
    LinearAttention,
    MaskScores,
    MultiHeadAttention,
    PositionEmbedding,
    ScaleOffset,
    SinusoidalPositionEmbedding,
)
from bert4kexue.ops.activations import resolve_activation

if TYPE_CHECKING:
    from bert4kexue.models.builder import Transformer
    from bert4kexue.models.config import ModelConfig

Part = Callable[["Transformer", list[Any]], Any]


def embed_tokens(b: Transformer, inputs: list[Any]) -> Any:
    """Token plus segment embeddings: (b, n, embedding_size), with the mask of the tokens."""
    c = b.config
    x = b.apply(
        inputs[0],
        Embedding,
        name="Embedding-Token",
        input_dim=c.token_count,
        output_dim=c.embedding_size,
        embeddings_initializer=b.initializer,
        mask_zero=True,
    )
    if not c.segment_vocab_size:
        return x
    if c.shared_segment_embeddings:
        s = b.apply(inputs[1], Embedding, name="Embedding-Token")
    else:
        s = b.apply(
            inputs[1],
            Embedding,
            name="Embedding-Segment",
            input_dim=c.segment_vocab_size,
            output_dim=c.embedding_size,
            embeddings_initializer=b.initializer,
        )
    return b.apply([x, s], Add, name="Embedding-Token-Segment")


def add_learned_positions(b: Transformer, x: Any, inputs: list[Any]) -> Any:
    """x plus the learned vector of each position."""
    c = b.config
    return b.apply(
        [x, b.position_ids(inputs)] if c.custom_position_ids else x,
        PositionEmbedding,
        name="Embedding-Position",
        input_dim=c.max_position,
        output_dim=c.embedding_size,
        merge_mode="add",
        hierarchical=c.hierarchical_position,
        embeddings_initializer=b.initializer,
        custom_position_ids=c.custom_position_ids,
    )


def finish_embeddings(b: Transformer, x: Any, *, epsilon: float) -> Any:
    """Norm, dropout, and the mapping to the hidden width where the embedding's is another."""
    c = b.config
    x = norm(b, x, "Embedding-Norm", epsilon)
    x = dropout(b, x, "Embedding-Dropout")
    if c.embedding_size != c.hidden_size:
        x = b.apply(
            x,
            keras.layers.Dense,
            name="Embedding-Mapping",
            units=c.hidden_size,
            kernel_initializer=b.initializer,
        )
    return x


def rotary_table(b: Transformer, inputs: list[Any]) -> Any:
    """The sinusoids that rotate queries and keys: (b or 1, n, attention_key_size)."""
    c = b.config
    x = b.apply(inputs[0], Embedding, name="Embedding-Token")
    return b.apply(
        [x, b.position_ids(inputs)] if c.custom_position_ids else x,
        SinusoidalPositionEmbedding,
        name="Embedding-Rotary-Position",
        output_dim=c.attention_key_size,
        merge_mode="zero",
        custom_position_ids=c.custom_position_ids,
        interpolation=c.position_interpolation,
    )


def post_norm_block(
    b: Transformer, x: Any, index: int, *, epsilon: float, p_bias: str | None = None
) -> Any:
    """Attention, add, norm; feed-forward, add, norm: the block of BERT and its kin."""
    c = b.config
    attention = f"Transformer-{index}-MultiHeadSelfAttention"
    a = self_attention(b, x, attention, p_bias)
    a = dropout(b, a, f"{attention}-Dropout")
    x = b.apply([x, a], Add, name=f"{attention}-Add")
    x = norm(b, x, f"{attention}-Norm", epsilon)
    feed_forward = f"Transformer-{index}-FeedForward"
    f = b.apply(
        x,
        FeedForward,
        name=feed_forward,
        units=c.intermediate_size,
        activation=c.hidden_act,
        kernel_initializer=b.initializer,
    )
    f = dropout(b, f, f"{feed_forward}-Dropout")
    x = b.apply([x, f], Add, name=f"{feed_forward}-Add")
    return norm(b, x, f"{feed_forward}-Norm", epsilon)


def self_attention(b: Transformer, x: Any, name: str, p_bias: str | None) -> Any:
    """x attending to itself, and to a cache that the caller put before it."""
    c = b.config
    key = value = x
    if b.prefixed(name) in b.attention_caches:
        cached_key, cached_value = b.attention_caches[b.prefixed(name)]
        key = b.apply([cached_key, x], Concatenate1D, name=f"{name}-Cached-Key")
        value = b.apply([cached_value, x], Concatenate1D, name=f"{name}-Cached-Value")
    inputs = [x, key, value]
    bias = _attention_bias(b, name)
    if bias is not None:
        inputs.append(bias)
    arguments: dict[str, Any] = {"a_bias": bias is not None}
    if bias is not None and bias.dtype == "int32":
        arguments["a_bias"] = "order"
    if p_bias is not None:
        inputs.append(b.compute_position_bias())
        arguments["p_bias"] = p_bias
    a = b.apply(
        inputs,
        arguments=arguments,
        name=name,
        heads=c.num_attention_heads,
        head_size=c.attention_head_size,
        out_dim=c.hidden_size,
        key_size=c.attention_key_size,
        kernel_initializer=b.initializer,
        **_attention_layer(c),
    )
    if c.residual_attention_scores:
        a, b.attention_scores = a
    return a


def _attention_layer(c: ModelConfig) -> dict[str, Any]:
    """The layer's class, and what only it takes."""
    if c.attention == "linear":
        return {"layer": LinearAttention, "feature_map": c.feature_map}
    return {
        "layer": MultiHeadAttention,
        "attention_dropout": c.attention_dropout_rate,
        "return_attention_scores": c.residual_attention_scores,
        "query_chunk": c.query_chunk,
        "fused": c.fused_attention,
        "log_n_scaling": c.log_n_scaling,
    }


def _attention_bias(b: Transformer, name: str) -> Any:
    structure, earlier = b.compute_attention_bias(), b.attention_scores
    if structure is None or earlier is None:
        return structure if earlier is None else earlier
    return b.apply([structure, earlier], MaskScores, name=f"{name}-Bias")


def norm(b: Transformer, x: Any, name: str, epsilon: float) -> Any:
    """Layer normalization, conditional where the builder has a condition."""
    conditional = b.layer_norm_cond is not None
    return b.apply(
        [x, b.layer_norm_cond] if conditional else x,
        LayerNormalization,
        name=name,
        epsilon=epsilon,
        conditional=conditional,
        hidden_units=b.layer_norm_cond_hidden_size,
        hidden_activation=b.layer_norm_cond_hidden_act,
        hidden_initializer=b.initializer,
    )


def dropout(b: Transformer, x: Any, name: str) -> Any:
    """Dropout; without a rate there is no such layer."""
    return b.apply(x, keras.layers.Dropout, name=name, rate=b.config.dropout_rate)


def heads(b: Transformer, x: Any) -> Any:
    """The heads asked for: hidden states, one head's output, or [pooled or NSP, tokens]."""
    c = b.config
    outputs = []
    if c.with_pool:
        outputs.append(_pooled(b, x))
    if c.with_mlm:
        outputs.append(_tokens(b, x))
    if not outputs:
        return x
    return outputs[0] if len(outputs) == 1 else outputs


def _pooled(b: Transformer, x: Any) -> Any:
    c = b.config
    x = b.apply(x, FirstToken, name="Pooler")
    x = b.apply(
        x,
        keras.layers.Dense,
        name="Pooler-Dense",
        units=c.hidden_size,
        activation=resolve_activation(c.pool_activation),
        kernel_initializer=b.initializer,
    )
    if not c.with_nsp:
        return x
    return b.apply(
        x,
        keras.layers.Dense,
        name="NSP-Proba",
        units=2,
        activation="softmax",
        kernel_initializer=b.initializer,
        dtype=_full_precision(),
    )


def _tokens(b: Transformer, x: Any) -> Any:
    c = b.config
    x = b.apply(
        x,
        keras.layers.Dense,
        name="MLM-Dense",
        units=c.embedding_size,
        activation=_inner_activation(c.hidden_act),
        kernel_initializer=b.initializer,
    )
    x = norm(b, x, "MLM-Norm", 1e-12)
    x = b.apply(x, Embedding, arguments={"mode": "dense"}, name="Embedding-Token")
    x = b.apply(x, ScaleOffset, name="MLM-Bias", scale=False)
    return b.apply(
        x,
        keras.layers.Activation,
        name="MLM-Activation",
        activation=resolve_activation(c.mlm_activation),
        dtype=_full_precision(),
    )


def _inner_activation(hidden_act: Any) -> Any:
    """The MLM head has one Dense: of a gated layer's activations it takes the first."""
    return resolve_activation(hidden_act[0] if isinstance(hidden_act, list | tuple) else hidden_act)


def _full_precision() -> str | None:
    """Probabilities over a vocabulary are float32 in half-precision models too."""
    compute = keras.config.dtype_policy().compute_dtype
    return "float32" if compute in ("float16", "bfloat16") else None
