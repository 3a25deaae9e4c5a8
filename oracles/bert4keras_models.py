"""bert4keras itself on tiny random BERTs and RoFormers -> tests/golden/bert4keras_models.npz.

Every option of `build_transformer_model` that bert4keras 0.11.5 runs on TensorFlow 2.15. Weights
are not stored: `_reference.random_checkpoint` makes them again from the seed.
"""

from __future__ import annotations

import sys

import _golden
import numpy as np
from _bert4keras import bert4keras, tf
from _reference import random_batch, random_checkpoint, random_condition_weights
from bert4keras.layers import Input
from bert4keras.models import build_transformer_model

ENVIRONMENT = "bert4keras"
PATH = _golden.GOLDEN / "bert4keras_models.npz"
TOLERANCE = 3e-6

CONFIG = {
    "vocab_size": 37,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "hidden_act": "gelu",
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}
KEEP = [0, 3, 5, 30, 7, 11, 12, 13, 14, 2, 36, 20]
COMPOUND = [[1, 2, 3], {"ids": [4, 11], "weights": [1, 3]}]

# name -> (changes of the configuration, options of build_transformer_model)
CASES: dict[str, tuple[dict, dict]] = {
    "hidden": ({}, {}),
    "relu": ({"hidden_act": "relu"}, {}),
    "gelu_tanh": ({"hidden_act": "gelu_tanh"}, {}),
    "embedding_size": ({"embedding_size": 10}, {"with_mlm": "linear"}),
    "head_sizes": ({"attention_head_size": 6, "attention_key_size": 10}, {}),
    "pool": ({}, {"with_pool": True}),
    "pool_linear": ({}, {"with_pool": "linear"}),
    "nsp": ({}, {"with_nsp": True}),
    "nsp_relu_pool": ({}, {"with_nsp": True, "with_pool": "relu"}),
    "mlm": ({}, {"with_mlm": True}),
    "mlm_linear": ({}, {"with_mlm": "linear"}),
    "pool_mlm": ({}, {"with_pool": True, "with_mlm": "linear"}),
    "nsp_mlm": ({}, {"with_nsp": True, "with_mlm": True}),
    "lm": ({}, {"application": "lm"}),
    "lm_linear": ({}, {"application": "lm", "with_mlm": "linear"}),
    "unilm": ({}, {"application": "unilm", "with_mlm": "linear"}),
    "simbert": ({}, {"application": "unilm", "with_pool": "linear"}),
    "no_segments": ({"type_vocab_size": 0}, {}),
    "no_segments_lm": ({"type_vocab_size": 0}, {"application": "lm", "with_mlm": "linear"}),
    "shared_segments": ({}, {"shared_segment_embeddings": True}),
    "keep_tokens": ({}, {"keep_tokens": KEEP, "with_mlm": "linear"}),
    "compound_tokens": ({}, {"compound_tokens": COMPOUND, "with_mlm": "linear"}),
    "keep_and_compound": (
        {},
        {"keep_tokens": KEEP, "compound_tokens": COMPOUND, "with_mlm": "linear"},
    ),
    "custom_position_ids": ({}, {"custom_position_ids": True}),
    "hierarchical": ({"max_position_embeddings": 4}, {"hierarchical_position": True}),
    "hierarchical_0.3": ({"max_position_embeddings": 4}, {"hierarchical_position": 0.3}),
    "realformer": ({}, {"residual_attention_scores": True}),
    "condition": ({}, {"condition": {"size": 5, "hidden": None, "act": "linear"}}),
    "condition_hidden": (
        {},
        {"condition": {"size": 5, "hidden": 7, "act": "relu"}, "with_mlm": "linear"},
    ),
    "all_padding": ({}, {}),
}
ONLY_BERT = {"hierarchical", "hierarchical_0.3"}  # RoFormer has no position table to extend


def compound(items: list) -> list:
    """JSON cannot tell bert4keras's (ids, weights) pair from a list of ids."""
    return [(i["ids"], i["weights"]) if isinstance(i, dict) else i for i in items]


def run(case: dict) -> dict[str, np.ndarray]:
    """Inputs and outputs of one case."""
    config, options = case["config"], dict(case["options"])
    condition = options.pop("condition", None)
    arrays = {}
    size = len(KEEP) if "keep_tokens" in options else config["vocab_size"]
    size += len(options.get("compound_tokens", ()))
    tokens, segments = random_batch({"vocab_size": size}, case["batch_seed"], 3, 9)
    if case["name"] == "all_padding":
        tokens[1:2] = segments[1:2] = 0
    if case["name"] == "shared_segments":
        segments = np.where(tokens == 0, 0, segments + 1)  # speakers: never the padding token
    arrays["token_ids"] = tokens
    inputs = [tokens]
    if config["type_vocab_size"]:
        arrays["segment_ids"] = segments
        inputs.append(segments)
    random = np.random.RandomState(case["batch_seed"] + 1)
    if options.get("custom_position_ids"):
        arrays["position_ids"] = random.randint(0, 16, tokens.shape).astype(np.int32)
        inputs.append(arrays["position_ids"])

    tf.keras.backend.clear_session()
    options.setdefault("application", "encoder")
    if "compound_tokens" in options:
        options["compound_tokens"] = compound(options["compound_tokens"])
    if condition:
        given = Input(shape=(condition["size"],), name="Input-Condition")
        options["layer_norm_cond"] = given
        options["additional_input_layers"] = given
        options["layer_norm_cond_hidden_size"] = condition["hidden"]
        options["layer_norm_cond_hidden_act"] = condition["act"]
        arrays["condition"] = np.asarray(random.standard_normal((3, condition["size"])), "float32")
        inputs.append(arrays["condition"])
    model = build_transformer_model(
        checkpoint_path=random_checkpoint(config, case["family"], case["weights_seed"]),
        model=case["family"],
        **config,
        **options,
    )
    if condition:
        weights = random_condition_weights(
            config,
            condition["size"],
            condition["hidden"],
            with_mlm=bool(options.get("with_mlm")),
            seed=case["weights_seed"],
        )
        for layer, kernels in weights.items():
            for name, kernel in kernels.items():
                getattr(model.get_layer(layer), name).set_weights([kernel])
    outputs = model([i.astype("float32") for i in inputs], training=False)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    for i, output in enumerate(o.numpy() for o in outputs):
        assert output.dtype == np.float32
        assert np.isfinite(output).all()
        arrays[f"output_{i}"] = output
    return arrays


def make() -> _golden.Golden:
    """Every case of both families."""
    cases, arrays = [], {}
    for family in ("bert", "roformer"):
        for index, (name, (changes, options)) in enumerate(CASES.items()):
            if family != "bert" and name in ONLY_BERT:
                continue
            case = {
                "name": name,
                "family": family,
                "config": CONFIG | changes,
                "options": options,
                "weights_seed": index,
                "batch_seed": 100 + index,
            }
            cases.append(case)
            for key, array in run(case).items():
                arrays[f"{family}/{name}/{key}"] = array
    made_with = {
        "bert4keras": bert4keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }
    return {"cases": cases, "made_with": made_with}, arrays


if __name__ == "__main__":
    sys.exit(_golden.main(make, PATH, TOLERANCE))
