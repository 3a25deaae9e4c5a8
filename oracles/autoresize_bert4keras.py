"""Weights that bert4keras resizes into a wider BERT -> tests/golden/bert4keras_autoresize.npz."""

from __future__ import annotations

import sys

import _golden
import numpy as np
from _bert4keras import bert4keras, tf
from _reference import random_checkpoint
from bert4keras.models import build_transformer_model

ENVIRONMENT = "bert4keras"
PATH = _golden.GOLDEN / "bert4keras_autoresize.npz"
TOLERANCE = 1e-6

SMALL = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
}
WIDE = {"hidden_size": 16, "intermediate_size": 24}
SEED = 1


def make() -> _golden.Golden:
    """The resized weights under their original names, for an activation of each kind."""
    arrays = {}
    for act in ("gelu", "relu"):
        small = SMALL | {"hidden_act": act}
        tf.keras.backend.clear_session()
        wide = build_transformer_model(
            checkpoint_path=random_checkpoint(small, "bert", SEED),
            with_pool=True,
            with_mlm=True,
            autoresize_weights=True,
            return_keras_model=False,
            **(small | WIDE),
        )
        for layer, names in wide.variable_mapping().items():
            if layer in wide.layers:
                weights = wide.layers[layer].trainable_weights
                for name, weight in zip(names, weights, strict=False):
                    arrays[f"{act}/{name}"] = weight.numpy().astype(np.float32)
    manifest = {"small": SMALL, "wide": WIDE, "seed": SEED}
    return manifest | {"made_with": {"bert4keras": bert4keras.__version__}}, arrays


if __name__ == "__main__":
    sys.exit(_golden.main(make, PATH, TOLERANCE))
