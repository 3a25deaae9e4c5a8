"""Hugging Face transformers on tiny random BERTs and RoFormers -> tests/golden/huggingface_*.

`huggingface_models.npz` holds inputs and outputs; weights are made again from the seed by
`_reference.random_checkpoint` and put into the Hugging Face models by the map below.
`huggingface_bert/` and `huggingface_roformer/` are what `save_pretrained` writes of two of them:
genuine files for the tests that read this layout.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import _golden
import numpy as np
import torch
import transformers
from _reference import padding_mask, random_batch, random_checkpoint, visibility

ENVIRONMENT = "huggingface"
PATH = _golden.GOLDEN / "huggingface_models.npz"
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
}

# family -> name -> (changes of the configuration, options of the library, Hugging Face class)
CASES: dict[str, dict[str, tuple[dict, dict, str]]] = {
    "bert": {
        "hidden": ({}, {}, "BertModel"),
        "relu": ({"hidden_act": "relu"}, {}, "BertModel"),
        "pool": ({}, {"with_pool": True}, "BertModel"),
        "mlm": ({}, {"with_mlm": "linear"}, "BertForMaskedLM"),
        "nsp_mlm": ({}, {"with_nsp": True, "with_mlm": "linear"}, "BertForPreTraining"),
        "lm": ({}, {"application": "lm", "with_mlm": "linear"}, "BertLMHeadModel"),
        "unilm": ({}, {"application": "unilm", "with_mlm": "linear"}, "BertForMaskedLM"),
        "position_ids": ({}, {"custom_position_ids": True}, "BertModel"),
    },
    "roformer": {
        "hidden": ({}, {}, "RoFormerModel"),
        "embedding_size": ({"embedding_size": 10}, {}, "RoFormerModel"),
        "mlm": ({}, {"with_mlm": "linear"}, "RoFormerForMaskedLM"),
        "mlm_embedding_size": (
            {"embedding_size": 10},
            {"with_mlm": "linear"},
            "RoFormerForMaskedLM",
        ),
        "lm": ({}, {"application": "lm", "with_mlm": "linear"}, "RoFormerForCausalLM"),
        "unilm": ({}, {"application": "unilm", "with_mlm": "linear"}, "RoFormerForMaskedLM"),
    },
}
SAVED = {("bert", "nsp_mlm"), ("roformer", "mlm_embedding_size")}

RENAMES = [
    (r"^bert/", "{family}/"),
    (r"^cls/seq_relationship/output_weights$", "cls/seq_relationship/weight"),
    (r"^cls/seq_relationship/output_bias$", "cls/seq_relationship/bias"),
    (r"^cls/predictions/output_bias$", "cls/predictions/bias"),
    (r"encoder/embedding_hidden_mapping_in", "embeddings_project"),
    (r"/layer_(\d+)/", r"/layer/\1/"),
    (r"_embeddings$", "_embeddings/weight"),
    (r"/(kernel|gamma)$", "/weight"),
    (r"/beta$", "/bias"),
]


def state_dict(variables: dict[str, np.ndarray], family: str) -> dict[str, torch.Tensor]:
    """An original checkpoint as Hugging Face holds it: dotted names, kernels as (out, in)."""
    state = {}
    for name, array in variables.items():
        renamed = name
        for pattern, by in RENAMES:
            renamed = re.sub(pattern, by.format(family=family), renamed)
        if name.endswith("/kernel"):
            array = array.T
        state[renamed.replace("/", ".")] = torch.from_numpy(np.ascontiguousarray(array))
    return state


def build(case: dict) -> torch.nn.Module:
    """The Hugging Face model of a case with the case's weights in it, every one accounted for."""
    family, config = case["family"], dict(case["config"])
    causal = case["options"].get("application") == "lm"
    kind = transformers.BertConfig if family == "bert" else transformers.RoFormerConfig
    epsilon = 1e-12 if family == "bert" else 1e-7
    configuration = kind(
        **config,
        layer_norm_eps=epsilon,
        is_decoder=causal,
        attn_implementation="eager",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = getattr(transformers, case["class"])(configuration).eval()
    state = state_dict(random_checkpoint(config, family, case["weights_seed"]), family)
    state["cls.predictions.decoder.weight"] = state[f"{family}.embeddings.word_embeddings.weight"]
    state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    own = model.state_dict()
    if case["class"].endswith("Model") and "LMHead" not in case["class"]:
        state = {k.removeprefix(f"{family}."): v for k, v in state.items()}
    loaded = {k: v for k, v in state.items() if k in own}
    # Positions are not weights: RoFormer's sinusoid and BERT's buffers of ids stay as they are.
    left = [k for k in own if k not in loaded and not re.search("embed_positions|_ids$", k)]
    assert not left, left
    unused = [k for k in state if k not in own and not re.search("pooler|cls[.]", k)]
    assert not unused, unused
    model.load_state_dict(loaded, strict=False)
    return model


def run(case: dict) -> dict[str, np.ndarray]:
    """Inputs and outputs of one case."""
    options = case["options"]
    tokens, segments = random_batch(case["config"], case["batch_seed"], 3, 9)
    arrays = {"token_ids": tokens, "segment_ids": segments}
    mask = padding_mask(tokens)
    if options.get("application") == "unilm":
        visible = visibility("unilm", segments, tokens.shape[1]) & mask[:, None, :]
        mask = np.where(visible, 0.0, np.finfo(np.float32).min)[:, None].astype(np.float32)
    inputs = {
        "input_ids": torch.from_numpy(tokens).long(),
        "token_type_ids": torch.from_numpy(segments).long(),
        "attention_mask": torch.from_numpy(mask),
    }
    if options.get("custom_position_ids"):
        random = np.random.RandomState(case["batch_seed"] + 1)
        arrays["position_ids"] = random.randint(0, 16, tokens.shape).astype(np.int32)
        inputs["position_ids"] = torch.from_numpy(arrays["position_ids"]).long()
    model = build(case)
    with torch.no_grad():
        result = model(**inputs)
    outputs = []
    if options.get("with_pool"):
        outputs.append(result.pooler_output)
    if options.get("with_nsp"):
        outputs.append(torch.softmax(result.seq_relationship_logits, -1))
    if options.get("with_mlm"):
        outputs.append(getattr(result, "logits", getattr(result, "prediction_logits", None)))
    if not outputs:
        outputs.append(result.last_hidden_state)
    for i, output in enumerate(outputs):
        arrays[f"output_{i}"] = output.numpy()
    if (case["family"], case["name"]) in SAVED:
        case["saved"] = f"huggingface_{case['family']}"
        check_or_save(model, _golden.GOLDEN / case["saved"])
    return arrays


def check_or_save(model: transformers.PreTrainedModel, folder: Path) -> None:
    """Write what `save_pretrained` writes, or compare it with what is there."""
    with tempfile.TemporaryDirectory() as temporary:
        model.save_pretrained(temporary)
        for name in ("config.json", "model.safetensors"):
            content = Path(temporary, name).read_bytes()
            kept = folder / name
            if "--write" in sys.argv:
                _golden.replace(kept, content)
            elif not kept.is_file():
                raise SystemExit(f"{kept} is missing; make it with --write")
            elif name.endswith(".safetensors") and kept.read_bytes() != content:
                raise SystemExit(f"{kept} differs from what transformers writes now")


def make() -> _golden.Golden:
    """Every case of both families."""
    cases, arrays = [], {}
    for family, named in CASES.items():
        for index, (name, (changes, options, kind)) in enumerate(named.items()):
            case = {
                "name": name,
                "family": family,
                "class": kind,
                "config": CONFIG | changes,
                "options": options,
                "weights_seed": 200 + index,
                "batch_seed": 300 + index,
            }
            for key, array in run(case).items():
                arrays[f"{family}/{name}/{key}"] = array
            cases.append(case)
    made_with = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    return {"cases": cases, "made_with": made_with}, arrays


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    sys.exit(_golden.main(make, PATH, TOLERANCE))
