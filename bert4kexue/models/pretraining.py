"""From a config to a model in pretraining: bodies under several masks around one set of layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import keras

from bert4kexue.layers import DocumentMask
from bert4kexue.models.architectures import find_architecture
from bert4kexue.models.builder import Transformer, builder_class
from bert4kexue.models.config import make_config, read_config
from bert4kexue.training.pretraining import Pretrainer

_APPLICATIONS = {"bidirectional": "encoder", "unilm": "unilm", "packed": "encoder"}


class Pretraining(NamedTuple):
    """What :func:`build_pretrainer` makes."""

    pretrainer: Pretrainer
    builder: Transformer  # of the first mask: loads and saves the checkpoint


def build_pretrainer(
    config: Any,
    model: str,
    masks: Collection[str] = ("unilm",),
    *,
    with_pool: str | bool = "linear",
    with_nsp: bool = False,
    checkpoint: Any = None,
    scale: float = 20.0,
    **overrides: Any,
) -> Pretraining:
    """Build a transformer for pretraining, its token head applied to asked places only.

    Args:
        config: ``bert_config.json`` or its keys.
        model: 'bert' or 'roformer'.
        masks: of 'bidirectional', 'unilm' and 'packed', what the batches will need. All share one
            set of layers. Running text under 'unilm' sees everything, being one segment.
        with_pool: activation of the pooled vector; False without one.
        with_nsp: also a next-sentence head (which needs the pooled vector's tanh).
        checkpoint: to go on from; None starts at random.
        scale: of cosines in the similarity losses.
        **overrides: further fields of the config.

    Raises:
        ValueError: an unknown mask; or packed rows for learned positions, which would not begin
            anew with every document.
    """
    unknown = sorted(set(masks) - set(_APPLICATIONS))
    if unknown or not masks:
        raise ValueError(f"masks must be some of {sorted(_APPLICATIONS)}, got {list(masks)}")
    architecture = find_architecture(model)
    if "packed" in masks and architecture.position_bias is None:
        raise ValueError(
            f"packed rows need relative positions, and those of {architecture.name} are learned "
            "for each place: use length buckets, or roformer"
        )
    keys = read_config(config)
    pool = "tanh" if with_nsp else with_pool
    layers: Mapping[str, keras.layers.Layer] | None = None
    bodies, first = {}, None
    for mask in masks:
        fields = {**overrides, "application": _APPLICATIONS[mask], "with_mlm": "linear"}
        fields |= {"with_pool": pool, "with_nsp": with_nsp}
        builder = _recording(builder_class(architecture, architecture.name), mask)(
            make_config(keys, fields), layers=layers
        )
        more = keras.Input((None,), dtype="float32", name="Input-Document")
        builder.build(additional_input_layers=more if mask == "packed" else None)
        outputs = [builder.hidden]
        if pool:
            pooled = builder.outputs[0]
            if with_nsp:
                first_token = builder.layers[builder.prefixed("Pooler")](builder.hidden)
                pooled = builder.layers[builder.prefixed("Pooler-Dense")](first_token)
                outputs += [pooled, builder.outputs[0]]
            else:
                outputs.append(pooled)
        bodies[mask] = keras.Model(builder.inputs, outputs)
        layers, first = builder.layers, first or builder
    assert first is not None
    if checkpoint is not None:
        first.load_weights_from_checkpoint(checkpoint)
    some = keras.Input((None, first.config.hidden_size))
    heads = first.apply_final_layers(some)
    head = keras.Model(some, heads[-1] if isinstance(heads, list) else heads)
    roles = ("hidden", *(("pooled",) if pool else ()), *(("next",) if with_nsp else ()))
    return Pretraining(Pretrainer(bodies, head, roles, scale), first)


def _recording(base: type[Transformer], mask: str) -> Any:
    """The builder's class, which keeps the hidden states and knows the mask of packed rows."""

    class Recording(base):  # type: ignore[valid-type,misc]
        hidden: Any = None
        _attention_bias: Any

        def apply_final_layers(self, inputs: Any) -> Any:
            self.hidden = inputs if self.hidden is None else self.hidden
            return super().apply_final_layers(inputs)

        def compute_attention_bias(self, inputs: Any = None) -> Any:
            if mask != "packed":
                return super().compute_attention_bias(inputs)
            if self._attention_bias is None:
                self._attention_bias = self.apply(
                    self.inputs[-1], DocumentMask, name="Attention-Document-Mask"
                )
            return self._attention_bias

    return Recording
