"""Loading a BERT-base checkpoint: ours against tf.train.load_checkpoint, time and memory.

    python benchmarks/bench_checkpoint.py [--rounds 5] [--json]

A checkpoint of BERT-base's shapes (vocabulary 21,128, 407 MB, random values) is written to a
temporary folder. Then, in turn: TensorFlow reads every tensor; we open, verify and copy every
tensor into memory, with the C library and without it; and without `verify`. Medians of the
interleaved rounds after one round of warming up. Memory is the growth of the peak of a fresh
process over what it was before opening, over the size of the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CONFIG = {
    "vocab_size": 21128,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}


def shapes_of_bert_base() -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the original chinese_L-12_H-768_A-12 checkpoint."""
    v, n, h, f = (
        CONFIG[key]
        for key in (
            "vocab_size",
            "max_position_embeddings",
            "hidden_size",
            "intermediate_size",
        )
    )
    shapes: dict[str, tuple[int, ...]] = {
        "bert/embeddings/word_embeddings": (v, h),
        "bert/embeddings/position_embeddings": (n, h),
        "bert/embeddings/token_type_embeddings": (2, h),
        "cls/predictions/output_bias": (v,),
        "cls/seq_relationship/output_weights": (2, h),
        "cls/seq_relationship/output_bias": (2,),
    }
    norms = ["bert/embeddings", "cls/predictions/transform"]
    dense = {"bert/pooler/dense": (h, h), "cls/predictions/transform/dense": (h, h)}
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"bert/encoder/layer_{i}"
        norms += [f"{layer}/attention/output", f"{layer}/output"]
        for name in ("self/query", "self/key", "self/value", "output/dense"):
            dense[f"{layer}/attention/{name}"] = (h, h)
        dense[f"{layer}/intermediate/dense"] = (h, f)
        dense[f"{layer}/output/dense"] = (f, h)
    for name in norms:
        shapes |= {f"{name}/LayerNorm/beta": (h,), f"{name}/LayerNorm/gamma": (h,)}
    for name, shape in dense.items():
        shapes |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
    return shapes


class RandomTensors(dict):
    """Shapes whose arrays are made when they are asked for."""

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a random array of the name's shape."""
        rng = np.random.default_rng(len(name))
        return rng.standard_normal(super().__getitem__(name), np.float32) * np.float32(0.02)


def read_all(prefix: str, *, verify: bool, library: bool) -> dict[str, np.ndarray]:
    """Open, verify and copy every tensor."""
    from bert4kexue.checkpoints import open_checkpoint
    from bert4kexue.checkpoints.crc32c import NumpyCrc32c

    with open_checkpoint(prefix) as checkpoint:
        if not library:
            checkpoint._extend = NumpyCrc32c().extend  # as where google-crc32c is absent
        if verify:
            checkpoint.verify()
        return {name: np.array(checkpoint.read(name)) for name in checkpoint.names()}


def read_all_tensorflow(prefix: str) -> dict[str, np.ndarray]:
    """Read every tensor with TensorFlow's own reader."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(prefix)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def times(prefix: str, rounds: int) -> dict[str, float]:
    """Return the median seconds of every way."""
    ways = {
        "tensorflow": lambda: read_all_tensorflow(prefix),
        "ours": lambda: read_all(prefix, verify=True, library=True),
        "ours_numpy_crc": lambda: read_all(prefix, verify=True, library=False),
        "ours_no_verify": lambda: read_all(prefix, verify=False, library=True),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            tensors = way()
            seconds = time.perf_counter() - start
            assert len(tensors) == len(shapes_of_bert_base())
            del tensors
            if round_:
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


# On Linux the peak that getrusage tells of a fresh process begins with its parent's; VmHWM is
# the process's own.
_PEAK = """
import json, sys
def peak():
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["VmHWM"].split()[0]) / 1e3 * 1.024
    except FileNotFoundError:
        import resource
        value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return value / 1e6 if sys.platform == "darwin" else value / 1e3 * 1.024
"""
_READ = """
from bert4kexue.checkpoints import open_checkpoint
import numpy as np
before = peak()
with open_checkpoint(sys.argv[1]) as checkpoint:
    checkpoint.verify()
    verified = peak()
    for name in checkpoint.names():
        np.array(checkpoint.read(name))
print(json.dumps([before, verified, peak()]))
"""
_MODEL = """
import bert4kexue.models as models
before = peak()
checkpoint = sys.argv[1] or None
model = models.build_transformer_model(sys.argv[2], checkpoint, with_pool=True, with_mlm=True)
print(json.dumps([before, peak()]))
"""


def run(script: str, *arguments: str) -> list[float]:
    """Run a script in a fresh process and return the JSON it prints last."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _PEAK + script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--no-model", action="store_true", help="leave out the model's memory")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from bert4kexue.checkpoints import write_tf_checkpoint

    shapes = shapes_of_bert_base()
    megabytes = sum(4 * int(np.prod(shape)) for shape in shapes.values()) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        prefix = str(Path(folder) / "bert_model.ckpt")
        config = Path(folder) / "bert_config.json"
        config.write_text(json.dumps(CONFIG), encoding="utf-8")
        start = time.perf_counter()
        write_tf_checkpoint(prefix, RandomTensors(shapes))
        wrote = time.perf_counter() - start
        seconds = times(prefix, arguments.rounds)
        before, verified, after = run(_READ, prefix)
        result = {
            "megabytes": round(megabytes, 1),
            "write_seconds_with_random_numbers": round(wrote, 3),
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "ratio_to_tensorflow": round(seconds["ours"] / seconds["tensorflow"], 3),
            "ratio_to_tensorflow_numpy_crc": round(
                seconds["ours_numpy_crc"] / seconds["tensorflow"], 3
            ),
            "peak_growth_verify_mb": round(verified - before, 1),
            "peak_growth_over_checkpoint": round((after - before) / megabytes, 3),
        }
        if not arguments.no_model:
            _, built = run(_MODEL, "", str(config))
            _, loaded = run(_MODEL, prefix, str(config))
            result["model_peak_mb"] = round(built, 1)
            result["model_and_load_peak_mb"] = round(loaded, 1)
            result["load_growth_over_checkpoint"] = round((loaded - built) / megabytes, 3)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
