"""A random RoFormer of a few thousand weights, and a tokenizer to go with it."""

from __future__ import annotations

import json

from bert4kexue.text.vocab import save_vocab
from bert4kexue.tokenizers import Tokenizer

CHARACTERS = "今天气很好的是李白唐代诗人游戏角色作者国籍中谁写静夜思法师职业出生地"
CONFIG = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_act": "gelu",
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}


def tiny_vocabulary(characters=CHARACTERS):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *sorted(set(characters))]
    return {token: index for index, token in enumerate(tokens)}


def tiny_tokenizer(characters=CHARACTERS):
    return Tokenizer(tiny_vocabulary(characters), do_lower_case=True)


def tiny_model(characters=CHARACTERS, seed=0, family="roformer", **options):
    import keras

    from bert4kexue.models import build_transformer_model

    keras.utils.set_random_seed(seed)
    config = CONFIG | {"vocab_size": len(tiny_vocabulary(characters))}
    return build_transformer_model(config, model=family, **options)


def scattered_model(**options):
    """A tiny model with larger weights, so that what it scores differs visibly."""
    import numpy as np

    model, rng = tiny_model(**options), np.random.default_rng(5)
    for weight in model.weights:
        weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
    return model


def save_tiny_model(folder, characters=CHARACTERS, seed=0):
    """The original layout: bert_config.json, vocab.txt, bert_model.ckpt.*; with both heads."""
    builder = tiny_model(
        characters, seed, application="unilm", with_pool="linear", return_keras_model=False
    )
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | {"vocab_size": len(tiny_vocabulary(characters))}
    (folder / "bert_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_vocab(folder / "vocab.txt", tiny_vocabulary(characters))
    builder.save_weights_as_checkpoint(str(folder / "bert_model.ckpt"))
    return builder.model
