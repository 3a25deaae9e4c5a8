"""OpenVINO: our export against OpenVINO's own conversion of Hugging Face's model, and its loss.

    python benchmarks/bench_openvino.py                  # speed, BERT-base of random weights
    python benchmarks/bench_openvino.py --accuracy       # Spearman on a test set, fp32 and bf16

Speed is the ratio of the medians of runs that alternate, both compiled for bfloat16 (8 x 128).
It needs openvino, tensorflow, torch and transformers; --accuracy needs BERT4KEXUE_DATA.
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

ROOT = Path(__file__).resolve().parent.parent
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
    parser.add_argument("--accuracy", action="store_true", help="Spearman instead of speed")
    parser.add_argument("--rounds", type=int, default=12, help="runs of each")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--json", action="store_true", help="nothing else (always so)")
    options = parser.parse_args()
    result = accuracy() if options.accuracy else speed(options)
    print(json.dumps(result))
    return 0 if result.get("ratio", 1) >= AT_LEAST else 1


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


def accuracy() -> dict:
    """Spearman of cosines of pooled vectors with the given scores, CNSD STS-B test."""
    import openvino

    from bert4kexue.models import build_transformer_model
    from bert4kexue.serving.formats import export_runtime
    from bert4kexue.text.wordpiece import Tokenizer

    source = ROOT / "pretrained" / "roformer_tiny_zh"
    tokenizer = Tokenizer(source / "vocab.txt", do_lower_case=True)
    rows = read_pairs(Path(os.environ["BERT4KEXUE_DATA"]) / "cnsd_sts_b")
    model = build_transformer_model(source, model="roformer", with_pool="linear")
    core = openvino.Core()
    result: dict = {"pairs": len(rows)}
    for precision in ("fp32", "bf16"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = export_runtime(model, Path(scratch, "m"), "openvino", precision=precision)
            compiled = compiled_as_told(core, folder)
        sides = [vectors(compiled, tokenizer, [row[k] for row in rows]) for k in (0, 1)]
        cosines = np.sum(sides[0] * sides[1], axis=1)
        result[precision] = round(spearman(cosines, np.array([row[2] for row in rows])), 5)
        result[f"{precision}_runs_in"] = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
    result["loss"] = round(result["fp32"] - result["bf16"], 5)
    return result


def compiled_as_told(core, folder: Path):
    """The export with the precision that runtime.json asks for."""
    wish = json.loads((folder / "runtime.json").read_text(encoding="utf-8"))
    return core.compile_model(folder / "model.xml", "CPU", wish)


def read_pairs(folder: Path) -> list[tuple[str, str, float]]:
    """The test file's lines, ``id||first||second||score``."""
    path = next(path for path in sorted(folder.rglob("*test*")) if path.is_file())
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        parts = line.split("||")
        if len(parts) == 4:
            rows.append((parts[1], parts[2], float(parts[3])))
    return rows


def vectors(compiled, tokenizer, texts: list[str]) -> np.ndarray:
    """Vectors of length one."""
    out = []
    for start in range(0, len(texts), 32):
        batch = tokenizer.encode_batch(texts[start : start + 32], maxlen=128)
        inputs = {"token_ids": batch.token_ids, "segment_ids": batch.segment_ids}
        out.append(np.array(compiled(inputs)[0]))
    joined = np.concatenate(out).astype("float64")
    return joined / np.linalg.norm(joined, axis=1, keepdims=True)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of the ranks, equal values sharing their mean rank."""
    ranks = []
    for values in (a, b):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks.append(((ends - counts + ends - 1) / 2)[inverse])
    return float(np.corrcoef(*ranks)[0, 1])


if __name__ == "__main__":
    sys.exit(main())
