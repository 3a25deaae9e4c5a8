"""Time of attention alone by length: softmax, and linear attention by map, interleaved in one run.

    python benchmarks/bench_linear_attention.py
    python benchmarks/bench_linear_attention.py --lengths 128 256 --repeats 2

h heads of d channels, batch 1, float32, compiled by tf.function without XLA; medians of repeats.
Softmax stops where its scores alone would take more than --most-scores numbers. Prints
milliseconds, the slope of log time against log length over the upper half, and the first measured
length from which on linear is the faster, beside the crossover that matrix products alone predict:
2 n d multiplications a query and head against 2 f (d + 1), and 2 d f more for performer, whose
features are products, and for the causal form 128 (f + d) more, the triangle within a chunk, or
128 (d + d) where its kernel is a polynomial of q . k. The
worst ratio to softmax from twice that length on stands beside it: below 1, linear attention is
never the slower there. `--store` keeps the numbers as JSON, `--json` prints them last.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
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
    "exp": "exp",
    "dsoftmax": "dsoftmax",
    "cos1": "cos1",
    "performer 64": {"kind": "performer", "features": 64, "seed": 0},
    "performer 266": {"kind": "performer", "features": 266, "seed": 0},
    "taylor 2": "taylor",
    "limit 2": {"kind": "limit", "order": 2},
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


def summary(name: str, found: dict[str, dict[int, float]], d: int, causal: bool) -> dict[str, Any]:
    """Times, slope and, of a map, where it crosses softmax: predicted and measured."""
    times, softmaxes = found[name], found["softmax"]
    upper = list(times)[len(times) // 2 :]
    logs = np.log([times[n] for n in upper])
    what: dict[str, Any] = {"milliseconds": times}
    what["slope"] = float(np.polyfit(np.log(upper), logs, 1)[0]) if len(upper) > 1 else None
    if name == "softmax":
        return what
    fmap = feature_map(MAPS[name])
    f = fmap.size(d)
    products = 2 * f * (d + 1) + (2 * d * f if fmap.random else 0)
    triangle = 128 * ((d if fmap.polynomial else f) + d)
    predicted = (products + (triangle if causal else 0)) / (2 * d)
    ratios = {n: times[n] / softmaxes[n] for n in softmaxes}
    slower = [n for n in ratios if ratios[n] > 1]
    faster = [n for n in ratios if n > max(slower, default=0)]
    beyond = [ratio for n, ratio in ratios.items() if n >= 2 * predicted]
    what |= {"features": f, "predicted": predicted, "faster_from": min(faster, default=None)}
    return what | {"worst_beyond_twice": max(beyond, default=None)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[2**i for i in range(7, 13)])
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--most-scores", type=int, default=2**28)
    parser.add_argument("--store", type=Path, help="a JSON file for the numbers")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON, last")
    parser.add_argument("--maps", nargs="+", choices=MAPS, default=list(MAPS))
    args = parser.parse_args()
    h, d = args.heads, args.size
    result: dict[str, Any] = {}
    for causal in (False, True):
        functions = {"softmax": softmax(causal)}
        functions |= {name: linear(MAPS[name], d, causal) for name in args.maps}
        found: dict[str, dict[int, float]] = {name: {} for name in functions}
        form = "causal" if causal else "whole"
        for n in args.lengths:
            random = np.random.RandomState(0)
            inputs = random.normal(size=(3, 1, n, h, d)).astype("float32")
            names = [m for m in functions if m != "softmax" or h * n * n <= args.most_scores]
            # Anew for each length, so that every graph knows its own.
            runs = {name: compiled(functions[name], [], jit_compile=False) for name in names}
            times: dict[str, list[float]] = {name: [] for name in names}
            for repeat in range(args.repeats + 1):
                for name in names:
                    begun = time.perf_counter()
                    np.asarray(runs[name](*inputs))
                    if repeat:  # the first call compiles
                        times[name].append(time.perf_counter() - begun)
            for name in names:
                found[name][n] = float(np.median(times[name])) * 1e3
            cells = [f"{name} {found[name][n]:.2f}" for name in names]
            print(form, n, "ms:", ", ".join(cells), flush=True)
        result[form] = {name: summary(name, found, d, causal) for name in found}
        for name, what in result[form].items():
            print(form, name, what, flush=True)
    worst = [what["worst_beyond_twice"] for name, what in result["causal"].items() if name in MAPS]
    result["worst"] = {"causal": max((w for w in worst if w is not None), default=None)}
    result["heads"] = h
    if args.store:
        args.store.write_text(json.dumps(result, indent=1) + "\n", "utf-8", newline="\n")
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
