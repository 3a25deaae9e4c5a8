"""From a config to a model in pretraining: bodies under several masks around one set of layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from bert4kexue.layers import DocumentMask
from bert4kexue.models.architectures import find_architecture
from bert4kexue.models.builder import Transformer, builder_class
from bert4kexue.models.config import make_config, read_config
from bert4kexue.text.wordpiece import Tokenizer
from bert4kexue.training.objectives import MaskedWords, Windows
from bert4kexue.training.plan import Plan
from bert4kexue.training.pretraining import Pretrainer
from bert4kexue.training.records import Records
from bert4kexue.training.special import Special

_SHORTEST = 4  # tokens of a piece that words are hidden in
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


class MaskedScore(NamedTuple):
    """How well hidden words are found again."""

    accuracy: float
    loss: float  # nats a token
    commonest: float  # accuracy of always guessing the commonest of the asked tokens
    asked: int


def masked_accuracy(
    model: keras.Model, records: Records, vocabulary: Any, length: int = 128, seed: int = 0
) -> MaskedScore:
    """Hide whole words of the records once, and ask a model with token logits for them.

    Args:
        model: of (token ids, segment ids), its last output the logits (b, n, v).
        records: held-out text.
        vocabulary: the vocab.txt that both were made with.
        length: most tokens of a row, [CLS] and [SEP] among them; 6 or more.
        seed: of what is hidden.

    Raises:
        ValueError: `length` is too small, no document is long enough, or no word can be hidden.
    """
    if length < _SHORTEST + 2:
        raise ValueError(
            f"length (--length) must be {_SHORTEST + 2} or more, for {_SHORTEST} tokens between "
            f"[CLS] and [SEP]; got {length}"
        )
    tokenizer = Tokenizer(str(vocabulary), do_lower_case=records.summary["do_lower_case"])
    special = Special.of(tokenizer)
    plan = Plan(MaskedWords(Windows(records, length - 2, _SHORTEST), special), 4096, length, [seed])
    right, loss, labels = 0, 0.0, []
    for number in range(plan.steps_per_epoch):
        batch = plan.batch(number, np.random.default_rng([seed, number]))
        output = model.predict_on_batch([batch["token_ids"], batch["segment_ids"]])
        scores = output[-1] if isinstance(output, list) else output
        asked = batch["weights"] > 0
        lines = np.nonzero(asked)[0]
        rows = np.asarray(scores)[lines, batch["positions"][asked]].astype(np.float64)
        wanted = batch["labels"][asked]
        rows -= rows.max(1, keepdims=True)
        logp = rows - np.log(np.exp(rows).sum(1, keepdims=True))
        right += int((rows.argmax(1) == wanted).sum())
        loss -= float(logp[np.arange(len(wanted)), wanted].sum())
        labels.append(wanted)
    every = np.concatenate(labels)
    if not len(every):
        raise ValueError(
            "the text holds no word to hide, as its tokens are [UNK] or it is very short: give "
            "more text, of the model's vocabulary (and --cased for a cased one)"
        )
    return MaskedScore(
        right / len(every), loss / len(every), np.bincount(every).max() / len(every), len(every)
    )
