"""What the tokenizer inside costs: strings in against ids in, BERT-base, served by TensorFlow.

    python benchmarks/bench_string_signature.py

Both signatures of one SavedModel (random weights, the shipped vocabulary) run in turns on the same
sentences; the ids are made beforehand, so what a client of the ids form spends on them is not
counted. BERT4KEXUE_DATA gives real sentences; without it, those of examples/data.
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
AT_MOST = 1.05


def main() -> int:
    """Print one JSON object; 1 where strings cost more than 5 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--json", action="store_true", help="nothing else (always so)")
    options = parser.parse_args()
    import tensorflow as tf

    from bert4kexue.models import build_transformer_model
    from bert4kexue.serving import export_saved_model
    from bert4kexue.serving.forms import both_forms
    from bert4kexue.serving.quantization import forwards
    from bert4kexue.serving.signatures import sentence_vectors
    from bert4kexue.text.wordpiece import Tokenizer

    source = ROOT / "pretrained" / "roformer_tiny_zh"
    tokenizer = Tokenizer(source / "vocab.txt", do_lower_case=True)
    config = {
        "vocab_size": len(tokenizer._token_dict),
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    model = build_transformer_model(config, model="bert", with_pool="linear")
    tasks = {"vectors": sentence_vectors(model)}
    endpoints = both_forms(tasks, forwards(tasks, "float32"), tokenizer, maxlen=512)
    result: dict = {}
    with tempfile.TemporaryDirectory() as scratch:
        export_saved_model(model, Path(scratch, "m"), endpoints)
        served = tf.saved_model.load(str(Path(scratch, "m"))).signatures
        for batch in options.batches:
            texts = sentences(batch)
            ids = tokenizer.encode_batch(texts, maxlen=512)
            given = {
                "vectors": {
                    "token_ids": tf.constant(ids.token_ids),
                    "segment_ids": tf.constant(ids.segment_ids),
                },
                "vectors_text": {"text": tf.constant(texts)},
            }
            times: dict[str, list[float]] = {name: [] for name in given}
            for turn in range(options.rounds + 2):
                for name, inputs in given.items():
                    start = time.perf_counter()
                    served[name](**inputs)["vectors"].numpy()
                    if turn > 1:
                        times[name].append(time.perf_counter() - start)
            medians = {name: float(np.median(values)) for name, values in times.items()}
            result[f"batch_{batch}"] = {
                "ratio": round(medians["vectors_text"] / medians["vectors"], 4),
                "ids_ms": round(medians["vectors"] * 1e3, 1),
                "text_ms": round(medians["vectors_text"] * 1e3, 1),
                "length": int(ids.token_ids.shape[1]),
            }
    print(json.dumps(result))
    return 0 if all(found["ratio"] <= AT_MOST for found in result.values()) else 1


def sentences(count: int) -> list[str]:
    """Real ones where the data folder is there."""
    data = os.environ.get("BERT4KEXUE_DATA")
    if data:
        path = Path(data, "cnsd_sts_b", "cnsd-sts-test.txt")
        lines = [line.split("||") for line in path.read_text(encoding="utf-8").splitlines()]
        texts = [parts[1] for parts in lines if len(parts) == 4]
    else:
        path = ROOT / "examples" / "data" / "demo_corpus.txt"
        texts = path.read_text(encoding="utf-8").splitlines()
    return [texts[i * 37 % len(texts)] for i in range(count)]


if __name__ == "__main__":
    sys.exit(main())
