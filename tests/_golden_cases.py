"""Cases kept under golden/, read for the tests that compare with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import _reference as reference
import numpy as np

GOLDEN = Path(__file__).resolve().parent / "golden"


def load(file: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Manifest and arrays of one golden file; a missing one is an error, never a skip."""
    with np.load(GOLDEN / file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop("manifest").item()), arrays


def cases(file: str) -> list[dict[str, Any]]:
    """The cases of one golden file, each with its inputs and the list of its outputs."""
    manifest, arrays = load(file)
    found = []
    for case in manifest["cases"]:
        prefix = f"{case['family']}/{case['name']}/"
        own = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
        case = dict(case)
        case["outputs"] = [own.pop(f"output_{i}") for i in range(sum("output_" in k for k in own))]
        case["inputs"] = own
        found.append(case)
    return found


def name(case: dict[str, Any]) -> str:
    """What a case is called in a test's id."""
    return f"{case['family']}-{case['name']}"


def variables(case: dict[str, Any]) -> dict[str, np.ndarray]:
    """The checkpoint of a case, made again from its seed."""
    return reference.random_checkpoint(case["config"], case["family"], case["weights_seed"])


def condition_weights(case: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Kernels of a case's conditional normalisations, made again from its seed."""
    condition = case["options"]["condition"]
    return reference.random_condition_weights(
        case["config"],
        condition["size"],
        condition["hidden"],
        with_mlm=bool(case["options"].get("with_mlm")),
        seed=case["weights_seed"],
    )


def compound(items: list) -> list:
    """JSON keeps an (ids, weights) pair as an object; the library takes it as a tuple."""
    return [(i["ids"], i["weights"]) if isinstance(i, dict) else i for i in items]


def build_options(case: dict[str, Any]) -> dict[str, Any]:
    """A case's options in Python's types, without the condition."""
    options = {k: v for k, v in case["options"].items() if k != "condition"}
    if "compound_tokens" in options:
        options["compound_tokens"] = compound(options["compound_tokens"])
    return options


def reference_outputs(case: dict[str, Any]) -> list[np.ndarray]:
    """What the float64 reference makes of a case."""
    options = build_options(case)
    options.pop("custom_position_ids", None)
    inputs = case["inputs"]
    if "condition" in case["options"]:
        options["layer_norm_cond"] = inputs["condition"]
        options["layer_norm_cond_hidden_act"] = case["options"]["condition"]["act"]
        options["condition_weights"] = condition_weights(case)
    outputs = reference.forward(
        case["config"],
        variables(case),
        inputs["token_ids"],
        inputs.get("segment_ids"),
        family=case["family"],
        position_ids=inputs.get("position_ids"),
        **options,
    )
    return outputs if isinstance(outputs, list) else [outputs]
