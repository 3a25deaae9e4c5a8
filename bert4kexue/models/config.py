"""Every hyperparameter of a model in one frozen object, read from an original config file and
arguments.

Plan and act are separate: a :class:`ModelConfig` is complete and checked before any layer is made.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from bert4kexue.ops.activations import Activation
from bert4kexue.ops.attention import check_long_attention
from bert4kexue.ops.feature_maps import FeatureMap, feature_map

Application = Literal["encoder", "lm", "unilm"]
Attention = Literal["softmax", "linear"]

_RENAMED = {
    "max_position_embeddings": "max_position",
    "hidden_dropout_prob": "dropout_rate",
    "attention_probs_dropout_prob": "attention_dropout_rate",
    "type_vocab_size": "segment_vocab_size",
}

#: Keys of released config files that say nothing about the network that is built here.
IGNORED_KEYS = frozenset(
    {
        "_name_or_path",
        "architectures",
        "bos_token_id",
        "classifier_dropout",
        "directionality",
        "do_sample",
        "dtype",
        "eos_token_id",
        "finetuning_task",
        "gradient_checkpointing",
        "id2label",
        "initializer_range",
        "label2id",
        "layer_norm_eps",
        "model_type",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "pad_token_id",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
        "position_embedding_type",
        "tie_word_embeddings",
        "tokenizer_class",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "vocab_file",
        "vocab_path",
    }
)

#: Keys that only one unsupported family has, and its name.
_FOREIGN_KEYS = {
    "num_hidden_groups": "ALBERT",
    "inner_group_num": "ALBERT",
    "net_structure_type": "ALBERT",
    "ln_type": "ALBERT (brightmart's layout)",
    "use_relative_position": "NEZHA",
    "relative_attention_num_buckets": "T5",
    "generator_size": "ELECTRA",
    "n_embd": "GPT-2",
    "rotary_value": "RoFormer with rotated values",
    "add_cross_attention": "a decoder with cross attention",
    "is_decoder": "Hugging Face's decoders (here: application='lm', without this key)",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A transformer encoder, its heads and its masks.

    Args:
        vocab_size: rows of the checkpoint's token table.
        hidden_size: H, width of the hidden states.
        num_hidden_layers: number of blocks.
        num_attention_heads: h.
        intermediate_size: inner width of the feed-forward layers.
        hidden_act: activation, or a list of them for gated feed-forward layers.
        dropout_rate: of embeddings and of each block's two outputs; at 0 the layers are left out.
        attention_dropout_rate: of attention weights; linear attention holds none to drop.
        embedding_size: width of the embeddings; ``hidden_size`` when None. Another width is mapped.
        attention_head_size: d; ``hidden_size // num_attention_heads`` when None.
        attention_key_size: width of queries and keys; ``attention_head_size`` when None.
        attention: ``'softmax'`` or ``'linear'``, in time linear in the length.
        feature_map: of linear attention: a kind of :mod:`bert4kexue.ops.feature_maps` or a mapping
            of its arguments; ``'elu1'`` when None.
        max_position: rows of a learned position table.
        segment_vocab_size: rows of the segment table; 0 leaves the segment input out.
        shared_segment_embeddings: look segment ids up in the token table.
        sequence_length: n when it is fixed, None otherwise.
        keep_tokens: original ids, in the order of the new vocabulary; the others are dropped.
        compound_tokens: new tokens appended after the kept ones, each the mean of others: a list of
            ids, or a pair (ids, weights). The ids are those after ``keep_tokens``.
        application: ``'encoder'``, ``'lm'`` (left to right) or ``'unilm'`` (prefix, then left to
            right).
        with_pool: a head on [CLS]: True for tanh, or an activation (``'linear'`` in SimBERT).
        with_nsp: next-sentence probabilities (b, 2) on top of the pooled vector; index 0 means
            "follows".
        with_mlm: token probabilities: True for softmax, or an activation (``'linear'`` for logits).
        hierarchical_position: True or a number: sequences longer than ``max_position``.
        custom_position_ids: a further input, Input-Position (b, n).
        rematerialize: keep only what goes from layer to layer for the gradient and compute what is
            inside of attention, feed-forward and normalization again (bert4keras's RECOMPUTE=1):
            less memory, more time.
        residual_attention_scores: each block's scores are added to the next (RealFormer).
        query_chunk: attend with so many queries at a time: the same numbers, in memory that grows
            with the length and not with its square. None attends with all at once.
        fused_attention: leave attention to the backend's own operation; see
            :func:`bert4kexue.ops.attention.fused_attention`.
        log_n_scaling: the longest sequence of training; the scores of longer ones are scaled by
            :func:`bert4kexue.ops.attention.log_length_scale` of it. None scales nothing.
        position_interpolation: rotary positions are divided by it: 2 puts sequences of twice the
            trained length among the positions of training (Chen et al., 2023).
        ignore_invalid_weights: skip, with a warning, what the checkpoint lacks or holds in another
            shape.
        autoresize_weights: resize, at loading, what the checkpoint holds in another width; see
            :mod:`bert4kexue.checkpoints.resizing`.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: Activation | Sequence[Activation]
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    embedding_size: int | None = None
    attention_head_size: int | None = None
    attention_key_size: int | None = None
    attention: Attention = "softmax"
    feature_map: str | Mapping[str, Any] | FeatureMap | None = None
    max_position: int = 512
    segment_vocab_size: int = 2
    shared_segment_embeddings: bool = False
    sequence_length: int | None = None
    keep_tokens: Sequence[int] | None = None
    compound_tokens: Sequence[Any] | None = None
    application: Application = "encoder"
    with_pool: bool | Activation = False
    with_nsp: bool = False
    with_mlm: bool | Activation = False
    hierarchical_position: bool | float | None = None
    custom_position_ids: bool = False
    residual_attention_scores: bool = False
    rematerialize: bool = False
    query_chunk: int | None = None
    fused_attention: bool = False
    log_n_scaling: int | None = None
    position_interpolation: float = 1.0
    ignore_invalid_weights: bool = False
    autoresize_weights: bool = False

    def __post_init__(self) -> None:
        derive = object.__setattr__
        for field in ("dropout_rate", "attention_dropout_rate"):
            derive(self, field, getattr(self, field) or 0.0)
        derive(self, "embedding_size", self.embedding_size or self.hidden_size)
        if not self.attention_head_size:
            if self.hidden_size % self.num_attention_heads:
                raise ValueError(
                    f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads="
                    f"{self.num_attention_heads}: correct one of them, or give attention_head_size"
                )
            derive(self, "attention_head_size", self.hidden_size // self.num_attention_heads)
        derive(self, "attention_key_size", self.attention_key_size or self.attention_head_size)
        self._check()
        self._check_attention()
        if self.attention == "linear":
            phi = feature_map(self.feature_map or "elu1")
            phi.size(self.attention_key_size or 0)  # refuses too many features
            derive(self, "feature_map", phi)
        if self.with_nsp and not self.with_pool:
            derive(self, "with_pool", True)
        if self.application in ("lm", "unilm") and not self.with_mlm:
            derive(self, "with_mlm", True)

    def _check(self) -> None:
        for field in ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{field}={value!r} must be a positive integer")
        for field in ("dropout_rate", "attention_dropout_rate"):
            if not 0.0 <= getattr(self, field) < 1.0:
                raise ValueError(f"{field}={getattr(self, field)!r} must lie in [0, 1)")
        check_long_attention(self.query_chunk, self.log_n_scaling, self.residual_attention_scores)
        if not 0 < self.position_interpolation < float("inf"):
            raise ValueError(
                f"position_interpolation={self.position_interpolation!r} must be above 0: what "
                "positions are divided by"
            )
        if self.application not in get_args(Application):
            hint = (
                " (what was called 'seq2seq' is 'unilm')" if self.application == "seq2seq" else ""
            )
            raise ValueError(
                f"application={self.application!r} is unknown: choose one of "
                f"{list(get_args(Application))}{hint}"
            )
        if self.application == "unilm" and not self.segment_vocab_size:
            raise ValueError(
                "application='unilm' reads its mask off the segment ids, but segment_vocab_size=0 "
                "leaves them out: use application='lm' or a segment_vocab_size of 2"
            )

    def _check_attention(self) -> None:
        if self.attention not in get_args(Attention):
            raise ValueError(
                f"attention={self.attention!r} is unknown: choose one of "
                f"{list(get_args(Attention))}"
            )
        if self.attention == "softmax" and self.feature_map is not None:
            raise ValueError(
                f"feature_map={self.feature_map!r} belongs to attention='linear', and the "
                "attention is 'softmax': give both, or neither"
            )
        softmax_only = ("query_chunk", "fused_attention", "log_n_scaling")
        if self.attention == "linear" and (given := [n for n in softmax_only if getattr(self, n)]):
            raise ValueError(
                f"{', '.join(given)} belong to softmax attention, and attention='linear' holds no "
                "weights to cut, fuse or scale: leave them out"
            )
        if self.attention == "linear" and self.residual_attention_scores:
            raise ValueError(
                "residual_attention_scores=True hands scores from block to block, and "
                "attention='linear' never computes them: choose one of the two"
            )

    @property
    def token_count(self) -> int:
        """Rows of the token table that is built: after ``keep_tokens`` and ``compound_tokens``."""
        kept = self.vocab_size if self.keep_tokens is None else len(self.keep_tokens)
        return kept + len(self.compound_tokens or ())

    @property
    def pool_activation(self) -> Activation:
        """Activation of the pooled vector."""
        return "tanh" if self.with_pool is True else self.with_pool or None

    @property
    def mlm_activation(self) -> Activation:
        """Activation over the vocabulary."""
        return "softmax" if self.with_mlm is True else self.with_mlm or None


def read_config(source: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """The keys of a config file (JSON), or of a mapping, or none.

    Raises:
        ValueError: the file holds something else than one JSON object.
        FileNotFoundError: there is no such file.
    """
    if source is None:
        return {}
    if isinstance(source, Mapping):
        return dict(source)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"config_path={str(source)!r}: there is no such file")
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(keys, dict):
        raise ValueError(f"{path} holds a JSON {type(keys).__name__}; a config is one object")
    return keys


def make_config(keys: Mapping[str, Any], overrides: Mapping[str, Any]) -> ModelConfig:
    """A checked configuration out of a file's keys and the caller's arguments, which win.

    Raises:
        ValueError: a key is neither a field of :class:`ModelConfig` nor knowingly ignored, a
            required one is missing, or values contradict each other.
    """
    merged = {**keys, **overrides}
    for original, ours in _RENAMED.items():
        if original in merged:
            value = merged.pop(original)
            merged.setdefault(ours, value)
    fields = {field.name: field for field in dataclasses.fields(ModelConfig)}
    _refuse_unknown(merged, fields)
    _refuse_other_computations(merged)
    known = {key: value for key, value in merged.items() if key in fields}
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and name not in known
    ]
    if missing:
        raise ValueError(
            f"the config lacks {missing}: give config_path a bert_config.json that has them, or "
            "pass them as arguments"
        )
    return ModelConfig(**known)


def _refuse_other_computations(merged: Mapping[str, Any]) -> None:
    """Keys of Hugging Face configs that change nothing at their usual values alone."""
    kind = merged.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise ValueError(
            f"position_embedding_type={kind!r}: positions of that kind are not built here, only "
            "'absolute' ones (model='bert') and rotary ones (model='roformer')"
        )
    epsilon = merged.get("layer_norm_eps", 1e-12)
    if not 0 < epsilon <= 1e-6:
        raise ValueError(
            f"layer_norm_eps={epsilon!r}: the models built here normalize with at most 1e-6, and "
            "a checkpoint trained with another value would give other numbers"
        )


def _refuse_unknown(merged: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    foreign = sorted({_FOREIGN_KEYS[key] for key in merged if merged[key] and key in _FOREIGN_KEYS})
    if foreign:
        keys = sorted(key for key in merged if key in _FOREIGN_KEYS)
        raise ValueError(
            f"the config's keys {keys} belong to {' / '.join(foreign)}, which is not a model that "
            "build_transformer_model can build"
        )
    unknown = sorted(
        key
        for key in merged
        if key not in fields and key not in IGNORED_KEYS and key not in _FOREIGN_KEYS
    )
    if unknown:
        hints = []
        for key in unknown:
            near = difflib.get_close_matches(key, [*fields, *_RENAMED], n=1)
            hints.append(f"{key!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
        raise ValueError(
            f"unknown config keys: {', '.join(hints)}. Remove them, or correct their names; "
            "keys that change nothing here are listed in bert4kexue.models.config.IGNORED_KEYS"
        )
