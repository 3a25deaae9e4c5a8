"""BERT (Devlin et al., 2018) and its shape: RoBERTa-wwm, RBT3, SimBERT, the UER models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bert4kexue.checkpoints import TRAINING_STATE
from bert4kexue.models import parts
from bert4kexue.models.architecture import Architecture, WeightRow

if TYPE_CHECKING:
    from bert4kexue.models.builder import Transformer

_EPSILON = 1e-12

_BLOCK = "bert/encoder/layer_{i}"
_ATTENTION = "Transformer-{i}-MultiHeadSelfAttention"
_FEED_FORWARD = "Transformer-{i}-FeedForward"
_HEADS_TIMES_KEY = "num_attention_heads*attention_key_size"
_HEADS_TIMES_HEAD = "num_attention_heads*attention_head_size"


def _dense(layer: str, variable: str, inputs: str, units: str, when: str | None = None) -> tuple:
    return (
        WeightRow(f"{layer}/kernel", f"{variable}/kernel", f"{inputs} {units}", when),
        WeightRow(f"{layer}/bias", f"{variable}/bias", units, when),
    )


def _norm(layer: str, variable: str, size: str = "hidden_size", when: str | None = None) -> tuple:
    return (
        WeightRow(f"{layer}/beta", f"{variable}/beta", size, when),
        WeightRow(f"{layer}/gamma", f"{variable}/gamma", size, when),
    )


POSITIONS = WeightRow(
    "Embedding-Position/embeddings",
    "bert/embeddings/position_embeddings",
    "max_position embedding_size",
)

WEIGHTS: tuple[WeightRow, ...] = (
    WeightRow(
        "Embedding-Token/embeddings",
        "bert/embeddings/word_embeddings",
        "vocab_size embedding_size",
        vocab_axis=0,
    ),
    WeightRow(
        "Embedding-Segment/embeddings",
        "bert/embeddings/token_type_embeddings",
        "segment_vocab_size embedding_size",
        when="segments",
    ),
    POSITIONS,
    *_norm("Embedding-Norm", "bert/embeddings/LayerNorm", "embedding_size"),
    *_dense(
        "Embedding-Mapping",
        "bert/encoder/embedding_hidden_mapping_in",
        "embedding_size",
        "hidden_size",
        when="mapping",
    ),
    *_dense(
        f"{_ATTENTION}/q_dense", f"{_BLOCK}/attention/self/query", "hidden_size", _HEADS_TIMES_KEY
    ),
    *_dense(
        f"{_ATTENTION}/k_dense", f"{_BLOCK}/attention/self/key", "hidden_size", _HEADS_TIMES_KEY
    ),
    *_dense(
        f"{_ATTENTION}/v_dense", f"{_BLOCK}/attention/self/value", "hidden_size", _HEADS_TIMES_HEAD
    ),
    *_dense(
        f"{_ATTENTION}/o_dense",
        f"{_BLOCK}/attention/output/dense",
        _HEADS_TIMES_HEAD,
        "hidden_size",
    ),
    *_norm(f"{_ATTENTION}-Norm", f"{_BLOCK}/attention/output/LayerNorm"),
    *_dense(
        f"{_FEED_FORWARD}/i0_dense",
        f"{_BLOCK}/intermediate/dense",
        "hidden_size",
        "intermediate_size",
    ),
    *_dense(
        f"{_FEED_FORWARD}/o_dense", f"{_BLOCK}/output/dense", "intermediate_size", "hidden_size"
    ),
    *_norm(f"{_FEED_FORWARD}-Norm", f"{_BLOCK}/output/LayerNorm"),
    *_dense("Pooler-Dense", "bert/pooler/dense", "hidden_size", "hidden_size", when="pool"),
    # The original stores (classes, H) and multiplies by its transpose.
    WeightRow(
        "NSP-Proba/kernel",
        "cls/seq_relationship/output_weights",
        "2 hidden_size",
        when="nsp",
        transform="transpose",
    ),
    WeightRow("NSP-Proba/bias", "cls/seq_relationship/output_bias", "2", when="nsp"),
    *_dense(
        "MLM-Dense",
        "cls/predictions/transform/dense",
        "hidden_size",
        "embedding_size",
        when="mlm",
    ),
    *_norm("MLM-Norm", "cls/predictions/transform/LayerNorm", "embedding_size", when="mlm"),
    WeightRow(
        "MLM-Bias/beta", "cls/predictions/output_bias", "vocab_size", when="mlm", vocab_axis=0
    ),
)

#: Besides the state of training: what released checkpoints carry and no model of theirs uses.
IGNORED_VARIABLES = (
    *TRAINING_STATE,
    r"output_(weights|bias)",  # the classifier of run_classifier.py
    r"cls/predictions/(key|query|value)/(kernel|bias)",  # rbt3
    r"cls/predictions/output_prev_bias",  # rbt3
)


def embed(b: Transformer, inputs: list[Any]) -> Any:
    """Tokens, segments and learned positions."""
    x = parts.embed_tokens(b, inputs)
    x = parts.add_learned_positions(b, x, inputs)
    return parts.finish_embeddings(b, x, epsilon=_EPSILON)


def block(b: Transformer, x: Any, index: int) -> Any:
    """One post-norm block."""
    return parts.post_norm_block(b, x, index, epsilon=_EPSILON)


BERT = Architecture(
    name="bert",
    aliases=("roberta",),
    embed=embed,
    block=block,
    head=parts.heads,
    weights=WEIGHTS,
    ignored_variables=IGNORED_VARIABLES,
)
