"""BERT-base's forward in float32 beside keras-hub, ONNX Runtime, OpenVINO and Hugging Face's torch.

    python benchmarks/bench_forward.py --peers OTHER/bin/python [--sizes 8x128,1x32,1x512] [--json]

OTHER is a Python with keras-hub, onnxruntime, openvino, torch and transformers; those that are
missing are left out, and said. Everyone has a process of its own, holds BERT-base of random
weights, gets the same ids and gives the hidden states as NumPy arrays; all run in turn, round by
round. Ours is what users call, `SortedPredictor.predict` and `Model.predict_on_batch`. It and
keras-hub run as a graph and under XLA, ours also with packed kernels, torch with MKL told that the
processor is Intel's (else it takes a slow path on AMD's). Compiling is done before, and not
counted.

The peak is the faster of TensorFlow's and torch's product of square matrices in the same rounds;
the operations of the forward are those of its matrix products (`bert4kexue flops`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from peers import Peer, mkl_preload, serve, timed

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
SQUARE = 2048
Run = Callable[[np.ndarray], np.ndarray]

# --- the runners, each made in a process of its own ---------------------------------------------


def sorted_predictor(jit_compile: bool = False, pack: bool = False) -> Run:
    """Ours, as a graph, under XLA, and with kernels turned for batches of few tokens."""
    from bert4kexue.models import build_transformer_model
    from bert4kexue.models.prediction import SortedPredictor

    model = build_transformer_model(BASE, model="bert")
    predictor = SortedPredictor(model, jit_compile=jit_compile)
    if pack:
        predictor.pack()
    return lambda ids: np.asarray(predictor.predict(ids))


def predict_on_batch() -> Run:
    """Ours, as Keras calls it."""
    from bert4kexue.models import build_transformer_model

    model = build_transformer_model(BASE, model="bert")
    return lambda ids: model.predict_on_batch([ids, np.zeros_like(ids)])


def keras_hub(jit_compile: bool = False) -> Run:
    """keras-hub's backbone in a compiled function."""
    import tensorflow as tf
    from keras_hub.models import BertBackbone

    backbone = BertBackbone(
        vocabulary_size=BASE["vocab_size"],
        num_layers=BASE["num_hidden_layers"],
        num_heads=BASE["num_attention_heads"],
        hidden_dim=BASE["hidden_size"],
        intermediate_dim=BASE["intermediate_size"],
        max_sequence_length=512,
        num_segments=2,
    )

    @tf.function(jit_compile=jit_compile, reduce_retracing=not jit_compile)
    def forward(inputs: Any) -> Any:
        return backbone(inputs, training=False)["sequence_output"]

    def run(ids: np.ndarray) -> np.ndarray:
        return forward(
            {
                "token_ids": tf.constant(ids),
                "segment_ids": tf.zeros_like(ids),
                "padding_mask": tf.ones_like(ids),
            }
        ).numpy()

    return run


def _torch_bert() -> Any:
    import torch
    from transformers import BertConfig, BertModel

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    return BertModel(BertConfig(**BASE), add_pooling_layer=False).eval()


def huggingface() -> Run:
    """transformers' BertModel with torch's fused attention."""
    import torch

    model = _torch_bert()

    def run(ids: np.ndarray) -> np.ndarray:
        tokens = torch.from_numpy(ids.astype(np.int64))
        with torch.inference_mode():
            return model(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                token_type_ids=torch.zeros_like(tokens),
            ).last_hidden_state.numpy()

    return run


def _three(ids: np.ndarray) -> dict[str, np.ndarray]:
    tokens = ids.astype(np.int64)
    return {
        "input_ids": tokens,
        "attention_mask": np.ones_like(tokens),
        "token_type_ids": np.zeros_like(tokens),
    }


def openvino_runtime() -> Run:
    """OpenVINO's conversion of transformers' BertModel, told to keep to float32."""
    import openvino
    import torch

    example = {k: torch.from_numpy(v) for k, v in _three(np.ones((2, 8))).items()}
    converted = openvino.convert_model(_torch_bert(), example_input=example)
    compiled = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda ids: compiled(_three(ids))[0]


def onnx_runtime() -> Run:
    """transformers' BertModel exported by torch, all of ONNX Runtime's optimizations."""
    import onnxruntime
    import torch

    inputs = {k: torch.from_numpy(v) for k, v in _three(np.ones((2, 8))).items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bert.onnx")
        torch.onnx.export(
            _torch_bert(),
            (),
            path,
            kwargs=inputs,
            input_names=list(inputs),
            dynamic_shapes={
                k: {0: torch.export.Dim("b"), 1: torch.export.Dim("n")} for k in inputs
            },
            dynamo=True,
        )
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = os.cpu_count() or 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids: session.run(None, _three(ids))[0]


RUNNERS: dict[str, tuple[Callable[[], Run], tuple[str, ...]]] = {
    "ours": (sorted_predictor, ()),
    "ours, XLA": (lambda: sorted_predictor(jit_compile=True), ()),
    "ours, XLA, packed": (lambda: sorted_predictor(jit_compile=True, pack=True), ()),
    "ours, predict_on_batch": (predict_on_batch, ()),
    "keras-hub": (keras_hub, ("keras_hub",)),
    "keras-hub, XLA": (lambda: keras_hub(jit_compile=True), ("keras_hub",)),
    "ONNX Runtime": (onnx_runtime, ("onnxruntime", "onnxscript", "torch", "transformers")),
    "OpenVINO": (openvino_runtime, ("openvino", "torch", "transformers")),
    "Hugging Face torch": (huggingface, ("torch", "transformers")),
}


def _square(name: str) -> Callable[[], Any] | None:
    """A product of square matrices by the library that the runner computes with."""
    values = np.random.default_rng(0).standard_normal((SQUARE, SQUARE), np.float32)
    if name == "ours":
        import tensorflow as tf

        matrix = tf.constant(values)
        return lambda: tf.matmul(matrix, matrix).numpy()
    if name == "Hugging Face torch":
        import torch

        tensor = torch.from_numpy(values)
        return lambda: tensor @ tensor
    return None


def answers(name: str) -> Callable[..., Any]:
    """What answers as this runner."""
    missing = [p for p in RUNNERS[name][1] if importlib.util.find_spec(p) is None]
    run = None if missing else RUNNERS[name][0]()
    square = None if missing else _square(name)

    def answer(b: int = 0, n: int = 0, times: int = 1) -> Any:
        if run is None:
            return {"missing": missing}
        if not b:
            return {"gemm": square is not None}
        if b < 0:
            assert square is not None
            return timed(square, times)
        ids = np.random.default_rng(b * n).integers(1, BASE["vocab_size"], (b, n)).astype(np.int32)
        output = run(ids)
        assert output.shape == (b, n, BASE["hidden_size"]), output.shape
        return timed(lambda: run(ids), times)

    return answer


# --- the comparison -----------------------------------------------------------------------------


def compare(sizes: list[tuple[int, int]], python: str, rounds: int) -> dict[str, Any]:
    """Median milliseconds by size and runner, the peak, and the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        preload = mkl_preload(folder)
        peers = {}
        for name in RUNNERS:
            command = [sys.executable if name.startswith("ours") else python, __file__]
            peers[name] = Peer(
                [*command, "--serve", name],
                preload if name == "Hugging Face torch" else None,
            )
        result: dict[str, Any] = {"preload": preload is not None, "sizes": {}}
        try:
            told = {name: peer.ask() for name, peer in peers.items()}
            result["missing"] = {k: v["missing"] for k, v in told.items() if "missing" in v}
            present = {k: peer for k, peer in peers.items() if k not in result["missing"]}
            for b, n in sizes:
                result["sizes"][f"{b}x{n}"] = _size(present, told, b, n, rounds)
        finally:
            for peer in peers.values():
                peer.close()
    return result


def _size(
    peers: dict[str, Peer], told: dict[str, Any], b: int, n: int, rounds: int
) -> dict[str, Any]:
    from bert4kexue.analysis.flops import from_config, total, transformer_cost

    small = b * n < 256
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    gemm: dict[str, list[float]] = {name: [] for name in peers if told[name].get("gemm")}
    for peer in peers.values():
        peer.ask(b=b, n=n, times=1)  # compiling
    for turn in range(rounds):
        names = list(peers)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name] += peers[name].ask(b=b, n=n, times=6 if small else 1)
        for name in gemm:
            gemm[name] += peers[name].ask(b=-1, times=2)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    peak = max(2 * SQUARE**3 / statistics.median(values) for values in gemm.values())
    operations = b * total(transformer_cost(from_config({**BASE, "vocab_size": 0}), n)).operations
    milliseconds = {name: round(1e3 * value, 1) for name, value in medians.items()}
    # The best of the ways to compile.
    ours = min(medians.pop(name) for name in ("ours", "ours, XLA", "ours, XLA, packed"))
    del medians["ours, predict_on_batch"]
    best = min(medians, key=lambda name: medians[name]) if medians else None
    return {
        "milliseconds": milliseconds,
        "peak_gflops": round(peak / 1e9, 1),
        "share_of_peak": round(operations / ours / peak, 3),
        "best_peer": best,
        "ratio_to_best": round(ours / medians[best], 3) if best else None,
    }


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=sys.executable, help="a Python with the peers")
    parser.add_argument("--sizes", default="8x128,1x32,1x512", help="batch x length, ...")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (9)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--serve", choices=RUNNERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(lambda: answers(options.serve))
        return
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes.split(",")]
    result = compare(sizes, options.peers, options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    for name, packages in result["missing"].items():
        print(f"{name} is left out: {', '.join(packages)} not installed")
    for size, found in result["sizes"].items():
        print(
            f"{size}: {found['share_of_peak']:.0%} of {found['peak_gflops']:g} GFLOP/s; "
            f"{found['ratio_to_best']} times {found['best_peer']}"
        )
        for name, value in sorted(found["milliseconds"].items(), key=lambda item: item[1]):
            print(f"  {value:8.1f} ms  {name}")


if __name__ == "__main__":
    main()
