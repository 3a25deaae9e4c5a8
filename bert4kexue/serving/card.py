"""What an export says about itself: ``assets.extra/model_card.md`` and ``export.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bert4kexue import __version__
from bert4kexue.serving.export import Endpoint

CARD = "assets.extra/model_card.md"
RECORD = "assets.extra/export.json"


def record(
    name: str,
    version: int,
    precision: str,
    endpoints: Mapping[str, Endpoint],
    changes: Mapping[str, float | str],
    samples: str,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything the card tells, as plain data."""
    import keras
    import tensorflow as tf

    return {
        "name": name,
        "version": version,
        "precision": precision,
        "signatures": {
            signature: {
                "inputs": {i.name: [i.dtype, list(i.shape)] for i in endpoint.inputs},
                "outputs": list(endpoint.outputs),
            }
            for signature, endpoint in endpoints.items()
        },
        "change_from_float32": dict(changes),
        "change_measured_on": samples,
        "facts": dict(facts),
        "made_with": {
            "bert4kexue": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    }


def write_card(folder: Path, told: Mapping[str, Any]) -> None:
    """The record as JSON and as a page."""
    text = json.dumps(told, ensure_ascii=False, indent=2, default=str) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8", newline="\n")
    (folder / CARD).write_text(page(told), encoding="utf-8", newline="\n")


def page(told: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    made = ", ".join(f"{name} {version}" for name, version in told["made_with"].items())
    lines = [
        f"# {told['name']}, version {told['version']}",
        "",
        f"A SavedModel with {told['precision']} weights, written by {made}.",
        "",
        *(f"- {key}: {value}" for key, value in told["facts"].items()),
        "",
        "## Signatures",
        "",
        "| name | inputs | outputs |",
        "|---|---|---|",
    ]
    for name, signature in told["signatures"].items():
        inputs = ", ".join(f"`{key}` {dtype}" for key, (dtype, _) in signature["inputs"].items())
        outputs = ", ".join(f"`{output}`" for output in signature["outputs"])
        lines.append(f"| `{name}` | {inputs} | {outputs} |")
    lines += [
        "",
        "## Change of the outputs",
        "",
        f"The largest difference from the float32 model in Keras, on {told['change_measured_on']}.",
        "",
        "| output | change |",
        "|---|---|",
    ]
    for name, change in told["change_from_float32"].items():
        shown = change if isinstance(change, str) else f"{change:.1e}"
        lines.append(f"| `{name}` | {shown} |")
    return "\n".join(lines) + "\n"
