"""OpenVINO: our export against OpenVINO's own conversion of Hugging Face's model.

    python benchmarks/bench_openvino.py

Prints the ratio of the medians of runs that alternate, BERT-base of random weights, both compiled
for bfloat16 (8 x 128). It needs openvino, tensorflow, torch and transformers. What bfloat16 loses
on a task is measured by examples/export_precision.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BASE = {
    "vocab_size": 21128,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
AT_LEAST = 0.9


def main() -> int:
    """Print one JSON object; 1 where the ratio is below 0.9."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12, help="runs of each")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--json", action="store_true", help="nothing else (always so)")
    options = parser.parse_args()
    result = speed(options)
    print(json.dumps(result))
    return 0 if result["ratio"] >= AT_LEAST else 1


def speed(options) -> dict:
    """Our tokens a second over those of the other export."""
    import openvino
    import torch
    from transformers import BertConfig, BertModel

    from bert4kexue.models import build_transformer_model
    from bert4kexue.serving.formats import export_runtime

    core = openvino.Core()
    with tempfile.TemporaryDirectory() as scratch:
        folder = export_runtime(
            build_transformer_model(BASE, model="bert"),
            Path(scratch, "m"),
            "openvino",
            precision="bf16",
        )
        ours = compiled_as_told(core, folder)
    peer = BertModel(BertConfig(**BASE), add_pooling_layer=False).eval()
    example = {
        name: torch.ones(2, 8, dtype=torch.int64)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    converted = openvino.convert_model(peer, example_input=example)
    theirs = core.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    shape = (options.batch, options.length)
    ids = np.random.default_rng(0).integers(1, 21128, shape)
    zeros, ones = np.zeros(shape, np.int64), np.ones(shape, np.int64)
    ours_in = {"token_ids": ids.astype("int32"), "segment_ids": zeros.astype("int32")}
    theirs_in = {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros}
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for turn in range(options.rounds + 2):
        for name, model, inputs in (("ours", ours, ours_in), ("theirs", theirs, theirs_in)):
            start = time.perf_counter()
            model(inputs)
            if turn > 1:
                times[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {
        "ratio": round(medians["theirs"] / medians["ours"], 3),
        "ours_ms": round(medians["ours"] * 1e3, 1),
        "theirs_ms": round(medians["theirs"] * 1e3, 1),
        "shape": shape,
        "precision": str(ours.get_property("INFERENCE_PRECISION_HINT")),
    }


def compiled_as_told(core, folder: Path):
    """The export with the precision that runtime.json asks for."""
    wish = json.loads((folder / "runtime.json").read_text(encoding="utf-8"))
    return core.compile_model(folder / "model.xml", "CPU", wish)


if __name__ == "__main__":
    sys.exit(main())
