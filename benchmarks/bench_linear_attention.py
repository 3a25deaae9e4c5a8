"""Time of attention alone by length: softmax, and linear attention by map, interleaved in one run.

    python benchmarks/bench_linear_attention.py
    python benchmarks/bench_linear_attention.py --lengths 128 256 --repeats 2

h heads of d channels, batch 1, float32, compiled by tf.function without XLA; medians of repeats.
Softmax stops where its scores alone would take more than --most-scores numbers. Prints
milliseconds, the slope of log time against log length over the upper half, and the first measured
length at which linear is the faster, beside the crossover that matrix products alone predict:
2 n d multiplications a query and head against 2 f (d + 1), and 2 d f more for performer, whose
features are products, and 128 (f + d) more for the causal form, the triangle within a chunk.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from keras import ops

from bert4kexue.models.compilation import compiled
from bert4kexue.ops.attention import attention_normalize, attention_scores, weighted_values
from bert4kexue.ops.feature_maps import feature_map
from bert4kexue.ops.linear_attention import linear_attention
from bert4kexue.ops.masking import causal_mask

MAPS: dict[str, Any] = {
    "elu1": "elu1",
    "performer 266": {"kind": "performer", "features": 266, "seed": 0},
    "taylor 2": "taylor",
}


def softmax(causal: bool) -> Callable[..., Any]:
    """Whole softmax attention of q, k, v (b, n, h, d)."""

    def function(q: Any, k: Any, v: Any) -> Any:
        mask = causal_mask(ops.shape(q)[1])[None, None] if causal else None
        return weighted_values(attention_normalize(attention_scores(q, k), mask), v)

    return function


def linear(spec: Any, d: int, causal: bool) -> Callable[..., Any]:
    """Linear attention of the same."""
    fmap = feature_map(spec)
    frequencies = fmap.draw(d) if fmap.random else None

    def function(q: Any, k: Any, v: Any) -> Any:
        q, k = q / d**0.25, k / d**0.25
        return linear_attention(q, k, v, fmap, frequencies, causal=causal)[0]

    return function


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[2**i for i in range(7, 15)])
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--most-scores", type=int, default=2**28)
    parser.add_argument("--maps", nargs="+", choices=MAPS, default=list(MAPS))
    args = parser.parse_args()
    h, d = args.heads, args.size
    for causal in (False, True):
        functions = {"softmax": compiled(softmax(causal), [], jit_compile=False)}
        for name in args.maps:
            functions[name] = compiled(linear(MAPS[name], d, causal), [], jit_compile=False)
        found: dict[str, dict[int, float]] = {name: {} for name in functions}
        for n in args.lengths:
            random = np.random.RandomState(0)
            inputs = random.normal(size=(3, 1, n, h, d)).astype("float32")
            names = [m for m in functions if m != "softmax" or h * n * n <= args.most_scores]
            times: dict[str, list[float]] = {name: [] for name in names}
            for repeat in range(args.repeats + 1):
                for name in names:
                    begun = time.perf_counter()
                    np.asarray(functions[name](*inputs))
                    if repeat:  # the first call compiles
                        times[name].append(time.perf_counter() - begun)
            for name in names:
                found[name][n] = float(np.median(times[name])) * 1e3
            cells = [f"{name} {found[name][n]:.2f}" for name in names]
            print("causal" if causal else "whole", n, "ms:", ", ".join(cells), flush=True)
        for name, times_ms in found.items():
            ns = list(times_ms)
            upper = ns[len(ns) // 2 :]
            logs = np.log([times_ms[n] for n in upper])
            slope = np.polyfit(np.log(upper), logs, 1)[0] if len(upper) > 1 else float("nan")
            line = f"{name}: slope {slope:.2f} from {upper[0]} to {upper[-1]}"
            if name != "softmax":
                f = feature_map(MAPS[name]).size(d)
                products = 2 * f * (d + 1) + (2 * d * f if feature_map(MAPS[name]).random else 0)
                predicted = (products + (128 * (f + d) if causal else 0)) / (2 * d)
                faster = [n for n in found["softmax"] if times_ms[n] < found["softmax"][n]]
                first = faster[0] if faster else None
                line += f"; {f} features, predicted crossover {predicted:.0f}, faster from {first}"
            print("causal" if causal else "whole", line, flush=True)


if __name__ == "__main__":
    main()
